"""The sweeps over all layers: forward, backward, and what is made of them.

Public kernels take (model, what is read, what is written, work). A batch is cut into blocks of
samples; a block goes through all layers while it is in cache. The caller owns every buffer:
`work` holds at least ``workspace_size(model.layers, batch)`` floats of theta's dtype. X (B, n_in)
and Y are C-contiguous and of theta's dtype; `weights` (B,) are sample weights, or None. What one
sample may look like, and what is raised for wrong arrays, is said in `entry`.
"""

from typing import Any, NamedTuple

import numpy as np

from . import entry
from .activations import IDENTITY, activate, of_z, times_derivative
from .compiler import inlined, njit
from .dropout import drop, next_block, undrop
from .layers import (
    accumulate_gradient,
    linear_activation_forward,
    propagate_delta,
)
from .losses import loss_sum, output_delta
from .model import (
    ACTIVATION,
    N_IN,
    N_OUT,
    activation,
    bias,
    block_size,
    carve,
    layer_at,
    source,
    weight,
)
from .sample import backward_sample, forward_sample
from .vectors import (
    absolute,
    accumulate,
    broadcast,
    fma,
    lanes,
    load_masked,
    reduce_add,
    select,
    store_masked,
)
from .views import borrow_all, copy, fill, flat, matrix, row, rows, vector


class Block(NamedTuple):
    """Samples that go through the layers together: X, Y and weights (or None) of each."""

    X: Any
    Y: Any
    weights: Any


@njit
def predict(model, X, out, work):
    """``out = predict(X)``; X (B, n_in), out (B, n_out)."""
    model = borrow_all(model)
    x, y, memory = enter_predict(model, X, out, work)
    predict_of(model, x, y, memory)


@inlined
def predict_of(model, X, out, work):
    """`predict` of arguments that are checked."""
    batch = X.shape[0]
    m = block_size(batch)
    parts = carve(model.layers, work, m)
    if batch == 1:
        z = vector(parts.z, 0, out.shape[1])
        forward_sample(model, row(X, 0), parts.a, z, row(out, 0))
    else:
        for first in range(0, batch, m):
            count = min(m, batch - first)
            _, a = forward(model, rows(X, first, count), parts)
            copy(a, rows(out, first, count))


@njit
def loss(model, X, Y, work, weights=None):
    """Weighted mean over samples of the loss, plus ``l2/2 * sum(W**2)``."""
    model = borrow_all(model)
    x, y, memory = enter(model, X, Y, weights, work, 1)
    return loss_of(model, x, y, weights, memory)


@inlined
def loss_of(model, X, Y, weights, work):
    """`loss` of arguments that are checked."""
    batch = X.shape[0]
    m = block_size(batch)
    parts = carve(model.layers, work, m)
    total = 0.0
    for first in range(0, batch, m):
        block = cut(X, Y, weights, first, min(m, batch - first))
        z, a = forward(model, block.X, parts)
        total += loss_sum(model.loss, model.coef[3], z, a, block.Y, block.weights, parts.spare)
    return total / weight_sum(weights, batch) + penalty(model)


@njit
def value_and_grad(model, X, Y, grad, work, weights=None):
    """The loss; its gradient with respect to theta overwrites `grad` (n_params,)."""
    model = borrow_all(model)
    x, y, memory = enter(model, X, Y, weights, work, 1)
    return gradient_of(model, x, y, weights, entry.gradient(model, grad), memory)


@inlined
def gradient_of(model, X, Y, weights, grad, work):
    """`value_and_grad` of arguments that are checked."""
    batch = X.shape[0]
    m = block_size(batch)
    parts = carve(model.layers, work, m)
    mass = weight_sum(weights, batch)
    total = 0.0
    start_gradient(model, grad)
    for first in range(0, batch, m):
        block = cut(X, Y, weights, first, min(m, batch - first))
        total += block_gradient(model, block, mass, 1.0, grad, parts)
    return total / mass + penalty(model)


@inlined
def forward(model, X, parts, dropout=None):
    """Activations of every layer for one block of samples, into `parts`.

    Returns views of the output layer's logits z and activations a (B, n_out).
    """
    slope, count, depth = model.coef[0], X.shape[0], model.layers.shape[0]
    last = layer_at(model, depth - 1)
    z, out = matrix(parts.z, 0, count, last[N_OUT]), activation(parts.a, last, count)
    if dropout is None and count == 1:
        forward_sample(model, row(X, 0), parts.a, row(z, 0), row(out, 0))
        return z, out
    a_prev = rows(X, 0, count)
    for k in range(depth):
        layer = layer_at(model, k)
        W, b = weight(model.theta, layer), bias(model.theta, layer)
        a, kept, f = (
            activation(parts.a, layer, count),
            source(parts.a, layer, count),
            layer[ACTIVATION],
        )
        at_once = f
        if k == depth - 1:  # the loss is computed from z
            kept, at_once = z, np.int64(IDENTITY)
        elif of_z(f):
            at_once = np.int64(IDENTITY)
        linear_activation_forward(a_prev, W, b, at_once, slope, kept, model.threads)
        if at_once != f or k == depth - 1:
            activate(f, slope, kept, a)
        if dropout is not None and k < depth - 1:
            drop(dropout, k, a)
        a_prev = a
    return z, out


