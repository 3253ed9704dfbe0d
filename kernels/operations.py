"""Operations of a circuit, on vector registers: value, first and second derivatives side by side.

``v = op(x, y)``; an operation of one operand does not look at y. They are of four sorts: the common
ones, so few that LLVM takes the choice among them out of the loops; those that select, whose
derivative of 0 says that an operand was not chosen; and all others, of one operand and of two.
"""

import math

from numba.extending import register_jitable

from .compiler import OPTIONS
from .elementary import cos, exp, exp2, expm1, log, log1p, sigmoid, sin, tanh
from .vectors import (
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

(
    ADD, SUBTRACT, MULTIPLY,
    MAXIMUM, MINIMUM, LESS, LESS_EQUAL, EQUAL, KEEP, DROP, ABSOLUTE, RELU,
    DIVIDE, POWER, CONSTANT_POWER, LOGADDEXP,
    NEGATIVE, SQRT, EXP, EXP2, EXPM1, LOG, LOG1P, SIN, COS, TAN, SINH, COSH, TANH, SIGMOID,
    SOFTPLUS,
) = range(31)  # fmt: skip

# The names are NumPy's where it has the function.
OPERATIONS = {
    "add": ADD,
    "subtract": SUBTRACT,
    "multiply": MULTIPLY,
    "maximum": MAXIMUM,
    "minimum": MINIMUM,
    "less": LESS,  # a condition is 1 or 0
    "less_equal": LESS_EQUAL,
    "equal": EQUAL,
    "keep": KEEP,  # y where x is not 0, else 0
    "drop": DROP,  # y where x is 0, else 0
    "absolute": ABSOLUTE,
    "relu": RELU,
    "divide": DIVIDE,
    "power": POWER,
    "constant_power": CONSTANT_POWER,  # the exponent is a constant
    "logaddexp": LOGADDEXP,
    "negative": NEGATIVE,
    "sqrt": SQRT,
    "exp": EXP,
    "exp2": EXP2,
    "expm1": EXPM1,
    "log": LOG,
    "log1p": LOG1P,
    "sin": SIN,
    "cos": COS,
    "tan": TAN,
    "sinh": SINH,
    "cosh": COSH,
    "tanh": TANH,
    "sigmoid": SIGMOID,
    "softplus": SOFTPLUS,
}
N_OPERATIONS = len(OPERATIONS)

_LN2 = math.log(2)


@register_jitable(**OPTIONS)
def is_common(code):
    """Whether it is one of those that most circuits are made of."""
    return code <= MULTIPLY


@register_jitable(**OPTIONS)
def is_selecting(code):
    """Whether it selects."""
    return MULTIPLY < code <= RELU


@register_jitable(**OPTIONS)
def is_unary(code):
    """Whether an operation of the other sorts has one operand."""
    return code >= NEGATIVE


@register_jitable(**OPTIONS)
def common_value(code, x, y):
    """x + y, x - y or x * y."""
    if code == ADD:
        return x + y
    if code == SUBTRACT:
        return x - y
    return x * y


@register_jitable(**OPTIONS)
def common_partials(code, x, y):
    """(dv/dx, dv/dy) of these."""
    one = broadcast(1, x)
    if code == ADD:
        return one, one
    if code == SUBTRACT:
        return one, -one
    return y, x


@register_jitable(**OPTIONS)
def selecting_value(code, x, y):
    """Of an operation that selects."""
    zero, one = broadcast(0, x), broadcast(1, x)
    if code == MAXIMUM:
        return maximum(x, y)
    if code == MINIMUM:
        return minimum(x, y)
    if code == ABSOLUTE:
        return absolute(x)
    if code == RELU:
        return maximum(zero, x)
    if code == LESS:
        return select(x < y, one, zero)
    if code == LESS_EQUAL:
        return select(x <= y, one, zero)
    if code == EQUAL:
        return select(x == y, one, zero)
    if code == KEEP:
        return select(x != zero, y, zero)
    return select(x != zero, zero, y)


@register_jitable(**OPTIONS)
def selecting_partials(code, ties, v, x, y):
    """(dv/dx, dv/dy), the latter 0 of one operand; where x = y is a tie these are `ties` (2,).

    Those of ABSOLUTE and RELU at 0 are 0, that of ABSOLUTE at NaN is NaN.
    """
    zero, one = broadcast(0, x), broadcast(1, x)
    if code in (MAXIMUM, MINIMUM):
        return _share(v, x, y, broadcast(ties[0], x)), _share(v, y, x, broadcast(ties[1], x))
    if code == ABSOLUTE:
        return select(x > zero, one, select(x < zero, -one, x)), zero
    if code == RELU:
        return select(x <= zero, zero, one), zero
    if code == KEEP:
        return zero, select(x != zero, one, zero)
    if code == DROP:
        return zero, select(x != zero, zero, one)
    return zero, zero


@register_jitable(**OPTIONS)
def _share(v, x, y, tie):
    """dv/dx of the one of x and y that is v; NaN if v is."""
    zero, one = broadcast(0, x), broadcast(1, x)
    chosen = select(x == v, one, zero)
    return select(x == y, tie, select(v == v, chosen, v))


@register_jitable(**OPTIONS)
def binary_value(code, x, y):
    """Of an operation of two operands that does not select."""
    if is_common(code):
        return common_value(code, x, y)
    if code == DIVIDE:
        return x / y
    if code in (POWER, CONSTANT_POWER):
        return libm_power(x, y)
    apart = maximum(x, y) + log1p(exp(-absolute(x - y)))
    return select(x == y, x + broadcast(_LN2, x), apart)  # inf - inf is no difference


@register_jitable(**OPTIONS)
def binary_partials(code, v, x, y):
    """(dv/dx, dv/dy)."""
    zero, one = broadcast(0, x), broadcast(1, x)
    if is_common(code):
        return common_partials(code, x, y)
    if code == DIVIDE:
        inverse = one / y
        return inverse, select(v == zero, -v, -v * inverse)
    if code in (POWER, CONSTANT_POWER):
        by_x = select(y == zero, zero, y * libm_power(x, y - one))
        return by_x, select(code == POWER, _times_log(v, log(x), x, y), zero)
    half, difference = broadcast(0.5, x), x - y
    by_x, by_y = sigmoid(difference), sigmoid(-difference)
    return select(x == y, half, by_x), select(x == y, half, by_y)


@register_jitable(**OPTIONS)
def _times_log(p, logs, x, y):
    """p times `logs`, where p is a power of x, and the other has log(x) in it.

    A power of 0 beats an infinite logarithm. Of ``x**y`` at x = 0, y >= 0 it is 0.
    """
    zero, infinity = broadcast(0, x), broadcast(math.inf, x)
    logs = select(p == zero, select(absolute(logs) == infinity, zero, logs), logs)
    return select(x == zero, select(y >= zero, zero, p * logs), p * logs)


@register_jitable(**OPTIONS)
def binary_curvatures(code, v, x, y):
    """(d2v/dx2, d2v/dx dy, d2v/dy2)."""
    zero, one = broadcast(0, x), broadcast(1, x)
    if code == MULTIPLY:
        return zero, one, zero
    if code == DIVIDE:
        inverse = one / y
        return zero, -inverse * inverse, broadcast(2, x) * (v / y) * inverse
    if code in (POWER, CONSTANT_POWER):
        logarithm, below = log(x), libm_power(x, y - one)
        factor = y * (y - one)
        by_x = select(factor == zero, zero, factor * libm_power(x, y - one - one))
        mixed = _times_log(below, fma(y, logarithm, one), x, y)
        by_y = _times_log(v, logarithm * logarithm, x, y)
        general = code == POWER
        return by_x, select(general, mixed, zero), select(general, by_y, zero)
    if code == LOGADDEXP:
        less = sigmoid(-absolute(x - y))
        curvature = select(x == y, broadcast(0.25, x), fma(-less, less, less))
        return curvature, -curvature, curvature
    return zero, zero, zero


@register_jitable(**OPTIONS)
def _sinh(x):
    """Hyperbolic sine by ``e = exp(|x| / 2) - 1``, whose square is in range where it is."""
    half, one, a = broadcast(0.5, x), broadcast(1, x), absolute(x)
    e = expm1(half * a)
    inverse = one / (one + e)
    y = fma(half * e, e, e) * fma(inverse, inverse, one)
    return copysign(select(a < broadcast(1e-8, x), a, y), x)


@register_jitable(**OPTIONS)
def _cosh(x):
    """Hyperbolic cosine, in range likewise."""
    half = broadcast(0.5, x)
    e = exp(half * absolute(x))
    return fma(half * e, e, half / (e * e))


@register_jitable(**OPTIONS)
def unary_value(code, x):
    """Of an operation of one operand that does not select."""
    if code == NEGATIVE:
        return -x
    if code == SQRT:
        return sqrt(x)
    if code == EXP:
        return exp(x)
    if code == EXP2:
        return exp2(x)
    if code == EXPM1:
        return expm1(x)
    if code == LOG:
        return log(x)
    if code == LOG1P:
        return log1p(x)
    if code == SIN:
        return sin(x)
    if code == COS:
        return cos(x)
    if code == TAN:
        return sin(x) / cos(x)
    if code == SINH:
        return _sinh(x)
    if code == COSH:
        return _cosh(x)
    if code == TANH:
        return tanh(x)
    if code == SIGMOID:
        return sigmoid(x)
    return maximum(broadcast(0, x), x) + log1p(exp(-absolute(x)))


@register_jitable(**OPTIONS)
def unary_partial(code, v, x):
    """dv/dx."""
    one = broadcast(1, x)
    if code == NEGATIVE:
        return -one
    if code == SQRT:
        return broadcast(0.5, x) / v
    if code == EXP:
        return v
    if code == EXP2:
        return broadcast(_LN2, x) * v
    if code == EXPM1:
        return exp(x)
    if code == LOG:
        return one / x
    if code == LOG1P:
        return one / (one + x)
    if code == SIN:
        return cos(x)
    if code == COS:
        return -sin(x)
    if code == TAN:
        return fma(v, v, one)
    if code == SINH:
        return _cosh(x)
    if code == COSH:
        return _sinh(x)
    if code == TANH:
        return fma(-v, v, one)
    if code == SIGMOID:
        return fma(-v, v, v)
    return sigmoid(x)


@register_jitable(**OPTIONS)
def unary_curvature(code, v, p, x):
    """d2v/dx2, given ``p = dv/dx``."""
    one, two = broadcast(1, x), broadcast(2, x)
    if code == SQRT:
        return -p / (two * x)
    if code in (EXP, EXPM1):
        return p
    if code == EXP2:
        return broadcast(_LN2, x) * p
    if code in (SINH, COSH):
        return v
    if code in (LOG, LOG1P):
        return -p * p
    if code in (SIN, COS):
        return -v
    if code == TAN:
        return two * v * p
    if code == TANH:
        return -two * v * p
    if code == SIGMOID:
        return p * (one - v - v)
    if code == SOFTPLUS:
        return fma(-p, p, p)
    return broadcast(0, x)
