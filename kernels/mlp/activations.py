"""Activation functions: a record each, with value, derivative and curvature side by side.

A record is a class with four functions of a vector register and the layer's parameter p:

    value(z, p)        a = f(z)
    derivative(x, p)   f'(z), given x = a, so that the forward sweep may write a over z and keep
                       nothing else; `of_z` says that it needs x = z
    curvature(x, p)    f''(z) / f'(z), given x = a, and 0 where f is straight; f''(z) itself `of_z`
    third(x, p)        f'''(z) / f'(z), likewise, for gradients of second derivatives by inputs

The kernels below are made of them. softmax and gaussian are functions of a whole row of z: their
records hold kernels. To add one, write its record here and the one of the same name in
`deltajit.reference`: all lists, checks and tests follow.
"""

import math
from typing import Any, NamedTuple

from ..abi import Double, Matrix
from ..compiler import Kernel, inlined, kernel, prototype
from ..simd import elementary
from ..simd.vectors import (
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
from ..simd.views import flat, get, look_ahead, put, row, vector, vectors
from .by_columns import (
    MOST_COLUMNS,
    columns_back,
    columns_of,
    largest_column,
    rows_by_columns,
    sum_of_columns,
)


class Activation(NamedTuple):
    """What there is to know of an activation function.

    name : str
    activate, tangent, curve, bend : Kernel, or None where there is nothing to do, or no such thing
        Of `activate`, `tangent`, `curve` and `bend` below.
    of_z : bool
        Whether f' is computed from z, which hidden layers then keep beside a.
    of_rows : bool
        Whether f takes a whole layer's z: for outputs only.
    init : str
        The initializer that "auto" is in front of it.
    """

    name: str
    activate: Kernel[..., Any] | None
    tangent: Kernel[..., Any] | None
    curve: Kernel[..., Any] | None
    bend: Kernel[..., Any] | None
    of_z: bool = False
    of_rows: bool = False
    init: str = "glorot"


#: Records of activations by name, custom ones too: what `activation` and `output` may be.
ACTIVATIONS: dict[str, Activation] = {}


# ---------------------------------------------------------------- kernels of any of them


@prototype
def activate(z: Matrix, a: Matrix, parameter: Double):
    """Compute ``a = f(z)``, both (B, n); they may be one array."""


@prototype
def tangent(x: Matrix, Rz: Matrix, Ra: Matrix, parameter: Double):
    """Compute ``Ra = f'(z) * Rz``, all (B, n): how activations move when z does. Ra may be Rz.

    x is f(z), or z where `of_z`.
    """


@prototype
def curve(x: Matrix, delta: Matrix, Rz: Matrix, g: Matrix, parameter: Double):
    """Compute ``g = g * f'(z) + u * f''(z) * Rz``, all (B, n): BP2's derivative along v.

    ``delta = u * f'(z)``; what replaces g is then the derivative of it, where g was that of u, and
    Rz is that of z. x is f(z); where `of_z`, f' may be 0, so x is z and `delta` is u.
    """


@prototype
def bend(x: Matrix, z1: Matrix, g1: Matrix, g2: Matrix, g: Matrix, parameter: Double):
    """Go back through ``a1 = f' z1`` and ``a2 = f' z2 + f'' z1**2``, all (B, n), by z and z1.

    g1 and g2 are the adjoints of a1 and a2. That of z1, ``g1 f' + 2 g2 f'' z1``, replaces g1; to
    that of z, in g, ``g1 f'' z1 + g2 f''' z1**2`` is added. x is f(z), or z where `of_z`.
    """


def make_activate(name, value, is_kept):
    """Make `activate` of a function of one unit."""

    @kernel(name=f"activate.{name}", is_kept=is_kept)
    def activate_units(z: Matrix, a: Matrix, parameter: Double):
        x, y = flat(z), vector(a, 0, z.size)
        p = broadcast(parameter, x)
        for i in range(0, x.size, lanes(x)):
            put(y, i, value(get(x, i), p))

    return activate_units


def make_tangent(name, derivative, is_kept):
    """Make `tangent` of a function of one unit."""

    @kernel(name=f"tangent.{name}", is_kept=is_kept)
    def tangent_of_units(x: Matrix, Rz: Matrix, Ra: Matrix, parameter: Double):
        at, y, out = flat(x), vector(Rz, 0, x.size), vector(Ra, 0, x.size)
        p = broadcast(parameter, x)
        for i in range(0, at.size, lanes(at)):
            look_ahead(at, i)
            put(out, i, get(y, i) * derivative(get(at, i), p))

    return tangent_of_units


def make_curve(name, derivative, curvature, is_kept):
    """Make `curve` of a function of one unit."""

    @kernel(name=f"curve.{name}", is_kept=is_kept)
    def curve_of_units(x: Matrix, delta: Matrix, Rz: Matrix, g: Matrix, parameter: Double):
        at, d, y, out = flat(x), flat(delta), flat(Rz), flat(g)
        p = broadcast(parameter, x)
        for i in range(0, at.size, lanes(at)):
            look_ahead(at, i)
            look_ahead(d, i)
            look_ahead(y, i)
            v = get(at, i)
            turned = get(d, i) * curvature(v, p) * get(y, i)
            put(out, i, fma(get(out, i), derivative(v, p), turned))

    return curve_of_units


def make_bend(name, derivative, curvature, third, of_z):
    """Make `bend` of a function of one unit."""

    @kernel(name=f"bend.{name}")
    def bend_of_units(
        x: Matrix, z1: Matrix, g1: Matrix, g2: Matrix, g: Matrix, parameter: Double
    ):  # fmt: skip
        at, y, by_first, by_second, out = flat(x), flat(z1), flat(g1), flat(g2), flat(g)
        p = broadcast(parameter, x)
        for i in range(0, at.size, lanes(at)):
            v, z, u1, u2 = get(at, i), get(y, i), get(by_first, i), get(by_second, i)
            slope = derivative(v, p)
            scale = broadcast(1, v) if of_z else slope
            turned, twisted = scale * curvature(v, p) * z, scale * third(v, p) * z * z
            put(out, i, get(out, i) + u1 * turned + u2 * twisted)
            put(by_first, i, u1 * slope + broadcast(2, v) * u2 * turned)

    return bend_of_units


def of_units(name, value, derivative, curvature, third=None, is_kept=True, of_z=False, **facts):
    """Make the record of a function of one unit, whose kernels are kept on disk or not."""
    made = (
        make_activate(name, value, is_kept),
        make_tangent(name, derivative, is_kept),
        make_curve(name, derivative, curvature, is_kept),
        third and make_bend(name, derivative, curvature, third, of_z),
    )
    facts["of_z"] = of_z
    return Activation(name, *made, **facts)


ORDERS = "value", "derivative", "curvature", "third"


def activation(**facts):
    """Register the record that a class is."""

    def register(record):
        name = record.__name__
        functions = [inlined(vars(record)[f]) for f in ORDERS]
        ACTIVATIONS[name] = of_units(name, *functions, **facts)
        return record

    return register


# ---------------------------------------------------------------- the records


def straight(x, p):
    """Return 0: f'' of a piecewise linear f, or f'''."""
    return broadcast(0, x)


ACTIVATIONS["identity"] = Activation("identity", None, None, None, None)


@activation()
class sigmoid:
    """``1 / (1 + exp(-z))``, with ``f' = a (1 - a)`` and ``f'' = f' (1 - 2 a)``."""

    def value(z, p):
        return elementary.sigmoid(z)

    def derivative(a, p):
        return fma(-a, a, a)

    def curvature(a, p):
        return fma(broadcast(-2, a), a, broadcast(1, a))

    def third(a, p):
        return fma(broadcast(6, a) * a, a - broadcast(1, a), broadcast(1, a))


@activation()
class tanh:
    """Hyperbolic tangent, with ``f' = 1 - a**2`` and ``f'' = -2 a f'``."""

    def value(z, p):
        return elementary.tanh(z)

    def derivative(a, p):
        return fma(-a, a, broadcast(1, a))

    def curvature(a, p):
        return broadcast(-2, a) * a

    def third(a, p):
        return fma(broadcast(6, a) * a, a, broadcast(-2, a))


@activation(init="he")
class relu:
    """``max(0, z)``, whose derivative at 0 is 0 (Nair & Hinton 2010)."""

    def value(z, p):
        return maximum(broadcast(0, z), z)

    def derivative(a, p):
        return select(a <= broadcast(0, a), broadcast(0, a), broadcast(1, a))

    curvature = third = straight


@activation(init="he")
class leaky_relu:
    """z, and ``p z`` below 0 (Maas et al. 2013)."""

    def value(z, p):
        return select(z <= broadcast(0, z), p * z, z)

    def derivative(a, p):
        return select(a <= broadcast(0, a), p, broadcast(1, a))

    curvature = third = straight


@activation(init="he")
class elu:
    """z, and ``exp(z) - 1`` below 0 (Clevert et al. 2016)."""

    def value(z, p):
        return select(z <= broadcast(0, z), elementary.expm1(z), z)

    def derivative(a, p):
        one = broadcast(1, a)
        return select(a <= broadcast(0, a), a + one, one)

    def curvature(a, p):
        return select(a <= broadcast(0, a), broadcast(1, a), broadcast(0, a))

    third = curvature


# Klambauer et al. (2017), equation 14: the factor, and the factor times alpha.
SELU_SCALE, SELU_BELOW = 1.0507009873554805, 1.7580993408473766


@activation(init="lecun")
class selu:
    """elu scaled so that layers normalize themselves (Klambauer et al. 2017)."""

    def value(z, p):
        below = broadcast(SELU_BELOW, z) * elementary.expm1(z)
        return select(z <= broadcast(0, z), below, broadcast(SELU_SCALE, z) * z)

    def derivative(a, p):
        below = a + broadcast(SELU_BELOW, a)
        return select(a <= broadcast(0, a), below, broadcast(SELU_SCALE, a))

    def curvature(a, p):
        return select(a <= broadcast(0, a), broadcast(1, a), broadcast(0, a))

    third = curvature


@activation()
class softplus:
    """``log(1 + exp(z))``, with ``f' = sigmoid(z) = 1 - exp(-a)`` (Dugas et al. 2001)."""

    def value(z, p):
        tail = elementary.log1p(elementary.exp(-absolute(z)))
        return tail + maximum(broadcast(0, z), z)

    def derivative(a, p):
        return -elementary.expm1(-a)

    def curvature(a, p):
        return elementary.exp(-a)

    def third(a, p):
        rest = elementary.exp(-a)
        return rest * fma(broadcast(2, a), rest, broadcast(-1, a))


@activation()
class softsign:
    """``z / (1 + |z|)``, with ``f' = (1 - |a|)**2`` (Turian et al. 2009)."""

    def value(z, p):
        return z / (broadcast(1, z) + absolute(z))

    def derivative(a, p):
        left = broadcast(1, a) - absolute(a)
        return left * left

    def curvature(a, p):
        return copysign(broadcast(2, a) * (broadcast(1, a) - absolute(a)), -a)

    def third(a, p):
        left = broadcast(1, a) - absolute(a)
        return broadcast(6, a) * left * left


@activation()
class hard_tanh:
    """z, cut at -1 and 1 (Collobert 2004)."""

    def value(z, p):
        one = broadcast(1, z)
        return maximum(-one, minimum(one, z))

    def derivative(a, p):
        one = broadcast(1, a)
        return select(absolute(a) < one, one, broadcast(0, a))

    curvature = third = straight


@activation()
class step:
    """1 above 0, else 0: the perceptron's threshold, whose derivative is 0; NaN stays NaN."""

    def value(z, p):
        zero = broadcast(0, z)
        return select(z <= zero, zero, select(z > zero, broadcast(1, z), z))

    derivative = curvature = third = straight


@activation()
class exp:
    """``exp(z)``, its own derivative."""

    def value(z, p):
        return elementary.exp(z)

    def derivative(a, p):
        return a

    def curvature(a, p):
        return broadcast(1, a)

    third = curvature


ROOT_HALF, DENSITY_AT_0 = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)


