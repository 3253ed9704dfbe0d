"""Numbers of a user's, checked: an error names the argument, what it was, what was expected."""

import math
from itertools import pairwise
from typing import SupportsFloat


def real(value, name, least=-math.inf, most=math.inf):
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


def above_zero(value, name):
    """Refuse what is no finite number greater than 0."""
    if real(value, name, least=0) == 0:
        raise ValueError(f"{name} must be greater than 0, got {value!r}")


def fraction(value, name):
    """Refuse what is no number from 0 to 1, 1 excluded."""
    if real(value, name, least=0, most=1) == 1:
        raise ValueError(f"{name} must be less than 1, got {value!r}")


def pair(value, name):
    """Return two finite numbers."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{name} must be two numbers, got {value!r}")
    return real(value[0], f"{name}[0]"), real(value[1], f"{name}[1]")


def fractions(value, name):
    """Refuse what is no pair of numbers from 0 to 1, 1 excluded."""
    for i, number in enumerate(pair(value, name)):
        fraction(number, f"{name}[{i}]")


def increasing(value, name, *marks):
    """Refuse what is no pair like ``0 < value[0] < 1 < value[1]``, if the marks are 0 and 1."""
    low, high = pair(value, name)
    if not all(a < b for a, b in pairwise([marks[0], low, *marks[1:], high])):
        middle = "".join(f"{mark} < " for mark in marks[1:])
        raise ValueError(
            f"{name} must be {marks[0]} < {name}[0] < {middle}{name}[1], got {value!r}"
        )
