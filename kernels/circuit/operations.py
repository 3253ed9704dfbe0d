"""Operations of a circuit, a record each: value, first and second derivatives, on vector registers.

=============  ================================  ========================  =======================
sort           value                             first derivatives         second derivatives
=============  ================================  ========================  =======================
``linear``     v = op(x, y)                      (g,): numbers like g      none
``binary``     v = op(x, y)                      (v, x, y): by x, by y     (v, x, y): xx, xy, yy
``selecting``  v = op(x, y), one operand of two  (x, y): the chosen one    none
``unary``      v = op(x)                         (v, x): p                 (v, p, x), or none
=============  ================================  ========================  =======================

What was not chosen gets nothing on the way back, even if the adjoint of v is infinite: of
`selecting` the chosen one is X, Y, NEITHER, or BOTH of a tie, whose derivatives are `Facts.ties`;
of `unary` without a second derivative, x is chosen unless p is 0. The kernels of a run of one
operation (`runs`) are made of these. To add one, write its record here, and the one of the same
name in `deltajit.circuits.primitives`.
"""

import math

import numpy as np

from ..compiler import inlined
from ..simd import elementary as f
from ..simd.vectors import (
    absolute,
    broadcast,
    copysign,
    fma,
    libm_power,
    maximum,
    minimum,
    select,
    sqrt,
)
from . import runs
from .runs import BOTH, NEITHER, X, Y

OPERATIONS: dict[str, runs.Operation] = {}  # the names are NumPy's where it has the function
LN2 = math.log(2)


def define(sort, name, *functions, **facts):
    """Register the record of an operation, made of its functions by `runs`."""
    OPERATIONS[name] = sort(name, *map(inlined, functions), **facts)


@inlined
def zero(x):
    """Return 0 in every lane."""
    return broadcast(0, x)


@inlined
def one(x):
    """Return 1 in every lane."""
    return broadcast(1, x)


@inlined
def two(x):
    """Return 2 in every lane."""
    return broadcast(2, x)


# ---------------------------------------------------------------- x + y, x - y, x * y, x / y

define(runs.linear, "add", lambda x, y: x + y, lambda g: (one(g), one(g)))
define(runs.linear, "subtract", lambda x, y: x - y, lambda g: (one(g), -one(g)))
define(
    runs.binary,
    "multiply",
    lambda x, y: x * y,
    lambda v, x, y: (y, x),
    lambda v, x, y: (zero(x), one(x), zero(x)),
)
define(
    runs.binary,
    "divide",
    lambda x, y: x / y,
    lambda v, x, y: (one(x) / y, select(v == zero(x), -v, -v * (one(x) / y))),
    lambda v, x, y: (zero(x), -(one(x) / y) * (one(x) / y), two(x) * (v / y) * (one(x) / y)),
)

# ---------------------------------------------------------------- powers


@inlined
def by_base(x, y):
    """d(x**y)/dx."""
    return select(y == zero(x), zero(x), y * libm_power(x, y - one(x)))


@inlined
def by_base_twice(x, y):
    """d2(x**y)/dx2."""
    factor = y * (y - one(x))
    turned = factor * libm_power(x, y - one(x) - one(x))
    return select(factor == zero(x), zero(x), turned)


@inlined
def times_log(p, logs, x, y):
    """Return p times `logs`, where p is a power of x and `logs` has the factor log(x).

    A power of 0 beats an infinite logarithm. Of ``x**y`` at x = 0, y >= 0 it is 0.
    """
    infinite = absolute(logs) == broadcast(math.inf, x)
    beaten = select(p == zero(x), select(infinite, zero(x), logs), logs)
    return select(x == zero(x), select(y >= zero(x), zero(x), p * beaten), p * beaten)


@inlined
def power_curvatures(v, x, y):
    """Return the second derivatives of x**y."""
    logarithm, below = f.log(x), libm_power(x, y - one(x))
    mixed = times_log(below, fma(y, logarithm, one(x)), x, y)
    return by_base_twice(x, y), mixed, times_log(v, logarithm * logarithm, x, y)


define(
    runs.binary,
    "power",
    lambda x, y: libm_power(x, y),
    lambda v, x, y: (by_base(x, y), times_log(v, f.log(x), x, y)),
    lambda v, x, y: power_curvatures(v, x, y),
)
define(
    runs.binary,
    "constant_power",  # y is a constant
    lambda x, y: libm_power(x, y),
    lambda v, x, y: (by_base(x, y), zero(x)),
    lambda v, x, y: (by_base_twice(x, y), zero(x), zero(x)),
)

# ---------------------------------------------------------------- log(exp(x) + exp(y))


@inlined
def logaddexp(x, y):
    """Return log(e**x + e**y); inf - inf is no difference."""
    apart = maximum(x, y) + f.log1p(f.exp(-absolute(x - y)))
    return select(x == y, x + broadcast(LN2, x), apart)


@inlined
def logaddexp_slope(x, y):
    """Return the derivative of `logaddexp` by x."""
    return select(x == y, broadcast(0.5, x), f.sigmoid(x - y))


@inlined
def logaddexp_curvature(x, y):
    """Return the second derivative of `logaddexp` by x."""
    less = f.sigmoid(-absolute(x - y))
    return select(x == y, broadcast(0.25, x), fma(-less, less, less))


@inlined
def with_signs(c):
    """Return the second derivatives of a function of x - y."""
    return c, -c, c


