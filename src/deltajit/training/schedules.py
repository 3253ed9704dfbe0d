"""Learning rates over a fit: each schedule gives the rate of every update before the first one.

fit knows how many updates there will be, so a schedule need not be told. Lengths are in epochs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deltajit.model import checks
from deltajit.model.memory import Array


class Schedule(Protocol):
    """What fit needs of a schedule."""

    def factors(self, epochs: Array, total: int) -> Array:
        """What the optimizer's lr is multiplied by, after so many epochs (fractions) of `total`."""


@dataclass(frozen=True)
class StepDecay:
    """lr times `factor` every so many epochs.

    Parameters
    ----------
    every : int
        Epochs.
    factor : float, > 0
    """

    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        checks.whole(self.every, "every")
        checks.above_zero(self.factor, "factor")

    def factors(self, epochs: Array, total: int) -> Array:
        """What the optimizer's lr is multiplied by."""
        return np.asarray(self.factor ** (epochs // self.every))


@dataclass(frozen=True)
class ExponentialDecay:
    """lr times `factor` after each epoch, update by update.

    Parameters
    ----------
    factor : float, > 0
    """

    factor: float

    def __post_init__(self) -> None:
        checks.above_zero(self.factor, "factor")

    def factors(self, epochs: Array, total: int) -> Array:
        """What the optimizer's lr is multiplied by."""
        return np.asarray(self.factor**epochs)


@dataclass(frozen=True)
class CosineDecay:
    """Half a cosine wave from lr down to ``floor * lr`` (Loshchilov & Hutter 2017).

    Parameters
    ----------
    warmup : float, >= 0
        Epochs in which lr rises linearly before.
    floor : float, 0 <= floor < 1
    """

    warmup: float = 0.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        checks.real(self.warmup, "warmup", least=0)
        checks.fraction(self.floor, "floor")

    def factors(self, epochs: Array, total: int) -> Array:
        """What the optimizer's lr is multiplied by."""
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
class OneCycle:
    """From ``lr / start`` up to lr, and down to ``lr / end`` (Smith & Topin 2019).

    Parameters
    ----------
    warmup : float, 0 <= warmup < 1
        Share of all updates that go up.
    start, end : float, >= 1
    """

    warmup: float = 0.3
    start: float = 25.0
    end: float = 1e5

    def __post_init__(self) -> None:
        checks.fraction(self.warmup, "warmup")
        checks.real(self.start, "start", least=1)
        checks.real(self.end, "end", least=1)

    def factors(self, epochs: Array, total: int) -> Array:
        """What the optimizer's lr is multiplied by."""
        done = epochs / max(total, 1)
        up = _between(1 / self.start, 1.0, np.clip(done / max(self.warmup, 1e-300), 0, 1))
        down = _between(1.0, 1 / self.end, np.clip((done - self.warmup) / (1 - self.warmup), 0, 1))
        return np.asarray(np.where(done < self.warmup, up, down))


def rates(schedule: Schedule | None, lr: float, epochs: int, steps: int) -> Array:
    """The learning rate of each update of a fit with so many steps an epoch."""
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
    found: Array = np.ascontiguousarray(lr * factors, np.float64)
    wrong = ~((found >= 0) & np.isfinite(found))
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(
            f"schedule={schedule!r} must give finite factors >= 0, got {factors[i]} for update "
            f"{i + 1} of {done.size}"
        )
    return found


def _between(first: float, last: float, done: Array) -> Array:
    """From `first` to `last` along half a cosine wave."""
    return np.asarray(last + (first - last) * (1 + np.cos(math.pi * done)) / 2)
