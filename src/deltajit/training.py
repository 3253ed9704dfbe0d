"""The training loop's outer part: epochs, shuffling, validation, the progress bar, History."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from deltajit import kernels, memory
from deltajit.data import Data
from deltajit.objective import Objective
from deltajit.optimizers import Optimizer

Array = NDArray[Any]

# One call into the kernels does about this many multiply-adds, some milliseconds of work: between
# calls Ctrl-C is heard.
CHUNK = 1e9


class FullBatch(Protocol):
    """An optimizer that takes every step on all samples."""

    def minimize(
        self,
        objective: Objective,
        theta: Array,
        epochs: int,
        report: Callable[[Array, float], None],
    ) -> None:
        """Call ``report(theta, loss before)`` after each of at most `epochs` steps."""


@dataclass
class History:
    """What fit saw, epoch by epoch.

    Attributes
    ----------
    loss : list of float
        Mean of the minibatches' losses, each taken before its step.
    val_loss : list of float
        Loss on validation_data after the epoch; empty without validation_data.
    time : list of float
        Seconds that the epoch took, validation included.
    """

    loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    time: list[float] = field(default_factory=list)


def train(
    model: kernels.Model,
    data: Data,
    validation: Data | None,
    *,
    epochs: int,
    batch_size: int,
    optimizer: Optimizer,
    rng: np.random.Generator,
    shuffle: bool,
    progress: bool,
) -> History:
    """Run `epochs` over `data`; model.theta changes in place. Everything is checked already."""
    history = History()
    n = len(data.X)
    rule = optimizer.rule(model.theta.size, model.theta.dtype)
    grad = memory.empty(model.theta.size, model.theta.dtype)
    batch_size = min(batch_size, n)
    work = memory.empty(kernels.workspace_size(model.layers, batch_size), model.theta.dtype)
    in_order = np.arange(n)
    # disable=None: tqdm shows the bar only where there is a terminal.
    with tqdm(total=epochs, unit="epoch", disable=None if progress else True) as bar:
        for _ in range(epochs):
            start = time.perf_counter()
            order = rng.permutation(n) if shuffle else in_order
            history.loss.append(_epoch(model, data, order, batch_size, rule, grad, work))
            shown = {"loss": f"{history.loss[-1]:.4g}"}
            if validation is not None:
                history.val_loss.append(_loss(model, validation))
                shown["val_loss"] = f"{history.val_loss[-1]:.4g}"
            history.time.append(time.perf_counter() - start)
            bar.set_postfix(shown, refresh=False)
            bar.update()
    return history


def train_on_all(
    model: kernels.Model,
    objective: Objective,
    validation: Data | None,
    *,
    epochs: int,
    optimizer: FullBatch,
    progress: bool,
) -> History:
    """As `train`, with an optimizer that takes every step on all samples."""
    history = History()
    with tqdm(total=epochs, unit="epoch", disable=None if progress else True) as bar:
        start = time.perf_counter()

        def report(theta: Array, loss: float) -> None:
            nonlocal start
            model.theta[:] = theta
            history.loss.append(loss)
            if validation is not None:
                history.val_loss.append(_loss(model, validation))
            history.time.append(time.perf_counter() - start)
            bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
            bar.update()
            start = time.perf_counter()

        optimizer.minimize(objective, model.theta.copy(), epochs, report)
    return history


def _loss(model: kernels.Model, data: Data) -> float:
    work = memory.empty(kernels.workspace_size(model.layers, len(data.X)), model.theta.dtype)
    return float(kernels.loss(model, data.X, data.Y, work, data.weights))


def _epoch(
    model: kernels.Model,
    data: Data,
    order: NDArray[np.int64],
    batch_size: int,
    rule: kernels.Rule,
    grad: Array,
    work: Array,
) -> float:
    """One pass over `order` in chunks of whole minibatches; returns the mean loss."""
    steps = max(1, int(CHUNK / (3 * batch_size * model.theta.size)))
    total = weight = 0.0
    for first in range(0, len(order), steps * batch_size):
        chunk = order[first : first + steps * batch_size]
        chunk_total, chunk_weight = kernels.fit_epoch(
            model, data.X, data.Y, chunk, batch_size, rule, grad, work, data.weights
        )
        total += chunk_total
        weight += chunk_weight
    return total / weight
