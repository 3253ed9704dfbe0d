"""Products of arrays as the layers need them: which way each of them goes, and which part of it."""

from typing import NamedTuple

from ..abi import Word
from ..blocks import INNER, TRANSPOSED, group_of, way_forward, way_gradient
from ..compiler import inlined
from ..simd.vectors import lanes
from ..simd.views import flat, row, rows
from .narrow import matvec, narrow_outer_add, product_by_2, product_by_4, sum_add
from .product import ZERO, product, transposed_product
from .tile import View, at, ones, view, zeros


class Part(NamedTuple):
    """Which block of a result is to be computed; no element's bits depend on it."""

    row: Word
    rows: Word
    column: Word
    columns: Word


@inlined
def whole(c):
    """Return the part that is all of c."""
    return Part(ZERO, c.shape[0], ZERO, c.shape[1])


@inlined
def view_of(c, part):
    """Return the view of a part of c."""
    return at(view(c), part.row, part.column)


@inlined
def matmul(a, b, c):
    """Compute ``c = a @ b``."""
    none = zeros(view(c))
    product(none, a.dtype.type(1), view(a), view(b), view(c), c.shape, a.shape[1])


@inlined
def matmul_add(a, b, c):
    """Compute ``c += a @ b``."""
    x = view(c)
    product(x, a.dtype.type(1), view(a), view(b), x, c.shape, a.shape[1])


@inlined
def matmul_transposed(a, b, c, part):
    """Compute ``c = a @ b.T``, a part of c alone."""
    _transposed(zeros(view(c)), a, b, c, part)


@inlined
def matmul_transposed_add(a, b, c):
    """Compute ``c += a @ b.T``."""
    _transposed(view(c), a, b, c, whole(c))


@inlined
def _transposed(base, a, b, c, part):
    """Compute ``base + a @ b.T``, a part of c alone."""
    x, y, z, k = at(view(a), part.row, 0), at(view(b), part.column, 0), view_of(c, part), a.shape[1]
    base, shape = at(base, part.row, part.column), (part.rows, part.columns)
    if k == 1:  # a column lies in memory like a row
        product(base, a.dtype.type(1), x, View(y.data, y.col, y.row), z, shape, k)
    else:
        transposed_product(base, x, y, z, shape, k)


@inlined
def matmul_rows(a, b, c):
    """``c = a @ b.T`` for a few rows of a, by inner products: nothing is transposed for them."""
    for i in range(a.shape[0]):
        matvec(b, row(a, i), row(c, i), a.dtype.type(0))


@inlined
def matmul_bias(a, b, bias, c, part):
    """Compute ``c = a @ b + bias``, one bias for each column, a part of c alone."""
    n, k = c.shape[1], a.shape[1]
    if way_forward(n, lanes(a)) == INNER:  # b is a row in memory
        x, y = rows(a, part.row, part.rows), rows(c, part.row, part.rows)
        matvec(x, flat(b), flat(y), bias[0])
        return
    x, y, z = at(view(a), part.row, 0), at(view(b), 0, part.column), view_of(c, part)
    one, base, shape = a.dtype.type(1), at(view(bias), 0, part.column), (part.rows, part.columns)
    group = group_of(n, lanes(a))
    if group == 4:
        product_by_4(base, one, x, y, z, shape, k)
    elif group == 2:
        product_by_2(base, one, x, y, z, shape, k)
    else:
        product(base, one, x, y, z, shape, k)


@inlined
def outer_add(a, b, scale, c, part):
    """Compute ``c += scale * a.T @ b``, a part of c alone."""
    x, y = at(view(a), 0, part.row), at(view(b), 0, part.column)
    way = way_gradient(c.shape, a.shape[0], lanes(a))
    if way == INNER:  # columns are rows in memory: the lanes go along them
        row_of_weights = View(y.data, y.col, y.row)
        sum_add(a, flat(b), row_of_weights, scale, flat(c), part.row, part.rows)
        return
    target, shape, k = view_of(c, part), (part.rows, part.columns), a.shape[0]
    if way == TRANSPOSED:
        narrow_outer_add(x, y, scale, target, shape, k)
    else:
        product(target, scale, View(x.data, x.col, x.row), y, target, shape, k)


@inlined
def column_sum_add(a, scale, c, first, count):
    """Compute ``c += scale * a.sum(axis=0)``, columns `first` to ``first + count`` alone."""
    sum_add(a, None, ones(view(a)), scale, c, first, count)
