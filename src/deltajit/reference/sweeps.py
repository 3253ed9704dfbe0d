"""The forward and backward sweeps: the four equations of backpropagation, as they read.

Shapes: X (B, n_in), Y (B, n_out) or class labels (B,), W[l] (n_l, n_{l-1}), b[l] (n_l,).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deltajit.reference.activations import ACTIVATIONS, activate, times_derivative
from deltajit.reference.arrays import Array, one_hot, quiet
from deltajit.reference.losses import LOSSES, sample_losses


class Model(NamedTuple):
    """Hold a network of L layers, as the reference takes it; `Network.reference` makes one.

    Attributes
    ----------
    weights : tuple of ndarray, (n_l, n_{l-1})
        W[l] of each layer.
    biases : tuple of ndarray, (n_l,)
        b[l] of each layer.
    activations : tuple of str
        Name of each layer's activation, the output's last.
    loss : str
        Name of the loss.
    l2, l1 : float
        Penalty ``l2/2 * sum(W**2) + l1 * sum(|W|)``.
    slope : float
        Slope of leaky_relu below 0.
    bend : float
        Parameter of the loss: huber's threshold, the quantile, or gamma.
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
    """Compute ``z = a_prev @ W.T + b`` and ``a = f(z)`` of one layer.

    Parameters
    ----------
    a_prev : ndarray, (B, n_in)
        Activations of the layer below, or X.
    W : ndarray, (n_out, n_in)
        Weights.
    b : ndarray, (n_out,)
        Biases.
    activation : str
        Name of f.
    slope : float
        Slope of leaky_relu below 0.

    Returns
    -------
    z : ndarray, (B, n_out)
        Pre-activations.
    a : ndarray, (B, n_out)
        Activations.
    """
    z = a_prev @ W.T + b
    return z, activate(activation, z, slope)


@quiet
def propagate_delta(
    delta: Array, W: Array, x_prev: Array, activation: str, slope: float = 0.01
) -> Array:
    """Compute BP2, ``delta_prev = (delta @ W) * f'(z_prev)``.

    Parameters
    ----------
    delta : ndarray, (B, n_out)
        Derivatives dLoss/dz of this layer.
    W : ndarray, (n_out, n_in)
        Weights of this layer.
    x_prev : ndarray, (B, n_in)
        What f' of the layer below is computed from, a_prev or z_prev: see `Activation`.
    activation : str
        Name of that layer's f.
    slope : float
        Slope of leaky_relu below 0.

    Returns
    -------
    ndarray, (B, n_in)
        Derivatives dLoss/dz of the layer below.
    """
    return times_derivative(activation, x_prev, delta @ W, slope)


@quiet
def accumulate_gradient(delta: Array, a_prev: Array) -> tuple[Array, Array]:
    """Compute BP3, ``dW = delta.T @ a_prev``, and BP4, ``db = delta.sum(axis=0)``.

    Parameters
    ----------
    delta : ndarray, (B, n_out)
        Derivatives dLoss/dz of this layer.
    a_prev : ndarray, (B, n_in)
        Activations of the layer below, or X.

    Returns
    -------
    dW : ndarray, (n_out, n_in)
        Derivatives dLoss/dW.
    db : ndarray, (n_out,)
        Derivatives dLoss/db.
    """
    return delta.T @ a_prev, delta.sum(axis=0)


# ------------------------------------------------------------------ the sweeps


class Sweep(NamedTuple):
    """Hold what the forward sweep keeps for the backward sweep.

    Attributes
    ----------
    z : list of ndarray, (B, n_l)
        ``[z[1], ..., z[L]]``.
    a : list of ndarray, (B, n_l)
        ``[X, a[1], ..., a[L]]``.
    x : list of ndarray, (B, n_l)
        What f' of each layer is computed from, a or z before dropout.
    masks : list of ndarray or 1
        Dropout's mask of each layer: 0 or 1 / keep; 1 without dropout.
    """

    z: list[Array]
    a: list[Array]
    x: list[Array]
    masks: list[Array | float]


