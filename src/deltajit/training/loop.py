"""Loop over the epochs of a fit: networks, ensembles and estimators, with any optimizer.

`Network.fit` comes here by `fitting.fit`, which checks its arguments and hands `Loop.run` the
function of `minibatches.epochs` that trains for one epoch: by the kernel `epoch_of`, where the loop
over minibatches is, or by `second_order` for GaussNewtonCG and KFAC. LBFGS and LevenbergMarquardt
come by `full_batch.train` and `Loop.drive`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltajit.training.history import History, TrainingState, typical
from deltajit.training.progress import advance, clock, progress_bar

# Ctrl-C is heard between calls of kernels, so a call does about CHUNK multiply-adds, which take
# some milliseconds. A step of the smallest network takes as long as OVERHEAD of them.
CHUNK, OVERHEAD = 2e8, 3000


class DivergedError(ArithmeticError):
    """Report that the loss became NaN or infinite; theta returns to that of the last good epoch.

    Callbacks are told that the fit ends: `EarlyStopping` goes further back, to its best epoch.

    Parameters
    ----------
    epoch, step : int
        Place of the failure, counted from 1.
    history : History
        Losses of the epochs before.
    resumed : int
        Epochs that were done when the fit began.
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
    """Go through the epochs of a fit, until all are done, or `state.stop()`, or Ctrl-C.

    ``note(loss, start)`` records an epoch that began at `start` of `clock`; `samples` are those of
    an epoch, for the speed beside the progress bar; 0 if nobody knows.
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
        """Train by ``epoch()``, which trains for one epoch and returns its loss."""

        def epochs() -> None:
            while not self.state.is_over:
                self.end_epoch(epoch())

        return self.drive(epochs)

    def drive(self, train: Callable[[], None]) -> History:
        """Train by a function that loops itself, calling `end_epoch`, as scipy's minimizers do."""
        state = self.state
        try:
            with progress_bar(state.epochs, self._progress, state.epoch) as bar:
                self._bar, self._start = bar, clock()
                train()
        except KeyboardInterrupt:
            state.history.interrupted = True
            state.history.drop_unfinished()
        return state.history

    def end_epoch(self, loss: Any) -> None:
        """Record the end of an epoch, and show it in the progress bar."""
        self._note(loss, self._start)
        if not self._bar.disable:
            history = self.state.history
            numbers = {name: f"{typical(x):.4g}" for name, x in history.last().items()}
            if self._samples:
                speed = self._bar.format_sizeof(self._samples / max(history.time[-1], 1e-9))
                numbers["samples/s"] = speed
            advance(self._bar, numbers)
        self._start = clock()


def pieces(
    order: NDArray[np.int64], batch_size: int, n_params: int, most: float = np.inf
) -> Iterator[NDArray[np.int64]]:
    """Cut an order of samples into whole minibatches, at most `most` for each call of a kernel."""
    size = batch_size * int(max(1, min(most, epochs_a_call(batch_size, n_params))))
    for first in range(0, len(order), size):
        yield order[first : first + size]


def epochs_a_call(batch_size: int, n_params: int, steps: int = 1) -> int:
    """Return how many epochs of so many steps one call of a kernel may take, at least 1."""
    return max(1, int(CHUNK / (steps * (3 * batch_size * n_params + OVERHEAD))))
