"""Activations of the user's own: scalar C functions, called lane by lane.

They are found at a table of addresses, of f, f' and f'', which may be filled anew.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..compiler import inlined
from ..simd.vectors import Vector
from .activations import of_units

WORD, DOUBLE = ir.IntType(64), ir.DoubleType()
VALUE, DERIVATIVE, SECOND_DERIVATIVE, N_FUNCTIONS = range(4)


def make_call(which):
    """Make ``call(table, x)``: one of the three functions, of each lane of a vector register."""

    @intrinsic
    def call(context, table, x):
        def lower(context, builder, sig, args):
            place = builder.inttoptr(args[0], WORD.as_pointer())
            place = builder.gep(place, [ir.Constant(ir.IntType(32), which)])
            kind = ir.FunctionType(DOUBLE, [DOUBLE]).as_pointer()
            function = builder.inttoptr(builder.load(place), kind)
            result = args[1]
            for i in range(x.count):
                lane = ir.Constant(ir.IntType(32), i)
                value = builder.extract_element(args[1], lane)
                if x.dtype == types.float32:
                    value = builder.fpext(value, DOUBLE)
                value = builder.call(function, [value])
                if x.dtype == types.float32:
                    value = builder.fptrunc(value, ir.FloatType())
                result = builder.insert_element(result, value, lane)
            return result

        return (x(types.int64, x), lower) if isinstance(x, Vector) else None

    return call


call_value, call_derivative, call_second_derivative = map(make_call, range(N_FUNCTIONS))


def own_activation(name, table):
    """Make the record of an activation whose functions are in a table (N_FUNCTIONS,) int64."""
    address = np.int64(table.ctypes.data)

    @inlined
    def value(z, p):
        return call_value(address, z)

    @inlined
    def derivative(z, p):
        return call_derivative(address, z)

    @inlined
    def curvature(z, p):
        return call_second_derivative(address, z)

    functions = value, derivative, curvature
    return of_units(f"own at {address}", *functions, is_kept=False, of_z=True)._replace(name=name)
