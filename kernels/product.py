"""Products of matrices of any shape, by tiles: blocks for the caches, ragged edges, one row.

b is cut into panels of DEPTH rows and a few vectors of columns, which stay in the L1 cache while
all rows of a go by. A sum over more than DEPTH rows of b is so a sum of sums, cut in the same
places whatever the rest of the shape.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiler import inlined, njit
from .tile import (
    ACCUMULATORS,
    BODY,
    DEPTH,
    HEAD,
    ROW_VECS,
    SMALL,
    SMALL_ROWS,
    VECS,
    View,
    Writer,
    at,
    make_buffer,
    make_tile,
    ones,
    row_sums,
    view,
    zeros,
)
from .transpose import make_interleave, transpose_add, transpose_block
from .vectors import (
    VECTOR_BYTES,
    broadcast,
    fma,
    lanes,
    load_masked,
    store_masked,
)
from .views import flat, matrix, row, rows

BLOCK = 15  # vectors of rows of a that are packed together, when they are
ZERO = np.intp(0)  # a literal 0 would be a type of its own, and compile everything again
BIG = 2**20 // VECTOR_BYTES  # vectors: a that is larger (1 MB) leaves L2 between two panels


class Part(NamedTuple):
    """Which block of a result is to be computed; no element's bits depend on it."""

    row: int
    rows: int
    column: int
    columns: int


@inlined
def whole(c):
    """All of c."""
    return Part(ZERO, c.shape[0], ZERO, c.shape[1])


@inlined
def view_of(c, part):
    """View of a part of c."""
    return at(view(c), part.row, part.column)


@inlined
def matmul(a, b, c):
    """``c = a @ b``."""
    none = zeros(view(c))
    product(none, a.dtype.type(1), view(a), view(b), view(c), c.shape, a.shape[1])


@inlined
def matmul_add(a, b, c):
    """``c += a @ b``."""
    x = view(c)
    product(x, a.dtype.type(1), view(a), view(b), x, c.shape, a.shape[1])


@inlined
def matmul_transposed(a, b, c, part):
    """``c = a @ b.T``, a part of c alone."""
    x, y, z, k = at(view(a), part.row, 0), at(view(b), part.column, 0), view_of(c, part), a.shape[1]
    shape = part.rows, part.columns
    if k == 1:  # a column lies in memory like a row
        product(zeros(z), a.dtype.type(1), x, View(y.data, y.col, y.row), z, shape, k)
    else:
        transposed_product(zeros(z), x, y, z, shape, k)


@inlined
def matmul_pair(a, b, bias, a2, b2, c):
    """``c = a @ b + bias + a2 @ b2``, a panel of columns after the other, while c is in cache."""
    x, y, x2, y2, z, (m, n) = view(a), view(b), view(a2), view(b2), view(c), c.shape
    one, step = a.dtype.type(1), VECS * lanes(a)
    for j in range(0, n, step):
        shape, here = (m, min(step, n - j)), at(z, 0, j)
        product(at(view(bias), 0, j), one, x, at(y, 0, j), here, shape, a.shape[1])
        product(here, one, x2, at(y2, 0, j), here, shape, a2.shape[1])


@inlined
def matmul_transposed_pair(a, b, a2, b2, c):
    """``c = a @ b.T + a2 @ b2.T``, as `matmul_pair`."""
    if b.shape[1] == 1:
        matmul_transposed(a, b, c, whole(c))
        matmul_add(a2, matrix(b2, 0, 1, b2.shape[0]), c)
        return
    x, y, x2, y2, z, (m, n) = view(a), view(b), view(a2), view(b2), view(c), c.shape
    step = VECS * lanes(a)
    for j in range(0, n, step):
        shape, here = (m, min(step, n - j)), at(z, 0, j)
        transposed_product(zeros(z), x, at(y, j, 0), here, shape, a.shape[1])
        transposed_product(here, x2, at(y2, j, 0), here, shape, a2.shape[1])


@inlined
def matmul_rows(a, b, c):
    """``c = a @ b.T`` for a few rows of a, by inner products: nothing is transposed for them."""
    for i in range(a.shape[0]):
        matvec(b, row(a, i), row(c, i), a.dtype.type(0))


@inlined
def matmul_bias(a, b, bias, c, part):
    """``c = a @ b + bias``, one bias for each column, a part of c alone."""
    n, k = c.shape[1], a.shape[1]
    if n == 1:  # a tile would use one lane of each vector; b is a row in memory
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
def group_of(n, width):
    """How many rows of b share a vector, of `width` lanes, where c has only n columns."""
    if 4 * n <= width:
        return 4
    return 2 if 2 * n <= width else 1


