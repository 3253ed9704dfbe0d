"""Activation functions: one record each, of the same name as the kernels'.

The functions in a record are analytic and branch on real parts, so that complex steps differentiate
them correctly. z, a and x are (B, n), and p is the parameter of the network's activations.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deltajit.reference.arrays import Array, of_numbers, quiet

Function = Callable[[Array, float], ArrayLike]


class Activation(NamedTuple):
    """Define an activation; x is a, or z if `of_z`, and p the network's parameter.

    Attributes
    ----------
    value : callable
        ``value(z, p)`` is ``a = f(z)``, (B, n).
    tangent : callable
        ``tangent(x, Rz, p)`` is ``Ra = f'(z) * Rz``, the derivative of a along Rz. BP2 uses it too,
        as softmax's Jacobian is symmetric.
    curve : callable
        ``curve(x, u, Rz, p)`` is the derivative of ``f'(z) * u`` along Rz for constant u.
    of_z : bool
        Whether f' is computed from z, so that hidden layers keep it.
    of_rows : bool
        Whether an output depends on every z of its row, so that f' is a matrix.
    third : callable or None
        ``third(x, p)`` is f'''(z), where it is known.
    """

    value: Callable[[Array, float], Array]
    tangent: Callable[[Array, Array, float], Array]
    curve: Callable[[Array, Array, Array, float], Array]
    of_z: bool = False
    of_rows: bool = False
    third: Callable[[Array, float], Array] | None = None


def of_units(
    value: Function,
    derivative: Function,
    curvature: Function,
    of_z: bool = False,
    third: Function | None = None,
) -> Activation:
    """Make the record of an activation that acts on each unit by itself.

    Parameters
    ----------
    value : callable
        ``value(z, p)`` is ``a = f(z)``.
    derivative : callable
        ``derivative(x, p)`` is f'(z), computed from x = a, or from x = z if `of_z`.
    curvature : callable
        ``curvature(x, p)`` is f''(z) if `of_z`, else f''(z) / f'(z), and 0 where f is linear.
    of_z : bool
        Whether x is z instead of a.
    third : callable, optional
        ``third(x, p)`` is f'''(z) if `of_z`, else f'''(z) / f'(z).

    Returns
    -------
    Activation
        The record.

    Examples
    --------
    >>> import numpy as np
    >>> from deltajit import reference
    >>> square = reference.of_units(
    ...     lambda z, p: z * z, lambda z, p: 2 * z, lambda z, p: 2, of_z=True
    ... )
    >>> square.tangent(np.array([[3.0]]), np.array([[1.0]]), 0.0)
    array([[6.]])
    """

    def first(x: Array, p: float) -> Array:
        return np.asarray(derivative(x, p), x.dtype)

    def second(x: Array, p: float) -> Array:
        curved = np.asarray(curvature(x, p), x.dtype)
        return curved if of_z else np.asarray(first(x, p) * curved)

    def bent(x: Array, p: float) -> Array:
        assert third is not None
        twisted = np.broadcast_to(np.asarray(third(x, p), x.dtype), x.shape)
        return twisted if of_z else np.asarray(first(x, p) * twisted)

    return Activation(
        lambda z, p: np.asarray(value(z, p), z.dtype),
        lambda x, Rz, p: np.asarray(first(x, p) * Rz),
        lambda x, u, Rz, p: np.asarray(u * second(x, p) * Rz),
        of_z,
        third=None if third is None else bent,
    )


#: Records of activations by name, in NumPy: the twins of `deltajit.kernels.ACTIVATIONS`.
ACTIVATIONS: dict[str, Activation] = {}

# ------------------------------------------------------------------ functions by name


@quiet
def activate(activation: str, z: Array, slope: float = 0.01) -> Array:
    """Compute ``a = f(z)``.

    Parameters
    ----------
    activation : str
        Name of the activation.
    z : ndarray, (B, n)
        Pre-activations, real or complex.
    slope : float
        Slope of leaky_relu below 0.

    Returns
    -------
    ndarray, (B, n)
        Activations, in z's dtype.
    """
    return ACTIVATIONS[activation].value(z, slope)


@quiet
def derivative(activation: str, x: Array, slope: float = 0.01) -> Array:
    """Compute f'(z) of an activation that acts on each unit by itself.

    Parameters
    ----------
    activation : str
        Name of the activation.
    x : ndarray, (B, n)
        ``a = f(z)``, or z if the activation's `of_z` is true.
    slope : float
        Slope of leaky_relu below 0.

    Returns
    -------
    ndarray, (B, n)
        The derivative.
    """
    return ACTIVATIONS[activation].tangent(x, np.ones_like(x), slope)


@quiet
def second_derivative(activation: str, x: Array, slope: float = 0.01) -> Array:
    """Compute f''(z) of an activation that acts on each unit by itself.

    Parameters
    ----------
    activation : str
        Name of the activation.
    x : ndarray, (B, n)
        ``a = f(z)``, or z if the activation's `of_z` is true.
    slope : float
        Slope of leaky_relu below 0.

    Returns
    -------
    ndarray, (B, n)
        The second derivative.
    """
    return ACTIVATIONS[activation].curve(x, np.ones_like(x), np.ones_like(x), slope)


@quiet
def times_derivative(activation: str, x: Array, g: Array, slope: float = 0.01) -> Array:
    """Compute ``g * f'(z)``; for softmax, g times its Jacobian ``diag(a) - a a^T``.

    Parameters
    ----------
    activation : str
        Name of the activation.
    x : ndarray, (B, n)
        ``a = f(z)``, or z if the activation's `of_z` is true.
    g : ndarray, (B, n)
        What is multiplied, such as dLoss/da.
    slope : float
        Slope of leaky_relu below 0.

    Returns
    -------
    ndarray, (B, n)
        The product.
    """
    return ACTIVATIONS[activation].tangent(x, g, slope)


# ------------------------------------------------------------------ the records


ACTIVATIONS["identity"] = of_units(
    value=lambda z, p: z,
    derivative=lambda a, p: 1,
    curvature=lambda a, p: 0,
    third=lambda a, p: 0,
)


def _logistic(z: Array) -> Array:
    """Compute ``1 / (1 + exp(-z))``, without overflow."""
    positive = z.real > 0  # each form would overflow on the other side
    e = np.exp(np.where(positive, -z, z))
    return np.asarray(np.where(positive, 1, e) / (1 + e))


ACTIVATIONS["sigmoid"] = of_units(
    value=lambda z, p: _logistic(z),
    derivative=lambda a, p: a * (1 - a),
    curvature=lambda a, p: 1 - 2 * a,
    third=lambda a, p: 1 - 6 * a * (1 - a),
)

ACTIVATIONS["tanh"] = of_units(
    value=lambda z, p: np.tanh(z),
    derivative=lambda a, p: 1 - a * a,
    curvature=lambda a, p: -2 * a,
    third=lambda a, p: 6 * a * a - 2,
)

ACTIVATIONS["relu"] = of_units(
    value=lambda z, p: np.where(z.real <= 0, 0, z),
    derivative=lambda a, p: np.where(a.real <= 0, 0, 1),
    curvature=lambda a, p: 0,
    third=lambda a, p: 0,
)

ACTIVATIONS["leaky_relu"] = of_units(
    value=lambda z, p: np.where(z.real <= 0, p * z, z),
    derivative=lambda a, p: np.where(a.real <= 0, p, 1),
    curvature=lambda a, p: 0,
    third=lambda a, p: 0,
)


def _expm1_below(z: Array) -> Array:
    """Compute ``exp(z) - 1`` where z <= 0, and 0 elsewhere, where exp would overflow."""
    return np.asarray(np.expm1(np.where(z.real <= 0, z, 0)))


ACTIVATIONS["elu"] = of_units(
    value=lambda z, p: np.where(z.real <= 0, _expm1_below(z), z),
    derivative=lambda a, p: np.where(a.real <= 0, a + 1, 1),
    curvature=lambda a, p: np.where(a.real <= 0, 1, 0),
    third=lambda a, p: np.where(a.real <= 0, 1, 0),
)

# Klambauer et al. (2017), equation 14.
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

ACTIVATIONS["selu"] = of_units(
    value=lambda z, p: SELU_SCALE * np.where(z.real <= 0, SELU_ALPHA * _expm1_below(z), z),
    derivative=lambda a, p: np.where(a.real <= 0, a + SELU_SCALE * SELU_ALPHA, SELU_SCALE),
    curvature=lambda a, p: np.where(a.real <= 0, 1, 0),
    third=lambda a, p: np.where(a.real <= 0, 1, 0),
)


def size(z: Array) -> Array:
    """Compute the absolute value, for complex z as the analytic function that is z or -z.

    Parameters
    ----------
    z : ndarray
        Real or complex numbers.

    Returns
    -------
    ndarray
        Numbers with real parts >= 0.
    """
    return np.asarray(np.where(z.real < 0, -z, z))


ACTIVATIONS["softplus"] = of_units(
    value=lambda z, p: np.log1p(np.exp(-size(z))) + np.where(z.real < 0, 0, z),
    derivative=lambda a, p: -np.expm1(-a),
    curvature=lambda a, p: np.exp(-a),
    third=lambda a, p: np.exp(-a) * (2 * np.exp(-a) - 1),
)

ACTIVATIONS["softsign"] = of_units(
    value=lambda z, p: z / (1 + size(z)),
    derivative=lambda a, p: (1 - size(a)) ** 2,
    curvature=lambda a, p: np.where(a.real < 0, 2, -2) * (1 - size(a)),
    third=lambda a, p: 6 * (1 - size(a)) ** 2,
)

ACTIVATIONS["hard_tanh"] = of_units(
    value=lambda z, p: np.where(abs(z.real) < 1, z, np.sign(z.real)),
    derivative=lambda a, p: np.where(abs(a.real) < 1, 1, 0),
    curvature=lambda a, p: 0,
    third=lambda a, p: 0,
)

ACTIVATIONS["step"] = of_units(
    value=lambda z, p: np.where(z.real <= 0, 0, np.where(z.real > 0, 1, z.real)),
    derivative=lambda a, p: 0,
    curvature=lambda a, p: 0,
    third=lambda a, p: 0,
)

ACTIVATIONS["exp"] = of_units(
    value=lambda z, p: np.exp(z),
    derivative=lambda a, p: a,
    curvature=lambda a, p: 1,
    third=lambda a, p: 1,
)


def _normal_density(z: Array) -> Array:
    """Compute the density of the standard normal distribution."""
    return np.asarray(np.exp(-z * z / 2) / math.sqrt(2 * math.pi))


# The standard normal distribution function.
_normal_cdf = of_numbers(lambda x: (1 + math.erf(x / math.sqrt(2))) / 2, _normal_density)

ACTIVATIONS["gelu"] = of_units(
    value=lambda z, p: z * _normal_cdf(z),
    derivative=lambda z, p: _normal_cdf(z) + z * _normal_density(z),
    curvature=lambda z, p: _normal_density(z) * (2 - z * z),
    third=lambda z, p: _normal_density(z) * z * (z * z - 4),
    of_z=True,
)


def _silu_third(z: Array, p: float) -> Array:
    """Compute f'''(z) of silu."""
    s = _logistic(z)
    first, centred = s * (1 - s), 1 - 2 * s
    return np.asarray(first * (centred * (3 + z * centred) - 2 * z * first))


ACTIVATIONS["silu"] = of_units(
    value=lambda z, p: z * _logistic(z),
    derivative=lambda z, p: _logistic(z) * (1 + z * (1 - _logistic(z))),
    curvature=lambda z, p: _logistic(z) * (1 - _logistic(z)) * (2 + z * (1 - 2 * _logistic(z))),
    third=_silu_third,
    of_z=True,
)

ACTIVATIONS["sin"] = of_units(
    value=lambda z, p: np.sin(z),
    derivative=lambda z, p: np.cos(z),
    curvature=lambda z, p: -np.sin(z),
    third=lambda z, p: -np.cos(z),
    of_z=True,
)


def _tanh_softplus(z: Array) -> tuple[Array, Array]:
    """Compute ``t = tanh(log(1 + exp(z)))`` and its derivative ``(1 - t**2) sigmoid(z)``."""
    above = z.real > 0
    w = np.exp(np.where(above, -z, z))
    n, d = np.where(above, 1 + 2 * w, w * (w + 2)), np.where(above, 2 * w * w, 2)
    return np.asarray(n / (n + d)), d * (2 * n + d) / (n + d) ** 2 * _logistic(z)


def _mish_derivative(z: Array, p: float) -> Array:
    """Compute f'(z) of mish."""
    t, slope = _tanh_softplus(z)
    return np.asarray(t + z * slope)


