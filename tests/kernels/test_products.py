"""Products by tiles against clear loops, over awkward shapes; and whose bits depend on what."""

import itertools

import numba
import numpy as np
import pytest
from deltajit.kernels.blocks import BIG, MC, SHALLOW
from deltajit.kernels.gemm.matmul import (
    Part,
    column_sum_add,
    matmul,
    matmul_bias,
    matmul_rows,
    matmul_transposed,
    outer_add,
    whole,
)
from deltajit.kernels.simd.vectors import VECTOR_BYTES

from tests.helpers.networks import DTYPES, awkward

# Above and below the heights of all tiles and blocks, the depth of a panel, and what is packed.
LARGE = [(64, 300, 70), (25, 129, 49), (13, 257, 1), (5, 400, 200), (2 * MC + 5, 20, 33)]
# All depths of strips that keep b in registers; odd rows, columns that overlap or end half a step.
LARGE += [(23, k, n) for k in range(1, SHALLOW + 2) for n in (10, 30, 48)]


@numba.njit
def clear_loops(base, scale, a, b, c):
    """The oracle: ``c = base + scale * a @ b`` in float64."""
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            total = 0.0
            for k in range(a.shape[1]):
                total += np.float64(a[i, k]) * np.float64(b[k, j])
            c[i, j] = base[i, j] + scale * total


def every_product(a, b, bias, c, scale, first, count):
    """a @ b, a @ b + bias, rows of c + scale * a @ b, c + scale * column sums of b."""
    return _every_product(a, a.T.copy(), b, bias, c, scale, first, count)


@numba.njit
def _every_product(a, a_T, b, bias, c, scale, first, count):
    plain, biased, added = np.empty_like(c), np.empty_like(c), c.copy()
    matmul(a, b, plain)
    matmul_bias(a, b, bias, biased, whole(biased))
    outer_add(a_T, b, scale, added, Part(first, count, 0, c.shape[1]))
    summed = bias.copy()
    column_sum_add(b, scale, summed, 0, summed.size)
    return plain, biased, added, summed


@numba.njit
def product_alone(a, b, c):
    matmul(a, b, c)


def operands(dtype, m, k, n, seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((m, k), (k, n), (n,), (m, n))
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def expect(base, scale, a, b, dtype):
    """(value, the largest error that rounding may leave) of ``base + scale * a @ b``."""
    base = np.broadcast_to(base, (a.shape[0], b.shape[1])).astype(float)
    value, size = np.empty_like(base), np.empty_like(base)
    clear_loops(base, scale, a, b, value)
    clear_loops(np.abs(base), abs(scale), np.abs(a), np.abs(b), size)
    return value, 8 * np.finfo(dtype).eps * size


def assert_within(found, expected, case):
    value, error = expected
    assert (np.abs(found - value) <= error).all(), case


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_are_those_of_clear_loops(dtype):
    for m, k, n in [*itertools.product(awkward(dtype), repeat=3), *LARGE]:
        a, b, bias, c = operands(dtype, m, k, n)
        first, scale = m // 3, c.dtype.type(-0.3)
        count = m - first - m // 4
        plain, biased, added, summed = every_product(a, b, bias, c, scale, first, count)
        assert_within(plain, expect(0.0, 1.0, a, b, dtype), (m, k, n))
        assert_within(biased, expect(bias, 1.0, a, b, dtype), (m, k, n))
        part = slice(first, first + count)
        assert_within(added[part], expect(c[part], scale, a[part], b, dtype), (m, k, n))
        np.testing.assert_array_equal(
            np.delete(added, np.r_[part], 0), np.delete(c, np.r_[part], 0)
        )
        ones = np.ones((1, k), dtype)
        assert_within(summed[None], expect(bias, scale, ones, b, dtype), (m, k, n))


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_transposed_operand_is_packed(dtype):
    """More than 1 MB of a, wide b: the path that packs blocks of a's columns."""
    k, m, n = 600, 700, 161
    a, b, bias, c = operands(dtype, m, k, n)
    assert a.nbytes >= BIG * VECTOR_BYTES
    outer = every_product(a, b, bias, c, c.dtype.type(1), 0, m)[2]
    assert_within(outer, expect(c, 1.0, a, b, dtype), "packed")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1453, 4097])  # the last of as many equal blocks would have one
def test_nothing_is_written_beyond_the_last_row(dtype, rows):
    a, b, _, c = operands(dtype, rows + 16, 1, 64)
    beyond = c[rows:].copy()
    product_alone(a[:rows], b, c[:rows])
    np.testing.assert_array_equal(c[rows:], beyond)
    np.testing.assert_array_equal(c[:rows], a[:rows] * b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_of_an_element_depend_on_its_row_and_column_alone(dtype):
    a, b, bias, c = operands(dtype, 70, 300, 150)
    whole = every_product(a, b, bias, c, c.dtype.type(0.5), 0, 70)[:2]
    for i, m, j, n in itertools.product((0, 1, 69), (1, 5, 6, 23, 40), (0, 7, 133), (17, 64)):
        m, n = min(m, 70 - i), min(n, 150 - j)
        part = a[i : i + m].copy(), b[:, j : j + n].copy(), bias[j : j + n].copy()
        found = every_product(*part, c[i : i + m, j : j + n].copy(), c.dtype.type(0.5), 0, m)[:2]
        for x, y in zip(found, whole, strict=True):
            np.testing.assert_array_equal(x, y[i : i + m, j : j + n])


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_of_a_row_of_few_columns_depend_on_it_alone(dtype):
    """Columns that share a vector have several chains each; of rows there may be any number."""
    for n, k in itertools.product((2, 3, 4, 5, 7, 8), (1, 2, 3, 300, 517)):
        a, b, bias, c = operands(dtype, 70, k, n)
        whole = every_product(a, b, bias, c, c.dtype.type(0.5), 0, 70)[1]
        for i, m in itertools.product((0, 1, 45), (1, 2, 5, 7, 16, 23)):
            part = a[i : i + m].copy(), b, bias, c[i : i + m].copy()
            found = every_product(*part, c.dtype.type(0.5), 0, m)[1]
            np.testing.assert_array_equal(found, whole[i : i + m])


@numba.njit
def both_transposed(a, b, by_tiles, by_rows):
    """a @ b.T in two ways."""
    matmul_transposed(a, b, by_tiles, whole(by_tiles))
    matmul_rows(a, b, by_rows)


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_with_a_transpose(dtype):
    sizes = awkward(dtype)
    shapes = [
        *itertools.product((1, 3, 7, 23), sizes, sizes),
        (40, 300, 70),
        (17, 513, 33),
        (MC + 1, 9, 50),
    ]
    for m, k, n in shapes:
        a, b, _, _ = operands(dtype, m, k, n)
        by_tiles, by_rows = np.full((2, m, n), np.nan, dtype)
        both_transposed(a, b.T.copy(), by_tiles, by_rows)
        expected = expect(0.0, 1.0, a, b, dtype)
        assert_within(by_tiles, expected, (m, k, n))
        assert_within(by_rows, expected, (m, k, n))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_a_product_with_a_transpose_have_their_own_bits(dtype):
    """Threads cut the rows anywhere."""
    a, b, _, whole = operands(dtype, 70, 300, 150)
    by_rows = np.empty_like(whole)
    both_transposed(a, b.T.copy(), whole, by_rows)
    for i, m in itertools.product((0, 1, 66), (1, 2, 4)):
        part = np.empty_like(whole[i : i + m])
        both_transposed(a[i : i + m].copy(), b.T.copy(), part, by_rows[:m])
        np.testing.assert_array_equal(part, whole[i : i + m])
