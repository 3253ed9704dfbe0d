"""Views of flat buffers: 1-D and 2-D arrays that cost nothing to make.

A slice of a Numba array counts references, with atomic instructions, and a reshape checks its
strides. These views do neither: they are a pointer and a shape, valid as long as the buffer is,
which the caller of a kernel owns. Nothing here checks a bound; the workspace's size is checked
once, where a kernel is entered.
"""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from .compiler import njit
from .vectors import lanes, load_masked, store_masked


def _view(context, builder, view_type, buffer_type, buffer, at, shape):
    """IR of an array of `shape` that starts `at` elements into `buffer` and owns nothing."""
    source = make_array(buffer_type)(context, builder, buffer)
    view = make_array(view_type)(context, builder)
    itemsize = context.get_constant(types.intp, context.get_abi_sizeof(source.data.type.pointee))
    strides = [itemsize]
    for extent in shape[:0:-1]:
        strides.insert(0, builder.mul(strides[0], extent))
    populate_array(
        view,
        data=builder.gep(source.data, [at]),
        shape=cgutils.pack_array(builder, shape),
        strides=cgutils.pack_array(builder, strides),
        itemsize=itemsize,
        meminfo=None,
    )
    return view._getvalue()


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
    view_type = buffer.copy(ndim=1)

    def codegen(context, builder, signature, args):
        at, size = _intp(context, builder, args, signature)
        return _view(context, builder, view_type, signature.args[0], args[0], at, [size])

    return view_type(buffer, at, size), codegen


@intrinsic
def matrix(typingctx, buffer, at, rows, columns):
    """``buffer.ravel()[at : at + rows * columns].reshape(rows, columns)``, C-contiguous."""
    if not (isinstance(buffer, types.Array) and buffer.layout == "C"):
        return None
    view_type = buffer.copy(ndim=2)

    def codegen(context, builder, signature, args):
        at, rows, columns = _intp(context, builder, args, signature)
        return _view(context, builder, view_type, signature.args[0], args[0], at, [rows, columns])

    return view_type(buffer, at, rows, columns), codegen


@njit
def copy(source, target):
    """``target[...] = source`` of C-contiguous arrays of one size."""
    a, b = vector(source, 0, source.size), vector(target, 0, target.size)
    for i in range(0, a.size, lanes(a)):
        count = min(lanes(a), a.size - i)
        store_masked(b, i, load_masked(a, i, count), count)


@njit
def fill(target, value):
    """``target[...] = value`` of a C-contiguous array."""
    flat = vector(target, 0, target.size)
    for i in range(flat.size):
        flat[i] = value
