"""The sweeps: the four equations of backpropagation, as they read.

Shapes: X (B, n_in), Y (B, n_out) or class labels (B,), W[l] (n_l, n_{l-1}), b[l] (n_l,).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from deltajit.reference.activations import ACTIVATIONS, activate, times_derivative
from deltajit.reference.arrays import Array, one_hot, quiet
from deltajit.reference.losses import LOSSES, sample_losses


class Model(NamedTuple):
    """A network: one weight matrix, bias vector and activation name a layer.

    weights, biases : tuples of (n_l, n_{l-1}) and (n_l,) arrays.
    activations : tuple of names, the output's last.
    loss : name of the loss. l2, l1 : penalty ``l2/2 * sum(W**2) + l1 * sum(|W|)``. slope : of
    leaky_relu below 0. bend : huber's threshold, or the quantile.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    activations: tuple[str, ...]
    loss: str
    l2: float = 0.0
    slope: float = 0.01
    l1: float = 0.0
    bend: float = 1.0


# ------------------------------------------------------------------ the three layer kernels


@quiet
def linear_activation_forward(
    a_prev: Array, W: Array, b: Array, activation: str, slope: float = 0.01
) -> tuple[Array, Array]:
    """``z = a_prev @ W.T + b`` and ``a = f(z)``, both (B, n_out)."""
    z = a_prev @ W.T + b
    return z, activate(activation, z, slope)


@quiet
def propagate_delta(
    delta: Array, W: Array, x_prev: Array, activation: str, slope: float = 0.01
) -> Array:
    """BP2: ``delta_prev = (delta @ W) * f'(z_prev)``, (B, n_in), with f' of the layer below.

    x_prev : what f' is computed from, a_prev, or z_prev (see `Activation`).
    """
    return times_derivative(activation, x_prev, delta @ W, slope)


@quiet
def accumulate_gradient(delta: Array, a_prev: Array) -> tuple[Array, Array]:
    """BP3 ``dW = delta.T @ a_prev`` and BP4 ``db = delta.sum(axis=0)``."""
    return delta.T @ a_prev, delta.sum(axis=0)


# ------------------------------------------------------------------ the sweeps


class Sweep(NamedTuple):
    """What a sweep forward leaves for the sweep back.

    z : of each layer. a : ``[X, a[1], ..., a[L]]``. x : what each layer's f' is computed from.
    masks : of dropout, of each layer: 0, or 1 / keep.
    """

    z: list[Array]
    a: list[Array]
    x: list[Array]
    masks: list[Any]


@quiet
def forward(model: Model, X: Array, masks: Sequence[Any] | None = None) -> Sweep:
    """Logits and activations of all layers; `masks` multiply those of the hidden layers."""
    depth = len(model.weights)
    found = Sweep([], [X], [], [1] * depth if masks is None else [*masks, 1])
    layers = zip(model.weights, model.biases, model.activations, found.masks, strict=True)
    for W, b, name, mask in layers:
        z, a = linear_activation_forward(found.a[-1], W, b, name, model.slope)
        found.z.append(z)
        found.a.append(a * mask)
        found.x.append(z if ACTIVATIONS[name].of_z else a)
    return found


def dropout_masks(seed: int, keep: Sequence[float], shapes: Sequence[tuple[int, int]]) -> list[Any]:
    """Masks (B, n) of the hidden layers for a block of samples, as the kernels draw them."""
    golden, word, masks = 0x9E3779B97F4A7C15, 2**64, []
    for k, (share, shape) in enumerate(zip(keep, shapes, strict=True)):
        x = (seed + golden * (k + 1)) % word
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % word
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % word
        i = np.arange(math.prod(shape), dtype=np.uint64) + np.uint64((x ^ (x >> 31)) % 2**32)
        i %= np.uint64(2**32)
        i = (i ^ (i >> np.uint64(16))) * np.uint64(0x7FEB352D) % np.uint64(2**32)
        i = (i ^ (i >> np.uint64(15))) * np.uint64(0x846CA68B) % np.uint64(2**32)
        kept = (i ^ (i >> np.uint64(16))) < np.uint64(share * 2**32)
        masks.append(kept.reshape(shape) / share)
    return masks


