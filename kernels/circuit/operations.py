"""Operations of a circuit: a record each, with value, first and second derivatives side by side.

``v = op(x, y)``, or ``v = op(x)``. A record is a class with three functions of vector registers:

    value(x, y)            v
    partials(v, x, y)      (dv/dx, dv/dy)
    curvatures(v, x, y)    (d2v/dx2, d2v/dx dy, d2v/dy2)

Those of one operand are ``value(x)``, ``partial(v, x)`` and ``curvature(v, p, x)``, p the partial.
One that is `linear` has no curvature, nor has one that is `selecting`, whose
``partials(ties, v, x, y)`` is 0 by an operand that was not chosen, which passes nothing back then,
and where x = y is a tie is `ties` (2,). The kernels of a run of one operation (`runs`) are made of
them. To add one, write its record here and
the one of the same name in `deltajit.operations`.
"""

import math

import numpy as np

from ..compiler import inlined
from ..simd import elementary
from ..simd.vectors import (
    absolute as size_of,
)
from ..simd.vectors import (
    broadcast,
    copysign,
    fma,
    libm_power,
    select,
)
from ..simd.vectors import (
    maximum as larger,
)
from ..simd.vectors import (
    minimum as smaller,
)
from ..simd.vectors import (
    sqrt as root,
)
from .runs import Operation, binary, linear, selecting, unary

OPERATIONS: dict[str, Operation] = {}  # the names are NumPy's where it has the function


def operation(make, **facts):
    """Register the record that a class is, of the sort that `make` is for."""

    def register(record):
        name = record.__name__
        parts = [inlined(f) for f in vars(record).values() if callable(f)]
        OPERATIONS[name] = make(name, *parts, **facts)
        return record

    return register


@inlined
def one(x):
    """1 in every lane."""
    return broadcast(1, x)


@inlined
def zero(x):
    """0 in every lane."""
    return broadcast(0, x)


# ---------------------------------------------------------------- of two operands


@operation(linear)
class add:
    """x + y."""

    def value(x, y):
        return x + y

    def partials(v, x, y):
        return one(x), one(x)


@operation(linear)
class subtract:
    """x - y."""

    def value(x, y):
        return x - y

    def partials(v, x, y):
        return one(x), -one(x)


@operation(binary)
class multiply:
    """x * y."""

    def value(x, y):
        return x * y

    def partials(v, x, y):
        return y, x

    def curvatures(v, x, y):
        return zero(x), one(x), zero(x)


@operation(binary)
class divide:
    """x / y."""

    def value(x, y):
        return x / y

    def partials(v, x, y):
        inverse = one(x) / y
        return inverse, select(v == zero(x), -v, -v * inverse)

    def curvatures(v, x, y):
        inverse = one(x) / y
        return zero(x), -inverse * inverse, broadcast(2, x) * (v / y) * inverse


@inlined
def power_by_x(x, y):
    """d(x**y)/dx."""
    return select(y == zero(x), zero(x), y * libm_power(x, y - one(x)))


@inlined
def power_by_x_twice(x, y):
    """d2(x**y)/dx2."""
    factor = y * (y - one(x))
    turned = factor * libm_power(x, y - one(x) - one(x))
    return select(factor == zero(x), zero(x), turned)


@inlined
def times_log(p, logs, x, y):
    """p times `logs`, where p is a power of x, and the other has log(x) in it.

    A power of 0 beats an infinite logarithm. Of ``x**y`` at x = 0, y >= 0 it is 0.
    """
    infinite = size_of(logs) == broadcast(math.inf, x)
    beaten = select(p == zero(x), select(infinite, zero(x), logs), logs)
    return select(x == zero(x), select(y >= zero(x), zero(x), p * beaten), p * beaten)


@operation(binary)
class power:
    """x**y."""

    def value(x, y):
        return libm_power(x, y)

    def partials(v, x, y):
        return power_by_x(x, y), times_log(v, elementary.log(x), x, y)

    def curvatures(v, x, y):
        logarithm, below = elementary.log(x), libm_power(x, y - one(x))
        mixed = times_log(below, fma(y, logarithm, one(x)), x, y)
        return power_by_x_twice(x, y), mixed, times_log(v, logarithm * logarithm, x, y)


