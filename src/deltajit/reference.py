"""Backpropagation as the equations read, in NumPy: the twin of every kernel, without Numba.

Nothing here is optimized, so that it can be checked by eye, and everything accepts float32,
float64 and complex arrays: with a complex theta, ``loss(theta + 1e-30j * v).imag / 1e-30`` is the
derivative along v to machine precision (complex step: Squire & Trapp 1998), which is how the
gradient itself is checked.

Shapes: X (B, n_in), Y (B, n_out) or class labels (B,), W[l] (n_l, n_{l-1}), b[l] (n_l,).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Infinity and NaN are values here, as in the kernels, whatever np.seterr was told.
_quiet = np.errstate(all="ignore")


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


# ------------------------------------------------------------------ activations and losses


# Klambauer et al. (2017), equation 14.
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

# Their derivatives are functions of z; those of all others of ``a = f(z)``.
OF_Z = ("gelu", "silu", "sin")

# The user's own: f, f' and f'' of a number z.
OWN: dict[str, tuple[Any, Any, Any]] = {}

# Losses of the user's own: of a and Y the loss of each sample (B,), its derivative by a (B, n_out),
# and of a, Y and Ra the derivative of that as a moves by Ra.
OWN_LOSSES: dict[str, tuple[Any, Any, Any]] = {}


@_quiet
def activate(activation: str, z: Array, slope: float = 0.01) -> Array:
    """``a = f(z)``, the same shape as z (B, n)."""
    if activation in OWN:
        return _each(OWN[activation][0], z)
    below = z.real <= 0
    values: dict[str, Callable[[], Any]] = {
        "identity": lambda: z,
        "sigmoid": lambda: _sigmoid(z),
        "tanh": lambda: np.tanh(z),
        "relu": lambda: np.where(below, 0, z),
        "leaky_relu": lambda: np.where(below, slope * z, z),
        "softmax": lambda: _softmax(z),
        "elu": lambda: np.where(below, np.expm1(np.where(below, z, 0)), z),
        "selu": lambda: (
            SELU_SCALE * np.where(below, SELU_ALPHA * np.expm1(np.where(below, z, 0)), z)
        ),
        "softplus": lambda: np.log1p(np.exp(np.where(below, z, -z))) + np.where(below, 0, z),
        "softsign": lambda: z / (1 + np.where(below, -z, z)),
        "hard_tanh": lambda: np.where(abs(z.real) < 1, z, np.sign(z.real)),
        "step": lambda: np.where(below, 0, 1) + 0 * z.real,
        "exp": lambda: np.exp(z),
        "gaussian": lambda: _gaussian(z),
        "gelu": lambda: z * _normal_cdf(z),
        "silu": lambda: z * _sigmoid(z),
        "sin": lambda: np.sin(z),
    }
    return np.asarray(values[activation](), z.dtype)


@_quiet
def derivative(activation: str, x: Array, slope: float = 0.01) -> Array:
    """f'(z) of one unit's activations, given ``x = f(z)``, or z itself for those of `OF_Z`."""
    if activation in OWN:
        return _each(OWN[activation][1], x)
    below = x.real <= 0
    values: dict[str, Callable[[], Any]] = {
        "identity": lambda: np.ones_like(x),
        "sigmoid": lambda: x * (1 - x),
        "tanh": lambda: 1 - x * x,
        "relu": lambda: np.where(below, 0, 1),
        "leaky_relu": lambda: np.where(below, slope, 1),
        "elu": lambda: np.where(below, x + 1, 1),
        "selu": lambda: np.where(below, x + SELU_SCALE * SELU_ALPHA, SELU_SCALE),
        "softplus": lambda: -np.expm1(-x),
        "softsign": lambda: (1 - np.where(below, -x, x)) ** 2,
        "hard_tanh": lambda: np.where(abs(x.real) < 1, 1, 0),
        "step": lambda: np.zeros_like(x),
        "exp": lambda: x,
        "gelu": lambda: _normal_cdf(x) + x * _normal_density(x),
        "silu": lambda: _sigmoid(x) * (1 + x * (1 - _sigmoid(x))),
        "sin": lambda: np.cos(x),
    }
    return np.asarray(values[activation](), x.dtype)


@_quiet
def second_derivative(activation: str, x: Array, slope: float = 0.01) -> Array:
    """f''(z), given what `derivative` is given."""
    if activation in OWN:
        return _each(OWN[activation][2], x)
    first, below = derivative(activation, x, slope), x.real <= 0
    values: dict[str, Callable[[], Any]] = {
        "sigmoid": lambda: first * (1 - 2 * x),
        "tanh": lambda: -2 * x * first,
        "elu": lambda: np.where(below, first, 0),
        "selu": lambda: np.where(below, first, 0),
        "softplus": lambda: first * (1 - first),
        "softsign": lambda: np.where(below, 2, -2) * (1 - np.where(below, -x, x)) ** 3,
        "exp": lambda: x,
        "gelu": lambda: _normal_density(x) * (2 - x * x),
        "silu": lambda: _sigmoid(x) * (1 - _sigmoid(x)) * (2 + x * (1 - 2 * _sigmoid(x))),
        "sin": lambda: -np.sin(x),
    }
    return np.asarray(values.get(activation, lambda: np.zeros_like(x))(), x.dtype)


@_quiet
def times_derivative(activation: str, x: Array, g: Array, slope: float = 0.01) -> Array:
    """``g * f'(z)``; for softmax g times the Jacobian ``diag(a) - a a^T``."""
    if activation == "softmax":
        return np.asarray(x * (g - (x * g).sum(axis=1, keepdims=True)))
    if activation == "gaussian":
        m = x.shape[1] // 2
        return np.concatenate([g[:, :m], x[:, m:] * g[:, m:]], axis=1)
    return np.asarray(g * derivative(activation, x, slope))


