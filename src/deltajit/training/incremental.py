"""Train on samples as they come, with a state of the optimizer that goes on from call to call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltajit.kernels import Rule
from deltajit.model import checks
from deltajit.training import minibatches
from deltajit.training.feeds import Source
from deltajit.training.fitting import Method, leave_out
from deltajit.training.history import History, TrainingState
from deltajit.training.second_order import SecondOrder, fresh_rule


@dataclass(frozen=True)
class Progress:
    """Hold what `Network.partial_fit` keeps: an optimizer, its state, and the seed of dropout."""

    optimizer: Method
    rule: Rule
    seed: NDArray[np.uint64] | None


@dataclass(frozen=True)
class Options:
    """Hold the arguments of `Network.partial_fit` of these names."""

    batch_size: int
    optimizer: Method
    clip_norm: float | None
    dropout: Any
    shuffle: bool


def partial_fit(
    net: Any, source: Source, rng: np.random.Generator, options: Options, before: Progress | None
) -> tuple[float, Progress]:
    """Train for one pass over checked samples; return their mean loss, and what to keep.

    An error leaves theta, the optimizer's state and `rng` as they were.
    """
    batch_size = checks.whole(options.batch_size, "batch_size")
    if source.samples:
        batch_size = min(batch_size, source.samples)
    rule = _rule(net, options, before)
    drawn = rng.bit_generator.state
    theta, state, count = net.theta.copy(), rule.state.copy(), rule.count.copy()
    kept = None if before is None else before.seed
    dropout = minibatches.dropout_of(
        options.dropout,
        len(net.sizes) - 2,
        lambda: minibatches.seeds(rng) if kept is None else kept.copy(),
    )
    method = options.optimizer
    fit = TrainingState(net, rule, History(), 1, ("loss",), dropout, optimizer=method)
    try:
        train = source.training(fit, batch_size, rng, options.shuffle)
        loss = minibatches.epochs(fit, train)()
    except Exception:
        net.theta[:], rule.state[:], rule.count[:] = theta, state, count
        rng.bit_generator.state = drawn
        raise
    return loss, Progress(options.optimizer, rule, kept if dropout is None else dropout.seed)


def _rule(net: Any, options: Options, before: Progress | None) -> Rule:
    """Return the state that goes on, or a fresh one for another kind of optimizer.

    An optimizer that differs in its learning rate alone goes on with that rate.
    """
    method = checks.optimizer(options.optimizer)
    if hasattr(method, "minimize") or getattr(method, "full_batch", False):
        raise ValueError(
            f"{type(method).__name__} takes each step on all samples, which partial_fit never has; "
            "optimizer must be one such as dj.SGD(0.1) or dj.Adam()"
        )
    if isinstance(method, SecondOrder):
        leave_out(net, options, "clip_norm")
    if options.clip_norm is not None:
        checks.above_zero(options.clip_norm, "clip_norm")
    clip = float(options.clip_norm or 0)
    if before is not None and before.optimizer == method:
        return before.rule._replace(clip=clip)
    fresh = fresh_rule(method, net)
    if before is not None and type(before.optimizer) is type(method):
        old = before.rule
        if old.kernel == fresh.kernel and np.array_equal(old.hyper, fresh.hyper):
            return old._replace(rates=fresh.rates, clip=clip)
    return fresh._replace(clip=clip)