@operation(binary)
class constant_power:
    """x**y of a y that is a constant."""

    def value(x, y):
        return libm_power(x, y)

    def partials(v, x, y):
        return power_by_x(x, y), zero(x)

    def curvatures(v, x, y):
        return power_by_x_twice(x, y), zero(x), zero(x)


LN2 = math.log(2)


@operation(binary)
class logaddexp:
    """log(exp(x) + exp(y))."""

    def value(x, y):
        apart = larger(x, y) + elementary.log1p(elementary.exp(-size_of(x - y)))
        return select(x == y, x + broadcast(LN2, x), apart)  # inf - inf is no difference

    def partials(v, x, y):
        half, by_x, by_y = broadcast(0.5, x), elementary.sigmoid(x - y), elementary.sigmoid(y - x)
        return select(x == y, half, by_x), select(x == y, half, by_y)

    def curvatures(v, x, y):
        less = elementary.sigmoid(-size_of(x - y))
        curvature = select(x == y, broadcast(0.25, x), fma(-less, less, less))
        return curvature, -curvature, curvature


# ---------------------------------------------------------------- that select


@inlined
def share(v, x, y, tie):
    """dv/dx of the one of x and y that is v; NaN if v is."""
    chosen = select(x == v, one(x), zero(x))
    return select(x == y, broadcast(tie, x), select(v == v, chosen, v))


@operation(selecting)
class maximum:
    """The larger of x and y."""

    def value(x, y):
        return larger(x, y)

    def partials(ties, v, x, y):
        return share(v, x, y, ties[0]), share(v, y, x, ties[1])


@operation(selecting)
class minimum:
    """The smaller of x and y."""

    def value(x, y):
        return smaller(x, y)

    def partials(ties, v, x, y):
        return share(v, x, y, ties[0]), share(v, y, x, ties[1])


@operation(selecting)
class less:
    """1 where x < y, else 0."""

    def value(x, y):
        return select(x < y, one(x), zero(x))

    def partials(ties, v, x, y):
        return zero(x), zero(x)


@operation(selecting)
class less_equal:
    """1 where x <= y, else 0."""

    def value(x, y):
        return select(x <= y, one(x), zero(x))

    def partials(ties, v, x, y):
        return zero(x), zero(x)


@operation(selecting)
class equal:
    """1 where x = y, else 0."""

    def value(x, y):
        return select(x == y, one(x), zero(x))

    def partials(ties, v, x, y):
        return zero(x), zero(x)


@operation(selecting)
class keep:
    """y where x is not 0, else 0."""

    def value(x, y):
        return select(x != zero(x), y, zero(x))

    def partials(ties, v, x, y):
        return zero(x), select(x != zero(x), one(x), zero(x))


@operation(selecting)
class drop:
    """y where x is 0, else 0."""

    def value(x, y):
        return select(x != zero(x), zero(x), y)

    def partials(ties, v, x, y):
        return zero(x), select(x != zero(x), zero(x), one(x))


@operation(selecting, n_operands=1)
class absolute:
    """|x|, whose derivative at 0 is 0, at NaN NaN."""

    def value(x, y):
        return size_of(x)

    def partials(ties, v, x, y):
        return select(x > zero(x), one(x), select(x < zero(x), -one(x), x)), zero(x)


@operation(selecting, n_operands=1)
class relu:
    """max(0, x), whose derivative at 0 is 0."""

    def value(x, y):
        return larger(zero(x), x)

    def partials(ties, v, x, y):
        return select(x <= zero(x), zero(x), one(x)), zero(x)


# ---------------------------------------------------------------- of one operand


@operation(unary)
class negative:
    """-x."""

    def value(x):
        return -x

    def partial(v, x):
        return -one(x)

    def curvature(v, p, x):
        return zero(x)


@operation(unary)
class sqrt:
    """Square root."""

    def value(x):
        return root(x)

    def partial(v, x):
        return broadcast(0.5, x) / v

    def curvature(v, p, x):
        return -p / (broadcast(2, x) * x)


