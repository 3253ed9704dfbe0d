"""Score predictions: the share of right classes, or R2."""

from __future__ import annotations

import numpy as np

from deltajit.kernels import LOSSES
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array


def score(architecture: Architecture, outputs: Array, Y: Array, weights: Array | None) -> float:
    """Return the accuracy of a classifier's outputs, or R2: see `Network.score`."""
    if architecture.activations[-1] == "softmax":
        return accuracy_of_classes(outputs, Y, weights)
    if LOSSES[architecture.loss].output == "sigmoid":
        return accuracy_of_labels(outputs, Y > 0.5, weights)
    if architecture.activations[-1] == "gaussian":
        outputs = outputs[:, : Y.shape[1]]  # the means
    if outputs.shape != Y.shape:
        raise ValueError(
            f"score needs a target for each output, got targets {Y.shape} of outputs "
            f"{outputs.shape}"
        )
    return r2(outputs, Y, weights)


def accuracy_of_classes(outputs: Array, Y: Array, weights: Array | None) -> float:
    """Return the share of samples whose largest output is their class's."""
    labels = Y[:, 0] if Y.shape[1] == 1 else Y.argmax(axis=1)
    return float(np.average(outputs.argmax(axis=1) == labels, weights=weights))


def accuracy_of_labels(outputs: Array, Y: Array, weights: Array | None) -> float:
    """Return the share of samples whose outputs are above 0.5 where Y is 1, and nowhere else."""
    right = ((outputs > 0.5) == Y).all(axis=1)
    return float(np.average(right, weights=weights))


def r2(outputs: Array, Y: Array, weights: Array | None) -> float:
    """Return R2, the mean over outputs; a constant target has 1 if it is met, else 0."""
    Y = Y.astype(np.float64)
    with np.errstate(over="ignore"):
        rest = np.average((Y - outputs) ** 2, axis=0, weights=weights)
    spread = np.average((Y - np.average(Y, axis=0, weights=weights)) ** 2, axis=0, weights=weights)
    constant = spread == 0
    scores = 1 - rest / np.where(constant, 1, spread)
    scores[constant] = rest[constant] == 0
    return float(scores.mean())
