"""Views of flat buffers: 1-D and 2-D arrays that cost nothing to make.

A slice of a Numba array counts references, by calls that LLVM can't remove, and a reshape checks
its strides. These views do neither: they are a pointer and a shape, valid as long as the buffer is,
which the caller of a kernel owns. Nothing here checks a bound; the workspace's size is checked
once, where a kernel is entered.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from ..abi import Borrowed, Vector, array_at
from ..blocks import LOOK_AHEAD
from ..compiler import inlined, kernel, shared
from . import write
from .vectors import (
    VECTOR_BYTES,
    dtype_of,
    first_of,
    first_only,
    lanes,
    load,
    load_masked,
    store,
    store_masked,
    vector_of,
)


def _view(context, builder, view_type, buffer_type, buffer, at, shape):
    """Return the IR of an array of `shape`, `at` elements into `buffer`, that owns nothing."""
    source = make_array(buffer_type)(context, builder, buffer)
    return array_at(context, builder, view_type, builder.gep(source.data, [at]), shape)


def _intp(context, builder, args, signature):
    return [
        context.cast(builder, value, kind, types.intp)
        for value, kind in zip(args[1:], signature.args[1:], strict=True)
    ]


@intrinsic
def vector(typingctx, buffer, at, size):
    """Return ``buffer.ravel()[at : at + size]`` of a C-contiguous `buffer`."""
    if not (isinstance(buffer, types.Array) and buffer.layout == "C"):
        return None
    view_type = Borrowed(buffer.dtype, 1)

    def codegen(context, builder, signature, args):
        at, size = _intp(context, builder, args, signature)
        return _view(context, builder, view_type, signature.args[0], args[0], at, [size])

    return view_type(buffer, at, size), codegen


@intrinsic
def matrix(typingctx, buffer, at, rows, columns):
    """``buffer.ravel()[at : at + rows * columns].reshape(rows, columns)``, C-contiguous."""
    if not (isinstance(buffer, types.Array) and buffer.layout == "C"):
        return None
    view_type = Borrowed(buffer.dtype, 2)

    def codegen(context, builder, signature, args):
        at, rows, columns = _intp(context, builder, args, signature)
        return _view(context, builder, view_type, signature.args[0], args[0], at, [rows, columns])

    return view_type(buffer, at, rows, columns), codegen


@intrinsic
def vector_at(typingctx, address, size, like):
    """Return the `size` elements at an address, of the dtype of `like` (array, scalar)."""
    view_type = Borrowed(dtype_of(like), 1)

    def codegen(context, builder, signature, args):
        pointer = context.get_data_type(dtype_of(like)).as_pointer()
        return array_at(context, builder, view_type, builder.inttoptr(args[0], pointer), [args[1]])

    return view_type(types.intp, types.intp, like), codegen


@inlined
def no_vector(like):
    """None, as a vector with the dtype of `like`."""
    return vector_at(0, 0, like)


@intrinsic
def is_none(typingctx, array):
    """Return whether an array that a kernel was given is None: it has no place in memory."""

    def codegen(context, builder, signature, args):
        return cgutils.is_null(builder, make_array(array)(context, builder, args[0]).data)

    return types.boolean(array), codegen


@intrinsic
def is_same(typingctx, a, b):
    """Return whether two arrays begin at the same place."""

    def codegen(context, builder, signature, args):
        places = [
            builder.ptrtoint(make_array(kind)(context, builder, value).data, ir.IntType(64))
            for kind, value in zip(signature.args, args, strict=True)
        ]
        return builder.icmp_unsigned("==", *places)

    return types.boolean(a, b), codegen


@inlined
def rows(X, first, count):
    """Return the view of ``X[first : first + count]``."""
    return matrix(X, first * X.shape[1], count, X.shape[1])


@inlined
def row(X, i):
    """Return the view of ``X[i]``."""
    return vector(X, i * X.shape[1], X.shape[1])


@inlined
def flat(X):
    """Return the view of ``X.ravel()``."""
    return vector(X, 0, X.size)


@intrinsic(prefer_literal=True)
def unpack(typingctx, x, count):
    """Return the first `count` elements of a vector, or rows of a matrix, as a tuple: for names."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    kind = x.dtype if x.ndim == 1 else Borrowed(x.dtype, 1)
    result = types.UniTuple(kind, count.literal_value)

    def codegen(context, builder, signature, args):
        array = make_array(x)(context, builder, args[0])
        width = cgutils.unpack_tuple(builder, array.shape)[-1]
        parts = []
        for i in range(count.literal_value):
            number = ir.Constant(width.type, i)
            if x.ndim == 1:
                parts.append(builder.load(builder.gep(array.data, [number])))
            else:
                place = builder.gep(array.data, [builder.mul(number, width)])
                parts.append(array_at(context, builder, kind, place, [width]))
        return context.make_tuple(builder, result, parts)

    return result(x, count), codegen