@operation(unary)
class exp:
    """e**x."""

    def value(x):
        return elementary.exp(x)

    def partial(v, x):
        return v

    def curvature(v, p, x):
        return p


@operation(unary)
class exp2:
    """2**x."""

    def value(x):
        return elementary.exp2(x)

    def partial(v, x):
        return broadcast(LN2, x) * v

    def curvature(v, p, x):
        return broadcast(LN2, x) * p


@operation(unary)
class expm1:
    """e**x - 1."""

    def value(x):
        return elementary.expm1(x)

    def partial(v, x):
        return elementary.exp(x)

    def curvature(v, p, x):
        return p


@operation(unary)
class log:
    """Natural logarithm."""

    def value(x):
        return elementary.log(x)

    def partial(v, x):
        return one(x) / x

    def curvature(v, p, x):
        return -p * p


@operation(unary)
class log1p:
    """log(1 + x)."""

    def value(x):
        return elementary.log1p(x)

    def partial(v, x):
        return one(x) / (one(x) + x)

    def curvature(v, p, x):
        return -p * p


@operation(unary)
class sin:
    """Sine."""

    def value(x):
        return elementary.sin(x)

    def partial(v, x):
        return elementary.cos(x)

    def curvature(v, p, x):
        return -v


@operation(unary)
class cos:
    """Cosine."""

    def value(x):
        return elementary.cos(x)

    def partial(v, x):
        return -elementary.sin(x)

    def curvature(v, p, x):
        return -v


@operation(unary)
class tan:
    """Tangent."""

    def value(x):
        return elementary.sin(x) / elementary.cos(x)

    def partial(v, x):
        return fma(v, v, one(x))

    def curvature(v, p, x):
        return broadcast(2, x) * v * p


@inlined
def hyperbolic_sine(x):
    """By ``e = exp(|x| / 2) - 1``, whose square is in range where it is."""
    half, a = broadcast(0.5, x), size_of(x)
    e = elementary.expm1(half * a)
    inverse = one(x) / (one(x) + e)
    y = fma(half * e, e, e) * fma(inverse, inverse, one(x))
    return copysign(select(a < broadcast(1e-8, x), a, y), x)


@inlined
def hyperbolic_cosine(x):
    """In range likewise."""
    half = broadcast(0.5, x)
    e = elementary.exp(half * size_of(x))
    return fma(half * e, e, half / (e * e))


@operation(unary)
class sinh:
    """Hyperbolic sine."""

    def value(x):
        return hyperbolic_sine(x)

    def partial(v, x):
        return hyperbolic_cosine(x)

    def curvature(v, p, x):
        return v


@operation(unary)
class cosh:
    """Hyperbolic cosine."""

    def value(x):
        return hyperbolic_cosine(x)

    def partial(v, x):
        return hyperbolic_sine(x)

    def curvature(v, p, x):
        return v


@operation(unary)
class tanh:
    """Hyperbolic tangent."""

    def value(x):
        return elementary.tanh(x)

    def partial(v, x):
        return fma(-v, v, one(x))

    def curvature(v, p, x):
        return broadcast(-2, x) * v * p


@operation(unary)
class sigmoid:
    """1 / (1 + e**-x)."""

    def value(x):
        return elementary.sigmoid(x)

    def partial(v, x):
        return fma(-v, v, v)

    def curvature(v, p, x):
        return p * (one(x) - v - v)


@operation(unary)
class softplus:
    """log(1 + e**x)."""

    def value(x):
        return larger(zero(x), x) + elementary.log1p(elementary.exp(-size_of(x)))

    def partial(v, x):
        return elementary.sigmoid(x)

    def curvature(v, p, x):
        return fma(-p, p, p)


# ---------------------------------------------------------------- as a program has them

CODES = {name: code for code, name in enumerate(OPERATIONS)}


def slots_of(dtype):
    """Make `Program.slots`: of each operation its kernels for floats of a dtype."""
    kernels = [(op.forward, op.backward, op.ahead, op.turn) for op in OPERATIONS.values()]
    return np.array([[kernel.slot(dtype) for kernel in row] for row in kernels], np.int64)
