"""Check samples, and hold them as the kernels take them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from deltajit.kernels import LOSSES
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


def split(
    data: Data, Y: object, share: float, validation: object
) -> tuple[Data, checks.Validation | None]:
    """Return the first samples, and the last as validation_data, with their part of Y as given."""
    if validation is not None:
        raise ValueError("validation_split and validation_data can't both be given")
    checks.above_zero(share, "validation_split")
    checks.fraction(share, "validation_split")
    n = len(data.X) - round(share * len(data.X))
    if not 0 < n < len(data.X):
        raise ValueError(
            f"validation_split must leave samples on both sides, got {share} of {len(data.X)}"
        )
    weights = None if data.weights is None else data.weights[n:]
    first = Data(data.X[:n], data.Y[:n], None if data.weights is None else data.weights[:n])
    if first.weights is not None and not first.weights.any():
        raise ValueError("sample_weight must not be 0 for every sample that is trained on")
    return first, (data.X[n:], checks.asarray(Y, "Y")[n:], weights)


def class_weighted(architecture: Architecture, data: Data, class_weight: object) -> Data:
    """Return the samples with weights times those of their classes: see `Network.fit`."""
    n_out, Y = architecture.sizes[-1], data.Y
    loss = LOSSES[architecture.loss]
    if loss.takes_labels:
        shares = np.eye(n_out, dtype=Y.dtype)[Y[:, 0].astype(int)] if Y.shape[1] == 1 else Y
    elif loss.output == "sigmoid" and n_out == 1:
        shares = np.hstack([1 - Y, Y])
    else:
        raise ValueError(
            "class_weight needs loss='cross_entropy' or 'focal', or 'binary_cross_entropy' or "
            f"'binary_focal' of one output; got {loss.name!r} of {n_out}"
        )
    if isinstance(class_weight, str) and class_weight == "balanced":
        counts = shares.sum(axis=0, dtype=np.float64)
        of_classes = counts.sum() / np.maximum(counts, 1e-300) / np.count_nonzero(counts)
        of_classes[counts == 0] = 1
    else:
        of_classes = checks.class_weight(class_weight, shares.shape[1], architecture.class_names)
    weights = shares @ of_classes.astype(Y.dtype)
    if data.weights is not None:
        weights = weights * data.weights
    return data._replace(
        weights=checks.sample_weight(
            weights, "sample_weight times class_weight", len(Y), architecture.dtype
        )
    )


def smoothed(architecture: Architecture, data: Data, share: float) -> Data:
    """Return the samples with `share` of each target spread over all classes: see `Network.fit`."""
    checks.fraction(share, "label_smoothing")
    n_out, Y = architecture.sizes[-1], data.Y
    loss = LOSSES[architecture.loss]
    if loss.takes_labels:
        rows = np.eye(n_out, dtype=Y.dtype)[Y[:, 0].astype(int)] if Y.shape[1] == 1 else Y
        even = rows.sum(axis=1, keepdims=True) / n_out
    elif loss.output == "sigmoid":
        rows, even = Y, np.full((1, 1), 0.5, Y.dtype)
    else:
        raise ValueError(
            "label_smoothing needs loss='cross_entropy', 'focal', 'binary_cross_entropy' or "
            f"'binary_focal', got {loss.name!r}"
        )
    kind = Y.dtype.type
    return data._replace(Y=kind(1 - share) * rows + kind(share) * even)


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
