"""What may look at a fit under way, change its learning rate, and end it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deltajit.model import checks
from deltajit.training.history import TrainingState


class Callback:
    """Base class: override what you need.

    An instance that a checkpoint is to remember returns numbers, strings, None, lists and dicts of
    these, and arrays, in `state_dict`, and takes them back in `load_state_dict`. fit asks for them
    first after `on_fit_begin`, to see that they can be written.
    """

    def on_fit_begin(self, state: TrainingState) -> None:
        """Before the first epoch."""

    def on_epoch_end(self, state: TrainingState) -> None:
        """After each epoch, when `state.history` has its losses."""

    def on_fit_resume(self, state: TrainingState) -> None:
        """After `on_fit_begin` and `load_state_dict`, where fit goes on from a checkpoint."""

    def on_fit_end(self, state: TrainingState) -> None:
        """When fit ends: after the last epoch, by `state.stop()`, by Ctrl-C or by any error."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback."""
        return {}

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""


class _Watcher(Callback):
    """Watches one number of History, which has to go down."""

    def __init__(self, monitor: str, patience: int, min_delta: float) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be a name such as 'val_loss', got {monitor!r}")
        self.monitor = monitor
        self.patience = checks.whole(patience, "patience")
        self.min_delta = checks.real(min_delta, "min_delta", least=0)

    def on_fit_begin(self, state: TrainingState) -> None:
        """Nothing has been seen yet."""
        state.check_column(self.monitor)
        self.best, self.best_epoch, self._since = math.inf, 0, 0

    def _improves(self, state: TrainingState) -> bool:
        """Whether the last epoch was the best by at least `min_delta`."""
        value = state.value_of(self.monitor)
        if value < self.best - self.min_delta:
            self.best, self.best_epoch, self._since = value, state.epoch, 0
            return True
        self._since += 1
        return False

    def state_dict(self) -> dict[str, Any]:
        """The best so far, and how long ago it was."""
        return {"best": self.best, "best_epoch": self.best_epoch, "since": self._since}

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.best, self.best_epoch, self._since = kept["best"], kept["best_epoch"], kept["since"]


class EarlyStopping(_Watcher):
    """End fit when a loss has not improved for some epochs; theta is then that of the best epoch.

    Parameters
    ----------
    patience : int
        Epochs without improvement after which fit ends. One that had ended goes on from its
        checkpoint where there is more patience now.
    min_delta : float, >= 0
        What counts as improvement.
    monitor : str
        A list of `History`, "val_loss" by default; of metrics the negative is a loss.
    restore_best : bool
        Whether theta goes back to the best epoch's, also where fit ends for another reason: by
        Ctrl-C, by DivergedError, or by an error in another callback.

    Attributes
    ----------
    best, best_epoch
        The least value, and the epoch (from 1) that had it.
    """

    def __init__(
        self,
        patience: int = 10,
        min_delta: float = 0.0,
        monitor: str = "val_loss",
        restore_best: bool = True,
    ) -> None:
        super().__init__(monitor, patience, min_delta)
        self.restore_best = bool(restore_best)

    def on_fit_begin(self, state: TrainingState) -> None:
        """Nothing has been seen yet."""
        super().on_fit_begin(state)
        self._theta, self._ended = state.theta.copy(), False

    def on_epoch_end(self, state: TrainingState) -> None:
        """Keep theta if it is the best so far; end fit if none has been for long."""
        if self._improves(state):
            self._theta[:] = state.theta
        else:
            self._end_if_due(state)

    def on_fit_resume(self, state: TrainingState) -> None:
        """Decide again whether fit is over, by the patience that there is now."""
        if self._ended:
            self._ended = state.stopped = False
        self._end_if_due(state)

    def _end_if_due(self, state: TrainingState) -> None:
        if self._since >= self.patience:
            self._ended = True
            state.stop()

    def on_fit_end(self, state: TrainingState) -> None:
        """Back to the best theta."""
        if self.restore_best and self.best_epoch > 0:
            state.theta[:] = self._theta

    def state_dict(self) -> dict[str, Any]:
        """The best so far, and its theta."""
        return {**super().state_dict(), "theta": self._theta, "ended": self._ended}

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(kept)
        self._theta, self._ended = np.array(kept["theta"]), kept["ended"]


class ReduceLROnPlateau(_Watcher):
    """Lower the learning rate when a loss has not improved for some epochs.

    Parameters
    ----------
    factor : float, 0 < factor < 1
        What the rate is multiplied by; with a schedule, those of all further updates.
    patience : int
        Epochs without improvement.
    min_delta : float, >= 0
        What counts as improvement.
    monitor : str
        As for `EarlyStopping`.
    min_lr : float, >= 0
        Not below this.
    """

    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 0.0,
        monitor: str = "val_loss",
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, patience, min_delta)
        checks.above_zero(factor, "factor")
        checks.fraction(factor, "factor")
        self.factor, self.min_lr = float(factor), checks.real(min_lr, "min_lr", least=0)

    def on_epoch_end(self, state: TrainingState) -> None:
        """Lower the rate if the loss has been on a plateau for long."""
        if not self._improves(state) and self._since >= self.patience:
            state.lr = max(self.min_lr, self.factor * state.lr)
            self._since = 0
