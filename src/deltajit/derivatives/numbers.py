"""Every number of a forward and a backward pass, from the kernels, layer by layer."""

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


def traced(made_of: Architecture, model: reference.Model, theta: Array, data: Data) -> NetworkTrace:
    """Trace one forward and one backward pass; `model` is the network on views of `theta`."""
    own = kernels.Model(*made_of.model(memory.copy(theta)))
    W, b = ([part.copy() for part in parts] for parts in (model.weights, model.biases))
    z, a, slopes = _forward(made_of, W, b, data.X)
    value, (dW, db) = _gradient(made_of, own, data)
    w = normalized(data.weights, len(data.X))
    return NetworkTrace(
        model=model._replace(weights=tuple(W), biases=tuple(b)),
        Y=_targets(made_of, data.Y, a[-1]),
        w=w,
        W=(None, *W),
        b=(None, *b),
        z=(None, *z),
        a=tuple(a),
        value=value,
        slopes=(None, *slopes),
        delta=(None, *_deltas(made_of, own, data, w)),
        dW=(None, *dW),
        db=(None, *db),
    )


def _forward(
    made_of: Architecture, W: list[Array], b: list[Array], X: Array
) -> tuple[list[Array], list[Array], list[Array]]:
    """z, a and f'(z) of each layer; a begins with X."""
    z, a, slopes = [], [X.copy()], []
    for W_l, b_l, name in zip(W, b, made_of.activations, strict=True):
        f = kernels.function_of(name, made_of.dtype, made_of.slope)
        z_l, a_l = (np.empty((len(X), b_l.size), made_of.dtype) for _ in range(2))
        W_T = np.ascontiguousarray(W_l.T)
        kernels.linear_activation_forward(a[-1], W_T, b_l, f, z_l, a_l, 1)
        x = z_l if kernels.ACTIVATIONS[name].of_z else a_l
        slopes.append(_slopes(f, x, of_rows=reference.ACTIVATIONS[name].of_rows))
        z.append(z_l)
        a.append(a_l)
    return z, a, slopes


def _slopes(f: Any, x: Array, of_rows: bool) -> Array:
    """f'(z) of each unit (B, n), or each sample's Jacobian (B, n, n): BP2 with W = 1."""
    identity = np.eye(x.shape[1], dtype=x.dtype)

    def times_slope(delta: Array) -> Array:
        product = np.empty_like(x)
        rows = np.ascontiguousarray(np.broadcast_to(delta, x.shape))
        kernels.propagate_delta(rows, identity, x, f, product, 1)
        return product

    if of_rows:
        return np.stack([times_slope(unit) for unit in identity], axis=-1)
    return times_slope(np.ones_like(x))


def _gradient(made_of: Architecture, own: kernels.Model, data: Data) -> tuple[float, Any]:
    """The loss, and dW and db of each layer."""
    grad = memory.empty(made_of.n_params, made_of.dtype)
    work = memory.empty(kernels.workspace_size(own, len(data.X)), made_of.dtype)
    value = kernels.value_and_grad(own, data.X, data.Y, grad, work, data.weights)
    return float(value), made_of.unflatten(grad)


def _deltas(made_of: Architecture, own: kernels.Model, data: Data, w: Array) -> list[Array]:
    """dLoss/dz of each layer, (B, n_l): BP4 of one sample alone reads db = delta."""
    samples = [Data(data.X[i : i + 1], data.Y[i : i + 1], None) for i in range(len(w))]
    rows = [_gradient(made_of, own, sample)[1][1] for sample in samples]
    shares = w.astype(made_of.dtype)[:, None]
    return [shares * np.stack(layer) for layer in zip(*rows, strict=True)]


def _targets(made_of: Architecture, Y: Array, outputs: Array) -> Array:
    """Targets (B, n_out): rows of 0 and 1 where they are labels (B, 1)."""
    is_labels = Y.shape[1] != made_of.n_targets
    return as_rows(Y[:, 0].astype(int), outputs) if is_labels else Y.copy()
