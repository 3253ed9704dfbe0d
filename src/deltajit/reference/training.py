"""Gradient descent, in NumPy."""

from __future__ import annotations

import numpy as np

from deltajit.reference.arrays import Array, quiet
from deltajit.reference.sweeps import Model, value_and_grad


@quiet
def sgd_step(
    model: Model, X: Array, Y: Array, lr: float, weights: Array | None = None
) -> np.inexact:
    """Take a step of gradient descent on one batch, ``theta -= lr * grad``, in place.

    Parameters
    ----------
    model : Model
        The network, whose weights and biases change.
    X : ndarray, (B, n_in)
        Samples.
    Y : ndarray, (B, n_out) or (B,)
        Targets, or class labels.
    lr : float
        Learning rate.
    weights : ndarray, (B,), optional
        Weights of the samples; equal by default.

    Returns
    -------
    numpy.floating
        The loss before the step.
    """
    value, dW, db = value_and_grad(model, X, Y, weights)
    for parameter, gradient in zip(model.weights + model.biases, dW + db, strict=True):
        parameter -= lr * gradient
    return value


def fit_epoch(model: Model, X: Array, Y: Array, order: Array, batch_size: int, lr: float) -> float:
    """Train by mini-batch gradient descent on the samples in `order`.

    Parameters
    ----------
    model : Model
        The network, whose weights and biases change.
    X : ndarray, (n, n_in)
        Samples.
    Y : ndarray, (n, n_out) or (n,)
        Targets, or class labels.
    order : ndarray of int
        Indices of the samples, in order.
    batch_size : int
        Samples per step; the last batch may be smaller.
    lr : float
        Learning rate.

    Returns
    -------
    float
        Mean loss of the samples, each before its batch's step.
    """
    total = 0.0
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        total += len(batch) * float(sgd_step(model, X[batch], Y[batch], lr))
    return total / len(order)
