"""Transposing a block of a matrix in vector registers."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .tile import I32, Writer, integer


@intrinsic
def transpose_block(typingctx, a, b, m, n):
    """b[j, i] = a[i, j] for i < m, j < n, at most lanes x lanes, in registers."""

    def codegen(context, bld, sig, args):
        out = Writer(context, bld, a[0].dtype)
        (ap, a_row, _), (bp, b_row, _) = (cgutils.unpack_tuple(bld, v) for v in args[:2])
        (m, n), size = args[2:], out.lanes

        def mask(r, rows, columns):  # no lane at all for rows that do not exist
            return out.masks(
                bld.select(bld.icmp_signed("<", integer(r), rows), columns, integer(0)), 1
            )[0]

        x = [
            out.load(out.step(ap, bld.mul(integer(r), a_row)), 0, mask(r, m, n))
            for r in range(size)
        ]
        half = size // 2
        while half:  # swap the off-diagonal quarters of blocks of 2 * half, ever smaller
            low = [size + i - half if i & half else i for i in range(size)]
            high = [size + i if i & half else i + half for i in range(size)]
            picks = [ir.Constant(ir.VectorType(I32, size), p) for p in (low, high)]
            for r in (r for r in range(size) if not r & half):
                x[r], x[r + half] = [bld.shuffle_vector(x[r], x[r + half], p) for p in picks]
            half //= 2
        for r in range(size):
            out.store(x[r], out.step(bp, bld.mul(integer(r), b_row)), 0, mask(r, n, m))
        return context.get_dummy_value()

    return types.void(a, b, types.intp, types.intp), codegen
