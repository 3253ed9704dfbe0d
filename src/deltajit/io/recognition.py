"""Recognize an activation by its values, of whatever operators a file composes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from deltajit.model.architecture import hidden_activations
from deltajit.model.memory import Array
from deltajit.reference.activations import ACTIVATIONS

# Dense where activations bend, and as far as float32 goes, for the bends of a Clip.
FAR = np.geomspace(1e-6, 1e30, 361)
PROBES = np.concatenate([np.linspace(-12, 12, 1537), FAR, -FAR])
OVERFLOWS = 80.0  # beyond, log(1 + exp(z)) may overflow, and softplus is z
TOLERANCE = 2.4e-7  # two roundings to float32, as constants in files have them


class Recognized(NamedTuple):
    """An activation ``factor * f(scale * z + shift) + term``.

    Attributes
    ----------
    name : str
        The name of f.
    scale, shift, factor, term : float
        Affine maps of a unit in front of f and behind it.
    slope : float
        Slope of leaky_relu below 0.
    """

    name: str
    scale: float = 1.0
    shift: float = 0.0
    factor: float = 1.0
    term: float = 0.0
    slope: float = 0.01

    def __call__(self, z: Array) -> Array:
        """Return its values."""
        inside = ACTIVATIONS[self.name].value(self.scale * z + self.shift, self.slope)
        return np.asarray(self.factor * inside + self.term)


def recognized(f: Callable[[Array], Array], numbers: Iterable[float]) -> Recognized | None:
    """Return the activation that a function of each element is, or None if it is none.

    One of the function's constants, `numbers`, may scale z, as in ``z * sigmoid(1.702 * z)``.
    """
    with np.errstate(all="ignore"):
        values = np.asarray(f(PROBES), np.float64)
        if values.shape != PROBES.shape:
            return None
        for candidate in _candidates(values, numbers):
            if _agrees(candidate, PROBES[::50], values[::50]) and _agrees(
                candidate, PROBES, values
            ):
                return candidate
    return None


def _agrees(candidate: Recognized, z: Array, values: Array) -> bool:
    """Return whether an activation has these values at z."""
    is_close = np.isclose(values, candidate(z), TOLERANCE, TOLERANCE)
    return bool(np.all(is_close | (~np.isfinite(values) & (abs(z) > OVERFLOWS))))


def _candidates(values: Array, numbers: Iterable[float]) -> Iterator[Recognized]:
    """Yield the activations that may have these values at `PROBES`, the plain ones first."""
    names = [name for name in hidden_activations() if name != "leaky_relu"]
    yield from map(Recognized, names)
    slope = -float(values[PROBES == -1][0])
    if slope > 0:
        yield Recognized("leaky_relu", slope=slope)
    lowest, highest = sorted([float(values[PROBES.argmin()]), float(values[PROBES.argmax()])])
    (between,) = np.nonzero((values > lowest) & (values < highest))
    if len(between) > 1:
        yield _clip(lowest, highest, PROBES[between], values[between])
    for number in {-1.0, *numbers} - {0.0, 1.0}:
        for scale in (number, 1 / number):
            for name in names:
                yield Recognized(name, scale, factor=1 / scale)


def _clip(lowest: float, highest: float, z: Array, values: Array) -> Recognized:
    """Return hard_tanh between two bounds, along the line through values between them."""
    middle, half = (lowest + highest) / 2, (highest - lowest) / 2
    first, last = z.argmin(), z.argmax()
    slope = (values[last] - values[first]) / (z[last] - z[first])
    shift = values[first] - slope * z[first] - middle
    return Recognized("hard_tanh", slope / half, shift / half, half, middle)
