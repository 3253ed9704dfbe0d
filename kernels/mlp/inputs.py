"""Derivatives of the outputs with respect to the inputs: along a direction, and of second order.

Public kernels take (model, what is read, what is written, work), where `work` holds at least
``workspace_size(model, batch, 2)`` floats of theta's dtype; else as in `sweeps`. A tangent that
begins at the inputs moves no weight: of the R-operator (`tangents`) it leaves

    Rz = Ra_prev @ W                              Ra = f'(z) * Rz
    Rdelta_prev = (Rdelta @ W.T) * f'(z_prev) + delta_prev * (f'' / f') * Rz_prev
"""

from ..abi import Matrix, OutMatrix, OutTensor4, OutVector, Word
from ..compiler import inlined, kernel, njit
from ..gemm.matmul import matmul
from ..simd.views import copy, fill, matrix, row
from ..status import BAD_OUT, BAD_V_OF_INPUTS, OK, VERSION, refuse
from .activations import curve
from .entry import check_cotangent, check_inputs, check_matrix, check_work
from .layers import back_layer
from .model import (
    Model,
    Tangents,
    Workspace,
    activation,
    block_size,
    carve,
    carve_tangents,
    source,
    top_of,
    weight,
)
from .sweeps import STRAIGHT, blocks, forward_block, rows_of
from .tangents import move_input, move_on, output_deltas, propagate_all, to_inputs, to_logits


@njit
def input_jvp(model: Model, X: Matrix, v: Matrix, out: OutMatrix, work: OutVector) -> None:
    """Differentiate the outputs along a direction of each sample's inputs.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    v : array (B, n_in)
        A direction for each sample.
    out : array (B, n_out)
        The tangent of the outputs, overwritten.
    work : array
        Scratch memory: at least ``workspace_size(model, B, 2)`` floats.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.
    """
    refuse(_input_jvp(VERSION, model, X, v, out, work))


@njit
def input_vjp(model: Model, X: Matrix, u: Matrix, out: OutMatrix, work: OutVector) -> None:
    """Multiply a cotangent by the Jacobian of each sample's outputs with respect to its inputs.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    u : array (B, n_out)
        A cotangent of the outputs.
    out : array (B, n_in)
        The gradient of ``sum(u * predict(X))`` with respect to X, overwritten.
    work : array
        Scratch memory: at least ``workspace_size(model, B, 2)`` floats.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.
    """
    refuse(_input_vjp(VERSION, model, X, u, out, work))


@njit
def input_hessian(model: Model, X: Matrix, out: OutTensor4, work: OutVector) -> None:
    """Compute the second derivatives of the outputs with respect to the inputs.

    For each output one sweep back, and for each of its rows one forward and one back.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    out : array (B, n_out, n_in, n_in)
        The Hessian of each output of each sample, overwritten.
    work : array
        Scratch memory: at least ``workspace_size(model, B, 2)`` floats.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.

    References
    ----------
    Pearlmutter (1994), Fast exact multiplication by the Hessian.
    """
    refuse(_input_hessian(VERSION, model, X, out, work))


# ---------------------------------------------------------------- all blocks


@kernel
def _input_jvp(
    version: Word, model: Model, X: Matrix, v: Matrix, out: OutMatrix, work: OutVector
) -> Word:
    batch, network = X.shape[0], model.network[0]
    status = (
        check_inputs(version, model, X)
        or (OK if v.shape[0] == batch and v.shape[1] == network.n_in else BAD_V_OF_INPUTS)
        or check_matrix(out, batch, network.n_out)
        or check_work(model, work, batch, 2)
    )
    if status == OK:
        for here in blocks(batch, block_size(batch)):
            x, bottom = rows_of(X, here), model.layers[0]
            parts, t = carve(network, work, here.m), carve_tangents(network, work, here.m)
            forward_block(model, x, parts, None)
            Rz = activation(t.Rz, bottom, here.count)
            matmul(rows_of(v, here), weight(model.theta, bottom), Rz)
            move_on(model, here.count, parts.a, t)
            copy(activation(t.Ra, top_of(model), here.count), rows_of(out, here))
    return status


