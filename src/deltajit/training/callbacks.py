"""Watch a fit while it runs, change its learning rate, or end it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deltajit.model import checks
from deltajit.training.history import TrainingState


class Callback:
    """Receive the events of a fit; a subclass overrides the methods that it needs.

    A checkpoint keeps what `state_dict` returns: arrays, numbers, strings, None, and lists and
    dicts of these. It is first asked for right after `on_fit_begin`, to see that it can be written.

    Examples
    --------
    >>> import deltajit as dj
    >>> class StopAt(dj.callbacks.Callback):
    ...     def on_epoch_end(self, state):
    ...         if state.loss < 0.1:
    ...             state.stop()
    >>> net = dj.Network([1, 1], init="zeros")
    >>> history = net.fit([[1.0]], [0.1], callbacks=[StopAt()], progress=False)
    >>> len(history.loss)
    1
    """

    def on_fit_begin(self, state: TrainingState) -> None:
        """Prepare for a fit, before its first epoch.

        Parameters
        ----------
        state : TrainingState
            The fit under way.
        """

    def on_epoch_end(self, state: TrainingState) -> None:
        """React to the end of an epoch, whose losses `state.history` has.

        Parameters
        ----------
        state : TrainingState
            The fit under way.
        """

    def on_fit_resume(self, state: TrainingState) -> None:
        """Prepare for the rest of a fit that goes on from a checkpoint, after `load_state_dict`.

        Parameters
        ----------
        state : TrainingState
            The fit under way.
        """

    def on_fit_end(self, state: TrainingState) -> None:
        """React to the end of a fit: by its last epoch, `state.stop()`, Ctrl-C or any error.

        Parameters
        ----------
        state : TrainingState
            The fit that ends.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of this callback.

        Returns
        -------
        dict
            Arrays, numbers, strings, None, and lists and dicts of these, by name.
        """
        return {}

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned.

        Parameters
        ----------
        kept : dict
            The state, as a checkpoint kept it.
        """


class _Watcher(Callback):
    """Watch one number of History, which has to go down."""

    def __init__(self, monitor: str, patience: int, min_delta: float) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be a name such as 'val_loss', got {monitor!r}")
        self.monitor = monitor
        self.patience = checks.whole(patience, "patience")
        self.min_delta = checks.real(min_delta, "min_delta", least=0)

    def on_fit_begin(self, state: TrainingState) -> None:
        """Forget the losses of any earlier fit."""
        state.check_column(self.monitor)
        self.best, self.best_epoch, self._since = math.inf, 0, 0

    def _improves(self, state: TrainingState) -> bool:
        """Return whether the last epoch was the best by more than `min_delta`."""
        value = state.value_of(self.monitor)
        if value < self.best - self.min_delta:
            self.best, self.best_epoch, self._since = value, state.epoch, 0
            return True
        self._since += 1
        return False

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far, and how long ago it was."""
        return {"best": self.best, "best_epoch": self.best_epoch, "since": self._since}

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Restore the best value so far, and how long ago it was."""
        self.best = float(kept["best"])
        self.best_epoch = checks.whole(kept["best_epoch"], "best_epoch", least=0)
        self._since = checks.whole(kept["since"], "since", least=0)