# ---------------------------------------------------------------- vector registers, to the very end


@intrinsic
def look_ahead(typingctx, x, i):
    """Prefetch what a loop over a vector x will read that is at place i."""

    def codegen(context, builder, signature, args):
        pointer = make_array(x)(context, builder, args[0]).data
        place = builder.add(args[1], ir.Constant(args[1].type, LOOK_AHEAD * 8 // x.dtype.bitwidth))
        write.prefetch(builder, builder.gep(pointer, [place]))
        return context.get_dummy_value()

    return types.void(x, types.intp), codegen


@inlined
def get(x, i):
    """Return the vector of x from place i on, 0 beyond its end."""
    rest = x.size - i
    if rest >= lanes(x):  # a full vector is never masked: without AVX-512 that is slow
        v = load(x, i)
    elif rest == 1:  # a masked access and a scalar one wait for each other
        v = first_only(x[i])
    else:
        v = load_masked(x, i, rest)
    return v


@inlined
def put(x, i, v):
    """Store a vector from place i of x on, as far as x goes."""
    put_first(x, i, v, x.size - i)


@inlined
def put_first(x, i, v, count):
    """Store the first `count` lanes of a vector, or all, from place i of x on."""
    if count >= lanes(x):
        store(x, i, v)
    elif count == 1:
        x[i] = first_of(v)
    else:
        store_masked(x, i, v, count)


@kernel
def copy_vector(a: Vector, b: Vector):
    """Compute ``b[:] = a``."""
    for i in range(0, a.size, lanes(a)):
        put(b, i, get(a, i))


@inlined
def copy(source, target):
    """Compute ``target[...] = source`` of C-contiguous arrays of one size."""
    copy_vector(flat(source), flat(target))


@inlined
def fill(target, value):
    """Compute ``target[...] = value`` of a C-contiguous array."""
    x = flat(target)
    for i in range(x.size):
        x[i] = value


@intrinsic(prefer_literal=True)
def doubles(typingctx, count):
    """Return float64 numbers on the stack of the caller, for what a kernel returns."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    return _on_stack(types.float64, count.literal_value, (count,))


@intrinsic(prefer_literal=True)
def vectors(typingctx, count, like):
    """Return room for vectors with the dtype of `like` on the stack of the caller.

    It ends with the function that asks for it, an inlined one too, and must not be returned.
    """
    if not isinstance(count, types.IntegerLiteral):
        return None
    kind = vector_of(dtype_of(like))
    return _on_stack(kind.dtype, count.literal_value * kind.count, (count, like))


def _on_stack(dtype, size, given):
    """Return Numba's (signature, lowering) of `size` numbers on the stack of the caller."""
    view_type = Borrowed(dtype, 1)

    def codegen(context, builder, signature, args):
        element = context.get_data_type(dtype)
        with builder.goto_entry_block():
            memory = builder.alloca(ir.ArrayType(element, size))
            memory.align = VECTOR_BYTES
        data = builder.bitcast(memory, element.as_pointer())
        return array_at(context, builder, view_type, data, [ir.Constant(ir.IntType(64), size)])

    return view_type(*given), codegen


# ---------------------------------------------------------------- sections of scratch memory

# Floats in a cache line, if they are float32; of float64 it is two.
LINE = 16


@shared
def floats(sizes):
    """Return how many floats sections of these sizes take, each of which begins on a cache line."""
    total = 0
    for size in sizes:
        total += (size + LINE - 1) // LINE * LINE
    return total


@intrinsic
def cut(typingctx, buffer, sizes):
    """Return a named tuple of sizes as one of vectors, cut from `buffer` one behind the other."""
    view_type = Borrowed(buffer.dtype, 1)
    result = types.NamedUniTuple(view_type, len(sizes), sizes.instance_class)

    def codegen(context, builder, signature, args):
        start, parts = ir.Constant(ir.IntType(64), 0), []
        for kind, value in zip(sizes, cgutils.unpack_tuple(builder, args[1]), strict=True):
            size = context.cast(builder, value, kind, types.intp)
            parts.append(_view(context, builder, view_type, buffer, args[0], start, [size]))
            line = ir.Constant(size.type, LINE)
            whole = builder.add(size, ir.Constant(size.type, LINE - 1))
            start = builder.add(start, builder.and_(whole, builder.neg(line)))
        return context.make_tuple(builder, result, parts)

    return result(buffer, sizes), codegen


@intrinsic
def array_of(typingctx, kind, address, size):
    """Return the `size` elements of a Numba type, a global, at an address."""
    view_type = Borrowed(kind.instance_type, 1)

    def codegen(context, builder, signature, args):
        pointer = context.get_data_type(view_type.dtype).as_pointer()
        return array_at(context, builder, view_type, builder.inttoptr(args[1], pointer), [args[2]])

    return view_type(kind, types.intp, types.intp), codegen
