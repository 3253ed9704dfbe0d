"""The elementary functions: special values, errors in ULP, same bits wherever a value stands."""

import math

import numba
import numpy as np
import pytest
from deltajit.kernels.compiler import OPTIONS
from deltajit.kernels.simd import elementary, ulp
from deltajit.kernels.simd.vectors import (
    LANES_F32,
    LANES_F64,
    lanes,
    load,
    load_masked,
    store,
    store_masked,
)

from tests.helpers.networks import DTYPES

NAMES = list(ulp.BOUNDS)
LANES = {"float32": LANES_F32, "float64": LANES_F64}
INTEGERS = {"float32": np.uint32, "float64": np.uint64}
inf, nan = math.inf, math.nan

# (x, f(x)), exact in both precisions.
SPECIAL = {
    "exp": [(0.0, 1), (-0.0, 1), (inf, inf), (-inf, 0.0), (1e30, inf), (-1e30, 0.0)],
    "exp2": [
        (0.0, 1),
        (-0.0, 1),
        (inf, inf),
        (-inf, 0.0),
        (1e30, inf),
        (-1e30, 0.0),
        (10, 1024),
        (-100, 2.0**-100),
        (127, 2.0**127),
        (-149, 2.0**-149),
    ],
    "expm1": [(0.0, 0.0), (-0.0, -0.0), (inf, inf), (-inf, -1), (1e30, inf), (-1e30, -1)],
    "log": [(1, 0.0), (0.0, -inf), (-0.0, -inf), (inf, inf), (-1, nan), (-inf, nan)],
    "log1p": [(0.0, 0.0), (-0.0, -0.0), (-1, -inf), (inf, inf), (-1.5, nan), (-inf, nan)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (inf, 1), (-inf, -1), (1e30, 1), (-1e30, -1)],
    "sigmoid": [(0.0, 0.5), (-0.0, 0.5), (inf, 1), (-inf, 0.0), (1e30, 1), (-1e30, 0.0)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (inf, 1), (-inf, -1), (1e30, 1), (-1e30, -1)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (inf, nan), (-inf, nan)],
    "cos": [(0.0, 1), (-0.0, 1), (inf, nan), (-inf, nan)],
}


def _jitted(name):
    """Jitted f(x): y[0] by whole vectors, y[1] by masked ones of `tail` lanes, y[2] by scalars."""
    f = getattr(elementary, name)

    @numba.njit(**OPTIONS)
    def evaluate(x, y, tail):
        for i in range(0, x.size, lanes(x)):
            store(y[0], i, f(load(x, i)))
        for i in range(0, x.size, tail):
            count = min(tail, x.size - i)
            store_masked(y[1], i, f(load_masked(x, i, count)), count)
        for i in range(x.size):
            y[2, i] = f(x[i])

    return evaluate


# One compilation for each function and dtype: a few seconds in all, more than any test here.
EVALUATE = {name: _jitted(name) for name in NAMES}


def evaluate(name, x, tail=1):
    """f(x), the same bits as whole vectors, as masked vectors of `tail` lanes and as scalars."""
    dtype = x.dtype.name
    padded = np.concatenate([x, np.ones(-x.size % LANES[dtype], dtype)])
    y = np.empty((3, padded.size), dtype)
    EVALUATE[name](padded, y, tail)
    bits = np.where(np.isnan(y), np.array(nan, dtype), y).view(INTEGERS[dtype])
    different = np.flatnonzero((bits[0] != bits[1]) | (bits[0] != bits[2]))
    assert not different.size, (padded[different[0]], y[:, different[0]])
    return y[0, : x.size]


