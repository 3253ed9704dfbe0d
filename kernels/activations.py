"""Activation functions: the value ``a = f(z)`` and, beside it, the derivative ``f'(z)``.

Each derivative is a function of `a`, so that the forward sweep may write `a` over `z` and keep
nothing else. Constants are typed, since Numba takes ``1 - x`` of a float32 to float64.
"""

from .compiler import njit
from .elementary import exp, sigmoid, tanh
from .views import vector

IDENTITY, SIGMOID, TANH, RELU, LEAKY_RELU, SOFTMAX = range(6)

ACTIVATIONS = {
    "identity": IDENTITY,
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "relu": RELU,
    "leaky_relu": LEAKY_RELU,
    "softmax": SOFTMAX,
}


@njit
def activate(code, slope, a):
    """Overwrite `a` (B, n), which holds z, by f(z); `slope` is leaky_relu's below 0."""
    zero = a.dtype.type(0)
    flat = vector(a, 0, a.size)
    if code == SIGMOID:
        for i in range(flat.size):
            flat[i] = sigmoid(flat[i])
    elif code == TANH:
        for i in range(flat.size):
            flat[i] = tanh(flat[i])
    elif code == RELU:
        for i in range(flat.size):  # `<=` and not `>`: NaN must come through
            flat[i] = zero if flat[i] <= zero else flat[i]
    elif code == LEAKY_RELU:
        for i in range(flat.size):
            flat[i] = slope * flat[i] if flat[i] <= zero else flat[i]
    elif code == SOFTMAX:
        _softmax(a)


@njit
def times_derivative(code, slope, a, g):
    """Multiply `g` (B, n), in place, by f'(z), given ``a = f(z)`` (B, n)."""
    zero, one = a.dtype.type(0), a.dtype.type(1)
    flat_a, flat_g = vector(a, 0, a.size), vector(g, 0, g.size)
    if code == SIGMOID:
        for i in range(flat_g.size):
            flat_g[i] *= flat_a[i] * (one - flat_a[i])
    elif code == TANH:
        for i in range(flat_g.size):
            flat_g[i] *= one - flat_a[i] * flat_a[i]
    elif code == RELU:
        for i in range(flat_g.size):
            flat_g[i] = zero if flat_a[i] <= zero else flat_g[i]
    elif code == LEAKY_RELU:
        for i in range(flat_g.size):
            flat_g[i] = slope * flat_g[i] if flat_a[i] <= zero else flat_g[i]
    elif code == SOFTMAX:
        _times_softmax_jacobian(a, g)


@njit
def _softmax(a):
    """``exp(z) / sum(exp(z))`` of each row; the row's maximum goes first, against overflow."""
    for b in range(a.shape[0]):
        row = vector(a, b * a.shape[1], a.shape[1])
        top = row.max()
        total = a.dtype.type(0)
        for j in range(row.size):
            row[j] = exp(row[j] - top)
            total += row[j]
        for j in range(row.size):
            row[j] /= total


@njit
def _times_softmax_jacobian(a, g):
    """Each row of `g` times ``diag(a) - a a^T``: softmax's outputs depend on all z of a row."""
    for b in range(a.shape[0]):
        row_a = vector(a, b * a.shape[1], a.shape[1])
        row_g = vector(g, b * a.shape[1], a.shape[1])
        mean = a.dtype.type(0)
        for j in range(row_a.size):
            mean += row_a[j] * row_g[j]
        for j in range(row_a.size):
            row_g[j] = row_a[j] * (row_g[j] - mean)
