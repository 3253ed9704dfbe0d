"""Derivatives beyond the gradient: along a direction, of second order, and of each sample.

R x is the derivative of x along v, a vector like theta whose parts are V and vb of each layer
(Pearlmutter 1994: the R-operator). It takes one more sweep forward, and one more back:

    Rz = Ra_prev @ W + a_prev @ V + vb            Ra = f'(z) * Rz
    Rdelta_prev = (Rdelta @ W.T + delta @ V.T) * f'(z_prev) + delta_prev * (f'' / f') * Rz_prev
    RdW = Ra_prev.T @ delta + a_prev.T @ Rdelta   Rdb = Rdelta.sum(axis=0)

Public kernels take (model, what is read, what is written, work), where `work` holds at least
``workspace_size(model.layers, batch, 2)`` floats of theta's dtype; else as in `sweeps`.
"""

import numpy as np

from . import entry
from .activations import (
    IDENTITY,
    of_z,
    tangent_derivative,
    times_derivative,
    times_tangent_derivative,
)
from .compiler import inlined, njit
from .layers import accumulate_gradient, propagate_delta
from .losses import loss_sum, output_curvature, output_delta, output_tangent
from .matmul import (
    Part,
    column_sum_add,
    matmul,
    matmul_bias,
    matmul_pair,
    matmul_transposed,
    matmul_transposed_pair,
    outer_add,
    whole,
)
from .model import (
    ACTIVATION,
    N_IN,
    N_OUT,
    UNITS,
    Tangents,
    Workspace,
    activation,
    bias,
    block_size,
    carve,
    carve_tangents,
    layer_at,
    source,
    weight,
)
from .parallel import over_rows
from .product import ZERO
from .sweeps import (
    backward,
    cut,
    enter,
    forward,
    penalty,
    start_gradient,
    start_product,
    weight_sum,
)
from .vectors import lanes, load_masked, store_masked
from .views import borrow_all, copy, fill, matrix, row, rows, vector


@njit
def hvp(model, X, Y, v, out, work, weights=None):
    """``out = H v``, H the Hessian of `loss` at theta; v, out (n_params,)."""
    _hvp(borrow_all(model), X, Y, None, v, out, work, weights)


@njit
def gnvp(model, X, Y, v, out, work, weights=None):
    """``out = G v``, G = J^T (d2 loss / d out2) J the Gauss-Newton matrix, plus the penalty's part.

    Schraudolph (2002); where the loss matches the output (see `losses`) the outputs are the logits.
    """
    _gnvp(borrow_all(model), X, Y, None, v, out, work, weights)


@njit
def jvp(model, X, v, out, work):
    """``out = d predict(X) / d theta @ v``; v (n_params,), out (B, n_out)."""
    _jvp(borrow_all(model), X, None, v, out, work)


@njit
def vjp(model, X, u, out, work):
    """``out = u @ d predict(X) / d theta``, summed over samples; u (B, n_out), out (n_params,)."""
    _vjp(borrow_all(model), X, None, u, out, work)


# ---------------------------------------------------------------- at a point that is kept


@njit
def linearize(model, X, Y, grad, points, work, weights=None):
    """Loss and gradient, with forward and backward kept in `points` (points_size floats)."""
    model = borrow_all(model)
    x, y, memory = enter(model, X, Y, weights, work, 2)
    batch, gradient = x.shape[0], entry.gradient(model, grad)
    entry.check_points(model, points, batch)
    m, mass = block_size(batch), weight_sum(weights, batch)
    parts = carve(model.layers, memory, m)
    start_gradient(model, gradient)
    total = 0.0
    for first in range(0, batch, m):
        block = cut(x, y, weights, first, min(m, batch - first))
        here, deltas = _point(model, points, parts, first, block.X.shape[0])
        _linearize_block(model, block, mass, here, deltas)
        z = matrix(here.z, 0, block.X.shape[0], _n_out(model))
        total += loss_sum(
            model.loss,
            model.coef[3],
            z,
            _outputs(model, here.a, block.X),
            block.Y,
            block.weights,
            parts.spare,
        )
        _gradient_of_block(model, block.X, here.a, deltas, gradient)
    return total / mass + penalty(model)


