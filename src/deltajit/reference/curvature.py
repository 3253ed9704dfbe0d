"""Steps of optimizers that look at the curvature, in NumPy, by whole matrices.

A vector like theta has each layer's ``[W | b]``, (n_out, n_in + 1), row by row: see `joined`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deltajit.reference.arrays import Array, quiet
from deltajit.reference.sweeps import Model, forward, normalized, value_and_grad
from deltajit.reference.tangents import gnvp, per_sample_grads


def joined(W: Sequence[Array], b: Sequence[Array]) -> Array:
    """Join arrays like weights and biases to one vector.

    Parameters
    ----------
    W, b : sequence of ndarray, (n_l, n_{l-1}) and (n_l,)
        Arrays of each layer.

    Returns
    -------
    ndarray, (n_params,)
        The layers' ``[W | b]``.
    """
    return np.concatenate([np.column_stack(pair).ravel() for pair in zip(W, b, strict=True)])


def parted(model: Model, v: Array) -> tuple[list[Array], list[Array]]:
    """Part a vector that `joined` has made.

    Parameters
    ----------
    model : Model
        The network.
    v : ndarray, (n_params,)
        The vector.

    Returns
    -------
    W : list of ndarray, (n_l, n_{l-1})
        Parts like the weights.
    b : list of ndarray, (n_l,)
        Parts like the biases.
    """
    shapes = [(len(W), W.shape[1] + 1) for W in model.weights]
    parts = np.split(v, np.cumsum([n * m for n, m in shapes])[:-1])
    matrices = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
    return [M[:, :-1] for M in matrices], [M[:, -1] for M in matrices]


@quiet
def gauss_newton_matrix(model: Model, X: Array, Y: Array, weights: Array | None = None) -> Array:
    """Compute the Gauss-Newton matrix of the loss, column by column.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.
    Y : ndarray, (B, n_out) or (B,)
        Targets, or class labels.
    weights : ndarray, (B,), optional
        Weights of the samples; equal by default.

    Returns
    -------
    ndarray, (n_params, n_params)
        The matrix, for vectors that `joined` makes.
    """
    n = sum((W.shape[1] + 1) * len(W) for W in model.weights)
    columns = [gnvp(model, X, Y, *parted(model, unit), weights) for unit in np.eye(n)]
    return np.stack([joined(*column) for column in columns], axis=1)


@quiet
def gauss_newton_step(
    model: Model, X: Array, Y: Array, damping: float, weights: Array | None = None
) -> Array:
    """Compute ``-(G + damping I)^-1 grad``, to which GaussNewtonCG's iterations converge.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.
    Y : ndarray, (B, n_out) or (B,)
        Targets, or class labels.
    damping : float
        The damping.
    weights : ndarray, (B,), optional
        Weights of the samples; equal by default.

    Returns
    -------
    ndarray, (n_params,)
        The step.
    """
    G = gauss_newton_matrix(model, X, Y, weights)
    _, dW, db = value_and_grad(model, X, Y, weights)
    return np.linalg.solve(G + damping * np.eye(len(G)), -joined(dW, db))


@quiet
def kronecker_factors(
    model: Model, X: Array, Y: Array, weights: Array | None = None
) -> list[tuple[Array, Array]]:
    """Compute the second moments of each layer's inputs and deltas (Martens & Grosse 2015).

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.
    Y : ndarray, (B, n_out)
        Targets, drawn from the network's own distribution.
    weights : ndarray, (B,), optional
        Weights of the samples; equal by default.

    Returns
    -------
    list of tuple of ndarray, (n_{l-1} + 1, n_{l-1} + 1) and (n_l, n_l)
        ``mean((a, 1) (a, 1).T)`` and ``mean(delta delta.T)`` of each layer.
    """
    w, (_, deltas) = normalized(weights, len(X)), per_sample_grads(model, X, Y)
    factors = []
    for a, delta in zip(forward(model, X).a[:-1], deltas, strict=True):
        rows = np.column_stack([a, np.ones(len(a))]), delta
        A, S = (np.einsum("b,bi,bj->ij", w, x, x) for x in rows)
        factors.append((A, S))
    return factors


@quiet
def kronecker_solve(factors: Sequence[tuple[Array, Array]], v: Array, damping: float) -> Array:
    """Solve with each layer's Kronecker product, both factors damped.

    Parameters
    ----------
    factors : sequence of tuple of ndarray
        A and S of each layer, as `kronecker_factors` returns them, or means of such.
    v : ndarray, (n_params,)
        Right side.
    damping : float
        The damping: A gets ``pi * sqrt(damping)``, S ``sqrt(damping) / pi``, where pi**2 is the
        ratio of their mean eigenvalues.

    Returns
    -------
    ndarray, (n_params,)
        The solution.
    """
    parts, first = [], 0
    for A, S in factors:
        pi = np.sqrt(np.trace(A) / len(A) / (np.trace(S) / len(S)))
        inputs = A + pi * np.sqrt(damping) * np.eye(len(A))
        outputs = S + np.sqrt(damping) / pi * np.eye(len(S))
        last = first + len(A) * len(S)
        parts.append(np.linalg.solve(np.kron(outputs, inputs), v[first:last]))
        first = last
    return np.concatenate(parts)


@quiet
def kfac_step(
    model: Model,
    X: Array,
    Y: Array,
    damping: float,
    factors: Sequence[tuple[Array, Array]],
    previous: Array | None = None,
    weights: Array | None = None,
) -> Array:
    """Compute KFAC's step: the best combination of the natural gradient and of the step before.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.
    Y : ndarray, (B, n_out) or (B,)
        Targets, or class labels.
    damping : float
        The damping.
    factors : sequence of tuple of ndarray
        Running means of what `kronecker_factors` returns.
    previous : ndarray, (n_params,), optional
        Step before.
    weights : ndarray, (B,), optional
        Weights of the samples; equal by default.

    Returns
    -------
    ndarray, (n_params,)
        The step.
    """
    _, dW, db = value_and_grad(model, X, Y, weights)
    grad = joined(dW, db)
    B = gauss_newton_matrix(model, X, Y, weights) + damping * np.eye(len(grad))
    natural = -kronecker_solve(factors, grad, damping + model.l2)
    D = natural[None] if previous is None else np.stack([natural, previous])
    return np.linalg.solve(D @ B @ D.T, -D @ grad) @ D
