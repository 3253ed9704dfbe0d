"""Differentiate outputs with respect to inputs, to second order: arguments checked, memory made."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from deltajit import kernels
from deltajit.kernels.mlp.calls import calls_for
from deltajit.model import checks, memory
from deltajit.model.memory import Array


def axes_or(directions: ArrayLike | None, model: kernels.Model) -> Array:
    """Return checked directions of inputs.

    Parameters
    ----------
    directions : array_like, (D, n_in), optional
        Directions; None is the axes.
    model : Model
        The network.

    Returns
    -------
    ndarray, (D, n_in)
        Finite directions, at least one.
    """
    n_in, dtype = int(model.network["n_in"][0]), model.theta.dtype
    if directions is None:
        return np.eye(n_in, dtype=dtype)
    given, _ = checks.matrix(directions, "directions", n_in, dtype)
    checks.not_empty(given, "directions")
    checks.finite(given, "directions")
    return given


def jets(model: kernels.Model, X: Array, directions: Array, rows: int) -> Array:
    """Compute `kernels.jets` of checked arrays.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.
    directions : ndarray, (D, n_in)
        Directions.
    rows : int
        1 + D, 2 + D or 1 + 2 D.

    Returns
    -------
    ndarray, (B, rows, n_out)
        Outputs and derivatives.
    """
    n_out = int(model.network["n_out"][0])
    out = np.empty((len(X), rows, n_out), X.dtype)
    calls_for(X.dtype).jets(model, X, directions, out, _work(model, len(X), rows))
    return out


def jets_vjp(model: kernels.Model, X: Array, directions: Array, u: Array) -> Array:
    """Compute `kernels.jets_vjp` of checked arrays.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.
    directions : ndarray, (D, n_in)
        Directions.
    u : ndarray, (B, rows, n_out)
        Cotangent of `jets`.

    Returns
    -------
    ndarray, (n_params,)
        The gradient.
    """
    grad = np.empty_like(model.theta)
    calls_for(X.dtype).jets_vjp(model, X, directions, u, grad, _work(model, len(X), u.shape[1]))
    return grad


def _work(model: kernels.Model, batch: int, rows: int) -> Array:
    return memory.empty(kernels.jets_size(model, batch, rows), model.theta.dtype)
