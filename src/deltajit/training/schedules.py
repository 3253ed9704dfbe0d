"""Change the learning rate during a fit; a schedule gives all rates before the first update.

Lengths are in epochs. The number of epochs of the fit is passed to a schedule, which need not be
told when it is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deltajit.model import checks
from deltajit.model.memory import Array


class Schedule(Protocol):
    """Describe what `fit` needs of a schedule: one method."""

    def factors(self, epochs: Array, total: int) -> Array:
        """Return the factors of the optimizer's learning rate.

        Parameters
        ----------
        epochs : ndarray of float64, (updates,)
            Epochs done before each update, such as 2.5 in the middle of the third one.
        total : int
            Epochs of the fit.

        Returns
        -------
        ndarray, (updates,)
            A finite factor >= 0 for each update.
        """


@dataclass(frozen=True)
class StepDecay:  # numpydoc ignore=PR02
    """Multiply the learning rate by a factor every few epochs.

    Parameters
    ----------
    every : int
        Epochs between two changes.
    factor : float, > 0
        Factor of each change.

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.

    Examples
    --------
    >>> import numpy as np
    >>> import deltajit as dj
    >>> dj.schedules.StepDecay(2, 0.5).factors(np.arange(5), 5)
    array([1.  , 1.  , 0.5 , 0.5 , 0.25])
    """

    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        checks.whole(self.every, "every")
        checks.above_zero(self.factor, "factor")

    def factors(self, epochs: Array, total: int) -> Array:
        """Return ``factor ** (epochs // every)``: see `Schedule.factors`."""
        return np.asarray(self.factor ** (epochs // self.every))


@dataclass(frozen=True)
class ExponentialDecay:  # numpydoc ignore=PR02
    """Multiply the learning rate by a factor each epoch, little by little with each update.

    Parameters
    ----------
    factor : float, > 0
        Factor of one epoch.

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.
    """

    factor: float

    def __post_init__(self) -> None:
        checks.above_zero(self.factor, "factor")

    def factors(self, epochs: Array, total: int) -> Array:
        """Return ``factor ** epochs``: see `Schedule.factors`."""
        return np.asarray(self.factor**epochs)


@dataclass(frozen=True)
class CosineDecay:  # numpydoc ignore=PR02
    """Lower the learning rate from lr to ``floor * lr`` along half a cosine wave [1]_.

    Parameters
    ----------
    warmup : float, >= 0
        Epochs before, in which the rate rises linearly to lr.
    floor : float, 0 <= floor < 1
        Last rate as a share of lr.

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.

    References
    ----------
    .. [1] Loshchilov & Hutter (2017), SGDR: Stochastic gradient descent with warm restarts, ICLR.
    """

    warmup: float = 0.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        checks.real(self.warmup, "warmup", least=0)
        checks.fraction(self.floor, "floor")

    def factors(self, epochs: Array, total: int) -> Array:
        """Return factors that rise during the warmup, then fall to `floor`: see `Schedule.factors`.

        Raises
        ------
        ValueError
            The warmup is as long as the fit, or longer.
        """
        if self.warmup >= total > 0:
            raise ValueError(f"warmup must be less than epochs={total}, got {self.warmup}")
        done = np.clip((epochs - self.warmup) / max(total - self.warmup, 1e-300), 0, 1)
        down = _between(1.0, self.floor, done)
        if self.warmup == 0:
            return down
        first = epochs[1] if epochs.size > 1 else self.warmup  # the first update is not at 0
        rising = (epochs + first) / (self.warmup + first)
        return np.asarray(np.where(epochs < self.warmup, rising, down))


@dataclass(frozen=True)
class OneCycle:  # numpydoc ignore=PR02
    """Raise the learning rate from ``lr / start`` to lr, and lower it to ``lr / end`` [1]_.

    Parameters
    ----------
    warmup : float, 0 <= warmup < 1
        Share of all updates in which the rate rises.
    start, end : float, >= 1
        Divisors of lr at the first and at the last update.

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.

    References
    ----------
    .. [1] Smith & Topin (2019), Super-convergence: very fast training of neural networks using
       large learning rates, SPIE 11006.
    """

    warmup: float = 0.3
    start: float = 25.0
    end: float = 1e5

    def __post_init__(self) -> None:
        checks.fraction(self.warmup, "warmup")
        checks.real(self.start, "start", least=1)
        checks.real(self.end, "end", least=1)

    def factors(self, epochs: Array, total: int) -> Array:
        """Return factors that rise from ``1 / start`` to 1, then fall to ``1 / end``."""
        done = epochs / max(total, 1)
        up = _between(1 / self.start, 1.0, np.clip(done / max(self.warmup, 1e-300), 0, 1))
        down = _between(1.0, 1 / self.end, np.clip((done - self.warmup) / (1 - self.warmup), 0, 1))
        return np.asarray(np.where(done < self.warmup, up, down))


def rates(schedule: Schedule | None, lr: float, epochs: int, steps: int) -> Array:
    """Compute the rate of each update of a fit: (epochs * steps,), or (1,) without a schedule.

    Raise ValueError unless all are finite and >= 0.
    """
    if schedule is None:
        return np.array([checks.real(lr, "the optimizer's lr", least=0)])
    done = np.arange(max(epochs * steps, 1)) / steps
    factors = np.asarray(schedule.factors(done, epochs))
    if factors.shape not in (done.shape, ()) or factors.dtype.kind not in "fiub":
        raise ValueError(
            f"schedule={schedule!r} must give one number, or {done.size}, one an update; got "
            f"{factors.dtype.name} {factors.shape}"
        )
    factors = np.broadcast_to(factors, done.shape)
    each: Array = np.ascontiguousarray(lr * factors, np.float64)
    wrong = ~((each >= 0) & np.isfinite(each))
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(
            f"schedule={schedule!r} must give finite factors >= 0, got {factors[i]} for update "
            f"{i + 1} of {done.size}"
        )
    return each


def _between(first: float, last: float, done: Array) -> Array:
    """Interpolate from `first` to `last` along half a cosine wave."""
    return np.asarray(last + (first - last) * (1 + np.cos(math.pi * done)) / 2)
