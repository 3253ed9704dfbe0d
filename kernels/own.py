"""Activations of the user's own: scalar C functions, called by their addresses, lane by lane.

The code of such an activation is the address of a table of addresses: of f, f' and f''.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .vectors import Vector

WORD, DOUBLE = ir.IntType(64), ir.DoubleType()
VALUE, DERIVATIVE, SECOND_DERIVATIVE = range(3)

# No code of an activation of ours is as large, and no address is as small.
FIRST = 4096


def make_call(which):
    """Make ``call(code, x)``: one of the three functions, of each lane of a vector register."""

    @intrinsic
    def call(context, code, x):
        def lower(context, builder, sig, args):
            table = builder.inttoptr(args[0], WORD.as_pointer())
            place = builder.load(builder.gep(table, [ir.Constant(ir.IntType(32), which)]))
            function = builder.inttoptr(place, ir.FunctionType(DOUBLE, [DOUBLE]).as_pointer())
            found = args[1]
            for i in range(x.count):
                lane = ir.Constant(ir.IntType(32), i)
                value = builder.extract_element(args[1], lane)
                if x.dtype == types.float32:
                    value = builder.fpext(value, DOUBLE)
                value = builder.call(function, [value])
                if x.dtype == types.float32:
                    value = builder.fptrunc(value, ir.FloatType())
                found = builder.insert_element(found, value, lane)
            return found

        return (x(types.int64, x), lower) if isinstance(x, Vector) else None

    return call


own_value = make_call(VALUE)
own_derivative = make_call(DERIVATIVE)
own_second_derivative = make_call(SECOND_DERIVATIVE)
