"""Branch-free exp, expm1, log, log1p, tanh, sigmoid and erf, to be called from jitted code.

One text serves float32 and float64, scalars and vectors (see `vectors`): only the constants differ
between the precisions, and float32 is never widened. A value gives the same bits in every lane and
as a scalar. NaN in, NaN out; signed zeros, infinities and subnormals are right.

The ideas are textbook (J.-M. Muller, "Elementary Functions"; W. J. Cody and W. Waite, "Software
Manual for the Elementary Functions"): exp and its relatives write x = n ln2 + r, |r| <= ln2 / 2;
log and log1p write their argument as 2**n (1 + f), 1 + f between 3/4 and 3/2. (There log1p's f
is exact, the difference of two numbers within a factor of 2; up to sqrt(2) it would not be.)
"""

from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

from .compiler import OPTIONS
from .vectors import (
    absolute,
    as_float,
    as_integer,
    copysign,
    dtype_of,
    fma,
    integer_add,
    integer_and,
    integer_sub,
    ldexp,
    maximum,
    minimum,
    polynomial,
    select,
    shift_left,
    shift_right,
)


class Constants(NamedTuple):
    """What tells one precision from the other."""

    # Floats
    zero: np.floating
    quarter: np.floating
    half: np.floating
    one: np.floating
    two: np.floating
    infinity: np.floating
    nan: np.floating
    log2e: np.floating
    ln2_high: np.floating  # so short that n * ln2_high is exact
    ln2_low: np.floating
    # x + rounder holds x, rounded to an integer, in its last bits; see `_split`
    rounder: np.floating
    biased_rounder: np.floating  # ... that integer + exponent bias
    smallest_biased_rounder: np.floating
    exp_lowest: np.floating  # exp is 0 from here down
    exp_highest: np.floating  # inf from here up
    expm1_lowest: np.floating  # expm1 is -1 from here down
    tanh_highest: np.floating  # tanh is 1 from here up
    erf_highest: np.floating
    tanh_cut: np.floating  # its polynomial serves below
    erf_cut: np.floating
    tiny: np.floating  # expm1(x) rounds to x below
    normal: np.floating  # the smallest one
    to_normal: np.floating  # 2**mantissa
    biased_rounder_subnormal: np.floating  # biased_rounder + mantissa
    # Integers
    mantissa: np.integer  # how many bits
    mantissa_mask: np.integer
    exponent_mask: np.integer
    rounder_bits: np.integer
    biased_rounder_bits: np.integer
    one_bits: np.integer
    break_bits: np.integer  # of 3/4, where log's 1 + f begins
    one_less_break_bits: np.integer
    four_bits: np.integer
    # Polynomials. Minimax for the relative error of what they are part of, by Remez's algorithm in
    # 45 digits; then, where it helps, coefficients rounded one by one, from the lowest, the rest
    # fitted anew after each.
    expm1: tuple  # (e**r - 1 - r) / r**2
    log: tuple  # (log(1 + f) - f + f**2 / 2) / f**3
    tanh: tuple  # (tanh(x) - x) / x**3, in x**2
    erf: tuple  # erf(x) / x - 1, in x**2
    log_erfc: tuple  # log(1 - erf(x))


