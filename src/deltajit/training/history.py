"""What fit saw, and what those who watch it see while it runs."""

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
    """What fit saw, epoch by epoch; of an `Ensemble` each loss is an array (n_members,).

    Columns that are not empty are of one length: a fit that is resumed with other validation data
    or metrics has NaN in the epochs that were without.

    Attributes
    ----------
    loss : list of float
        Mean of the minibatches' losses, each taken before its step.
    val_loss : list of float
        Loss on validation_data after the epoch; empty without validation_data.
    metrics : dict of list of float
        What `metrics` of fit gave on validation_data.
    lr : list of float
        Learning rate at the end of the epoch; empty where an optimizer has none.
    time : list of float
        Seconds that the epoch took, validation included, compiling not.
    interrupted : bool
        Whether Ctrl-C ended fit early; theta is then that of the last finished step.
    """

    loss: list[Any] = field(default_factory=list)
    val_loss: list[Any] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    lr: list[float] = field(default_factory=list)
    time: list[float] = field(default_factory=list)
    interrupted: bool = False

    def to_dict(self) -> dict[str, list[Any]]:
        """Columns by name, those of metrics among them; what is empty is left out."""
        columns = {"loss": self.loss, "val_loss": self.val_loss, **self.metrics}
        columns |= {"lr": self.lr, "time": self.time}
        return {name: list(column) for name, column in columns.items() if column}

    def note(self, numbers: Mapping[str, float]) -> None:
        """Append an epoch's numbers by name, metrics among them; "time" says that they are all."""
        columns = {"loss": self.loss, "val_loss": self.val_loss, "lr": self.lr, **self.metrics}
        for name in numbers:
            if name not in columns and name != "time":
                columns[name] = self.metrics[name] = []
        columns["time"], before = self.time, len(self.time)
        for name, column in columns.items():
            if column or name in numbers:
                column += [math.nan] * (before - len(column)) + [numbers.get(name, math.nan)]

    def drop_unfinished(self) -> None:
        """Forget what is noted of an epoch whose time is not, the last thing to be."""
        for column in (self.loss, self.val_loss, self.lr, *self.metrics.values()):
            del column[len(self.time) :]

    def last(self) -> dict[str, float]:
        """What is of interest of the last epoch."""
        found = {name: column[-1] for name, column in self.to_dict().items()}
        return {name: x for name, x in found.items() if name not in ("lr", "time")}

    def plot(self, **options: Any) -> Any:
        """Draw the losses: `deltajit.plot.history` with its options; returns the Axes."""
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


def _middle(x: Array) -> float:
    """A number, or the median of those members of an ensemble that have not diverged."""
    finite = x[np.isfinite(x)]
    return float(np.median(finite)) if finite.size else math.nan


@dataclass
class TrainingState:
    """A fit under way, as callbacks see it.

    Attributes
    ----------
    net : Network or Ensemble
        Also for predictions; its theta may be changed in place.
    rule : deltajit.kernels.Rule or None
        The optimizer's state; None where the optimizer is LBFGS or LevenbergMarquardt.
    history : History
        The last elements of its lists are those of the epoch that has just ended.
    epochs : int
        How many there are to be.
    columns : tuple of str
        Lists that `history` is to have, those of metrics among them.
    dropout : deltajit.kernels.Dropout or None
        Which units are left out.
    resumed : int
        Epochs that a checkpoint brought along.
    stopped : bool
        Whether somebody has called `stop`.
    """

    net: Any
    rule: kernels.Rule | None
    history: History
    epochs: int
    columns: tuple[str, ...]
    dropout: kernels.Dropout | None = None
    resumed: int = 0
    stopped: bool = False

    @property
    def theta(self) -> Array:
        """Of the network, to be changed in place."""
        theta: Array = self.net.theta
        return theta

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history.loss)

    @property
    def is_over(self) -> bool:
        """Whether no epoch is to follow."""
        return self.stopped or self.epoch >= self.epochs

    @property
    def loss(self) -> float:
        """Training loss of the last epoch."""
        return self.value_of("loss")

    @property
    def val_loss(self) -> float:
        """Validation loss of the last epoch."""
        return self.value_of("val_loss")

    def value_of(self, name: str) -> float:
        """The last element of a list of `history`, or of its metrics."""
        self.check_column(name)
        return float(self.history.to_dict()[name][-1])

    def check_column(self, name: str) -> None:
        """Raise ValueError if `history` is to have no such list."""
        if name not in self.columns:
            hint = "; fit needs validation_data" if name == "val_loss" else ""
            raise ValueError(f"History has no {name!r}, only {', '.join(self.columns)}{hint}")

    @property
    def lr(self) -> float:
        """Learning rate of the next update; with a schedule, setting it scales all that follow."""
        rates, i = self._rates()
        return float(rates[i])

    @lr.setter
    def lr(self, value: float) -> None:
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
        return self.rule.rates, min(int(self.rule.count[0]), self.rule.rates.size - 1)

    def stop(self) -> None:
        """End fit after this epoch."""
        self.stopped = True
