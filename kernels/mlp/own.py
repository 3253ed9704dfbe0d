"""Activations and losses of the user's own: scalar C functions, called lane by lane.

They are found at a table of addresses, which may be filled anew: of an activation's f, f' and f''
of z, of a loss's value, slope and curve of an output and its target.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..compiler import inlined
from ..simd.vectors import Vector
from . import activations, losses

WORD, DOUBLE, LANE = ir.IntType(64), ir.DoubleType(), ir.IntType(32)
N_FUNCTIONS = 3


def make_call(which, arity):
    """Make ``call(table, x)`` or ``call(table, x, y)``: a function in the table, lane by lane."""

    def lower(context, builder, sig, args):
        address, *vectors = args
        place = builder.inttoptr(address, WORD.as_pointer())
        kind = ir.FunctionType(DOUBLE, [DOUBLE] * arity).as_pointer()
        function = builder.inttoptr(builder.load(builder.gep(place, [LANE(which)])), kind)
        result, is_single = vectors[0], sig.return_type.dtype == types.float32
        for i in range(sig.return_type.count):
            numbers = [builder.extract_element(vector, LANE(i)) for vector in vectors]
            if is_single:
                numbers = [builder.fpext(number, DOUBLE) for number in numbers]
            value = builder.call(function, numbers)
            if is_single:
                value = builder.fptrunc(value, ir.FloatType())
            result = builder.insert_element(result, value, LANE(i))
        return result

    def typed(x, *others):
        same = isinstance(x, Vector) and all(other == x for other in others)
        return (x(types.int64, x, *others), lower) if same else None

    define = {
        1: lambda context, table, x: typed(x),
        2: lambda context, table, x, y: typed(x, y),
    }[arity]
    return intrinsic(define)


f, first, second = (make_call(which, 1) for which in range(N_FUNCTIONS))
loss_value, loss_slope, loss_curve = (make_call(which, 2) for which in range(N_FUNCTIONS))


def own_activation(name, table):
    """Make the record of an activation whose functions are in a table (N_FUNCTIONS,) int64."""
    address = np.int64(table.ctypes.data)

    @inlined
    def value(z, p):
        return f(address, z)

    @inlined
    def derivative(z, p):
        return first(address, z)

    @inlined
    def curvature(z, p):
        return second(address, z)

    return activations.of_units(
        f"own at {address}", value, derivative, curvature, is_kept=False, of_z=True
    )._replace(name=name)


def own_loss(name, table):
    """Make the record of a loss whose functions are in a table (N_FUNCTIONS,) int64."""
    address = np.int64(table.ctypes.data)

    @inlined
    def value(z, a, y, p):
        return loss_value(address, a, y)

    @inlined
    def slope(a, y, p):
        return loss_slope(address, a, y)

    @inlined
    def curve(a, y, p):
        return loss_curve(address, a, y)

    return losses.of_outputs(f"own at {address}", value, slope, curve, is_kept=False)._replace(
        name=name
    )
