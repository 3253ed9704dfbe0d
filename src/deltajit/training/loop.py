"""The training loop's outer part: epochs, shuffling, validation, the progress bar, History."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deltajit import kernels
from deltajit.derivatives.objective import Objective
from deltajit.model import checks, memory
from deltajit.model.data import Data
from deltajit.training.checkpoint import Checkpoint
from deltajit.training.history import History, TrainingState
from deltajit.training.progress import advance, clock, progress_bar

Array = NDArray[Any]
Metric = Callable[[Array, Array], float]

# One call into the kernels does about this many multiply-adds, some milliseconds of work: between
# calls Ctrl-C is heard. A step takes as long as OVERHEAD of them even if its network has next to
# none.
CHUNK, OVERHEAD = 2e8, 3000


class DivergedError(ArithmeticError):
    """The loss became NaN or infinite during `fit`; theta is what it was after the last good epoch.

    Callbacks are told then that fit ends: `EarlyStopping` goes further back, to its best epoch.

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
            f"the loss is not finite in epoch {epoch}, step {step}; theta went back to what it was "
            f"{before}. A smaller learning rate, or scaled inputs and targets, may help"
        )
        self.epoch, self.step, self.history = epoch, step, history

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.epoch, self.step, self.history), self.__dict__


class FullBatch(Protocol):
    """An optimizer that takes every step on all samples."""

    def minimize(
        self,
        objective: Objective,
        theta: Array,
        epochs: int,
        report: Callable[[Array, float], None],
    ) -> None:
        """Call ``report(theta, loss before)`` after each of at most `epochs` steps.

        What `report` raises is not to be caught.
        """


@dataclass(frozen=True)
class Watchers:
    """Everything that looks at a fit and does not change it, unless a callback does."""

    validation: Data | None = None
    targets: Any = None  # of validation, as the user gave them
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    callbacks: Sequence[Any] = ()
    progress: bool = False

    def columns(self) -> tuple[str, ...]:
        """Lists that History is to have."""
        found = ["loss"] if self.validation is None else ["loss", "val_loss", *self.metrics]
        return (*found, "time")

    def tell(self, event: str, state: TrainingState) -> None:
        """Call this method of each callback that has it."""
        for callback in self.callbacks:
            method = getattr(callback, event, None)
            if method is not None:
                method(state)

    def tell_end(self, state: TrainingState) -> None:
        """Tell every callback that fit ends, also those behind one that raises."""
        with contextlib.ExitStack() as stack:  # which calls the last one first
            for callback in reversed(self.callbacks):
                method = getattr(callback, "on_fit_end", None)
                if method is not None:
                    stack.callback(method, state)

    def end_epoch(self, state: TrainingState, start: float, loss: float) -> None:
        """An epoch that began at `start` is over: note it, and tell who wants to know."""
        numbers = {"loss": loss, **self._validated(state.net)}
        if state.rule is not None:
            numbers["lr"] = state.lr
        state.history.note({**numbers, "time": clock() - start})
        self.tell("on_epoch_end", state)

    def _validated(self, net: Any) -> dict[str, float]:
        """What there is to note of the validation data."""
        if self.validation is None:
            return {}
        X, Y, weights = self.validation
        model = net.model
        work = memory.empty(kernels.workspace_size(model, len(X)), model.theta.dtype)
        numbers = {"val_loss": float(kernels.loss(model, X, Y, work, weights))}
        if self.metrics:
            outputs = net.predict(X)
            for name, metric in self.metrics.items():
                numbers[name] = checks.number(metric(self.targets, outputs), f"metrics[{name!r}]")
        return numbers


@dataclass(frozen=True)
class Plan:
    """How the samples are gone through.

    batch_size : samples a step, no more than there are. shuffle : in a new order each epoch, which
    rng draws.
    """

    batch_size: int
    rng: np.random.Generator
    shuffle: bool = True


def train(
    state: TrainingState,
    data: Data,
    plan: Plan,
    watchers: Watchers,
    checkpoint: Checkpoint | None = None,
) -> History:
    """Run what is left of ``state.epochs`` over `data`, by minibatches; theta changes in place.

    Everything is checked already.
    """
    history, theta, n = state.history, state.theta, len(data.X)
    epoch_over = _epochs(state, data, plan)
    in_order, last_good = np.arange(n), theta.copy()
    progress = progress_bar(state.epochs, watchers.progress, state.epoch)
    with progress as bar, ended_by_ctrl_c(history):
        while state.epoch < state.epochs and not state.stopped:
            start = clock()
            order = plan.rng.permutation(n) if plan.shuffle else in_order
            loss, done = epoch_over(order)
            if not (math.isfinite(loss) and np.isfinite(theta).all()):
                theta[:] = last_good
                raise DivergedError(state.epoch + 1, done + (not math.isfinite(loss)), history)
            watchers.end_epoch(state, start, loss)
            last_good[:] = theta
            if checkpoint is not None:
                checkpoint.epoch_done(state, plan.rng, watchers.callbacks)
            _show(bar, history, n)
    return history