@inlined
def normal_cdf(z):
    """Return the standard normal distribution's function."""
    half = broadcast(0.5, z)
    return fma(half, elementary.erf(z * broadcast(ROOT_HALF, z)), half)


@inlined
def normal_density(z):
    """Return the density of the standard normal distribution."""
    return broadcast(DENSITY_AT_0, z) * elementary.exp(broadcast(-0.5, z) * z * z)


@activation(of_z=True, init="he")
class gelu:
    """z times the normal distribution's function of it (Hendrycks & Gimpel 2016)."""

    def value(z, p):
        return z * normal_cdf(z)

    def derivative(z, p):
        return fma(z, normal_density(z), normal_cdf(z))

    def curvature(z, p):
        return normal_density(z) * fma(-z, z, broadcast(2, z))

    def third(z, p):
        return normal_density(z) * z * fma(z, z, broadcast(-4, z))


@activation(of_z=True, init="he")
class silu:
    """``z sigmoid(z)`` (Elfwing et al. 2018)."""

    def value(z, p):
        return z * elementary.sigmoid(z)

    def derivative(z, p):
        s, one = elementary.sigmoid(z), broadcast(1, z)
        return s * fma(z, one - s, one)

    def curvature(z, p):
        s, one = elementary.sigmoid(z), broadcast(1, z)
        return s * (one - s) * fma(z, one - s - s, broadcast(2, z))

    def third(z, p):
        s, one = elementary.sigmoid(z), broadcast(1, z)
        first, centred = s * (one - s), one - s - s
        return first * fma(centred, fma(z, centred, broadcast(3, z)), broadcast(-2, z) * z * first)


