"""Activation functions: a record each, of the same name as the kernels'.

A record of one unit has three functions of z or a (B, n), and of the layer's parameter p:

    value(z, p)        a = f(z)
    derivative(x, p)   f'(z), given x = a, or x = z where `of_z`
    curvature(x, p)    f''(z) / f'(z), given x = a, and 0 where f is straight; f''(z) itself `of_z`

They are analytic, and choose by real parts: so complex-step differentiation sees them as they are.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from deltajit.reference.arrays import Array, of_numbers, quiet

Function = Callable[[Array, float], Any]


class Activation(NamedTuple):
    """What there is to know of an activation function; x is a, or z where `of_z`.

    value : of z and p: ``a = f(z)``.
    tangent : of x, Rz and p: ``Ra = f'(z) * Rz``; softmax's Jacobian is symmetric, so BP2's factor.
    curve : of x, u, Rz and p: how ``f'(z) * u`` moves when z does, by Rz, and u stays.
    of_z : whether hidden layers keep z for f'.
    of_rows : whether an output depends on all z of its row, so that f' is a matrix.
    """

    value: Callable[[Array, float], Array]
    tangent: Callable[[Array, Array, float], Array]
    curve: Callable[[Array, Array, Array, float], Array]
    of_z: bool = False
    of_rows: bool = False


def of_units(
    value: Function, derivative: Function, curvature: Function, of_z: bool = False
) -> Activation:
    """Make the record of a function of one unit."""

    def first(x: Array, p: float) -> Array:
        return np.asarray(derivative(x, p), x.dtype)

    def second(x: Array, p: float) -> Array:
        found = np.asarray(curvature(x, p), x.dtype)
        return found if of_z else np.asarray(first(x, p) * found)

    return Activation(
        lambda z, p: np.asarray(value(z, p), z.dtype),
        lambda x, Rz, p: np.asarray(first(x, p) * Rz),
        lambda x, u, Rz, p: np.asarray(u * second(x, p) * Rz),
        of_z,
    )


ACTIVATIONS: dict[str, Activation] = {}

# ------------------------------------------------------------------ functions of any of them


@quiet
def activate(activation: str, z: Array, slope: float = 0.01) -> Array:
    """``a = f(z)``, the same shape as z (B, n)."""
    return ACTIVATIONS[activation].value(z, slope)


@quiet
def derivative(activation: str, x: Array, slope: float = 0.01) -> Array:
    """f'(z) of one unit's activations, given ``x = f(z)``, or z itself where `of_z`."""
    return ACTIVATIONS[activation].tangent(x, np.ones_like(x), slope)


@quiet
def second_derivative(activation: str, x: Array, slope: float = 0.01) -> Array:
    """f''(z), given what `derivative` is given."""
    return ACTIVATIONS[activation].curve(x, np.ones_like(x), np.ones_like(x), slope)


@quiet
def times_derivative(activation: str, x: Array, g: Array, slope: float = 0.01) -> Array:
    """``g * f'(z)``; for softmax g times the Jacobian ``diag(a) - a a^T``."""
    return ACTIVATIONS[activation].tangent(x, g, slope)


# ------------------------------------------------------------------ the records


ACTIVATIONS["identity"] = of_units(
    value=lambda z, p: z,
    derivative=lambda a, p: 1,
    curvature=lambda a, p: 0,
)


def logistic(z: Array) -> Array:
    """``1 / (1 + exp(-z))``."""
    positive = z.real > 0  # either form overflows on the other side
    e = np.exp(np.where(positive, -z, z))
    return np.asarray(np.where(positive, 1, e) / (1 + e))


ACTIVATIONS["sigmoid"] = of_units(
    value=lambda z, p: logistic(z),
    derivative=lambda a, p: a * (1 - a),
    curvature=lambda a, p: 1 - 2 * a,
)

