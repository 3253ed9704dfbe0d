"""Sweeps over one block of samples beyond the gradient: along a direction, and of each sample.

R x is the derivative of x along v, a vector like theta whose parts are V and vb of each layer
(Pearlmutter 1994: the R-operator). It takes one more sweep forward, and one more back:

    Rz = Ra_prev @ W + a_prev @ V + vb            Ra = f'(z) * Rz
    Rdelta_prev = (Rdelta @ W.T + delta @ V.T) * f'(z_prev) + delta_prev * (f'' / f') * Rz_prev
    RdW = Ra_prev.T @ delta + a_prev.T @ Rdelta   Rdb = Rdelta.sum(axis=0)
"""

from typing import NamedTuple

from ..abi import Double, Matrix, Vector, Word
from ..compiler import inlined, kernel
from ..gemm.matmul import (
    Part,
    column_sum_add,
    matmul,
    matmul_add,
    matmul_bias,
    matmul_transposed,
    matmul_transposed_add,
    outer_add,
    whole,
)
from ..gemm.parallel import over_parts
from ..gemm.product import ZERO
from ..simd.vectors import lanes
from ..simd.views import copy, fill, get, matrix, put, row, rows
from .activations import curve, tangent
from .layers import Function, back_layer, gradient_layer, times_derivative
from .losses import curved, turned
from .model import (
    Model,
    Tangents,
    Workspace,
    activation,
    bias,
    options_of,
    source,
    top_of,
    weight,
)
from .sweeps import (
    STRAIGHT,
    Block,
    backward,
    forward_block,
    function_at,
    output_delta,
)


@inlined
def _below(model, X, a, k):
    """Return what layer k reads: X, or the activations of the layer below."""
    below = rows(X, 0, X.shape[0])
    if k > 0:
        below = activation(a, model.layers[k - 1], X.shape[0])
    return below


@kernel
def linearize_block(model: Model, block: Block, mass: Double, parts: Workspace, deltas: Vector):
    """Run forward, BP1 and BP2, and keep the deltas of all layers."""
    _, a = forward_block(model, block.X, parts, None)
    delta = activation(deltas, top_of(model), block.X.shape[0])
    output_delta(model, a, block, 1.0 / mass, delta, parts.spare)
    propagate_all(model, block.X.shape[0], parts.a, deltas)


@inlined
def to_logits(model, a, delta):
    """Compute ``delta = u * f'(z)`` of the outputs, whose cotangent u `delta` holds before."""
    top = top_of(model)
    times_derivative(function_at(top), activation(a, top, delta.shape[0]), delta)


@kernel
def propagate_all(model: Model, count: Word, a: Vector, deltas: Vector):
    """Run BP2 from the top down, and keep the deltas of all layers."""
    for k in range(model.layers.size - 1, 0, -1):
        layer, lower = model.layers[k], model.layers[k - 1]
        delta, delta_prev = activation(deltas, layer, count), activation(deltas, lower, count)
        W, x_prev, f = weight(model.theta, layer), source(a, lower, count), function_at(lower)
        if lower.of_z == 0:
            back_layer(delta, W, x_prev, f, delta_prev, model.threads)
        else:  # u is kept, since f' may be 0
            u_prev = source(deltas, lower, count)
            back_layer(delta, W, x_prev, STRAIGHT, u_prev, model.threads)
            tangent(f.tangent, x_prev, u_prev, delta_prev, f.parameter)


@kernel
def tangent_forward(model: Model, v: Vector, X: Matrix, a: Vector, Rz: Vector, Ra: Vector):
    """Compute the tangents Rz and Ra of all layers."""
    count = X.shape[0]
    Ra_prev = matrix(Ra, 0, 0, 1)  # inputs do not move
    for k in range(model.layers.size):
        layer = model.layers[k]
        W, V, vb = weight(model.theta, layer), weight(v, layer), bias(v, layer)
        a_prev, x = _below(model, X, a, k), source(a, layer, count)
        Rz_k, Ra_k = activation(Rz, layer, count), activation(Ra, layer, count)
        state = (a_prev, Ra_prev, W, V, vb, function_at(layer), x, Rz_k, Ra_k)
        _forward_rows(state, x.shape, False, 2 * a_prev.size * x.shape[1], model.threads)
        Ra_prev = Ra_k


@over_parts
@kernel(name="tangent_forward_rows")
def _forward_rows(
    a_prev: Matrix, Ra_prev: Matrix, W: Matrix, V: Matrix, vb: Vector, f: Function, x: Matrix,
    Rz: Matrix, Ra: Matrix, part: Part,
):  # fmt: skip
    first, count = part.row, part.rows
    below, Rz, Ra = rows(a_prev, first, count), rows(Rz, first, count), rows(Ra, first, count)
    matmul_bias(below, V, vb, Rz, whole(Rz))
    if Ra_prev.shape[0] > 0:
        matmul_add(rows(Ra_prev, first, count), W, Rz)
    if f.tangent != 0:
        tangent(f.tangent, rows(x, first, count), Rz, Ra, f.parameter)
    else:
        copy(Rz, Ra)


