"""What a call of fit asks for, checked, and handed to the training loop."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deltajit import checks, schedules
from deltajit.checkpoint import Checkpoint
from deltajit.data import Data, checked
from deltajit.history import History, TrainingState
from deltajit.objective import Objective
from deltajit.training import Metric, Plan, Watchers, dropout_of, train, train_on_all


@dataclass(frozen=True)
class Options:
    """The arguments of `Network.fit` of these names."""

    epochs: int
    batch_size: int
    optimizer: Any
    validation_data: tuple[Any, ...] | None
    schedule: schedules.Schedule | None
    clip_norm: float | None
    dropout: float | Sequence[float]
    metrics: Mapping[str, Metric] | None
    callbacks: Sequence[Any]
    checkpoint: str | os.PathLike[str] | None
    every: int
    resume: bool
    progress: bool
    shuffle: bool


def fit(net: Any, data: Data, rng: np.random.Generator, options: Options) -> History:
    """Check the rest, and train."""
    epochs = checks.whole(options.epochs, "epochs", least=0)
    batch_size = min(checks.whole(options.batch_size, "batch_size"), len(data.X))
    method = checks.optimizer(options.optimizer)
    watchers = _watchers(net, options)
    if hasattr(method, "minimize"):
        return _fit_on_all(net, data, epochs, method, watchers, options)
    checks.schedule(options.schedule)
    if getattr(method, "full_batch", False):
        batch_size = len(data.X)
    if options.clip_norm is not None:
        checks.above_zero(options.clip_norm, "clip_norm")
    rule = method.rule(net.n_params, net.dtype)
    steps = -(-len(data.X) // batch_size)
    rule = rule._replace(
        rates=schedules.rates(options.schedule, float(rule.rates[0]), epochs, steps),
        clip=float(options.clip_norm or 0),
    )
    kept = _checkpoint(net, len(data.X), batch_size, epochs, options)
    dropout = dropout_of(
        options.dropout,
        len(net.sizes) - 2,
        lambda: rng.integers(2**64, size=1, dtype=np.uint64),
    )
    state = TrainingState(net, rule, History(), epochs, watchers.columns(), dropout)
    watchers.tell("on_fit_begin", state)
    plan = Plan(batch_size, rng, bool(options.shuffle))
    if kept is not None and options.resume:
        kept.resume(state, rng, watchers.callbacks)
    return train(state, data, plan, watchers, kept)


def _watchers(net: Any, options: Options) -> Watchers:
    validation = targets = None
    if options.validation_data is not None:
        parts = checks.validation_data(options.validation_data)
        validation = checked(net.architecture, *parts, "validation_data", finite=True)
        targets = np.asarray(parts[1])
    metrics = checks.metrics(options.metrics, has_data=validation is not None)
    callbacks = checks.callbacks(options.callbacks)
    return Watchers(validation, targets, metrics, callbacks, bool(options.progress))


def _fit_on_all(
    net: Any, data: Data, epochs: int, method: Any, watchers: Watchers, options: Options
) -> History:
    """With LBFGS or LevenbergMarquardt, which know no minibatches, rates or state to keep."""
    for name in ("schedule", "clip_norm", "checkpoint", "dropout"):
        if getattr(options, name) not in (None, 0, 0.0):
            raise ValueError(f"{name} means nothing to {type(method).__name__}; leave it out")
    state = TrainingState(net, None, History(), epochs, watchers.columns())
    objective = Objective(net.architecture, data, net.threads)
    watchers.tell("on_fit_begin", state)
    return train_on_all(state, objective, method, watchers)


def _checkpoint(
    net: Any, n: int, batch_size: int, epochs: int, options: Options
) -> Checkpoint | None:
    """The checkpoint, with a description of what must be the same when fit goes on from it."""
    if options.checkpoint is None:
        if options.resume:
            raise ValueError("resume=True needs checkpoint, the path to go on from")
        return None
    planned = f"{options.schedule} of {epochs} epochs, " if options.schedule is not None else ""
    fit = (
        f"{net.architecture}, {options.optimizer}, {planned}{n} samples, batch_size={batch_size}, "
        f"clip_norm={options.clip_norm}, dropout={options.dropout}, shuffle={bool(options.shuffle)}"
    )
    return Checkpoint(Path(options.checkpoint), checks.whole(options.every, "every"), fit)
