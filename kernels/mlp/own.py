"""Activations and losses of the user's own, called by their addresses.

The code of such an activation is the address of a table of addresses: of f, f' and f'', scalar C
functions, called lane by lane. That of a loss is the address of two parts, for float32 and for
float64, as `circuit_loss.make_part` makes them; the first word is where `apply_at` is.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from ..simd.vectors import Vector

WORD, DOUBLE = ir.IntType(64), ir.DoubleType()
VALUE, DERIVATIVE, SECOND_DERIVATIVE = range(3)

# No code of ours is as large, and no address is as small.
FIRST = 4096

# What a loss is asked for, and the words of its part.
LOSS_SUM, SLOPES, CURVED = range(3)
PART = 17


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


@intrinsic
def own_loss(context, code, what, a, Y, weights, scale, Ra, out, spare):
    """`circuit_loss.apply` of the loss whose code this is; None for what is not there."""
    lane, word = a.dtype, types.int64

    def lower(context, builder, sig, args):
        def address(i):
            kind, value, is_there = sig.args[i], args[i], cgutils.true_bit
            if kind == types.none:
                return ir.Constant(WORD, 0)
            if isinstance(kind, types.Optional):
                optional = context.make_helper(builder, kind, value)
                kind, value, is_there = kind.type, optional.data, optional.valid
            data = builder.ptrtoint(make_array(kind)(context, builder, value).data, WORD)
            return builder.select(is_there, data, ir.Constant(WORD, 0))

        shape = make_array(a)(context, builder, args[2]).shape
        count, columns = (builder.extract_value(shape, i) for i in range(2))
        part = builder.add(args[0], ir.Constant(WORD, 0 if lane == types.float32 else 8 * PART))
        like = ir.Constant(context.get_value_type(lane), 0)
        passed = [part, args[1], count, columns, *map(address, (2, 3, 4))]
        passed += [args[5], *map(address, (6, 7, 8)), like]
        kind = ir.FunctionType(DOUBLE, [x.type for x in passed])
        function = builder.load(builder.inttoptr(part, WORD.as_pointer()))
        return builder.call(builder.inttoptr(function, kind.as_pointer()), passed)

    return (
        types.float64(word, word, a, Y, weights, types.float64, Ra, out, spare),
        lower,
    )
