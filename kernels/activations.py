"""Activation functions: the value ``a = f(z)`` and, beside it, the derivative ``f'(z)``.

Each derivative is a function of `a`, so that the forward sweep may write `a` over `z` and keep
nothing else. Both are written for one vector register (LLVM takes the choice among them out of the
loops over arrays); `slope` is leaky_relu's below 0.
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


@register_jitable(**OPTIONS)
def value(code, slope, z):
    """f(z) of a vector register, or z where f is no function of one unit (softmax)."""
    if code == SIGMOID:
        return sigmoid(z)
    if code == TANH:
        return tanh(z)
    if code == RELU:
        return maximum(broadcast(0, z), z)
    if code == LEAKY_RELU:
        return select(z <= broadcast(0, z), slope * z, z)
    return z


@register_jitable(**OPTIONS)
def derivative(code, slope, a):
    """f'(z) of a vector register, given ``a = f(z)``."""
    zero, one = broadcast(0, a), broadcast(1, a)
    if code == SIGMOID:
        return fma(-a, a, a)  # a (1 - a)
    if code == TANH:
        return fma(-a, a, one)  # 1 - a**2
    if code == RELU:
        return select(a <= zero, zero, one)
    if code == LEAKY_RELU:
        return select(a <= zero, broadcast(slope, a), one)
    return one


@register_jitable(**OPTIONS)
def curvature(code, a):
    """f''(z) / f'(z) of a vector register, given ``a = f(z)``; 0 where f is straight."""
    if code == SIGMOID:
        return fma(broadcast(-2, a), a, broadcast(1, a))
    if code == TANH:
        return broadcast(-2, a) * a
    return broadcast(0, a)


@njit
def activate(code, slope, z, a):
    """``a = f(z)``, both (B, n); they may be one array."""
    if code == SOFTMAX:
        for b in range(a.shape[0]):
            _softmax(row(z, b), row(a, b))
    else:
        x, y = flat(z), flat(a)
        last = last_vector(x)
        for i in range(0, last, lanes(x)):
            store(y, i, value(code, slope, load(x, i)))
        rest = x.size - last
        store_masked(y, last, value(code, slope, load_masked(x, last, rest)), rest)


@inlined
def times_derivative(code, slope, a, g):
    """Multiply `g` (B, n), in place, by f'(z), given ``a = f(z)`` (B, n)."""
    tangent_derivative(code, slope, a, g, g)


@njit
def tangent_derivative(code, slope, a, Rz, Ra):
    """``Ra = f'(z) * Rz``, all (B, n): how activations move when z does. Ra may be Rz."""
    if code == SOFTMAX:
        for b in range(a.shape[0]):
            _softmax_jacobian(row(a, b), row(Rz, b), row(Ra, b))
    else:
        x, y, out = flat(a), flat(Rz), flat(Ra)
        last = last_vector(x)
        for i in range(0, last, lanes(x)):
            store(out, i, load(y, i) * derivative(code, slope, load(x, i)))
        rest = x.size - last
        factor = derivative(code, slope, load_masked(x, last, rest))
        store_masked(out, last, load_masked(y, last, rest) * factor, rest)


@njit
def times_tangent_derivative(code, slope, a, delta, Rz, g):
    """``g = g * f'(z) + delta * (f''(z) / f'(z)) * Rz``, all (B, n): BP2's derivative along v.

    ``delta = u * f'(z)`` for some u; what replaces g is then the derivative of it, where g was the
    derivative of u, and Rz is that of z. Not for softmax.
    """
    a, delta, Rz, g = flat(a), flat(delta), flat(Rz), flat(g)
    last = last_vector(g)
    for i in range(0, last, lanes(g)):
        x = load(a, i)
        turned = load(delta, i) * curvature(code, x) * load(Rz, i)
        store(g, i, fma(load(g, i), derivative(code, slope, x), turned))
    rest = g.size - last
    x = load_masked(a, last, rest)
    turned = load_masked(delta, last, rest) * curvature(code, x) * load_masked(Rz, last, rest)
    total = fma(load_masked(g, last, rest), derivative(code, slope, x), turned)
    store_masked(g, last, total, rest)


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


@inlined
def _softmax_jacobian(a, Rz, Ra):
    """``Ra = (diag(a) - a a^T) Rz`` of a row: softmax's outputs depend on all z of a row."""
    mean = a.dtype.type(0)
    for j in range(a.size):
        mean += a[j] * Rz[j]
    for j in range(a.size):
        Ra[j] = a[j] * (Rz[j] - mean)
