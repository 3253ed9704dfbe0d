"""Backpropagation as the equations read, in NumPy: the twin of every kernel, without Numba.

Nothing here is optimized, so that it can be checked by eye, and everything accepts float32,
float64 and complex arrays: with a complex theta, ``loss(theta + 1e-30j * v).imag / 1e-30`` is the
derivative along v to machine precision (complex step: Squire & Trapp 1998), which is how the
gradient itself is checked.

Shapes: X (B, n_in), Y (B, n_out) or class labels (B,), W[l] (n_l, n_{l-1}), b[l] (n_l,).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Model(NamedTuple):
    """A network: one weight matrix, bias vector and activation name a layer.

    weights, biases : tuples of (n_l, n_{l-1}) and (n_l,) arrays.
    activations : tuple of names, the output's last.
    loss : name of the loss. l2 : penalty ``l2/2 * sum(W**2)``. slope : of leaky_relu below 0.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    activations: tuple[str, ...]
    loss: str
    l2: float = 0.0
    slope: float = 0.01


# ------------------------------------------------------------------ activations and losses


def activate(activation: str, z: Array, slope: float = 0.01) -> Array:
    """``a = f(z)``, the same shape as z (B, n)."""
    if activation == "identity":
        return z
    if activation == "sigmoid":
        positive = z.real > 0  # either form overflows on the other side
        e = np.exp(np.where(positive, -z, z))
        return np.asarray(np.where(positive, 1, e) / (1 + e))
    if activation == "tanh":
        return np.asarray(np.tanh(z))
    if activation == "relu":
        return np.asarray(np.where(z.real <= 0, 0, z))
    if activation == "leaky_relu":
        return np.asarray(np.where(z.real <= 0, slope * z, z))
    if activation == "softmax":
        e = np.exp(z - z.real.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))
    raise ValueError(f"activation is {activation!r}")


def times_derivative(activation: str, a: Array, g: Array, slope: float = 0.01) -> Array:
    """``g * f'(z)``, given ``a = f(z)``; for softmax g times the Jacobian ``diag(a) - a a^T``."""
    if activation == "identity":
        return g
    if activation == "sigmoid":
        return np.asarray(g * (a * (1 - a)))
    if activation == "tanh":
        return np.asarray(g * (1 - a * a))
    if activation == "relu":
        return np.where(a.real <= 0, 0, g)
    if activation == "leaky_relu":
        return np.where(a.real <= 0, slope * g, g)
    if activation == "softmax":
        return np.asarray(a * (g - (a * g).sum(axis=1, keepdims=True)))
    raise ValueError(f"activation is {activation!r}")


def one_hot(labels: Array, n: int, dtype: Any) -> Array:
    """Rows of the identity matrix, (B, n), for class labels (B,)."""
    return np.asarray(np.eye(n, dtype=dtype)[labels])


def sample_losses(loss: str, z: Array, a: Array, Y: Array) -> Array:
    """Loss of each sample, (B,), from logits z and activations a of the output, (B, n_out)."""
    if loss == "squared_error":
        return np.asarray(((a - Y) ** 2).sum(axis=1) / 2)
    if loss == "cross_entropy":
        shifted = z - z.real.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return np.asarray((Y * (log_sum - shifted)).sum(axis=1))
    if loss == "binary_cross_entropy":
        size = np.where(z.real > 0, z, -z)
        positive = np.where(z.real > 0, z, 0)
        return np.asarray((np.log1p(np.exp(-size)) + positive - z * Y).sum(axis=1))
    raise ValueError(f"loss is {loss!r}")


def output_delta(model: Model, a: Array, Y: Array) -> Array:
    """BP1: ``delta[L] = dLoss/da[L] * f'(z[L])`` of each sample; `a - Y` where f' cancels."""
    if model.loss == "cross_entropy":
        return np.asarray(a * Y.sum(axis=1, keepdims=True) - Y)
    if model.loss == "binary_cross_entropy":
        return np.asarray(a - Y)
    return times_derivative(model.activations[-1], a, a - Y, model.slope)


# ------------------------------------------------------------------ the three layer kernels


def linear_activation_forward(
    a_prev: Array, W: Array, b: Array, activation: str, slope: float = 0.01
) -> tuple[Array, Array]:
    """``z = a_prev @ W.T + b`` and ``a = f(z)``, both (B, n_out)."""
    z = a_prev @ W.T + b
    return z, activate(activation, z, slope)


