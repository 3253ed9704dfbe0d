"""Samples as the kernels take them."""

from __future__ import annotations

from typing import Any, NamedTuple

from deltajit.model import checks, memory
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array


class Data(NamedTuple):
    """Checked samples: X (B, n_in), Y (B, n_out) or (B, 1) labels, weights (B,) or None."""

    X: Array
    Y: Array
    weights: Array | None

    def copied(self) -> Data:
        """The same, out of reach of whoever has the arrays."""
        weights = None if self.weights is None else self.weights.copy()
        return Data(self.X.copy(), self.Y.copy(), weights)

    def ready(self) -> Data:
        """The same where kernels may have it: what was unpickled may be a read-only memory map."""
        weights = None if self.weights is None else memory.ready(self.weights)
        return Data(memory.ready(self.X), memory.ready(self.Y), weights)


def checked(
    made_of: Architecture, X: Any, Y: Any, weights: Any, source: str = "", *, finite: bool = False
) -> Data:
    """Samples for such a network; errors name the argument, or `source` and its part."""
    names = [f"{source}[{i}]" for i in range(3)] if source else ["X", "Y", "sample_weight"]
    inputs, single = checks.matrix(X, names[0], made_of.sizes[0], made_of.dtype)
    checks.not_empty(inputs, names[0])
    form = checks.TargetForm(made_of.n_targets, made_of.loss, made_of.dtype)
    data = Data(
        inputs,
        checks.targets(Y, names[1], len(inputs), single, form),
        checks.sample_weight(weights, names[2], len(inputs), made_of.dtype),
    )
    if finite:
        checks.finite(data.X, names[0])
        checks.finite(data.Y, names[1])
    return data
