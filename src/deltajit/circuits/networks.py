"""Networks as functions of traced scalars: `Network.circuit` traces them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deltajit.circuits.tracing import relu, sigmoid, softplus, where
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array

Vector = Sequence[Any]  # of traced values

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _softmax(z: Vector) -> list[Any]:
    """Compute ``exp(z - log(sum(exp(z))))``, without overflow."""
    total = functools.reduce(np.logaddexp, z)
    return [np.exp(x - total) for x in z]


def _gaussian(z: Vector) -> list[Any]:
    """Return means as they are, and variances, which are the other half, as exp(z)."""
    half = len(z) // 2
    return [*z[:half], *map(np.exp, z[half:])]


# Activations of one traced value x, and of the network's parameter p.
OF_UNITS: dict[str, Callable[[Any, float], Any]] = {
    "identity": lambda x, p: x,
    "sigmoid": lambda x, p: sigmoid(x),
    "tanh": lambda x, p: np.tanh(x),
    "relu": lambda x, p: relu(x),
    "leaky_relu": lambda x, p: where(x > 0, x, p * x),
    "elu": lambda x, p: where(x > 0, x, np.expm1(x)),
    "selu": lambda x, p: SELU_SCALE * where(x > 0, x, SELU_ALPHA * np.expm1(x)),
    "silu": lambda x, p: x * sigmoid(x),
    "mish": lambda x, p: x * np.tanh(softplus(x)),
    "softplus": lambda x, p: softplus(x),
    "softsign": lambda x, p: x / (1 + abs(x)),
    "hard_tanh": lambda x, p: where(x <= -1, -1.0, where(x >= 1, 1.0, x)),
    "hardswish": lambda x, p: where(x <= -3, 0.0, where(x >= 3, x, x * (x + 3) / 6)),
    "sin": lambda x, p: np.sin(x),
    "exp": lambda x, p: np.exp(x),
    "step": lambda x, p: where(x > 0, 1.0, where(x <= 0, 0.0, x)),
}
OF_ROWS: dict[str, Callable[[Vector], list[Any]]] = {"softmax": _softmax, "gaussian": _gaussian}


def function_of(architecture: Architecture, theta: Array | None) -> Callable[..., Any]:
    """Return the function of scalars that a network computes.

    Its arguments are the inputs, and before them theta, unless that is given: then its numbers are
    constants. It returns the outputs, a list, or the only one.
    """
    for name in architecture.activations:
        if name not in OF_UNITS and name not in OF_ROWS:
            raise ValueError(
                f"circuit cannot express activation={name!r}; it knows "
                f"{', '.join([*OF_UNITS, *OF_ROWS])}"
            )

    def of_inputs(*x: Any) -> Any:
        assert theta is not None
        return _outputs(architecture, theta.astype(np.float64).astype(object), x)

    def of_theta_and_inputs(*theta_and_x: Any) -> Any:
        n = architecture.n_params
        return _outputs(architecture, np.array(theta_and_x[:n], object), theta_and_x[n:])

    return of_theta_and_inputs if theta is None else of_inputs


def _outputs(architecture: Architecture, theta: Array, x: Vector) -> Any:
    a: Vector = x
    for name, W, b in zip(architecture.activations, *architecture.unflatten(theta), strict=True):
        z = W @ np.array(a, object) + b
        if name in OF_ROWS:
            a = OF_ROWS[name](z)
        else:
            a = [OF_UNITS[name](unit, architecture.slope) for unit in z]
    return a[0] if len(a) == 1 else a
