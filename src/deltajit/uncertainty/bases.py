"""Keep the Gauss-Newton matrix of all samples in a basis in which it is diagonal, or nearly so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from deltajit.derivatives import kronecker
from deltajit.derivatives.kronecker import eigen
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
        layers = net.architecture.layers
        factors: list[Any] = [[0.0, 0.0] for _ in layers]
        total = 0.0
        for X, w, rows in blocks:
            total += w.sum()
            for factor, layer, a in zip(factors, layers, net.activations(X)[:-1], strict=True):
                g = rows[:, layer["b_at"] : layer["b_at"] + layer["n_out"]]
                A, S = kronecker.sums(a, w, g)
                factor[0] += A
                factor[1] += S
        pairs = [(eigen(A / total), eigen(S)) for A, S in factors]
        values = [np.outer(A, S).ravel() for (A, _), (S, _) in pairs]
        return cls(np.concatenate(values), tuple((A, S) for (_, A), (_, S) in pairs))

    def coordinates(self, J: Array) -> Array:
        """Return J times the Kronecker product of each layer's eigenvectors."""
        layers = kronecker.matrices(J, [(len(A), len(S)) for A, S in self.vectors])
        parts = [A.T @ M @ S for (A, S), M in zip(self.vectors, layers, strict=True)]
        return np.concatenate([x.reshape(len(J), -1) for x in parts], axis=1)


KINDS: dict[str, type[Basis]] = {
    "last_layer": Dense,  # of a network that is the last layer
    "diagonal": Diagonal,
    "kronecker": Kronecker,
    "full": Dense,
}


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
