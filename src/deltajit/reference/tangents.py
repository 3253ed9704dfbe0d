"""Derivatives beyond the gradient: along a vector, of each sample, of the inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deltajit.reference.activations import ACTIVATIONS, times_derivative
from deltajit.reference.arrays import Array, one_hot, quiet
from deltajit.reference.losses import LOSSES
from deltajit.reference.sweeps import (
    Model,
    Sweep,
    as_rows,
    backward,
    forward,
    normalized,
    output_delta,
    propagate_delta,
)


@quiet
def jvp(model: Model, X: Array, VW: Sequence[Array], vb: Sequence[Array]) -> Array:
    """Derivative of `predict` along (VW, vb), (B, n_out)."""
    _, Ra = _tangents(model, forward(model, X), VW, vb)
    return Ra[-1]


@quiet
def vjp(model: Model, X: Array, u: Array) -> tuple[list[Array], list[Array]]:
    """``sum(u * predict)``'s gradient, u (B, n_out): dW and db of every layer."""
    sweep = forward(model, X)
    delta = times_derivative(model.activations[-1], sweep.a[-1], u, model.slope)
    return backward(model, sweep, delta)


@quiet
def hvp(
    model: Model,
    X: Array,
    Y: Array,
    VW: Sequence[Array],
    vb: Sequence[Array],
    weights: Array | None = None,
) -> tuple[list[Array], list[Array]]:
    """H v by the R-operator (Pearlmutter 1994): the derivative of every line of the gradient."""
    sweep = forward(model, X)
    a, x = sweep.a, sweep.x
    w = normalized(weights, len(X))[:, None].astype(a[-1].real.dtype)
    Rz, Ra = _tangents(model, sweep, VW, vb)
    targets = as_rows(Y, a[-1])
    delta = w * output_delta(model, a[-1], targets)
    Rdelta = w * _output_tangent(model, a[-1], targets, Rz[-1], Ra[-1])
    RdW: list[Array] = []
    Rdb: list[Array] = []
    for k in reversed(range(len(model.weights))):
        RdW.insert(0, delta.T @ Ra[k] + Rdelta.T @ a[k] + model.l2 * VW[k])
        Rdb.insert(0, Rdelta.sum(axis=0))
        if k > 0:
            W, name = model.weights[k], model.activations[k - 1]
            u, Ru = delta @ W, Rdelta @ W + delta @ VW[k]
            turned = ACTIVATIONS[name].curve(x[k - 1], u, Rz[k - 1], model.slope)
            Rdelta = times_derivative(name, x[k - 1], Ru, model.slope) + turned
            delta = times_derivative(name, x[k - 1], u, model.slope)
    return RdW, Rdb


@quiet
def gnvp(
    model: Model,
    X: Array,
    Y: Array,
    VW: Sequence[Array],
    vb: Sequence[Array],
    weights: Array | None = None,
) -> tuple[list[Array], list[Array]]:
    """Gauss-Newton's ``J^T (d2 loss / d out2) J v`` (Schraudolph 2002), plus the penalty's part."""
    sweep = forward(model, X)
    a = sweep.a[-1]
    w = normalized(weights, len(X))[:, None].astype(a.real.dtype)
    Rz, Ra = _tangents(model, sweep, VW, vb)
    delta = w * _output_curvature(model, a, as_rows(Y, a), Rz[-1], Ra[-1])
    dW, db = backward(model, sweep, delta)
    return [d + model.l2 * V for d, V in zip(dW, VW, strict=True)], db


@quiet
def per_sample_grads(model: Model, X: Array, Y: Array) -> tuple[list[Array], list[Array]]:
    """dW (B, n_out, n_in) and db (B, n_out) of each sample's own loss, every layer, without l2."""
    sweep = forward(model, X)
    a = sweep.a
    delta = output_delta(model, a[-1], as_rows(Y, a[-1]))
    dW: list[Array] = []
    db: list[Array] = []
    for k in reversed(range(len(model.weights))):
        dW.insert(0, delta[:, :, None] * a[k][:, None, :])
        db.insert(0, delta)
        if k > 0:
            name = model.activations[k - 1]
            delta = propagate_delta(delta, model.weights[k], sweep.x[k - 1], name, model.slope)
    return dW, db


@quiet
def input_grad(model: Model, X: Array, Y: Array) -> Array:
    """Gradient of each sample's own loss with respect to its inputs, (B, n_in)."""
    sweep = forward(model, X)
    a = sweep.a[-1]
    return _to_inputs(model, sweep, output_delta(model, a, as_rows(Y, a)))


@quiet
def jacobian(model: Model, X: Array) -> Array:
    """Derivatives of the outputs with respect to the inputs, (B, n_out, n_in)."""
    sweep = forward(model, X)
    a, columns = sweep.a[-1], []
    for o in range(a.shape[1]):
        u = one_hot(np.full(len(X), o), a.shape[1], a.real.dtype)
        delta = times_derivative(model.activations[-1], a, u, model.slope)
        columns.append(_to_inputs(model, sweep, delta))
    return np.stack(columns, axis=1)


def _tangents(
    model: Model, sweep: Sweep, VW: Sequence[Array], vb: Sequence[Array]
) -> tuple[list[Array], list[Array]]:
    """Rz of every layer, and ``[R X = 0, Ra[1], ..., Ra[L]]``."""
    Rz: list[Array] = []
    a, Ra = sweep.a, [np.zeros_like(sweep.a[0])]
    layers = zip(model.weights, model.activations, VW, vb, strict=True)
    for k, (W, name, V, b) in enumerate(layers):
        Rz.append(Ra[k] @ W.T + a[k] @ V.T + b)
        Ra.append(times_derivative(name, sweep.x[k], Rz[k], model.slope))
    return Rz, Ra


def _output_curvature(model: Model, a: Array, Y: Array, Rz: Array, Ra: Array) -> Array:
    """The loss' second derivative times Ra, as a delta."""
    found = LOSSES[model.loss]
    curved = found.curved(a, Y, Rz, Ra, model.bend)
    if found.output is not None:
        return curved
    return times_derivative(model.activations[-1], a, curved, model.slope)


def _output_tangent(model: Model, a: Array, Y: Array, Rz: Array, Ra: Array) -> Array:
    """Derivative of `output_delta`."""
    found, name = LOSSES[model.loss], model.activations[-1]
    turned = found.turned(a, Y, Rz, Ra, model.bend)
    if found.output is not None:
        return turned
    bent = ACTIVATIONS[name].curve(a, found.slopes(a, Y, model.bend), Rz, model.slope)
    return times_derivative(name, a, turned, model.slope) + bent


def _to_inputs(model: Model, sweep: Sweep, delta: Array) -> Array:
    """What a delta of the output layer is for the inputs."""
    for k in reversed(range(1, len(model.weights))):
        name = model.activations[k - 1]
        delta = propagate_delta(delta, model.weights[k], sweep.x[k - 1], name, model.slope)
    return np.asarray(delta @ model.weights[0])
