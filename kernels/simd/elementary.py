"""exp, exp2, expm1, log, log1p, tanh, sigmoid, erf, sin and cos, to be called from jitted code.

One text serves float32 and float64, scalars and vectors (see `vectors`): only the constants differ
between the precisions, and float32 is never widened. A value gives the same bits in every lane and
as a scalar. NaN in, NaN out; signed zeros, infinities and subnormals are right. Nothing branches,
but for arguments of sin and cos so large that libm has to reduce them.

The ideas are textbook (J.-M. Muller, "Elementary Functions"; W. J. Cody and W. Waite, "Software
Manual for the Elementary Functions"): exp and its relatives write x = n ln2 + r, |r| <= ln2 / 2;
log and log1p write their argument as 2**n (1 + f), 3/4 <= 1 + f < 3/2; sin and cos write
x = n pi/2 + r, |r| <= pi/4. (With the ends of log1p's 1 + f its f is exact, the difference of two
numbers within a factor of 2.)
"""

from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

from ..compiler import HELPER
from .vectors import (
    HAS_FMA,
    VECTOR_BYTES,
    absolute,
    any_lane,
    as_float,
    as_integer,
    copysign,
    dtype_of,
    fma,
    integer_add,
    integer_and,
    integer_max,
    integer_sub,
    integer_test,
    ldexp,
    libm_cos,
    libm_sin,
    make_lookup,
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
    ln2: np.floating
    log2e: np.floating
    ln2_high: np.floating  # so short that n * ln2_high is exact
    ln2_low: np.floating
    # x + rounder holds x, rounded to an integer, in its last bits; see `_split`
    rounder: np.floating
    biased_rounder: np.floating  # ... that integer + exponent bias
    smallest_biased_rounder: np.floating
    exp_lowest: np.floating  # exp is 0 from here down
    exp_highest: np.floating  # inf from here up
    exp2_lowest: np.floating  # likewise
    exp2_highest: np.floating
    expm1_lowest: np.floating  # expm1 is -1 from here down
    tanh_highest: np.floating  # tanh is 1 from here up
    tanh_shift: np.floating  # n = (x - shift) * slope, rounded
    tanh_slope: np.floating
    erf_highest: np.floating
    erf_cut: np.floating
    two_over_pi: np.floating
    sine_highest: np.floating  # libm's sin and cos serve above
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
    break_bits: np.integer
    one_less_break_bits: np.integer
    four_bits: np.integer
    sign_mask: np.integer
    integer_zero: np.integer
    integer_one: np.integer
    integer_two: np.integer
    two_to_sign: np.integer  # how far to shift 2 for the sign bit
    # pi/2 in four parts, none negative (-0 stays -0); n times the first three is exact for all n up
    # to sine_highest, 2**11 in float32 and 2**24 in float64
    half_pi: tuple
    # Polynomials. Minimax for the relative error of what they are part of (erfc's: absolute), by
    # Remez's algorithm in 45 digits; then, where it helps, coefficients rounded one by one from the
    # lowest, the rest fitted anew after each.
    expm1: tuple  # (e**r - 1 - r) / r**2
    log: tuple  # (log(1 + f) - f + f**2 / 2) / f**3
    tanh: tuple  # (tanh(r) - r) / r**3, in r**2, |r| <= 0.26
    erf: tuple  # erf(x) / x - 1, in x**2
    log_erfc: tuple  # log(1 - erf(x))
    sine: tuple  # (sin(r) - r) / r**3, in r**2
    cosine: tuple  # (cos(r) - 1) / r**2, in r**2


def _constants(real, integer, ln2_high, ln2_low, *, tuples, **limits):
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
        "tanh_shift": 0.09,
        "tanh_slope": 3,
        "ln2": np.log(2),
        "log2e": 1 / np.log(2),
        "two_over_pi": 2 / np.pi,
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
        "sign_mask": np.iinfo(integer).min,
        "integer_zero": 0,
        "integer_one": 1,
        "integer_two": 2,
        "two_to_sign": info.bits - 2,
    }
    return Constants(
        **{name: real(value) for name, value in (floats | limits).items()},
        **{name: integer(value) for name, value in integers.items()},
        **{name: tuple(real(c) for c in values) for name, values in tuples.items()},
    )


