"""Derivatives of the outputs with respect to the inputs: along directions, and of second order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from deltajit.reference.activations import (
    ACTIVATIONS,
    derivative,
    second_derivative,
    times_derivative,
)
from deltajit.reference.arrays import Array, quiet
from deltajit.reference.sweeps import Model, Sweep, deltas, forward


class Series(NamedTuple):
    """Hold what `jets` computes layer by layer: derivatives of z, and of what the layer reads."""

    sweep: Sweep
    z: list[Array]
    below: list[Array]
    outputs: Array


@quiet
def input_jvp(model: Model, X: Array, v: Array) -> Array:
    """Compute the derivative of `predict` along a direction of each sample's inputs.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.
    v : ndarray, (B, n_in)
        Directions.

    Returns
    -------
    ndarray, (B, n_out)
        The tangents.
    """
    return jets(model, X, v[:, None, :], 2)[:, 1]


@quiet
def input_vjp(model: Model, X: Array, u: Array) -> Array:
    """Compute the gradient of ``sum(u * predict(X))`` with respect to X.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.
    u : ndarray, (B, n_out)
        One factor per output.

    Returns
    -------
    ndarray, (B, n_in)
        The gradient.
    """
    sweep = forward(model, X)
    delta = times_derivative(model.activations[-1], sweep.a[-1], u, model.slope)
    return np.asarray(deltas(model, sweep, delta)[0] @ model.weights[0])


@quiet
def input_hessian(model: Model, X: Array) -> Array:
    """Compute the second derivatives of the outputs with respect to the inputs, going forward.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.

    Returns
    -------
    ndarray, (B, n_out, n_in, n_in)
        The Hessian of each output of each sample.
    """
    sweep, n = forward(model, X), X.shape[1]
    first = [np.broadcast_to(axis, X.shape) for axis in np.eye(n)]
    second = [[np.zeros_like(X) for _ in range(n)] for _ in range(n)]
    for k, (W, name) in enumerate(zip(model.weights, model.activations, strict=True)):
        x, z = sweep.x[k], [a @ W.T for a in first]
        first = [times_derivative(name, x, z[i], model.slope) for i in range(n)]
        second = [
            [
                times_derivative(name, x, second[i][j] @ W.T, model.slope)
                + ACTIVATIONS[name].curve(x, z[i], z[j], model.slope)
                for j in range(n)
            ]
            for i in range(n)
        ]
    return np.moveaxis(np.array(second), (0, 1), (2, 3))


@quiet
def jets(model: Model, X: Array, directions: Array, rows: int) -> Array:
    """Compute the outputs with first and second derivatives along directions of the inputs.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.
    directions : ndarray, (D, n_in) or (B, D, n_in)
        Directions, for all samples or for each.
    rows : int
        1 + D for first derivatives, 1 + 2 D for second ones too, 2 + D for the sum of those.

    Returns
    -------
    ndarray, (B, rows, n_out)
        Outputs, first derivatives, second derivatives.
    """
    series = _series(model, X, directions, rows)
    both = np.concatenate([series.sweep.a[-1][None], series.outputs])
    return np.asarray(both.swapaxes(0, 1))


@quiet
def jets_vjp(
    model: Model, X: Array, directions: Array, u: Array
) -> tuple[list[Array], list[Array]]:
    """Compute the gradient of ``sum(u * jets)`` with respect to the parameters.

    Parameters
    ----------
    model : Model
        The network, of activations that have a third derivative.
    X : ndarray, (B, n_in)
        Samples.
    directions : ndarray, (D, n_in) or (B, D, n_in)
        Directions, for all samples or for each.
    u : ndarray, (B, rows, n_out)
        One factor for each number of `jets`.

    Returns
    -------
    dW : list of ndarray, (n_l, n_{l-1})
        Gradients of each layer's weights.
    db : list of ndarray, (n_l,)
        Gradients of each layer's biases.

    Raises
    ------
    ValueError
        An activation has no third derivative.
    """
    series, D = _series(model, X, directions, u.shape[1]), directions.shape[-2]
    g, g_rows = u[:, 0], u[:, 1:].swapaxes(0, 1)
    dW: list[Array] = []
    db: list[Array] = []
    for k in reversed(range(len(model.weights))):
        name, x, z = model.activations[k], series.sweep.x[k], series.z[k]
        record, p = ACTIVATIONS[name], model.slope
        if record.third is None:
            raise ValueError(f"activations must have a third derivative, which {name} has not")
        f1, f2, f3 = derivative(name, x, p), second_derivative(name, x, p), record.third(x, p)
        by_first, by_second = g_rows[:D], g_rows[D:]
        delta = f1 * g + f2 * (z * g_rows).sum(axis=0)
        delta_rows = f1 * g_rows
        if len(by_second) > 0:
            of_first = np.broadcast_to(by_second, by_first.shape)
            delta = delta + f3 * (z[:D] ** 2 * of_first).sum(axis=0)
            delta_rows[:D] += 2 * f2 * z[:D] * of_first
        moved = np.einsum("rbo,rbi->oi", delta_rows, series.below[k])
        dW.insert(0, delta.T @ series.sweep.a[k] + moved)
        db.insert(0, delta.sum(axis=0))
        g, g_rows = delta @ model.weights[k], delta_rows @ model.weights[k]
    return dW, db


def _series(model: Model, X: Array, directions: Array, rows: int) -> Series:
    """Compute the derivatives of all layers, (D + S, B, n_l) each."""
    sweep, D = forward(model, X), directions.shape[-2]
    seconds = rows - 1 - D
    each = np.broadcast_to(directions, (len(X), D, X.shape[1])).swapaxes(0, 1)
    a = np.concatenate([each, np.zeros((seconds, *X.shape), X.dtype)])
    zs, below = [], []
    for k, (W, name) in enumerate(zip(model.weights, model.activations, strict=True)):
        x, z = sweep.x[k], a @ W.T
        zs.append(z)
        below.append(a)
        a = np.stack([times_derivative(name, x, row, model.slope) for row in z])
        if seconds > 0:
            curved = [ACTIVATIONS[name].curve(x, row, row, model.slope) for row in z[:D]]
            a[D:] += curved if seconds == D else sum(curved)
    return Series(sweep, zs, below, a)