@activation(of_z=True)
class sin:
    """Sine (Sitzmann et al. 2020)."""

    def value(z, p):
        return elementary.sin(z)

    def derivative(z, p):
        return elementary.cos(z)

    def curvature(z, p):
        return -elementary.sin(z)

    def third(z, p):
        return -elementary.cos(z)


@inlined
def tanh_softplus(z):
    """Compute ``t = tanh(log(1 + exp(z)))`` and ``1 - t**2``, without overflow or cancellation."""
    w, one, two = elementary.exp(-absolute(z)), broadcast(1, z), broadcast(2, z)
    is_above = z > broadcast(0, z)
    n = select(is_above, fma(two, w, one), w * (w + two))  # t = n / (n + d)
    d = select(is_above, two * w * w, two)
    t, rest = n / (n + d), d / (n + d)
    return t, rest * (one + t)


@activation(of_z=True, init="he")
class mish:
    """``z tanh(softplus(z))`` (Misra 2019)."""

    def value(z, p):
        t, _ = tanh_softplus(z)
        return z * t

    def derivative(z, p):
        t, left = tanh_softplus(z)
        return fma(z * left, elementary.sigmoid(z), t)

    def curvature(z, p):
        t, left = tanh_softplus(z)
        s, one, two = elementary.sigmoid(z), broadcast(1, z), broadcast(2, z)
        return left * s * fma(z, fma(-two * t, s, one - s), two)

    def third(z, p):
        t, left = tanh_softplus(z)
        s, one, two = elementary.sigmoid(z), broadcast(1, z), broadcast(2, z)
        slope, rest = left * s, s * (one - s)
        turn = fma(-two * t, s, one - s)
        turned = fma(turn, turn, -rest - two * fma(slope, s, t * rest))
        return slope * fma(z, turned, broadcast(3, z) * turn)


