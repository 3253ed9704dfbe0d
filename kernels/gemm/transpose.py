"""Transposing a matrix by blocks in vector registers, and interleaving its rows."""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..abi import Vector, Word
from ..compiler import kernel
from ..simd.vectors import lanes
from .tile import View, Writer, at, integer


@intrinsic
def transpose_block(typingctx, a, b, m, n):
    """Compute ``b[j, i] = a[i, j]`` for i < m, j < n, at most lanes x lanes."""

    def codegen(context, bld, sig, args):
        block = _Block(context, bld, a[0].dtype, args)
        block.store_rows(block.transposed())
        return context.get_dummy_value()

    return types.void(a, b, types.intp, types.intp), codegen


@intrinsic
def pack_block(typingctx, a, b, m, n):
    """Transpose a block into whole vectors, with zeros beyond m.

    Whatever else lies there would go through multiply-adds, at a hundred times their price if it
    looks like a subnormal number.
    """

    def codegen(context, bld, sig, args):
        block = _Block(context, bld, a[0].dtype, args)
        columns = block.transposed()
        block.m = integer(block.lanes)
        block.store_rows(columns)
        return context.get_dummy_value()

    return types.void(a, b, types.intp, types.intp), codegen


@intrinsic
def rows_to_columns(typingctx, a, b, n):
    """Compute ``b[j, i] = a[i, j]`` for i < lanes, j < n, and zeros for n <= j < lanes."""

    def codegen(context, bld, sig, args):
        block = _Block(context, bld, a[0].dtype, (*args[:2], None, args[2]))
        block.m = integer(block.lanes)
        columns = block.transposed()
        block.n = block.m
        block.store_rows(columns)
        return context.get_dummy_value()

    return types.void(a, b, types.intp), codegen


@intrinsic
def columns_to_rows(typingctx, a, b, m):
    """Compute ``b[j, i] = a[i, j]`` for i < m, j < lanes; a has `lanes` rows that may be read."""

    def codegen(context, bld, sig, args):
        block = _Block(context, bld, a[0].dtype, (*args[:2], None, None))
        block.m = block.n = integer(block.lanes)
        rows = block.transposed()
        block.m = args[2]
        block.store_rows(rows)
        return context.get_dummy_value()

    return types.void(a, b, types.intp), codegen


@kernel
def transpose(a: View, b: View, m: Word, n: Word, like: Vector):
    """Compute ``b[j, i] = a[i, j]`` for i < m, j < n, of Views with the dtype of `like`."""
    for i in range(0, m, lanes(like)):
        for j in range(0, n, lanes(like)):
            transpose_block(at(a, i, j), at(b, j, i), m - i, n - j)


@intrinsic
def transpose_add(typingctx, scale, a, b, m, n):
    """Compute ``b[j, i] += scale * a[i, j]`` for i < m, j < n, at most lanes x lanes."""

    def codegen(context, bld, sig, args):
        block = _Block(context, bld, a[0].dtype, args[1:])
        factor = block.splat(args[0])
        pairs = zip(block.transposed(), block.old_rows(), strict=True)
        block.store_rows([block.muladd(x, factor, old) for x, old in pairs])
        return context.get_dummy_value()

    return types.void(scale, a, b, types.intp, types.intp), codegen


def make_interleave(group):
    """Make ``interleave(a, b, m, n)``: one vector ``b[j * group + i] = a[i, j]``.

    i < group, and 0 from row m on; n <= lanes / group columns.
    """

    @intrinsic
    def interleave(typingctx, a, b, m, n):
        def codegen(context, bld, sig, args):
            block = _Block(context, bld, a[0].dtype, args)
            rows = min(group, block.lanes)  # where it is less, nobody calls this
            x = [block.load(*block.place(block.a, r, block.m, block.n)) for r in range(rows)]
            zipped = [side * block.lanes + j for j in range(block.lanes // 2) for side in range(2)]
            while len(x) > 1:  # rows 0, 1, 2, 3: first 0 with 2 and 1 with 3, then those two
                half = len(x) // 2
                x = [block.pick(*pair, zipped) for pair in zip(x[:half], x[half:], strict=True)]
            block.store(x[0], block.b[0], 0)
            return context.get_dummy_value()

        return types.void(a, b, types.intp, types.intp), codegen

    return interleave


class _Block(Writer):
    """Writes what is done to a block: a is m x n, b is n x m."""

    def __init__(self, context, builder, dtype, args):
        super().__init__(context, builder, dtype)
        self.a, self.b = (cgutils.unpack_tuple(builder, v) for v in args[:2])
        self.m, self.n = args[2:]

    def place(self, view, r, rows, columns):
        """Return (pointer to row r, 0, its mask); the mask is empty if there is no such row."""
        exists = self.bld.icmp_signed("<", integer(r), rows)
        (mask,) = self.masks(self.bld.select(exists, columns, integer(0)), 1)
        return self.row(view, r), 0, mask

    def row(self, view, r):
        """Pointer to row r."""
        return self.step(view[0], self.bld.mul(integer(r), view[1]))

    def transposed(self):
        """Return the columns of a, one a vector, by swapping quarters of ever smaller blocks."""
        size = self.lanes
        x = self.load_rows(self.a, self.m, self.n)
        half = size // 2
        while half:
            low = [size + i - half if i & half else i for i in range(size)]
            high = [size + i if i & half else i + half for i in range(size)]
            for r in (r for r in range(size) if not r & half):
                x[r], x[r + half] = [self.pick(x[r], x[r + half], p) for p in (low, high)]
            half //= 2
        return x

    def old_rows(self):
        """Return what b holds."""
        return self.load_rows(self.b, self.n, self.m)

    def is_whole(self, rows, columns):
        """Return whether a block has all rows and columns: then nothing is masked."""
        full = (self.bld.icmp_signed(">=", x, integer(self.lanes)) for x in (rows, columns))
        return self.bld.and_(*full)

    def load_rows(self, view, rows, columns):
        """Return the rows of a block of a view, zeros where there is none."""

        def plain():
            return [self.load(self.row(view, r), 0) for r in every]

        def edge():
            return [self.load(*self.place(view, r, rows, columns)) for r in every]

        every = range(self.lanes)
        return self.either(self.is_whole(rows, columns), plain, edge)

    def store_rows(self, x):
        """Store vectors as rows of b."""
        with self.bld.if_else(self.is_whole(self.n, self.m), likely=True) as (plain, edge):
            with plain:
                for r in range(self.lanes):
                    self.store(x[r], self.row(self.b, r), 0)
            with edge:
                for r in range(self.lanes):
                    self.store(x[r], *self.place(self.b, r, self.n, self.m))
