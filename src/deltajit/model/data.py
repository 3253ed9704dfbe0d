"""Check samples, and hold them as the kernels take them."""

from __future__ import annotations

from typing import NamedTuple

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
    names = [f"{source}[{i}]" for i in range(3)] if source else ["X", "Y", "sample_weight"]
    inputs, single = checks.matrix(X, names[0], architecture.sizes[0], architecture.dtype)
    checks.not_empty(inputs, names[0])
    form = checks.TargetForm(architecture.n_targets, architecture.loss, architecture.dtype)
    data = Data(
        inputs,
        checks.targets(Y, names[1], len(inputs), single, form),
        checks.sample_weight(weights, names[2], len(inputs), architecture.dtype),
    )
    if finite:
        checks.finite(data.X, names[0])
        checks.finite(data.Y, names[1])
    return data
