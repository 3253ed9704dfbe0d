"""The door: what a caller hands to a kernel, checked once there, since nothing inside is.

A status says what is wrong (`status`), before anything is written; it costs a comparison each. One
sample may come as vectors: x (n_in,), y (n_out,) or a label (1,), out (n_out,).
"""

from ..compiler import inlined
from ..simd.views import is_none, matrix
from ..status import (
    BAD_GRAD,
    BAD_MODEL,
    BAD_OUT,
    BAD_U,
    BAD_V,
    BAD_WEIGHTS,
    BAD_X,
    BAD_Y,
    OK,
    SMALL_POINTS,
    SMALL_WORK,
    SMALL_WORK_OF_ORDER_2,
    STALE,
    VERSION,
)
from .model import points_size, workspace_size


@inlined
def check_samples(version, model, X, weights):
    """Check model, X and weights, which must have an element for each sample or be None."""
    status = check_inputs(version, model, X)
    if status == OK and not is_none(weights) and weights.size != X.shape[0]:
        status = BAD_WEIGHTS
    return status


@inlined
def check_inputs(version, model, X):
    """Check that caller and model are of these sources, and that X has a column for each input."""
    status = OK
    if version != VERSION:
        status = STALE
    elif not is_whole(model):
        status = BAD_MODEL
    elif X.shape[1] != model.network[0].n_in:
        status = BAD_X
    return status


@inlined
def is_whole(model):
    """Return whether the parts of a model, which are a caller's to replace, belong together."""
    return (
        model.network.size == 1
        and model.layers.size == model.network[0].n_layers
        and model.theta.size == model.network[0].n_params
        and model.theta.itemsize == model.network[0].itemsize
    )


@inlined
def check_work(model, work, batch, order):
    """Check that `work` is large enough for `batch` samples."""
    if work.size >= workspace_size(model, batch, order):
        return OK
    return SMALL_WORK if order == 1 else SMALL_WORK_OF_ORDER_2


@inlined
def check_targets(model, Y, batch):
    """Check that Y is (B, n_targets), or (B, 1) class labels; one column may be a vector (B,)."""
    network = model.network[0]
    columns = network.n_targets
    if network.takes_labels != 0 and Y.size == batch:
        columns = 1
    fits = Y.shape[0] == batch and Y.shape[1] == columns
    fits = fits or (columns == 1 and Y.shape[0] == 1 and Y.shape[1] == batch)
    return OK if fits else BAD_Y


@inlined
def targets(Y, batch):
    """Return Y as a matrix with a row for each sample."""
    return matrix(Y, 0, batch, Y.size // max(batch, 1))


@inlined
def check_matrix(out, height, width):
    """Check that `out` is (height, width)."""
    return OK if out.shape[0] == height and out.shape[1] == width else BAD_OUT


@inlined
def check_cotangent(model, u, batch):
    """Check that `u` has the shape of the network's outputs."""
    fits = u.shape[0] == batch and u.shape[1] == model.network[0].n_out
    return OK if fits else BAD_U


@inlined
def check_direction(model, v):
    """Check that `v` has an element for each parameter."""
    return OK if v.size == model.theta.size else BAD_V


@inlined
def check_gradient(model, grad):
    """Check that `grad` has an element for each parameter."""
    return OK if grad.size == model.theta.size else BAD_GRAD


@inlined
def check_points(model, points, batch):
    """Check that `points` is large enough for `batch` samples, or None."""
    fits = is_none(points) or points.size >= points_size(model, batch)
    return OK if fits else SMALL_POINTS


@inlined
def check_tensor(out, first, second, third):
    """Check that `out` is (first, second, third)."""
    fits = out.shape[0] == first and out.shape[1] == second and out.shape[2] == third
    return OK if fits else BAD_OUT
