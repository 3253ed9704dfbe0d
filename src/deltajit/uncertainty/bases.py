"""Keep the Gauss-Newton matrix of all samples in a basis in which it is diagonal, or nearly so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from deltajit.model.memory import Array
from deltajit.network import Network


class Block(NamedTuple):
    """Hold samples: X (b, n_in), weights (b,), and rows (b * n_out, P) whose squares sum to G."""

    X: Array
    weights: Array
    rows: Array


class Basis(Protocol):
    """Be a basis in which the Gauss-Newton matrix G (P, P) of a sum of losses is diagonal."""

    @property
    def eigenvalues(self) -> Array:
        """Return the eigenvalues of G (P,)."""

    @classmethod
    def of(cls, net: Network, blocks: Iterator[Block]) -> Self:
        """Compute the basis from all samples."""

    def coordinates(self, J: Array) -> Array:
        """Return the rows of J (n, P) in this basis."""


@dataclass(frozen=True)
class Diagonal:
    """Keep the diagonal of G, and nothing else."""

    eigenvalues: Array

    @classmethod
    def of(cls, net: Network, blocks: Iterator[Block]) -> Self:
        """Sum the squares of each column."""
        return cls(sum(((x.rows**2).sum(axis=0) for x in blocks), np.zeros(net.n_params)))

    def coordinates(self, J: Array) -> Array:
        """Return J: the parameters are the basis."""
        return J


@dataclass(frozen=True)
class Dense:
    """Keep the whole of G, as eigenvalues and eigenvectors (P, P)."""

    eigenvalues: Array
    vectors: Array

    @classmethod
    def of(cls, net: Network, blocks: Iterator[Block]) -> Self:
        """Sum ``rows.T @ rows``."""
        n = net.n_params
        if n * n * 8 > 2**30:
            raise ValueError(
                f"kind must be 'kronecker', 'diagonal' or 'last_layer': a matrix of {n:,} "
                "parameters needs more than 1 GiB"
            )
        return cls(*eigen(sum((x.rows.T @ x.rows for x in blocks), np.zeros((n, n)))))

    def coordinates(self, J: Array) -> Array:
        """Return J times the eigenvectors."""
        return np.asarray(J @ self.vectors)


@dataclass(frozen=True)
class Kronecker:
    """Keep ``mean(a a.T) (x) sum(g g.T)`` of each layer, a its inputs and 1, g its rows by z."""

    eigenvalues: Array
    vectors: tuple[tuple[Array, Array], ...]

    @classmethod
    def of(cls, net: Network, blocks: Iterator[Block]) -> Self:
        """Sum both factors of every layer, and diagonalize them."""
        below = [truncated(net, depth) for depth in range(len(net.sizes) - 1)]
        factors: list[Any] = [[0.0, 0.0] for _ in below]
        total = 0.0
        for X, w, rows in blocks:
            total += w.sum()
            for factor, layer, part in zip(factors, net.architecture.layers, below, strict=True):
                a = np.column_stack([part.predict(X) if part else X, np.ones(len(X))])
                g = rows[:, layer["b_at"] : layer["b_at"] + layer["n_out"]]
                factor[0] += (w[:, None] * a).T @ a
                factor[1] += g.T @ g
        pairs = [(eigen(A / total), eigen(S)) for A, S in factors]
        values = [np.outer(A, S).ravel() for (A, _), (S, _) in pairs]
        return cls(np.concatenate(values), tuple((A, S) for (_, A), (_, S) in pairs))

    def coordinates(self, J: Array) -> Array:
        """Return J times the Kronecker product of each layer's eigenvectors."""
        parts, first = [], 0
        for A, S in self.vectors:  # a layer's parameters are W transposed, then b: a matrix
            last = first + len(A) * len(S)
            matrices = J[:, first:last].reshape(-1, len(A), len(S))
            parts.append((A.T @ matrices @ S).reshape(len(J), -1))
            first = last
        return np.concatenate(parts, axis=1)


KINDS: dict[str, type[Basis]] = {
    "last_layer": Dense,  # of a network that is the last layer
    "diagonal": Diagonal,
    "kronecker": Kronecker,
    "full": Dense,
}


def eigen(matrices: Array) -> tuple[Array, Array]:
    """Return eigenvalues, none below 0, and eigenvectors of matrices that have none in truth."""
    values, vectors = np.linalg.eigh(matrices)
    return np.maximum(values, 0), vectors


def sharing(architecture: Any, theta: Array, net: Network) -> Network:
    """Return a network on `theta`, with the threads of another."""
    return Network.sharing(architecture, theta, np.random.default_rng(0), net.threads)


def truncated(net: Network, depth: int) -> Network | None:
    """Return the network of the first layers, whose outputs are ``a[depth]``; None if none are."""
    if depth == 0:
        return None
    whole = net.architecture
    lower = replace(
        whole,
        sizes=whole.sizes[: depth + 1],
        activations=whole.activations[:depth],
        loss="squared_error",
    )
    return sharing(lower, net.theta[: lower.n_params], net)
