"""Optimizers: how theta moves along a gradient, one update at a time, in place.

An optimizer's code, its numbers and its state travel together as a `Rule`. Each update is a loop
over theta's elements; g is the gradient's, t counts updates from 1, lr is the rate of this one.
"""

import math
from typing import NamedTuple

import numpy as np

from .compiler import inlined, njit

SGD, ADAM, RMSPROP, ADAGRAD, RPROP, LION = range(6)


class Rule(NamedTuple):
    """How theta moves along a gradient.

    code : SGD, ADAM, ...
    hyper : float64, what the update below of that name unpacks.
    rates : float64, the learning rate of each update; the last one is that of all that follow.
    clip : a longer gradient is shortened to this (Euclidean) length; 0: none is.
    state : (slots, n_params) in theta's dtype, what the update remembers.
    count : (1,) int64, updates done so far.
    """

    code: int
    hyper: np.ndarray
    rates: np.ndarray
    clip: float
    state: np.ndarray
    count: np.ndarray


@inlined
def rate_of(rule):
    """The learning rate of the next update."""
    return rule.rates[min(rule.count[0], rule.rates.size - 1)]


@inlined
def check_rule(rule, theta):
    """A rule's state must be of theta's size."""
    if rule.state.shape[0] < slots_of(rule) or rule.state.shape[1] != theta.size:
        raise ValueError("rule was made for another network: optimizer.rule(n_params, dtype)")
    if rule.rates.size < 1:
        raise ValueError("rule must have a rate: optimizer.rule(n_params, dtype)")


@inlined
def slots_of(rule):
    """Vectors like theta that a rule remembers."""
    if rule.code == SGD:
        return int(rule.hyper[0] != 0.0)
    if rule.code == RMSPROP:
        return 1 + int(rule.hyper[2] != 0.0)
    if rule.code in (ADAGRAD, LION):
        return 1
    return 2


@njit
def update(rule, theta, grad):
    """Move `theta`, in place, one step along `grad`; both (n_params,).

    If the rule clips, `grad` is shortened in place.
    """
    check_rule(rule, theta)
    if grad.size != theta.size:
        raise ValueError("grad must have as many elements as theta")
    lr = rate_of(rule)
    rule.count[0] += 1
    if rule.clip > 0.0:
        _clip(rule.clip, grad)
    if rule.code == ADAM:
        _adam(rule, lr, theta, grad)
    elif rule.code == RMSPROP:
        _rmsprop(rule, lr, theta, grad)
    elif rule.code == ADAGRAD:
        _adagrad(rule, lr, theta, grad)
    elif rule.code == RPROP:
        _rprop(rule, lr, theta, grad)
    elif rule.code == LION:
        _lion(rule, lr, theta, grad)
    elif rule.hyper[0] == 0.0:
        descend(lr, theta, grad)
    else:
        _momentum(rule, lr, theta, grad)


@njit
def _clip(most, grad):
    """``grad *= min(1, most / ||grad||)`` (Pascanu et al. 2013)."""
    total = 0.0
    for i in range(grad.size):
        total += np.float64(grad[i]) ** 2
    if total > most * most:  # not for NaN, which the loss will show
        scale = grad.dtype.type(most / math.sqrt(total))
        for i in range(grad.size):
            grad[i] *= scale


@inlined
def descend(lr, theta, grad):
    """``theta -= lr * g``."""
    rate = theta.dtype.type(lr)
    for i in range(theta.size):
        theta[i] -= rate * grad[i]


@njit
def _momentum(rule, lr, theta, grad):
    """``v = mu * v + g; theta -= lr * v``, and Nesterov's ``lr * (g + mu * v)``.

    Sutskever et al. (2013), in the form in which lr scales the whole step.
    """
    number = theta.dtype.type
    rate, mu, v = number(lr), number(rule.hyper[0]), rule.state[0]
    ahead = number(rule.hyper[0] if rule.hyper[1] != 0.0 else 1.0)
    now = number(1.0 if rule.hyper[1] != 0.0 else 0.0)
    for i in range(theta.size):
        v[i] = mu * v[i] + grad[i]
        theta[i] -= rate * (now * grad[i] + ahead * v[i])


