"""Every number of one forward and one backward pass, as the equations name them."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np

from deltajit.reference.activations import ACTIVATIONS, derivative, times_derivative
from deltajit.reference.arrays import Array, quiet
from deltajit.reference.losses import LOSSES
from deltajit.reference.sweeps import (
    Model,
    as_rows,
    deltas,
    forward,
    loss_delta,
    normalized,
    value_and_grad,
)


class Trace(NamedTuple):
    """Hold the numbers of one forward and one backward pass of B samples.

    Layers are counted from 1 to L, as in the equations: ``a[0]`` is X, and element 0 of every other
    tuple is None.

    Attributes
    ----------
    model : Model
        A copy of the network.
    Y : ndarray, (B, n_out)
        Targets; class labels as rows of 0 and 1.
    w : ndarray, (B,)
        Share of each sample in the loss; they sum to 1.
    W, b : tuple of ndarray, (n_l, n_{l-1}) and (n_l,)
        Weights and biases.
    z, a : tuple of ndarray, (B, n_l)
        ``z[l] = a[l-1] @ W[l].T + b[l]`` and ``a[l] = f(z[l])``.
    value : float
        The loss.
    slopes : tuple of ndarray, (B, n_l)
        ``f'(z[l])``; of softmax the Jacobian of each sample, (B, n_l, n_l).
    delta : tuple of ndarray, (B, n_l)
        ``dLoss/dz[l]``.
    dW, db : tuple of ndarray, (n_l, n_{l-1}) and (n_l,)
        ``dLoss/dW[l]``, with the penalty, and ``dLoss/db[l]``.
    """

    model: Model
    Y: Array
    w: Array
    W: tuple[Any, ...]
    b: tuple[Any, ...]
    z: tuple[Any, ...]
    a: tuple[Any, ...]
    value: float
    slopes: tuple[Any, ...]
    delta: tuple[Any, ...]
    dW: tuple[Any, ...]  # noqa: N815
    db: tuple[Any, ...]

    @property
    def cancels(self) -> bool:
        """Return whether f' cancels in BP1, because the loss belongs to the output."""
        return LOSSES[self.model.loss].output is not None


def trace(model: Model, X: Array, Y: Array, weights: Array | None = None) -> Trace:
    """Compute every number of one forward and one backward pass.

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

    Returns
    -------
    Trace
        The numbers; W and b are copies.
    """
    sweep = forward(model, X)
    value, dW, db = value_and_grad(model, X, Y, weights)
    delta = deltas(model, sweep, loss_delta(model, sweep, Y, weights))
    units = zip(model.activations, sweep.x, strict=True)
    slopes = [slopes_of(f, x, model.slope) for f, x in units]
    W, b = ([part.copy() for part in parts] for parts in (model.weights, model.biases))
    return Trace(
        model=model._replace(weights=tuple(W), biases=tuple(b)),
        Y=as_rows(Y, sweep.a[-1]),
        w=normalized(weights, len(X)),
        W=(None, *W),
        b=(None, *b),
        z=(None, *sweep.z),
        a=tuple(sweep.a),
        value=cast("float", value.item()),
        slopes=(None, *slopes),
        delta=(None, *delta),
        dW=(None, *dW),
        db=(None, *db),
    )


@quiet
def slopes_of(activation: str, x: Array, slope: float = 0.01) -> Array:
    """Compute f'(z), as a Jacobian of each sample for an activation of whole rows.

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
    ndarray, (B, n) or (B, n, n)
        The derivative of each unit, or the Jacobian of each sample if `of_rows` is true.
    """
    if not ACTIVATIONS[activation].of_rows:
        return derivative(activation, x, slope)
    units = [np.broadcast_to(unit, x.shape) for unit in np.eye(x.shape[1], dtype=x.dtype)]
    return np.stack([times_derivative(activation, x, unit, slope) for unit in units], axis=-1)
