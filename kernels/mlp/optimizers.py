"""Optimizers: how theta moves along a gradient, one update at a time, in place.

What an optimizer does, its numbers and its state travel together as a `Rule`. Each update is a
kernel with a loop over theta's elements; g is the gradient's, t counts updates from 1, lr is the
rate of this one. `deltajit.optimizers` says what the numbers are called, and checks them.
"""

import math
from typing import NamedTuple

import numpy as np

from ..abi import Double, Doubles, Matrix, Vector, Word, Words, written
from ..compiler import inlined, kernel, name_of, njit, prototype, slot_named
from ..status import BAD_GRAD, BAD_RULE, NO_RATE, OK, STALE, VERSION, refuse


class Rule(NamedTuple):
    """How theta moves along a gradient.

    kernel : slot of one of the updates below; 0 for ``theta -= lr * g``.
    slots : how many vectors like theta it remembers.
    hyper : float64, what that update unpacks.
    rates : float64, the learning rate of each update; the last one is that of all that follow.
    clip : a longer gradient is shortened to this (Euclidean) length; 0: none is.
    state : (slots, n_params) in theta's dtype, what the update remembers.
    count : (1,) int64, updates done so far.
    """

    kernel: Word
    slots: Word
    hyper: Doubles
    rates: Doubles
    clip: Double
    state: written(Matrix)
    count: written(Words)

    def __reduce__(self):
        """Pickle the update by its name: in another process it is elsewhere."""
        name = name_of(self.kernel)
        if name == "":
            raise TypeError(
                "a rule with an update of one's own holds an address of this process, so it can't "
                "be pickled or copied: pickle the optimizer, and take its rule"
            )
        return _restored, (name, *self[1:])


def _restored(name, *others):
    """The rule that was pickled, with the kernel of this process."""
    return Rule(slot_named(name), *others)


@prototype
def move(rule: Rule, lr: Double, theta: Vector, grad: Vector):
    """Move `theta` one step along `grad`; `rule.count` is this step's already."""


@njit
def update(rule, theta, grad):
    """Move `theta`, in place, one step along `grad`; both (n_params,).

    If the rule clips, `grad` is shortened in place.
    """
    refuse(_update(VERSION, rule, theta, grad))


@kernel
def _update(version: Word, rule: Rule, theta: written(Vector), grad: written(Vector)) -> Word:
    status = OK
    if version != VERSION:
        status = STALE
    elif grad.size != theta.size:
        status = BAD_GRAD
    else:
        status = check_rule(rule, theta)
    if status == OK:
        step(rule, theta, grad)
    return status


@inlined
def check_rule(rule, theta):
    """A rule's state must be of theta's size, and count one number."""
    status, (slots, size) = OK, rule.state.shape
    if rule.count.size != 1 or slots < rule.slots or size != theta.size:
        status = BAD_RULE
    elif rule.rates.size < 1:
        status = NO_RATE
    return status


@inlined
def rate_of(rule):
    """The learning rate of the next update."""
    return rule.rates[min(rule.count[0], rule.rates.size - 1)]


@inlined
def is_descent(rule):
    """Whether a step is ``theta -= lr * g``, but for clipping."""
    return rule.kernel == 0


@inlined
def step(rule, theta, grad):
    """`update` of arguments that are checked."""
    lr = rate_of(rule)
    rule.count[0] += 1
    if rule.clip > 0.0:
        _clip(rule.clip, grad)
    if is_descent(rule):
        along(lr, theta, grad)
    else:
        move(rule.kernel, rule, lr, theta, grad)


@kernel
def _clip(most: Double, grad: Vector):
    """``grad *= min(1, most / ||grad||)`` (Pascanu et al. 2013)."""
    total = 0.0
    for i in range(grad.size):
        total += np.float64(grad[i]) ** 2
    if total > most * most:  # not for NaN, which the loss will show
        scale = grad.dtype.type(most / math.sqrt(total))
        for i in range(grad.size):
            grad[i] *= scale


@inlined
def along(lr, theta, grad):
    """``theta -= lr * g``."""
    rate = theta.dtype.type(lr)
    for i in range(theta.size):
        theta[i] -= rate * grad[i]