@njit
def _adam(rule, lr, theta, grad):
    """Adam with bias correction: Kingma & Ba (2015), algorithm 1.

    AdamW shrinks theta by ``1 - lr * decay`` first (Loshchilov & Hutter 2019, algorithm 2).
    """
    number = theta.dtype.type
    beta1, beta2, eps = rule.hyper[0], rule.hyper[1], number(rule.hyper[2])
    keep = number(1.0 - lr * rule.hyper[3])
    rate = number(lr / (1.0 - beta1 ** rule.count[0]))
    unbias = number(1.0 / math.sqrt(1.0 - beta2 ** rule.count[0]))
    keep1, new1 = number(beta1), number(1.0 - beta1)
    keep2, new2 = number(beta2), number(1.0 - beta2)
    m, v = rule.state[0], rule.state[1]
    for i in range(theta.size):
        m[i] = keep1 * m[i] + new1 * grad[i]
        v[i] = keep2 * v[i] + new2 * (grad[i] * grad[i])
        theta[i] = keep * theta[i] - rate * m[i] / (math.sqrt(v[i]) * unbias + eps)


@njit
def _rmsprop(rule, lr, theta, grad):
    """``v = alpha * v + (1 - alpha) * g**2; theta -= lr * g / (sqrt(v) + eps)``.

    Tieleman & Hinton (2012); with momentum its sum of steps, ``b = mu * b + g / (sqrt(v) + eps)``.
    """
    number = theta.dtype.type
    rate, keep, new = number(lr), number(rule.hyper[0]), number(1.0 - rule.hyper[0])
    eps, mu, v = number(rule.hyper[1]), number(rule.hyper[2]), rule.state[0]
    for i in range(theta.size):
        v[i] = keep * v[i] + new * (grad[i] * grad[i])
        step = grad[i] / (math.sqrt(v[i]) + eps)
        if mu != 0:
            rule.state[1, i] = step = mu * rule.state[1, i] + step
        theta[i] -= rate * step


@njit
def _adagrad(rule, lr, theta, grad):
    """``s += g**2; theta -= lr * g / (sqrt(s) + eps)``: Duchi et al. (2011)."""
    number = theta.dtype.type
    rate, eps, s = number(lr), number(rule.hyper[0]), rule.state[0]
    for i in range(theta.size):
        s[i] += grad[i] * grad[i]
        theta[i] -= rate * grad[i] / (math.sqrt(s[i]) + eps)


@njit
def _rprop(rule, lr, theta, grad):
    """Steps of their own for all parameters, which grow until the gradient changes its sign.

    iRprop-, Igel & Huesken (2000): after a change of sign the next gradient counts as 0. `lr` is
    the size of the first step.
    """
    number = theta.dtype.type
    smaller, larger = number(rule.hyper[0]), number(rule.hyper[1])
    least, most = number(rule.hyper[2]), number(rule.hyper[3])
    before, step = rule.state[0], rule.state[1]
    zero = number(0)
    for i in range(theta.size):
        g, size = grad[i], step[i]
        if rule.count[0] == 1:
            size = number(lr)
        turn = g * before[i]
        if turn > zero:
            size = min(size * larger, most)
        elif turn < zero:
            size, g = max(size * smaller, least), zero
        step[i], before[i] = size, g
        if g > zero:
            theta[i] -= size
        elif g < zero:
            theta[i] += size


@njit
def _lion(rule, lr, theta, grad):
    """``theta -= lr * (sign(beta1 * m + (1 - beta1) * g) + decay * theta)``, then m moves by beta2.

    Chen et al. (2023), algorithm 2.
    """
    number = theta.dtype.type
    keep, rate, m = number(1.0 - lr * rule.hyper[2]), number(lr), rule.state[0]
    keep1, new1 = number(rule.hyper[0]), number(1.0 - rule.hyper[0])
    keep2, new2 = number(rule.hyper[1]), number(1.0 - rule.hyper[1])
    for i in range(theta.size):
        direction = np.sign(keep1 * m[i] + new1 * grad[i])
        theta[i] = keep * theta[i] - rate * direction
        m[i] = keep2 * m[i] + new2 * grad[i]
