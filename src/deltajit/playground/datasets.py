"""Data for two inputs or one, made of a seed: the classic sets, and what is common to all data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from deltajit.model import checks
from deltajit.model.memory import Array
from deltajit.playground import formulas

MOST_SAMPLES = 100_000

Maker = Callable[[np.random.Generator, int, float], tuple[Array, Array]]


class Samples(NamedTuple):
    """Samples of a problem, of which some are held out.

    X, Y : inputs (n, n_in), and labels (n,) or numbers (n, 1), those to train on first.
    n_train : how many those are. names : of the inputs, then of the target. classes : names of
    the classes; none where numbers are fitted.
    """

    X: Array
    Y: Array
    n_train: int
    names: tuple[str, ...]
    classes: tuple[str, ...] = ()

    @property
    def train(self) -> tuple[Array, Array]:
        """Samples to train on."""
        return self.X[: self.n_train], self.Y[: self.n_train]

    @property
    def held_out(self) -> tuple[Array, Array] | None:
        """Samples that are not trained on, if there are any."""
        n = self.n_train
        return (self.X[n:], self.Y[n:]) if n < len(self.X) else None


def shuffled(
    X: Array, Y: Array, share: float, seed: int, names: Sequence[str], classes: Sequence[str] = ()
) -> Samples:
    """Hold a share of samples out, drawn by a seed; at least one is left to train on."""
    checks.fraction(share, "share")
    order = np.random.default_rng([seed, 1]).permutation(len(X))
    n_train = max(1, round((1 - share) * len(X)))
    return Samples(X[order], Y[order], n_train, tuple(names), tuple(classes))


def make(name: str, n: int = 300, noise: float = 0.1, share: float = 0.3, seed: int = 0) -> Samples:
    """Make one of `CLASSES` or `NUMBERS`.

    Parameters
    ----------
    name : str
    n : int
        How many samples.
    noise : float
        Standard deviation of what is added to inputs of classes, or to targets that are numbers.
    share : float
        Of the samples that is held out.
    seed : int
    """
    makers = {**CLASSES, **NUMBERS}
    maker = makers[checks.choice(name, "name", makers)]
    X, Y = maker(checks.generator(seed, "seed"), *_checked(n, noise))
    if name in CLASSES:
        labels = [f"class {k}" for k in range(int(Y.max()) + 1)]
        return shuffled(X, Y, share, seed, ("x1", "x2"), labels)
    inputs = ("x1", "x2")[: X.shape[1]] if X.shape[1] > 1 else ("x",)
    return shuffled(X, Y, share, seed, (*inputs, "y"))


def function(
    text: str, n: int = 300, noise: float = 0.1, share: float = 0.3, seed: int = 0
) -> Samples:
    """Sample a typed function of x, such as ``sin(3*x) + 0.3*x``, between -3 and 3."""
    circuit = formulas.parse(text)
    n, noise = _checked(n, noise)
    rng = checks.generator(seed, "seed")
    X = rng.uniform(-3, 3, (n, 1))
    y = np.asarray(circuit(X))
    if not np.isfinite(y).all():
        where = X[~np.isfinite(y)][0, 0]
        raise ValueError(f"the function has no finite value at x = {where:.3g}")
    Y = (y + noise * rng.normal(size=n))[:, None]
    return shuffled(X, Y, share, seed, ("x", "y"))


def _checked(n: object, noise: object) -> tuple[int, float]:
    """The number of samples and the noise, if they are such."""
    return checks.whole(n, "n", least=2, most=MOST_SAMPLES), checks.real(noise, "noise", least=0)


def points(rows: Sequence[Sequence[float]], is_regression: bool = False) -> Samples:
    """Take points as they are: rows of x1, x2, class, or of x, y to fit numbers; none held out."""
    table = np.array(rows, float).reshape(-1, 2 if is_regression else 3)
    if is_regression:
        return Samples(table[:, :1], table[:, 1:], len(table), ("x", "y"))
    labels = table[:, 2].astype(int)
    classes = tuple(f"class {k}" for k in range(max(2, labels.max(initial=0) + 1)))
    return Samples(table[:, :2], labels, len(table), ("x1", "x2"), classes)


# ---------------------------------------------------------------- classes, labels (n,)


def _labels(n: int, count: int = 2) -> Array:
    return np.arange(n) % count


def _circle(rng: np.random.Generator, n: int, noise: float) -> tuple[Array, Array]:
    Y = _labels(n)
    radius = np.where(Y == 1, rng.uniform(1.8, 2.8, n), rng.uniform(0, 1.2, n))
    angle = rng.uniform(0, 2 * np.pi, n)
    return _blurred(rng, radius * np.cos(angle), radius * np.sin(angle), noise), Y


def _xor(rng: np.random.Generator, n: int, noise: float) -> tuple[Array, Array]:
    x = rng.uniform(0.15, 2.8, (2, n)) * rng.choice([-1, 1], (2, n))
    return _blurred(rng, x[0], x[1], noise), (x[0] * x[1] > 0).astype(int)


def _gaussians(rng: np.random.Generator, n: int, noise: float) -> tuple[Array, Array]:
    Y = _labels(n)
    center = np.where(Y == 1, 1.4, -1.4)
    return _blurred(rng, center, center, 0.5 + noise), Y


def _spirals(rng: np.random.Generator, n: int, noise: float, arms: int = 2) -> tuple[Array, Array]:
    Y, t = _labels(n, arms), np.sqrt(rng.uniform(0.01, 1, n))
    angle = 1.5 * 2 * np.pi * t + 2 * np.pi * Y / arms
    return _blurred(rng, 2.8 * t * np.sin(angle), 2.8 * t * np.cos(angle), noise), Y


def _three_spirals(rng: np.random.Generator, n: int, noise: float) -> tuple[Array, Array]:
    return _spirals(rng, n, noise, arms=3)


def _moons(rng: np.random.Generator, n: int, noise: float) -> tuple[Array, Array]:
    Y, angle = _labels(n), rng.uniform(0, np.pi, n)
    x = np.where(Y == 1, 1 - np.cos(angle), np.cos(angle))
    y = np.where(Y == 1, 0.5 - np.sin(angle), np.sin(angle))
    return _blurred(rng, 1.5 * (x - 0.5), 1.5 * (y - 0.25), noise), Y


def _blurred(rng: np.random.Generator, x: Array, y: Array, noise: float) -> Array:
    return np.stack([x, y], axis=1) + noise * rng.normal(size=(len(x), 2))


# ---------------------------------------------------------------- numbers (n, 1)


def _sine(rng: np.random.Generator, n: int, noise: float) -> tuple[Array, Array]:
    X = rng.uniform(-3, 3, (n, 1))
    return X, np.sin(2 * X) + noise * rng.normal(size=(n, 1))


def _steps(rng: np.random.Generator, n: int, noise: float) -> tuple[Array, Array]:
    X = rng.uniform(-3, 3, (n, 1))
    return X, np.floor(X) / 2 + noise * rng.normal(size=(n, 1))


def _hills(rng: np.random.Generator, n: int, noise: float) -> tuple[Array, Array]:
    X = rng.uniform(-3, 3, (n, 2))
    up, down = (np.exp(-((X - center) ** 2).sum(axis=1)) for center in (1.2, -1.2))
    return X, (up - down)[:, None] + noise * rng.normal(size=(n, 1))


CLASSES: dict[str, Maker] = {
    "spirals": _spirals,
    "circle": _circle,
    "exclusive or": _xor,
    "gaussians": _gaussians,
    "moons": _moons,
    "three spirals": _three_spirals,
}
NUMBERS: dict[str, Maker] = {"sine": _sine, "steps": _steps, "hills": _hills}
