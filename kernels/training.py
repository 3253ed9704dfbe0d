"""Optimizer updates, and the training loop over minibatches.

Code of the rule, its hyperparameters and its state travel together as a `Rule`.
"""

import math
from typing import NamedTuple

import numpy as np

from . import entry
from .compiler import inlined, njit
from .model import LARGEST_BLOCK, block_size, carve
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

SGD, ADAM = range(2)


class Rule(NamedTuple):
    """How theta moves along a gradient.

    code : SGD or ADAM.
    hyper : float64; SGD: lr, momentum, nesterov (0 or 1). ADAM: lr, beta1, beta2, eps.
    state : (slots, n_params) in theta's dtype, 0 at the start; SGD: velocity, if there is
        momentum. ADAM: first and second moment.
    count : (1,) int64, updates done so far.
    """

    code: int
    hyper: np.ndarray
    state: np.ndarray
    count: np.ndarray


@njit
def update(rule, theta, grad):
    """Move `theta`, in place, one step along `grad`; both (n_params,)."""
    _check(rule, theta)
    if grad.size != theta.size:
        raise ValueError("grad must have as many elements as theta")
    rule.count[0] += 1
    if rule.code == ADAM:
        _adam(rule, theta, grad)
    elif rule.state.shape[0] == 0:
        _sgd(rule.hyper[0], theta, grad)
    else:
        _momentum(rule, theta, grad)


@inlined
def _sgd(lr, theta, grad):
    """``theta -= lr * grad``."""
    rate = theta.dtype.type(lr)
    for i in range(theta.size):
        theta[i] -= rate * grad[i]


@njit
def _momentum(rule, theta, grad):
    """``v = mu * v + grad; theta -= lr * v``, and Nesterov's ``lr * (grad + mu * v)``.

    Sutskever et al. (2013), in the form in which lr scales the whole step.
    """
    number = theta.dtype.type
    rate, mu, v = number(rule.hyper[0]), number(rule.hyper[1]), rule.state[0]
    ahead = number(rule.hyper[1] if rule.hyper[2] != 0.0 else 1.0)
    now = number(1.0 if rule.hyper[2] != 0.0 else 0.0)
    for i in range(theta.size):
        v[i] = mu * v[i] + grad[i]
        theta[i] -= rate * (now * grad[i] + ahead * v[i])


@njit
def _adam(rule, theta, grad):
    """Adam with bias correction: Kingma & Ba (2015), algorithm 1."""
    number = theta.dtype.type
    lr, beta1, beta2, eps = rule.hyper[0], rule.hyper[1], rule.hyper[2], number(rule.hyper[3])
    rate = number(lr / (1.0 - beta1 ** rule.count[0]))
    unbias = number(1.0 / math.sqrt(1.0 - beta2 ** rule.count[0]))
    keep1, new1 = number(beta1), number(1.0 - beta1)
    keep2, new2 = number(beta2), number(1.0 - beta2)
    m, v = rule.state[0], rule.state[1]
    for i in range(theta.size):
        m[i] = keep1 * m[i] + new1 * grad[i]
        v[i] = keep2 * v[i] + new2 * (grad[i] * grad[i])
        theta[i] -= rate * m[i] / (math.sqrt(v[i]) * unbias + eps)


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
    _sgd(lr, model.theta, grad)
    return value


@njit
def adam_step(model, X, Y, rule, grad, work, weights=None):
    """One step of a `Rule` such as ``dj.Adam(1e-3).rule(net.n_params, net.dtype)`` on a batch.

    Returns the loss before; `grad` (n_params,) is scratch.
    """
    model = borrow_all(model)
    x, y, memory = enter(model, X, Y, weights, work, 1)
    gradient = entry.gradient(model, grad)
    _check(rule, model.theta)
    value = gradient_of(model, x, y, weights, gradient, memory)
    update(rule, model.theta, gradient)
    return value


@inlined
def _check(rule, theta):
    """A rule's state must be of theta's size."""
    slots = rule.state.shape[0]
    if (slots > 0 and rule.state.shape[1] != theta.size) or (rule.code == ADAM and slots < 2):
        raise ValueError("rule was made for another network: optimizer.rule(n_params, dtype)")


@inlined
def fuses(model, batch):
    """May a step of plain descent go straight into theta? Only if nobody reads theta after it."""
    return batch <= LARGEST_BLOCK and model.coef[1] == 0


@njit
def fit_epoch(model, X, Y, order, batch_size, rule, grad, work, weights=None):
    """Train on the samples that `order` (int64) lists, `batch_size` of them a step.

    theta and the rule's state are updated in place; `grad` (n_params,) and `work`, for
    `batch_size` samples, are scratch. Returns the sum over minibatches of weight times loss, each
    loss taken before its step, and the sum of weights. A loss that is not finite ends it: that is
    then the sum, and the step is not counted by the rule.
    """
    model = borrow_all(model)
    x, y = _enter(model, X, Y, weights, batch_size)
    memory = entry.scratch(model, work, batch_size, 1)
    gradient = entry.gradient(model, grad)
    _check(rule, model.theta)
    _check_order(order, x.shape[0])
    return epoch_of(model, x, y, weights, order, batch_size, rule, gradient, memory)


@inlined
def epoch_of(model, X, Y, weights, order, batch_size, rule, grad, work):
    """`fit_epoch` of arguments that are checked."""
    m = block_size(batch_size)
    parts = carve(model.layers, work, m)
    plain = rule.code == SGD and rule.state.shape[0] == 0 and fuses(model, batch_size)
    loss_total, mass_total = 0.0, 0.0
    for first in range(0, order.size, batch_size):
        batch = vector(order, first, min(batch_size, order.size - first))
        mass = _mass(weights, batch)
        if mass == 0.0:
            continue
        if plain:
            block = _gather(X, Y, weights, batch, parts)
            total = block_gradient(model, block, mass, -rule.hyper[0], model.theta, parts)
            rule.count[0] += math.isfinite(total)
        else:
            total = mass * penalty(model)
            start_gradient(model, model.theta, grad)
            for start in range(0, batch.size, m):
                indices = vector(batch, start, min(m, batch.size - start))
                block = _gather(X, Y, weights, indices, parts)
                total += block_gradient(model, block, mass, 1.0, grad, parts)
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
    if batch_size < 1:
        raise ValueError("batch_size must be at least 1")
    return x, entry.targets(model, Y, x.shape[0])


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
