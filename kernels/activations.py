"""Activation functions: the value ``a = f(z)`` and, beside it, the derivative ``f'(z)``.

Each derivative is a function of `a`, so that the forward sweep may write `a` over `z` and keep
nothing else. Both are written for one vector register; `slope` is leaky_relu's below 0.
"""

from numba.extending import register_jitable

from .compiler import OPTIONS, njit
from .elementary import exp, sigmoid, tanh
from .vectors import (
    broadcast,
    fma,
    lanes,
    load,
    load_masked,
    maximum,
    select,
    store,
    store_masked,
)
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


def _activation(value, derivative):
    """Jitted loops over whole arrays: ``a = value(a)``, and ``g *= derivative(a)``."""
    value, derivative = register_jitable(**OPTIONS)(value), register_jitable(**OPTIONS)(derivative)

    @njit
    def apply(a, slope):
        whole = a.size - a.size % lanes(a)
        for i in range(0, whole, lanes(a)):
            store(a, i, value(load(a, i), slope))
        rest = a.size - whole
        store_masked(a, whole, value(load_masked(a, whole, rest), slope), rest)

    @njit
    def times(a, slope, g):
        whole = a.size - a.size % lanes(a)
        for i in range(0, whole, lanes(a)):
            store(g, i, load(g, i) * derivative(load(a, i), slope))
        rest = a.size - whole
        factor = derivative(load_masked(a, whole, rest), slope)
        store_masked(g, whole, load_masked(g, whole, rest) * factor, rest)

    return apply, times


_sigmoid, _times_sigmoid = _activation(
    lambda z, slope: sigmoid(z),
    lambda a, slope: fma(-a, a, a),  # a (1 - a)
)
_tanh, _times_tanh = _activation(
    lambda z, slope: tanh(z),
    lambda a, slope: fma(-a, a, broadcast(1, a)),  # 1 - a**2
)
_relu, _times_relu = _activation(
    lambda z, slope: maximum(broadcast(0, z), z),
    lambda a, slope: select(a <= broadcast(0, a), broadcast(0, a), broadcast(1, a)),
)
_leaky_relu, _times_leaky_relu = _activation(
    lambda z, slope: select(z <= broadcast(0, z), slope * z, z),
    lambda a, slope: select(a <= broadcast(0, a), broadcast(slope, a), broadcast(1, a)),
)


@njit
def activate(code, slope, a):
    """Overwrite `a` (B, n), which holds z, by f(z)."""
    flat = vector(a, 0, a.size)
    if code == SIGMOID:
        _sigmoid(flat, slope)
    elif code == TANH:
        _tanh(flat, slope)
    elif code == RELU:
        _relu(flat, slope)
    elif code == LEAKY_RELU:
        _leaky_relu(flat, slope)
    elif code == SOFTMAX:
        _softmax(a)


@njit
def times_derivative(code, slope, a, g):
    """Multiply `g` (B, n), in place, by f'(z), given ``a = f(z)`` (B, n)."""
    flat_a, flat_g = vector(a, 0, a.size), vector(g, 0, g.size)
    if code == SIGMOID:
        _times_sigmoid(flat_a, slope, flat_g)
    elif code == TANH:
        _times_tanh(flat_a, slope, flat_g)
    elif code == RELU:
        _times_relu(flat_a, slope, flat_g)
    elif code == LEAKY_RELU:
        _times_leaky_relu(flat_a, slope, flat_g)
    elif code == SOFTMAX:
        _times_softmax_jacobian(a, g)


@njit
def _softmax(a):
    """``exp(z) / sum(exp(z))`` of each row; the row's maximum goes first, against overflow."""
    for b in range(a.shape[0]):
        row = vector(a, b * a.shape[1], a.shape[1])
        top = row[0]
        for j in range(1, row.size):
            top = max(top, row[j])
        for j in range(row.size):
            row[j] -= top
    _exp(vector(a, 0, a.size))
    for b in range(a.shape[0]):
        row = vector(a, b * a.shape[1], a.shape[1])
        total = a.dtype.type(0)
        for j in range(row.size):
            total += row[j]
        for j in range(row.size):
            row[j] /= total


@njit
def _exp(x):
    """``x = exp(x)`` of a whole array."""
    for i in range(0, x.size, lanes(x)):
        count = min(lanes(x), x.size - i)
        store_masked(x, i, exp(load_masked(x, i, count)), count)


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
