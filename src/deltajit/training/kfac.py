"""Define `KFAC`: steps by Kronecker-factored curvature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from deltajit.derivatives import kronecker
from deltajit.model import checks
from deltajit.model.architecture import Architecture
from deltajit.model.data import Data
from deltajit.model.memory import Array
from deltajit.training.second_order import Batch, SecondOrder


def _softmax(a: Array, signs: Array) -> Array:
    """Return draws of covariance ``diag(a) - a a.T``."""
    draws = np.sqrt(a) * signs
    return np.asarray(draws - a * draws.sum(axis=1, keepdims=True))


# Of each loss ``-log p(y | a)`` whose BP1 is ``a - y`` (for squared_error but for f'): draws of the
# covariance of y, made of random signs, from outputs a.
DRAWS: dict[str, Callable[[Array, Array], Array]] = {
    "squared_error": lambda a, signs: signs,
    "binary_cross_entropy": lambda a, signs: np.sqrt(a * (1 - a)) * signs,
    "cross_entropy": _softmax,
    "poisson": lambda a, signs: np.sqrt(a) * signs,
}


@dataclass(frozen=True)
class KFAC(SecondOrder):  # numpydoc ignore=PR02
    """Move theta along the natural gradient, by Kronecker-factored approximate curvature [1]_.

    The Fisher matrix of a layer is taken for the Kronecker product of two small matrices, the
    second moments of the layer's inputs and of its deltas. The deltas are those of targets drawn
    from the network's own distribution, and both moments are running means over the steps. A step
    is the combination of that natural gradient and of the step before that minimizes the quadratic
    model of the minibatch's loss, with the exact Gauss-Newton matrix, times lr. A step that doesn't
    lower the minibatch's loss isn't taken. The damping shrinks by a third where the model predicts
    the change of the loss well, and grows by half where it doesn't. `clip_norm` and `dropout` are
    refused.

    Parameters
    ----------
    lr : float, > 0
        Share of a step that is taken.
    damping : float, > 0
        Damping of the first step.
    decay : float, 0 <= decay < 1
        Decay of the running means.
    every : int
        Steps between two eigendecompositions of the matrices, which are n_l wide.

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.

    Notes
    -----
    The loss must be squared_error, cross_entropy, binary_cross_entropy or poisson.

    References
    ----------
    .. [1] Martens & Grosse (2015), Optimizing neural networks with Kronecker-factored approximate
       curvature, ICML 32.

    Examples
    --------
    >>> import deltajit as dj
    >>> net = dj.Network([1, 1], init="zeros", dtype="float64")
    >>> X, Y = [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]
    >>> history = net.fit(X, Y, 40, optimizer=dj.KFAC(), progress=False)
    >>> net.theta.round(3)  # y = 2 x + 1
    array([2., 1.])
    """

    decay: float = 0.95
    every: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.fraction(self.decay, "decay")
        checks.whole(self.every, "every")

    def remembered(self, architecture: Architecture) -> int:
        """Return the size of all layers' matrices."""
        if architecture.loss not in DRAWS:
            raise ValueError(
                f"KFAC needs a loss of {', '.join(DRAWS)}, got loss={architecture.loss!r}"
            )
        return sum(_sizes(rows, columns).sum() for rows, columns in _shapes(architecture))

    def step(
        self, batch: Batch, damping: float, previous: Array, kept: Array, number: int
    ) -> tuple[Array, Array]:
        """Minimize q over natural gradient and step before: see `SecondOrder.step`."""
        layers = _layers(batch.architecture, kept)
        _average(layers, batch, min(1 - 1 / number, self.decay))
        if number <= 3 or number % self.every == 0:  # the first means are rough
            for layer in layers:
                layer.diagonalize()
        inverse = damping + batch.architecture.l2
        parts = kronecker.matrices(batch.grad, _shapes(batch.architecture))
        steps = [-layer.solve(V, inverse) for layer, V in zip(layers, parts, strict=True)]
        directions = np.stack([np.concatenate([x.ravel() for x in steps]), previous])
        products = np.stack([batch.product(x, damping) for x in directions])
        shares = _solve(directions @ products.T, -directions @ batch.grad)
        return shares @ directions, shares @ products


