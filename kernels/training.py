"""Training: one step on a batch, and the loop over the minibatches of an epoch."""

import math

from . import entry
from .compiler import inlined, njit
from .model import LARGEST_BLOCK, MOST_SAMPLES, block_size, carve
from .rules import SGD, check_rule, descend, rate_of, update
from .sweeps import (
    Block,
    block_gradient,
    cut,
    enter,
    gradient_of,
    penalty,
    start_gradient,
    weight_sum,
)
from .views import borrow_all, copy, matrix, rows, vector


@njit
def sgd_step(model, X, Y, lr, grad, work, weights=None):
    """One step of gradient descent on a batch, ``theta -= lr * grad``; returns the loss before.

    `grad` (n_params,) is scratch, and is not used for a batch of one block without l2.
    """
    model = borrow_all(model)
    x, y, memory = enter(model, X, Y, weights, work, 1)
    gradient, batch = entry.gradient(model, grad), x.shape[0]
    if not fuses(model, batch):
        return _step_apart(model, x, y, weights, lr, gradient, memory)
    mass = weight_sum(weights, batch)
    parts, block = carve(model.layers, memory, batch), cut(x, y, weights, 0, batch)
    return block_gradient(model, block, mass, -lr, model.theta, parts) / mass


@njit
def _step_apart(model, X, Y, weights, lr, grad, work):
    """The gradient first, then the step."""
    value = gradient_of(model, X, Y, weights, grad, work)
    descend(lr, model.theta, grad)
    return value


@njit
def adam_step(model, X, Y, rule, grad, work, weights=None):
    """One step of a `Rule` such as ``dj.Adam(1e-3).rule(net.n_params, net.dtype)`` on a batch.

    Returns the loss before; `grad` (n_params,) is scratch.
    """
    model = borrow_all(model)
    x, y, memory = enter(model, X, Y, weights, work, 1)
    gradient = entry.gradient(model, grad)
    check_rule(rule, model.theta)
    value = gradient_of(model, x, y, weights, gradient, memory)
    update(rule, model.theta, gradient)
    return value


@inlined
def fuses(model, batch):
    """May a step of plain descent go straight into theta? Only if nobody reads theta after it."""
    return batch <= LARGEST_BLOCK and model.coef[1] == 0 and model.coef[2] == 0


@njit
def fit_epoch(model, X, Y, order, batch_size, rule, grad, work, weights=None, dropout=None):
    """Train on the samples that `order` (int64) lists, `batch_size` of them a step.

    theta and the rule's state are updated in place; `grad` (n_params,) and `work`, for
    `batch_size` samples, are scratch. Returns the sum over minibatches of weight times loss, each
    loss taken before its step, and the sum of weights. A loss that is not finite ends it: that is
    then the sum, and the step is not counted by the rule. dropout : a `Dropout`, or None.
    """
    model = borrow_all(model)
    x, y = _enter(model, X, Y, weights, batch_size)
    memory = entry.scratch(model, work, batch_size, 1)
    gradient = entry.gradient(model, grad)
    check_rule(rule, model.theta)
    _check_order(order, x.shape[0])
    _check_dropout(model, dropout)
    return epoch_of(model, x, y, weights, order, batch_size, rule, gradient, memory, dropout)


@inlined
def epoch_of(model, X, Y, weights, order, batch_size, rule, grad, work, dropout=None):
    """`fit_epoch` of arguments that are checked."""
    m = block_size(batch_size)
    parts = carve(model.layers, work, m)
    plain = rule.code == SGD and rule.hyper[0] == 0.0 and rule.clip == 0.0
    plain = plain and fuses(model, batch_size)
    if dropout is not None:
        plain = False
    loss_total, mass_total = 0.0, 0.0
    for first in range(0, order.size, batch_size):
        batch = vector(order, first, min(batch_size, order.size - first))
        mass = _mass(weights, batch)
        if mass == 0.0:
            continue
        if plain:
            block = _gather(X, Y, weights, batch, parts)
            total = block_gradient(model, block, mass, -rate_of(rule), model.theta, parts)
            rule.count[0] += math.isfinite(total)
        else:
            total = mass * penalty(model)
            start_gradient(model, grad)
            for start in range(0, batch.size, m):
                indices = vector(batch, start, min(m, batch.size - start))
                block = _gather(X, Y, weights, indices, parts)
                total += block_gradient(model, block, mass, 1.0, grad, parts, dropout)
            if math.isfinite(total):
                update(rule, model.theta, grad)
        loss_total += total
        mass_total += mass
        if not math.isfinite(total):
            break
    return loss_total, mass_total


@inlined
def _mass(weights, batch):
    """Sum of the weights of the samples listed in `batch`."""
    if weights is None:
        return float(batch.size)
    total = 0.0
    for i in range(batch.size):
        total += weights[batch[i]]
    return total


@inlined
def _enter(model, X, Y, weights, batch_size):
    """As `enter`, but the scratch memory is for `batch_size` samples."""
    x = entry.samples(model, X)
    entry.check_weights(model, weights, x.shape[0])
    if not 1 <= batch_size <= MOST_SAMPLES:
        raise ValueError("batch_size must be at least 1, and at most 2**62")
    return x, entry.targets(model, Y, x.shape[0])


@inlined
def _check_dropout(model, dropout):
    """There must be a share for each hidden layer."""
    if dropout is not None and (
        dropout.keep.size != model.layers.shape[0] - 1 or dropout.seed.size != 1
    ):
        raise ValueError("dropout must have a share for each hidden layer, and one seed")


@inlined
def _check_order(order, count):
    """Every index that `order` lists must be one of a sample."""
    for i in range(order.size):
        if order[i] < 0 or order[i] >= count:
            raise ValueError("order must list samples: 0 <= order[i] < len(X)")


@inlined
def _gather(X, Y, weights, indices, parts):
    """The samples that `indices` lists, side by side: copied, unless they already are."""
    count = indices.size
    block_weights = _gather_weights(weights, indices, parts.w)
    if _consecutive(indices):
        return Block(rows(X, indices[0], count), rows(Y, indices[0], count), block_weights)
    X_block = matrix(parts.X, 0, count, X.shape[1])
    Y_block = matrix(parts.Y, 0, count, Y.shape[1])
    for i in range(count):
        copy(rows(X, indices[i], 1), rows(X_block, i, 1))
        copy(rows(Y, indices[i], 1), rows(Y_block, i, 1))
    return Block(X_block, Y_block, block_weights)


@inlined
def _consecutive(indices):
    """Whether each index is one more than the one before."""
    i = 1
    while i < indices.size and indices[i] == indices[i - 1] + 1:
        i += 1
    return i >= indices.size


@inlined
def _gather_weights(weights, indices, buffer):
    """``weights[indices]``, written into `buffer`; None stays None."""
    if weights is None:
        return None
    out = vector(buffer, 0, indices.size)
    for i in range(indices.size):
        out[i] = weights[indices[i]]
    return out
