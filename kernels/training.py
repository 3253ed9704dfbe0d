"""Optimizer updates, and the training loop over minibatches.

Code of the rule, its hyperparameters and its state travel together as a `Rule`.
"""

import math
from typing import NamedTuple

import numpy as np

from .compiler import njit
from .losses import sample_weight
from .model import block_size, carve
from .sweeps import block_gradient, penalty, start_gradient, transpose_weights, value_and_grad
from .views import matrix, vector

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
    """Move `theta`, in place, one step along `grad`."""
    rule.count[0] += 1
    if rule.code == ADAM:
        _adam(rule, theta, grad)
    elif rule.state.shape[0] == 0:
        _sgd(rule.hyper[0], theta, grad)
    else:
        _momentum(rule, theta, grad)


@njit
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
    """One step of gradient descent on a batch, ``theta -= lr * grad``; returns the loss before."""
    value = value_and_grad(model, X, Y, grad, work, weights)
    _sgd(lr, model.theta, grad)
    return value


@njit
def fit_epoch(model, X, Y, order, batch_size, rule, grad, work, weights=None):
    """Train on the samples that `order` (int64) lists, `batch_size` of them a step.

    theta and the rule's state are updated in place; `grad` (n_params,) and `work`, for
    `batch_size` samples, are scratch. Returns the sum over minibatches of weight times loss, each
    loss taken before its step, and the sum of weights.
    """
    m = block_size(model.layers, batch_size)
    parts = carve(model.layers, work, m)
    loss_total, weight_total = 0.0, 0.0
    for first in range(0, order.size, batch_size):
        batch = vector(order, first, min(batch_size, order.size - first))
        value, weight = _minibatch_gradient(model, X, Y, weights, batch, m, grad, parts)
        if weight > 0.0:
            update(rule, model.theta, grad)
            loss_total += weight * value
            weight_total += weight
    return loss_total, weight_total


@njit
def _minibatch_gradient(model, X, Y, weights, batch, m, grad, parts):
    """Gradient over the samples listed in `batch`, into `grad`; returns loss and weight."""
    weight = 0.0
    for i in batch:
        weight += sample_weight(weights, i)
    if weight == 0.0:
        return 0.0, 0.0
    transpose_weights(model, parts.W_T)
    start_gradient(model, grad)
    total = 0.0
    for first in range(0, batch.size, m):
        block = vector(batch, first, min(m, batch.size - first))
        X_block, Y_block = _gather(X, block, parts.X), _gather(Y, block, parts.Y)
        w_block = _gather_weights(weights, block, parts.w)
        total += block_gradient(model, X_block, Y_block, w_block, 1.0 / weight, grad, parts)
    return total / weight + penalty(model), weight


@njit
def _gather(X, indices, buffer):
    """``X[indices]``, written into the flat `buffer`."""
    out = matrix(buffer, 0, indices.size, X.shape[1])
    for i in range(indices.size):
        for j in range(X.shape[1]):
            out[i, j] = X[indices[i], j]
    return out


@njit
def _gather_weights(weights, indices, buffer):
    """``weights[indices]``, written into the flat `buffer`; None stays None."""
    if weights is None:
        return None
    out = vector(buffer, 0, indices.size)
    for i in range(indices.size):
        out[i] = weights[indices[i]]
    return out
