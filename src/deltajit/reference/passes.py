"""A forward and a backward pass with every number that occurs in it, as a lecture writes them."""

from __future__ import annotations

from typing import Any, NamedTuple

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
    """All numbers of one forward and one backward pass of B samples.

    Layers are counted as in the equations, l = 1..L: element 0 of a tuple is None, but ``a[0]``,
    which is X.

    Attributes
    ----------
    model : Model
        The network, with weights and biases of its own.
    Y : ndarray, (B, n_out)
        The targets; rows of 0 and 1 of class labels.
    w : ndarray, (B,)
        Each sample's share of the loss; they sum to 1.
    W, b, z, a : tuples of ndarrays
        ``z[l] = a[l-1] @ W[l].T + b[l]``, ``a[l] = f(z[l])``, (B, n_l).
    value : float
        The loss.
    slopes : tuple of ndarrays
        ``f'(z[l])``, (B, n_l); of a softmax the Jacobian of each sample, (B, n_l, n_l).
    delta : tuple of ndarrays
        ``dLoss/dz[l]``, (B, n_l).
    dW, db : tuples of ndarrays
        ``dLoss/dW[l]`` and ``dLoss/db[l]``, penalties of the weights included.
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
        """Whether f' of the output cancels in BP1, as the loss belongs to it."""
        return LOSSES[self.model.loss].output is not None


def trace(model: Model, X: Array, Y: Array, weights: Array | None = None) -> Trace:
    """Every number of one forward and one backward pass.

    Parameters
    ----------
    model : Model
    X : ndarray, (B, n_in)
    Y : ndarray, (B, n_out) or class labels (B,)
    weights : ndarray, (B,), optional
        Of the samples.

    Returns
    -------
    Trace
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
        value=value.item(),
        slopes=(None, *slopes),
        delta=(None, *delta),
        dW=(None, *dW),
        db=(None, *db),
    )


@quiet
def slopes_of(activation: str, x: Array, slope: float = 0.01) -> Array:
    """f'(z) of each unit (B, n); where it is `of_rows` each sample's Jacobian, (B, n, n)."""
    if not ACTIVATIONS[activation].of_rows:
        return derivative(activation, x, slope)
    units = [np.broadcast_to(unit, x.shape) for unit in np.eye(x.shape[1], dtype=x.dtype)]
    return np.stack([times_derivative(activation, x, unit, slope) for unit in units], axis=-1)
