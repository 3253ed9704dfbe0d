"""Take steps that look at the curvature of each minibatch: what such optimizers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltajit import kernels
from deltajit.derivatives.linearization import Linearization
from deltajit.kernels.mlp.calls import calls_for
from deltajit.model import checks, memory
from deltajit.model.architecture import Architecture
from deltajit.model.data import Data
from deltajit.model.memory import Array
from deltajit.training.history import TrainingState
from deltajit.training.minibatches import Steps, Sums

FACTOR = 1.5  # by which the damping changes
# Damping: below, a sum with it rounds to the other number; above, steps are none.
LEAST, MOST = 1e-12, 1e12


@dataclass(frozen=True)
class SecondOrder:
    """Move theta by a p of small ``q(p) = grad @ p + p @ (G + damping I) @ p / 2``: a base class.

    G is the Gauss-Newton matrix of the minibatch. A subclass is a frozen dataclass, whose fields
    after these two are numbers of its `step`.
    """

    lr: float = 1.0
    damping: float = 1.0

    def __post_init__(self) -> None:
        checks.above_zero(self.lr, "lr")
        checks.above_zero(self.damping, "damping")

    def remembered(self, architecture: Architecture) -> int:
        """Return how many numbers `step` remembers; raise ValueError for a wrong network."""
        raise NotImplementedError

    def step(
        self, batch: Batch, damping: float, previous: Array, kept: Array, number: int
    ) -> tuple[Array, Array]:
        """Compute a step, of this number from 1.

        Return p and ``(G + damping I) @ p``, in float64. `previous` is p of the step before, or 0;
        `kept` are the numbers that it remembers, 0 at the start.
        """
        raise NotImplementedError


class Batch:
    """Hold a minibatch, and what the loss on it looks like around theta.

    Attributes
    ----------
    architecture : Architecture
        The network's.
    data : Data
        The samples.
    at : Linearization
        Loss, gradient and products with G.
    grad : ndarray of float64, (n_params,)
        The gradient.
    rng : numpy.random.Generator
        Generator for what a step draws.
    """

    def __init__(self, net: Any, data: Data, rng: np.random.Generator) -> None:
        self.architecture, self.data, self.rng = net.architecture, data, rng
        self._theta, self._threads = net.theta, net.threads
        self.at = self.linearized(data)
        self.grad = self.at.grad.astype(np.float64)

    def linearized(self, data: Data) -> Linearization:
        """Linearize the network for these samples."""
        return Linearization.at(self.architecture, self._theta, data, self._threads)

    def loss(self, theta: Array) -> float:
        """Return the loss at another theta."""
        model, (X, Y, weights) = self.architecture.model(theta, self._threads), self.data
        work = memory.empty(kernels.workspace_size(model, len(X)), theta.dtype)
        return float(calls_for(theta.dtype).loss(model, X, Y, weights, work))

    def product(self, v: Array, damping: float) -> Array:
        """Return ``(G + damping I) @ v``; NaN for a v that the network's dtype can't hold."""
        if not np.isfinite(v.astype(self._theta.dtype)).all():
            return np.full_like(v, np.nan)
        return np.asarray(self.at.gnvp(v) + damping * v)


class SecondOrderSteps:
    """Take an optimizer's steps on minibatches, as `minibatches.Steps` takes those of kernels."""

    def __init__(self, state: TrainingState, batch_size: int, rng: np.random.Generator) -> None:
        self._state, self._batch_size, self._rng = state, batch_size, rng

    def __call__(self, rows: NDArray[np.int64], X: Array, Y: Array, weights: Array | None) -> Sums:
        """Take a step for each minibatch of `rows`.

        Return the sum of the samples' weighted losses, each before its step, and of their weights.
        """
        total = weight = 0.0
        for first in range(0, len(rows), self._batch_size):
            some = rows[first : first + self._batch_size]
            loss, mass = self.on_all(X[some], Y[some], None if weights is None else weights[some])
            total, weight = total + loss, weight + mass
            if not np.isfinite(total):
                break
        return total, weight

    def on_all(self, X: Array, Y: Array, weights: Array | None) -> Sums:
        """Take one step on all samples, however many."""
        mass = float(len(X) if weights is None else weights.sum(dtype=np.float64))
        if mass == 0:
            return 0.0, 0.0
        with np.errstate(all="ignore"):  # an overflow shows in the loss
            return mass * self._move(Batch(self._state.net, Data(X, Y, weights), self._rng)), mass

    def _move(self, batch: Batch) -> float:
        """Move theta if that lowers the loss, and adapt the damping; return the loss before."""
        theta, rule, before = self._state.theta, self._state.rule, batch.at.value
        assert rule is not None
        if not (np.isfinite(before) and np.isfinite(batch.grad).all()):
            return np.nan
        lr, number, damping = self._state.lr, int(rule.count[0]) + 1, float(rule.state[0, 0])
        previous, kept = np.split(rule.state[0, 1:], [theta.size])
        p, product = self._state.optimizer.step(batch, damping, previous, kept, number)
        tried = (theta + lr * p).astype(theta.dtype)
        change = batch.loss(tried) - before
        q = lr * (batch.grad @ p) + lr**2 / 2 * (p @ product)
        taken = change < 0
        rule.state[0, 0], previous[:] = adapted(damping, change / q), p if taken else 0
        rule.count[0] = number
        if taken:
            theta[:] = tried
        return before


def adapted(damping: float, ratio: float) -> float:
    """Return the damping of the next step, by ``change of the loss / q(p)`` (Martens 2010)."""
    if ratio > 3 / 4:
        return max(damping / FACTOR, LEAST)
    return damping if ratio >= 1 / 4 else min(damping * FACTOR, MOST)


def fresh_rule(optimizer: Any, net: Any) -> kernels.Rule:
    """Return the state of an optimizer at the start of a fit.

    That of a `SecondOrder` is damping, the step before, and what `step` remembers.
    """
    if not isinstance(optimizer, SecondOrder):
        return optimizer.rule(net.n_params, net.dtype)  # type: ignore[no-any-return]
    state = np.zeros((1, 1 + net.n_params + optimizer.remembered(net.architecture)))
    state[0, 0] = optimizer.damping
    lr, *hyper = vars(optimizer).values()
    rates, count = np.array([lr], np.float64), np.zeros(1, np.int64)
    return kernels.Rule(0, 1, np.array(hyper, np.float64), rates, 0.0, state, count)


def steps_of(
    state: TrainingState, batch_size: int, rng: np.random.Generator
) -> Steps | SecondOrderSteps:
    """Return what takes the steps of a fit on minibatches of so many samples."""
    if isinstance(state.optimizer, SecondOrder):
        return SecondOrderSteps(state, batch_size, rng)
    assert state.rule is not None
    return Steps(state.net, state.rule, batch_size, state.dropout)
