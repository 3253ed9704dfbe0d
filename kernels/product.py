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
    BODY,
    DEPTH,
    HEAD,
    ROW_VECS,
    SMALL,
    SMALL_ROWS,
    SMALL_VECS,
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
from .vectors import (
    VECTOR_BYTES,
    broadcast,
    fma,
    lanes,
    load,
    load_masked,
    store_masked,
)
from .views import flat, row

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
        matvec(a, flat(b), flat(c), bias[0])
    else:
        product(view(bias), a.dtype.type(1), view(a), view(b), view(c), c.shape, a.shape[1])


@inlined
def outer_add(a, b, scale, c, first, count):
    """``c += scale * a.T @ b``, rows `first` to ``first + count`` of c alone."""
    x, y = view(a), view(b)
    if c.shape[1] == 1:  # columns are rows in memory: the lanes go along them
        _sum_add(a, flat(b), View(y.data, y.col, y.row), scale, flat(c), first, count)
    else:
        transposed, target = at(View(x.data, x.col, x.row), first, 0), at(view(c), first, 0)
        product(target, scale, transposed, y, target, (count, c.shape[1]), a.shape[0])


@inlined
def column_sum_add(a, scale, c):
    """``c += scale * a.sum(axis=0)``."""
    _sum_add(a, None, ones(view(a)), scale, c, np.intp(0), c.size)


@inlined
def _sum_add(a, weights, row_of_weights, scale, c, first, count):
    """``c += scale * weights @ a``, columns `first` to ``first + count``; None is weights of 1."""
    if count > 4 * lanes(a):
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


@inlined
def matmul_rows(a, b, c):
    """``c = a @ b.T`` for a few rows of a: transposing b would cost more."""
    for i in range(a.shape[0]):
        matvec(b, row(a, i), row(c, i), a.dtype.type(0))


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


@lru_cache
def make_sweep(vecs):
    """Make ``sweep(...)``: one panel of columns, `vecs` vectors wide, from first row to last."""
    rows = ACCUMULATORS // vecs
    head, tile = make_tile(rows, vecs, HEAD), make_tile(rows, vecs, BODY)

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
LOW, TALL = ACCUMULATORS // VECS, ACCUMULATORS // HALF  # rows of the lowest tiles
panel_buffer, block_buffer = make_buffer(VECS), make_buffer(BLOCK + 2)
wide, medium, narrow = make_sweep(VECS), make_sweep(HALF), make_sweep(1)
one_row, small = make_tile(1, ROW_VECS, SMALL), make_tile(SMALL_ROWS, SMALL_VECS, SMALL)


@njit
def product(base, scale, a, b, c, shape, k):
    """``c = base + scale * a @ b`` for Views: a is m x k, b is k x n; base may be c.

    a may have any strides; rows of b, base and c are contiguous.
    """
    m, n = shape
    panel = panel_buffer(b)
    width = panel.row // VECS
    if m < TALL and (m < LOW or n <= SMALL_VECS * width):
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
            step = (ROW_VECS if rows == 1 else SMALL_VECS) * width
            for j in range(0, n, step):
                s, y, z, left = at(base, i, j), at(b, p, j), at(c, i, j), n - j
                if rows == 1:
                    one_row(s, scale, x, y, z, panel, depth, left, rows)
                else:
                    small(s, scale, x, y, z, panel, depth, left, rows)
        base = c


@njit
def _panels(base, scale, a, b, c, panel, m, n, depth):
    """All columns of the product of m >= ACCUMULATORS // VECS rows, at most DEPTH deep."""
    width = panel.row // VECS
    j = 0
    while j < n:
        s, y, z, left = at(base, 0, j), at(b, 0, j), at(c, 0, j), n - j
        if left > (VECS - 1) * width or m < TALL:
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
