"""Derivatives beyond the gradient, for callers: along a direction, of second order, of each sample.

Public kernels take (model, what is read, what is written, work), where `work` holds at least
``workspace_size(model, batch, 2)`` floats of theta's dtype; else as in `sweeps`. What they do to a
block of samples is in `tangents`.
"""

from ..abi import Doubles, Matrix, Vector, Word
from ..compiler import inlined, kernel, njit
from ..simd.views import copy, doubles, fill, matrix, no_vector, rows, vector
from ..status import OK, VERSION, refuse
from .entry import (
    OutMatrix,
    OutTensor,
    OutVector,
    check_cotangent,
    check_direction,
    check_gradient,
    check_inputs,
    check_matrix,
    check_points,
    check_tensor,
    check_work,
    targets,
)
from .model import (
    Model,
    Tangents,
    Workspace,
    activation,
    block_size,
    carve,
    carve_tangents,
    top_of,
    weight,
)
from .sweeps import (
    check,
    cut_block,
    forward_block,
    penalty,
    start_gradient,
    start_product,
    total_of,
    weight_sum,
)
from .tangents import (
    gauss_newton_block,
    gradient_of_block,
    hessian_block,
    jacobian_column,
    jacobian_row,
    linearize_block,
    output_deltas,
    sample_gradients,
    tangent_forward,
    to_inputs,
    vjp_block,
)


@njit
def hvp(model, X, Y, v, out, work, weights=None):
    """``out = H v``, H the Hessian of `loss` at theta; v, out (n_params,)."""
    refuse(_hvp(VERSION, model, X, Y, None, weights, v, out, work))


@njit
def gnvp(model, X, Y, v, out, work, weights=None):
    """``out = G v``, G = J^T (d2 loss / d out2) J the Gauss-Newton matrix, plus the penalty's part.

    Schraudolph (2002); where the loss matches the output (see `losses`) the outputs are the logits.
    """
    refuse(_gnvp(VERSION, model, X, Y, None, weights, v, out, work))


@njit
def jvp(model, X, v, out, work):
    """``out = d predict(X) / d theta @ v``; v (n_params,), out (B, n_out)."""
    refuse(_jvp(VERSION, model, X, None, v, out, work))


@njit
def vjp(model, X, u, out, work):
    """``out = u @ d predict(X) / d theta``, summed over samples; u (B, n_out), out (n_params,)."""
    refuse(_vjp(VERSION, model, X, None, u, out, work))


@njit
def linearize(model, X, Y, grad, points, work, weights=None):
    """Loss and gradient, with forward and backward kept in `points` (points_size floats)."""
    value = doubles(1)
    refuse(_linearize(VERSION, model, X, Y, weights, grad, points, work, value))
    return value[0]


@njit
def hvp_at(model, X, Y, points, v, out, work, weights=None):
    """`hvp` at a point that `linearize` has kept."""
    refuse(_hvp(VERSION, model, X, Y, points, weights, v, out, work))


@njit
def gnvp_at(model, X, Y, points, v, out, work, weights=None):
    """`gnvp` at a point that `linearize` has kept."""
    refuse(_gnvp(VERSION, model, X, Y, points, weights, v, out, work))


@njit
def jvp_at(model, X, points, v, out, work):
    """`jvp` at a point that `linearize` has kept."""
    refuse(_jvp(VERSION, model, X, points, v, out, work))


@njit
def vjp_at(model, X, points, u, out, work):
    """`vjp` at a point that `linearize` has kept."""
    refuse(_vjp(VERSION, model, X, points, u, out, work))


@njit
def per_sample_grads(model, X, Y, out, work):
    """Gradient of each sample's own loss, without l2; out (B, n_params)."""
    refuse(_per_sample_grads(VERSION, model, X, Y, out, work))


@njit
def input_grad(model, X, Y, out, work):
    """Gradient of each sample's own loss with respect to its inputs; out (B, n_in)."""
    refuse(_input_grad(VERSION, model, X, Y, out, work))


@njit
def parameter_jacobian(model, X, out, work):
    """``out[b, o] = d predict(X)[b, o] / d theta``, out (B, n_out, n_params)."""
    refuse(_parameter_jacobian(VERSION, model, X, out, work))


@njit
def jacobian(model, X, out, work):
    """``out[b, o, i] = d predict(X)[b, o] / d X[b, i]``, out (B, n_out, n_in).

    A sweep back for each output, or one forward for each input, whichever are fewer.
    """
    refuse(_jacobian(VERSION, model, X, out, work))


# ---------------------------------------------------------------- all blocks; points may be none


