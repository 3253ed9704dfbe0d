"""Compute every number of one forward and one backward pass, layer by layer, by the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from deltajit import kernels, reference
from deltajit.derivatives.blackboard import NetworkTrace
from deltajit.model import memory
from deltajit.model.architecture import Architecture
from deltajit.model.data import Data
from deltajit.model.memory import Array
from deltajit.reference.sweeps import as_rows, normalized


def traced(
    architecture: Architecture, model: reference.Model, theta: Array, data: Data
) -> NetworkTrace:
    """Trace one forward and one backward pass of checked samples: see `Network.trace`."""
    net = kernels.Model(*architecture.model(memory.copy(theta)))
    W, b = ([part.copy() for part in parts] for parts in (model.weights, model.biases))
    z, a, slopes = _forward(architecture, W, b, data.X)
    value, (dW, db) = _gradient(architecture, net, data)
    w = normalized(data.weights, len(data.X))
    return NetworkTrace(
        model=model._replace(weights=tuple(W), biases=tuple(b)),
        Y=_targets(architecture, data.Y, a[-1]),
        w=w,
        W=(None, *W),
        b=(None, *b),
        z=(None, *z),
        a=tuple(a),
        value=value,
        slopes=(None, *slopes),
        delta=(None, *_deltas(architecture, net, data, w)),
        dW=(None, *dW),
        db=(None, *db),
    )


def activations(
    architecture: Architecture, model: reference.Model, X: Array, threads: int
) -> tuple[Array, ...]:
    """Compute a of each layer, beginning with X: see `Network.activations`."""
    a = [X.copy()]
    for layer in zip(architecture.activations, model.weights, model.biases, strict=True):
        a.append(_layer(architecture, *layer, a[-1], threads)[2])
    return tuple(a)


def _layer(
    architecture: Architecture, name: str, W: Array, b: Array, a_prev: Array, threads: int
) -> tuple[Any, Array, Array]:
    """Compute z and a of a layer whose activation has this name; return its function too."""
    f = kernels.function_of(name, architecture.dtype, architecture.slope)
    z, a = (np.empty((len(a_prev), b.size), architecture.dtype) for _ in range(2))
    W_T = np.ascontiguousarray(W.T)
    kernels.linear_activation_forward(a_prev, W_T, b, f, z, a, threads)
    return f, z, a


def _forward(
    architecture: Architecture, W: list[Array], b: list[Array], X: Array
) -> tuple[list[Array], list[Array], list[Array]]:
    """Compute z, a and f'(z) of each layer; a begins with X."""
    z, a, slopes = [], [X.copy()], []
    for name, W_l, b_l in zip(architecture.activations, W, b, strict=True):
        f, z_l, a_l = _layer(architecture, name, W_l, b_l, a[-1], 1)
        x = z_l if kernels.ACTIVATIONS[name].of_z else a_l
        slopes.append(_slopes(f, x, of_rows=reference.ACTIVATIONS[name].of_rows))
        z.append(z_l)
        a.append(a_l)
    return z, a, slopes


def _slopes(f: Any, x: Array, of_rows: bool) -> Array:
    """Compute f'(z), (B, n), or each sample's Jacobian, (B, n, n): BP2 with the identity as W."""
    identity = np.eye(x.shape[1], dtype=x.dtype)

    def times_slope(delta: Array) -> Array:
        product = np.empty_like(x)
        rows = np.ascontiguousarray(np.broadcast_to(delta, x.shape))
        kernels.propagate_delta(rows, identity, x, f, product, 1)
        return product

    if of_rows:
        return np.stack([times_slope(unit) for unit in identity], axis=-1)
    return times_slope(np.ones_like(x))


def _gradient(architecture: Architecture, net: kernels.Model, data: Data) -> tuple[float, Any]:
    """Compute the loss, and dW and db of each layer."""
    grad = memory.empty(architecture.n_params, architecture.dtype)
    work = memory.empty(kernels.workspace_size(net, len(data.X)), architecture.dtype)
    value = kernels.value_and_grad(net, data.X, data.Y, grad, work, data.weights)
    return float(value), architecture.unflatten(grad)


def _deltas(architecture: Architecture, net: kernels.Model, data: Data, w: Array) -> list[Array]:
    """Compute dLoss/dz of each layer, (B, n_l): BP4 of one sample alone is db = delta."""
    samples = [Data(data.X[i : i + 1], data.Y[i : i + 1], None) for i in range(len(w))]
    rows = [_gradient(architecture, net, sample)[1][1] for sample in samples]
    shares = w.astype(architecture.dtype)[:, None]
    return [shares * np.stack(layer) for layer in zip(*rows, strict=True)]


def _targets(architecture: Architecture, Y: Array, outputs: Array) -> Array:
    """Return targets (B, n_out), made of class labels (B, 1) as rows of 0 and 1."""
    is_labels = Y.shape[1] != architecture.n_targets
    return as_rows(Y[:, 0].astype(int), outputs) if is_labels else Y.copy()