def _constants(real, integer, ln2_high, ln2_low, *, polynomials, **limits):
    """`Constants` of one precision: what follows from the format, and what was chosen for it."""
    info = np.finfo(real)
    mantissa, bias = int(info.nmant), int(info.maxexp) - 1

    def bits(value):
        return int(real(value).view(integer))

    rounder = 1.5 * 2.0**mantissa
    one, log_break = bits(1), bits(0.75)
    floats = {
        "zero": 0,
        "quarter": 0.25,
        "half": 0.5,
        "one": 1,
        "two": 2,
        "infinity": np.inf,
        "nan": np.nan,
        "log2e": 1 / np.log(2),
        "ln2_high": ln2_high,
        "ln2_low": ln2_low,
        "rounder": rounder,
        "biased_rounder": rounder + bias,
        "biased_rounder_subnormal": rounder + bias + mantissa,
        "smallest_biased_rounder": rounder + bias - 2 * mantissa,
        "normal": info.smallest_normal,
        "to_normal": 2.0**mantissa,
    }
    integers = {
        "mantissa": mantissa,
        "mantissa_mask": (1 << mantissa) - 1,
        "exponent_mask": -(1 << mantissa),
        "rounder_bits": bits(rounder),
        "biased_rounder_bits": bits(rounder + bias),
        "one_bits": one,
        "break_bits": log_break,
        "one_less_break_bits": one - log_break,
        "four_bits": bits(4),
    }
    return Constants(
        **{name: real(value) for name, value in (floats | limits).items()},
        **{name: integer(value) for name, value in integers.items()},
        **{name: tuple(real(c) for c in p) for name, p in polynomials.items()},
    )


_F32 = _constants(
    np.float32,
    np.int32,
    ln2_high=0.693359375,
    ln2_low=-2.12194440054690583e-4,
    exp_lowest=-104,
    exp_highest=89,
    expm1_lowest=-20,
    tanh_highest=10,
    erf_highest=4,
    tanh_cut=0.9,
    erf_cut=1,
    tiny=2.0**-30,
    polynomials={
        "expm1": (0.49999997, 0.16666539, 0.0416677594, 0.00836713612, 0.00138352439),
        "log": (
            0.333334506, -0.250000656, 0.199906901, -0.166484162,
            0.144837096, -0.131552875, 0.104155585, -0.0445745625,
        ),
        "tanh": (
            -0.333333224, 0.133329809, -0.0539294742, 0.0216640923,
            -0.00826545432, 0.00258342316, -0.000455708097,
        ),
        "erf": (
            0.128379166, -0.37612626, 0.112835787, -0.0268533472,
            0.0051871622, -0.00079978531, 7.80690389e-05,
        ),
        "log_erfc": (
            -0.00035376483, -1.12703979, -0.638226211, -0.103036769,
            0.0218049493, -0.0029394899, 0.000185558994,
        ),
    },
)  # fmt: skip

_F64 = _constants(
    np.float64,
    np.int64,
    ln2_high=0.69314718036912382,
    ln2_low=1.9082149292705877e-10,
    exp_lowest=-746,
    exp_highest=710,
    expm1_lowest=-40,
    tanh_highest=20,
    erf_highest=6,
    tanh_cut=0.625,
    erf_cut=1,
    tiny=2.0**-60,
    polynomials={
        "expm1": (
            0.5, 0.16666666666666677, 0.041666666666666685, 0.008333333333321768,
            0.001388888888889123, 0.00019841269885467993, 2.4801587286289958e-05,
            2.755724499958248e-06, 2.7557323351677364e-07, 2.510874391140223e-08,
            2.0895363044879154e-09,
        ),
        "log": (
            0.3333333333333375, -0.2500000000001058, 0.19999999999850204, -0.16666666663799717,
            0.1428571429993486, -0.12500000290663102, 0.111111107727064, -0.0999998554212504,
            0.09090893018495225, -0.08333704398652322, 0.07693387268005582, -0.07138582072076141,
            0.06643360570692004, -0.06249851669670986, 0.06083046646377011, -0.05968092171632487,
            0.050695437680781684, -0.02938862265132979, 0.008090818936396413,
        ),
        "tanh": (
            -0.33333333333333315, 0.13333333333329958, -0.05396825396614741, 0.0218694884706381,
            -0.00886323433773118, 0.003592114211778026, -0.0014557271375281475,
            0.0005894562956099234, -0.00023702304524418887, 9.157658383498023e-05,
            -3.0204076454303586e-05, 6.049340340696587e-06,
        ),
        "erf": (
            0.1283791670955126, -0.376126389031841, 0.11283791670971115, -0.026866170648037445,
            0.005223977652783449, -0.0008548328542638829, 0.00012055386498795237,
            -1.4926890077699952e-05, 1.6481216421248276e-06, -1.655899447268565e-07,
            1.6027011906417976e-08, -1.6522557326561897e-09, 1.444861699305819e-10,
        ),
        "log_erfc": (
            -5.028767883972381e-07, -1.1283740892175977, -0.6366436292379996,
            -0.10270343635979359, 0.018990172845510717, 0.00041063633258558665,
            -0.001915952401032463, 0.0007706508387144742, -0.00013505544538007679,
            -2.0263989788423896e-05, 2.282139622253846e-05, -8.66680570772947e-06,
            2.1355875308517113e-06, -3.732857406066697e-07, 4.6420491062999276e-08,
            -3.934029436232083e-09, 2.0448272549827777e-10, -4.928255418037879e-12,
        ),
    },
)  # fmt: skip