@njit
def hvp_at(model, X, Y, points, v, out, work, weights=None):
    """`hvp` at a point that `linearize` has kept."""
    _hvp(borrow_all(model), X, Y, points, v, out, work, weights)


@njit
def gnvp_at(model, X, Y, points, v, out, work, weights=None):
    """`gnvp` at a point that `linearize` has kept."""
    _gnvp(borrow_all(model), X, Y, points, v, out, work, weights)


@njit
def jvp_at(model, X, points, v, out, work):
    """`jvp` at a point that `linearize` has kept."""
    _jvp(borrow_all(model), X, points, v, out, work)


@njit
def vjp_at(model, X, points, u, out, work):
    """`vjp` at a point that `linearize` has kept."""
    _vjp(borrow_all(model), X, points, u, out, work)


# ---------------------------------------------------------------- all blocks; points may be None


@inlined
def _hvp(model, X, Y, points, v, out, work, weights):
    x, y, memory = enter(model, X, Y, weights, work, 2)
    batch, w, total = x.shape[0], entry.direction(model, v), entry.gradient(model, out)
    entry.check_points(model, points, batch)
    m, mass = block_size(batch), weight_sum(weights, batch)
    parts, t = carve(model.layers, memory, m), carve_tangents(model.layers, memory, m)
    start_product(model, w, total)
    for first in range(0, batch, m):
        count = min(m, batch - first)
        block = cut(x, y, weights, first, count)
        here, delta = parts, t.delta
        if points is None:
            _linearize_block(model, block, mass, here, delta)
        else:
            here, delta = _point(model, points, parts, first, count)
        tangents = Tangents(delta, t.Rz, t.Ra, t.Rdelta, t.Rdelta_prev)
        _hessian_block(model, block, mass, w, here, tangents, total)


@inlined
def _gnvp(model, X, Y, points, v, out, work, weights):
    x, y, memory = enter(model, X, Y, weights, work, 2)
    batch, w, total = x.shape[0], entry.direction(model, v), entry.gradient(model, out)
    entry.check_points(model, points, batch)
    m, mass = block_size(batch), weight_sum(weights, batch)
    parts, tangents = carve(model.layers, memory, m), carve_tangents(model.layers, memory, m)
    start_product(model, w, total)
    for first in range(0, batch, m):
        block = cut(x, y, weights, first, min(m, batch - first))
        here = _activations(model, block.X, points, parts, first)
        _gauss_newton_block(model, block, mass, w, here, tangents, total)


@inlined
def _jvp(model, X, points, v, out, work):
    x = entry.samples(model, X)
    batch, w = x.shape[0], entry.direction(model, v)
    y, memory = (
        entry.result(model, out, (batch, _n_out(model))),
        entry.scratch(model, work, batch, 2),
    )
    entry.check_points(model, points, batch)
    m = block_size(batch)
    parts, tangents = carve(model.layers, memory, m), carve_tangents(model.layers, memory, m)
    for first in range(0, batch, m):
        block = rows(x, first, min(m, batch - first))
        here = _activations(model, block, points, parts, first)
        _tangent_forward(model, w, block, here, tangents)
        copy(_outputs(model, tangents.Ra, block), rows(y, first, block.shape[0]))


@inlined
def _vjp(model, X, points, u, out, work):
    x = entry.samples(model, X)
    batch, total = x.shape[0], entry.gradient(model, out)
    w, memory = entry.outputs(model, u, batch), entry.scratch(model, work, batch, 1)
    entry.check_points(model, points, batch)
    m = block_size(batch)
    parts = carve(model.layers, memory, m)
    fill(total, 0)
    for first in range(0, batch, m):
        block = rows(x, first, min(m, batch - first))
        here = _activations(model, block, points, parts, first)
        _vjp_block(model, block, rows(w, first, block.shape[0]), here, total)


@inlined
def _activations(model, X, points, parts, first):
    """A workspace with the activations of a block of samples: computed, or those kept."""
    here = parts
    if points is None:
        forward(model, X, here)
    else:
        here, _ = _point(model, points, parts, first, X.shape[0])
    return here