ACTIVATIONS["tanh"] = of_units(
    value=lambda z, p: np.tanh(z),
    derivative=lambda a, p: 1 - a * a,
    curvature=lambda a, p: -2 * a,
)

ACTIVATIONS["relu"] = of_units(
    value=lambda z, p: np.where(z.real <= 0, 0, z),
    derivative=lambda a, p: np.where(a.real <= 0, 0, 1),
    curvature=lambda a, p: 0,
)

ACTIVATIONS["leaky_relu"] = of_units(
    value=lambda z, p: np.where(z.real <= 0, p * z, z),
    derivative=lambda a, p: np.where(a.real <= 0, p, 1),
    curvature=lambda a, p: 0,
)


def expm1_below(z: Array) -> Array:
    """``exp(z) - 1``, and 0 above 0, where it would overflow."""
    return np.asarray(np.expm1(np.where(z.real <= 0, z, 0)))


ACTIVATIONS["elu"] = of_units(
    value=lambda z, p: np.where(z.real <= 0, expm1_below(z), z),
    derivative=lambda a, p: np.where(a.real <= 0, a + 1, 1),
    curvature=lambda a, p: np.where(a.real <= 0, 1, 0),
)

# Klambauer et al. (2017), equation 14.
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

ACTIVATIONS["selu"] = of_units(
    value=lambda z, p: SELU_SCALE * np.where(z.real <= 0, SELU_ALPHA * expm1_below(z), z),
    derivative=lambda a, p: np.where(a.real <= 0, a + SELU_SCALE * SELU_ALPHA, SELU_SCALE),
    curvature=lambda a, p: np.where(a.real <= 0, 1, 0),
)


def size(z: Array) -> Array:
    """|z|, with z's derivative or its negative."""
    return np.asarray(np.where(z.real < 0, -z, z))


ACTIVATIONS["softplus"] = of_units(
    value=lambda z, p: np.log1p(np.exp(-size(z))) + np.where(z.real < 0, 0, z),
    derivative=lambda a, p: -np.expm1(-a),
    curvature=lambda a, p: np.exp(-a),
)

ACTIVATIONS["softsign"] = of_units(
    value=lambda z, p: z / (1 + size(z)),
    derivative=lambda a, p: (1 - size(a)) ** 2,
    curvature=lambda a, p: np.where(a.real < 0, 2, -2) * (1 - size(a)),
)

ACTIVATIONS["hard_tanh"] = of_units(
    value=lambda z, p: np.where(abs(z.real) < 1, z, np.sign(z.real)),
    derivative=lambda a, p: np.where(abs(a.real) < 1, 1, 0),
    curvature=lambda a, p: 0,
)

ACTIVATIONS["step"] = of_units(
    value=lambda z, p: np.where(z.real <= 0, 0, np.where(z.real > 0, 1, z.real)),
    derivative=lambda a, p: 0,
    curvature=lambda a, p: 0,
)

ACTIVATIONS["exp"] = of_units(
    value=lambda z, p: np.exp(z),
    derivative=lambda a, p: a,
    curvature=lambda a, p: 1,
)


def normal_density(z: Array) -> Array:
    """The standard normal distribution's density."""
    return np.asarray(np.exp(-z * z / 2) / math.sqrt(2 * math.pi))


# And its distribution function.
normal_cdf = of_numbers(lambda x: (1 + math.erf(x / math.sqrt(2))) / 2, normal_density)

ACTIVATIONS["gelu"] = of_units(
    value=lambda z, p: z * normal_cdf(z),
    derivative=lambda z, p: normal_cdf(z) + z * normal_density(z),
    curvature=lambda z, p: normal_density(z) * (2 - z * z),
    of_z=True,
)

ACTIVATIONS["silu"] = of_units(
    value=lambda z, p: z * logistic(z),
    derivative=lambda z, p: logistic(z) * (1 + z * (1 - logistic(z))),
    curvature=lambda z, p: logistic(z) * (1 - logistic(z)) * (2 + z * (1 - 2 * logistic(z))),
    of_z=True,
)

