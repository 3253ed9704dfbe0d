"""Train on minibatches, by the kernel `fit_epoch`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltajit import kernels
from deltajit.kernels.abi import python_kind
from deltajit.kernels.mlp.calls import FIT_EPOCH
from deltajit.model import checks, memory
from deltajit.model.memory import Array
from deltajit.training.history import TrainingState
from deltajit.training.loop import DivergedError

Sums = tuple[float, float]  # of the samples' weighted losses, and of their weights


class Steps:
    """Train a network on minibatches, in memory that is kept from call to call."""

    def __init__(
        self, net: Any, rule: kernels.Rule, batch_size: int, dropout: kernels.Dropout | None
    ) -> None:
        grad, work = memory.empty(net.n_params, net.dtype), net.workspace(batch_size)
        self._model, self._dropout = net.model, dropout
        self._batch_size, self._state = batch_size, (rule, grad, work)
        self._call: Callable[..., Sums] = FIT_EPOCH.unchecked(net.dtype)
        self._known: set[object] = set()  # what samples were: nothing else differs between calls

    def __call__(self, rows: NDArray[np.int64], X: Array, Y: Array, weights: Array | None) -> Sums:
        """Take a step for each minibatch of `rows`.

        Return the sum of the samples' weighted losses, each before its step, and of their weights.
        """
        return self._take(rows, X, Y, weights, self._batch_size)

    def on_all(self, X: Array, Y: Array, weights: Array | None) -> Sums:
        """Take one step on all samples, however many."""
        return self._take(np.arange(len(X)), X, Y, weights, len(X))

    def _take(
        self, rows: NDArray[np.int64], X: Array, Y: Array, weights: Array | None, size: int
    ) -> Sums:
        arguments = self._model, (X, Y, weights), rows, size, *self._state, self._dropout
        kinds = python_kind((X, Y, rows, weights))
        if kinds not in self._known:
            FIT_EPOCH.check(self._model.theta.dtype, *arguments)
            self._known.add(kinds)
        return self._call(*arguments)


def epochs(state: TrainingState, train: Callable[[], Iterator[Sums]]) -> Callable[[], float]:
    """Return a function that trains for one epoch and returns its mean loss.

    `train` returns an iterator that takes the steps of an epoch, and yields the sums of some. If
    the loss is not finite, the function restores theta and raises DivergedError.
    """
    theta, rule = state.theta, state.rule
    assert rule is not None
    last_good = theta.copy()

    def epoch() -> float:
        last_good[:] = theta
        before, total, weight = int(rule.count[0]), 0.0, 0.0
        for losses, weights in train():
            total, weight = total + losses, weight + weights
            if not math.isfinite(total):
                break
        loss, done = total / weight, int(rule.count[0]) - before
        if not (math.isfinite(loss) and np.isfinite(theta).all()):
            theta[:] = last_good
            step = done + (not math.isfinite(loss))
            raise DivergedError(state.epoch + 1, step, state.history, state.resumed)
        return loss

    return epoch


def dropout_of(
    dropout: object, n_hidden: int, draw: Callable[[], NDArray[np.uint64]]
) -> kernels.Dropout | None:
    """Return the share of units that each hidden layer keeps, and a seed; None if it keeps all."""
    shares = checks.dropout(dropout, n_hidden)
    return kernels.Dropout(keep=1 - np.array(shares), seed=draw()) if any(shares) else None


def seeds(rng: np.random.Generator, count: int = 1) -> NDArray[np.uint64]:
    """Draw seeds of `kernels.Dropout`."""
    return rng.integers(2**64, size=count, dtype=np.uint64)