class _Layer(NamedTuple):
    """Hold A (n_in + 1, n_in + 1) and S (n_out, n_out) of a layer, and what diagonalizes them."""

    A: Array
    S: Array
    A_vectors: Array
    S_vectors: Array
    A_values: Array
    S_values: Array

    def diagonalize(self) -> None:
        """Compute eigenvalues and eigenvectors."""
        self.A_values[:], self.A_vectors[:] = kronecker.eigen(self.A)
        self.S_values[:], self.S_vectors[:] = kronecker.eigen(self.S)

    def solve(self, V: Array, damping: float) -> Array:
        """Return ``(A + pi r I)^-1 @ V @ (S + r / pi I)^-1``, ``r = sqrt(damping)``."""
        scales = np.maximum([self.A_values.mean(), self.S_values.mean()], 1e-30)
        pi, root = np.sqrt(scales[0] / scales[1]), np.sqrt(damping)
        values = np.outer(self.A_values + pi * root, self.S_values + root / pi)
        inner = (self.A_vectors.T @ V @ self.S_vectors) / values
        return np.asarray(self.A_vectors @ inner @ self.S_vectors.T)


def _shapes(architecture: Architecture) -> list[tuple[int, int]]:
    """Return (n_in + 1, n_out) of each layer."""
    return [(int(layer["n_in"]) + 1, int(layer["n_out"])) for layer in architecture.layers]


def _sizes(rows: int, columns: int) -> Array:
    """Return how many numbers each array of a `_Layer` has."""
    return np.array([rows**2, columns**2, rows**2, columns**2, rows, columns])


def _layers(architecture: Architecture, kept: Array) -> list[_Layer]:
    """Return views of what is kept of each layer."""
    layers = []
    for n, m in _shapes(architecture):
        *parts, kept = np.split(kept, np.cumsum(_sizes(n, m)))
        squares = [x.reshape(k, k) for x, k in zip(parts[:4], (n, m, n, m), strict=True)]
        layers.append(_Layer(*squares, *parts[4:]))
    return layers


def _average(layers: list[_Layer], batch: Batch, decay: float) -> None:
    """Let the minibatch's moments into the running means of A and S."""
    X, Y, given = batch.data
    a = np.concatenate([sweep.a[-1] for sweep in batch.at.sweeps()]).astype(np.float64)
    signs = 2.0 * batch.rng.integers(2, size=a.shape) - 1
    Y = (a - DRAWS[batch.architecture.loss](a, signs)).astype(X.dtype)
    w = np.full(len(X), 1 / len(X), X.dtype) if given is None else given / given.sum()
    for layer in layers:
        layer.A[:] *= decay
        layer.S[:] *= decay
    for sweep in batch.linearized(Data(X, Y, None)).sweeps():
        here = w[sweep.rows]
        scale = len(X) * np.sqrt(here)[:, None]  # deltas are those of a mean
        for layer, a, delta in zip(layers, sweep.a[:-1], sweep.delta, strict=True):
            A, S = kronecker.sums(a, here, scale * delta)
            layer.A[:] += (1 - decay) * A
            layer.S[:] += (1 - decay) * S


def _solve(matrix: Array, b: Array) -> Array:
    """Solve two equations, or one if the step before is 0; NaN if a number isn't finite.

    They are scaled first: one direction may be much shorter than the other.
    """
    if not np.isfinite(matrix).all():
        return np.full_like(b, np.nan)
    scale = np.sqrt(np.maximum(np.diag(matrix), 0))
    scale[scale == 0] = 1
    scaled = matrix / np.outer(scale, scale)
    return np.asarray(np.linalg.lstsq(scaled, b / scale, rcond=1e-7)[0] / scale)