@inlined
def outer_add(a, b, scale, c, part):
    """``c += scale * a.T @ b``, a part of c alone."""
    x, y = at(view(a), 0, part.row), at(view(b), 0, part.column)
    if c.shape[1] == 1:  # columns are rows in memory: the lanes go along them
        row_of_weights = View(y.data, y.col, y.row)
        _sum_add(a, flat(b), row_of_weights, scale, flat(c), part.row, part.rows)
        return
    target, shape, k = view_of(c, part), (part.rows, part.columns), a.shape[0]
    if is_narrow(shape, k, lanes(a)):
        _narrow_outer_add(x, y, scale, target, shape, k)
    else:
        product(target, scale, View(x.data, x.col, x.row), y, target, shape, k)


@inlined
def is_narrow(shape, k, width):
    """Of ``c = a.T @ b``, k deep: do lanes along the rows of c pay for transposing it?"""
    m, n = shape
    return 8 * n <= 5 * width and m >= width and k >= 2 * width


@njit
def _narrow_outer_add(a, b, scale, c, shape, k):
    """``c += scale * a.T @ b`` of a c of few columns: c.T is computed, a strip at a time."""
    m, n = shape
    strip, one = strip_buffer(b), unit(c)
    width = strip.row // VECS
    transposed = View(b.data, b.col, b.row)
    for i in range(0, m, VECS * width):
        here = min(m - i, VECS * width)
        product(zeros(b), one, transposed, at(a, 0, i), strip, (n, here), k)
        for h in range(0, here, width):
            transpose_add(scale, at(strip, 0, h), at(c, i + h, 0), n, here - h)


@inlined
def column_sum_add(a, scale, c, first, count):
    """``c += scale * a.sum(axis=0)``, columns `first` to ``first + count`` alone."""
    _sum_add(a, None, ones(view(a)), scale, c, first, count)


@inlined
def _sum_add(a, weights, row_of_weights, scale, c, first, count):
    """``c += scale * weights @ a``, columns `first` to ``first + count``; None is weights of 1."""
    if c.size > 4 * lanes(a):  # not `count`, which depends on the number of threads
        x, shape = view(c), (np.intp(1), count)
        target = at(x, 0, first)
        _few_rows(target, scale, row_of_weights, at(view(a), 0, first), target, shape, a.shape[0])
    else:
        _narrow_sum_add(a, weights, scale, c, first, count)


@njit
def _narrow_sum_add(a, weights, scale, c, first, count):
    """`_sum_add` of few columns: a single chain down each would wait for itself, so four do it."""
    x, (m, n), width = flat(a), a.shape, lanes(a)
    fours = m - m % 4
    for j in range(first, first + count, width):
        here = min(width, first + count - j)
        s = t = u = v = broadcast(0, x)
        for i in range(0, fours, 4):
            k = i * n + j
            s = _term(s, weights, i, load_masked(x, k, here))
            t = _term(t, weights, i + 1, load_masked(x, k + n, here))
            u = _term(u, weights, i + 2, load_masked(x, k + 2 * n, here))
            v = _term(v, weights, i + 3, load_masked(x, k + 3 * n, here))
        for i in range(fours, m):
            s = _term(s, weights, i, load_masked(x, i * n + j, here))
        total = fma((s + t) + (u + v), scale, load_masked(c, j, here))
        store_masked(c, j, total, here)


@inlined
def _term(total, weights, i, x):
    """``total + weights[i] * x``."""
    if weights is None:
        return total + x
    return fma(x, weights[i], total)


@njit
def matvec(a, x, y, bias):
    """``y = a @ x + bias`` by inner products: the lanes go along the rows of a, then along y.

    Each row's sum has one order: a chain in each lane, and then as `reduce_add` has it.
    """
    m, width = a.shape[0], lanes(y)
    for i in range(0, m, width):
        rows = min(m - i, width)
        sums = row_sums(at(view(a), i, 0), view(x), a.shape[1], rows)
        store_masked(y, i, sums + bias, rows)


