"""Derivatives beyond the gradient, for callers: along a direction, of second order, of each sample.

Public kernels take (model, what is read, what is written, work), where `work` holds at least
``workspace_size(model, batch, 2)`` floats of theta's dtype; else as in `sweeps`. What they do to a
block of samples is in `tangents`.
"""

from ..abi import Doubles, Matrix, OutMatrix, OutTensor, OutVector, Vector, Word
from ..compiler import inlined, kernel, njit
from ..simd.views import copy, doubles, fill, is_none, matrix, no_vector, vector
from ..status import OK, SMALL_POINTS, VERSION, refuse
from .entry import (
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
    Block,
    blocks,
    check,
    cut_block,
    forward_block,
    outputs,
    penalty,
    rows_of,
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

GAUSS_NEWTON, EXACT = range(2)  # second derivatives
BY_THETA, BY_INPUTS = range(2)  # first derivatives


@njit
def hvp(
    model: Model,
    X: Matrix,
    Y: Matrix,
    v: Vector,
    out: OutVector,
    work: OutVector,
    weights: Vector | None = None,
) -> None:
    """Multiply the Hessian of the loss by a vector.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    Y : array (B, n_targets)
        Targets, or (B, 1) class labels, of the same dtype; one sample may be a vector.
    v : array (n_params,)
        A direction.
    out : array (n_params,)
        The product, overwritten.
    work : array
        Scratch memory: at least ``workspace_size(model, B, 2)`` floats.
    weights : array (B,), optional
        Sample weights, not negative.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.

    References
    ----------
    Pearlmutter (1994), Fast exact multiplication by the Hessian.
    """
    refuse(_product(VERSION, model, X, Y, None, weights, v, out, work, EXACT))


@njit
def gnvp(
    model: Model,
    X: Matrix,
    Y: Matrix,
    v: Vector,
    out: OutVector,
    work: OutVector,
    weights: Vector | None = None,
) -> None:
    """Multiply the Gauss-Newton matrix of the loss by a vector.

    It is ``J.T @ H @ J``, plus the penalty's part: J is the Jacobian of the outputs, H the loss's
    Hessian by them. Where the loss matches the output (`LOSSES`), these outputs are the logits.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    Y : array (B, n_targets)
        Targets, or (B, 1) class labels, of the same dtype; one sample may be a vector.
    v : array (n_params,)
        A direction.
    out : array (n_params,)
        The product, overwritten.
    work : array
        Scratch memory: at least ``workspace_size(model, B, 2)`` floats.
    weights : array (B,), optional
        Sample weights, not negative.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.

    References
    ----------
    Schraudolph (2002), Fast curvature matrix-vector products.
    """
    refuse(_product(VERSION, model, X, Y, None, weights, v, out, work, GAUSS_NEWTON))


@njit
def jvp(model: Model, X: Matrix, v: Vector, out: OutMatrix, work: OutVector) -> None:
    """Differentiate the outputs along a direction of theta.

    ``out = d predict(X) / d theta @ v``.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    v : array (n_params,)
        A direction.
    out : array (B, n_out)
        The tangent of the outputs, overwritten.
    work : array
        Scratch memory: at least ``workspace_size(model, B, 2)`` floats.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.
    """
    refuse(_jvp(VERSION, model, X, None, v, out, work))


@njit
def vjp(model: Model, X: Matrix, u: Matrix, out: OutVector, work: OutVector) -> None:
    """Multiply the transposed Jacobian of the outputs by a cotangent.

    ``out = u @ d predict(X) / d theta``, summed over samples.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    u : array (B, n_out)
        A cotangent of the outputs.
    out : array (n_params,)
        The product, overwritten.
    work : array
        Scratch memory: at least ``workspace_size(model, B)`` floats.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.
    """
    refuse(_vjp(VERSION, model, X, None, u, out, work))


@njit
def linearize(
    model: Model,
    X: Matrix,
    Y: Matrix,
    grad: OutVector,
    points: OutVector,
    work: OutVector,
    weights: Vector | None = None,
) -> float:
    """Compute loss and gradient, and keep the point for `hvp_at`, `gnvp_at`, `jvp_at` and `vjp_at`.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    Y : array (B, n_targets)
        Targets, or (B, 1) class labels, of the same dtype; one sample may be a vector.
    grad : array (n_params,)
        The gradient with respect to theta, overwritten.
    points : array
        The point, overwritten: ``points_size(model, B)`` floats.
    work : array
        Scratch memory: at least ``workspace_size(model, B, 2)`` floats.
    weights : array (B,), optional
        Sample weights, not negative.

    Returns
    -------
    float
        The loss: weighted mean over samples, plus ``l2/2 * sum(W**2) + l1 * sum(|W|)``.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` or `points` is too small.
    """
    value = doubles(1)
    refuse(_linearize(VERSION, model, X, Y, weights, grad, points, work, value))
    return value[0]


@njit
def hvp_at(
    model: Model,
    X: Matrix,
    Y: Matrix,
    points: Vector,
    v: Vector,
    out: OutVector,
    work: OutVector,
    weights: Vector | None = None,
) -> None:
    """Multiply the Hessian of the loss at a kept point by a vector.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    Y : array (B, n_targets)
        Targets, or (B, 1) class labels, of the same dtype; one sample may be a vector.
    points : array
        What `linearize` has written, for the same model and samples.
    v : array (n_params,)
        A direction.
    out : array (n_params,)
        The product, overwritten.
    work : array
        Scratch memory: at least ``workspace_size(model, B, 2)`` floats.
    weights : array (B,), optional
        Sample weights, not negative.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` or `points` is too small.
    """
    refuse(_product(VERSION, model, X, Y, points, weights, v, out, work, EXACT))


@njit
def gnvp_at(
    model: Model,
    X: Matrix,
    Y: Matrix,
    points: Vector,
    v: Vector,
    out: OutVector,
    work: OutVector,
    weights: Vector | None = None,
) -> None:
    """Multiply the Gauss-Newton matrix of the loss at a kept point by a vector.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    Y : array (B, n_targets)
        Targets, or (B, 1) class labels, of the same dtype; one sample may be a vector.
    points : array
        What `linearize` has written, for the same model and samples.
    v : array (n_params,)
        A direction.
    out : array (n_params,)
        The product, overwritten.
    work : array
        Scratch memory: at least ``workspace_size(model, B, 2)`` floats.
    weights : array (B,), optional
        Sample weights, not negative.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` or `points` is too small.
    """
    refuse(_product(VERSION, model, X, Y, points, weights, v, out, work, GAUSS_NEWTON))


@njit
def jvp_at(
    model: Model, X: Matrix, points: Vector, v: Vector, out: OutMatrix, work: OutVector
) -> None:
    """Differentiate the outputs at a kept point along a direction of theta.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    points : array
        What `linearize` has written, for the same model and samples.
    v : array (n_params,)
        A direction.
    out : array (B, n_out)
        The tangent of the outputs, overwritten.
    work : array
        Scratch memory: at least ``workspace_size(model, B, 2)`` floats.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` or `points` is too small.
    """
    refuse(_jvp(VERSION, model, X, points, v, out, work))


@njit
def vjp_at(
    model: Model, X: Matrix, points: Vector, u: Matrix, out: OutVector, work: OutVector
) -> None:
    """Multiply the transposed Jacobian of the outputs at a kept point by a cotangent.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    points : array
        What `linearize` has written, for the same model and samples.
    u : array (B, n_out)
        A cotangent of the outputs.
    out : array (n_params,)
        The product, overwritten.
    work : array
        Scratch memory: at least ``workspace_size(model, B)`` floats.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` or `points` is too small.
    """
    refuse(_vjp(VERSION, model, X, points, u, out, work))


@njit
def per_sample_grads(model: Model, X: Matrix, Y: Matrix, out: OutMatrix, work: OutVector) -> None:
    """Compute the gradient of each sample's loss with respect to theta, without the penalty.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    Y : array (B, n_targets)
        Targets, or (B, 1) class labels, of the same dtype; one sample may be a vector.
    out : array (B, n_params)
        The gradients, overwritten.
    work : array
        Scratch memory: at least ``workspace_size(model, B, 2)`` floats.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.
    """
    refuse(_sample_gradients(VERSION, model, X, Y, out, work, BY_THETA))


@njit
def input_grad(model: Model, X: Matrix, Y: Matrix, out: OutMatrix, work: OutVector) -> None:
    """Compute the gradient of each sample's loss with respect to its inputs.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    Y : array (B, n_targets)
        Targets, or (B, 1) class labels, of the same dtype; one sample may be a vector.
    out : array (B, n_in)
        The gradients, overwritten.
    work : array
        Scratch memory: at least ``workspace_size(model, B, 2)`` floats.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.
    """
    refuse(_sample_gradients(VERSION, model, X, Y, out, work, BY_INPUTS))


@njit
def parameter_jacobian(model: Model, X: Matrix, out: OutTensor, work: OutVector) -> None:
    """Compute the Jacobian of the outputs with respect to theta.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    out : array (B, n_out, n_params)
        ``d predict(X)[b, o] / d theta[p]``, overwritten.
    work : array
        Scratch memory: at least ``workspace_size(model, B, 2)`` floats.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.
    """
    refuse(_jacobian(VERSION, model, X, out, work, BY_THETA))


@njit
def jacobian(model: Model, X: Matrix, out: OutTensor, work: OutVector) -> None:
    """Compute the Jacobian of the outputs with respect to the inputs.

    A sweep back for each output, or one forward for each input, whichever are fewer.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    out : array (B, n_out, n_in)
        ``d predict(X)[b, o] / d X[b, i]``, overwritten.
    work : array
        Scratch memory: at least ``workspace_size(model, B, 2)`` floats.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.
    """
    refuse(_jacobian(VERSION, model, X, out, work, BY_INPUTS))


# ---------------------------------------------------------------- all blocks; points may be none


@kernel
def _linearize(
    version: Word, model: Model, X: Matrix, Y: Matrix, weights: Vector, grad: OutVector,
    points: OutVector, work: OutVector, value: Doubles,
) -> Word:  # fmt: skip
    batch = X.shape[0]
    status = (
        check(version, model, X, Y, weights, work, 2)
        or check_gradient(model, grad)
        or check_points(model, points, batch)
        or (SMALL_POINTS if is_none(points) else OK)
    )
    if status == OK:
        samples, mass = Block(X, targets(Y, batch), weights), weight_sum(weights, batch)
        result = 0.0
        start_gradient(model, grad)
        for here in blocks(batch, block_size(batch)):
            block, (parts, deltas) = cut_block(samples, here), _point(model, points, work, here)
            linearize_block(model, block, mass, parts, deltas)
            z, a = outputs(model, parts, here.count)
            result += total_of(model, z, a, block, parts.spare)
            gradient_of_block(model, block.X, parts.a, deltas, grad)
        value[0] = result / mass + penalty(model)
    return status


@kernel
def _product(
    version: Word, model: Model, X: Matrix, Y: Matrix, points: Vector, weights: Vector,
    v: Vector, out: OutVector, work: OutVector, kind: Word,
) -> Word:  # fmt: skip
    batch = X.shape[0]
    status = (
        check(version, model, X, Y, weights, work, 2)
        or check_direction(model, v)
        or check_gradient(model, out)
        or check_points(model, points, batch)
    )
    if status == OK:
        samples, mass = Block(X, targets(Y, batch), weights), weight_sum(weights, batch)
        start_product(model, v, out)
        for here in blocks(batch, block_size(batch)):
            block, t = cut_block(samples, here), carve_tangents(model.network[0], work, here.m)
            if kind == GAUSS_NEWTON:
                parts = _activations(model, block.X, points, work, here)
                gauss_newton_block(model, block, mass, v, parts, t, out)
            else:
                if points.size == 0:
                    parts, delta = carve(model.network[0], work, here.m), t.delta
                    linearize_block(model, block, mass, parts, delta)
                else:
                    parts, delta = _point(model, points, work, here)
                t = Tangents(delta, t.Rz, t.Ra, t.Rdelta, t.Rdelta_prev)
                hessian_block(model, block, mass, v, parts, t, out)
    return status


@kernel
def _jvp(
    version: Word, model: Model, X: Matrix, points: Vector, v: Vector, out: OutMatrix,
    work: OutVector,
) -> Word:  # fmt: skip
    batch = X.shape[0]
    status = (
        check_inputs(version, model, X)
        or check_direction(model, v)
        or check_matrix(out, batch, model.network[0].n_out)
        or check_work(model, work, batch, 2)
        or check_points(model, points, batch)
    )
    if status == OK:
        for here in blocks(batch, block_size(batch)):
            x, t = rows_of(X, here), carve_tangents(model.network[0], work, here.m)
            parts = _activations(model, x, points, work, here)
            tangent_forward(model, v, x, parts.a, t.Rz, t.Ra)
            copy(activation(t.Ra, top_of(model), here.count), rows_of(out, here))
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
        fill(out, 0)
        for here in blocks(batch, block_size(batch)):
            x = rows_of(X, here)
            parts = _activations(model, x, points, work, here)
            vjp_block(model, x, rows_of(u, here), parts, out)
    return status


@inlined
def _activations(model, X, points, work, here):
    """Return a workspace with the activations of a block of samples: computed, or those kept."""
    if points.size == 0:
        parts = carve(model.network[0], work, here.m)
        forward_block(model, X, parts, None)
    else:
        parts, _ = _point(model, points, work, here)
    return parts


@inlined
def _point(model, points, work, here):
    """Return a workspace with the activations kept of a block of samples, and the deltas kept."""
    parts, units = carve(model.network[0], work, here.m), model.network[0].units
    first, size = 2 * here.first * units, here.count * units
    a, deltas = vector(points, first, size), vector(points, first + size, size)
    kept = Workspace(
        a, parts.z, parts.delta, parts.delta_prev, parts.X, parts.Y, parts.w, parts.spare
    )
    return kept, deltas


# ---------------------------------------------------------------- of each sample


@kernel
def _sample_gradients(
    version: Word, model: Model, X: Matrix, Y: Matrix, out: OutMatrix, work: OutVector, by: Word
) -> Word:
    batch, network, none = X.shape[0], model.network[0], no_vector(X)
    width = network.n_in if by == BY_INPUTS else network.n_params
    status = check(version, model, X, Y, none, work, 2) or check_matrix(out, batch, width)
    if status == OK:
        samples, bottom = Block(X, targets(Y, batch), none), model.layers[0]
        for here in blocks(batch, block_size(batch)):
            block, target = cut_block(samples, here), rows_of(out, here)
            parts, t = carve(network, work, here.m), carve_tangents(network, work, here.m)
            linearize_block(model, block, 1.0, parts, t.delta)
            if by == BY_INPUTS:
                delta = activation(t.delta, bottom, here.count)
                to_inputs(delta, weight(model.theta, bottom), target)
            else:
                sample_gradients(model, block.X, parts.a, t.delta, target, 0, 1)
    return status


@kernel
def _jacobian(
    version: Word, model: Model, X: Matrix, out: OutTensor, work: OutVector, by: Word
) -> Word:
    batch, network = X.shape[0], model.network[0]
    n_out, width = network.n_out, network.n_in if by == BY_INPUTS else network.n_params
    status = (
        check_inputs(version, model, X)
        or check_tensor(out, batch, n_out, width)
        or check_work(model, work, batch, 2)
    )
    if status == OK:
        for here in blocks(batch, block_size(batch)):
            parts, t = carve(network, work, here.m), carve_tangents(network, work, here.m)
            x, target = (
                rows_of(X, here),
                matrix(out, here.first * n_out * width, here.count * n_out, width),
            )
            forward_block(model, x, parts, None)
            if by == BY_INPUTS and width < n_out:
                for i in range(width):
                    jacobian_column(model, x, i, parts.a, t, target)
            else:
                for o in range(n_out):
                    output_deltas(model, x, o, parts.a, t.delta)
                    if by == BY_INPUTS:
                        jacobian_row(model, x, o, parts, t.delta, target)
                    else:
                        sample_gradients(model, x, parts.a, t.delta, target, o, n_out)
    return status
