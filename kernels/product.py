"""Products of matrices of any shape, by tiles: blocks for the caches, ragged edges, one row.

b is cut into panels of DEPTH rows and a few vectors of columns, which stay in the L1 cache while
all rows of a go by. A sum over more than DEPTH rows of b is so a sum of sums, cut in the same
places whatever the rest of the shape.
"""

from functools import lru_cache

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiler import inlined, njit
from .tile import (
    ACCUMULATORS,
    DEPTH,
    ROW_VECS,
    VECS,
    View,
    Writer,
    at,
    make_buffer,
    make_tile,
    ones,
    view,
    zeros,
)
from .vectors import VECTOR_BYTES, broadcast, fma, lanes, load_masked, reduce_add
from .views import matrix, vector

BLOCK = 15  # vectors of rows of a that are packed together, when they are
BIG = 2**20 // VECTOR_BYTES  # vectors: a that is larger (1 MB) leaves L2 between two panels


@inlined
def matmul(a, b, c):
    """``c = a @ b``."""
    none = zeros(view(c))
    product(none, a.dtype.type(1), view(a), view(b), view(c), c.shape, a.shape[1])


@inlined
def matmul_bias(a, b, bias, c):
    """``c = a @ b + bias``, one bias for each column."""
    if c.shape[1] == 1:  # a tile would use one lane of each vector; b is a row in memory
        matmul_rows(a, matrix(b, 0, 1, b.shape[0]), c)
        for i in range(c.shape[0]):
            c[i, 0] += bias[0]
    else:
        product(view(bias), a.dtype.type(1), view(a), view(b), view(c), c.shape, a.shape[1])


@inlined
def outer_add(a, b, scale, c, first, count):
    """``c += scale * a.T @ b``, rows `first` to ``first + count`` of c alone."""
    x, y = view(a), view(b)
    target = at(view(c), first, 0)
    if c.shape[1] == 1:  # a column is a row in memory: the lanes go along it
        one = np.intp(1)  # a literal 1 would be a type of its own, and compile everything again
        rows = at(x, 0, first)
        _rows(target, scale, View(y.data, y.col, y.row), rows, target, (one, count), a.shape[0])
    else:
        transposed = at(View(x.data, x.col, x.row), first, 0)
        product(target, scale, transposed, y, target, (count, c.shape[1]), a.shape[0])


@inlined
def column_sum_add(a, scale, c):
    """``c += scale * a.sum(axis=0)``, as the product of a row of ones and a."""
    x = view(c)
    one = np.intp(1)  # not a literal, as above
    _rows(x, scale, ones(x), view(a), x, (one, c.size), a.shape[0])


@njit
def matmul_rows(a, b, c):
    """``c = a @ b.T`` for a few rows of a, by inner products: transposing b would cost more."""
    n = b.shape[1]
    flat_a, flat_b = vector(a, 0, a.size), vector(b, 0, b.size)
    for i in range(a.shape[0]):
        for j in range(b.shape[0]):
            total = broadcast(0, flat_b)
            for k in range(0, n, lanes(flat_b)):
                count = min(lanes(flat_b), n - k)
                x = load_masked(flat_a, i * n + k, count)
                total = fma(x, load_masked(flat_b, j * n + k, count), total)
            c[i, j] = reduce_add(total)


@lru_cache
def make_sweep(vecs):
    """Make ``sweep(...)``: one panel of columns, `vecs` vectors wide, from first row to last."""
    rows = ACCUMULATORS // vecs
    head, tile = make_tile(rows, vecs, head=True), make_tile(rows, vecs, head=False)

    @njit
    def sweep(base, scale, a, b, c, panel, m, n, k):
        head(base, scale, a, b, c, panel, k, n, 0)
        packed = View(panel.data, panel.row * vecs // VECS, panel.col)
        for i in range(rows, m, rows):
            h = min(i, m - rows)  # the last tile overlaps its forerunner, and stores what is new
            below, target = at(base, h, 0), at(c, h, 0)
            tile(below, scale, at(a, h, 0), packed, target, panel, k, n, i - h)

    return sweep


HALF = VECS // 2
panel_buffer, block_buffer = make_buffer(VECS), make_buffer(BLOCK + 2)
wide, medium, narrow = make_sweep(VECS), make_sweep(HALF), make_sweep(1)
# One row: a head tile of one row parks nothing.
row, row_edge = make_tile(1, ROW_VECS, head=False), make_tile(1, VECS, head=True)


@njit
def product(base, scale, a, b, c, shape, k):
    """``c = base + scale * a @ b`` for Views: a is m x k, b is k x n; base may be c.

    a may have any strides; rows of b, base and c are contiguous.
    """
    m, n = shape
    panel = panel_buffer(b)
    width = panel.row // VECS
    if m < ACCUMULATORS // VECS:  # fewer rows than the lowest tile
        _rows(base, scale, a, b, c, shape, k)
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
def _rows(base, scale, a, b, c, shape, k):
    """The product row by row, for too few rows to make a tile."""
    m, n = shape
    panel = View(c.data, 0, 1)  # nothing is parked
    width = VECTOR_BYTES // size_of(c)
    for i in range(m):
        start = base
        for p in range(0, max(k, 1), DEPTH):
            depth = min(k - p, DEPTH)
            x = at(a, i, p)
            edge = n - n % (ROW_VECS * width)
            for j in range(0, edge, ROW_VECS * width):
                row(at(start, i, j), scale, x, at(b, p, j), at(c, i, j), panel, depth, n - j, 0)
            for j in range(edge, n, VECS * width):
                s, y, z = at(start, i, j), at(b, p, j), at(c, i, j)
                row_edge(s, scale, x, y, z, panel, depth, n - j, 0)
            start = c


@njit
def _panels(base, scale, a, b, c, panel, m, n, depth):
    """All columns of the product of m >= ACCUMULATORS // VECS rows, at most DEPTH deep."""
    width = panel.row // VECS
    j = 0
    while j < n:
        s, y, z, left = at(base, 0, j), at(b, 0, j), at(c, 0, j), n - j
        if left > (VECS - 1) * width or m < ACCUMULATORS // HALF:
            wide(s, scale, a, y, z, panel, m, left, depth)
            j += VECS * width
        elif left > width or m < ACCUMULATORS:
            medium(s, scale, a, y, z, panel, m, left, depth)
            j += HALF * width
        else:
            narrow(s, scale, a, y, z, panel, m, left, depth)
            j += width


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