def make_sweeps(vecs):
    """Make two sweeps through one panel of columns, `vecs` vectors wide, from first row to last.

    The first finds the panel packed; the second reads b where it lies, and packs it as it goes.
    """
    rows = np.intp(ACCUMULATORS // vecs)
    head, body = (make_tile(int(rows), vecs, kind) for kind in (HEAD, BODY))

    @njit
    def sweep_packed(base, scale, a, c, panel, first, m, n, k):
        packed = View(panel.data, panel.row * vecs // VECS, panel.col)
        for i in range(first, m, rows):
            h = min(i, m - rows)  # the last tile overlaps its forerunner, and stores what is new
            below, target = at(base, h, 0), at(c, h, 0)
            body(below, scale, at(a, h, 0), packed, target, panel, k, n, i - h)

    @njit
    def sweep(base, scale, a, b, c, panel, m, n, k):
        head(base, scale, a, b, c, panel, k, n, 0)
        sweep_packed(base, scale, a, c, panel, rows, m, n, k)

    return sweep_packed, sweep


def make_grouped(group):
    """Make `product` of a narrow c, of n <= lanes / group columns; a has contiguous rows."""
    rows, few = make_tile(int(TALL), 1, BODY, group), make_tile(SMALL_ROWS, 1, SMALL, group)
    interleave = make_interleave(group)

    @njit
    def grouped_product(base, scale, a, b, c, shape, k):
        m, n = shape
        panel = panel_buffer(b)
        panel = View(panel.data, panel.row // VECS, panel.col)
        for p in range(0, k, DEPTH):
            depth = min(k - p, DEPTH)
            for q in range(0, depth, group):
                interleave(at(b, p + q, 0), at(panel, q // group, 0), depth - q, n)
            x = at(a, 0, p)
            if m < TALL:
                for i in range(0, m, SMALL_ROWS):
                    here = min(m - i, SMALL_ROWS)
                    s, y, z = at(base, i, 0), at(x, i, 0), at(c, i, 0)
                    few(s, scale, y, panel, z, panel, depth, n, here)
            else:
                for i in range(0, m, TALL):
                    h = min(i, m - TALL)
                    s, y, z = at(base, h, 0), at(x, h, 0), at(c, h, 0)
                    rows(s, scale, y, panel, z, panel, depth, n, i - h)
            base = c

    return grouped_product


FEW, WIDE, NARROW = range(3)
LOW, TALL = np.intp(ACCUMULATORS // VECS), np.intp(ACCUMULATORS)  # rows of the tiles of two vectors and of one
panel_buffer, block_buffer = make_buffer(VECS), make_buffer(BLOCK + 2)
strip_buffer = make_buffer(VECS, VECTOR_BYTES // 4)
(wide_packed, wide), (narrow_packed, narrow) = make_sweeps(VECS), make_sweeps(1)
product_by_2, product_by_4 = make_grouped(2), make_grouped(4)
one_row, small = make_tile(1, ROW_VECS, SMALL), make_tile(SMALL_ROWS, VECS, SMALL)


@inlined
def tile_of(m, n, width):
    """The plan: which tiles a product of m rows takes for n columns, of `width` lanes a vector.

    FEW reads b where it lies; WIDE (LOW rows, two vectors) and NARROW (TALL rows, one vector) go
    through packed panels.
    """
    if m < LOW or (LOW < m < TALL and n <= VECS * width):
        return FEW
    if n > width or m < TALL:
        return WIDE
    return NARROW


@njit
def product(base, scale, a, b, c, shape, k):
    """``c = base + scale * a @ b`` for Views: a is m x k, b is k x n; base may be c.

    a may have any strides; rows of b, base and c are contiguous.
    """
    m, n = shape
    panel = panel_buffer(b)
    width = panel.row // VECS
    if tile_of(m, n, width) == FEW:
        _few_rows(base, scale, a, b, c, shape, k)
        return
    packs = a.row == 1 and n > 2 * panel.row and m * k >= BIG * width
    for p in range(0, max(k, 1), DEPTH):
        depth = min(k - p, DEPTH)
        deeper_b = at(b, p, 0)
        if packs:
            _packed(base, scale, at(a, 0, p), deeper_b, c, panel, shape, depth)
        else:
            _panels(base, scale, at(a, 0, p), deeper_b, c, panel, m, n, depth)
        base = c


@njit
def _few_rows(base, scale, a, b, c, shape, k):
    """The product by tiles of one row or a few, which read b where it lies."""
    m, n = shape
    panel = View(c.data, 0, 1)  # nothing is parked
    width = VECTOR_BYTES // size_of(c)
    for p in range(0, max(k, 1), DEPTH):
        depth = min(k - p, DEPTH)
        for i in range(0, m, SMALL_ROWS):
            x, rows = at(a, i, p), min(m - i, SMALL_ROWS)
            step = (ROW_VECS if rows == 1 else VECS) * width
            for j in range(0, n, step):
                s, y, z, left = at(base, i, j), at(b, p, j), at(c, i, j), n - j
                if rows == 1:
                    one_row(s, scale, x, y, z, panel, depth, left, rows)
                else:
                    small(s, scale, x, y, z, panel, depth, left, rows)
        base = c


@njit
def _panels(base, scale, a, b, c, panel, m, n, depth):
    """All columns of the product of m >= LOW rows, at most DEPTH deep."""
    width = panel.row // VECS
    j = 0
    while j < n:
        s, y, z, left = at(base, 0, j), at(b, 0, j), at(c, 0, j), n - j
        if tile_of(m, left, width) != NARROW:
            wide(s, scale, a, y, z, panel, m, left, depth)
            j += VECS * width
        else:
            narrow(s, scale, a, y, z, panel, m, left, depth)
            j += width


@njit
def transposed_product(base, a, b, c, shape, k):
    """``c = base + a @ b.T`` for Views, all with contiguous rows; base may be c.

    Panels are packed from b's rows by transposing blocks in registers, so nobody needs b.T.
    """
    m, n = shape
    panel, one = panel_buffer(b), unit(c)
    width = panel.row // VECS
    for p in range(0, k, DEPTH):
        depth = min(k - p, DEPTH)
        x = at(a, 0, p)
        j = 0
        while j < n:
            s, y, z, left = at(base, 0, j), at(b, j, p), at(c, 0, j), n - j
            if tile_of(m, left, width) != NARROW:
                _pack_transposed(y, panel, left, depth, VECS)
                if m < LOW:
                    _small_packed(s, one, x, z, panel, m, left, depth)
                else:
                    wide_packed(s, one, x, z, panel, ZERO, m, left, depth)
                j += VECS * width
            else:
                _pack_transposed(y, View(panel.data, width, panel.col), left, depth, 1)
                narrow_packed(s, one, x, z, panel, ZERO, m, left, depth)
                j += width
        base = c


@inlined
def _small_packed(base, scale, a, c, panel, m, n, k):
    """Less rows than a tile has, against a packed panel."""
    for i in range(0, m, SMALL_ROWS):
        rows = min(m - i, SMALL_ROWS)
        small(at(base, i, 0), scale, at(a, i, 0), panel, at(c, i, 0), panel, k, n, rows)


@inlined
def _pack_transposed(b, panel, n, depth, vecs):
    """Row q of the panel is column q of b, which has n rows."""
    width = VECTOR_BYTES // size_of(b)
    for v in range(vecs):
        for q in range(0, depth, width):
            block, place = at(b, v * width, q), at(panel, q, v * width)
            transpose_block(block, place, n - v * width, depth - q)


@njit
def _packed(base, scale, a, b, c, panel, shape, depth):
    """`_panels` of a large transposed view a, by blocks of its rows that are packed first.

    Each of its columns is on a page of its own, far from the next.
    """
    m, n = shape
    block = block_buffer(b)
    width = panel.row // VECS
    i = 0
    while i < m:
        rows = m - i
        if rows > block.row:
            rows = BLOCK * width
        for q in range(depth):
            for h in range(0, rows, width):
                copy_vector(View(at(a, i + h, q).data, 0, 1), at(block, q, h), rows - h)
        x = View(block.data, 1, block.row)
        _panels(at(base, i, 0), scale, x, b, at(c, i, 0), panel, rows, n, depth)
        i += rows


@intrinsic
def unit(typingctx, v):
    """1 in the dtype of a View."""

    def codegen(context, bld, sig, args):
        return ir.Constant(context.get_data_type(v[0].dtype), 1.0)

    return v[0].dtype(v), codegen


@intrinsic
def size_of(typingctx, v):
    """Bytes of an element of a View."""

    def codegen(context, bld, sig, args):
        return context.get_constant(types.intp, v[0].dtype.bitwidth // 8)

    return types.intp(v), codegen


@intrinsic
def copy_vector(typingctx, a, b, n):
    """``b[0, :n] = a[0, :n]``, one vector at most; both with contiguous rows."""

    def codegen(context, bld, sig, args):
        out = Writer(context, bld, a[0].dtype)
        (a_p, _, _), (b_p, _, _) = (cgutils.unpack_tuple(bld, v) for v in args[:2])
        (mask,) = out.masks(args[2], 1)
        out.store(out.load(a_p, 0, mask), b_p, 0, mask)
        return context.get_dummy_value()

    return types.void(a, b, types.intp), codegen