def _mish_curvature(z: Array, p: float) -> Array:
    """Compute f''(z) of mish."""
    t, slope = _tanh_softplus(z)
    return np.asarray(slope * (2 + z * (1 - _logistic(z) * (1 + 2 * t))))


def _mish_third(z: Array, p: float) -> Array:
    """Compute f'''(z) of mish."""
    t, slope = _tanh_softplus(z)
    s = _logistic(z)
    rest, turn = s * (1 - s), 1 - s * (1 + 2 * t)
    return np.asarray(slope * (3 * turn + z * (turn**2 - rest - 2 * (slope * s + t * rest))))


ACTIVATIONS["mish"] = of_units(
    value=lambda z, p: z * _tanh_softplus(z)[0],
    derivative=_mish_derivative,
    curvature=_mish_curvature,
    third=_mish_third,
    of_z=True,
)

ACTIVATIONS["hardswish"] = of_units(
    value=lambda z, p: np.where(z.real <= -3, 0, np.where(z.real >= 3, z, z * (z + 3) / 6)),
    derivative=lambda z, p: np.where(z.real <= -3, 0, np.where(z.real >= 3, 1, z / 3 + 0.5)),
    curvature=lambda z, p: np.where(abs(z.real) < 3, 1 / 3, 0),
    third=lambda z, p: 0,
    of_z=True,
)

