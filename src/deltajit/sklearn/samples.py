"""Samples of an estimator: rows that may be sparse, their targets and weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import check_array

from deltajit.model.memory import Array

# Elements of a sparse X that are made dense at once: 64 MB of float32.
DENSE = 2**24


class Samples(NamedTuple):
    """What a network is fitted to.

    X : (n, n_in), dense or a CSR matrix. Y : (n, n_out), or labels (n, 1). weights : (n,) or None.
    """

    X: Any
    Y: Array
    weights: Array | None

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.Y)

    @property
    def weight(self) -> float:
        """Of all together."""
        return float(self.size if self.weights is None else self.weights.sum())

    def pick(self, rows: Any) -> Samples:
        """Some of them."""
        weights = None if self.weights is None else self.weights[rows]
        return Samples(self.X[rows], self.Y[rows], weights)

    def dense(self) -> Samples:
        """The same, as the kernels take them."""
        return self._replace(X=dense(self.X))


def dense(X: Any) -> Array:
    """X, without being sparse."""
    return np.asarray(X.toarray() if issparse(X) else X)


def parts(X: Any) -> list[slice]:
    """Slices of rows that may be dense at once: a single one, unless X is sparse and large."""
    n, width = X.shape
    step = max(1, DENSE // width) if issparse(X) else n
    return [slice(first, first + step) for first in range(0, n, step)]


def checked_weights(value: Any, X: Any) -> Array | None:
    """(n,) finite weights >= 0 that are not all 0; a number stands for n of them."""
    if value is None:
        return None
    if np.isscalar(value):
        value = np.full(X.shape[0], value)
    found = check_array(value, ensure_2d=False, dtype=X.dtype, input_name="sample_weight")
    if found.shape != (X.shape[0],):
        raise ValueError(f"sample_weight must have shape ({X.shape[0]},), got {found.shape}")
    if found.min() < 0:
        raise ValueError(f"sample_weight must be >= 0, got {found.min()}")
    if found.max() == 0:
        raise ValueError("sample_weight must not be zero for every sample")
    return np.ascontiguousarray(found)
