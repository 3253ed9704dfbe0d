"""Networks that are monotone in some of their inputs, by the signs of their weights.

Each unit has a sign: 1 if it increases with the inputs that `monotonic_cst` constrains, each taken
times its own sign, -1 if it decreases, and 0 if it does not see them. A weight from unit j to i has
the sign ``s[i] * s[j]``, is 0 from a constrained input or unit to one of sign 0, and is free from
one of sign 0. With activations that nowhere decrease, so the signs hold layer by layer; the outputs
have sign 1. Units of both signs make functions convex and concave, as in Runje & Shankaranarayana
(2023), Constrained monotonic neural networks, ICML 40, and paths through units of sign 0 leave the
other inputs free.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltajit import reference
from deltajit.model.memory import Array

Signs = NDArray[np.int8]

PLACES = np.linspace(-20, 20, 4001)[:, None]  # where an activation's derivative is looked at


def constraints_of(estimator: Any) -> Signs | None:
    """Return the sign of each feature that an estimator's `monotonic_cst` has, if there are any."""
    value, n_features = estimator.monotonic_cst, estimator.n_features_in_
    if value is None:
        return None
    names = list(getattr(estimator, "feature_names_in_", ()))
    if isinstance(value, dict):
        if not names:
            raise ValueError("monotonic_cst is a dict, so X must have names of columns")
        unknown = [name for name in value if name not in names]
        if unknown:
            raise ValueError(f"monotonic_cst has {unknown[0]!r}, which is no column of X")
        value = [value.get(name, 0) for name in names]
    given = np.asarray(value)
    if given.shape != (n_features,) or not np.isin(given, (-1, 0, 1)).all():
        raise ValueError(
            f"monotonic_cst must be {n_features} numbers -1, 0 or 1, one a feature, or a dict of "
            f"such by names, got {value!r}"
        )
    return given.astype(np.int8)


def check_activations(names: Iterable[str]) -> None:
    """Check that no hidden layer's activation decreases anywhere."""
    for name in names:
        record = reference.ACTIVATIONS[name]
        x = PLACES if record.of_z else reference.activate(name, PLACES)
        if (reference.derivative(name, x) < 0).any():
            raise ValueError(f"monotonic_cst needs activations that increase, got {name!r}")


def signs_of_units(inputs: Signs, sizes: Sequence[int]) -> list[Signs]:
    """Return the signs of inputs, and of the units of each layer behind them.

    A hidden layer has units of 1 and -1 if any input is constrained, and as many of 0 if any is
    free.
    """
    pattern = [1, -1] * int(inputs.any()) + [0] * int(not inputs.all())
    hidden = [np.resize(np.array(pattern, np.int8), n) for n in sizes[:-1]]
    return [inputs, *hidden, np.ones(sizes[-1], np.int8)]


def restrict(lower: Sequence[Array], upper: Sequence[Array], signs: Sequence[Signs]) -> None:
    """Bound the weights (n_out, n_in) of layers, in place, so that their units have these signs."""
    for low, high, (before, after) in zip(lower, upper, pairwise(signs), strict=True):
        wanted, unseen = np.outer(after, before), np.outer(after == 0, before != 0)
        low[(wanted > 0) | unseen] = 0
        high[(wanted < 0) | unseen] = 0