# ------------------------------------------------------------------ records of whole rows


def total(x: Array) -> Array:
    """Sum each row.

    Parameters
    ----------
    x : ndarray, (B, n)
        Real or complex numbers.

    Returns
    -------
    ndarray, (B, 1)
        The sums.
    """
    return np.asarray(x.sum(axis=1, keepdims=True))


def _softmax(z: Array, p: float) -> Array:
    """Compute ``exp(z) / sum(exp(z))`` of each row, from which its maximum is subtracted first."""
    e = np.exp(z - z.real.max(axis=1, keepdims=True))
    return np.asarray(e / total(e))


def _softmax_tangent(a: Array, Rz: Array, p: float) -> Array:
    """Compute ``(diag(a) - a a^T) Rz`` of each row."""
    return np.asarray(a * (Rz - total(a * Rz)))


def _softmax_curve(a: Array, u: Array, Rz: Array, p: float) -> Array:
    """Compute the derivative of ``a (u - sum(a u))`` along Rz."""
    Ra = _softmax_tangent(a, Rz, p)
    return np.asarray(Ra * (u - total(a * u)) - a * total(Ra * u))


ACTIVATIONS["softmax"] = Activation(_softmax, _softmax_tangent, _softmax_curve, of_rows=True)


def _gaussian(z: Array, p: float) -> Array:
    """Return means as they are, and variances as exp of their logarithms."""
    m = z.shape[1] // 2
    return np.concatenate([z[:, :m], np.exp(z[:, m:])], axis=1)


def _gaussian_tangent(a: Array, Rz: Array, p: float) -> Array:
    """Compute ``Ra``: Rz for the means, and ``a Rz`` for the variances."""
    m = a.shape[1] // 2
    return np.concatenate([Rz[:, :m], a[:, m:] * Rz[:, m:]], axis=1)


def _gaussian_curve(a: Array, u: Array, Rz: Array, p: float) -> Array:
    """Compute the derivative of `_gaussian_tangent` along Rz: 0 for the means, and ``u a Rz``."""
    m = a.shape[1] // 2
    return np.concatenate([0 * Rz[:, :m], u[:, m:] * a[:, m:] * Rz[:, m:]], axis=1)


ACTIVATIONS["gaussian"] = Activation(_gaussian, _gaussian_tangent, _gaussian_curve)