_CONSTANTS = {types.float32: _F32, types.float64: _F64}
_JIT = {**OPTIONS, "forceinline": True}


def _elementary(define):
    """Make `define(constants)`, which returns a function of x, callable from jitted code."""

    def stub(x):
        raise NotImplementedError(f"{define.__name__} works in jitted code only")

    stub.__name__ = stub.__qualname__ = define.__name__
    stub.__doc__ = define.__doc__

    @overload(stub, jit_options=_JIT)
    def choose(x):
        constants = _CONSTANTS.get(dtype_of(x))
        return constants and define(constants)

    return stub


def _split(k):
    """x -> rounded, n, r with x = n ln2 + r; `rounded` is rounder + n, for its last bits."""

    @register_jitable(**_JIT)
    def split(x, rounder):
        rounded = fma(x, k.log2e, rounder)
        n = rounded - rounder
        return rounded, fma(n, -k.ln2_low, fma(n, -k.ln2_high, x))

    return split


@_elementary
def exp(k):
    """e**x."""
    split = _split(k)

    def exp(x):
        x = minimum(k.exp_highest, maximum(k.exp_lowest, x))
        rounded, r = split(x, k.rounder)
        q = fma(r, polynomial(r, k.expm1), k.one)  # (e**r - 1) / r
        return ldexp(fma(r, q, k.one), integer_sub(as_integer(rounded), k.rounder_bits))

    return exp


@_elementary
def expm1(k):
    """e**x - 1, accurate near 0."""
    split = _split(k)
    rounder = k.biased_rounder - k.one

    def expm1(x):
        clamped = minimum(k.exp_highest, maximum(k.expm1_lowest, x))
        rounded, r = split(clamped, rounder)
        # Half of 2**n, as 2**n itself may overflow.
        scale = as_float(shift_left(as_integer(rounded), k.mantissa))
        e = fma(r * r, polynomial(r, k.expm1), r)
        y = fma(scale, e, scale - k.half)
        return select(absolute(x) < k.tiny, x, y + y)

    return expm1


@_elementary
def tanh(k):
    """Hyperbolic tangent."""
    split = _split(k)
    first, rest = k.tanh[0], k.tanh[1:]

    def tanh(x):
        a = minimum(k.tanh_highest, absolute(x))
        square = a * a
        small = fma(a * square, fma(square, polynomial(square, rest), first), a)
        rounded, r = split(a + a, k.biased_rounder)
        scale = as_float(shift_left(as_integer(rounded), k.mantissa))
        # 1 - 2 / (e**2a + 1): its errors count for less than half, as the quotient does. With
        # e**2a = scale (1 + e) only e and the sum are rounded; scale + 1, where it matters, is not.
        e = fma(r * r, polynomial(r, k.expm1), r)
        large = k.one - k.two / fma(scale, e, scale + k.one)
        return copysign(select(a < k.tanh_cut, small, large), x)

    return tanh


