"""Check the arguments of `Network.fit`, and pass them to the training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from deltajit.io import files
from deltajit.kernels import Rule
from deltajit.kernels.mlp.optimizers import Optimizer
from deltajit.model import checks
from deltajit.model.data import checked
from deltajit.training import full_batch, minibatches, schedules
from deltajit.training.checkpoint import Checkpoint, restore
from deltajit.training.feeds import Source
from deltajit.training.history import History, TrainingState
from deltajit.training.loop import Loop
from deltajit.training.second_order import SecondOrder, fresh_rule
from deltajit.training.watchers import Metric, Watchers, watched

Method = Optimizer | SecondOrder


@dataclass(frozen=True)
class Options:
    """Hold the arguments of `Network.fit` of these names."""

    epochs: int
    batch_size: int
    optimizer: Method | full_batch.FullBatch
    validation_data: checks.Validation | None
    schedule: schedules.Schedule | None
    clip_norm: float | None
    dropout: float | Sequence[float]
    metrics: Mapping[str, Metric] | None
    callbacks: Sequence[object]
    checkpoint: files.Path | None
    every: int
    resume: bool
    progress: bool
    shuffle: bool


def fit(net: Any, source: Source, rng: np.random.Generator, options: Options) -> History:
    """Check `options`, and train a network on checked samples."""
    epochs = checks.whole(options.epochs, "epochs", least=0)
    batch_size = checks.whole(options.batch_size, "batch_size")
    if source.samples:
        batch_size = min(batch_size, source.samples)
    method = checks.optimizer(options.optimizer)
    watchers = _watchers(net, options)
    if options.resume and options.checkpoint is None:
        raise ValueError("resume=True needs checkpoint, the path to go on from")
    dropout = minibatches.dropout_of(
        options.dropout,
        len(net.sizes) - 2,
        lambda: np.zeros(1, np.uint64),  # drawn below
    )
    if hasattr(method, "minimize"):  # also a method of a user's own
        return _fit_on_all(net, source, rng, epochs, watchers, options)
    if getattr(method, "full_batch", False):
        source.needs_all(method)
        batch_size = source.samples
    if isinstance(method, SecondOrder):
        leave_out(net, options, "clip_norm")
    steps = 1 if options.schedule is None else source.steps(batch_size)
    rule = _rule(net, method, epochs, steps, options)
    columns = watchers.columns()
    state = TrainingState(net, rule, History(), epochs, columns, dropout, optimizer=method)
    kept = _checkpoint(state, source, batch_size, options)
    saved = kept.read(state, rng, watchers.callbacks) if kept and options.resume else None

    def note(loss: float, start: float) -> None:
        watchers.end_epoch(state, loss, start)
        if kept is not None:
            kept.epoch_done(state, rng, watchers.callbacks)

    with watched(state, [rng], watchers, source.keeps_steps):
        if dropout is not None:
            dropout.seed[:] = minibatches.seeds(rng)
        if kept is not None:
            kept.encoded(state, rng, watchers.callbacks)  # raises for a state that it can't hold
        if saved is not None:
            restore(saved, state, rng, watchers.callbacks)
            watchers.tell("on_fit_resume", state)
        train = source.training(state, batch_size, rng, options.shuffle)
        epoch = minibatches.epochs(state, train)
        return Loop(state, note, source.samples, watchers.progress).run(epoch)


def _watchers(net: Any, options: Options) -> Watchers:
    validation = targets = None
    if options.validation_data is not None:
        parts = checks.validation_data(options.validation_data)
        validation = checked(net.architecture, *parts, "validation_data", finite=True)
        targets = checks.asarray(parts[1], "validation_data[1]")
    metrics = checks.metrics(options.metrics, has_data=validation is not None)
    callbacks = checks.callbacks(options.callbacks)
    return Watchers(validation, targets, metrics, callbacks, bool(options.progress))


def _fit_on_all(
    net: Any,
    source: Source,
    rng: np.random.Generator,
    epochs: int,
    watchers: Watchers,
    options: Options,
) -> History:
    """Train by LBFGS or LevenbergMarquardt, which have no minibatches, rates or state to keep."""
    leave_out(net, options, "schedule", "clip_norm", "checkpoint")
    columns, method = watchers.columns(), options.optimizer
    state = TrainingState(net, None, History(), epochs, columns, optimizer=method)
    source.needs_all(options.optimizer)
    objective = source.objective(net)
    note = partial(watchers.end_epoch, state)
    with watched(state, [rng], watchers, source.keeps_steps):
        loop = Loop(state, note, source.samples, watchers.progress)
        return full_batch.train(loop, objective, cast(full_batch.FullBatch, options.optimizer))


def leave_out(net: Any, options: Any, *names: str) -> None:
    """Raise ValueError if dropout or an option of these names is given."""
    given = {name: getattr(options, name) for name in names}
    given["dropout"] = any(checks.dropout(options.dropout, len(net.sizes) - 2)) or None
    for name, value in given.items():
        if value is not None:
            method = type(options.optimizer).__name__
            raise ValueError(f"{name} means nothing to {method}; leave it out")


def _rule(net: Any, optimizer: Method, epochs: int, steps: int, options: Options) -> Rule:
    """Return the optimizer's fresh state, with a rate for each update if there is a schedule."""
    checks.schedule(options.schedule)
    if options.clip_norm is not None:
        checks.above_zero(options.clip_norm, "clip_norm")
    rule = fresh_rule(optimizer, net)
    rates = schedules.rates(options.schedule, float(rule.rates[0]), epochs, steps)
    return rule._replace(rates=rates, clip=float(options.clip_norm or 0))


def _checkpoint(
    state: TrainingState, source: Source, batch_size: int, options: Options
) -> Checkpoint | None:
    """Return the checkpoint, with the values that must be the same for a fit to go on from it."""
    every = checks.whole(options.every, "every")
    if options.checkpoint is None:
        return None
    path = Path(checks.path(options.checkpoint, "checkpoint"))
    files.target_of(path, "checkpoint")
    architecture, rule = state.net.architecture, state.rule
    assert rule is not None
    fit = {part.name: getattr(architecture, part.name) for part in fields(architecture)}
    fit |= {"dtype": architecture.dtype.name, "optimizer": type(options.optimizer).__qualname__}
    fit |= {"hyper": rule.hyper, "clip_norm": rule.clip, "shuffle": bool(options.shuffle)}
    fit |= {"samples": source.samples, "batch_size": batch_size, **source.options}
    fit["dropout"] = checks.dropout(options.dropout, len(architecture.sizes) - 2)
    if options.schedule is None:
        fit["lr"] = rule.rates[0]
    else:  # rounded rates: the last bits of a cosine differ from machine to machine
        steps = source.steps(batch_size)
        sums = np.add.reduceat(rule.rates, np.arange(0, rule.rates.size, steps))
        fit |= {"epochs": state.epochs, "rates": [f"{x / steps:.6g}" for x in sums]}
    return Checkpoint(path, every, fit)
