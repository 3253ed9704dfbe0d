"""Views of flat buffers: 1-D and 2-D arrays that cost nothing to make.

A slice of a Numba array counts references, by calls that LLVM can't remove, and a reshape checks
its strides. These views do neither: they are a pointer and a shape, valid as long as the buffer is,
which the caller of a kernel owns. Nothing here checks a bound; the workspace's size is checked
once, where a kernel is entered.
"""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from .abi import Borrowed, Vector, array_at
from .compiler import inlined, kernel
from .vectors import dtype_of, lanes, load_masked, store_masked


def _view(context, builder, view_type, buffer_type, buffer, at, shape):
    """IR of an array of `shape` that starts `at` elements into `buffer` and owns nothing."""
    source = make_array(buffer_type)(context, builder, buffer)
    return array_at(context, builder, view_type, builder.gep(source.data, [at]), shape)


def _intp(context, builder, args, signature):
    return [
        context.cast(builder, value, kind, types.intp)
        for value, kind in zip(args[1:], signature.args[1:], strict=True)
    ]


@intrinsic
def vector(typingctx, buffer, at, size):
    """``buffer.ravel()[at : at + size]`` of a C-contiguous `buffer`."""
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
    """The `size` elements at an address, of the dtype of `like` (array, scalar)."""
    view_type = Borrowed(dtype_of(like), 1)

    def codegen(context, builder, signature, args):
        pointer = context.get_data_type(dtype_of(like)).as_pointer()
        return array_at(context, builder, view_type, builder.inttoptr(args[0], pointer), [args[1]])

    return view_type(types.intp, types.intp, like), codegen


@intrinsic
def borrow_all(typingctx, record):
    """A named tuple with views in place of its C-contiguous arrays.

    All in one: to take an array out of a tuple counts a reference, an atomic operation.
    """
    if not isinstance(record, types.NamedTuple):
        return None
    kinds = [
        Borrowed(t.dtype, t.ndim) if isinstance(t, types.Array) and t.layout == "C" else t
        for t in record.types
    ]
    views = types.NamedTuple(kinds, record.instance_class)

    def codegen(context, builder, signature, args):
        values = cgutils.unpack_tuple(builder, args[0])
        for i, (kind, view_type) in enumerate(zip(record.types, kinds, strict=True)):
            if kind != view_type:
                array = make_array(kind)(context, builder, values[i])
                shape = cgutils.unpack_tuple(builder, array.shape)
                start = context.get_constant(types.intp, 0)
                values[i] = _view(context, builder, view_type, kind, values[i], start, shape)
        return context.make_tuple(builder, views, values)

    return views(record), codegen


@inlined
def rows(X, first, count):
    """View of ``X[first : first + count]``."""
    return matrix(X, first * X.shape[1], count, X.shape[1])


@inlined
def row(X, i):
    """View of ``X[i]``."""
    return vector(X, i * X.shape[1], X.shape[1])


@inlined
def flat(X):
    """View of ``X.ravel()``."""
    return vector(X, 0, X.size)


@inlined
def borrow(array):
    """A C-contiguous 1-D array as a view."""
    return vector(array, 0, array.size)


@inlined
def copy(source, target):
    """``target[...] = source`` of C-contiguous arrays of one size."""
    copy_vector(flat(source), flat(target))


@kernel
def copy_vector(a: Vector, b: Vector):
    """``b[:] = a``."""
    for i in range(0, a.size, lanes(a)):
        count = min(lanes(a), a.size - i)
        store_masked(b, i, load_masked(a, i, count), count)


@inlined
def fill(target, value):
    """``target[...] = value`` of a C-contiguous array."""
    flat = vector(target, 0, target.size)
    for i in range(flat.size):
        flat[i] = value