@quiet
def forward(model: Model, X: Array, masks: Sequence[Array] | None = None) -> Sweep:
    """Compute logits and activations of all layers.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.
    masks : sequence of ndarray, (B, n_l), optional
        Dropout's mask of each hidden layer, which multiplies its activations.

    Returns
    -------
    Sweep
        Every z and a.
    """
    depth = len(model.weights)
    sweep = Sweep([], [X], [], [1] * depth if masks is None else [*masks, 1])
    layers = zip(model.weights, model.biases, model.activations, sweep.masks, strict=True)
    for W, b, name, mask in layers:
        z, a = linear_activation_forward(sweep.a[-1], W, b, name, model.slope)
        sweep.z.append(z)
        sweep.a.append(a * mask)
        sweep.x.append(z if ACTIVATIONS[name].of_z else a)
    return sweep


def dropout_masks(
    seed: int, keep: Sequence[float], shapes: Sequence[tuple[int, int]]
) -> list[Array]:
    """Draw dropout's masks of the hidden layers for a block of samples, exactly as the kernels do.

    Parameters
    ----------
    seed : int
        The block's seed.
    keep : sequence of float
        Probability that a unit of each hidden layer is kept.
    shapes : sequence of tuple of int
        (B, n_l) of each hidden layer.

    Returns
    -------
    list of ndarray, (B, n_l)
        Masks: 0, or 1 / keep.
    """
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


def predict(model: Model, X: Array, masks: Sequence[Array] | None = None) -> Array:
    """Compute the outputs of the network.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.
    masks : sequence of ndarray, (B, n_l), optional
        Dropout's mask of each hidden layer, as for `forward`.

    Returns
    -------
    ndarray, (B, n_out)
        Activations of the last layer.
    """
    return forward(model, X, masks).a[-1]


@quiet
def loss(
    model: Model,
    X: Array,
    Y: Array,
    weights: Array | None = None,
    masks: Sequence[Array] | None = None,
) -> np.inexact:
    """Compute the weighted mean of the samples' losses, plus the penalty of the weights.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.
    Y : ndarray, (B, n_out) or (B,)
        Targets, or class labels.
    weights : ndarray, (B,), optional
        Weights of the samples; equal by default.
    masks : sequence of ndarray, (B, n_l), optional
        Dropout's mask of each hidden layer.

    Returns
    -------
    numpy.floating or numpy.complexfloating
        ``sum(w * loss) / sum(w) + l2/2 * sum(W**2) + l1 * sum(|W|)``.
    """
    sweep = forward(model, X, masks)
    z, a = sweep.z[-1], sweep.a[-1]
    w = normalized(weights, len(X))
    data = (w * sample_losses(model.loss, z, a, as_rows(Y, a), model.bend)).sum()
    sizes = sum(np.where(W.real < 0, -W, W).sum() for W in model.weights)
    squares = sum((W**2).sum() for W in model.weights)
    value: np.inexact = data + model.l2 / 2 * squares + model.l1 * sizes
    return value


@quiet
def output_delta(model: Model, a: Array, Y: Array) -> Array:
    """Compute BP1, ``delta[L] = dLoss/da[L] * f'(z[L])``, of each sample's own loss.

    Parameters
    ----------
    model : Model
        The network.
    a : ndarray, (B, n_out)
        Activations of the output layer.
    Y : ndarray, (B, n_out)
        Targets.

    Returns
    -------
    ndarray, (B, n_out)
        The delta of the output layer: ``a - Y`` if the loss belongs to the output, since f'
        cancels.
    """
    record = LOSSES[model.loss]
    slopes = record.slopes(a, Y, model.bend)
    if record.output is not None:
        return slopes
    return times_derivative(model.activations[-1], a, slopes, model.slope)


@quiet
def backward(model: Model, sweep: Sweep, delta: Array) -> tuple[list[Array], list[Array]]:
    """Compute BP2, BP3 and BP4 from the output layer's delta.

    Parameters
    ----------
    model : Model
        The network.
    sweep : Sweep
        What `forward` returned.
    delta : ndarray, (B, n_out)
        The delta of the output layer.

    Returns
    -------
    dW : list of ndarray, (n_l, n_{l-1})
        Gradients of each layer's weights, without the penalty.
    db : list of ndarray, (n_l,)
        Gradients of each layer's biases.

    Raises
    ------
    ValueError
        delta is not of the shape of the outputs, such as class labels.
    """
    pairs = zip(deltas(model, sweep, delta), sweep.a[:-1], strict=True)
    gradients = [accumulate_gradient(delta, a_prev) for delta, a_prev in pairs]
    return [dW for dW, _ in gradients], [db for _, db in gradients]