@activation(of_z=True, init="he")
class hardswish:
    """z times a line from 0 at -3 to 1 at 3 (Howard et al. 2019)."""

    def value(z, p):
        three = broadcast(3, z)
        between = z * (z + three) * broadcast(1 / 6, z)
        return select(z <= -three, broadcast(0, z), select(z >= three, z, between))

    def derivative(z, p):
        three, half = broadcast(3, z), broadcast(0.5, z)
        between = fma(z, broadcast(1 / 3, z), half)
        return select(z <= -three, broadcast(0, z), select(z >= three, half + half, between))

    def curvature(z, p):
        return select(absolute(z) < broadcast(3, z), broadcast(1 / 3, z), broadcast(0, z))

    third = straight


# ---------------------------------------------------------------- functions of a row


@kernel(name="activate.softmax")
def softmax(z: Matrix, a: Matrix, parameter: Double):
    """Compute ``exp(z) / sum(exp(z))`` of each row, less its maximum so that nothing overflows."""
    whole = rows_by_columns(z, 2)
    for first in range(0, whole, lanes(z)):
        _softmax_columns(z, a, first)
    for b in range(whole, z.shape[0]):
        _softmax_row(row(z, b), row(a, b))


@inlined
def _softmax_columns(z, a, first):
    """Compute softmax of as many rows as there are lanes: the same bits as row by row."""
    x, n, width = vectors(MOST_COLUMNS, z), z.shape[1], lanes(z)
    columns_of(z, first, x)
    top = largest_column(x, n)
    for j in range(n):
        store(x, j * width, elementary.exp(load(x, j * width) - top))
    inverse = broadcast(1, z) / sum_of_columns(x, n)
    for j in range(n):
        store(x, j * width, load(x, j * width) * inverse)
    columns_back(x, a, first)


