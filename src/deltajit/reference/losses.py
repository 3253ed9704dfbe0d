"""Losses of one sample, and the first factor of BP1: one record each, named as the kernels'.

Logits z, outputs ``a = f(z)`` and targets Y are (B, n_out), and p is the parameter of the network's
loss: huber's threshold, or the quantile.
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

    Returns
    -------
    Loss
        The record.
    """

    def curved(a: Array, Y: Array, Rz: Array, Ra: Array, p: float) -> Array:
        return np.asarray(np.asarray(curve(a, Y, p), a.dtype) * Ra)

    return Loss(
        lambda z, a, Y, p: np.asarray(value(z, a, Y, p).sum(axis=1)),
        lambda a, Y, p: np.asarray(slope(a, Y, p), (a - Y).dtype),
        curved,
        curved,
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
        Parameter of the loss: huber's threshold, or the quantile.

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
