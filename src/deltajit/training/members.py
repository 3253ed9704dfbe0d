"""Train an ensemble: every member takes its own steps, and some stop early."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deltajit import kernels
from deltajit.kernels.mlp import stacked
from deltajit.kernels.mlp.optimizers import Optimizer
from deltajit.model import memory
from deltajit.model.data import Data
from deltajit.model.memory import Array
from deltajit.training.history import History, TrainingState
from deltajit.training.loop import DivergedError, Loop, epochs_a_call
from deltajit.training.minibatches import seeds
from deltajit.training.progress import clock
from deltajit.training.watchers import Watchers, watched


def fit(
    state: TrainingState,
    model: kernels.Model,
    rngs: Sequence[np.random.Generator],
    data: Data,
    batch_size: int,
    val_loss: Callable[[], Array] | None,
    shuffle: bool,
    watchers: Watchers,
) -> History:
    """Train all members; one that diverges stays as it was after its last good epoch.

    Each of `rngs` shuffles the samples of its member, and chooses the units that it leaves out.
    `state.rule` comes from `rule_of`.
    """
    theta, rule = state.theta, state.rule
    assert rule is not None
    alive = np.ones(len(theta), bool)
    # After even epochs and after odd ones: whichever Ctrl-C finds noted is the last.
    good = np.stack([theta, theta])
    order = np.tile(np.arange(data.X.shape[-2]), (len(theta), 1))
    shuffle = shuffle and batch_size < order.shape[1]

    def epoch() -> Array:
        if shuffle:
            for row, rng in zip(order, rngs, strict=True):
                row[:] = rng.permutation(len(row))
        losses = _epoch(model, data, order, batch_size, rule, alive, state.dropout)
        bad = alive & ~(np.isfinite(losses) & np.isfinite(theta).all(axis=1))
        if bad.any():
            theta[bad], losses[bad], alive[bad] = good[state.epoch % 2, bad], np.nan, False
            text = say_diverged(bad, f" in epoch {state.epoch + 1}")
            warnings.warn(text, RuntimeWarning, stacklevel=7)
        if not alive.any():
            raise DivergedError(state.epoch + 1, int(rule.count.max()) + 1, state.history)
        return losses

    def note(losses: Array, start: float) -> None:
        numbers: dict[str, float | Array] = {"loss": losses, "lr": state.lr}
        if val_loss is not None:
            numbers["val_loss"] = val_loss()
        good[(state.epoch + 1) % 2] = theta
        state.history.note({**numbers, "time": clock() - start})
        watchers.tell("on_epoch_end", state)
        good[state.epoch % 2] = theta  # which a callback may have changed

    with watched(state, rngs, watchers):
        if state.dropout is not None:
            state.dropout.seed[:] = [seeds(rng)[0] for rng in rngs]
        history = Loop(state, note, order.size, watchers.progress).run(epoch)
        if history.interrupted:
            theta[:] = good[state.epoch % 2]
    return history


def rule_of(optimizer: Optimizer, theta: Array) -> kernels.Rule:
    """Return an optimizer's fresh state, a row for each member's theta (n_members, n_params)."""
    rule: kernels.Rule = optimizer.rule(theta.size, theta.dtype)
    state = np.zeros((len(theta), rule.state.shape[0] * theta.shape[1]), theta.dtype)
    return rule._replace(state=state, count=np.zeros(len(theta), np.int64))


def _epoch(
    model: kernels.Model,
    data: Data,
    order: Array,
    size: int,
    rule: kernels.Rule,
    alive: Array,
    dropout: kernels.Dropout | None,
) -> Array:
    """Train each member for one epoch, some members a call; return their mean losses."""
    (M, n), n_params = order.shape, model.theta.shape[1]
    totals = np.empty((M, 2))
    work_size = kernels.workspace_size(model, size) + n_params  # and a gradient
    work = memory.rows(model.threads, work_size, model.theta.dtype)
    group = epochs_a_call(size, n_params, math.ceil(n / size)) * model.threads
    for first in range(0, M, group):
        some = slice(first, first + group)
        parts = (_part(x, ndim, some) for x, ndim in zip(data, (2, 2, 1), strict=True))
        members = stacked.Members(model.theta[some], *model[1:])
        rules = stacked.Rules(*rule[:-2], rule.state[some], rule.count[some])
        samples = stacked.Samples(*parts)
        left_out: Any = dropout and dropout._replace(seed=dropout.seed[some])
        stacked.fit_epoch(
            members, samples, order[some], size, rules, alive[some], left_out, totals[some], work
        )
    means: Array = totals[:, 0] / totals[:, 1]
    return means


def _part(x: Array | None, ndim: int, some: slice) -> Any:
    """Return some members' part of an array with an axis of members; one without, as it is."""
    return x if x is None or x.ndim == ndim else x[some]


def say_diverged(bad: Array, when: str = "") -> str:
    """Return the warning about members that have diverged, which `bad` marks."""
    first = ", ".join(str(i) for i in np.flatnonzero(bad)[:5])
    return (
        f"{bad.sum()} of {bad.size} members diverged{when} (first: {first}); they stay as they "
        "were after their last good epoch"
    )
