"""Approximate the Gauss-Newton matrix of a layer by a Kronecker product of two small matrices.

Of ``mean((a a.T) (x) (g g.T))``, a the inputs of a layer and a 1 for the bias, g a row by its z, it
keeps ``A (x) S``, ``A = mean(a a.T)``, ``S = mean(g g.T)`` (Martens & Grosse 2015). In theta the
parameters of a layer are W transposed, then b: a matrix (n_in + 1, n_out).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from deltajit.model.memory import Array


def sums(a: Array, weights: Array, g: Array) -> tuple[Array, Array]:
    """Sum ``weight * (a, 1) (a, 1).T`` over the rows of a (b, n_in), and ``g g.T`` over those of g.

    Return matrices (n_in + 1, n_in + 1) and (n_out, n_out).
    """
    inputs = np.column_stack([a, np.ones(len(a), a.dtype)])
    return (weights[:, None] * inputs).T @ inputs, g.T @ g


def matrices(flat: Array, shapes: Iterable[tuple[int, int]]) -> Iterator[Array]:
    """Yield each layer's part of vectors (..., n_params) as matrices (..., n_in + 1, n_out)."""
    first = 0
    for rows, columns in shapes:
        last = first + rows * columns
        yield flat[..., first:last].reshape(*flat.shape[:-1], rows, columns)
        first = last


def eigen(matrices: Array) -> tuple[Array, Array]:
    """Return eigenvalues and eigenvectors of positive semidefinite matrices; none is below 0."""
    values, vectors = np.linalg.eigh(matrices)
    return np.maximum(values, 0), vectors