_F32 = _constants(
    np.float32,
    np.int32,
    ln2_high=0.693359375,
    ln2_low=-2.12194440054690583e-4,
    exp_lowest=-104,
    exp_highest=89,
    exp2_lowest=-151,
    exp2_highest=129,
    expm1_lowest=-20,
    tanh_highest=9.5,
    erf_highest=4,
    erf_cut=1,
    sine_highest=3216,
    tiny=2.0**-30,
    tuples={
        "half_pi": (
            1.570556640625, 0.0002396702766418457, 1.5890691429376602e-08, 2.5633440682570896e-12,
        ),
        "expm1": (
            0.49999997, 0.16666539, 0.0416677557, 0.00836713426, 0.00138356397,
        ),
        "log": (
            0.333334506, -0.249995634, 0.199898601, -0.166670963, 0.145306215,
            -0.130125225, 0.0985160843, -0.0398283899,
        ),
        "tanh": (-0.333332158, 0.133227298, -0.0512303808),
        "erf": (
            0.128379166, -0.37612626, 0.112835787, -0.0268533472, 0.0051871622,
            -0.00079978531, 7.80690389e-05,
        ),
        "log_erfc": (
            -0.00035376483, -1.12703991, -0.638225794, -0.103037342, 0.0218053348,
            -0.00293961586, 0.000185574943,
        ),
        "sine": (-0.16666655, 0.008332189, -0.00019518277),
        "cosine": (-0.5, 0.041666646, -0.001388731, 2.4432327e-05),
    },
)  # fmt: skip

_F64 = _constants(
    np.float64,
    np.int64,
    ln2_high=0.69314718036912382,
    ln2_low=1.9082149292705877e-10,
    exp_lowest=-746,
    exp_highest=710,
    exp2_lowest=-1076,
    exp2_highest=1025,
    expm1_lowest=-40,
    tanh_highest=20,
    erf_highest=6,
    erf_cut=1,
    sine_highest=2.6e7,
    tiny=2.0**-60,
    tuples={
        "half_pi": (
            1.570796325802803, 9.920935774287987e-10, 2.2517417706346578e-18,
            3.5215598651832e-27,
        ),
        "expm1": (
            0.5, 0.16666666666666677, 0.041666666666666685, 0.008333333333321768,
            0.0013888888888891418, 0.00019841269885403107, 2.4801587285330852e-05,
            2.7557245112591724e-06, 2.7557323637886276e-07, 2.5108693827313022e-08,
            2.089573329318879e-09,
        ),
        "log": (
            0.3333333333333375, -0.25000000000010686, 0.19999999999851215,
            -0.16666666663776328, 0.14285714299752925, -0.12500000292359995,
            0.11111110787445483, -0.09999985496875455, 0.09090892427763408,
            -0.08333704325576706, 0.07693398882235787, -0.0713860741929598,
            0.06643272558100506, -0.062494303914636104, 0.060828113532513765,
            -0.059699032712656745, 0.050742142789807924, -0.02943533663951317,
            0.008108497548264475,
        ),
        "tanh": (
            -0.333333333333324197, 0.1333333333298787, -0.0539682535260305878,
            0.0218694616619798848, -0.00886236014039340491, 0.00357638866580631477,
            -0.00130757368016947252,
        ),
        "erf": (
            0.12837916709551256, -0.37612638903183343, 0.11283791670936949,
            -0.026866170641958616, 0.005223977596728696, -0.0008548325484500285,
            0.00012055280476692508, -1.4924465157126379e-05, 1.6444143331027278e-06,
            -1.6183925721972818e-07, 1.3616372786899407e-08, -7.607122805742354e-10,
        ),
        "log_erfc": (
            -5.136225252680323e-07, -1.128373988033773, -0.636644071593934,
            -0.10270224413731106, 0.018987954682028466, 0.00041365910086509035,
            -0.0019190760990778733, 0.000773150784044602, -0.0001366239527563021,
            -1.9488155841809662e-05, 2.2518882924318476e-05, -8.574353648059589e-06,
            2.1137138440664396e-06, -3.693633587044872e-07, 4.590567117278645e-08,
            -3.887422975124341e-09, 2.0188419722269738e-10, -4.861067537064204e-12,
        ),
        "sine": (
            -0.1666666666666663, 0.00833333333332184, -0.00019841269829358528,
            2.755731353851422e-06, -2.5050734389251683e-08, 1.58954332878852e-10,
        ),
        "cosine": (
            -0.5, 0.041666666666666595, -0.0013888888888873342, 2.480158728900208e-05,
            -2.755731421703865e-07, 2.0875705395933952e-09, -1.1358749228918425e-11,
        ),
    },
)  # fmt: skip

