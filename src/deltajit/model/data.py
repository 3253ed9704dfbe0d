"""Check samples, and hold them as the kernels take them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from deltajit.model import checks, memory
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array


class Data(NamedTuple):
    """Hold checked samples: X (B, n_in), Y (B, n_out) or (B, 1) labels, weights (B,) or None."""

    X: Array
    Y: Array
    weights: Array | None

    def copied(self) -> Data:
        """Copy the arrays, so that nothing else can change them."""
        weights = None if self.weights is None else self.weights.copy()
        return Data(self.X.copy(), self.Y.copy(), weights)

    def ready(self) -> Data:
        """Copy arrays that kernels can't take, such as read-only memory maps after unpickling."""
        weights = None if self.weights is None else memory.ready(self.weights)
        return Data(memory.ready(self.X), memory.ready(self.Y), weights)


def checked(
    architecture: Architecture,
    X: object,
    Y: object,
    weights: object,
    source: str = "",
    *,
    finite: bool = False,
) -> Data:
    """Check samples for a network; errors name the argument, or `source` and its part."""
    plain = None if source or finite or weights is not None else _plain(architecture, X, Y)
    if plain is not None:
        return plain
    names = [f"{source}[{i}]" for i in range(3)] if source else ["X", "Y", "sample_weight"]
    inputs, single = checks.matrix(X, names[0], architecture.sizes[0], architecture.dtype)
    checks.not_empty(inputs, names[0])
    data = Data(
        inputs,
        checks.targets(Y, names[1], len(inputs), single, architecture.targets),
        checks.sample_weight(weights, names[2], len(inputs), architecture.dtype),
    )
    if finite:
        checks.finite(data.X, names[0])
        checks.finite(data.Y, names[1])
    return data


def _plain(architecture: Architecture, X: Any, Y: Any) -> Data | None:
    """Return samples that are as kernels take them, None if they are not.

    `checked` would return the same, in the time of some gradients of a small network.
    """
    kind, n_in, form = architecture.dtype, architecture.sizes[0], architecture.targets
    if not (type(X) is type(Y) is np.ndarray and X.dtype is kind and Y.dtype is kind):
        return None
    if X.ndim == 1 == Y.ndim:
        X, Y = X[None], Y[None]
    batch, shape = len(X), (len(X), form.n_out)
    if X.shape != (batch, n_in) or Y.shape != shape or batch == 0:
        return None
    if not (X.flags.carray and Y.flags.carray):
        return None
    checks.bounds(Y, "Y", form.loss)
    return Data(X, Y, None)
