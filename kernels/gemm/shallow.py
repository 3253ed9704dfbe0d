"""Products that are a few rows of b deep: b stays in registers while the rows of a go by.

A tile would take longer to begin and to end than for so few multiply-adds.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..abi import Real, Word
from ..blocks import NR, SHALLOW
from ..compiler import kernel
from .tile import View, Writer, at, integer


def make_strip(vecs):
    """Make ``strip(base, scale, a, b, c, m, k)``: `vecs` whole vectors of columns, k <= SHALLOW."""

    @intrinsic
    def strip(typingctx, base, scale, a, b, c, m, k):
        def codegen(context, bld, sig, args):
            writer = _Strip(context, bld, a[0].dtype, vecs, args)
            depths, end = args[-1], bld.append_basic_block("end")
            choice = bld.switch(depths, end)
            for depth in range(1, SHALLOW + 1):
                block = bld.append_basic_block(f"depth_{depth}")
                choice.add_case(integer(depth), block)
                bld.position_at_end(block)
                writer.write(depth)
                bld.branch(end)
            bld.position_at_end(end)
            return context.get_dummy_value()

        return types.void(base, scale, a, b, c, types.intp, types.intp), codegen

    return strip


class _Strip(Writer):
    """Writes ``c = base + scale * a @ b``, each element one chain, as a tile has it."""

    def __init__(self, context, builder, dtype, vecs, args):
        super().__init__(context, builder, dtype)
        self.base, self.scale, self.a, self.b, self.c = (
            x if i == 1 else cgutils.unpack_tuple(builder, x) for i, x in enumerate(args[:5])
        )
        self.vecs, self.m = range(vecs), args[5]

    def place(self, view, i, j):
        """Pointer to element (i, j) of a View."""
        data, row, col = view
        return self.step(data, self.bld.add(self.bld.mul(i, row), self.bld.mul(j, col)))

    def write(self, depth):
        """Write the loop over rows, for one depth."""
        bld, zero, scale = self.bld, integer(0), self.splat(self.scale)
        b = [self.place(self.b, integer(q), zero) for q in range(depth)]
        b = [[self.load(p, v) for v in self.vecs] for p in b]
        with cgutils.for_range(bld, self.m) as loop:
            i, sums = loop.index, [ir.Constant(self.type, None)] * len(self.vecs)
            for q, row_of_b in enumerate(b):
                x = self.splat(bld.load(self.place(self.a, i, integer(q)), typ=self.element))
                sums = [self.muladd(x, *pair) for pair in zip(row_of_b, sums, strict=True)]
            base, c = self.place(self.base, i, zero), self.place(self.c, i, zero)
            totals = [self.muladd(sums[v], scale, self.load(base, v)) for v in self.vecs]
            for v in self.vecs:
                self.store(totals[v], c, v)


one_vector, two_vectors = make_strip(1), make_strip(NR)


@kernel
def shallow_product(
    base: View, scale: Real, a: View, b: View, c: View, m: Word, n: Word, k: Word, width: Word
):
    """Compute ``c = base + scale * a @ b`` of n columns, whole vectors of `width` lanes each.

    The arguments are those of `product`; see `is_shallow`.
    """
    for j in range(0, n, NR * width):
        s, y, z = at(base, 0, j), at(b, 0, j), at(c, 0, j)
        if n - j > width:
            two_vectors(s, scale, a, y, z, m, k)
        else:
            one_vector(s, scale, a, y, z, m, k)