define(
    runs.binary,
    "logaddexp",
    lambda x, y: logaddexp(x, y),
    lambda v, x, y: (logaddexp_slope(x, y), logaddexp_slope(y, x)),
    lambda v, x, y: with_signs(logaddexp_curvature(x, y)),
)

# ---------------------------------------------------------------- what selects


@inlined
def larger(x, y):
    """Return which of x and y is the larger one."""
    of_two = select(x < y, broadcast(Y, x), x + y)  # NaN
    return select(x == y, broadcast(BOTH, x), select(x > y, broadcast(X, x), of_two))


@inlined
def sign(x):
    """1, -1, and 0 at 0; NaN at NaN."""
    return select(x > zero(x), one(x), select(x < zero(x), -one(x), x))


@inlined
def truth(condition, x):
    """Return a condition as 1 or 0."""
    return select(condition, one(x), zero(x))


def neither(x, y):
    """Return that no operand is chosen: the value is constant between its jumps."""
    return broadcast(NEITHER, x)


define(runs.selecting, "maximum", lambda x, y: maximum(x, y), lambda x, y: larger(x, y))
define(runs.selecting, "minimum", lambda x, y: minimum(x, y), lambda x, y: larger(y, x))
define(runs.selecting, "less", lambda x, y: truth(x < y, x), neither)
define(runs.selecting, "less_equal", lambda x, y: truth(x <= y, x), neither)
define(runs.selecting, "equal", lambda x, y: truth(x == y, x), neither)
define(
    runs.selecting,
    "keep",  # y where x is not 0, else 0
    lambda x, y: select(x != zero(x), y, zero(x)),
    lambda x, y: select(x != zero(x), broadcast(Y, x), broadcast(NEITHER, x)),
)
define(
    runs.selecting,
    "drop",  # y where x is 0, else 0
    lambda x, y: select(x != zero(x), zero(x), y),
    lambda x, y: select(x != zero(x), broadcast(NEITHER, x), broadcast(Y, x)),
)
define(runs.unary, "negative", lambda x: -x, lambda v, x: -one(x), taped=0)
define(runs.unary, "absolute", lambda x: absolute(x), lambda v, x: sign(x))
define(
    runs.unary,
    "relu",
    lambda x: maximum(zero(x), x),
    lambda v, x: select(x <= zero(x), zero(x), one(x)),
)

# ---------------------------------------------------------------- of one operand


@inlined
def sinh(x):
    """Hyperbolic sine by ``e = exp(|x| / 2) - 1``, whose square is in range where it is."""
    half, a = broadcast(0.5, x), absolute(x)
    e = f.expm1(half * a)
    inverse = one(x) / (one(x) + e)
    y = fma(half * e, e, e) * fma(inverse, inverse, one(x))
    return copysign(select(a < broadcast(1e-8, x), a, y), x)


@inlined
def cosh(x):
    """Hyperbolic cosine, in range likewise."""
    half = broadcast(0.5, x)
    e = f.exp(half * absolute(x))
    return fma(half * e, e, half / (e * e))


@inlined
def softplus(x):
    """log(1 + e**x)."""
    return maximum(zero(x), x) + f.log1p(f.exp(-absolute(x)))


for _name, *_functions in (
    ("square", lambda x: x * x, lambda v, x: x + x, lambda v, p, x: two(x)),
    ("sqrt", lambda x: sqrt(x), lambda v, x: broadcast(0.5, x) / v, lambda v, p, x: -p / (x + x)),
    ("exp", lambda x: f.exp(x), lambda v, x: v, lambda v, p, x: p),
    ("exp2", lambda x: f.exp2(x), lambda v, x: broadcast(LN2, x) * v,
        lambda v, p, x: broadcast(LN2, x) * p),
    ("expm1", lambda x: f.expm1(x), lambda v, x: f.exp(x), lambda v, p, x: p),
    ("log", lambda x: f.log(x), lambda v, x: one(x) / x, lambda v, p, x: -p * p),
    ("log1p", lambda x: f.log1p(x), lambda v, x: one(x) / (one(x) + x), lambda v, p, x: -p * p),
    ("sin", lambda x: f.sin(x), lambda v, x: f.cos(x), lambda v, p, x: -v),
    ("cos", lambda x: f.cos(x), lambda v, x: -f.sin(x), lambda v, p, x: -v),
    ("tan", lambda x: f.sin(x) / f.cos(x), lambda v, x: fma(v, v, one(x)),
        lambda v, p, x: two(x) * v * p),
    ("sinh", lambda x: sinh(x), lambda v, x: cosh(x), lambda v, p, x: v),
    ("cosh", lambda x: cosh(x), lambda v, x: sinh(x), lambda v, p, x: v),
    ("tanh", lambda x: f.tanh(x), lambda v, x: fma(-v, v, one(x)), lambda v, p, x: -two(x) * v * p),
    ("sigmoid", lambda x: f.sigmoid(x), lambda v, x: fma(-v, v, v),
        lambda v, p, x: p * (one(x) - v - v)),
    ("softplus", lambda x: softplus(x), lambda v, x: f.sigmoid(x), lambda v, p, x: fma(-p, p, p)),
):  # fmt: skip
    define(runs.unary, _name, *_functions)


# ---------------------------------------------------------------- as a program has them

CODES = {name: code for code, name in enumerate(OPERATIONS)}


def slots_of(dtype):
    """Make `Program.slots`: of each operation its kernels for floats of a dtype."""
    kernels = [op[3:] for op in OPERATIONS.values()]
    return np.array([[kernel.slot(dtype) for kernel in row] for row in kernels], np.int64)