ACTIVATIONS["sin"] = of_units(
    value=lambda z, p: np.sin(z),
    derivative=lambda z, p: np.cos(z),
    curvature=lambda z, p: -np.sin(z),
    of_z=True,
)


def tanh_softplus(z: Array) -> tuple[Array, Array]:
    """``t = tanh(log(1 + exp(z)))``, and its derivative ``(1 - t**2) sigmoid(z)``."""
    above = z.real > 0
    w = np.exp(np.where(above, -z, z))
    n, d = np.where(above, 1 + 2 * w, w * (w + 2)), np.where(above, 2 * w * w, 2)
    return np.asarray(n / (n + d)), d * (2 * n + d) / (n + d) ** 2 * logistic(z)


def mish_derivative(z: Array, p: float) -> Array:
    """f' of mish."""
    t, slope = tanh_softplus(z)
    return np.asarray(t + z * slope)


def mish_curvature(z: Array, p: float) -> Array:
    """f'' of mish."""
    t, slope = tanh_softplus(z)
    return np.asarray(slope * (2 + z * (1 - logistic(z) * (1 + 2 * t))))


ACTIVATIONS["mish"] = of_units(
    value=lambda z, p: z * tanh_softplus(z)[0],
    derivative=mish_derivative,
    curvature=mish_curvature,
    of_z=True,
)

ACTIVATIONS["hardswish"] = of_units(
    value=lambda z, p: np.where(z.real <= -3, 0, np.where(z.real >= 3, z, z * (z + 3) / 6)),
    derivative=lambda z, p: np.where(z.real <= -3, 0, np.where(z.real >= 3, 1, z / 3 + 0.5)),
    curvature=lambda z, p: np.where(abs(z.real) < 3, 1 / 3, 0),
    of_z=True,
)

# ------------------------------------------------------------------ functions of a row


def total(x: Array) -> Array:
    """Sum of each row, (B, 1)."""
    return np.asarray(x.sum(axis=1, keepdims=True))


def softmax(z: Array, p: float) -> Array:
    """``exp(z) / sum(exp(z))`` of each row; its maximum goes first, against overflow."""
    e = np.exp(z - z.real.max(axis=1, keepdims=True))
    return np.asarray(e / total(e))


def softmax_tangent(a: Array, Rz: Array, p: float) -> Array:
    """``(diag(a) - a a^T) Rz``."""
    return np.asarray(a * (Rz - total(a * Rz)))


def softmax_curve(a: Array, u: Array, Rz: Array, p: float) -> Array:
    """How ``a (u - sum(a u))`` moves when a does."""
    Ra = softmax_tangent(a, Rz, p)
    return np.asarray(Ra * (u - total(a * u)) - a * total(Ra * u))


ACTIVATIONS["softmax"] = Activation(softmax, softmax_tangent, softmax_curve, of_rows=True)


def gaussian(z: Array, p: float) -> Array:
    """Means as they are, and variances from their logarithms."""
    m = z.shape[1] // 2
    return np.concatenate([z[:, :m], np.exp(z[:, m:])], axis=1)


def gaussian_tangent(a: Array, Rz: Array, p: float) -> Array:
    """``Ra = Rz`` of the means, and ``a Rz`` of the variances."""
    m = a.shape[1] // 2
    return np.concatenate([Rz[:, :m], a[:, m:] * Rz[:, m:]], axis=1)


def gaussian_curve(a: Array, u: Array, Rz: Array, p: float) -> Array:
    """How that moves when a does."""
    m = a.shape[1] // 2
    return np.concatenate([0 * Rz[:, :m], u[:, m:] * a[:, m:] * Rz[:, m:]], axis=1)


ACTIVATIONS["gaussian"] = Activation(gaussian, gaussian_tangent, gaussian_curve)