@kernel
def momentum(rule: Rule, lr: Double, theta: Vector, grad: Vector):
    """``v = mu * v + g; theta -= lr * v``, and Nesterov's ``lr * (g + mu * v)``.

    Sutskever et al. (2013), in the form in which lr scales the whole step.
    """
    number, v = theta.dtype.type, rule.state[0]
    mu, nesterov = rule.hyper[0], rule.hyper[1]
    rate, keep = number(lr), number(mu)
    ahead, now = number(1.0), number(0.0)
    if nesterov != 0.0:
        ahead, now = keep, number(1.0)
    for i in range(theta.size):
        v[i] = keep * v[i] + grad[i]
        theta[i] -= rate * (now * grad[i] + ahead * v[i])


@kernel
def adam(rule: Rule, lr: Double, theta: Vector, grad: Vector):
    """Adam with bias correction: Kingma & Ba (2015), algorithm 1.

    AdamW shrinks theta by ``1 - lr * decay`` first (Loshchilov & Hutter 2019, algorithm 2).
    """
    number = theta.dtype.type
    beta1, beta2, eps, decay = rule.hyper[0], rule.hyper[1], rule.hyper[2], rule.hyper[3]
    keep, small = number(1.0 - lr * decay), number(eps)
    rate = number(lr / (1.0 - beta1 ** rule.count[0]))
    unbias = number(1.0 / math.sqrt(1.0 - beta2 ** rule.count[0]))
    keep1, new1 = number(beta1), number(1.0 - beta1)
    keep2, new2 = number(beta2), number(1.0 - beta2)
    m, v = rule.state[0], rule.state[1]
    for i in range(theta.size):
        m[i] = keep1 * m[i] + new1 * grad[i]
        v[i] = keep2 * v[i] + new2 * (grad[i] * grad[i])
        theta[i] = keep * theta[i] - rate * m[i] / (math.sqrt(v[i]) * unbias + small)


@kernel
def rmsprop(rule: Rule, lr: Double, theta: Vector, grad: Vector):
    """``v = alpha * v + (1 - alpha) * g**2; theta -= lr * g / (sqrt(v) + eps)``.

    Tieleman & Hinton (2012); with momentum its sum of steps, ``b = mu * b + g / (sqrt(v) + eps)``.
    """
    number = theta.dtype.type
    alpha, eps, momentum = rule.hyper[0], rule.hyper[1], rule.hyper[2]
    rate, keep, new = number(lr), number(alpha), number(1.0 - alpha)
    small, mu, v = number(eps), number(momentum), rule.state[0]
    for i in range(theta.size):
        v[i] = keep * v[i] + new * (grad[i] * grad[i])
        size = grad[i] / (math.sqrt(v[i]) + small)
        if mu != 0:
            rule.state[1, i] = size = mu * rule.state[1, i] + size
        theta[i] -= rate * size


@kernel
def adagrad(rule: Rule, lr: Double, theta: Vector, grad: Vector):
    """``s += g**2; theta -= lr * g / (sqrt(s) + eps)``: Duchi et al. (2011)."""
    number = theta.dtype.type
    rate, eps, s = number(lr), number(rule.hyper[0]), rule.state[0]
    for i in range(theta.size):
        s[i] += grad[i] * grad[i]
        theta[i] -= rate * grad[i] / (math.sqrt(s[i]) + eps)


@kernel
def rprop(rule: Rule, lr: Double, theta: Vector, grad: Vector):
    """Steps of their own for all parameters, which grow until the gradient changes its sign.

    iRprop-, Igel & Huesken (2000): after a change of sign the next gradient counts as 0. `lr` is
    the size of the first step.
    """
    number = theta.dtype.type
    shrink, grow, lowest, highest = rule.hyper[0], rule.hyper[1], rule.hyper[2], rule.hyper[3]
    smaller, larger, least, most = number(shrink), number(grow), number(lowest), number(highest)
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


@kernel
def lion(rule: Rule, lr: Double, theta: Vector, grad: Vector):
    """``theta -= lr * (sign(beta1 * m + (1 - beta1) * g) + decay * theta)``, then m moves by beta2.

    Chen et al. (2023), algorithm 2.
    """
    number = theta.dtype.type
    beta1, beta2, decay = rule.hyper[0], rule.hyper[1], rule.hyper[2]
    keep, rate, m = number(1.0 - lr * decay), number(lr), rule.state[0]
    keep1, new1 = number(beta1), number(1.0 - beta1)
    keep2, new2 = number(beta2), number(1.0 - beta2)
    for i in range(theta.size):
        direction = np.sign(keep1 * m[i] + new1 * grad[i])
        theta[i] = keep * theta[i] - rate * direction
        m[i] = keep2 * m[i] + new2 * grad[i]