@inlined
def _softmax_row(z, a):
    """Compute softmax of a row; the ragged last vector stays in a register."""
    last = last_vector(z)
    rest = z.size - last
    top = largest(z)
    x_last = elementary.exp(load_masked(z, last, rest) - top)
    total = select(first_lanes(rest, z), x_last, broadcast(0, z))
    for j in range(0, last, lanes(z)):
        x = elementary.exp(load(z, j) - top)
        store(a, j, x)
        total = total + x
    inverse = a.dtype.type(1) / reduce_add(total)
    for j in range(0, last, lanes(z)):
        store(a, j, load(a, j) * inverse)
    store_masked(a, last, x_last * inverse, rest)


@inlined
def last_vector(z):
    """Return where the last vector of `z` begins, which may be a full one."""
    return (z.size - 1) // lanes(z) * lanes(z)


@inlined
def largest(z):
    """Return the maximum of a vector that has no NaN; some element if it has one."""
    last = last_vector(z)
    top = broadcast(z[last], z)
    top = select(first_lanes(z.size - last, z), load_masked(z, last, z.size - last), top)
    for j in range(0, last, lanes(z)):
        top = maximum(top, load(z, j))
    return reduce_max(top)


@kernel(name="tangent.softmax")
def softmax_tangent(x: Matrix, Rz: Matrix, Ra: Matrix, parameter: Double):
    """Compute ``Ra = (diag(a) - a a^T) Rz`` of each row: its outputs depend on all z of a row."""
    for b in range(x.shape[0]):
        mean = weighted_sum(x, Rz, b)
        for j in range(x.shape[1]):
            Ra[b, j] = x[b, j] * (Rz[b, j] - mean)


@kernel(name="curve.softmax")
def softmax_curve(x: Matrix, delta: Matrix, Rz: Matrix, g: Matrix, parameter: Double):
    """Differentiate ``delta = a (u - sum(a u))`` along Rz, given the derivative of u in g.

    ``Ra = a (Rz - sum(a Rz))``, so that ``Ra (u - sum(a u)) = delta (Rz - sum(a Rz))``.
    """
    for b in range(x.shape[0]):
        mean, moved = weighted_sum(x, Rz, b), weighted_sum(x, g, b)
        for j in range(x.shape[1]):
            moved += delta[b, j] * (Rz[b, j] - mean)
        for j in range(x.shape[1]):
            turned = delta[b, j] * (Rz[b, j] - mean)
            g[b, j] = turned + x[b, j] * (g[b, j] - moved)


@inlined
def weighted_sum(a, x, b):
    """``sum(a[b] * x[b])``."""
    total = a.dtype.type(0)
    for j in range(a.shape[1]):
        total += a[b, j] * x[b, j]
    return total


@kernel(name="activate.gaussian")
def gaussian(z: Matrix, a: Matrix, parameter: Double):
    """Compute means and variances from z, half a row each: ``(z, exp(z))``."""
    m = z.shape[1] // 2
    for b in range(z.shape[0]):
        for j in range(m):
            a[b, j], a[b, m + j] = z[b, j], elementary.exp(z[b, m + j])


@kernel(name="tangent.gaussian")
def gaussian_tangent(x: Matrix, Rz: Matrix, Ra: Matrix, parameter: Double):
    """Compute ``Ra = Rz`` of the means, and ``a Rz`` of the variances."""
    m = x.shape[1] // 2
    for b in range(x.shape[0]):
        for j in range(m):
            Ra[b, j], Ra[b, m + j] = Rz[b, j], x[b, m + j] * Rz[b, m + j]


@kernel(name="curve.gaussian")
def gaussian_curve(x: Matrix, delta: Matrix, Rz: Matrix, g: Matrix, parameter: Double):
    """Differentiate ``delta = a u`` of the variances along Rz; means have no curvature."""
    m = x.shape[1] // 2
    for b in range(x.shape[0]):
        for j in range(m, 2 * m):
            g[b, j] = x[b, j] * g[b, j] + delta[b, j] * Rz[b, j]


for _name, *_kernels in (
    ("softmax", softmax, softmax_tangent, softmax_curve),
    ("gaussian", gaussian, gaussian_tangent, gaussian_curve),
):
    ACTIVATIONS[_name] = Activation(_name, *_kernels, None, of_rows=True)
