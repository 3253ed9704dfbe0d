"""The training loop's outer part: epochs, shuffling, validation, the progress bar, History."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
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
# calls Ctrl-C is heard. A step takes as long as OVERHEAD of them even if its network has next to
# none.
CHUNK, OVERHEAD = 2e8, 3000


class DivergedError(ArithmeticError):
    """The loss became NaN or infinite during `fit`; theta is what it was after the last good epoch.

    Attributes
    ----------
    epoch, step : int
        Where it happened, counted from 1.
    history : History
        Of the epochs before.
    """

    def __init__(self, epoch: int, step: int, history: History) -> None:
        before = f"after epoch {epoch - 1}" if epoch > 1 else "before fit"
        super().__init__(
            f"the loss is not finite in epoch {epoch}, step {step}; theta is again what it was "
            f"{before}. A smaller learning rate, or scaled inputs and targets, may help"
        )
        self.epoch, self.step, self.history = epoch, step, history


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
    """What fit saw, epoch by epoch; of an `Ensemble` each loss is an array (n_members,).

    Attributes
    ----------
    loss : list of float
        Mean of the minibatches' losses, each taken before its step.
    val_loss : list of float
        Loss on validation_data after the epoch; empty without validation_data.
    time : list of float
        Seconds that the epoch took, validation included.
    interrupted : bool
        Whether Ctrl-C ended fit early; theta is then that of the last finished step.
    """

    loss: list[Any] = field(default_factory=list)
    val_loss: list[Any] = field(default_factory=list)
    time: list[float] = field(default_factory=list)
    interrupted: bool = False


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
    last_good = model.theta.copy()
    with progress_bar(epochs, progress) as bar, ended_by_ctrl_c(history):
        for epoch in range(epochs):
            start = time.perf_counter()
            order = rng.permutation(n) if shuffle else in_order
            loss, done = _epoch(model, data, order, batch_size, rule, grad, work)
            if not (math.isfinite(loss) and np.isfinite(model.theta).all()):
                model.theta[:] = last_good
                raise DivergedError(epoch + 1, done + (not math.isfinite(loss)), history)
            last_good[:] = model.theta
            shown = {"loss": loss}
            if validation is not None:
                shown["val_loss"] = _loss(model, validation)
                history.val_loss.append(shown["val_loss"])
            history.loss.append(loss)
            history.time.append(time.perf_counter() - start)
            bar.set_postfix({name: f"{x:.4g}" for name, x in shown.items()}, refresh=False)
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
    with progress_bar(epochs, progress) as bar, ended_by_ctrl_c(history):
        start = time.perf_counter()

        def report(theta: Array, loss: float) -> None:
            nonlocal start
            if not math.isfinite(loss) or not np.isfinite(theta).all():
                raise DivergedError(len(history.loss) + 1, 1, history)
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


def progress_bar(epochs: int, progress: bool) -> Any:
    """A progress bar; disable=None: tqdm shows it only where there is a terminal."""
    return tqdm(total=epochs, unit="epoch", disable=None if progress else True)


@contextlib.contextmanager
def ended_by_ctrl_c(history: History) -> Iterator[None]:
    """Ctrl-C ends what is inside, and is noted."""
    try:
        yield
    except KeyboardInterrupt:
        history.interrupted = True


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
) -> tuple[float, int]:
    """One pass over `order` in chunks of whole minibatches: (mean loss, steps done).

    It ends early where the loss is not finite.
    """
    steps = max(1, int(CHUNK / (3 * batch_size * model.theta.size + OVERHEAD)))
    before = int(rule.count[0])
    total = weight = 0.0
    for first in range(0, len(order), steps * batch_size):
        chunk = order[first : first + steps * batch_size]
        chunk_total, chunk_weight = kernels.fit_epoch(
            model, data.X, data.Y, chunk, batch_size, rule, grad, work, data.weights
        )
        total += chunk_total
        weight += chunk_weight
        if not math.isfinite(total):
            break
    return total / weight, int(rule.count[0]) - before
