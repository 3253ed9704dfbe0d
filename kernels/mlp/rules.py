"""Rules: an optimizer as the kernels take it, and a step of it, in place.

What an optimizer does, its numbers and its state travel together as a `Rule`.
"""

import math
from typing import NamedTuple

import numpy as np

from ..abi import Double, Doubles, OutMatrix, OutVector, OutWords, Vector, Word
from ..compiler import inlined, kernel, name_of, njit, prototype, slot_named
from ..status import BAD_GRAD, BAD_RULE, NO_RATE, OK, STALE, VERSION, refuse


class Rule(NamedTuple):
    """Hold how theta moves along a gradient; ``dj.Adam().rule(n_params, dtype)`` makes one.

    Attributes
    ----------
    kernel : int
        Slot of the update (see `optimizers`); 0 for ``theta -= lr * g``.
    slots : int
        How many vectors like theta it remembers.
    hyper : array of float64
        The numbers of the optimizer, as its update unpacks them.
    rates : array of float64
        The learning rate of each update; the last one is that of all that follow.
    clip : float
        The Euclidean length to which a longer gradient is shortened; 0 shortens none.
    state : array (slots, n_params)
        What the update remembers, in theta's dtype.
    count : array (1,) of int64
        Updates so far.
    """

    kernel: Word
    slots: Word
    hyper: Doubles
    rates: Doubles
    clip: Double
    state: OutMatrix
    count: OutWords

    def __reduce__(self):
        """Pickle the kernel by its name: in another process it is elsewhere."""
        return _restored, (name_of(self.kernel), *self[1:])


def _restored(name, *others):
    """Return the rule that was pickled, with the kernel of this process."""
    return Rule(slot_named(name), *others)


@prototype
def move(rule: Rule, lr: Double, theta: Vector, grad: Vector):
    """Move `theta` one step along `grad`; `rule.count` is this step's already."""


@njit
def update(rule: Rule, theta: OutVector, grad: OutVector) -> None:
    """Move theta, in place, one step of an optimizer along a gradient.

    Parameters
    ----------
    rule : Rule
        An optimizer and its state, as ``dj.Adam().rule(net.n_params, net.dtype)``; updated.
    theta : array (n_params,)
        Parameters, updated.
    grad : array (n_params,)
        The gradient, of the same dtype; shortened in place if the rule clips.

    Raises
    ------
    ValueError
        If sizes do not fit.
    """
    refuse(_update(VERSION, rule, theta, grad))


@kernel
def _update(version: Word, rule: Rule, theta: OutVector, grad: OutVector) -> Word:
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
    """Check that a rule's state is of theta's size, and its count one number."""
    status, (slots, size) = OK, rule.state.shape
    if rule.count.size != 1 or slots < rule.slots or size != theta.size:
        status = BAD_RULE
    elif rule.rates.size < 1:
        status = NO_RATE
    return status


@inlined
def rate_of(rule):
    """Return the learning rate of the next update."""
    return rule.rates[min(rule.count[0], rule.rates.size - 1)]


@inlined
def is_descent(rule):
    """Return whether a step is ``theta -= lr * g``, but for clipping."""
    return rule.kernel == 0


@inlined
def step(rule, theta, grad):
    """Compute `update` of arguments that are checked."""
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
    """Compute ``grad *= min(1, most / ||grad||)`` (Pascanu et al. 2013)."""
    total = 0.0
    for i in range(grad.size):
        total += np.float64(grad[i]) ** 2
    if total > most * most:  # not for NaN, which the loss will show
        scale = grad.dtype.type(most / math.sqrt(total))
        for i in range(grad.size):
            grad[i] *= scale


@inlined
def along(lr, theta, grad):
    """Compute ``theta -= lr * g``."""
    rate = theta.dtype.type(lr)
    for i in range(theta.size):
        theta[i] -= rate * grad[i]
