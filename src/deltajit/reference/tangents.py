"""Derivatives beyond the gradient: along a vector, per sample, and with respect to inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deltajit.reference.activations import ACTIVATIONS, times_derivative
from deltajit.reference.arrays import Array, quiet
from deltajit.reference.losses import LOSSES
from deltajit.reference.sweeps import (
    Model,
    Sweep,
    as_rows,
    backward,
    deltas,
    forward,
    normalized,
    output_delta,
)  # fmt: skip


@quiet
def jvp(model: Model, X: Array, VW: Sequence[Array], vb: Sequence[Array]) -> Array:
    """Compute the derivative of `predict` along a direction in the space of parameters.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.
    VW, vb : sequence of ndarray, (n_l, n_{l-1}) and (n_l,)
        The direction, like weights and biases.

    Returns
    -------
    ndarray, (B, n_out)
        J v.
    """
    _, Ra = _tangents(model, forward(model, X), VW, vb)
    return Ra[-1]


@quiet
def vjp(model: Model, X: Array, u: Array) -> tuple[list[Array], list[Array]]:
    """Compute the gradient of ``sum(u * predict(X))``, with u constant.

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
    dW : list of ndarray, (n_l, n_{l-1})
        Part of J^T u that belongs to the weights.
    db : list of ndarray, (n_l,)
        Part that belongs to the biases.
    """
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
    """Compute the Hessian of the loss times a vector, by the R-operator (Pearlmutter 1994).

    R x is the derivative of x along v; every line of the gradient is differentiated in turn.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.
    Y : ndarray, (B, n_out) or (B,)
        Targets, or class labels.
    VW, vb : sequence of ndarray, (n_l, n_{l-1}) and (n_l,)
        The vector v, like weights and biases.
    weights : ndarray, (B,), optional
        Weights of the samples; equal by default.

    Returns
    -------
    RdW : list of ndarray, (n_l, n_{l-1})
        Part of H v that belongs to the weights, with that of l2.
    Rdb : list of ndarray, (n_l,)
        Part that belongs to the biases.
    """
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
    """Compute the Gauss-Newton matrix of the loss times a vector (Schraudolph 2002).

    The matrix is ``J^T H J``, with J the Jacobian of the outputs (of the logits, if the loss
    belongs to an output), and H the Hessian of the loss with respect to them (for "gaussian_nll"
    the Fisher information).

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.
    Y : ndarray, (B, n_out) or (B,)
        Targets, or class labels.
    VW, vb : sequence of ndarray, (n_l, n_{l-1}) and (n_l,)
        The vector v, like weights and biases.
    weights : ndarray, (B,), optional
        Weights of the samples; equal by default.

    Returns
    -------
    dW : list of ndarray, (n_l, n_{l-1})
        Part of ``J^T H J v`` that belongs to the weights, with that of l2.
    db : list of ndarray, (n_l,)
        Part that belongs to the biases.
    """
    sweep = forward(model, X)
    a = sweep.a[-1]
    w = normalized(weights, len(X))[:, None].astype(a.real.dtype)
    Rz, Ra = _tangents(model, sweep, VW, vb)
    delta = w * _output_curvature(model, a, as_rows(Y, a), Rz[-1], Ra[-1])
    dW, db = backward(model, sweep, delta)
    return [d + model.l2 * V for d, V in zip(dW, VW, strict=True)], db


@quiet
def per_sample_grads(model: Model, X: Array, Y: Array) -> tuple[list[Array], list[Array]]:
    """Compute the gradient of each sample's own loss, without weights and penalty.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.
    Y : ndarray, (B, n_out) or (B,)
        Targets, or class labels.

    Returns
    -------
    dW : list of ndarray, (B, n_l, n_{l-1})
        Gradients of each layer's weights.
    db : list of ndarray, (B, n_l)
        Gradients of each layer's biases.
    """
    sweep = forward(model, X)
    a = sweep.a
    db = deltas(model, sweep, output_delta(model, a[-1], as_rows(Y, a[-1])))
    return [d[:, :, None] * x[:, None, :] for d, x in zip(db, a[:-1], strict=True)], db


@quiet
def input_grad(model: Model, X: Array, Y: Array) -> Array:
    """Compute the gradient of each sample's own loss with respect to its inputs.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.
    Y : ndarray, (B, n_out) or (B,)
        Targets, or class labels.

    Returns
    -------
    ndarray, (B, n_in)
        The derivatives dLoss/dX.
    """
    sweep = forward(model, X)
    a = sweep.a[-1]
    return _to_inputs(model, sweep, output_delta(model, a, as_rows(Y, a)))


@quiet
def jacobian(model: Model, X: Array) -> Array:
    """Compute the derivatives of the outputs with respect to the inputs.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.

    Returns
    -------
    ndarray, (B, n_out, n_in)
        Jacobian of each sample.
    """
    sweep = forward(model, X)
    columns = [_to_inputs(model, sweep, delta) for delta in _deltas_of_outputs(model, sweep)]
    return np.stack(columns, axis=1)


@quiet
def parameter_jacobian(model: Model, X: Array) -> tuple[list[Array], list[Array]]:
    """Compute the derivatives of the outputs with respect to theta.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.

    Returns
    -------
    dW : list of ndarray, (B, n_out, n_l, n_{l-1})
        Derivatives of each sample's outputs by each layer's weights.
    db : list of ndarray, (B, n_out, n_l)
        Derivatives by each layer's biases.
    """
    sweep = forward(model, X)
    rows = [deltas(model, sweep, delta) for delta in _deltas_of_outputs(model, sweep)]
    db = [np.stack(layer, axis=1) for layer in zip(*rows, strict=True)]
    layers = zip(db, sweep.a[:-1], strict=True)
    return [d[..., None] * a[:, None, None, :] for d, a in layers], db


def _deltas_of_outputs(model: Model, sweep: Sweep) -> list[Array]:
    """Compute dz[L] of each output alone, ``f'(z[L])`` times a unit vector."""
    a = sweep.a[-1]
    units = np.eye(a.shape[1], dtype=a.real.dtype)
    rows = [np.broadcast_to(unit, a.shape) for unit in units]
    return [times_derivative(model.activations[-1], a, row, model.slope) for row in rows]