@_elementary
def sigmoid(k):
    """1 / (1 + e**-x)."""
    split = _split(k)

    def sigmoid(x):
        a = -minimum(-k.exp_lowest, absolute(x))
        rounded, r = split(a, k.biased_rounder)
        # e**a = 2**n (high + low)
        q = fma(r, polynomial(r, k.expm1), k.one)  # (e**r - 1) / r
        high = fma(r, q, k.one)
        low = fma(r, q, k.one - high)
        # Below 2**-60 or so it does not matter to 1 + e**a, and might not be a normal number.
        scale = as_float(
            shift_left(as_integer(maximum(k.smallest_biased_rounder, rounded)), k.mantissa)
        )
        term = scale * high
        total = k.one + term
        total_low = fma(scale, low, term - (total - k.one))
        # (high + low) / (total + total_low): a quotient, corrected by its remainder
        inverse = k.one / total
        quotient = high * inverse
        remainder = fma(-quotient, total, high) + fma(-quotient, total_low, low)
        quotient = fma(remainder, inverse, quotient)
        n = integer_sub(as_integer(rounded), k.biased_rounder_bits)
        small = ldexp(quotient, n)
        return select(x < k.zero, small, k.one - small)

    return sigmoid


def _log_sum(k):
    """n, f -> n ln2 + log(1 + f)."""

    @register_jitable(**_JIT)
    def log_sum(n, f):
        square = f * f
        y = square * fma(f, polynomial(f, k.log), -k.half)
        # n ln2_high + f = high + low, exactly
        high = fma(n, k.ln2_high, f)
        low = f - fma(n, -k.ln2_high, high)
        return high + (y + fma(n, k.ln2_low, low))

    return log_sum


@_elementary
def log(k):
    """Natural logarithm; NaN below 0."""

    log_sum = _log_sum(k)

    def log(x):
        subnormal = x < k.normal
        bits = as_integer(select(subnormal, x * k.to_normal, x))
        biased = integer_add(bits, k.one_less_break_bits)
        exponent = as_float(integer_add(shift_right(biased, k.mantissa), k.rounder_bits))
        n = exponent - select(subnormal, k.biased_rounder_subnormal, k.biased_rounder)
        m = as_float(integer_add(integer_and(biased, k.mantissa_mask), k.break_bits))
        y = log_sum(n, m - k.one)
        y = select(x < k.infinity, y, x)
        return select(x <= k.zero, select(x == k.zero, -k.infinity, k.nan), y)

    return log


@_elementary
def log1p(k):
    """log(1 + x), accurate near 0; NaN below -1."""
    log_sum = _log_sum(k)

    def log1p(x):
        biased = integer_add(as_integer(k.one + x), k.one_less_break_bits)
        exponent = as_float(integer_add(shift_right(biased, k.mantissa), k.rounder_bits))
        shift = integer_sub(integer_and(biased, k.exponent_mask), k.one_bits)  # n, as an exponent
        # f = x / 2**n + (1 / 2**n - 1), from x itself as 1 + x was rounded; 4 / 2**n, since
        # 1 / 2**n may underflow.
        four = as_float(integer_sub(k.four_bits, shift))
        f = as_float(integer_sub(as_integer(x), shift)) + fma(k.quarter, four, -k.one)
        y = log_sum(exponent - k.biased_rounder, f)
        y = select(x < k.infinity, copysign(y, x), x)
        return select(x > -k.one, y, select(x == -k.one, -k.infinity, k.nan))

    return log1p


@_elementary
def erf(k):
    """Error function."""
    split = _split(k)

    def erf(x):
        a = minimum(k.erf_highest, absolute(x))
        small = fma(a, polynomial(a * a, k.erf), a)
        rounded, r = split(polynomial(a, k.log_erfc), k.biased_rounder)
        scale = as_float(shift_left(as_integer(rounded), k.mantissa))
        q = fma(r, polynomial(r, k.expm1), k.one)
        large = fma(-scale, fma(r, q, k.one), k.one)
        return copysign(select(a < k.erf_cut, small, large), x)

    return erf