def _each(f: Any, z: Array) -> Array:
    """f of each element."""
    with np.errstate(all="ignore"):
        return np.asarray(np.vectorize(f, otypes=[float])(z), z.dtype)


def _sigmoid(z: Array) -> Array:
    positive = z.real > 0  # either form overflows on the other side
    e = np.exp(np.where(positive, -z, z))
    return np.asarray(np.where(positive, 1, e) / (1 + e))


def _softmax(z: Array) -> Array:
    e = np.exp(z - z.real.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def _gaussian(z: Array) -> Array:
    """Means, and variances from their logarithms."""
    m = z.shape[1] // 2
    return np.concatenate([z[:, :m], np.exp(z[:, m:])], axis=1)


def _normal_density(z: Array) -> Array:
    return np.asarray(np.exp(-z * z / 2) / math.sqrt(2 * math.pi))


def _normal_cdf(z: Array) -> Array:
    """The standard normal distribution's function; its derivative makes it fit for complex step."""
    real = np.vectorize(lambda x: (1 + math.erf(x / math.sqrt(2))) / 2, otypes=[float])(z.real)
    if np.iscomplexobj(z):
        real = real + 1j * z.imag * _normal_density(z.real)
    return np.asarray(real, z.dtype)


def one_hot(labels: Array, n: int, dtype: Any) -> Array:
    """Rows of the identity matrix, (B, n), for class labels (B,)."""
    return np.asarray(np.eye(n, dtype=dtype)[labels])


@_quiet
def sample_losses(loss: str, z: Array, a: Array, Y: Array, bend: float = 1.0) -> Array:
    """Loss of each sample, (B,), from logits z and activations a of the output, (B, n_out)."""
    if loss == "cross_entropy":
        shifted = z - z.real.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return np.asarray((Y * (log_sum - shifted)).sum(axis=1))
    if loss == "binary_cross_entropy":
        size = np.where(z.real > 0, z, -z)
        positive = np.where(z.real > 0, z, 0)
        return np.asarray((np.log1p(np.exp(-size)) + positive - z * Y).sum(axis=1))
    if loss == "poisson":
        return np.asarray((a - Y * z).sum(axis=1))
    if loss == "gaussian_nll":
        m = Y.shape[1]
        r = a[:, :m] - Y
        return np.asarray((z[:, m:] + r * _ratio(r, a[:, m:])).sum(axis=1) / 2)
    if loss in OWN_LOSSES:
        return np.asarray(OWN_LOSSES[loss][0](a, Y))
    r = a - Y
    size = np.where(r.real < 0, -r, r)
    values: dict[str, Callable[[], Any]] = {
        "squared_error": lambda: r**2 / 2,
        "huber": lambda: np.where(size.real <= bend, r**2 / 2, bend * (size - bend / 2)),
        "absolute_error": lambda: size,
        "quantile": lambda: np.where(r.real < 0, bend * size, (1 - bend) * size),
    }
    return np.asarray(values[loss]().sum(axis=1))


@_quiet
def output_delta(model: Model, a: Array, Y: Array) -> Array:
    """BP1: ``delta[L] = dLoss/da[L] * f'(z[L])`` of each sample; `a - Y` where f' cancels."""
    if model.loss == "cross_entropy":
        return np.asarray(a * Y.sum(axis=1, keepdims=True) - Y)
    if model.loss in ("binary_cross_entropy", "poisson"):
        return np.asarray(a - Y)
    if model.loss == "gaussian_nll":
        m = Y.shape[1]
        r = a[:, :m] - Y
        ratio = _ratio(r, a[:, m:])
        return np.concatenate([ratio, (1 - r * ratio) / 2], axis=1)
    return times_derivative(model.activations[-1], a, _slope(model, a, Y), model.slope)


def _ratio(r: Array, variance: Array) -> Array:
    """``r / variance``; 0 where both are, as the variance then is only too small for a float."""
    return np.asarray(r / np.where((r == 0) & (variance == 0), 1, variance))


def _slope(model: Model, a: Array, Y: Array) -> Array:
    """The derivative by a of a loss of residuals ``r = a - Y``, or of the user's own."""
    if model.loss in OWN_LOSSES:
        return np.asarray(OWN_LOSSES[model.loss][1](a, Y))
    r, bend = a - Y, model.bend
    values: dict[str, Callable[[], Any]] = {
        "squared_error": lambda: r,
        "huber": lambda: np.where(abs(r.real) <= bend, r, bend * np.sign(r.real)),
        "absolute_error": lambda: np.sign(r.real),
        "quantile": lambda: np.where(r.real > 0, 1 - bend, np.where(r.real < 0, -bend, 0)),
    }
    return np.asarray(values[model.loss](), r.dtype)


def _curve(model: Model, a: Array, Y: Array, Ra: Array) -> Array:
    """The derivative of that as a moves by Ra."""
    if model.loss in OWN_LOSSES:
        return np.asarray(OWN_LOSSES[model.loss][2](a, Y, Ra))
    if model.loss == "squared_error":
        return Ra
    r = a - Y
    return np.asarray((model.loss == "huber") & (abs(r.real) <= model.bend), r.dtype) * Ra


# ------------------------------------------------------------------ the three layer kernels


@_quiet
def linear_activation_forward(
    a_prev: Array, W: Array, b: Array, activation: str, slope: float = 0.01
) -> tuple[Array, Array]:
    """``z = a_prev @ W.T + b`` and ``a = f(z)``, both (B, n_out)."""
    z = a_prev @ W.T + b
    return z, activate(activation, z, slope)


@_quiet
def propagate_delta(
    delta: Array, W: Array, x_prev: Array, activation: str, slope: float = 0.01
) -> Array:
    """BP2: ``delta_prev = (delta @ W) * f'(z_prev)``, (B, n_in), with f' of the layer below.

    x_prev : what f' is computed from, a_prev (for gelu, silu and sin z_prev).
    """
    return times_derivative(activation, x_prev, delta @ W, slope)


@_quiet
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


@_quiet
def forward(model: Model, X: Array, masks: Sequence[Any] | None = None) -> Sweep:
    """Logits and activations of all layers; `masks` multiply those of the hidden layers."""
    depth = len(model.weights)
    found = Sweep([], [X], [], [1] * depth if masks is None else [*masks, 1])
    layers = zip(model.weights, model.biases, model.activations, found.masks, strict=True)
    for W, b, name, mask in layers:
        z, a = linear_activation_forward(found.a[-1], W, b, name, model.slope)
        found.z.append(z)
        found.a.append(a * mask)
        found.x.append(z if name in OF_Z or name in OWN else a)
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


@_quiet
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
    w = _normalized(weights, len(X))
    data = (w * sample_losses(model.loss, z, a, _targets(Y, a), model.bend)).sum()
    sizes = sum(np.where(W.real < 0, -W, W).sum() for W in model.weights)
    return data + model.l2 / 2 * sum((W**2).sum() for W in model.weights) + model.l1 * sizes


@_quiet
def backward(model: Model, sweep: Sweep, delta: Array) -> tuple[list[Array], list[Array]]:
    """BP2, BP3 and BP4 from a delta of the output layer: dW and db of every layer, without l2."""
    dW: list[Array] = []
    db: list[Array] = []
    for k in reversed(range(len(model.weights))):
        dW_k, db_k = accumulate_gradient(delta, sweep.a[k])
        dW.insert(0, dW_k)
        db.insert(0, db_k)
        if k > 0:
            name = model.activations[k - 1]
            delta = propagate_delta(delta, model.weights[k], sweep.x[k - 1], name, model.slope)
            delta = delta * sweep.masks[k - 1]
    return dW, db


@_quiet
def value_and_grad(
    model: Model,
    X: Array,
    Y: Array,
    weights: Array | None = None,
    masks: Sequence[Any] | None = None,
) -> tuple[Any, list[Array], list[Array]]:
    """The loss, and dW[l] and db[l] of every layer: the four equations of backpropagation."""
    sweep = forward(model, X, masks)
    w, a = _normalized(weights, len(X)), sweep.a[-1]
    delta = output_delta(model, a, _targets(Y, a)) * w[:, None].astype(a.real.dtype)
    dW, db = backward(model, sweep, delta)
    penalties = [model.l2 * W + model.l1 * np.sign(W.real) for W in model.weights]
    dW = [(d + p).astype(d.dtype) for d, p in zip(dW, penalties, strict=True)]
    return loss(model, X, Y, weights, masks), dW, db


# ------------------------------------------------------------------ beyond the gradient


@_quiet
def jvp(model: Model, X: Array, VW: Sequence[Array], vb: Sequence[Array]) -> Array:
    """Derivative of `predict` along (VW, vb), (B, n_out)."""
    _, Ra = _tangents(model, forward(model, X), VW, vb)
    return Ra[-1]


@_quiet
def vjp(model: Model, X: Array, u: Array) -> tuple[list[Array], list[Array]]:
    """``sum(u * predict)``'s gradient, u (B, n_out): dW and db of every layer."""
    sweep = forward(model, X)
    delta = times_derivative(model.activations[-1], sweep.a[-1], u, model.slope)
    return backward(model, sweep, delta)


@_quiet
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
    w = _normalized(weights, len(X))[:, None].astype(a[-1].real.dtype)
    Rz, Ra = _tangents(model, sweep, VW, vb)
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
            turned = second_derivative(name, x[k - 1], model.slope) * Rz[k - 1]
            Rdelta = times_derivative(name, x[k - 1], Ru, model.slope) + u * turned
            delta = times_derivative(name, x[k - 1], u, model.slope)
    return RdW, Rdb


@_quiet
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
    w = _normalized(weights, len(X))[:, None].astype(a.real.dtype)
    Rz, Ra = _tangents(model, sweep, VW, vb)
    delta = w * _output_curvature(model, a, _targets(Y, a), Rz[-1], Ra[-1])
    dW, db = backward(model, sweep, delta)
    return [d + model.l2 * V for d, V in zip(dW, VW, strict=True)], db


@_quiet
def per_sample_grads(model: Model, X: Array, Y: Array) -> tuple[list[Array], list[Array]]:
    """dW (B, n_out, n_in) and db (B, n_out) of each sample's own loss, every layer, without l2."""
    sweep = forward(model, X)
    a = sweep.a
    delta = output_delta(model, a[-1], _targets(Y, a[-1]))
    dW: list[Array] = []
    db: list[Array] = []
    for k in reversed(range(len(model.weights))):
        dW.insert(0, delta[:, :, None] * a[k][:, None, :])
        db.insert(0, delta)
        if k > 0:
            name = model.activations[k - 1]
            delta = propagate_delta(delta, model.weights[k], sweep.x[k - 1], name, model.slope)
    return dW, db


@_quiet
def input_grad(model: Model, X: Array, Y: Array) -> Array:
    """Gradient of each sample's own loss with respect to its inputs, (B, n_in)."""
    sweep = forward(model, X)
    a = sweep.a[-1]
    return _to_inputs(model, sweep, output_delta(model, a, _targets(Y, a)))


@_quiet
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
    if model.loss == "cross_entropy":
        return np.asarray(Ra * Y.sum(axis=1, keepdims=True))
    if model.loss in ("binary_cross_entropy", "poisson"):
        return Ra
    if model.loss == "gaussian_nll":
        m = Y.shape[1]
        return np.concatenate([_ratio(Rz[:, :m], a[:, m:]), Rz[:, m:] / 2], axis=1)
    bent = _curve(model, a, Y, Ra)
    return times_derivative(model.activations[-1], a, bent, model.slope)


def _output_tangent(model: Model, a: Array, Y: Array, Rz: Array, Ra: Array) -> Array:
    """Derivative of `output_delta`."""
    name = model.activations[-1]
    bent = _output_curvature(model, a, Y, Rz, Ra)
    if model.loss == "gaussian_nll":
        m = Y.shape[1]
        r, moved = a[:, :m] - Y, Rz[:, m:]
        ratio = _ratio(r, a[:, m:])
        turned = [-ratio * moved, r * ratio * moved / 2 - ratio * Rz[:, :m]]
        bent[:, m:] = 0
        return np.asarray(bent + np.concatenate(turned, axis=1))
    if model.loss in ("cross_entropy", "binary_cross_entropy", "poisson"):
        return bent
    g = _slope(model, a, Y)
    if name == "softmax":
        moved = (Ra * g).sum(axis=1, keepdims=True)
        return np.asarray(bent + Ra * (g - (a * g).sum(axis=1, keepdims=True)) - a * moved)
    return np.asarray(bent + g * second_derivative(name, a, model.slope) * Rz)


def _to_inputs(model: Model, sweep: Sweep, delta: Array) -> Array:
    """What a delta of the output layer is for the inputs."""
    for k in reversed(range(1, len(model.weights))):
        name = model.activations[k - 1]
        delta = propagate_delta(delta, model.weights[k], sweep.x[k - 1], name, model.slope)
    return np.asarray(delta @ model.weights[0])


# ------------------------------------------------------------------ training


@_quiet
def sgd_step(model: Model, X: Array, Y: Array, lr: float, weights: Array | None = None) -> Any:
    """``theta -= lr * grad``, in place, on one batch; returns the loss before the step."""
    value, dW, db = value_and_grad(model, X, Y, weights)
    for parameter, gradient in zip(model.weights + model.biases, dW + db, strict=True):
        parameter -= lr * gradient
    return value


@_quiet
def clip(gradients: Sequence[Array], norm: float) -> list[Array]:
    """Gradients shortened to this length, all together, if they are longer."""
    length = np.sqrt(sum((g**2).sum() for g in gradients))
    return [g * min(1, norm / length) for g in gradients]


@_quiet
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


@_quiet
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


@_quiet
def rmsprop_update(
    p: Array, g: Array, state: list[Array], lr: float, alpha: float, eps: float, momentum: float
) -> None:
    """Tieleman & Hinton (2012)."""
    v, b = state
    v[...] = alpha * v + (1 - alpha) * g**2
    b[...] = momentum * b + g / (np.sqrt(v) + eps)
    p -= lr * b


@_quiet
def adagrad_update(p: Array, g: Array, state: list[Array], lr: float, eps: float) -> None:
    """Duchi et al. (2011)."""
    (s,) = state
    s += g**2
    p -= lr * g / (np.sqrt(s) + eps)


@_quiet
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


@_quiet
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
