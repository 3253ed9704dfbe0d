"""Multiply layers without activations into one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deltajit.model import memory
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array


def collapsed(architecture: Architecture, theta: Array) -> tuple[Architecture, Array]:
    """Compute ``W = W[L] ... W[1]`` and its bias in float64; return an architecture and theta."""
    for i, name in enumerate(architecture.activations[:-1]):
        if name != "identity":
            raise ValueError(
                "collapse needs activation 'identity' in every hidden layer, "
                f"but that of hidden layer {i + 1} is {name!r}"
            )
    weights, biases = architecture.unflatten(theta)
    W, b = weights[0].astype(np.float64), biases[0].astype(np.float64)
    for next_W, next_b in zip(weights[1:], biases[1:], strict=True):
        W, b = next_W @ W, next_W @ b + next_b
    ends = architecture.sizes[0], architecture.sizes[-1]
    one = replace(architecture, sizes=ends, activations=architecture.activations[-1:])
    return one, memory.copy(one.flatten([W], [b]))
