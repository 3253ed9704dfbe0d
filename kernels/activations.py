"""Activation functions: the value ``a = f(z)`` and, beside it, the derivative ``f'(z)``.

Each derivative is a function of `a`, so that the forward sweep may write `a` over `z` and keep
nothing else. Both are written for one vector register; `slope` is leaky_relu's below 0.
"""

from numba.extending import register_jitable

from .compiler import OPTIONS, inlined, njit
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
    """Jitted loops over whole arrays: ``a = value(z)``, and ``g *= derivative(a)``."""
    value, derivative = register_jitable(**OPTIONS)(value), register_jitable(**OPTIONS)(derivative)

    @njit
    def apply(z, slope, a):
        whole = a.size - a.size % lanes(a)
        for i in range(0, whole, lanes(a)):
            store(a, i, value(load(z, i), slope))
        rest = a.size - whole
        store_masked(a, whole, value(load_masked(z, whole, rest), slope), rest)

    @njit
    def times(a, slope, g):
        whole = a.size - a.size % lanes(a)
        for i in range(0, whole, lanes(a)):
            store(g, i, load(g, i) * derivative(load(a, i), slope))
        rest = a.size - whole
        factor = derivative(load_masked(a, whole, rest), slope)
        store_masked(g, whole, load_masked(g, whole, rest) * factor, rest)

    return apply, times


_copy, _ = _activation(lambda z, slope: z, lambda a, slope: a)
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
def activate(code, slope, z, a):
    """``a = f(z)``, both (B, n); they may be one array."""
    if code == SIGMOID:
        _sigmoid(flat(z), slope, flat(a))
    elif code == TANH:
        _tanh(flat(z), slope, flat(a))
    elif code == RELU:
        _relu(flat(z), slope, flat(a))
    elif code == LEAKY_RELU:
        _leaky_relu(flat(z), slope, flat(a))
    elif code == SOFTMAX:
        for b in range(a.shape[0]):
            _softmax(row(z, b), row(a, b))
    else:
        _copy(flat(z), slope, flat(a))


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


@inlined
def _softmax(z, a):
    """``exp(z) / sum(exp(z))`` of a row; its maximum goes first, against overflow.

    The ragged last vector stays in a register: memory just written under a mask is slow to read.
    """
    last = last_vector(z)
    rest = z.size - last
    top = largest(z)
    x_last = exp(load_masked(z, last, rest) - top)
    total = select(first_lanes(rest, z), x_last, broadcast(0, z))
    for j in range(0, last, lanes(z)):
        x = exp(load(z, j) - top)
        store(a, j, x)
        total = total + x
    inverse = a.dtype.type(1) / reduce_add(total)
    for j in range(0, last, lanes(z)):
        store(a, j, load(a, j) * inverse)
    store_masked(a, last, x_last * inverse, rest)


@inlined
def last_vector(z):
    """Where the last vector of `z` begins, which may be a full one."""
    return (z.size - 1) // lanes(z) * lanes(z)


@inlined
def largest(z):
    """Maximum of a vector that has no NaN; some element if it has one."""
    last = last_vector(z)
    top = broadcast(z[last], z)
    top = select(first_lanes(z.size - last, z), load_masked(z, last, z.size - last), top)
    for j in range(0, last, lanes(z)):
        top = maximum(top, load(z, j))
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
