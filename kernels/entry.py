"""The door: what a caller hands to a kernel, checked once there, since nothing inside is.

A ValueError names the argument, and is raised before anything is written; it costs a comparison
each. One sample may come as vectors: x (n_in,), y (n_out,) or a label (1,), out (n_out,).
"""

from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from .compiler import inlined
from .losses import CROSS_ENTROPY
from .model import N_IN, N_OUT, N_TARGETS, STAMP, VERSION, points_size, workspace_size
from .abi import Borrowed, array_at
from .views import matrix


def _own(array, theta, dimensions):
    """The type of a view of `array`, which must lie in memory as the kernels expect it."""
    if not isinstance(array, types.Array) or array.layout != "C" or array.dtype != theta.dtype:
        raise TypingError(
            f"deltajit's kernels take C-contiguous arrays of one dtype, here {theta.dtype}; got "
            f"{array} (numpy.ascontiguousarray(x, dtype) makes one)"
        )
    return Borrowed(array.dtype, dimensions)


@intrinsic
def as_rows(typingctx, X, theta):
    """A matrix; of a vector, the matrix of which it is the only row."""
    view = _own(X, theta, 2)

    def codegen(context, builder, signature, args):
        array = make_array(X)(context, builder, args[0])
        shape = cgutils.unpack_tuple(builder, array.shape)
        shape = [context.get_constant(types.intp, 1)] * (2 - X.ndim) + shape
        return array_at(context, builder, view, array.data, shape)

    if X.ndim > 2:
        raise TypingError(f"X must be a matrix (B, n_in) or one sample (n_in,), got {X}")
    return view(X, theta), codegen


def _make_as_vector(written):
    """Make ``as_vector(x, theta)``: all elements of x in a row, which may have to be writable."""

    @intrinsic
    def as_vector(typingctx, x, theta):
        view = _own(x, theta, 1)

        def codegen(context, builder, signature, args):
            array = make_array(x)(context, builder, args[0])
            return array_at(context, builder, view, array.data, [array.nitems])

        if written and not x.mutable:
            raise TypingError(f"an array that is written may not be read-only, got {x}")
        return view(x, theta), codegen

    return as_vector


as_vector, as_target = _make_as_vector(written=False), _make_as_vector(written=True)


@intrinsic
def fits(typingctx, array, shape):
    """Whether an array has this shape; first axes may be missing where they would be 1."""

    def codegen(context, builder, signature, args):
        source = make_array(array)(context, builder, args[0])
        expected = [
            context.cast(builder, extent, kind, types.intp)
            for extent, kind in zip(cgutils.unpack_tuple(builder, args[1]), shape, strict=True)
        ]
        found = cgutils.unpack_tuple(builder, source.shape)
        found = [context.get_constant(types.intp, 1)] * (len(shape) - array.ndim) + found
        fits = cgutils.true_bit
        for extent, wanted in zip(found, expected, strict=True):
            fits = builder.and_(fits, builder.icmp_signed("==", extent, wanted))
        return fits

    if not 1 <= array.ndim <= len(shape):
        raise TypingError(
            f"an array of {len(shape)} axes is needed, or of one less for one sample; got {array}"
        )
    return types.boolean(array, shape), codegen


@inlined
def check_version(stamp):
    """What a network or a circuit bears must be the stamp of the sources compiled here."""
    if stamp != VERSION:
        raise ValueError(
            "this function was compiled with another version of deltajit: delete its cache"
        )


@inlined
def samples(model, X):
    """X as a matrix (B, n_in)."""
    x = as_rows(X, model.theta)
    check_version(model.layers[0, STAMP])
    if x.shape[1] != model.layers[0, N_IN]:
        raise ValueError("X must have a column for each input of the network")
    return x


@inlined
def scratch(model, work, batch, order):
    """`work` as a vector that is large enough for `batch` samples."""
    w = as_target(work, model.theta)
    if w.size < workspace_size(model.layers, batch, order):
        raise ValueError("work is too small: make it by net.workspace(batch, order)")
    return w


@inlined
def targets(model, Y, batch):
    """Y as a matrix (B, N_TARGETS), or (B, 1) of class labels.

    A single column may come as a vector (B,).
    """
    y, columns = as_vector(Y, model.theta), model.layers[0, N_TARGETS]
    if model.loss == CROSS_ENTROPY and y.size == batch:
        columns = 1
    if not (fits(Y, (batch, columns)) or (columns == 1 and fits(Y, (1, batch)))):
        raise ValueError("Y must have a row for each sample, and a column for each output")
    return matrix(y, 0, batch, columns)


@inlined
def check_weights(model, weights, batch):
    """Weights must be a vector (B,), or None."""
    if weights is not None:
        w = as_vector(weights, model.theta)
        if w.size != batch:
            raise ValueError("weights must have an element for each sample")


@inlined
def result(model, out, shape):
    """`out`, which must be of this shape, as a matrix with rows as long as its last axis."""
    o = as_target(out, model.theta)
    if not fits(out, shape):
        raise ValueError("out must have the shape that the docstring gives")
    return matrix(o, 0, o.size // shape[-1], shape[-1])


@inlined
def outputs(model, u, batch):
    """A matrix like the network's outputs."""
    x, n_out = as_vector(u, model.theta), model.layers[model.layers.shape[0] - 1, N_OUT]
    if not fits(u, (batch, n_out)):
        raise ValueError("u must have a row for each sample, and a column for each output")
    return matrix(x, 0, batch, n_out)


@inlined
def direction(model, v):
    """A vector like theta."""
    x = as_vector(v, model.theta)
    if x.size != model.theta.size:
        raise ValueError("v must have as many elements as theta")
    return x


@inlined
def gradient(model, grad):
    """A vector like theta, to be written."""
    x = as_target(grad, model.theta)
    if x.size != model.theta.size:
        raise ValueError("grad, or out, must have as many elements as theta")
    return x


@inlined
def check_points(model, points, batch):
    """Memory of `linearize` must be large enough for `batch` samples; it may be None."""
    if points is not None:
        p = as_vector(points, model.theta)
        if p.size < points_size(model.layers, batch):
            raise ValueError("points is too small: points_size(model.layers, batch) is needed")
