"""Losses of one sample, and the first factor of BP1: one record each, named as the kernels'.

Logits z, outputs ``a = f(z)`` and targets Y are (B, n_out), and p is the parameter of the network's
loss: huber's threshold, the quantile, or gamma.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deltajit.reference.activations import size, total
from deltajit.reference.arrays import Array, quiet


class Loss(NamedTuple):
    """Define a loss.

    Attributes
    ----------
    total : callable
        ``total(z, a, Y, p)`` is the loss of each sample, (B,).
    slopes : callable
        ``slopes(a, Y, p)``, (B, n_out), is delta[L] if the loss belongs to an output, else
        dLoss/da.
    curved : callable
        ``curved(a, Y, Rz, Ra, p)``, (B, n_out), is the Gauss-Newton part of the derivative of
        `slopes` along Rz, where a moves by Ra.
    turned : callable
        ``turned(a, Y, Rz, Ra, p)``, (B, n_out), is the whole derivative of `slopes` along Rz.
    output : str or None
        Activation that the loss belongs to; with None, any output but gaussian will do.
    text : str
        Formula of `slopes`.
    """

    total: Callable[[Array, Array, Array, float], Array]
    slopes: Callable[[Array, Array, float], Array]
    curved: Callable[[Array, Array, Array, Array, float], Array]
    turned: Callable[[Array, Array, Array, Array, float], Array]
    output: str | None = None
    text: str = "dLoss/da"


def of_outputs(
    value: Callable[[Array, Array, Array, float], Array],
    slope: Callable[[Array, Array, float], ArrayLike],
    curve: Callable[[Array, Array, float], ArrayLike],
    output: str | None = None,
    text: str = "dLoss/da",
    turn: Callable[[Array, Array, float], ArrayLike] | None = None,
) -> Loss:
    """Make the record of a loss that is a sum over outputs.

    Parameters
    ----------
    value : callable
        ``value(z, a, y, p)`` is the loss of each output, (B, n_out).
    slope : callable
        ``slope(a, y, p)`` is d value / d a, which BP1 multiplies by f'(z). If the loss belongs to
        an output, f' cancels, and it is delta itself, ``a - y``.
    curve : callable
        ``curve(a, y, p)`` is d slope / d a, for a loss that belongs to an output as well.
    output : str, optional
        Activation that the loss belongs to.
    text : str
        Formula of `slope`.
    turn : callable, optional
        ``turn(a, y, p)`` is d slope / d a where `curve` is only the Gauss-Newton part of it.

    Returns
    -------
    Loss
        The record.
    """

    def curved(a: Array, Y: Array, Rz: Array, Ra: Array, p: float) -> Array:
        return np.asarray(np.asarray(curve(a, Y, p), a.dtype) * Ra)

    def turned(a: Array, Y: Array, Rz: Array, Ra: Array, p: float) -> Array:
        return np.asarray(np.asarray((turn or curve)(a, Y, p), a.dtype) * Ra)

    return Loss(
        lambda z, a, Y, p: np.asarray(value(z, a, Y, p).sum(axis=1)),
        lambda a, Y, p: np.asarray(slope(a, Y, p), (a - Y).dtype),
        curved,
        turned,
        output,
        text,
    )


#: Records of losses by name, in NumPy: the twins of `deltajit.kernels.LOSSES`.
LOSSES: dict[str, Loss] = {}


@quiet
def sample_losses(loss: str, z: Array, a: Array, Y: Array, bend: float = 1.0) -> Array:
    """Compute the loss of each sample.

    Parameters
    ----------
    loss : str
        Name of the loss.
    z, a : ndarray, (B, n_out)
        Logits and activations of the output layer.
    Y : ndarray, (B, n_out)
        Targets.
    bend : float
        Parameter of the loss: huber's threshold, the quantile, or gamma.

    Returns
    -------
    ndarray, (B,)
        Losses, without weights and penalty.
    """
    return LOSSES[loss].total(z, a, Y, bend)


# ------------------------------------------------------------------ the records


LOSSES["squared_error"] = of_outputs(
    value=lambda z, a, y, p: (a - y) ** 2 / 2,
    slope=lambda a, y, p: a - y,
    curve=lambda a, y, p: 1,
    text="a - Y",
)

LOSSES["huber"] = of_outputs(
    value=lambda z, a, y, p: np.where(
        abs((a - y).real) <= p, (a - y) ** 2 / 2, p * (size(a - y) - p / 2)
    ),
    slope=lambda a, y, p: np.where(abs((a - y).real) <= p, a - y, p * np.sign((a - y).real)),
    curve=lambda a, y, p: abs((a - y).real) <= p,
)

LOSSES["absolute_error"] = of_outputs(
    value=lambda z, a, y, p: size(a - y),
    slope=lambda a, y, p: np.sign((a - y).real),
    curve=lambda a, y, p: 0,
)

LOSSES["quantile"] = of_outputs(
    value=lambda z, a, y, p: np.where(a.real < y, p * (y - a), (1 - p) * (a - y)),
    slope=lambda a, y, p: np.where(a.real > y, 1 - p, np.where(a.real < y, -p, a.real - y)),
    curve=lambda a, y, p: 0,
)

LOSSES["log_cosh"] = of_outputs(
    value=lambda z, a, y, p: np.where(
        abs((a - y).real) < 1,
        -np.log1p(-(np.tanh(a - y) ** 2)) / 2,
        size(a - y) + np.log1p(np.exp(-2 * size(a - y))) - math.log(2),
    ),
    slope=lambda a, y, p: np.tanh(a - y),
    curve=lambda a, y, p: 4 * np.exp(-2 * size(a - y)) / (1 + np.exp(-2 * size(a - y))) ** 2,
)

LOSSES["binary_cross_entropy"] = of_outputs(
    value=lambda z, a, y, p: np.log1p(np.exp(-size(z))) + np.where(z.real < 0, 0, z) - z * y,
    slope=lambda a, y, p: a - y,
    curve=lambda a, y, p: 1,
    output="sigmoid",
    text="a - Y",
)


def _focal_factor(a: Array, rest: Array, p: float) -> tuple[Array, Array]:
    """Compute c and dc/da: focal losses have the delta of a cross entropy of targets ``y c``.

    ``rest = 1 - a``; ``c = rest**p - p a log(a) rest**(p - 1)``.
    """
    a, rest = (np.where(x.real < 1e-37, 1e-37, x) for x in (a, rest))
    log_a = np.where(rest.real < 0.5, np.log1p(-rest), np.log(a))
    q = a * log_a / rest
    slope = -p * rest**p / rest * (2 + log_a - (p - 1) * q)
    return rest**p * (1 - p * q), slope


def _binary_focal_value(z: Array, a: Array, y: Array, p: float) -> Array:
    """Compute ``-(y (1 - a)**p log(a) + (1 - y) a**p log(1 - a))``."""
    both = np.log1p(np.exp(-size(z)))
    up, down = both + np.where(z.real < 0, 0, z), both - np.where(z.real < 0, z, 0)
    return np.asarray(y * np.exp(-p * up) * down + (1 - y) * np.exp(-p * down) * up)


def _binary_focal_slope(a: Array, y: Array, p: float) -> Array:
    """Compute delta, ``(1 - y) c(1 - a) a - y c(a) (1 - a)``."""
    (right, _), (wrong, _) = _focal_factor(a, 1 - a, p), _focal_factor(1 - a, a, p)
    return np.asarray((1 - y) * wrong * a - y * right * (1 - a))


def _binary_focal_curve(a: Array, y: Array, p: float) -> Array:
    """Compute the derivative of delta for targets ``y c`` that do not move."""
    (right, _), (wrong, _) = _focal_factor(a, 1 - a, p), _focal_factor(1 - a, a, p)
    return np.asarray(y * right + (1 - y) * wrong)


def _binary_focal_turn(a: Array, y: Array, p: float) -> Array:
    """Compute the derivative of delta."""
    (right, by_a), (wrong, by_rest) = _focal_factor(a, 1 - a, p), _focal_factor(1 - a, a, p)
    return np.asarray(y * (right - by_a * (1 - a)) + (1 - y) * (wrong - by_rest * a))


LOSSES["binary_focal"] = of_outputs(
    _binary_focal_value,
    _binary_focal_slope,
    _binary_focal_curve,
    output="sigmoid",
    text="dLoss/dz",
    turn=_binary_focal_turn,
)

LOSSES["poisson"] = of_outputs(
    value=lambda z, a, y, p: a - y * z,
    slope=lambda a, y, p: a - y,
    curve=lambda a, y, p: 1,
    output="exp",
    text="a - Y",
)

# ------------------------------------------------------------------ cross_entropy, of whole rows


def _cross_entropy_total(z: Array, a: Array, Y: Array, p: float) -> Array:
    """Compute ``-sum(y log softmax(z))``."""
    shifted = z - z.real.max(axis=1, keepdims=True)
    return np.asarray((Y * (np.log(total(np.exp(shifted))) - shifted)).sum(axis=1))


def _cross_entropy_slopes(a: Array, Y: Array, p: float) -> Array:
    """Compute delta, ``a sum(y) - y``: rows of Y need not sum to 1."""
    return np.asarray(a * total(Y) - Y)


def _cross_entropy_curved(a: Array, Y: Array, Rz: Array, Ra: Array, p: float) -> Array:
    """Compute the derivative of delta, ``sum(y) Ra``."""
    return np.asarray(total(Y) * Ra)


LOSSES["cross_entropy"] = Loss(
    _cross_entropy_total,
    _cross_entropy_slopes,
    _cross_entropy_curved,
    _cross_entropy_curved,
    "softmax",
    "a - Y",
)

# ------------------------------------------------------------------ focal, of whole rows


def _rest(a: Array) -> Array:
    """Compute ``1 - a`` of a row that sums to 1, as the sum of the others."""
    return np.asarray(a @ (1 - np.eye(a.shape[1])))


def _focal_total(z: Array, a: Array, Y: Array, p: float) -> Array:
    """Compute ``-sum(y (1 - a)**p log(a))``."""
    return _cross_entropy_total(z, a, Y * _rest(a) ** p, p)


def _focal_slopes(a: Array, Y: Array, p: float) -> Array:
    """Compute delta, that of cross_entropy for targets ``y c``."""
    c, _ = _focal_factor(a, _rest(a), p)
    return _cross_entropy_slopes(a, Y * c, p)


def _focal_curved(a: Array, Y: Array, Rz: Array, Ra: Array, p: float) -> Array:
    """Compute the derivative of delta for targets ``y c`` that do not move."""
    c, _ = _focal_factor(a, _rest(a), p)
    return _cross_entropy_curved(a, Y * c, Rz, Ra, p)


def _focal_turned(a: Array, Y: Array, Rz: Array, Ra: Array, p: float) -> Array:
    """Compute the derivative of delta along Rz."""
    _, slope = _focal_factor(a, _rest(a), p)
    return _focal_curved(a, Y, Rz, Ra, p) + _cross_entropy_slopes(a, Y * slope * Ra, p)


LOSSES["focal"] = Loss(
    _focal_total,
    _focal_slopes,
    _focal_curved,
    _focal_turned,
    "softmax",
    "dLoss/dz",
)

# ------------------------------------------------------------------ gaussian_nll, of whole rows


def _ratio(r: Array, variance: Array) -> Array:
    """Compute ``r / variance``, and 0 where both are 0: then the variance has underflowed."""
    return np.asarray(r / np.where((r == 0) & (variance == 0), 1, variance))


def _gaussian_nll_total(z: Array, a: Array, Y: Array, p: float) -> Array:
    """Compute ``1/2 sum(log(variance) + (y - mean)**2 / variance)``, without the constant."""
    m = Y.shape[1]
    r = a[:, :m] - Y
    return np.asarray((z[:, m:] + r * _ratio(r, a[:, m:])).sum(axis=1) / 2)


def _gaussian_nll_slopes(a: Array, Y: Array, p: float) -> Array:
    """Compute delta, ``r / variance`` and ``(1 - r**2 / variance) / 2`` with ``r = mean - y``."""
    m = Y.shape[1]
    r = a[:, :m] - Y
    q = _ratio(r, a[:, m:])
    return np.concatenate([q, (1 - r * q) / 2], axis=1)


def _gaussian_nll_curved(a: Array, Y: Array, Rz: Array, Ra: Array, p: float) -> Array:
    """Compute the expectation of `_gaussian_nll_turned` over y: the Fisher information times Rz."""
    m = Y.shape[1]
    return np.concatenate([_ratio(Rz[:, :m], a[:, m:]), Rz[:, m:] / 2], axis=1)


def _gaussian_nll_turned(a: Array, Y: Array, Rz: Array, Ra: Array, p: float) -> Array:
    """Compute the derivative of `_gaussian_nll_slopes` along Rz."""
    m = Y.shape[1]
    r, moved = a[:, :m] - Y, Rz[:, m:]
    q = _ratio(r, a[:, m:])
    turned = _ratio(Rz[:, :m], a[:, m:]) - q * moved
    return np.concatenate([turned, r * q * moved / 2 - q * Rz[:, :m]], axis=1)


LOSSES["gaussian_nll"] = Loss(
    _gaussian_nll_total,
    _gaussian_nll_slopes,
    _gaussian_nll_curved,
    _gaussian_nll_turned,
    "gaussian",
    "dLoss/dz",
)
