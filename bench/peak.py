"""The most multiply-adds that this core can do: what a training step's flops are held against.

Twelve independent chains ``acc = acc * x + y``, each a vector register: more than latency times
ports of any current core (4 x 2 or 5 x 2), and few enough for 16 registers.
"""

import numpy as np
from deltajit.kernels.simd.vectors import LANES_F32, LANES_F64, broadcast, reduce_add
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from bench.clock import Contestant

CHAINS = 12


@intrinsic
def _chains(context, x, y, rounds):
    """Sum of `CHAINS` vectors, each started apart and put `rounds` times through ``v * x + y``."""

    def lower(context, builder, signature, args):
        x, y, rounds = args
        suffix = f"v{x.type.count}{'f32' if x.type.element == ir.FloatType() else 'f64'}"
        kind = ir.FunctionType(x.type, [x.type] * 3)
        fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.{suffix}")
        slots = []
        for i in range(CHAINS):  # chains that start alike would be merged into one
            start = builder.fmul(x, ir.Constant(x.type, [float(i)] * x.type.count))
            slots.append(cgutils.alloca_once_value(builder, start))
        with cgutils.for_range(builder, rounds):
            for slot in slots:  # registers, once LLVM has seen them
                builder.store(builder.call(fma, [builder.load(slot), x, y]), slot)
        total = builder.load(slots[0])
        for slot in slots[1:]:
            total = builder.fadd(total, builder.load(slot))
        return total

    return x(x, y, types.intp), lower


@njit(error_model="numpy")
def multiply_adds(x, y, rounds):
    """Do `rounds` times CHAINS vector multiply-adds in the dtype of x; returns what they give."""
    return reduce_add(_chains(broadcast(x, x), broadcast(y, x), rounds))


def flops(dtype, rounds):
    """Floating-point operations of ``multiply_adds(x, y, rounds)``."""
    return 2 * CHAINS * {"float32": LANES_F32, "float64": LANES_F64}[dtype] * rounds


def contestant(dtype):
    """Return this kernel as a contestant, whose unit is one floating-point operation."""
    number = np.dtype(dtype).type

    def run(operations):
        multiply_adds(number(0.75), number(0.3), operations // flops(dtype, 1))

    return Contestant("peak", run, 1 << 62)