def propagate_delta(
    delta: Array, W: Array, a_prev: Array, activation: str, slope: float = 0.01
) -> Array:
    """BP2: ``delta_prev = (delta @ W) * f'(z_prev)``, (B, n_in), with f' of the layer below."""
    return times_derivative(activation, a_prev, delta @ W, slope)


def accumulate_gradient(delta: Array, a_prev: Array) -> tuple[Array, Array]:
    """BP3 ``dW = delta.T @ a_prev`` and BP4 ``db = delta.sum(axis=0)``."""
    return delta.T @ a_prev, delta.sum(axis=0)


# ------------------------------------------------------------------ the sweeps


def forward(model: Model, X: Array) -> tuple[Array, list[Array]]:
    """Logits of the output layer, and the activations ``[X, a[1], ..., a[L]]``."""
    activations = [X]
    for W, b, name in zip(model.weights, model.biases, model.activations, strict=True):
        z, a = linear_activation_forward(activations[-1], W, b, name, model.slope)
        activations.append(a)
    return z, activations


def predict(model: Model, X: Array) -> Array:
    """Outputs (B, n_out)."""
    return forward(model, X)[1][-1]


def loss(model: Model, X: Array, Y: Array, weights: Array | None = None) -> Any:
    """Weighted mean over samples of the loss, plus ``l2/2 * sum(W**2)``; a scalar."""
    z, activations = forward(model, X)
    a = activations[-1]
    w = _normalized(weights, len(X))
    data = (w * sample_losses(model.loss, z, a, _targets(Y, a))).sum()
    return data + model.l2 / 2 * sum((W**2).sum() for W in model.weights)


def backward(model: Model, a: list[Array], delta: Array) -> tuple[list[Array], list[Array]]:
    """BP2, BP3 and BP4 from a delta of the output layer: dW and db of every layer, without l2."""
    dW: list[Array] = []
    db: list[Array] = []
    for k in reversed(range(len(model.weights))):
        dW_k, db_k = accumulate_gradient(delta, a[k])
        dW.insert(0, dW_k)
        db.insert(0, db_k)
        if k > 0:
            name = model.activations[k - 1]
            delta = propagate_delta(delta, model.weights[k], a[k], name, model.slope)
    return dW, db


def value_and_grad(
    model: Model, X: Array, Y: Array, weights: Array | None = None
) -> tuple[Any, list[Array], list[Array]]:
    """The loss, and dW[l] and db[l] of every layer: the four equations of backpropagation."""
    _, a = forward(model, X)
    w = _normalized(weights, len(X))
    delta = output_delta(model, a[-1], _targets(Y, a[-1])) * w[:, None].astype(a[-1].real.dtype)
    dW, db = backward(model, a, delta)
    dW = [d + model.l2 * W for d, W in zip(dW, model.weights, strict=True)]
    return loss(model, X, Y, weights), dW, db


# ------------------------------------------------------------------ beyond the gradient


def jvp(model: Model, X: Array, VW: Sequence[Array], vb: Sequence[Array]) -> Array:
    """Derivative of `predict` along (VW, vb), (B, n_out)."""
    _, Ra = _tangents(model, forward(model, X)[1], VW, vb)
    return Ra[-1]


def vjp(model: Model, X: Array, u: Array) -> tuple[list[Array], list[Array]]:
    """``sum(u * predict)``'s gradient, u (B, n_out): dW and db of every layer."""
    _, a = forward(model, X)
    return backward(model, a, times_derivative(model.activations[-1], a[-1], u, model.slope))


def hvp(
    model: Model,
    X: Array,
    Y: Array,
    VW: Sequence[Array],
    vb: Sequence[Array],
    weights: Array | None = None,
) -> tuple[list[Array], list[Array]]:
    """H v by the R-operator (Pearlmutter 1994): the derivative of every line of the gradient."""
    _, a = forward(model, X)
    w = _normalized(weights, len(X))[:, None].astype(a[-1].real.dtype)
    Rz, Ra = _tangents(model, a, VW, vb)
    targets = _targets(Y, a[-1])
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
            turned = second_derivative(name, a[k], model.slope) * Rz[k - 1]
            Rdelta = times_derivative(name, a[k], Ru, model.slope) + u * turned
            delta = times_derivative(name, a[k], u, model.slope)
    return RdW, Rdb


