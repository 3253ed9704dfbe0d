"""Each primitive of vectors against NumPy, for vectors and for scalars; what memory they touch."""

import ctypes
import math
import mmap
import sys

import numba
import numpy as np
import pytest
from deltajit.kernels.compiler import OPTIONS
from deltajit.kernels.simd import vectors
from deltajit.kernels.simd.vectors import (
    HAS_FMA,
    LANES_F32,
    LANES_F64,
    VECTOR_BYTES,
    absolute,
    accumulate,
    any_lane,
    as_float,
    as_integer,
    broadcast,
    copysign,
    count,
    first_lanes,
    fma,
    integer_add,
    integer_and,
    integer_max,
    integer_sub,
    integer_test,
    lanes,
    ldexp,
    load,
    load_masked,
    make_lookup,
    maximum,
    minimum,
    polynomial,
    reduce_add,
    reduce_max,
    select,
    shift_left,
    shift_right,
    sqrt,
    store,
    store_masked,
)

from tests.helpers.networks import DTYPES

LANES = {"float32": LANES_F32, "float64": LANES_F64}
INTEGERS = {"float32": np.int32, "float64": np.int64}
inf, nan = math.inf, math.nan


def jit(function):
    return numba.njit(**OPTIONS)(function)


@jit
def arithmetic(x, y, z):
    return (
        -x, x + y, x - y, x * y, x / y, x * y + z,
        sqrt(absolute(x)), absolute(x), copysign(x, y), maximum(x, y), minimum(x, y),
    )  # fmt: skip


def arithmetic_numpy(x, y, z):
    def extreme(first):  # of two equal ones the second; NaN if there is one
        return np.where(np.isnan(x), x, np.where(first, x, y))

    return (
        -x, x + y, x - y, x * y, x / y, x * y + z,
        np.sqrt(np.abs(x)), np.abs(x), np.copysign(x, y),
        extreme(x > y), extreme(x < y),
    )  # fmt: skip


@jit
def comparisons(x, y, z):
    return (
        select(x < y, x, z), select(x <= y, x, z), select(x > y, x, z),
        select(x >= y, x, z), select(x == y, x, z), select(x != y, x, z),
    )  # fmt: skip


def comparisons_numpy(x, y, z):
    masks = x < y, x <= y, x > y, x >= y, x == y, x != y
    return tuple(np.where(mask, x, z) for mask in masks)


@jit
def bits(x, y, z):
    i, j = as_integer(x), as_integer(y)
    five = as_integer(z)
    return (
        as_float(i), as_float(integer_add(i, j)), as_float(integer_sub(i, j)),
        as_float(integer_and(i, j)), as_float(shift_left(i, five)), as_float(shift_right(i, five)),
        select(integer_test(i, j), x, y),
    )  # fmt: skip


def bits_numpy(x, y, z):
    integer = INTEGERS[x.dtype.name]
    i, j, five = (a.view(integer) for a in (x, y, z))
    logical = i.view(integer(0).dtype.str.replace("i", "u")) >> five.astype(f"u{i.itemsize}")
    chosen = np.where(i & j, i, j)
    return tuple(a.view(x.dtype) for a in (i, i + j, i - j, i & j, i << five, logical, chosen))


def both_ways(function):
    """Jitted: out[0] = function(x, y, z) of vectors, out[1] of scalars."""

    @jit
    def run(x, y, z, out):
        for i in range(0, x.size, lanes(x)):
            results = function(load(x, i), load(y, i), load(z, i))
            for k in range(len(results)):
                store(out[0, k], i, results[k])
        for i in range(x.size):
            results = function(x[i], y[i], z[i])
            for k in range(len(results)):
                out[1, k, i] = results[k]

    return run


def operands(dtype):
    """Triples of ordinary and special values, in whole vectors."""
    special = [0.0, -0.0, 1, -1, 0.5, 1.5, 2.5, -2.5, inf, -inf, nan, np.finfo(dtype).tiny / 4]
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.array(special, dtype), np.array(special, dtype))
    x = np.concatenate([x.ravel(), rng.normal(size=112).astype(dtype)])
    y = np.concatenate([y.ravel(), rng.normal(size=112).astype(dtype)])
    assert x.size % LANES[dtype] == 0
    return x, y, rng.normal(size=x.size).astype(dtype)