_CONSTANTS = {types.float32: _F32, types.float64: _F64}
_JIT = HELPER


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
    """x, rounder -> rounder + n, for its last bits, and r, with x = n ln2 + r."""

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
def exp2(k):
    """2**x."""

    def exp2(x):
        x = minimum(k.exp2_highest, maximum(k.exp2_lowest, x))
        rounded = x + k.rounder
        r = (x - (rounded - k.rounder)) * k.ln2
        q = fma(r, polynomial(r, k.expm1), k.one)  # (e**r - 1) / r
        return ldexp(fma(r, q, k.one), integer_sub(as_integer(rounded), k.rounder_bits))

    return exp2


@_elementary
def expm1(k):
    """e**x - 1, accurate near 0."""
    split = _split(k)
    rounder = k.biased_rounder - k.one

    def expm1(x):
        clamped = minimum(k.exp_highest, maximum(k.expm1_lowest, x))
        rounded, r = split(clamped, rounder)
        scale = as_float(shift_left(as_integer(rounded), k.mantissa))  # 2**n / 2: no overflow
        e = fma(r * r, polynomial(r, k.expm1), r)
        half_y = fma(scale, e, scale - k.half)
        return select(absolute(x) < k.tiny, x, half_y + half_y)

    return expm1


def _tanh_table():
    """Return (centers, values, coefficients of 5 powers) of `_tanh_by_table`, each 32 float32.

    Interval i holds the x whose exponent and first two bits of mantissa, as one number, are i
    modulo 32: from 1/16 to 10 four to an octave, and all smaller ones in the last before them,
    around 0. There ``tanh(x) = value + t (c0 + c1 t + ...)``, t = x - center: a center is such a
    float near the middle that its tanh is almost one, so it costs no digits; the polynomial
    interpolates.
    """
    centers, values, powers = np.zeros(32, np.float32), np.zeros(32, np.float32), np.zeros((5, 32))
    for i in range(_FIRST_INTERVAL, _FIRST_INTERVAL + 30):
        begin, end = np.array([i, i + 1], np.int32).__lshift__(21).view(np.float32).astype(float)
        if i == _FIRST_INTERVAL:
            begin = center = 0.0
        elif end > _F32.tanh_highest:  # as far as it goes; and tanh(10) is 1 in float32
            end, center = float(_F32.tanh_highest), 10.0
        else:
            near = np.float32((begin + end) / 2).view(np.int32) + np.arange(-99, 100, dtype="i4")
            exact = np.tanh(near.view(np.float32).astype(float))
            best = np.argmin(np.abs(exact - exact.astype(np.float32)))
            center = near.view(np.float32)[best].astype(float)
        centers[i % 32], values[i % 32] = center, np.tanh(center)

        def slope(t, center=center):
            """(tanh(center + t) - tanh(center)) / t, without cancellation."""
            return np.tanh(t) / t * (1 - np.tanh(center) * np.tanh(center + t))

        domain = [begin - center, end - center]
        fit = np.polynomial.Chebyshev.interpolate(slope, 4, domain)
        powers[:, i % 32] = fit.convert(kind=np.polynomial.Polynomial).coef
    return [centers, values, *powers.astype(np.float32)]


_FIRST_INTERVAL = int(np.float32(0.0625).view(np.int32) >> 21) - 1
_TANH_LOOKUPS = [make_lookup(column) for column in _tanh_table()] if VECTOR_BYTES == 64 else None


def _tanh_by_table(k):
    """Compute tanh without a division, in float32 with AVX-512, in half the time."""
    center_of, value_of, lookup_0, lookup_1, lookup_2, lookup_3, lookup_4 = _TANH_LOOKUPS
    first, to_interval = np.int32(_FIRST_INTERVAL), np.int32(21)

    def tanh(x):
        a = minimum(k.tanh_highest, absolute(x))
        i = integer_max(shift_right(as_integer(a), to_interval), first)
        t = a - center_of(i)
        p = fma(lookup_4(i), t, lookup_3(i))
        p = fma(p, t, lookup_2(i))
        p = fma(p, t, lookup_1(i))
        p = fma(p, t, lookup_0(i))
        return copysign(fma(p, t, value_of(i)), x)

    return tanh