@kernel
def _input_vjp(
    version: Word, model: Model, X: Matrix, u: Matrix, out: OutMatrix, work: OutVector
) -> Word:
    batch, network = X.shape[0], model.network[0]
    status = (
        check_inputs(version, model, X)
        or check_cotangent(model, u, batch)
        or check_matrix(out, batch, network.n_in)
        or check_work(model, work, batch, 2)
    )
    if status == OK:
        bottom = model.layers[0]
        for here in blocks(batch, block_size(batch)):
            parts, t = carve(network, work, here.m), carve_tangents(network, work, here.m)
            forward_block(model, rows_of(X, here), parts, None)
            delta = activation(t.delta, top_of(model), here.count)
            copy(rows_of(u, here), delta)
            to_logits(model, parts.a, delta)
            propagate_all(model, here.count, parts.a, t.delta)
            delta = activation(t.delta, bottom, here.count)
            to_inputs(delta, weight(model.theta, bottom), rows_of(out, here))
    return status


@kernel
def _input_hessian(
    version: Word, model: Model, X: Matrix, out: OutTensor4, work: OutVector
) -> Word:
    batch, network = X.shape[0], model.network[0]
    n_in, n_out = network.n_in, network.n_out
    fits = out.shape[0] == batch and out.shape[1] == n_out
    fits = fits and out.shape[2] == n_in and out.shape[3] == n_in
    status = (
        check_inputs(version, model, X)
        or (OK if fits else BAD_OUT)
        or check_work(model, work, batch, 2)
    )
    if status == OK:
        for here in blocks(batch, block_size(batch)):
            x, height = rows_of(X, here), n_out * n_in
            target = matrix(out, here.first * height * n_in, here.count * height, n_in)
            parts, t = carve(network, work, here.m), carve_tangents(network, work, here.m)
            forward_block(model, x, parts, None)
            for o in range(n_out):
                output_deltas(model, x, o, parts.a, t.delta)
                for i in range(n_in):
                    hessian_row(model, x, i, parts, t)
                    slopes = matrix(parts.X, 0, here.count, n_in)
                    for b in range(here.count):
                        copy(row(slopes, b), row(target, b * height + o * n_in + i))
    return status


# ---------------------------------------------------------------- one block of samples


@kernel
def hessian_row(model: Model, X: Matrix, i: Word, parts: Workspace, t: Tangents):
    """Compute row i of each sample's Hessian of the output that `t.delta` is of, into parts.X."""
    count, top, bottom = X.shape[0], top_of(model), model.layers[0]
    move_input(model, i, count, parts.a, t)
    here, below = t.Rdelta, t.Rdelta_prev
    Rdelta = matrix(here, 0, count, top.n_out)
    fill(Rdelta, 0)
    _turn(top, count, parts.a, t, Rdelta)
    for k in range(model.layers.size - 1, 0, -1):
        layer, lower = model.layers[k], model.layers[k - 1]
        Rdelta, Rdelta_prev = (
            matrix(here, 0, count, layer.n_out),
            matrix(below, 0, count, layer.n_in),
        )
        W = weight(model.theta, layer)
        back_layer(Rdelta, W, Rdelta_prev, STRAIGHT, Rdelta_prev, model.threads)
        _turn(lower, count, parts.a, t, Rdelta_prev)
        here, below = below, here
    Rdelta = matrix(here, 0, count, bottom.n_out)
    to_inputs(Rdelta, weight(model.theta, bottom), matrix(parts.X, 0, count, bottom.n_in))


@inlined
def _turn(layer, count, a, t, g):
    """Differentiate ``delta = u * f'(z)`` of a layer, given the derivative of u in g."""
    if layer.curve != 0:
        x, delta = source(a, layer, count), source(t.delta, layer, count)
        curve(layer.curve, x, delta, activation(t.Rz, layer, count), g, layer.parameter)