@inlined
def backward(model, X, scale, grad, parts, dropout=None):
    """Add to `grad` `scale` times what one block of samples contributes.

    `parts` holds the activations that `forward` left there, and delta of the output layer. `grad`
    may be theta itself: each W is read before it is written.
    """
    count = X.shape[0]
    if dropout is None and count == 1:
        backward_sample(model, row(X, 0), scale, grad, parts.a, parts.delta, parts.delta_prev)
        return
    here, below = parts.delta, parts.delta_prev
    for k in range(model.layers.shape[0] - 1, -1, -1):
        layer = layer_at(model, k)
        delta = matrix(here, 0, count, layer[N_OUT])
        a_prev = rows(X, 0, count)
        if k > 0:
            lower = layer_at(model, k - 1)
            a_prev, x_prev = activation(parts.a, lower, count), source(parts.a, lower, count)
            delta_prev = matrix(below, 0, count, layer[N_IN])
            W, slope, f = weight(model.theta, layer), model.coef[0], lower[ACTIVATION]
            if dropout is not None:
                f = np.int64(IDENTITY)
            propagate_delta(delta, W, x_prev, f, slope, delta_prev, model.threads)
        dW, db = weight(grad, layer), bias(grad, layer)
        accumulate_gradient(delta, a_prev, scale, dW, db, model.threads)
        if dropout is not None and k > 0:  # now a_prev may be what it was before
            undrop(dropout, k - 1, a_prev, delta_prev)
            times_derivative(lower[ACTIVATION], slope, x_prev, delta_prev)
        here, below = below, here


@njit
def block_gradient(model, block, mass, scale, grad, parts, dropout=None):
    """Forward, BP1 and backward: ``grad += scale * gradient`` of one block's part of the mean.

    `mass` is the weight of all blocks. Returns the block's ``sum(weight * loss)``.
    """
    z, a = forward(model, block.X, parts, dropout)
    loss, bend, Y, w, spare = model.loss, model.coef[3], block.Y, block.weights, parts.spare
    value = loss_sum(loss, bend, z, a, Y, w, spare)
    delta = matrix(parts.delta, 0, a.shape[0], a.shape[1])
    output = layer_at(model, model.layers.shape[0] - 1)[ACTIVATION]
    slope = model.coef[0]
    output_delta(loss, bend, output, slope, a, Y, w, 1.0 / mass, delta, spare)
    backward(model, block.X, a.dtype.type(scale), grad, parts, dropout)
    if dropout is not None:
        next_block(dropout)
    return value


@inlined
def start_gradient(model, grad):
    """Where the gradient's sum begins: the penalty's, ``l2 * W + l1 * sign(W)``, 0 for biases."""
    fill(grad, 0)
    if model.coef[1] != 0 or model.coef[2] != 0:
        _penalty_gradient(model, model.theta, model.coef[2], grad)


@inlined
def start_product(model, v, out):
    """Where a product of v with second derivatives begins: ``l2 * V``."""
    fill(out, 0)
    if model.coef[1] != 0:
        _penalty_gradient(model, v, model.theta.dtype.type(0), out)


@njit
def _penalty_gradient(model, theta, l1, grad):
    """``dW = l2 * W + l1 * sign(W)``."""
    l2 = model.coef[1]
    for k in range(model.layers.shape[0]):
        layer = layer_at(model, k)
        W, dW = flat(weight(theta, layer)), flat(weight(grad, layer))
        for i in range(0, W.size, lanes(W)):
            x = load_masked(W, i, W.size - i)
            up = select(x > broadcast(0, x), broadcast(l1, x), broadcast(0, x))
            down = select(x < broadcast(0, x), broadcast(l1, x), broadcast(0, x))
            store_masked(dW, i, fma(broadcast(l2, x), x, up - down), W.size - i)


@inlined
def penalty(model):
    """``l2/2 * sum(W**2) + l1 * sum(|W|)`` over weights, not biases."""
    value = 0.0
    if model.coef[1] != 0 or model.coef[2] != 0:
        value = _penalty(model)
    return value


@njit
def _penalty(model):
    """Its sum over all layers, in float64."""
    squares = sizes = broadcast(0.0, 0.0)
    for k in range(model.layers.shape[0]):
        W = flat(weight(model.theta, layer_at(model, k)))
        for i in range(0, W.size, lanes(W)):
            x = load_masked(W, i, W.size - i)
            squares, sizes = accumulate(squares, x * x), accumulate(sizes, absolute(x))
    return 0.5 * model.coef[1] * reduce_add(squares) + model.coef[2] * reduce_add(sizes)


@inlined
def weight_sum(weights, batch):
    """Sum of the sample weights; `batch` where there are none."""
    if weights is None:
        return float(batch)
    total = 0.0
    for b in range(batch):
        total += weights[b]
    return total


@inlined
def enter(model, X, Y, weights, work, order):
    """(X, Y, work) as views, once all are checked."""
    x = entry.samples(model, X)
    batch = x.shape[0]
    entry.check_weights(model, weights, batch)
    return x, entry.targets(model, Y, batch), entry.scratch(model, work, batch, order)


@inlined
def enter_predict(model, X, out, work):
    """(X, out, work) as views, once all are checked."""
    x = entry.samples(model, X)
    batch, n_out = x.shape[0], model.layers[model.layers.shape[0] - 1, N_OUT]
    return x, entry.result(model, out, (batch, n_out)), entry.scratch(model, work, batch, 1)


@inlined
def cut(X, Y, weights, first, count):
    """The block of `count` samples from `first` on."""
    return Block(rows(X, first, count), rows(Y, first, count), part(weights, first, count))


@inlined
def part(weights, first, count):
    """Weights of a block of samples; None stays None."""
    if weights is None:
        return None
    return vector(weights, first, count)
