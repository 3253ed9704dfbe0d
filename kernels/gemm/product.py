"""Products of matrices of any shape, by tiles: blocks for the caches, ragged edges, one row.

b is cut into panels of KC rows and a few vectors of columns, which stay in the L1 cache while
all rows of a go by. A sum over more than KC rows of b is so a sum of sums, cut in the same
places whatever the rest of the shape.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..abi import Real, Word
from ..blocks import ACCUMULATORS, BIG, FEW, KC, MC, MR, MR_FEW, NARROW, NR, NR_ONE, tile_of
from ..compiler import inlined, kernel
from ..simd.vectors import VECTOR_BYTES
from .tile import BODY, HEAD, SMALL, View, Writer, at, make_buffer, make_tile
from .transpose import pack_block

ZERO = np.intp(0)  # a literal 0 would be a type of its own, and compile everything again


def make_sweeps(vecs):
    """Make two sweeps through one panel of columns, `vecs` vectors wide, from first row to last.

    The first finds the panel packed; the second reads b where it lies, and packs it as it goes.
    """
    rows = np.intp(ACCUMULATORS // vecs)
    head, body = (make_tile(int(rows), vecs, kind) for kind in (HEAD, BODY))

    @kernel(name=f"sweep_packed_{vecs}")
    def sweep_packed(
        base: View,
        scale: Real,
        a: View,
        c: View,
        panel: View,
        first: Word,
        m: Word,
        n: Word,
        k: Word,
    ):
        packed = View(panel.data, panel.row * vecs // NR, panel.col)
        for i in range(first, m, rows):
            h = min(i, m - rows)  # the last tile overlaps its forerunner, and stores what is new
            below, target = at(base, h, 0), at(c, h, 0)
            body(below, scale, at(a, h, 0), packed, target, panel, k, n, i - h)

    @kernel(name=f"sweep_{vecs}")
    def sweep(
        base: View, scale: Real, a: View, b: View, c: View, panel: View, m: Word, n: Word, k: Word
    ):
        head(base, scale, a, b, c, panel, k, n, 0)
        sweep_packed(base, scale, a, c, panel, rows, m, n, k)

    return sweep_packed, sweep


panel_buffer, block_buffer = make_buffer(NR), make_buffer(MC + 2)
(wide_packed, wide), (narrow_packed, narrow) = make_sweeps(NR), make_sweeps(1)
one_row, small = make_tile(1, NR_ONE, SMALL), make_tile(MR_FEW, NR, SMALL)


class Shape(NamedTuple):
    """Of a result."""

    rows: Word
    columns: Word


@kernel
def product(base: View, scale: Real, a: View, b: View, c: View, shape: Shape, k: Word):
    """Compute ``c = base + scale * a @ b`` for Views: a is m x k, b is k x n; base may be c.

    a may have any strides; rows of b, base and c are contiguous.
    """
    m, n = shape
    panel = panel_buffer(b)
    width = panel.row // NR
    if tile_of(m, n, width) == FEW:
        few_rows(base, scale, a, b, c, shape, k)
        return
    packs = a.row == 1 and n > 2 * panel.row and m * k >= BIG * width
    for p in range(0, max(k, 1), KC):
        depth = min(k - p, KC)
        deeper_b = at(b, p, 0)
        if packs:
            _packed(base, scale, at(a, 0, p), deeper_b, c, panel, shape, depth)
        else:
            _panels(base, scale, at(a, 0, p), deeper_b, c, panel, m, n, depth)
        base = c


@kernel
def few_rows(base: View, scale: Real, a: View, b: View, c: View, shape: Shape, k: Word):
    """Compute the product by tiles of one row or a few, which read b where it lies."""
    m, n = shape
    panel = View(c.data, 0, 1)  # nothing is parked
    width = VECTOR_BYTES // size_of(c)
    for p in range(0, max(k, 1), KC):
        depth = min(k - p, KC)
        for i in range(0, m, MR_FEW):
            x, rows = at(a, i, p), min(m - i, MR_FEW)
            step = (NR_ONE if rows == 1 else NR) * width
            for j in range(0, n, step):
                s, y, z, left = at(base, i, j), at(b, p, j), at(c, i, j), n - j
                if rows == 1:
                    one_row(s, scale, x, y, z, panel, depth, left, rows)
                else:
                    small(s, scale, x, y, z, panel, depth, left, rows)
        base = c


@kernel
def _panels(
    base: View, scale: Real, a: View, b: View, c: View, panel: View, m: Word, n: Word, depth: Word
):
    """Compute all columns of a product of m >= MR rows, at most KC deep."""
    width = panel.row // NR
    j = 0
    while j < n:
        s, y, z, left = at(base, 0, j), at(b, 0, j), at(c, 0, j), n - j
        if tile_of(m, left, width) != NARROW:
            wide(s, scale, a, y, z, panel, m, left, depth)
            j += NR * width
        else:
            narrow(s, scale, a, y, z, panel, m, left, depth)
            j += width


@kernel
def transposed_product(base: View, a: View, b: View, c: View, shape: Shape, k: Word):
    """Compute ``c = base + a @ b.T`` for Views, all with contiguous rows; base may be c.

    Panels are packed from b's rows by transposing blocks in registers, so nobody needs b.T.
    """
    m, n = shape
    panel, one = panel_buffer(b), unit(c)
    width = panel.row // NR
    for p in range(0, k, KC):
        depth = min(k - p, KC)
        x = at(a, 0, p)
        j = 0
        while j < n:
            s, y, z, left = at(base, 0, j), at(b, j, p), at(c, 0, j), n - j
            if tile_of(m, left, width) != NARROW:
                _pack_transposed(y, panel, left, depth, NR)
                if m < MR:
                    _small_packed(s, one, x, z, panel, m, left, depth)
                else:
                    wide_packed(s, one, x, z, panel, ZERO, m, left, depth)
                j += NR * width
            else:
                _pack_transposed(y, View(panel.data, width, panel.col), left, depth, 1)
                narrow_packed(s, one, x, z, panel, ZERO, m, left, depth)
                j += width
        base = c


@inlined
def _small_packed(base, scale, a, c, panel, m, n, k):
    """Multiply fewer rows than a tile has by a packed panel."""
    for i in range(0, m, MR_FEW):
        rows = min(m - i, MR_FEW)
        small(at(base, i, 0), scale, at(a, i, 0), panel, at(c, i, 0), panel, k, n, rows)


@inlined
def _pack_transposed(b, panel, n, depth, vecs):
    """Pack b transposed: row q of the panel is column q of b, which has n rows."""
    width = VECTOR_BYTES // size_of(b)
    for v in range(vecs):
        for q in range(0, depth, width):
            block, place = at(b, v * width, q), at(panel, q, v * width)
            pack_block(block, place, n - v * width, depth - q)


@kernel
def _packed(
    base: View, scale: Real, a: View, b: View, c: View, panel: View, shape: Shape, depth: Word
):
    """Compute `_panels` of a large transposed view a, by blocks of its rows that are packed first.

    Each of its columns is on a page of its own, far from the next.
    """
    m, n = shape
    block = block_buffer(b)
    width = panel.row // NR
    i = 0
    while i < m:
        rows = m - i
        if rows > block.row:
            rows = MC * width
        for q in range(depth):
            for h in range(0, rows, width):
                copy_vector(View(at(a, i + h, q).data, 0, 1), at(block, q, h), rows - h)
        x = View(block.data, 1, block.row)
        _panels(at(base, i, 0), scale, x, b, at(c, i, 0), panel, rows, n, depth)
        i += rows


@intrinsic
def unit(typingctx, v):
    """Return 1 in the dtype of a View."""

    def codegen(context, bld, sig, args):
        return ir.Constant(context.get_data_type(v[0].dtype), 1.0)

    return v[0].dtype(v), codegen


@intrinsic
def size_of(typingctx, v):
    """Return the bytes of an element of a View."""

    def codegen(context, bld, sig, args):
        return context.get_constant(types.intp, v[0].dtype.bitwidth // 8)

    return types.intp(v), codegen


@intrinsic
def copy_vector(typingctx, a, b, n):
    """Compute ``b[0, :n] = a[0, :n]``, one vector at most; both with contiguous rows."""

    def codegen(context, bld, sig, args):
        out = Writer(context, bld, a[0].dtype)
        (a_p, _, _), (b_p, _, _) = (cgutils.unpack_tuple(bld, v) for v in args[:2])
        (mask,) = out.masks(args[2], 1)
        out.store(out.load(a_p, 0, mask), b_p, 0, mask)
        return context.get_dummy_value()

    return types.void(a, b, types.intp), codegen
