"""Record the losses of a fit, and show a fit under way to its callbacks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deltajit import kernels
from deltajit.model import checks
from deltajit.model.memory import Array
from deltajit.plot import epochs, notebook


@dataclass
class History:
    """Hold the losses of a fit, epoch by epoch; of an `Ensemble` each is an array (n_members,).

    All lists that are not empty have one length: where a resumed fit adds validation data or
    metrics, the epochs before have NaN.

    Attributes
    ----------
    loss : list of float
        Mean of the minibatches' losses, each taken before its step.
    val_loss : list of float
        Loss on validation_data after the epoch; empty without validation_data.
    metrics : dict of list of float
        Metrics of validation_data after the epoch, by name.
    lr : list of float
        Learning rate at the end of the epoch; empty for an optimizer without one.
    time : list of float
        Seconds that the epoch took, with validation but without compilation.
    interrupted : bool
        Whether Ctrl-C ended the fit early; theta is then that of the last finished step.
    """

    loss: list[Any] = field(default_factory=list)
    val_loss: list[Any] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    lr: list[float] = field(default_factory=list)
    time: list[float] = field(default_factory=list)
    interrupted: bool = False

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the lists by name, those of metrics too, without empty ones.

        Returns
        -------
        dict of list
            Copies of the lists, for a data frame, say.
        """
        columns = {"loss": self.loss, "val_loss": self.val_loss, **self.metrics}
        columns |= {"lr": self.lr, "time": self.time}
        return {name: list(column) for name, column in columns.items() if column}

    def note(self, numbers: Mapping[str, float | Array]) -> None:
        """Append the numbers of an epoch.

        Parameters
        ----------
        numbers : mapping of str to float
            Losses, metrics and the learning rate by name; "time" comes with the last of them.
        """
        columns: dict[str, list[Any]]
        columns = {"loss": self.loss, "val_loss": self.val_loss, "lr": self.lr, **self.metrics}
        for name in numbers:
            if name not in columns and name != "time":
                columns[name] = self.metrics[name] = []
        columns["time"], before = self.time, len(self.time)
        for name, column in columns.items():
            if column or name in numbers:
                column += [math.nan] * (before - len(column)) + [numbers.get(name, math.nan)]

    def drop_unfinished(self) -> None:
        """Drop the numbers of an epoch whose time is missing, because it was interrupted."""
        for column in (self.loss, self.val_loss, self.lr, *self.metrics.values()):
            del column[len(self.time) :]

    def last(self) -> dict[str, float]:
        """Return the losses and metrics of the last epoch.

        Returns
        -------
        dict of float
            Numbers by name.
        """
        columns = self.to_dict().items()
        return {name: column[-1] for name, column in columns if name not in ("lr", "time")}

    def plot(self, **options: Any) -> Any:
        """Draw the losses over the epochs.

        Parameters
        ----------
        **options
            Options of `deltajit.plot.history`.

        Returns
        -------
        matplotlib.axes.Axes
            The Axes drawn on.

        Raises
        ------
        ValueError, TypeError
            There are no epochs, or an option is wrong.
        """
        return epochs.draw(self.loss, self.val_loss, **options)

    def _repr_html_(self) -> str:
        n, seconds = len(self.time), sum(self.time)
        title = f"History of {n:,} epoch{'s' * (n != 1)}, {seconds:.3g} s"
        columns = {name: np.array(x, float) for name, x in self.to_dict().items() if name != "time"}
        rows = [
            (name, f"{_middle(x[0]):.4g}", f"{_middle(x[-1]):.4g}") for name, x in columns.items()
        ]
        curves = [columns[name] for name in ("loss", "val_loss") if name in columns]
        is_drawn = curves and all(np.isfinite(curve).any() for curve in curves)
        head = "", "first epoch", "last epoch"
        return notebook.face(
            title + ", interrupted" * self.interrupted,
            [head, *rows],
            (lambda ax: self.plot(ax=ax)) if is_drawn else None,
        )