# ---------------------------------------------------------------- of each sample


@njit
def per_sample_grads(model, X, Y, out, work):
    """Gradient of each sample's own loss, without l2; out (B, n_params)."""
    model = borrow_all(model)
    x, y, memory = enter(model, X, Y, None, work, 2)
    batch = x.shape[0]
    grads, m = entry.result(model, out, (batch, model.theta.size)), block_size(batch)
    parts, tangents = carve(model.layers, memory, m), carve_tangents(model.layers, memory, m)
    for first in range(0, batch, m):
        block = cut(x, y, None, first, min(m, batch - first))
        _linearize_block(model, block, 1.0, parts, tangents.delta)
        here = rows(grads, first, block.X.shape[0])
        _sample_gradients(model, block.X, parts.a, tangents.delta, here, 0, 1)


@njit
def input_grad(model, X, Y, out, work):
    """Gradient of each sample's own loss with respect to its inputs; out (B, n_in)."""
    model = borrow_all(model)
    x, y, memory = enter(model, X, Y, None, work, 2)
    batch, bottom = x.shape[0], layer_at(model, 0)
    grads, m = entry.result(model, out, (batch, bottom[N_IN])), block_size(batch)
    parts, tangents = carve(model.layers, memory, m), carve_tangents(model.layers, memory, m)
    for first in range(0, batch, m):
        block = cut(x, y, None, first, min(m, batch - first))
        count = block.X.shape[0]
        _linearize_block(model, block, 1.0, parts, tangents.delta)
        delta = activation(tangents.delta, bottom, count)
        here = rows(grads, first, count)
        matmul_transposed(delta, weight(model.theta, bottom), here, whole(here))


@njit
def parameter_jacobian(model, X, out, work):
    """``out[b, o] = d predict(X)[b, o] / d theta``, out (B, n_out, n_params)."""
    model = borrow_all(model)
    x, n_out = entry.samples(model, X), _n_out(model)
    batch = x.shape[0]
    flat_out = entry.result(model, out, (batch, n_out, model.theta.size))
    memory, m = entry.scratch(model, work, batch, 2), block_size(batch)
    parts, tangents = carve(model.layers, memory, m), carve_tangents(model.layers, memory, m)
    for first in range(0, batch, m):
        block = rows(x, first, min(m, batch - first))
        forward(model, block, parts)
        for o in range(n_out):
            _output_deltas(model, block, o, parts, tangents.delta)
            here = rows(flat_out, first * n_out, block.shape[0] * n_out)
            _sample_gradients(model, block, parts.a, tangents.delta, here, o, n_out)


@njit
def jacobian(model, X, out, work):
    """``out[b, o, i] = d predict(X)[b, o] / d X[b, i]``, out (B, n_out, n_in).

    A sweep back for each output, or one forward for each input, whichever are fewer.
    """
    model = borrow_all(model)
    x, n_out = entry.samples(model, X), _n_out(model)
    batch, n_in = x.shape
    flat_out = entry.result(model, out, (batch, n_out, n_in))
    memory, m = entry.scratch(model, work, batch, 2), block_size(batch)
    parts, tangents = carve(model.layers, memory, m), carve_tangents(model.layers, memory, m)
    for first in range(0, batch, m):
        block = rows(x, first, min(m, batch - first))
        forward(model, block, parts)
        here = rows(flat_out, first * n_out, block.shape[0] * n_out)
        if n_out <= n_in:
            for o in range(n_out):
                _jacobian_row(model, block, o, parts, tangents, here)
        else:
            for i in range(n_in):
                _jacobian_column(model, block, i, parts, tangents, here)


# ---------------------------------------------------------------- sweeps over one block of samples


@inlined
def _point(model, points, parts, first, count):
    """(workspace, deltas) whose activations and deltas are those kept of a block of samples."""
    units, n_out = model.layers[0, UNITS], _n_out(model)
    at_a = first * (2 * units + n_out)
    at_z = at_a + count * units
    at_delta = at_z + count * n_out
    a, z = vector(points, at_a, count * units), vector(points, at_z, count * n_out)
    here = Workspace(a, z, parts.delta, parts.delta_prev, parts.X, parts.Y, parts.w, parts.spare)
    return here, vector(points, at_delta, count * units)


