"""The one layer that several layers without activations are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deltajit.model import memory
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array


def collapsed(made_of: Architecture, theta: Array) -> tuple[Architecture, Array]:
    """``W = W[L] ... W[1]`` and its bias, taken in float64: an architecture and a new theta."""
    for i, name in enumerate(made_of.activations[:-1]):
        if name != "identity":
            raise ValueError(
                "collapse needs activation 'identity' in every hidden layer, "
                f"but that of hidden layer {i + 1} is {name!r}"
            )
    weights, biases = made_of.unflatten(theta)
    W, b = weights[0].astype(np.float64), biases[0].astype(np.float64)
    for next_W, next_b in zip(weights[1:], biases[1:], strict=True):
        W, b = next_W @ W, next_W @ b + next_b
    ends = made_of.sizes[0], made_of.sizes[-1]
    one = replace(made_of, sizes=ends, activations=made_of.activations[-1:])
    return one, memory.copy(one.flatten([W], [b]))