@kernel
def _linearize(
    version: Word, model: Model, X: Matrix, Y: Matrix, weights: Vector, grad: OutVector,
    points: OutVector, work: OutVector, value: Doubles,
) -> Word:  # fmt: skip
    batch, network = X.shape[0], model.network[0]
    status = (
        check(version, model, X, Y, weights, work, 2)
        or check_gradient(model, grad)
        or check_points(model, points, batch)
    )
    if status == OK:
        m, mass, result, y = block_size(batch), weight_sum(weights, batch), 0.0, targets(Y, batch)
        parts = carve(network, work, m)
        start_gradient(model, grad)
        for first in range(0, batch, m):
            block = cut_block(X, y, weights, first, min(m, batch - first))
            here, deltas = _point(model, points, parts, first, block.X.shape[0])
            linearize_block(model, block, mass, here, deltas)
            a = activation(here.a, top_of(model), block.X.shape[0])
            z = matrix(here.z, 0, block.X.shape[0], network.n_out)
            result += total_of(model, z, a, block, parts.spare)
            gradient_of_block(model, block.X, here.a, deltas, grad)
        value[0] = result / mass + penalty(model)
    return status


@kernel
def _hvp(
    version: Word, model: Model, X: Matrix, Y: Matrix, points: Vector, weights: Vector,
    v: Vector, out: OutVector, work: OutVector,
) -> Word:  # fmt: skip
    batch, network = X.shape[0], model.network[0]
    status = _check_product(version, model, X, Y, points, weights, v, out, work)
    if status == OK:
        m, mass, y = block_size(batch), weight_sum(weights, batch), targets(Y, batch)
        parts, t = carve(network, work, m), carve_tangents(network, work, m)
        start_product(model, v, out)
        for first in range(0, batch, m):
            block = cut_block(X, y, weights, first, min(m, batch - first))
            here, delta = parts, t.delta
            if points.size == 0:
                linearize_block(model, block, mass, here, delta)
            else:
                here, delta = _point(model, points, parts, first, block.X.shape[0])
            moved = Tangents(delta, t.Rz, t.Ra, t.Rdelta, t.Rdelta_prev)
            hessian_block(model, block, mass, v, here, moved, out)
    return status


@kernel
def _gnvp(
    version: Word, model: Model, X: Matrix, Y: Matrix, points: Vector, weights: Vector,
    v: Vector, out: OutVector, work: OutVector,
) -> Word:  # fmt: skip
    batch, network = X.shape[0], model.network[0]
    status = _check_product(version, model, X, Y, points, weights, v, out, work)
    if status == OK:
        m, mass, y = block_size(batch), weight_sum(weights, batch), targets(Y, batch)
        parts, t = carve(network, work, m), carve_tangents(network, work, m)
        start_product(model, v, out)
        for first in range(0, batch, m):
            block = cut_block(X, y, weights, first, min(m, batch - first))
            here = _activations(model, block.X, points, parts, first)
            gauss_newton_block(model, block, mass, v, here, t, out)
    return status


@kernel
def _jvp(
    version: Word, model: Model, X: Matrix, points: Vector, v: Vector, out: OutMatrix,
    work: OutVector,
) -> Word:  # fmt: skip
    batch, network = X.shape[0], model.network[0]
    status = (
        check_inputs(version, model, X)
        or check_direction(model, v)
        or check_matrix(out, batch, network.n_out)
        or check_work(model, work, batch, 2)
        or check_points(model, points, batch)
    )
    if status == OK:
        m = block_size(batch)
        parts, t = carve(network, work, m), carve_tangents(network, work, m)
        for first in range(0, batch, m):
            block = rows(X, first, min(m, batch - first))
            here = _activations(model, block, points, parts, first)
            tangent_forward(model, v, block, here.a, t.Rz, t.Ra)
            copy(activation(t.Ra, top_of(model), block.shape[0]), rows(out, first, block.shape[0]))
    return status


@kernel
def _vjp(
    version: Word, model: Model, X: Matrix, points: Vector, u: Matrix, out: OutVector,
    work: OutVector,
) -> Word:  # fmt: skip
    batch = X.shape[0]
    status = (
        check_inputs(version, model, X)
        or check_gradient(model, out)
        or check_cotangent(model, u, batch)
        or check_work(model, work, batch, 1)
        or check_points(model, points, batch)
    )
    if status == OK:
        m = block_size(batch)
        parts = carve(model.network[0], work, m)
        fill(out, 0)
        for first in range(0, batch, m):
            block = rows(X, first, min(m, batch - first))
            here = _activations(model, block, points, parts, first)
            vjp_block(model, block, rows(u, first, block.shape[0]), here, out)
    return status