@inlined
def _below(model, X, a, k):
    """What layer k reads: X, or the activations of the layer below."""
    below = rows(X, 0, X.shape[0])
    if k > 0:
        below = activation(a, layer_at(model, k - 1), X.shape[0])
    return below


@inlined
def _n_out(model):
    """How many outputs the network has."""
    return layer_at(model, model.layers.shape[0] - 1)[N_OUT]


@inlined
def _outputs(model, a, X):
    """Of the sections of all layers in `a`, that of the output layer (B, n_out)."""
    return activation(a, layer_at(model, model.layers.shape[0] - 1), X.shape[0])


@njit
def _linearize_block(model, block, mass, parts, deltas):
    """Forward, BP1, and BP2 with the deltas of all layers kept."""
    count, top = block.X.shape[0], model.layers.shape[0] - 1
    slope = model.coef[0]
    forward(model, block.X, parts)
    last, a = layer_at(model, top), _outputs(model, parts.a, block.X)
    delta = activation(deltas, last, count)
    Y, w, f, spare = block.Y, block.weights, last[ACTIVATION], parts.spare
    output_delta(model.loss, model.coef[3], f, slope, a, Y, w, 1.0 / mass, delta, spare)
    _propagate_all(model, count, parts.a, deltas)


@njit
def _tangent_forward(model, v, X, parts, tangents):
    """Rz and Ra of all layers, into `tangents`."""
    count = X.shape[0]
    Ra_prev = matrix(tangents.Ra, 0, 0, 1)  # inputs do not move
    for k in range(model.layers.shape[0]):
        layer = layer_at(model, k)
        a_prev = _below(model, X, parts.a, k)
        x, Rz, Ra = (
            source(parts.a, layer, count),
            activation(tangents.Rz, layer, count),
            activation(tangents.Ra, layer, count),
        )
        W, V, vb = weight(model.theta, layer), weight(v, layer), bias(v, layer)
        f, slope = layer[ACTIVATION], model.coef[0]
        state = (a_prev, Ra_prev, W, V, vb, f, slope, x, Rz, Ra)
        _tangent_forward_rows(state, count, 2 * a_prev.size * x.shape[1], model.threads)
        Ra_prev = Ra


@over_rows
def _tangent_forward_rows(state, first, count):
    a_prev, Ra_prev, W, V, vb, f, slope, x, Rz, Ra = state
    Rz, Ra = rows(Rz, first, count), rows(Ra, first, count)
    if Ra_prev.shape[0] > 0:
        a_prev, Ra_prev = rows(a_prev, first, count), rows(Ra_prev, first, count)
        matmul_pair(a_prev, V, vb, Ra_prev, W, Rz)
    else:
        matmul_bias(rows(a_prev, first, count), V, vb, Rz, whole(Rz))
    tangent_derivative(f, slope, rows(x, first, count), Rz, Ra)