def assert_same(found, expected, message=""):
    """Equal with equal signs of zero; NaN equals NaN."""
    np.testing.assert_array_equal(found, expected, err_msg=message)
    number = ~np.isnan(expected)
    signs = np.signbit(found[number]), np.signbit(expected[number])
    np.testing.assert_array_equal(*signs, err_msg=message)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("function", "expected"),
    [(arithmetic, arithmetic_numpy), (comparisons, comparisons_numpy), (bits, bits_numpy)],
    ids=["arithmetic", "comparisons", "bits"],
)
def test_primitives_against_numpy(function, expected, dtype):
    x, y, z = operands(dtype)
    if function is bits:
        z = np.full(x.size, 5, INTEGERS[dtype]).view(dtype)
    with np.errstate(all="ignore"):
        want = np.array(expected(x, y, z))
    out = np.empty((2, *want.shape), dtype)
    both_ways(function)(x, y, z, out)
    for k in range(len(want)):
        for way in range(2):
            assert_same(out[way, k], want[k], f"result {k}, {('vectors', 'scalars')[way]}")


@jit
def mixed(x, s, coefficients, out):
    v = load(x, 0)
    results = (
        v + s, s + v, v - s, s - v, v * s, s / v, fma(v, s, s), maximum(s, v), minimum(v, s),
        select(v < s, s, v), select(s < v, v, s), broadcast(2, v), broadcast(s, x),
        polynomial(v, coefficients),
    )  # fmt: skip
    for k in range(len(results)):
        store(out[k], 0, results[k])
    store(out[len(results)], 0, s)
    return reduce_add(v), fma(s, s, -x[0]), polynomial(s, coefficients), lanes(v)