def inputs(dtype, count):
    """Special values; evenly spaced bit patterns (every exponent); and where functions bend."""
    info = np.finfo(dtype)
    patterns = np.linspace(0, 2.0**info.bits, count // 2, endpoint=False)
    usual = np.linspace(-40, 40, count // 4)
    small = np.geomspace(1e-6, -math.log(info.smallest_subnormal), count // 8)
    parts = [part.astype(dtype) for part in (usual, small, -small)]
    patterns = patterns.astype(INTEGERS[dtype]).view(dtype)
    return np.concatenate([ulp.special_values(info.dtype.type), patterns, *parts])


def precise(name, x):
    """f(x) in extended precision, for float64 `x`: some 11 bits more."""
    x = x.astype(np.longdouble)
    if name == "sigmoid":
        e = np.exp(-np.abs(x))
        return np.where(x < 0, e, 1) / (1 + e)
    if name != "erf":
        return getattr(np, name)(x)
    # 2 / sqrt(pi) e**-x**2 (x + 2/3 x**3 + 4/15 x**5 + ...): no term is negative, nothing cancels
    a = np.minimum(np.abs(x), 7)
    term = total = a
    for n in range(3, 401, 2):
        term = term * (2 * a * a / n)
        total = total + term
    erf = 2 / np.sqrt(np.longdouble("3.14159265358979323846")) * np.exp(-a * a) * total
    return np.copysign(np.where(a < 7, erf, np.where(np.isnan(x), x, 1)), x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_special_values(name, dtype):
    x, y = np.array([*SPECIAL[name], (nan, nan)], dtype).T
    found = evaluate(name, x)
    np.testing.assert_array_equal(found, y)
    number = ~np.isnan(y)
    np.testing.assert_array_equal(np.signbit(found[number]), np.signbit(y[number]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_subnormals_come_in(dtype):
    """Where f(x) = x + O(x**2) a subnormal is its own image: none is taken for zero."""
    info = np.finfo(dtype)
    x = info.smallest_subnormal * np.array([1, 2, 3, 12345, 2.0**info.nmant], dtype)
    for name in ("expm1", "log1p", "tanh", "sin"):
        np.testing.assert_array_equal(evaluate(name, x), x, err_msg=name)
        np.testing.assert_array_equal(evaluate(name, -x), -x, err_msg=name)
    np.testing.assert_allclose(evaluate("erf", x), 1.12838 * x, rtol=1e-5, atol=x[0])
    np.testing.assert_allclose(evaluate("log", x), np.log(x.astype(float)), rtol=2 * info.eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ends_of_the_range(dtype):
    """Overflow and underflow come where they must, not before."""
    info = np.finfo(dtype)
    near = 1 + 4 * info.eps
    top = np.log(info.max)
    bottom = np.log(info.smallest_subnormal) - np.log(info.dtype.type(2))  # of half of it
    x = np.array([top / near, top * near, bottom / near, bottom * near], dtype)
    for name in ("exp", "expm1"):
        largest, beyond = evaluate(name, x)[:2]
        assert 0.99 * info.max < largest <= info.max, name
        assert beyond == inf, name
    for name in ("exp", "sigmoid"):
        np.testing.assert_array_equal(evaluate(name, x)[2:], [info.smallest_subnormal, 0])
    # Results between: steps of one subnormal, not of one normal number
    x = np.linspace(bottom, np.log(info.tiny), 1000, dtype=dtype)
    for name in ("exp", "sigmoid"):
        y = evaluate(name, x)
        np.testing.assert_allclose(y, np.exp(x), rtol=2 * info.eps, atol=info.smallest_subnormal)


@pytest.mark.parametrize("name", NAMES)
def test_error_f32(name):
    """At about 2**18 inputs; `python -m deltajit.kernels.simd.ulp` takes all 2**32."""
    x = inputs("float32", 2**18)
    y = evaluate(name, x)
    with np.errstate(all="ignore"):
        error, i = ulp.worst_f32(y, ulp.reference_f64(name)(x.astype(np.float64)))
    assert error <= ulp.BOUNDS[name], x[i]


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="no extended precision here")
@pytest.mark.parametrize("name", NAMES)
def test_error_f64(name):
    x = inputs("float64", 2**15)
    y = evaluate(name, x)
    with np.errstate(all="ignore"):
        want = precise(name, x)
        finite = np.isfinite(y) & np.isfinite(want)
        np.testing.assert_array_equal(y[~finite], want[~finite].astype(np.float64))
        ulps = np.ldexp(np.longdouble(1), np.maximum(np.frexp(want)[1], -1021) - 53)
        error = np.where(finite, np.abs(y - want) / ulps, 0)
    assert error.max() <= ulp.BOUND_F64, x[error.argmax()]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_next_to_multiples_of_half_pi(name, dtype):
    """Where all digits cancel but those that most reductions lose, and where libm takes over."""
    mpmath = pytest.importorskip("mpmath")
    real, highest = np.dtype(dtype).type, {"float32": 3216, "float64": 2.6e7}[dtype]
    n = np.concatenate([np.arange(1, 100), np.geomspace(100, highest, 500).round()])
    # the nearest to such multiples: of all float64 up to 2.6e7, of all float32 up to 3216
    nearest = [45.553093477052, 14461176.67027838, 490807.8786776798, 252.89820861816406]
    x = np.concatenate([n * (np.pi / 2), (n + 0.5) * (np.pi / 2), nearest, [highest]]).astype(dtype)
    x = np.concatenate([x, np.nextafter(x, real(0)), np.nextafter(x, real(inf))])
    x = np.concatenate([x, -x])
    error = []
    for xi, yi in zip(x.tolist(), evaluate(name, x).tolist(), strict=True):
        with mpmath.workprec(200):
            want = getattr(mpmath, name)(mpmath.mpf(xi))
            ulp_of_want = mpmath.ldexp(1, mpmath.frexp(want)[1] - np.finfo(dtype).nmant - 1)
            error.append(abs(mpmath.mpf(yi) - want) / ulp_of_want)
    bound = ulp.BOUNDS[name] if dtype == "float32" else ulp.BOUND_F64
    assert max(error) <= bound, x[np.argmax(error)]


def test_the_check_itself_with_mpmath(capsys):
    pytest.importorskip("mpmath")
    assert ulp.main(["log1p", "--sample", "65536"]) == 0
    assert capsys.readouterr().out.count("ok") == 2


def test_errors_are_measured_in_ulp():
    one = np.ones(3, np.float32)
    y = np.array([1, 1 + 2**-23, 1 - 2**-24], np.float32)
    assert ulp.worst_f32(y, one.astype(float)) == (1.0, 1)
    assert ulp.worst_f32(one, np.full(3, 1 - 2.0**-25)) == (0.5, 0)
    subnormal = np.array([3 * 2.0**-149], np.float32)
    assert ulp.worst_f32(subnormal, np.array([4.5 * 2.0**-149])) == (1.5, 0)
    for got, want, error in [
        (inf, 1e39, 0), (inf, 2.0**128 - 2.0**103, 0.5), (0.0, -0.0, inf), (nan, 1.0, inf),
        (1.0, nan, inf), (nan, nan, 0), (-inf, inf, inf), (np.finfo("f4").max, 1e39, 1),
    ]:  # fmt: skip
        assert ulp.worst_f32(np.array([got], np.float32), np.array([want]))[0] == error


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_same_bits_in_every_lane_tail_and_scalar(name, dtype):
    x = np.random.default_rng(0).normal(scale=4, size=4 * LANES[dtype]).astype(dtype)
    x[::7] *= 1e9  # sin and cos go to libm with these, and with no others
    y = evaluate(name, x)
    for k in range(1, LANES[dtype]):
        rolled = evaluate(name, np.roll(x, k), tail=k + 1)  # raises if its three ways differ
        np.testing.assert_array_equal(rolled, np.roll(y, k))