@njit
def _hessian_block(model, block, mass, v, parts, tangents, out):
    """Add to `out` one block's part of H v; `parts` and the deltas hold its point."""
    count, top, slope = block.X.shape[0], model.layers.shape[0] - 1, model.coef[0]
    _tangent_forward(model, v, block.X, parts, tangents)
    Ra = _outputs(model, tangents.Ra, block.X)
    last = layer_at(model, top)
    a, Rz = activation(parts.a, last, count), activation(tangents.Rz, last, count)
    delta = activation(tangents.delta, last, count)
    here, below = tangents.Rdelta, tangents.Rdelta_prev
    Rdelta = matrix(here, 0, count, last[N_OUT])
    Y, w, f = block.Y, block.weights, last[ACTIVATION]
    loss, bend, scale, spare = model.loss, model.coef[3], 1.0 / mass, parts.spare
    output_tangent(loss, bend, f, slope, a, Y, w, scale, delta, Rz, Ra, Rdelta, spare)
    for k in range(top, -1, -1):
        layer = layer_at(model, k)
        delta = activation(tangents.delta, layer, count)
        Rdelta = matrix(here, 0, count, layer[N_OUT])
        a_prev, dW, db = _below(model, block.X, parts.a, k), weight(out, layer), bias(out, layer)
        Ra_prev = matrix(tangents.Ra, 0, 0, 1)
        if k > 0:
            lower = layer_at(model, k - 1)
            Ra_prev = activation(tangents.Ra, lower, count)
            W, V = weight(model.theta, layer), weight(v, layer)
            x_prev, u_prev = source(parts.a, lower, count), source(tangents.delta, lower, count)
            Rz_prev = activation(tangents.Rz, lower, count)
            Rdelta_prev = matrix(below, 0, count, layer[N_IN])
            point = (x_prev, u_prev, Rz_prev, lower[ACTIVATION], slope)
            state = (delta, Rdelta, W, V, point, Rdelta_prev)
            work = 2 * delta.size * layer[N_IN]
            _tangent_backward_rows(state, count, work, model.threads)
        state_of_dW = (delta, Rdelta, a_prev, Ra_prev, dW)
        work = 2 * a_prev.size * layer[N_OUT]
        _tangent_gradient_rows(state_of_dW, layer[N_IN], work, model.threads)
        column_sum_add(Rdelta, Rdelta.dtype.type(1), db, ZERO, db.size)
        here, below = below, here


@over_rows
def _tangent_backward_rows(state, first, count):
    delta, Rdelta, W, V, point, Rdelta_prev = state
    x_prev, u_prev, Rz_prev, f, slope = point
    Rdelta_prev = rows(Rdelta_prev, first, count)
    delta, Rdelta = rows(delta, first, count), rows(Rdelta, first, count)
    matmul_transposed_pair(Rdelta, W, delta, V, Rdelta_prev)
    x_prev, u_prev = rows(x_prev, first, count), rows(u_prev, first, count)
    Rz_prev = rows(Rz_prev, first, count)
    times_tangent_derivative(f, slope, x_prev, u_prev, Rz_prev, Rdelta_prev)


@over_rows
def _tangent_gradient_rows(state, first, count):
    delta, Rdelta, a_prev, Ra_prev, dW = state
    one, part = dW.dtype.type(1), Part(first, count, ZERO, dW.shape[1])
    outer_add(a_prev, Rdelta, one, dW, part)
    if Ra_prev.shape[0] > 0:
        outer_add(Ra_prev, delta, one, dW, part)


@njit
def _gauss_newton_block(model, block, mass, v, parts, tangents, out):
    """Add to `out` one block's part of G v; `parts` holds its activations."""
    last = layer_at(model, model.layers.shape[0] - 1)
    _tangent_forward(model, v, block.X, parts, tangents)
    Ra, a = _outputs(model, tangents.Ra, block.X), _outputs(model, parts.a, block.X)
    Rz = activation(tangents.Rz, last, block.X.shape[0])
    delta = matrix(parts.delta, 0, a.shape[0], a.shape[1])
    Y, w, f, slope = block.Y, block.weights, last[ACTIVATION], model.coef[0]
    loss, bend, scale, spare = model.loss, model.coef[3], 1.0 / mass, parts.spare
    output_curvature(loss, bend, f, slope, a, Y, w, scale, Rz, Ra, delta, spare)
    backward(model, block.X, a.dtype.type(1), out, parts)


@njit
def _vjp_block(model, X, u, parts, out):
    """Add to `out` what a block of samples contributes; `parts` holds its activations."""
    last = layer_at(model, model.layers.shape[0] - 1)
    a = _outputs(model, parts.a, X)
    delta = matrix(parts.delta, 0, a.shape[0], a.shape[1])
    copy(u, delta)
    times_derivative(last[ACTIVATION], model.coef[0], a, delta)
    backward(model, X, a.dtype.type(1), out, parts)


@njit
def _gradient_of_block(model, X, a, deltas, grad):
    """BP3 and BP4 of all layers."""
    for k in range(model.layers.shape[0]):
        layer = layer_at(model, k)
        delta, a_prev = activation(deltas, layer, X.shape[0]), _below(model, X, a, k)
        dW, db = weight(grad, layer), bias(grad, layer)
        accumulate_gradient(delta, a_prev, a.dtype.type(1), dW, db, model.threads)


