"""Products that are a few rows of b deep: b stays in registers while the rows of c go by.

A tile would take longer to begin and to end than for so few multiply-adds.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..blocks import ROWS_SHALLOW, SHALLOW
from .tile import I8, Writer, integer


def make_strip(vecs):
    """Make ``strip(base, scale, a, b, c, m, n, k)``: ``c = base + scale * a @ b``.

    n columns, from one vector to `vecs`, of which the last may overlap the one before; m is a
    multiple of ROWS_SHALLOW, and 0 < k <= SHALLOW.
    """

    @intrinsic
    def strip(typingctx, base, scale, a, b, c, m, n, k):
        def codegen(context, bld, sig, args):
            _Strip(context, bld, a[0].dtype, vecs, args).write()
            return context.get_dummy_value()

        return types.void(base, scale, a, b, c, types.intp, types.intp, types.intp), codegen

    return strip


class _Strip(Writer):
    """Writes a strip: b into registers, and for each depth a loop over rows of c."""

    def __init__(self, context, builder, dtype, vecs, args):
        super().__init__(context, builder, dtype)
        self.base, self.scale, self.a, self.b, self.c = (
            x if i == 1 else cgutils.unpack_tuple(builder, x) for i, x in enumerate(args[:5])
        )
        self.m, n, self.k = args[5:]
        last = builder.sub(n, integer(self.lanes))
        starts = [integer(v * self.lanes) for v in range(vecs - 1)]
        is_inside = [builder.icmp_signed("<", start, last) for start in starts]
        self.starts = [*map(builder.select, is_inside, starts, [last] * len(starts)), last]
        self.half = -(-SHALLOW // 2)
        self.offsets = self.multiples(self.a[2], self.half)

    def write(self):
        """Write it all."""
        bld, step = self.bld, integer(ROWS_SHALLOW)
        end = bld.append_basic_block("end")
        depths = bld.switch(self.k, end)
        for depth in range(1, SHALLOW + 1):
            block = bld.append_basic_block("depth")
            depths.add_case(integer(depth), block)
            bld.position_at_end(block)
            b = [self.vectors(self.b, integer(q)) for q in range(depth)]
            with cgutils.for_range_slice(bld, integer(0), self.m, step) as (i, _):
                self.write_rows([bld.add(i, integer(r)) for r in range(ROWS_SHALLOW)], b)
            bld.branch(end)
        bld.position_at_end(end)

    def write_rows(self, rows, b):
        """Write a few rows of c. All of base is read before any is written: it may be c."""
        sums = [[ir.Constant(self.type, None)] * len(self.starts) for _ in rows]
        anchors = [self.anchors(row) for row in rows]
        for q, row_of_b in enumerate(b):
            for r in range(len(rows)):
                if len(rows) > 1:  # or LLVM loads all of a first, and moves b out of registers
                    anchors[r] = [self.hide(p, *sums[r] * (q > 0)) for p in anchors[r]]
                p = self.bld.bitcast(anchors[r][q // self.half], I8.as_pointer())
                p = self.bld.gep(p, [self.offsets[q % self.half]], source_etype=I8)
                p = self.bld.bitcast(p, self.element.as_pointer())
                x = self.splat(self.bld.load(p, typ=self.element))
                pairs = zip(row_of_b, sums[r], strict=True)
                sums[r] = [self.muladd(x, *pair) for pair in pairs]
        scale, olds = self.splat(self.scale), [self.vectors(self.base, row) for row in rows]
        totals = [
            [self.muladd(x, scale, old) for x, old in zip(*pair, strict=True)]
            for pair in zip(sums, olds, strict=True)
        ]
        for row, total in zip(rows, totals, strict=True):
            for x, p in zip(total, self.places(self.c, row), strict=True):
                self.store(x, p, 0)

    def anchors(self, row):
        """Pointers to a row of a, and to its second half."""
        p = self.step(self.a[0], self.bld.mul(row, self.a[1]))
        return [p, self.step(p, self.bld.mul(integer(self.half), self.a[2]))]

    def places(self, view, row):
        """Pointers to the vectors of a row."""
        p = self.step(view[0], self.bld.mul(row, view[1]))
        return [self.step(p, start) for start in self.starts]

    def vectors(self, view, row):
        """The vectors of a row."""
        return [self.load(p, 0) for p in self.places(view, row)]
