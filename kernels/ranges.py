"""Checks of numbers and types that users give; an error names the argument and what it was."""

import math
import operator
import reprlib
from itertools import pairwise
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np

# Whole numbers at most, so that the sum of two is still an int64.
MOST = 2**62


def real(value: Any, name: str, least: float = -math.inf, most: float = math.inf) -> float:
    """Return a finite number from `least` to `most`, both included."""
    if type(value) is not float and not isinstance(value, SupportsFloat):  # the latter is slow
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        number = float(value)
    except OverflowError:  # an int that no float is as large as
        number = math.inf
    if not (math.isfinite(number) and least <= number <= most):
        bounds = f" from {least} to {most}" if least > -math.inf or most < math.inf else ""
        raise ValueError(f"{name} must be a finite number{bounds}, got {value!r}")
    return number


def whole(value: object, name: str, least: int = 1, most: float = MOST) -> int:
    """Return a whole number of at least `least` that fits into an int64."""
    # int first: asking a protocol is slow, above all in Python 3.11.
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, SupportsIndex)):
        raise TypeError(f"{name} must be a whole number >= {least}, got {value!r}")
    number = operator.index(value)
    if number < least:
        raise ValueError(f"{name} must be >= {least}, got {number}")
    if number > most:
        raise ValueError(f"{name} must be <= {most:,}, got {reprlib.repr(number)}")
    return number


def floating(value: Any, name: str) -> np.dtype[Any]:
    """Return float32 or float64, as NumPy's dtype."""
    try:
        kind = np.dtype(value)
    except TypeError:
        raise TypeError(f"{name} must be float32 or float64, got {value!r}") from None
    if kind not in (np.float32, np.float64):
        raise TypeError(f"{name} must be float32 or float64, got {kind.name}")
    return np.dtype(kind.type)  # in native byte order, and always the same object


def above_zero(value: Any, name: str) -> None:
    """Refuse all but finite numbers greater than 0."""
    if real(value, name, least=0) == 0:
        raise ValueError(f"{name} must be greater than 0, got {value!r}")


def fraction(value: Any, name: str) -> None:
    """Refuse all but numbers from 0 to 1, 1 excluded."""
    if real(value, name, least=0, most=1) == 1:
        raise ValueError(f"{name} must be less than 1, got {value!r}")


def pair(value: Any, name: str) -> tuple[float, float]:
    """Return two finite numbers."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{name} must be two numbers, got {value!r}")
    return real(value[0], f"{name}[0]"), real(value[1], f"{name}[1]")


def fractions(value: Any, name: str) -> None:
    """Refuse all but pairs of numbers from 0 to 1, 1 excluded."""
    for i, number in enumerate(pair(value, name)):
        fraction(number, f"{name}[{i}]")


def increasing(value: Any, name: str, *marks: float) -> None:
    """Refuse all but pairs like ``0 < value[0] < 1 < value[1]``, where the marks are 0 and 1."""
    low, high = pair(value, name)
    if not all(a < b for a, b in pairwise([marks[0], low, *marks[1:], high])):
        middle = "".join(f"{mark} < " for mark in marks[1:])
        raise ValueError(
            f"{name} must be {marks[0]} < {name}[0] < {middle}{name}[1], got {value!r}"
        )
