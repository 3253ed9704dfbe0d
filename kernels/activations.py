"""Activation functions: the value ``a = f(z)`` and, beside it, the derivative ``f'(z)``.

A derivative is a function of `a` where it can be, so that the forward sweep may write `a` over `z`
and keep nothing else; gelu, silu and sin, which are not monotone, need `z` (`of_z`). All are
written for one vector register. Those that most networks have are apart: they are so few that LLVM
takes the choice among them out of the loops over arrays. `slope` is leaky_relu's below 0.
"""

import math

from numba.extending import register_jitable

from .compiler import OPTIONS, inlined, njit
from .elementary import cos, erf, exp, expm1, log1p, sigmoid, sin, tanh
from .own import FIRST, own_derivative, own_second_derivative, own_value
from .vectors import (
    absolute,
    broadcast,
    copysign,
    first_lanes,
    fma,
    lanes,
    load,
    load_masked,
    maximum,
    minimum,
    reduce_add,
    reduce_max,
    select,
    store,
    store_masked,
)
from .views import flat, row

(
    IDENTITY, SIGMOID, TANH, RELU, LEAKY_RELU, SOFTMAX, ELU, SELU, SOFTPLUS, SOFTSIGN, HARD_TANH,
    STEP, EXP, GAUSSIAN, GELU, SILU, SIN,
) = range(17)  # fmt: skip

ACTIVATIONS = {
    "identity": IDENTITY,
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "relu": RELU,
    "leaky_relu": LEAKY_RELU,
    "softmax": SOFTMAX,
    "elu": ELU,
    "selu": SELU,
    "softplus": SOFTPLUS,
    "softsign": SOFTSIGN,
    "hard_tanh": HARD_TANH,
    "step": STEP,
    "exp": EXP,
    "gaussian": GAUSSIAN,
    "gelu": GELU,
    "silu": SILU,
    "sin": SIN,
}

# Klambauer et al. (2017), equation 14: the factor, and the factor times alpha.
SELU_SCALE, SELU_BELOW = 1.0507009873554805, 1.7580993408473766
ROOT_HALF, DENSITY_AT_0 = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)


@register_jitable(**OPTIONS)
def of_z(code):
    """Whether f' is computed from z; else from ``a = f(z)``."""
    return code >= GELU


@register_jitable(**OPTIONS)
def of_rows(code):
    """Whether f takes a whole layer's z: softmax, and gaussian, ``(mean, exp(log variance))``."""
    return code in (SOFTMAX, GAUSSIAN)


@register_jitable(**OPTIONS)
def is_common(code):
    """Whether f is one of those that come first."""
    return code <= LEAKY_RELU


@register_jitable(**OPTIONS)
def common_value(code, slope, z):
    """f(z) of a vector register; z where f `is_common` not."""
    zero = broadcast(0, z)
    if code == SIGMOID:
        return sigmoid(z)
    if code == TANH:
        return tanh(z)
    if code == RELU:
        return maximum(zero, z)
    if code == LEAKY_RELU:
        return select(z <= zero, slope * z, z)
    return z


@njit
def other_value(code, z):
    """f(z) of a vector register, of the others that are functions of one unit."""
    zero, one = broadcast(0, z), broadcast(1, z)
    if code == ELU:
        return select(z <= zero, expm1(z), z)
    if code == SELU:
        below = broadcast(SELU_BELOW, z) * expm1(z)
        return select(z <= zero, below, broadcast(SELU_SCALE, z) * z)
    if code == SOFTPLUS:
        return log1p(exp(-absolute(z))) + maximum(zero, z)
    if code == SOFTSIGN:
        return z / (one + absolute(z))
    if code == HARD_TANH:
        return maximum(-one, minimum(one, z))
    if code == STEP:
        return select(z <= zero, zero, select(z > zero, one, z))  # NaN stays NaN
    if code == EXP:
        return exp(z)
    if code == GELU:
        return z * _normal_cdf(z)
    if code == SILU:
        return z * sigmoid(z)
    if code == SIN:
        return sin(z)
    return own_value(code, z)


@register_jitable(**OPTIONS)
def common_derivative(code, slope, x):
    """f'(z) of a vector register, given ``x = f(z)``; 1 where f `is_common` not."""
    zero, one = broadcast(0, x), broadcast(1, x)
    if code == SIGMOID:
        return fma(-x, x, x)  # a (1 - a)
    if code == TANH:
        return fma(-x, x, one)  # 1 - a**2
    if code == RELU:
        return select(x <= zero, zero, one)
    if code == LEAKY_RELU:
        return select(x <= zero, broadcast(slope, x), one)
    return one


@njit
def other_derivative(code, x):
    """f'(z) of a vector register, of the others; x is f(z), or z where `of_z`."""
    zero, one = broadcast(0, x), broadcast(1, x)
    if code == ELU:
        return select(x <= zero, x + one, one)
    if code == SELU:
        return select(x <= zero, x + broadcast(SELU_BELOW, x), broadcast(SELU_SCALE, x))
    if code == SOFTPLUS:
        return -expm1(-x)
    if code == SOFTSIGN:
        left = one - absolute(x)
        return left * left
    if code == HARD_TANH:
        return select(absolute(x) < one, one, zero)
    if code == STEP:
        return zero
    if code == EXP:
        return x
    if code == GELU:
        return fma(x, _normal_density(x), _normal_cdf(x))
    if code == SILU:
        s = sigmoid(x)
        return s * fma(x, one - s, one)
    if code == SIN:
        return cos(x)
    return own_derivative(code, x)