def gnvp(
    model: Model,
    X: Array,
    Y: Array,
    VW: Sequence[Array],
    vb: Sequence[Array],
    weights: Array | None = None,
) -> tuple[list[Array], list[Array]]:
    """Gauss-Newton's ``J^T (d2 loss / d out2) J v`` (Schraudolph 2002), plus the penalty's part."""
    _, a = forward(model, X)
    w = _normalized(weights, len(X))[:, None].astype(a[-1].real.dtype)
    _, Ra = _tangents(model, a, VW, vb)
    delta = w * _output_curvature(model, a[-1], _targets(Y, a[-1]), Ra[-1])
    dW, db = backward(model, a, delta)
    return [d + model.l2 * V for d, V in zip(dW, VW, strict=True)], db


def per_sample_grads(model: Model, X: Array, Y: Array) -> tuple[list[Array], list[Array]]:
    """dW (B, n_out, n_in) and db (B, n_out) of each sample's own loss, every layer, without l2."""
    _, a = forward(model, X)
    delta = output_delta(model, a[-1], _targets(Y, a[-1]))
    dW: list[Array] = []
    db: list[Array] = []
    for k in reversed(range(len(model.weights))):
        dW.insert(0, delta[:, :, None] * a[k][:, None, :])
        db.insert(0, delta)
        if k > 0:
            name = model.activations[k - 1]
            delta = propagate_delta(delta, model.weights[k], a[k], name, model.slope)
    return dW, db


def input_grad(model: Model, X: Array, Y: Array) -> Array:
    """Gradient of each sample's own loss with respect to its inputs, (B, n_in)."""
    _, a = forward(model, X)
    return _to_inputs(model, a, output_delta(model, a[-1], _targets(Y, a[-1])))


def jacobian(model: Model, X: Array) -> Array:
    """Derivatives of the outputs with respect to the inputs, (B, n_out, n_in)."""
    _, a = forward(model, X)
    n_out = a[-1].shape[1]
    columns = []
    for o in range(n_out):
        u = one_hot(np.full(len(X), o), n_out, a[-1].real.dtype)
        delta = times_derivative(model.activations[-1], a[-1], u, model.slope)
        columns.append(_to_inputs(model, a, delta))
    return np.stack(columns, axis=1)


def second_derivative(activation: str, a: Array, slope: float = 0.01) -> Array:
    """f''(z), given ``a = f(z)``; for activations of one unit."""
    if activation == "sigmoid":
        return np.asarray(a * (1 - a) * (1 - 2 * a))
    if activation == "tanh":
        return np.asarray(-2 * a * (1 - a * a))
    return np.zeros_like(a)


def _tangents(
    model: Model, a: list[Array], VW: Sequence[Array], vb: Sequence[Array]
) -> tuple[list[Array], list[Array]]:
    """Rz of every layer, and ``[R X = 0, Ra[1], ..., Ra[L]]``."""
    Rz: list[Array] = []
    Ra = [np.zeros_like(a[0])]
    layers = zip(model.weights, model.activations, VW, vb, strict=True)
    for k, (W, name, V, b) in enumerate(layers):
        Rz.append(Ra[k] @ W.T + a[k] @ V.T + b)
        Ra.append(times_derivative(name, a[k + 1], Rz[k], model.slope))
    return Rz, Ra


def _output_curvature(model: Model, a: Array, Y: Array, Ra: Array) -> Array:
    """The loss' second derivative times Ra, as a delta."""
    if model.loss == "cross_entropy":
        return np.asarray(Ra * Y.sum(axis=1, keepdims=True))
    if model.loss == "binary_cross_entropy":
        return Ra
    return times_derivative(model.activations[-1], a, Ra, model.slope)


def _output_tangent(model: Model, a: Array, Y: Array, Rz: Array, Ra: Array) -> Array:
    """Derivative of `output_delta`."""
    name = model.activations[-1]
    bent = _output_curvature(model, a, Y, Ra)
    if model.loss != "squared_error":
        return bent
    if name == "softmax":
        g = a - Y
        moved = (Ra * g).sum(axis=1, keepdims=True)
        return np.asarray(bent + Ra * (g - (a * g).sum(axis=1, keepdims=True)) - a * moved)
    return np.asarray(bent + (a - Y) * second_derivative(name, a, model.slope) * Rz)


