"""Train on minibatches, by the kernel `fit_epoch`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from deltajit import kernels
from deltajit.kernels.abi import python_kind
from deltajit.model import checks, memory
from deltajit.model.data import Data
from deltajit.model.memory import Array
from deltajit.training.history import TrainingState
from deltajit.training.loop import DivergedError, pieces

# The kernel's code by the kinds of what is the same in a fit, and those of other arguments: Numba's
# own look at all of them, before each call, takes longer than an epoch of some networks.
_entry: Any = kernels.fit_epoch
_compiled: dict[object, dict[object, Callable[..., tuple[float, float]]]] = {}


class Steps:
    """Train a network on minibatches, in memory that is kept from call to call."""

    def __init__(
        self, net: Any, rule: kernels.Rule, batch_size: int, dropout: kernels.Dropout | None
    ) -> None:
        grad, work = memory.empty(net.n_params, net.dtype), net.workspace(batch_size)
        self._model, self._dropout = net.model, dropout
        self._arguments = batch_size, rule, grad, work
        same = python_kind((net.model, *self._arguments, dropout))
        self._compiled = _compiled.setdefault(same, {})

    def __call__(
        self, rows: NDArray[np.int64], X: Array, Y: Array, weights: Array | None
    ) -> tuple[float, float]:
        """Take a step for each minibatch of `rows`.

        Return the sum of the samples' weighted losses, each before its step, and of their weights.
        """
        arguments = self._model, X, Y, rows, *self._arguments, weights, self._dropout
        kinds = python_kind((X, Y, rows, weights))
        call = self._compiled.get(kinds)
        if call is None:
            call = self._compiled[kinds] = _entry.compile(tuple(map(numba.typeof, arguments)))
        return call(*arguments)


def epochs(
    state: TrainingState, data: Data, batch_size: int, rng: np.random.Generator, shuffle: bool
) -> Callable[[], float]:
    """Return a function that trains for one epoch and returns its mean loss.

    A step on all samples takes them as they are: a new order would only change how sums round.
    If the loss is not finite, the function restores theta and raises DivergedError.
    """
    theta, rule, n = state.theta, state.rule, len(data.X)
    assert rule is not None
    train = Steps(state.net, rule, batch_size, state.dropout)
    in_order, last_good = np.arange(n), theta.copy()
    shuffle = shuffle and batch_size < n

    def epoch() -> float:
        last_good[:] = theta
        before, total, weight = int(rule.count[0]), 0.0, 0.0
        for rows in pieces(rng.permutation(n) if shuffle else in_order, batch_size, theta.size):
            losses, weights = train(rows, *data)
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