@register_jitable(**OPTIONS)
def curvature(code, x):
    """f''(z) / f'(z) of a vector register, given ``x = f(z)``; f''(z), given x = z, where `of_z`.

    0 where f is straight.
    """
    zero, one = broadcast(0, x), broadcast(1, x)
    if code == SIGMOID:
        return fma(broadcast(-2, x), x, one)
    if code == TANH:
        return broadcast(-2, x) * x
    if code in (ELU, SELU):
        return select(x <= zero, one, zero)
    if code == SOFTPLUS:
        return exp(-x)
    if code == SOFTSIGN:
        return copysign(broadcast(2, x) * (one - absolute(x)), -x)
    if code == EXP:
        return one
    if code == GELU:
        return _normal_density(x) * fma(-x, x, broadcast(2, x))
    if code == SILU:
        s = sigmoid(x)
        return s * (one - s) * fma(x, one - s - s, broadcast(2, x))
    if code == SIN:
        return -sin(x)
    if code >= FIRST:
        return own_second_derivative(code, x)
    return zero


@register_jitable(**OPTIONS)
def _normal_cdf(z):
    """The standard normal distribution's function."""
    half = broadcast(0.5, z)
    return fma(half, erf(z * broadcast(ROOT_HALF, z)), half)


@register_jitable(**OPTIONS)
def _normal_density(z):
    """And its density."""
    return broadcast(DENSITY_AT_0, z) * exp(broadcast(-0.5, z) * z * z)


@njit
def activate(code, slope, z, a):
    """``a = f(z)``, both (B, n); they may be one array."""
    if is_common(code):
        x, y = flat(z), flat(a)
        last = last_vector(x)
        for i in range(0, last, lanes(x)):
            store(y, i, common_value(code, slope, load(x, i)))
        rest = x.size - last
        store_masked(y, last, common_value(code, slope, load_masked(x, last, rest)), rest)
    else:
        _activate_other(code, z, a)


@njit
def _activate_other(code, z, a):
    """The same, for functions of a row, and of one unit that are not common."""
    if of_rows(code):
        for b in range(a.shape[0]):
            if code == SOFTMAX:
                _softmax(row(z, b), row(a, b))
            else:
                _gaussian(row(z, b), row(a, b))
    else:
        x, y = flat(z), flat(a)
        for i in range(0, x.size, lanes(x)):
            store_masked(y, i, other_value(code, load_masked(x, i, x.size - i)), x.size - i)


@inlined
def times_derivative(code, slope, x, g):
    """Multiply `g` (B, n), in place, by f'(z), given ``x = f(z)`` (B, n); z itself where `of_z`."""
    tangent_derivative(code, slope, x, g, g)


@njit
def tangent_derivative(code, slope, x, Rz, Ra):
    """``Ra = f'(z) * Rz``, all (B, n): how activations move when z does. Ra may be Rz.

    x is f(z), or z where `of_z`.
    """
    if is_common(code):
        x, y, out = flat(x), flat(Rz), flat(Ra)
        last = last_vector(x)
        for i in range(0, last, lanes(x)):
            store(out, i, load(y, i) * common_derivative(code, slope, load(x, i)))
        rest = x.size - last
        factor = common_derivative(code, slope, load_masked(x, last, rest))
        store_masked(out, last, load_masked(y, last, rest) * factor, rest)
    else:
        _tangent_of_other(code, x, Rz, Ra)


@njit
def _tangent_of_other(code, x, Rz, Ra):
    """The same, for functions of a row, and of one unit that are not common."""
    if of_rows(code):
        for b in range(x.shape[0]):
            if code == SOFTMAX:
                _softmax_jacobian(row(x, b), row(Rz, b), row(Ra, b))
            else:
                _gaussian_jacobian(row(x, b), row(Rz, b), row(Ra, b))
    else:
        x, y, out = flat(x), flat(Rz), flat(Ra)
        for i in range(0, x.size, lanes(x)):
            factor = other_derivative(code, load_masked(x, i, x.size - i))
            store_masked(out, i, load_masked(y, i, x.size - i) * factor, x.size - i)


@njit
def times_tangent_derivative(code, slope, x, delta, Rz, g):
    """``g = g * f'(z) + u * f''(z) * Rz``, all (B, n): BP2's derivative along v.

    ``delta = u * f'(z)``; what replaces g is then the derivative of it, where g was that of u, and
    Rz is that of z. x is f(z); where `of_z`, f' may be 0, so x is z and `delta` is u. Not for
    softmax.
    """
    x, delta, Rz, g = flat(x), flat(delta), flat(Rz), flat(g)
    for i in range(0, g.size, lanes(g)):
        here = g.size - i
        at = load_masked(x, i, here)
        turned = load_masked(delta, i, here) * curvature(code, at) * load_masked(Rz, i, here)
        first = common_derivative(code, slope, at)
        if not is_common(code):
            first = other_derivative(code, at)
        total = fma(load_masked(g, i, here), first, turned)
        store_masked(g, i, total, here)


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


@inlined
def _gaussian(z, a):
    """Means as they are, and variances from their logarithms."""
    m = z.size // 2
    for j in range(m):
        a[j], a[m + j] = z[j], exp(z[m + j])


@inlined
def _gaussian_jacobian(a, Rz, Ra):
    """``Ra = Rz`` of the means, and ``a Rz`` of the variances."""
    m = a.size // 2
    for j in range(m):
        Ra[j], Ra[m + j] = Rz[j], a[m + j] * Rz[m + j]