def _to_inputs(model: Model, a: list[Array], delta: Array) -> Array:
    """What a delta of the output layer is for the inputs."""
    for k in reversed(range(1, len(model.weights))):
        name = model.activations[k - 1]
        delta = propagate_delta(delta, model.weights[k], a[k], name, model.slope)
    return np.asarray(delta @ model.weights[0])


# ------------------------------------------------------------------ training


def sgd_step(model: Model, X: Array, Y: Array, lr: float, weights: Array | None = None) -> Any:
    """``theta -= lr * grad``, in place, on one batch; returns the loss before the step."""
    value, dW, db = value_and_grad(model, X, Y, weights)
    for parameter, gradient in zip(model.weights + model.biases, dW + db, strict=True):
        parameter -= lr * gradient
    return value


def clip(gradients: Sequence[Array], norm: float) -> list[Array]:
    """Gradients shortened to this length, all together, if they are longer."""
    length = np.sqrt(sum((g**2).sum() for g in gradients))
    return [g * min(1, norm / length) for g in gradients]


def sgd_update(
    p: Array, g: Array, state: list[Array], lr: float, momentum: float, nesterov: bool
) -> None:
    """``v = mu v + g; p -= lr v`` in place; Nesterov: ``p -= lr (g + mu v)``.

    Here and below p and g are a parameter and its gradient, `state` arrays like p that are 0 at the
    start, and `step` counts from 1.
    """
    (v,) = state
    v[...] = momentum * v + g
    p -= lr * (g + momentum * v if nesterov else v)


def adam_update(
    p: Array,
    g: Array,
    state: list[Array],
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float = 0.0,
) -> None:
    """Adam (Kingma & Ba 2015, algorithm 1), and AdamW (Loshchilov & Hutter 2019, algorithm 2)."""
    m, v = state
    m[...] = betas[0] * m + (1 - betas[0]) * g
    v[...] = betas[1] * v + (1 - betas[1]) * g**2
    m_hat, v_hat = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    p -= lr * weight_decay * p
    p -= lr * m_hat / (np.sqrt(v_hat) + eps)


def rmsprop_update(
    p: Array, g: Array, state: list[Array], lr: float, alpha: float, eps: float, momentum: float
) -> None:
    """Tieleman & Hinton (2012)."""
    v, b = state
    v[...] = alpha * v + (1 - alpha) * g**2
    b[...] = momentum * b + g / (np.sqrt(v) + eps)
    p -= lr * b


def adagrad_update(p: Array, g: Array, state: list[Array], lr: float, eps: float) -> None:
    """Duchi et al. (2011)."""
    (s,) = state
    s += g**2
    p -= lr * g / (np.sqrt(s) + eps)


def rprop_update(
    p: Array,
    g: Array,
    state: list[Array],
    step: int,
    lr: float,
    etas: tuple[float, float],
    step_sizes: tuple[float, float],
) -> None:
    """iRprop- (Igel & Huesken 2000)."""
    before, size = state
    if step == 1:
        size[...] = lr
    turn = np.sign(g * before)
    factor = np.choose((turn + 1).astype(int), [etas[0], 1.0, etas[1]])
    size[...] = np.clip(size * factor, *step_sizes)
    before[...] = np.where(turn < 0, 0, g)
    p -= size * np.sign(before)


def lion_update(
    p: Array,
    g: Array,
    state: list[Array],
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> None:
    """Chen et al. (2023), algorithm 2."""
    (m,) = state
    direction = np.sign(betas[0] * m + (1 - betas[0]) * g)
    p -= lr * (direction + weight_decay * p)
    m[...] = betas[1] * m + (1 - betas[1]) * g


def fit_epoch(model: Model, X: Array, Y: Array, order: Array, batch_size: int, lr: float) -> float:
    """Mini-batch gradient descent over the samples in `order`; returns the mean loss."""
    total = 0.0
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        total += len(batch) * float(sgd_step(model, X[batch], Y[batch], lr))
    return total / len(order)


# ------------------------------------------------------------------ helpers


def _targets(Y: Array, a: Array) -> Array:
    """Class labels (B,) as rows of 0 and 1; anything else as it is."""
    return one_hot(Y, a.shape[1], a.real.dtype) if Y.ndim == 1 else Y


def _normalized(weights: Array | None, n: int) -> Array:
    w = np.ones(n) if weights is None else np.asarray(weights, float)
    return np.asarray(w / w.sum())
