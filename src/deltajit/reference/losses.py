"""Losses of one sample, and BP1's first factor: a record each, of the same name as the kernels'.

A loss that is a sum over outputs has three functions of logits z, outputs ``a = f(z)`` and targets
y, all (B, n_out), and of the parameter p of the network's loss:

    value(z, a, y, p)   the loss of one output
    slope(a, y, p)      d value / d a, which BP1 multiplies by f'(z). Where the loss belongs to an
                        `output`, f' cancels, and it is delta itself, ``a - y``
    curve(a, y, p)      d slope / d a; where the loss belongs to an output, d delta / d a
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from deltajit.reference.activations import size, total
from deltajit.reference.arrays import Array, quiet


class Loss(NamedTuple):
    """What there is to know of a loss.

    total : of z, a, Y and p: the loss of each sample, (B,).
    slopes : of a, Y and p: BP1 but for f' where the loss has no output, (B, n_out).
    curved : of a, Y, Rz, Ra and p: how these move when z does, by Rz, and a by Ra; Gauss-Newton's.
    turned : likewise, exactly.
    output : the output activation that it belongs to; None: any but gaussian.
    text : how a lecture writes `slopes`.
    """

    total: Callable[[Array, Array, Array, float], Array]
    slopes: Callable[[Array, Array, float], Array]
    curved: Callable[[Array, Array, Array, Array, float], Array]
    turned: Callable[[Array, Array, Array, Array, float], Array]
    output: str | None = None
    text: str = "dLoss/da"


def of_outputs(
    value: Callable[[Array, Array, Array, float], Any],
    slope: Callable[[Array, Array, float], Any],
    curve: Callable[[Array, Array, float], Any],
    output: str | None = None,
    text: str = "dLoss/da",
) -> Loss:
    """Make the record of a loss that is a sum over outputs."""

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


LOSSES: dict[str, Loss] = {}


@quiet
def sample_losses(loss: str, z: Array, a: Array, Y: Array, bend: float = 1.0) -> Array:
    """Loss of each sample, (B,), from logits z and activations a of the output, (B, n_out)."""
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

# ------------------------------------------------------------------ cross_entropy, of a row


def cross_entropy_total(z: Array, a: Array, Y: Array, p: float) -> Array:
    """``-sum(y log softmax(z))``."""
    shifted = z - z.real.max(axis=1, keepdims=True)
    return np.asarray((Y * (np.log(total(np.exp(shifted))) - shifted)).sum(axis=1))


def cross_entropy_slopes(a: Array, Y: Array, p: float) -> Array:
    """``a - y``; rows of Y need not sum to 1, hence ``a sum(y) - y``."""
    return np.asarray(a * total(Y) - Y)


def cross_entropy_curved(a: Array, Y: Array, Rz: Array, Ra: Array, p: float) -> Array:
    """``sum(y) Ra``."""
    return np.asarray(total(Y) * Ra)


LOSSES["cross_entropy"] = Loss(
    cross_entropy_total,
    cross_entropy_slopes,
    cross_entropy_curved,
    cross_entropy_curved,
    "softmax",
    "a - Y",
)

# ------------------------------------------------------------------ gaussian_nll, of a row


def ratio(r: Array, variance: Array) -> Array:
    """``r / variance``; 0 where both are, as the variance then is only too small for a float."""
    return np.asarray(r / np.where((r == 0) & (variance == 0), 1, variance))


def gaussian_nll_total(z: Array, a: Array, Y: Array, p: float) -> Array:
    """``1/2 sum(log(variance) + (y - mean)**2 / variance)``; without the constant."""
    m = Y.shape[1]
    r = a[:, :m] - Y
    return np.asarray((z[:, m:] + r * ratio(r, a[:, m:])).sum(axis=1) / 2)


def gaussian_nll_slopes(a: Array, Y: Array, p: float) -> Array:
    """``r / variance`` and ``(1 - r**2 / variance) / 2`` with ``r = mean - y``."""
    m = Y.shape[1]
    r = a[:, :m] - Y
    q = ratio(r, a[:, m:])
    return np.concatenate([q, (1 - r * q) / 2], axis=1)


def gaussian_nll_curved(a: Array, Y: Array, Rz: Array, Ra: Array, p: float) -> Array:
    """The mean over y of what `gaussian_nll_turned` gives: the Fisher information."""
    m = Y.shape[1]
    return np.concatenate([ratio(Rz[:, :m], a[:, m:]), Rz[:, m:] / 2], axis=1)


def gaussian_nll_turned(a: Array, Y: Array, Rz: Array, Ra: Array, p: float) -> Array:
    """How `gaussian_nll_slopes` move."""
    m = Y.shape[1]
    r, moved = a[:, :m] - Y, Rz[:, m:]
    q = ratio(r, a[:, m:])
    turned = ratio(Rz[:, :m], a[:, m:]) - q * moved
    return np.concatenate([turned, r * q * moved / 2 - q * Rz[:, :m]], axis=1)


LOSSES["gaussian_nll"] = Loss(
    gaussian_nll_total,
    gaussian_nll_slopes,
    gaussian_nll_curved,
    gaussian_nll_turned,
    "gaussian",
    "dLoss/dz",
)