@quiet
def deltas(model: Model, sweep: Sweep, delta: Array) -> list[Array]:
    """Compute BP2, down to the first layer, from the output layer's delta.

    Parameters
    ----------
    model : Model
        The network.
    sweep : Sweep
        What `forward` returned.
    delta : ndarray, (B, n_out)
        The delta of the output layer.

    Returns
    -------
    list of ndarray, (B, n_l)
        The delta of each layer.

    Raises
    ------
    ValueError
        delta is not of the shape of the outputs.
    """
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
    masks: Sequence[Array] | None = None,
) -> tuple[np.inexact, list[Array], list[Array]]:
    """Compute the loss and its gradient by the four equations of backpropagation.

    Parameters
    ----------
    model : Model
        The network.
    X : ndarray, (B, n_in)
        Samples.
    Y : ndarray, (B, n_out) or (B,)
        Targets, or class labels.
    weights : ndarray, (B,), optional
        Weights of the samples; equal by default.
    masks : sequence of ndarray, (B, n_l), optional
        Dropout's mask of each hidden layer.

    Returns
    -------
    value : numpy.floating or numpy.complexfloating
        What `loss` returns.
    dW : list of ndarray, (n_l, n_{l-1})
        Gradients of each layer's weights, with the penalty.
    db : list of ndarray, (n_l,)
        Gradients of each layer's biases.

    Examples
    --------
    >>> import numpy as np
    >>> import deltajit as dj
    >>> net = dj.Network([2, 3, 1], dtype="float64", rng=0)
    >>> X, Y = np.ones((4, 2)), np.zeros((4, 1))
    >>> value, dW, db = dj.reference.value_and_grad(net.reference, X, Y)
    >>> bool(np.allclose(net.grad(X, Y), net.flatten(dW, db)))
    True
    """
    sweep = forward(model, X, masks)
    dW, db = backward(model, sweep, loss_delta(model, sweep, Y, weights))
    penalties = [model.l2 * W + model.l1 * np.sign(W.real) for W in model.weights]
    dW = [(d + p).astype(d.dtype) for d, p in zip(dW, penalties, strict=True)]
    return loss(model, X, Y, weights, masks), dW, db


@quiet
def loss_delta(model: Model, sweep: Sweep, Y: Array, weights: Array | None = None) -> Array:
    """Compute BP1 of the weighted mean of the samples' losses.

    Parameters
    ----------
    model : Model
        The network.
    sweep : Sweep
        What `forward` returned.
    Y : ndarray, (B, n_out) or (B,)
        Targets, or class labels.
    weights : ndarray, (B,), optional
        Weights of the samples; equal by default.

    Returns
    -------
    ndarray, (B, n_out)
        The delta of the output layer.
    """
    w, a = normalized(weights, len(Y)), sweep.a[-1]
    delta: Array = output_delta(model, a, as_rows(Y, a)) * w[:, None].astype(a.real.dtype)
    return delta


# ------------------------------------------------------------------ helpers


def as_rows(Y: Array, a: Array) -> Array:
    """Convert class labels to rows of 0 and 1; return any other targets as they are.

    Parameters
    ----------
    Y : ndarray, (B, n_out) or (B,)
        Targets, or class labels.
    a : ndarray, (B, n_out)
        Activations of the output layer, for shape and dtype.

    Returns
    -------
    ndarray, (B, n_out)
        Targets.
    """
    return one_hot(Y, a.shape[1], a.real.dtype) if Y.ndim == 1 else Y


def normalized(weights: Array | None, n: int) -> Array:
    """Return the weights of samples, scaled so that their sum is 1.

    Parameters
    ----------
    weights : ndarray, (n,), or None
        Weights; equal ones if None.
    n : int
        Number of samples.

    Returns
    -------
    ndarray, (n,)
        Scaled weights.
    """
    w = np.ones(n) if weights is None else np.asarray(weights, float)
    return np.asarray(w / w.sum())