def typical(x: Any) -> float:
    """Return a number itself, or the mean over those members that have not diverged."""
    known = np.atleast_1d(x)[~np.isnan(np.atleast_1d(x))]
    return float(known.mean()) if known.size else math.nan


def _middle(x: Array) -> float:
    """Return a number itself, or the median of the finite ones of an ensemble's members."""
    finite = x[np.isfinite(x)]
    return float(np.median(finite)) if finite.size else math.nan


@dataclass
class TrainingState:
    """Show a fit under way to its callbacks.

    Attributes
    ----------
    net : Network or Ensemble
        The network in training; its theta may be changed in place.
    rule : deltajit.kernels.Rule or None
        State of the optimizer; None for LBFGS and LevenbergMarquardt.
    history : History
        Losses so far; the last elements are those of the epoch that has just ended.
    epochs : int
        Number of epochs of the fit.
    columns : tuple of str
        Names of the lists that `history` gets, those of metrics too.
    dropout : deltajit.kernels.Dropout or None
        Shares of units that are left out, and the seed that draws them.
    resumed : int
        Number of epochs that a checkpoint has brought along.
    stopped : bool
        Whether `stop` has been called.
    optimizer : object
        Optimizer of the fit, as it was given to `Network.fit`; None elsewhere.
    """

    net: Any
    rule: kernels.Rule | None
    history: History
    epochs: int
    columns: tuple[str, ...]
    dropout: kernels.Dropout | None = None
    resumed: int = 0
    stopped: bool = False
    optimizer: Any = None

    @property
    def theta(self) -> Array:
        """Return the network's theta, which may be changed in place."""
        theta: Array = self.net.theta
        return theta

    @property
    def epoch(self) -> int:
        """Return the number of epochs done."""
        return len(self.history.loss)

    @property
    def is_over(self) -> bool:
        """Return whether no epoch follows."""
        return self.stopped or self.epoch >= self.epochs

    @property
    def loss(self) -> float:
        """Return the training loss of the last epoch, of an `Ensemble` the members' mean."""
        return self.value_of("loss")

    @property
    def val_loss(self) -> float:
        """Return the validation loss of the last epoch, of an `Ensemble` the members' mean."""
        return self.value_of("val_loss")

    def value_of(self, name: str) -> float:
        """Return the last element of a list of `history`.

        Parameters
        ----------
        name : str
            Name of the list, or of a metric.

        Returns
        -------
        float
            The number of the last epoch; of an `Ensemble` the mean over members that go on.

        Raises
        ------
        ValueError
            The history has no such list.
        """
        self.check_column(name)
        return typical(self.history.to_dict()[name][-1])

    def check_column(self, name: str) -> None:
        """Check that `history` gets a list of that name.

        Parameters
        ----------
        name : str
            Name of a list, or of a metric.

        Raises
        ------
        ValueError
            The history gets no such list.
        """
        if name not in self.columns:
            hint = "; fit needs validation_data" if name == "val_loss" else ""
            raise ValueError(f"History has no {name!r}, only {', '.join(self.columns)}{hint}")

    @property
    def lr(self) -> float:
        """Return the learning rate of the next update; setting it scales all later ones too."""
        rates, i = self._rates()
        return float(rates[i])

    @lr.setter
    def lr(self, value: float) -> None:  # numpydoc ignore=GL08
        rate = checks.real(value, "lr", least=0)
        rates, i = self._rates()
        with np.errstate(all="ignore"):
            later = rates[i:] * (rate / rates[i]) if rates[i] else np.full(rates.size - i, rate)
        later[0] = rate  # which the quotient may miss by a rounding
        if not np.isfinite(later).all():
            raise ValueError(f"lr={value!r} would scale later rates of the schedule to infinity")
        rates[i:] = later

    def _rates(self) -> tuple[Array, int]:
        if self.rule is None:
            raise AttributeError("this optimizer has no learning rate")
        return self.rule.rates, min(int(self.rule.count.max()), self.rule.rates.size - 1)

    def stop(self) -> None:
        """End the fit after this epoch."""
        self.stopped = True