@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors_mixed_with_scalars(dtype):
    """A scalar counts as a vector of equal lanes; reduce_add's order; FMA; polynomial."""
    real, eps, count = np.dtype(dtype).type, np.finfo(dtype).eps, LANES[dtype]
    s = real(1 + eps)
    x = np.random.default_rng(0).normal(size=count).astype(dtype)
    x[0] = 1 + 2 * eps
    coefficients = tuple(real(c) for c in (0.5, -0.25, 3, 2, -1, 0.125))
    out = np.empty((15, count), dtype)
    total, fused, value, found = mixed(x, s, coefficients, out)

    small, large = np.minimum(x, s), np.maximum(x, s)
    full = np.full(count, s)
    exact = [
        x + s, x + s, x - s, s - x, x * s, s / x, None, large, small, large, large,
        np.full(count, 2, dtype), full, None, full,
    ]  # fmt: skip
    for k, want in enumerate(exact):
        if want is not None:
            np.testing.assert_array_equal(out[k], want, err_msg=f"result {k}")
    np.testing.assert_allclose(out[6], x * s + s, atol=2 * eps)
    np.testing.assert_allclose(out[13], np.polyval(coefficients[::-1], x), atol=100 * eps)
    np.testing.assert_allclose(value, np.polyval(coefficients[::-1], s), atol=100 * eps)
    assert found == count == VECTOR_BYTES // real().itemsize
    assert fused == (real(eps * eps) if HAS_FMA else 0)  # (1 + eps)**2 - (1 + 2 eps)

    while x.size > 1:
        x = x[: x.size // 2] + x[x.size // 2 :]
    assert total == x[0]


@jit
def scaled(x, n, out):
    for i in range(0, x.size, lanes(x)):
        store(out[0], i, ldexp(load(x, i), as_integer(load(n, i))))
    for i in range(x.size):
        out[1, i] = ldexp(x[i], as_integer(n[i]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_ldexp_rounds_once_and_overflows(dtype):
    info = np.finfo(dtype)
    lowest = info.minexp - info.nmant  # exponent of the smallest subnormal
    n = [0, 1, -1, info.maxexp - 1, info.maxexp, 2 * info.maxexp - 2]
    n += [info.minexp, info.minexp - 1, lowest, lowest - 1, lowest - 2, 2 * info.minexp]
    n = np.array([*n, *[0] * 4], INTEGERS[dtype])
    for x in (1, 1.5, 1.2345678, 0.75, -1.75, inf, nan):
        x = np.full(n.size, x, dtype)
        out = np.empty((2, n.size), dtype)
        scaled(x, n.view(dtype), out)
        with np.errstate(all="ignore"):
            want = np.ldexp(x, n)
        assert_same(out[0], want)
        assert_same(out[1], want)


def test_nothing_is_promoted():
    """A float64 scalar doesn't silently widen, or narrow to, a float32 vector."""

    @jit
    def wrong(x):
        store(x, 0, load(x, 0) * 0.5)

    with pytest.raises(numba.TypingError):
        wrong(np.zeros(LANES_F32, np.float32))


@jit
def copy(source, i, target, j, count):
    store_masked(target, j, load_masked(source, i, count), count)


@jit
def fill(target, j, value, count):
    store_masked(target, j, value, count)


@jit
def first(source, i, count, out):
    store(out, 0, load_masked(source, i, count))


@pytest.mark.parametrize("dtype", DTYPES)
def test_masked_access_leaves_other_lanes_alone(dtype):
    count = LANES[dtype]
    source = np.arange(1, count + 4, dtype=dtype)
    for k in range(count + 1):
        out = np.full(count, nan, dtype)
        first(source, 3, k, out)
        np.testing.assert_array_equal(out, np.append(source[3 : 3 + k], np.zeros(count - k)))
        target = np.full(count + 9, nan, dtype)
        before = target.tobytes()
        fill(target, 5, target.dtype.type(7), k)
        assert np.flatnonzero(target == 7).tolist() == list(range(5, 5 + k))
        target[5 : 5 + k] = nan
        assert target.tobytes() == before


@pytest.fixture
def guarded():
    """Bytes of a page between two pages that must not be touched: whoever does, is killed."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs mprotect")
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 3 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for guard in (start, start + 2 * page):
        assert protect(guard, page, 0) == 0  # PROT_NONE
    yield np.frombuffer(memory, np.uint8)[page : 2 * page]
    for guard in (start, start + 2 * page):
        assert protect(guard, page, mmap.PROT_READ | mmap.PROT_WRITE) == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_masked_access_at_the_ends_of_a_page(guarded, dtype):
    """Dead lanes touch no memory, also where there is none, and need not be aligned."""
    array, count = guarded.view(dtype), LANES[dtype]
    array[:] = np.arange(array.size)
    other = np.full(count, -1, dtype)
    for k in range(count + 1):
        copy(array, array.size - k, other, 0, k)  # with k = 0 the whole vector is out of bounds
        np.testing.assert_array_equal(other[:k], array[array.size - k :])
        copy(other, 0, array, array.size - k, k)
        fill(array, array.size - k, array.dtype.type(1), k)
        assert (array[array.size - k :] == 1).all()
        array[:] = np.arange(array.size)
    copy(array, -count, other, 0, 0)
    copy(other, 0, array, -count, 0)
    np.testing.assert_array_equal(array, np.arange(array.size))


def test_target():
    """Vectors are registers: as wide as they get here, and no wider."""
    assert VECTOR_BYTES in (16, 32, 64)
    assert vectors.LANES_F32 == 2 * LANES_F64 == VECTOR_BYTES // 4


@jit
def lane_by_lane(x, total, i):
    v = load(x, 0)
    zero = broadcast(0, x)
    store(total, 0, accumulate(load(total, 0), v))
    below = select(first_lanes(i, x), v, zero)
    return reduce_max(v), count(v > zero), count(first_lanes(i, x)), reduce_add(below)


@pytest.mark.parametrize("dtype", DTYPES)
def test_lanes_one_by_one(dtype):
    n = LANES[dtype]
    rng = np.random.default_rng(5)
    for i in range(n):
        x = rng.normal(size=n).astype(dtype)
        total = rng.normal(size=LANES_F64)
        expected_total = total + x.astype(float).reshape(-1, LANES_F64).sum(axis=0)
        largest, positive, first, below = lane_by_lane(x, total, i)
        assert (largest, positive, first) == (x.max(), (x > 0).sum(), i)
        assert below == pytest.approx(x[:i].sum(), rel=1e-5, abs=1e-6)
        np.testing.assert_allclose(total, expected_total, rtol=1e-15, atol=1e-15)


def test_no_lanes_and_more_than_all():
    x, total = np.ones(LANES_F32, "f4"), np.zeros(LANES_F64)
    assert lane_by_lane(x, total, -3)[2] == 0
    assert lane_by_lane(x, total, 99 * LANES_F32)[2] == LANES_F32


@jit
def some(x, i):
    v = load(x, 0)
    return any_lane(v > broadcast(0, x)), any_lane(first_lanes(i, x)), any_lane(x[0] > 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_lane(dtype):
    n = LANES[dtype]
    for i in range(n):
        x = np.zeros(n, dtype)
        assert some(x, i) == (False, i > 0, False)
        x[i] = 1
        assert some(x, i) == (True, i > 0, i == 0)


@jit
def larger(a, b):
    return integer_max(a, b)


def test_integer_max():
    for a, b in ((-3, 2), (7, -7), (4, 4)):
        assert larger(np.int32(a), np.int32(b)) == max(a, b)


@pytest.mark.skipif(VECTOR_BYTES != 64, reason="an instruction of AVX-512")
def test_lookup():
    table = np.random.default_rng(6).normal(size=32).astype("f4")
    lookup = make_lookup(table)

    @jit
    def look(x, out):
        store(out, 0, lookup(as_integer(load(x, 0))))
        return lookup(as_integer(x[1]))

    index = np.arange(-5, 11, dtype="i4") * 3
    out = np.empty(16, "f4")
    assert look(index.view("f4"), out) == table[index[1] % 32]
    np.testing.assert_array_equal(out, table[index % 32])