@kernel
def hessian_block(
    model: Model, block: Block, mass: Double, v: Vector, parts: Workspace, tangents: Tangents,
    out: Vector,
):  # fmt: skip
    """Add to `out` one block's part of H v; `parts` and the deltas hold its point."""
    count, last = block.X.shape[0], model.layers.size - 1
    tangent_forward(model, v, block.X, parts.a, tangents.Rz, tangents.Ra)
    here, below = tangents.Rdelta, tangents.Rdelta_prev
    Rdelta = matrix(here, 0, count, top_of(model).n_out)
    output_tangent(model, block, 1.0 / mass, parts, tangents, Rdelta)
    for k in range(last, -1, -1):
        layer = model.layers[k]
        delta = activation(tangents.delta, layer, count)
        Rdelta = matrix(here, 0, count, layer.n_out)
        a_prev, dW, db = _below(model, block.X, parts.a, k), weight(out, layer), bias(out, layer)
        Ra_prev = matrix(tangents.Ra, 0, 0, 1)
        if k > 0:
            Ra_prev = activation(tangents.Ra, model.layers[k - 1], count)
        work, state = 2 * a_prev.size * layer.n_out, (delta, Rdelta, a_prev, Ra_prev, dW)
        _gradient_rows(state, dW.shape, False, work, model.threads)
        column_sum_add(Rdelta, Rdelta.dtype.type(1), db, ZERO, db.size)
        if k > 0:  # behind the gradient, which has brought a_prev into cache
            lower = model.layers[k - 1]
            W, V = weight(model.theta, layer), weight(v, layer)
            point = Point(
                source(parts.a, lower, count),
                source(tangents.delta, lower, count),
                activation(tangents.Rz, lower, count),
                lower.curve,
                lower.parameter,
            )
            Rdelta_prev = matrix(below, 0, count, layer.n_in)
            state = (delta, Rdelta, W, V, point, Rdelta_prev)
            _backward_rows(state, Rdelta_prev.shape, False, work, model.threads)
        here, below = below, here


class Point(NamedTuple):
    """Where a layer is: what f' is computed from, ``u = delta / f'`` or delta, Rz; its `curve`."""

    x: Matrix
    u: Matrix
    Rz: Matrix
    curve: Word
    parameter: Double


@over_parts
@kernel(name="tangent_backward_rows")
def _backward_rows(
    delta: Matrix, Rdelta: Matrix, W: Matrix, V: Matrix, point: Point, Rdelta_prev: Matrix,
    part: Part,
):  # fmt: skip
    first, count = part.row, part.rows
    out = rows(Rdelta_prev, first, count)
    matmul_transposed(rows(Rdelta, first, count), W, out, whole(out))
    matmul_transposed_add(rows(delta, first, count), V, out)
    if point.curve != 0:
        x, u, Rz = (
            rows(point.x, first, count),
            rows(point.u, first, count),
            rows(point.Rz, first, count),
        )
        curve(point.curve, x, u, Rz, out, point.parameter)


@over_parts
@kernel(name="tangent_gradient_rows")
def _gradient_rows(
    delta: Matrix, Rdelta: Matrix, a_prev: Matrix, Ra_prev: Matrix, dW: Matrix, part: Part
):
    one = dW.dtype.type(1)
    outer_add(a_prev, Rdelta, one, dW, part)
    if Ra_prev.shape[0] > 0:
        outer_add(Ra_prev, delta, one, dW, part)


@inlined
def output_tangent(model, block, scale, parts, tangents, Rdelta):
    """Differentiate `output_delta` along the tangents Rz of z and Ra of a."""
    network, top, count = model.network[0], top_of(model), block.X.shape[0]
    a, Y, w, options = activation(parts.a, top, count), block.Y, block.weights, options_of(network)
    Rz, Ra = activation(tangents.Rz, top, count), activation(tangents.Ra, top, count)
    turned(network.turned, a, Y, w, scale, Rz, Ra, Rdelta, options, parts.spare)
    if network.needs_derivative != 0 and top.curve != 0:
        delta = activation(tangents.delta, top, count)
        curve(top.curve, a, delta, Rz, Rdelta, top.parameter)


@kernel
def gauss_newton_block(
    model: Model, block: Block, mass: Double, v: Vector, parts: Workspace, tangents: Tangents,
    out: Vector,
):  # fmt: skip
    """Add to `out` one block's part of G v; `parts` holds its activations."""
    network, top, count = model.network[0], top_of(model), block.X.shape[0]
    tangent_forward(model, v, block.X, parts.a, tangents.Rz, tangents.Ra)
    a, Y, w, options = activation(parts.a, top, count), block.Y, block.weights, options_of(network)
    Rz, Ra = activation(tangents.Rz, top, count), activation(tangents.Ra, top, count)
    delta = matrix(parts.delta, 0, count, top.n_out)
    curved(network.curved, a, Y, w, 1.0 / mass, Rz, Ra, delta, options, parts.spare)
    if network.needs_derivative != 0:
        times_derivative(function_at(top), a, delta)
    one = a.dtype.type(1)
    backward(model, block.X, one, out, parts.a, parts.delta, parts.delta_prev, None)