class EarlyStopping(_Watcher):
    """End a fit when a loss has not improved for some epochs, and restore the best epoch's theta.

    Parameters
    ----------
    patience : int
        Epochs without improvement after which the fit ends. A fit that has ended goes on from its
        checkpoint if it is given more patience.
    min_delta : float, >= 0
        Decrease below the best loss that counts as an improvement.
    monitor : str
        List of `History` to watch, which has to go down: "loss", "val_loss" or a metric.
    restore_best : bool
        Whether theta returns to that of the best epoch, also where the fit ends by Ctrl-C, by
        DivergedError, or by an error in another callback.

    Attributes
    ----------
    best : float
        Least value so far.
    best_epoch : int
        Epoch that had it, counted from 1.

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.

    Examples
    --------
    >>> import deltajit as dj
    >>> net = dj.Network([1, 1], init="zeros")
    >>> stopping = dj.EarlyStopping(patience=2, monitor="loss")
    >>> history = net.fit([[1.0]], [0.0], 50, callbacks=[stopping], progress=False)
    >>> len(history.loss)  # there is nothing to learn: epoch 1, and two without improvement
    3
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
        """Forget the losses of any earlier fit, and keep theta as the best."""
        super().on_fit_begin(state)
        self._theta, self._ended = state.theta.copy(), False

    def on_epoch_end(self, state: TrainingState) -> None:
        """Keep theta if the epoch was the best so far; end the fit if none has been for long."""
        if self._improves(state):
            self._theta[:] = state.theta
        else:
            self._end_if_due(state)

    def on_fit_resume(self, state: TrainingState) -> None:
        """Decide again whether the fit is over, by this instance's patience."""
        if self._ended:
            self._ended = state.stopped = False
        self._end_if_due(state)

    def _end_if_due(self, state: TrainingState) -> None:
        if self._since >= self.patience:
            self._ended = True
            state.stop()

    def on_fit_end(self, state: TrainingState) -> None:
        """Restore the best epoch's theta."""
        if self.restore_best and self.best_epoch > 0:
            state.theta[:] = self._theta

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far, and its theta."""
        return {**super().state_dict(), "theta": self._theta, "ended": self._ended}

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Restore the best value so far, and its theta."""
        super().load_state_dict(kept)
        theta = checks.shaped(kept["theta"], "theta", self._theta.shape, self._theta.dtype)
        if not isinstance(kept["ended"], bool):
            raise TypeError(f"ended must be true or false, got {kept['ended']!r}")
        self._theta, self._ended = theta.copy(), kept["ended"]


class ReduceLROnPlateau(_Watcher):
    """Lower the learning rate when a loss has not improved for some epochs.

    Parameters
    ----------
    factor : float, 0 < factor < 1
        Factor of the learning rate; with a schedule, of the rates of all further updates.
    patience : int
        Epochs without improvement after which the rate is lowered.
    min_delta : float, >= 0
        Decrease below the best loss that counts as an improvement.
    monitor : str
        List of `History` to watch, which has to go down: "loss", "val_loss" or a metric.
    min_lr : float, >= 0
        Least learning rate.

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.
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
        """Lower the learning rate if the loss has been on a plateau for long."""
        if not self._improves(state) and self._since >= self.patience:
            state.lr = max(self.min_lr, self.factor * state.lr)
            self._since = 0


class WeightAveraging(Callback):
    """Average theta over epochs, and end the fit with the average.

    The average of the last epochs at a high learning rate often generalizes better than theta
    itself (Izmailov et al. 2018). During the fit, losses and other callbacks are of theta; one that
    sets theta when the fit ends, as `EarlyStopping` does, should come before this one.

    Parameters
    ----------
    start : int
        First epoch, counted from 1, that is averaged. If the fit ends before, theta stays.
    decay : float, optional
        Share, in [0, 1), that the average keeps at each epoch: an exponential moving average. None
        is the plain mean of all epochs since `start`.

    Attributes
    ----------
    theta : ndarray, (n_params,)
        The average so far.
    count : int
        Number of epochs in it.

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.

    Examples
    --------
    >>> import deltajit as dj
    >>> net = dj.Network([1, 1], init="zeros")
    >>> average = dj.WeightAveraging(start=6)
    >>> history = net.fit([[1.0]], [0.5], 10, callbacks=[average], progress=False)
    >>> average.count
    5
    """

    def __init__(self, start: int = 1, decay: float | None = None) -> None:
        self.start = checks.whole(start, "start")
        if decay is not None:
            checks.fraction(decay, "decay")
        self.decay = decay

    def on_fit_begin(self, state: TrainingState) -> None:
        """Forget the average of any earlier fit."""
        self.theta, self.count = state.theta.astype(np.float64), 0

    def on_epoch_end(self, state: TrainingState) -> None:
        """Take theta into the average."""
        if state.epoch < self.start:
            return
        self.count += 1
        kept = (self.count - 1) / self.count if self.decay is None else self.decay
        kept = 0.0 if self.count == 1 else kept
        self.theta += (1 - kept) * (state.theta - self.theta)

    def on_fit_end(self, state: TrainingState) -> None:
        """Set theta to the average, if there is one."""
        if self.count:
            state.theta[:] = self.theta

    def state_dict(self) -> dict[str, Any]:
        """Return the average so far."""
        return {"theta": self.theta, "count": self.count}

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Restore the average so far."""
        theta = checks.shaped(kept["theta"], "theta", self.theta.shape, self.theta.dtype)
        self.theta, self.count = theta.copy(), checks.whole(kept["count"], "count", least=0)