def predict(model: Model, X: Array) -> Array:
    """Outputs (B, n_out)."""
    return forward(model, X).a[-1]


@quiet
def loss(
    model: Model,
    X: Array,
    Y: Array,
    weights: Array | None = None,
    masks: Sequence[Any] | None = None,
) -> Any:
    """Weighted mean over samples of the loss, plus the penalty of the weights; a scalar."""
    sweep = forward(model, X, masks)
    z, a = sweep.z[-1], sweep.a[-1]
    w = normalized(weights, len(X))
    data = (w * sample_losses(model.loss, z, a, as_rows(Y, a), model.bend)).sum()
    sizes = sum(np.where(W.real < 0, -W, W).sum() for W in model.weights)
    return data + model.l2 / 2 * sum((W**2).sum() for W in model.weights) + model.l1 * sizes


@quiet
def output_delta(model: Model, a: Array, Y: Array) -> Array:
    """BP1: ``delta[L] = dLoss/da[L] * f'(z[L])`` of each sample; `a - Y` where f' cancels."""
    found = LOSSES[model.loss]
    slopes = found.slopes(a, Y, model.bend)
    if found.output is not None:
        return slopes
    return times_derivative(model.activations[-1], a, slopes, model.slope)


@quiet
def backward(model: Model, sweep: Sweep, delta: Array) -> tuple[list[Array], list[Array]]:
    """BP2, BP3 and BP4 from a delta of the output layer: dW and db of every layer, without l2."""
    pairs = zip(deltas(model, sweep, delta), sweep.a[:-1], strict=True)
    gradients = [accumulate_gradient(delta, a_prev) for delta, a_prev in pairs]
    return [dW for dW, _ in gradients], [db for _, db in gradients]


@quiet
def deltas(model: Model, sweep: Sweep, delta: Array) -> list[Array]:
    """BP2 from a delta of the output layer (B, n_out): the delta of every layer."""
    outputs = sweep.z[-1]
    if np.shape(delta) != outputs.shape:
        raise ValueError(
            f"delta must be dLoss/dz of the output layer, of shape {outputs.shape}, got shape "
            f"{np.shape(delta)}; output_delta makes it of targets, and value_and_grad takes labels"
        )
    chain = [delta]
    for k in reversed(range(1, len(model.weights))):
        name = model.activations[k - 1]
        delta = propagate_delta(delta, model.weights[k], sweep.x[k - 1], name, model.slope)
        delta = delta * sweep.masks[k - 1]
        chain.insert(0, delta)
    return chain


@quiet
def value_and_grad(
    model: Model,
    X: Array,
    Y: Array,
    weights: Array | None = None,
    masks: Sequence[Any] | None = None,
) -> tuple[Any, list[Array], list[Array]]:
    """The loss, and dW[l] and db[l] of every layer: the four equations of backpropagation."""
    sweep = forward(model, X, masks)
    dW, db = backward(model, sweep, loss_delta(model, sweep, Y, weights))
    penalties = [model.l2 * W + model.l1 * np.sign(W.real) for W in model.weights]
    dW = [(d + p).astype(d.dtype) for d, p in zip(dW, penalties, strict=True)]
    return loss(model, X, Y, weights, masks), dW, db


@quiet
def loss_delta(model: Model, sweep: Sweep, Y: Array, weights: Array | None = None) -> Array:
    """BP1 of the weighted mean: dLoss/dz of the output layer, (B, n_out)."""
    w, a = normalized(weights, len(Y)), sweep.a[-1]
    delta: Array = output_delta(model, a, as_rows(Y, a)) * w[:, None].astype(a.real.dtype)
    return delta


# ------------------------------------------------------------------ helpers


def as_rows(Y: Array, a: Array) -> Array:
    """Class labels (B,) as rows of 0 and 1; anything else as it is."""
    return one_hot(Y, a.shape[1], a.real.dtype) if Y.ndim == 1 else Y


def normalized(weights: Array | None, n: int) -> Array:
    """Weights whose sum is 1, (n,); the same for all where there are none."""
    w = np.ones(n) if weights is None else np.asarray(weights, float)
    return np.asarray(w / w.sum())
