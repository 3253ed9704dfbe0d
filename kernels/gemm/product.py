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
from ..blocks import (
    ACCUMULATORS,
    BIG,
    CHUNK_OF_ROWS,
    FEW,
    KC,
    MC,
    MC_PACKED,
    MC_TRANSPOSED,
    MR,
    MR_FEW,
    MR_TALL,
    NARROW,
    NR,
    NR_ONE,
    PIECE,
    ROWS_SHALLOW,
    SHORT,
    UNROLL,
    is_shallow,
    tile_of,
)
from ..compiler import inlined, kernel
from ..simd.vectors import VECTOR_BYTES
from .shallow import make_strip
from .tile import BODY, HEAD, SMALL, View, Writer, at, integer, make_buffer, make_tile
from .transpose import pack_block

ZERO = np.intp(0)  # a literal 0 would be a type of its own, and compile everything again


def make_sweeps(vecs):
    """Make two sweeps through one panel of columns, `vecs` vectors wide, from first row to last.

    The first finds the panel packed; the second reads b where it lies, and packs it as it goes.
    `next_b` is where the panel lies that comes next, to be prefetched; stride 0 for the first
    panel, whose sweep is the first to read a. `step` is 0, or that of an a packed by
    `_packed_panels`.
    """
    rows = np.intp(ACCUMULATORS // vecs)
    head, body = (make_tile(int(rows), vecs, kind) for kind in (HEAD, BODY))

    @kernel(name=f"sweep_packed_{vecs}")
    def sweep_packed(
        base: View, scale: Real, a: View, c: View, panel: View, next_b: View, first: Word, m: Word,
        n: Word, k: Word, step: Word,
    ):  # fmt: skip
        packed = View(panel.data, panel.row * vecs // NR, panel.col)
        for i in range(first, m, rows):
            if vecs == NR and m - i <= MR_FEW:  # the last few rows
                below, target = at(base, i, 0), at(c, i, 0)
                small(below, scale, tile_of_a(a, i, i, step), packed, target, packed, k, n, m - i)
            else:
                h = min(i, m - rows)  # the last tile overlaps its forerunner, stores what is new
                below, target = at(base, h, 0), at(c, h, 0)
                ahead = rows_ahead(a, next_b, i // rows, rows, k)
                x = tile_of_a(a, i, h, step)
                body(below, scale, x, packed, target, ahead, k, n, i - h)

    @kernel(name=f"sweep_{vecs}")
    def sweep(
        base: View, scale: Real, a: View, b: View, c: View, panel: View, next_b: View, m: Word,
        n: Word, k: Word, step: Word,
    ):  # fmt: skip
        first = ZERO
        if n >= panel.row * vecs // NR:
            head(base, scale, a, b, c, panel, k, n, 0)
            first = rows
        else:
            _pack(b, panel, n, k, vecs)
        sweep_packed(base, scale, a, c, panel, next_b, first, m, n, k, step)

    return sweep_packed, sweep


@inlined
def tile_of_a(a, i, h, step):
    """Return what a tile reads of a: number i // MR of the pieces of a packed a, else row h on."""
    return View(at(View(a.data, step, 1), i, 0).data, a.row, a.col) if step else at(a, h, 0)


@inlined
def rows_ahead(a, next_b, t, rows, k):
    """Return what tile number t of a sweep prefetches: a part of a row for each turn of its loop.

    A tile of few rows would never read ahead enough of its own: rows of a are on the same pages,
    whose streams no hardware prefetcher tells apart, and rows of a transposed a, or of b, are on
    pages of their own. Here each sweep reads its first operand once, evenly.
    """
    chunk, turns = rows * UNROLL, k // UNROLL
    if next_b.row == 1:  # transposed: each tile reads a column
        ahead = View(at(next_b, 0, t).data, UNROLL, ZERO)
        if t >= NR * (VECTOR_BYTES // size_of(a)):  # all of them were
            ahead = View(next_b.data, ZERO, ZERO)
    elif next_b.row != 0:
        ahead = at(next_b, t * turns, 0)
        if t >= UNROLL:  # all its rows were
            ahead = View(next_b.data, ZERO, ZERO)
    elif a.col == 1:
        ahead = at(a, (t + 1) * rows, t * chunk % KC)
    else:
        x = at(a, chunk * (t // UNROLL + 1), t % UNROLL * turns)
        ahead = View(x.data, a.col, a.row)
    return ahead


panel_buffer, block_buffer = make_buffer(NR), make_buffer(MC_PACKED + 4)
one_row, small = make_tile(1, NR_ONE, SMALL), make_tile(MR_FEW, NR, SMALL)
slim, tall = make_tile(MR_FEW, 1, SMALL), make_tile(MR_TALL, NR, SMALL)
wide_strip, narrow_strip = make_strip(NR), make_strip(1)
(wide_packed, wide), (narrow_packed, narrow) = make_sweeps(NR), make_sweeps(1)


class Shape(NamedTuple):
    """Of a result."""

    rows: Word
    columns: Word


def make_unpacked(vecs):
    """Make ``product(base, scale, a, b, c, shape, k)`` by tiles that read b where it lies."""
    rows = ACCUMULATORS // vecs
    tile = make_tile(rows, vecs, SMALL)

    @inlined
    def product(base, scale, a, b, c, shape, k):
        (m, n), width = shape, VECTOR_BYTES // size_of(c)
        panel = View(c.data, 0, 1)  # nothing is parked
        for p in range(0, max(k, 1), KC):
            depth = min(k - p, KC)
            for j in range(0, n, vecs * width):
                for i in range(0, m, rows):
                    s, x, z = at(base, i, j), at(a, i, p), at(c, i, j)
                    tile(s, scale, x, at(b, p, j), z, panel, depth, n - j, min(m - i, rows))
            base = c

    return product


unpacked_narrow, unpacked_wide = make_unpacked(1), make_unpacked(NR)


@kernel
def unpacked(base: View, scale: Real, a: View, b: View, c: View, shape: Shape, k: Word):
    """Compute a product that is short in rows, columns and depth: packing b would not pay."""
    if shape[1] <= VECTOR_BYTES // size_of(c):
        unpacked_narrow(base, scale, a, b, c, shape, k)
    else:
        unpacked_wide(base, scale, a, b, c, shape, k)


@kernel
def product(base: View, scale: Real, a: View, b: View, c: View, shape: Shape, k: Word):
    """Compute ``c = base + scale * a @ b`` for Views: a is m x k, b is k x n; base may be c.

    a may have any strides; rows of b, base and c are contiguous.
    """
    m, n = shape
    panel = panel_buffer(b)
    width = panel.row // NR
    if is_shallow(n, k, width):
        shallow_product(base, scale, a, b, c, shape, k)
        return
    if tile_of(m, n, width) == FEW:
        few_rows(base, scale, a, b, c, shape, k)
        return
    if max(m, n, k) <= SHORT:
        unpacked(base, scale, a, b, c, shape, k)
        return
    packs = a.row == 1 and n > 2 * panel.row and m * k >= BIG * width
    most = min(MC, MC_PACKED * width) if packs else MC
    for p in range(0, max(k, 1), KC):
        depth = min(k - p, KC)
        x, y = at(a, 0, p), at(b, p, 0)
        i = ZERO
        while i < m:
            rows = height_of(m - i, most)
            s, z = at(base, i, 0), at(c, i, 0)
            if packs:
                _packed_panels(s, scale, at(x, i, 0), y, z, panel, rows, n, depth)
            else:
                _panels(s, scale, at(x, i, 0), y, z, panel, rows, n, depth, ZERO)
            i += rows
        base = c


@inlined
def height_of(m, most):
    """Return the rows of the next block of a, of which m rows are left: as equal as can be.

    A block, of about `most` rows at most, stays in L2 while the panels of b go by. Each takes its
    share of what its forerunners left, so that none has fewer rows than a tile.
    """
    blocks = (m + most - 1) // most
    height = (m + blocks - 1) // blocks
    return min(m, height + -height % CHUNK_OF_ROWS)


@kernel
def few_rows(base: View, scale: Real, a: View, b: View, c: View, shape: Shape, k: Word):
    """Compute the product by tiles of one row or a few, which read b where it lies."""
    m, n = shape
    panel = View(c.data, 0, 1)  # nothing is parked
    width = VECTOR_BYTES // size_of(c)
    for p in range(0, max(k, 1), KC):
        depth = min(k - p, KC)
        for i in range(0, m, MR_TALL):
            x, rows = at(a, i, p), min(m - i, MR_TALL)
            step = (NR_ONE if rows == 1 else NR) * width
            for j in range(0, n, step):
                s, y, z, left = at(base, i, j), at(b, p, j), at(c, i, j), n - j
                if rows == 1:
                    one_row(s, scale, x, y, z, panel, depth, left, rows)
                elif rows > MR_FEW:
                    tall(s, scale, x, y, z, panel, depth, left, rows)
                elif n <= width:
                    slim(s, scale, x, y, z, panel, depth, left, rows)
                else:
                    small(s, scale, x, y, z, panel, depth, left, rows)
        base = c


@kernel
def shallow_product(base: View, scale: Real, a: View, b: View, c: View, shape: Shape, k: Word):
    """Compute the product by strips, which keep b in registers: see `is_shallow`."""
    m, n = shape
    width, rows = VECTOR_BYTES // size_of(c), m - m % ROWS_SHALLOW
    for j in range(0, n, NR * width):
        s, y, z, left = at(base, 0, j), at(b, 0, j), at(c, 0, j), n - j
        if left > width:
            wide_strip(s, scale, a, y, z, rows, min(left, NR * width), k)
        else:
            narrow_strip(s, scale, a, y, z, rows, left, k)
    if rows < m:
        few_rows(at(base, rows, 0), scale, at(a, rows, 0), b, at(c, rows, 0), (1, n), k)


@kernel
def _panels(
    base: View, scale: Real, a: View, b: View, c: View, panel: View, m: Word, n: Word, depth: Word,
    step: Word,
):  # fmt: skip
    """Compute all columns of a product of m >= MR rows, at most KC deep."""
    width = panel.row // NR
    j = 0
    while j < n:
        s, y, z, left = at(base, 0, j), at(b, 0, j), at(c, 0, j), n - j
        next_b = View(at(y, 0, panel.row).data, b.row if j > 0 else ZERO, b.col)
        if step or tile_of(m, left, width) != NARROW:
            wide(s, scale, a, y, z, panel, next_b, m, left, depth, step)
            j += NR * width
        else:
            narrow(s, scale, a, y, z, panel, next_b, m, left, depth, ZERO)
            j += width


@kernel
def transposed_product(base: View, a: View, b: View, c: View, shape: Shape, k: Word):
    """Compute ``c = base + a @ b.T`` for Views, all with contiguous rows; base may be c.

    Panels are packed from b's rows by transposing blocks in registers, so nobody needs b.T.
    """
    m, n = shape
    panel = panel_buffer(b)
    width = panel.row // NR
    if is_shallow(n, k, width):
        for j in range(0, n, NR * width):
            _pack_transposed(at(b, j, 0), panel, n - j, k, NR)
            s, z, left = at(base, 0, j), at(c, 0, j), min(n - j, NR * width)
            shallow_product(s, unit(c), a, panel, z, (m, left), k)
        return
    for p in range(0, k, KC):
        depth = min(k - p, KC)
        i = ZERO
        while i < m:
            rows = height_of(m - i, MC_TRANSPOSED)
            s, x, z = at(base, i, 0), at(a, i, p), at(c, i, 0)
            _transposed_panels(s, x, at(b, 0, p), z, rows, n, depth)
            i += rows
        base = c


@inlined
def _transposed_panels(base, a, b, c, m, n, depth):
    """Compute `_panels` of a transposed view b."""
    panel, one = panel_buffer(b), unit(c)
    width = panel.row // NR
    j = 0
    while j < n:
        s, y, z, left = at(base, 0, j), at(b, j, 0), at(c, 0, j), n - j
        next_b = View(at(y, NR * width, 0).data, 1 if j > 0 else ZERO, y.row)
        if tile_of(m, left, width) != NARROW:
            _pack_transposed(y, panel, left, depth, NR)
            if m < MR:
                _small_packed(s, one, a, z, panel, m, left, depth)
            else:
                wide_packed(s, one, a, z, panel, next_b, ZERO, m, left, depth, ZERO)
            j += NR * width
        else:
            _pack_transposed(y, View(panel.data, width, panel.col), left, depth, 1)
            narrow_packed(s, one, a, z, panel, next_b, ZERO, m, left, depth, ZERO)
            j += width


@inlined
def _small_packed(base, scale, a, c, panel, m, n, k):
    """Multiply fewer rows than a tile has by a packed panel."""
    for i in range(0, m, MR_FEW):
        rows = min(m - i, MR_FEW)
        small(at(base, i, 0), scale, at(a, i, 0), panel, at(c, i, 0), panel, k, n, rows)


@inlined
def _pack(b, panel, n, k, vecs):
    """Pack k rows of b, of which n columns are left, fewer than `vecs` vectors: zeros follow."""
    width = VECTOR_BYTES // size_of(b)
    for q in range(k):
        for v in range(vecs):
            place = at(View(panel.data, vecs * width, panel.col), q, v * width)
            copy_vector(at(b, q, v * width), place, n - v * width)


@inlined
def _pack_transposed(b, panel, n, depth, vecs):
    """Pack b transposed: row q of the panel is column q of b, which has n rows."""
    width = VECTOR_BYTES // size_of(b)
    for v in range(vecs):
        for q in range(0, depth, width):
            block, place = at(b, v * width, q), at(panel, q, v * width)
            pack_block(block, place, n - v * width, depth - q)


@kernel
def _packed_panels(
    base: View, scale: Real, a: View, b: View, c: View, panel: View, m: Word, n: Word, depth: Word
):
    """Compute `_panels` of a transposed view a, packed first: a tile's rows of a are one piece.

    Each of its columns is on a page of its own, far from the next.
    """
    block, step = block_buffer(b), depth + 1  # the last column's vectors reach over
    for first in range(0, depth, PIECE):
        for i in range(0, m, MR):
            h = i if m - i <= MR_FEW else min(i, m - MR)  # as the sweep has it
            x, place = at(a, h, first), at(View(block.data, step, MR), i, first)
            for q in range(min(depth - first, PIECE)):
                copy_column(at(x, 0, q), at(place, 0, q), m - h)
    _panels(base, scale, View(block.data, 1, MR), b, c, panel, m, n, depth, step)


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
def copy_column(typingctx, a, b, n):
    """Copy MR elements at a, of which there are n, to b, and what follows them in their vectors."""

    def codegen(context, bld, sig, args):
        out = Writer(context, bld, a[0].dtype)
        out.shorten(int(MR))
        (a_p, _, _), (b_p, _, _) = (cgutils.unpack_tuple(bld, v) for v in args[:2])
        vectors = range(-(-int(MR) // out.lanes))
        masks = out.masks(args[2], len(vectors))
        is_full = bld.icmp_signed(">=", args[2], integer(len(vectors) * out.lanes))
        x = out.either(
            is_full,
            lambda: [out.load(a_p, v) for v in vectors],
            lambda: [out.load(a_p, v, masks[v]) for v in vectors],
        )
        for v in vectors:
            out.store(x[v], b_p, v)
        return context.get_dummy_value()

    return types.void(a, b, types.intp), codegen


@intrinsic
def copy_vector(typingctx, a, b, n):
    """Copy row 0 of a, n columns, but one vector at most, to that of b, with zeros behind."""

    def codegen(context, bld, sig, args):
        out = Writer(context, bld, a[0].dtype)
        (a_p, _, _), (b_p, _, _) = (cgutils.unpack_tuple(bld, v) for v in args[:2])
        (mask,) = out.masks(args[2], 1)
        is_full = bld.icmp_signed(">=", args[2], integer(out.lanes))
        out.store(
            *out.either(is_full, lambda: [out.load(a_p, 0)], lambda: [out.load(a_p, 0, mask)]),
            b_p,
            0,
        )
        return context.get_dummy_value()

    return types.void(a, b, types.intp), codegen