@njit
def _sample_gradients(model, X, a, deltas, out, first, step):
    """BP3 and BP4 of each sample by itself, into rows ``first + b * step`` of `out`."""
    for k in range(model.layers.shape[0]):
        layer = layer_at(model, k)
        delta, a_prev = activation(deltas, layer, X.shape[0]), _below(model, X, a, k)
        for b in range(X.shape[0]):
            grad = row(out, first + b * step)
            _outer(row(a_prev, b), row(delta, b), weight(grad, layer))
            copy(row(delta, b), bias(grad, layer))


@njit
def _output_deltas(model, X, o, parts, deltas):
    """The deltas of all layers, were output `o` the loss."""
    count, top, slope = X.shape[0], model.layers.shape[0] - 1, model.coef[0]
    last = layer_at(model, top)
    delta = activation(deltas, last, count)
    for b in range(count):
        for j in range(last[N_OUT]):
            delta[b, j] = 1 if j == o else 0
    times_derivative(last[ACTIVATION], slope, activation(parts.a, last, count), delta)
    _propagate_all(model, count, parts.a, deltas)


@njit
def _propagate_all(model, count, a, deltas):
    """BP2 from the top down, the deltas of all layers kept."""
    slope = model.coef[0]
    for k in range(model.layers.shape[0] - 1, 0, -1):
        layer, lower = layer_at(model, k), layer_at(model, k - 1)
        delta, delta_prev = activation(deltas, layer, count), activation(deltas, lower, count)
        W, x_prev, f = weight(model.theta, layer), source(a, lower, count), lower[ACTIVATION]
        u_prev, at_once = source(deltas, lower, count), f
        if of_z(f):
            at_once = np.int64(IDENTITY)
        propagate_delta(delta, W, x_prev, at_once, slope, u_prev, model.threads)
        if of_z(f):  # u is kept, since f' may be 0
            tangent_derivative(f, slope, x_prev, u_prev, delta_prev)


@njit
def _jacobian_row(model, X, o, parts, tangents, out):
    """``out[b * n_out + o] = d output o / d inputs`` of each sample, by a sweep back."""
    _output_deltas(model, X, o, parts, tangents.delta)
    count, n_out = X.shape[0], _n_out(model)
    bottom = layer_at(model, 0)
    delta, to_inputs = (
        activation(tangents.delta, bottom, count),
        matrix(parts.X, 0, count, bottom[N_IN]),
    )
    matmul_transposed(delta, weight(model.theta, bottom), to_inputs, whole(to_inputs))
    for b in range(count):
        copy(row(to_inputs, b), row(out, b * n_out + o))


@njit
def _jacobian_column(model, X, i, parts, tangents, out):
    """``out[b * n_out + o, i] = d output o / d input i`` of each sample, by a sweep forward."""
    count, slope = X.shape[0], model.coef[0]
    bottom = layer_at(model, 0)
    W, Ra = weight(model.theta, bottom), activation(tangents.Ra, bottom, count)
    for b in range(count):
        copy(row(W, i), row(Ra, b))
    times_derivative(bottom[ACTIVATION], slope, source(parts.a, bottom, count), Ra)
    for k in range(1, model.layers.shape[0]):
        layer = layer_at(model, k)
        Ra_prev, Ra = Ra, activation(tangents.Ra, layer, count)
        matmul(Ra_prev, weight(model.theta, layer), Ra)
        times_derivative(layer[ACTIVATION], slope, source(parts.a, layer, count), Ra)
    n_out = Ra.shape[1]
    for b in range(count):
        for o in range(n_out):
            out[b * n_out + o, i] = Ra[b, o]


@inlined
def _outer(x, d, c):
    """``c = outer(x, d)``."""
    for i in range(x.size):
        at = row(c, i)
        for j in range(0, d.size, lanes(d)):
            here = min(lanes(d), d.size - j)
            store_masked(at, j, x[i] * load_masked(d, j, here), here)
