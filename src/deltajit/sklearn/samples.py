"""Hold the samples of an estimator: rows that may be sparse, their targets and weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import check_array

from deltajit.kernels.mlp.calls import SHUFFLE
from deltajit.kernels.mlp.shuffle import MOST, NEXT_UINT32
from deltajit.model.memory import Array

Matrix = Any  # array_like or a sparse matrix of scipy, which has no types
RandomState = int | np.random.RandomState | None
MonotonicCst = ArrayLike | dict[str, int] | None

FLOATS = (np.float64, np.float32)  # dtypes of X that networks compute in

# Elements of a sparse X that are made dense at once: 64 MB of float32.
DENSE = 2**24


class Samples(NamedTuple):
    """Hold what a network is fitted to.

    Attributes
    ----------
    X : ndarray or CSR matrix, (n, n_in)
        Inputs.
    Y : ndarray, (n, n_out), or labels (n, 1)
        Targets.
    weights : ndarray, (n,), or None
        Weights of the samples.
    """

    X: Matrix
    Y: Array
    weights: Array | None

    @property
    def size(self) -> int:
        """Return the number of samples."""
        return len(self.Y)

    @property
    def weight(self) -> float:
        """Return the sum of all weights."""
        return float(self.size if self.weights is None else self.weights.sum())

    def pick(self, rows: NDArray[np.int64] | slice) -> Samples:
        """Return the samples of some rows."""
        weights = None if self.weights is None else self.weights[rows]
        return Samples(self.X[rows], self.Y[rows], weights)

    def dense(self) -> Samples:
        """Return the samples with a dense X, as the kernels take them."""
        return self._replace(X=dense(self.X))


def dense(X: Matrix) -> Array:
    """Return X as an array."""
    return np.asarray(X.toarray() if issparse(X) else X)


def parts(X: Matrix) -> list[slice]:
    """Return slices of rows that may be dense at once: one of all, unless X is large and sparse."""
    n, width = X.shape
    step = max(1, DENSE // width) if issparse(X) else n
    return [slice(first, first + step) for first in range(0, n, step)]


def checked_weights(
    value: ArrayLike | None, X: Matrix, name: str = "sample_weight"
) -> Array | None:
    """Return (n,) finite weights >= 0 that are not all 0; a number is the weight of each sample."""
    if value is None:
        return None
    if np.isscalar(value):
        value = np.full(X.shape[0], value)
    weights = check_array(value, ensure_2d=False, dtype=X.dtype, input_name=name)
    if weights.shape != (X.shape[0],):
        raise ValueError(f"{name} must have shape ({X.shape[0]},), got {weights.shape}")
    if weights.min() < 0:
        raise ValueError(f"{name} must be >= 0, got {weights.min()}")
    if weights.max() == 0:
        raise ValueError(f"{name} must not be zero for every sample")
    return np.ascontiguousarray(weights)


def shuffled(order: NDArray[np.int64], random_state: np.random.RandomState) -> NDArray[np.int64]:
    """Return an order as ``random_state.shuffle`` leaves it, in less than half the time."""
    order, bits = np.array(order, np.int64), random_state._bit_generator
    if len(order) > MOST:
        random_state.shuffle(order)
    else:
        interface = bits.ctypes
        draw = interface.bit_generator.value + NEXT_UINT32
        with bits.lock:
            SHUFFLE.unchecked(np.dtype(np.float64))(interface.state_address, draw, order)
    return order