@contextlib.contextmanager
def watched(state: TrainingState, rng: np.random.Generator, watchers: Watchers) -> Iterator[None]:
    """Tell callbacks when what is inside begins, and ends for whatever reason.

    Where it fails before an epoch is done, theta and rng become what they were.
    """
    theta, drawn = state.theta.copy(), rng.bit_generator.state
    try:
        watchers.tell("on_fit_begin", state)
        try:
            yield
        finally:
            watchers.tell_end(state)
    except BaseException:
        if state.epoch == state.resumed:
            state.theta[:], rng.bit_generator.state = theta, drawn
        raise


def train_on_all(
    state: TrainingState, objective: Objective, optimizer: FullBatch, watchers: Watchers
) -> History:
    """As `train`, with an optimizer that takes every step on all samples."""
    history, theta = state.history, state.theta
    with progress_bar(state.epochs, watchers.progress) as bar, ended_by_ctrl_c(history):
        start = clock()

        def check(at: Array) -> None:
            """Raise DivergedError where no further step can be taken from."""
            if state.epoch < state.epochs:
                loss, grad = objective.fun_and_jac(at)  # as the optimizer will, or has
                if not (math.isfinite(loss) and np.isfinite(grad).all() and np.isfinite(at).all()):
                    raise DivergedError(state.epoch + 1, 1, history)

        def report(moved: Array, loss: float) -> None:
            nonlocal start
            if not math.isfinite(loss) or not np.isfinite(moved).all():
                raise DivergedError(state.epoch + 1, 1, history)
            with np.errstate(all="ignore"):  # moved is float64
                theta[:] = moved
            try:
                watchers.end_epoch(state, start, loss)
            except StopIteration as error:  # of a user's own code: scipy would take it for the end
                raise _ReportError from error
            _show(bar, history, objective.n_samples)
            start = clock()
            if state.stopped:
                raise _ReportError
            check(moved)

        check(theta)
        try:
            optimizer.minimize(objective, theta.copy(), state.epochs, report)
        except _ReportError as end:
            if end.__cause__ is not None:
                raise end.__cause__ from None
    return history


class _ReportError(Exception):
    """A callback has called `stop`, or has raised what is the cause of this."""


def _show(bar: Any, history: History, samples: int) -> None:
    """The last epoch's numbers, behind the bar and the time left."""
    if not bar.disable:
        numbers = {name: f"{x:.4g}" for name, x in history.last().items()}
        speed = bar.format_sizeof(samples / max(history.time[-1], 1e-9))
        advance(bar, {**numbers, "samples/s": speed})


@contextlib.contextmanager
def ended_by_ctrl_c(history: History) -> Iterator[None]:
    """Ctrl-C ends what is inside, and is noted."""
    try:
        yield
    except KeyboardInterrupt:
        history.interrupted = True
        history.drop_unfinished()


def steps_a_call(batch_size: int, n_params: int) -> int:
    """How many steps one call into the kernels takes."""
    return max(1, int(CHUNK / (3 * batch_size * n_params + OVERHEAD)))


def dropout_of(
    shares: Any, n_hidden: int, draw: Callable[[], NDArray[np.uint64]]
) -> kernels.Dropout | None:
    """What is left of each hidden layer, and a seed; None, and nothing drawn, if all units are."""
    found = checks.dropout(shares, n_hidden)
    return kernels.Dropout(keep=1 - np.array(found), seed=draw()) if any(found) else None


def _epochs(
    state: TrainingState, data: Data, plan: Plan
) -> Callable[[NDArray[np.int64]], tuple[float, int]]:
    """A function that takes one epoch over an order of samples: (mean loss, steps done).

    It goes in chunks of whole minibatches, and ends early where the loss is not finite.
    """
    model, rule = state.net.model, state.rule
    assert rule is not None
    batch_size, theta = plan.batch_size, model.theta
    grad = memory.empty(theta.size, theta.dtype)
    work = memory.empty(kernels.workspace_size(model, batch_size), theta.dtype)
    chunk = batch_size * steps_a_call(batch_size, theta.size)

    def epoch(order: NDArray[np.int64]) -> tuple[float, int]:
        before, total, weight = int(rule.count[0]), 0.0, 0.0
        for first in range(0, len(order), chunk):
            some, (X, Y, w) = order[first : first + chunk], data
            found = kernels.fit_epoch(
                model, X, Y, some, batch_size, rule, grad, work, w, state.dropout
            )
            total, weight = total + found[0], weight + found[1]
            if not math.isfinite(total):
                break
        return total / weight, int(rule.count[0]) - before

    return epoch