@_elementary
def tanh(k):
    """Hyperbolic tangent."""
    if k is _F32 and VECTOR_BYTES == 64:
        return _tanh_by_table(k)
    # With FMA, ln2 / 2 as a float32 is near enough: it is wrong by 3e-9 of itself.
    is_near = k is _F32 and HAS_FMA
    high, low = -k.half * (k.ln2 if is_near else k.ln2_high), -k.half * k.ln2_low

    def tanh(x):
        # e**2a = 2**n (1 + t) / (1 - t), with t = tanh(r), a = n ln2 / 2 + r. Where n becomes 1 and
        # 2 tanh is beyond 1/4 and 1/2: just below these, an error counts twice as many ULP.
        a = minimum(k.tanh_highest, absolute(x))
        rounded = fma(a - k.tanh_shift, k.tanh_slope, k.biased_rounder)
        n = rounded - k.biased_rounder
        r = fma(n, high, a)
        if not is_near:
            r = fma(n, low, r)
        square = r * r
        t = fma(r * square, polynomial(square, k.tanh), r)
        # tanh(a) = numerator / (numerator + 2 (1 - t)): the larger it is, the less does an error of
        # the numerator, which is on both sides, matter.
        scale = as_float(shift_left(as_integer(rounded), k.mantissa))
        numerator = fma(t, scale + k.one, scale - k.one)
        y = numerator / (numerator + fma(t, -k.two, k.two))
        sign = integer_and(as_integer(x), k.sign_mask)
        return as_float(integer_add(as_integer(y), sign))  # one instruction less than copysign

    return tanh


@_elementary
def sigmoid(k):
    """1 / (1 + e**-x)."""
    split = _split(k)

    def sigmoid(x):
        a = -minimum(-k.exp_lowest, absolute(x))
        rounded, r = split(a, k.biased_rounder)
        # e**a = 2**n e**r = 2**n (high + low)
        q = fma(r, polynomial(r, k.expm1), k.one)  # (e**r - 1) / r
        high = fma(r, q, k.one)
        low = fma(r, q, k.one - high)
        # 1 + e**a = total + total_low. Such an n that 2**n is subnormal does not matter to it.
        bits = as_integer(maximum(k.smallest_biased_rounder, rounded))
        scale = as_float(shift_left(bits, k.mantissa))
        term = scale * high
        total = k.one + term
        total_low = fma(scale, low, term - (total - k.one))
        # (high + low) / (total + total_low): a quotient, corrected by its remainder
        inverse = k.one / total
        quotient = high * inverse
        remainder = fma(-quotient, total, high) + fma(-quotient, total_low, low)
        quotient = fma(remainder, inverse, quotient)
        small = ldexp(quotient, integer_sub(as_integer(rounded), k.biased_rounder_bits))
        return select(x < k.zero, small, k.one - small)

    return sigmoid


def _log_sum(k):
    """n, f -> n ln2 + log(1 + f)."""

    @register_jitable(**_JIT)
    def log_sum(n, f):
        square = f * f
        y = fma(n, k.ln2_low, square * fma(f, polynomial(f, k.log), -k.half))
        total = fma(n, k.ln2_high, f)
        lost = f - fma(-n, k.ln2_high, total)  # by rounding `total`; exact
        return total + (lost + y)

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
        q = fma(r, polynomial(r, k.expm1), k.one)  # (e**r - 1) / r
        large = fma(-scale, fma(r, q, k.one), k.one)
        return copysign(select(a < k.erf_cut, small, large), x)

    return erf


def _sine(k, quarters, libm):
    """x -> sin(x + quarters pi/2), which is libm(x)."""
    part_1, part_2, part_3, part_4 = k.half_pi

    def sine(x):
        rounded = fma(x, k.two_over_pi, k.rounder)
        n = rounded - k.rounder
        # x - n pi/2 = high + low. The first three parts are so short that n times each is exact,
        # and so is r_1. r_2 and `high` are where they cancel; elsewhere what rounding took from
        # them is. So r is right to its last bits even next to a multiple of pi/2, without FMA too.
        r_1 = fma(n, -part_1, x)
        r_2 = fma(n, -part_2, r_1)
        high = fma(n, -part_3, r_2)
        lost = fma(n, -part_2, r_1 - r_2) + fma(n, -part_3, r_2 - high)
        low = fma(n, -part_4, lost)
        square = fma(high, high, (high + high) * low)
        odd = high + fma(high * square, polynomial(square, k.sine), low)
        odd = copysign(odd, high)  # of zeros
        even = fma(square, polynomial(square, k.cosine), k.one)
        quarter = integer_add(as_integer(rounded), quarters)
        y = select(integer_test(quarter, k.integer_one), even, odd)
        sign = shift_left(integer_and(quarter, k.integer_two), k.two_to_sign)
        y = as_float(integer_add(as_integer(y), sign))
        beyond = absolute(x) > k.sine_highest
        if any_lane(beyond):
            y = select(beyond, libm(x), y)
        return y

    return sine


@_elementary
def sin(k):
    """Sine."""
    return _sine(k, k.integer_zero, libm_sin)


@_elementary
def cos(k):
    """Cosine."""
    return _sine(k, k.integer_one, libm_cos)