@inlined
def _check_product(version, model, X, Y, points, weights, v, out, work):
    return (
        check(version, model, X, Y, weights, work, 2)
        or check_direction(model, v)
        or check_gradient(model, out)
        or check_points(model, points, X.shape[0])
    )


@inlined
def _activations(model, X, points, parts, first):
    """A workspace with the activations of a block of samples: computed, or those kept."""
    here = parts
    if points.size == 0:
        forward_block(model, X, here, None)
    else:
        here, _ = _point(model, points, parts, first, X.shape[0])
    return here


@inlined
def _point(model, points, parts, first, count):
    """(workspace, deltas) whose activations and deltas are those kept of a block of samples."""
    units, n_out = model.network[0].units, model.network[0].n_out
    at_a = first * (2 * units + n_out)
    at_z = at_a + count * units
    at_delta = at_z + count * n_out
    a, z = vector(points, at_a, count * units), vector(points, at_z, count * n_out)
    here = Workspace(a, z, parts.delta, parts.delta_prev, parts.X, parts.Y, parts.w, parts.spare)
    return here, vector(points, at_delta, count * units)


# ---------------------------------------------------------------- of each sample


@kernel
def _per_sample_grads(
    version: Word, model: Model, X: Matrix, Y: Matrix, out: OutMatrix, work: OutVector
) -> Word:
    batch, network, none = X.shape[0], model.network[0], no_vector(X)
    status = check(version, model, X, Y, none, work, 2) or check_matrix(
        out, batch, model.theta.size
    )
    if status == OK:
        m, y = block_size(batch), targets(Y, batch)
        parts, t = carve(network, work, m), carve_tangents(network, work, m)
        for first in range(0, batch, m):
            block = cut_block(X, y, none, first, min(m, batch - first))
            linearize_block(model, block, 1.0, parts, t.delta)
            here = rows(out, first, block.X.shape[0])
            sample_gradients(model, block.X, parts.a, t.delta, here, 0, 1)
    return status


@kernel
def _input_grad(
    version: Word, model: Model, X: Matrix, Y: Matrix, out: OutMatrix, work: OutVector
) -> Word:
    batch, network, none = X.shape[0], model.network[0], no_vector(X)
    status = check(version, model, X, Y, none, work, 2) or check_matrix(out, batch, network.n_in)
    if status == OK:
        m, y, bottom = block_size(batch), targets(Y, batch), model.layers[0]
        parts, t = carve(network, work, m), carve_tangents(network, work, m)
        for first in range(0, batch, m):
            block = cut_block(X, y, none, first, min(m, batch - first))
            linearize_block(model, block, 1.0, parts, t.delta)
            delta = activation(t.delta, bottom, block.X.shape[0])
            to_inputs(delta, weight(model.theta, bottom), rows(out, first, block.X.shape[0]))
    return status


@kernel
def _parameter_jacobian(
    version: Word, model: Model, X: Matrix, out: OutTensor, work: OutVector
) -> Word:
    batch, network = X.shape[0], model.network[0]
    n_out, n_params = network.n_out, model.theta.size
    status = (
        check_inputs(version, model, X)
        or check_tensor(out, batch, n_out, n_params)
        or check_work(model, work, batch, 2)
    )
    if status == OK:
        m = block_size(batch)
        parts, t = carve(network, work, m), carve_tangents(network, work, m)
        for first in range(0, batch, m):
            block = rows(X, first, min(m, batch - first))
            forward_block(model, block, parts, None)
            here = matrix(out, first * n_out * n_params, block.shape[0] * n_out, n_params)
            for o in range(n_out):
                output_deltas(model, block, o, parts.a, t.delta)
                sample_gradients(model, block, parts.a, t.delta, here, o, n_out)
    return status


@kernel
def _jacobian(version: Word, model: Model, X: Matrix, out: OutTensor, work: OutVector) -> Word:
    batch, network = X.shape[0], model.network[0]
    n_out, n_in = network.n_out, network.n_in
    status = (
        check_inputs(version, model, X)
        or check_tensor(out, batch, n_out, n_in)
        or check_work(model, work, batch, 2)
    )
    if status == OK:
        m = block_size(batch)
        parts, t = carve(network, work, m), carve_tangents(network, work, m)
        for first in range(0, batch, m):
            block = rows(X, first, min(m, batch - first))
            forward_block(model, block, parts, None)
            here = matrix(out, first * n_out * n_in, block.shape[0] * n_out, n_in)
            if n_out <= n_in:
                for o in range(n_out):
                    jacobian_row(model, block, o, parts, t.delta, here)
            else:
                for i in range(n_in):
                    jacobian_column(model, block, i, parts.a, t.Ra, here)
    return status
