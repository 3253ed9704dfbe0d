"""Gradient descent."""

from __future__ import annotations

from typing import Any

from deltajit.reference.arrays import Array, quiet
from deltajit.reference.sweeps import Model, value_and_grad


@quiet
def sgd_step(model: Model, X: Array, Y: Array, lr: float, weights: Array | None = None) -> Any:
    """``theta -= lr * grad``, in place, on one batch; returns the loss before the step."""
    value, dW, db = value_and_grad(model, X, Y, weights)
    for parameter, gradient in zip(model.weights + model.biases, dW + db, strict=True):
        parameter -= lr * gradient
    return value


def fit_epoch(model: Model, X: Array, Y: Array, order: Array, batch_size: int, lr: float) -> float:
    """Mini-batch gradient descent over the samples in `order`; returns the mean loss."""
    total = 0.0
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        total += len(batch) * float(sgd_step(model, X[batch], Y[batch], lr))
    return total / len(order)
