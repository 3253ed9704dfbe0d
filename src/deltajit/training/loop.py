"""The loop over epochs. Whatever trains, by whichever optimizer, goes through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltajit.training.history import History, TrainingState
from deltajit.training.progress import advance, clock, progress_bar

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

    def __init__(self, epoch: int, step: int, history: History, resumed: int = 0) -> None:
        before = f"after epoch {epoch - 1}" if epoch > resumed + 1 else "before fit"
        super().__init__(
            f"the loss is not finite in epoch {epoch}, step {step}; theta went back to what it was "
            f"{before}. A smaller learning rate, or scaled inputs and targets, may help"
        )
        self.epoch, self.step, self.history, self._resumed = epoch, step, history, resumed

    def __reduce__(self) -> tuple[Any, ...]:
        given = self.epoch, self.step, self.history, self._resumed
        return type(self), given, self.__dict__


class Loop:
    """Goes through the epochs of a fit until there are enough, or `state.stop()`, or Ctrl-C.

    Parameters
    ----------
    state : TrainingState
    note : function
        ``note(loss, start)`` takes down an epoch that began at the time `start` of `clock`.
    samples : int
        Samples in an epoch, for the speed beside the progress bar.
    progress : bool
        Show the bar, if there is a terminal.
    """

    def __init__(
        self,
        state: TrainingState,
        note: Callable[[Any, float], None],
        samples: int,
        progress: bool = False,
    ) -> None:
        self.state, self._note, self._samples, self._progress = state, note, samples, progress

    def run(self, epoch: Callable[[], Any]) -> History:
        """Call `epoch`, which trains on all samples once and returns its loss, again and again."""

        def epochs() -> None:
            while not self.state.is_over:
                self.end_epoch(epoch())

        return self.drive(epochs)

    def drive(self, train: Callable[[], None]) -> History:
        """Call `train` once, which calls `end_epoch` itself after each of its steps."""
        state = self.state
        with progress_bar(state.epochs, self._progress, state.epoch) as bar:
            self._bar, self._start = bar, clock()
            try:
                train()
            except KeyboardInterrupt:
                state.history.interrupted = True
                state.history.drop_unfinished()
        return state.history

    def end_epoch(self, loss: Any) -> None:
        """Take down that an epoch is over, with this loss, and show it."""
        self._note(loss, self._start)
        if not self._bar.disable:
            history = self.state.history
            numbers = {name: f"{_typical(x):.4g}" for name, x in history.last().items()}
            speed = self._bar.format_sizeof(self._samples / max(history.time[-1], 1e-9))
            advance(self._bar, {**numbers, "samples/s": speed})
        self._start = clock()


def _typical(x: Any) -> float:
    """A number, or the mean of those members of an ensemble that have not diverged."""
    return float(np.nanmean(x)) if np.ndim(x) else float(x)


def pieces(
    order: NDArray[np.int64], batch_size: int, n_params: int, most: float = np.inf
) -> Iterator[NDArray[np.int64]]:
    """Cut an order of samples into whole minibatches, at most so many for one call of a kernel."""
    size = batch_size * int(max(1, min(most, epochs_a_call(batch_size, n_params))))
    for first in range(0, len(order), size):
        yield order[first : first + size]


def epochs_a_call(batch_size: int, n_params: int, steps: int = 1) -> int:
    """How many epochs of so many steps, at least 1, one call into the kernels may take."""
    return max(1, int(CHUNK / (steps * (3 * batch_size * n_params + OVERHEAD))))