@kernel
def vjp_block(model: Model, X: Matrix, u: Matrix, parts: Workspace, out: Vector):
    """Add to `out` what a block of samples contributes; `parts` holds its activations."""
    delta, one = matrix(parts.delta, 0, u.shape[0], u.shape[1]), u.dtype.type(1)
    copy(u, delta)
    to_logits(model, parts.a, delta)
    backward(model, X, one, out, parts.a, parts.delta, parts.delta_prev, None)


@kernel
def gradient_of_block(model: Model, X: Matrix, a: Vector, deltas: Vector, grad: Vector):
    """Run BP3 and BP4 of all layers."""
    for k in range(model.layers.size):
        layer = model.layers[k]
        delta, a_prev = activation(deltas, layer, X.shape[0]), _below(model, X, a, k)
        dW, db, one = weight(grad, layer), bias(grad, layer), a.dtype.type(1)
        gradient_layer(delta, a_prev, one, dW, db, model.threads)


@kernel
def sample_gradients(
    model: Model, X: Matrix, a: Vector, deltas: Vector, out: Matrix, first: Word, step: Word
):
    """Run BP3 and BP4 of each sample, into rows ``first + b * step`` of `out`."""
    for k in range(model.layers.size):
        layer = model.layers[k]
        delta, a_prev = activation(deltas, layer, X.shape[0]), _below(model, X, a, k)
        for b in range(X.shape[0]):
            grad = row(out, first + b * step)
            _outer(row(a_prev, b), row(delta, b), weight(grad, layer))
            copy(row(delta, b), bias(grad, layer))


@inlined
def _outer(x, d, c):
    """Compute ``c = outer(x, d)``."""
    for i in range(x.size):
        at = row(c, i)
        for j in range(0, d.size, lanes(d)):
            put(at, j, x[i] * get(d, j))


@kernel
def output_deltas(model: Model, X: Matrix, o: Word, a: Vector, deltas: Vector):
    """Compute the deltas of all layers as if output `o` were the loss."""
    count = X.shape[0]
    delta = activation(deltas, top_of(model), count)
    fill(delta, 0)
    for b in range(count):
        delta[b, o] = 1
    to_logits(model, a, delta)
    propagate_all(model, count, a, deltas)


@inlined
def to_inputs(delta, W, out):
    """Compute ``out = delta @ W.T``: BP2 down to the inputs, which have no f'."""
    matmul_transposed(delta, W, out, whole(out))


@kernel
def jacobian_row(model: Model, X: Matrix, o: Word, parts: Workspace, deltas: Vector, out: Matrix):
    """Compute ``out[b * n_out + o] = d output o / d inputs`` of each sample, of `output_deltas`."""
    count, n_out, bottom = X.shape[0], top_of(model).n_out, model.layers[0]
    slopes_of_inputs = matrix(parts.X, 0, count, bottom.n_in)
    to_inputs(activation(deltas, bottom, count), weight(model.theta, bottom), slopes_of_inputs)
    for b in range(count):
        copy(row(slopes_of_inputs, b), row(out, b * n_out + o))


@kernel
def jacobian_column(model: Model, X: Matrix, i: Word, a: Vector, t: Tangents, out: Matrix):
    """``out[b * n_out + o, i] = d output o / d input i`` of each sample, by a sweep forward."""
    count, top = X.shape[0], top_of(model)
    move_input(model, i, count, a, t)
    moved = activation(t.Ra, top, count)
    for b in range(count):
        for o in range(top.n_out):
            out[b * top.n_out + o, i] = moved[b, o]


@inlined
def move_input(model, i, count, a, t):
    """Compute the tangents of all layers along input i."""
    bottom = model.layers[0]
    W, Rz = weight(model.theta, bottom), activation(t.Rz, bottom, count)
    for b in range(count):
        copy(row(W, i), row(Rz, b))
    move_on(model, count, a, t)


@kernel
def move_on(model: Model, count: Word, a: Vector, t: Tangents):
    """Compute Rz and Ra of all layers, given Rz of the first."""
    for k in range(model.layers.size):
        layer = model.layers[k]
        x, Rz = source(a, layer, count), activation(t.Rz, layer, count)
        Ra = activation(t.Ra, layer, count)
        if k > 0:
            Ra_prev = activation(t.Ra, model.layers[k - 1], count)
            matmul(Ra_prev, weight(model.theta, layer), Rz)
        if layer.tangent != 0:
            tangent(layer.tangent, x, Rz, Ra, layer.parameter)
        else:
            copy(Rz, Ra)
