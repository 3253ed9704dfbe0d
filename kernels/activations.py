"""Activation functions: the value ``a = f(z)`` and, beside it, the derivative ``f'(z)``.

Each derivative is a function of `a`, so that the forward sweep may write `a` over `z` and keep
nothing else. Both are written for one vector register; `slope` is leaky_relu's below 0.
"""

from numba.extending import register_jitable

from .compiler import OPTIONS, njit
from .elementary import exp, sigmoid, tanh
from .vectors import (
    broadcast,
    first_lanes,
    fma,
    lanes,
    load,
    load_masked,
    maximum,
    reduce_add,
    reduce_max,
    select,
    store,
    store_masked,
)
from .views import flat, row

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
    if code == SIGMOID:
        _sigmoid(flat(a), slope)
    elif code == TANH:
        _tanh(flat(a), slope)
    elif code == RELU:
        _relu(flat(a), slope)
    elif code == LEAKY_RELU:
        _leaky_relu(flat(a), slope)
    elif code == SOFTMAX:
        _softmax(a)


@njit
def times_derivative(code, slope, a, g):
    """Multiply `g` (B, n), in place, by f'(z), given ``a = f(z)`` (B, n)."""
    if code == SIGMOID:
        _times_sigmoid(flat(a), slope, flat(g))
    elif code == TANH:
        _times_tanh(flat(a), slope, flat(g))
    elif code == RELU:
        _times_relu(flat(a), slope, flat(g))
    elif code == LEAKY_RELU:
        _times_leaky_relu(flat(a), slope, flat(g))
    elif code == SOFTMAX:
        _times_softmax_jacobian(a, g)


@njit
def _softmax(a):
    """``exp(z) / sum(exp(z))`` of each row; the row's maximum goes first, against overflow."""
    for b in range(a.shape[0]):
        z = row(a, b)
        top, total = largest(z), broadcast(0, z)
        for j in range(0, z.size, lanes(z)):
            count = min(lanes(z), z.size - j)
            x = exp(load_masked(z, j, count) - top)
            total = total + select(first_lanes(count, z), x, broadcast(0, z))
            store_masked(z, j, x, count)
        inverse = a.dtype.type(1) / reduce_add(total)
        for j in range(0, z.size, lanes(z)):
            count = min(lanes(z), z.size - j)
            store_masked(z, j, load_masked(z, j, count) * inverse, count)


@njit
def largest(z):
    """Maximum of a vector that has no NaN; some element if it has one."""
    top = broadcast(z[0], z)
    for j in range(0, z.size, lanes(z)):
        count = min(lanes(z), z.size - j)
        top = maximum(top, select(first_lanes(count, z), load_masked(z, j, count), top))
    return reduce_max(top)


@njit
def _times_softmax_jacobian(a, g):
    """Each row of `g` times ``diag(a) - a a^T``: softmax's outputs depend on all z of a row."""
    for b in range(a.shape[0]):
        row_a, row_g = row(a, b), row(g, b)
        mean = a.dtype.type(0)
        for j in range(row_a.size):
            mean += row_a[j] * row_g[j]
        for j in range(row_a.size):
            row_g[j] = row_a[j] * (row_g[j] - mean)