def _tangents(
    model: Model, sweep: Sweep, VW: Sequence[Array], vb: Sequence[Array]
) -> tuple[list[Array], list[Array]]:
    """Compute Rz of every layer, and ``[R X = 0, Ra[1], ..., Ra[L]]``."""
    Rz: list[Array] = []
    a, Ra = sweep.a, [np.zeros_like(sweep.a[0])]
    layers = zip(model.weights, model.activations, VW, vb, strict=True)
    for k, (W, name, V, b) in enumerate(layers):
        Rz.append(Ra[k] @ W.T + a[k] @ V.T + b)
        Ra.append(times_derivative(name, sweep.x[k], Rz[k], model.slope))
    return Rz, Ra


def _output_curvature(model: Model, a: Array, Y: Array, Rz: Array, Ra: Array) -> Array:
    """Compute the Gauss-Newton part of the derivative of `output_delta`."""
    record = LOSSES[model.loss]
    curved = record.curved(a, Y, Rz, Ra, model.bend)
    if record.output is not None:
        return curved
    return times_derivative(model.activations[-1], a, curved, model.slope)


def _output_tangent(model: Model, a: Array, Y: Array, Rz: Array, Ra: Array) -> Array:
    """Compute the derivative of `output_delta`."""
    record, name = LOSSES[model.loss], model.activations[-1]
    turned = record.turned(a, Y, Rz, Ra, model.bend)
    if record.output is not None:
        return turned
    bent = ACTIVATIONS[name].curve(a, record.slopes(a, Y, model.bend), Rz, model.slope)
    return times_derivative(name, a, turned, model.slope) + bent


def _to_inputs(model: Model, sweep: Sweep, delta: Array) -> Array:
    """Propagate the output layer's delta to the inputs."""
    return np.asarray(deltas(model, sweep, delta)[0] @ model.weights[0])
