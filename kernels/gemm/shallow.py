"""A strip of a product so shallow that all of b stays in registers while the rows of c go by.

A tile would spend more time at its edges than in its loop.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..blocks import NR, ROWS_SHALLOW, SHALLOW
from .tile import I8, Writer, integer


@intrinsic
def strip(typingctx, base, scale, a, b, c, m, n, k):
    """Compute ``c = base + scale * a @ b`` for 0 < k <= SHALLOW, m a multiple of ROWS_SHALLOW.

    n columns: from one vector to NR, of which the last may overlap the one before.
    """

    def codegen(context, bld, sig, args):
        _Strip(context, bld, a[0].dtype, args).write()
        return context.get_dummy_value()

    return types.void(base, scale, a, b, c, types.intp, types.intp, types.intp), codegen


class _Strip(Writer):
    """Writes a strip: b into registers, and for each depth a loop over rows of c."""

    def __init__(self, context, builder, dtype, args):
        super().__init__(context, builder, dtype)
        self.base, self.scale, self.a, self.b, self.c = (
            x if i == 1 else cgutils.unpack_tuple(builder, x) for i, x in enumerate(args[:5])
        )
        self.m, n, self.k = args[5:]
        last = builder.sub(n, integer(self.lanes))
        starts = (integer(v * self.lanes) for v in range(NR - 1))
        self.starts = [*(self.least(start, last) for start in starts), last]
        self.half = -(-SHALLOW // 2)
        self.offsets = self.multiples(self.a[2], self.half)

    def least(self, x, y):
        """The smaller of two integers."""
        return self.bld.select(self.bld.icmp_signed("<", x, y), x, y)

    def write(self):
        """Write it all."""
        bld, last = self.bld, self.bld.sub(self.k, integer(1))
        # In place of rows of b that do not exist the last one is read.
        numbers = [self.least(integer(q), last) for q in range(SHALLOW)]
        b = [self.vectors(self.b, number) for number in numbers]
        end = bld.append_basic_block("end")
        depths = bld.switch(self.k, end)
        for depth in range(1, SHALLOW + 1):
            block = bld.append_basic_block("depth")
            depths.add_case(integer(depth), block)
            bld.position_at_end(block)
            step = integer(ROWS_SHALLOW)
            with cgutils.for_range_slice(bld, integer(0), self.m, step) as (i, _):
                self.write_rows([bld.add(i, integer(r)) for r in range(ROWS_SHALLOW)], b[:depth])
            bld.branch(end)
        bld.position_at_end(end)

    def write_rows(self, rows, b):
        """Write a few rows of c. All of base is read before any is written: it may be c."""
        sums = [[ir.Constant(self.type, None)] * NR for _ in rows]
        anchors = [self.anchors(row) for row in rows]
        for q, row_of_b in enumerate(b):
            for r in range(len(rows)):
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
