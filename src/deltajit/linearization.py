"""A network near one point: loss and gradient once, then products with derivatives from there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltajit import checks, kernels, memory
from deltajit.data import Data
from deltajit.kernels.model import N_OUT

Array = NDArray[Any]


class Linearization:
    """What `Network.linearize` returns: each product costs only its own sweeps.

    It stays at the theta at which it was made, whatever becomes of the network.

    Attributes
    ----------
    value : float
        The loss.
    grad : ndarray, (n_params,)
        Its gradient.
    """

    def __init__(self, model: kernels.Model, data: Data) -> None:
        theta = memory.empty(model.theta.size, model.theta.dtype)
        theta[:] = model.theta
        self._model = model._replace(theta=theta)
        self._data = data
        layers, batch, kind = model.layers, len(data.X), theta.dtype
        self._work = memory.empty(kernels.workspace_size(layers, batch, 2), kind)
        self._points = memory.empty(kernels.points_size(layers, batch), kind)
        self.grad = memory.empty(theta.size, kind)
        self.value = float(
            kernels.linearize(
                self._model,
                self._data.X,
                self._data.Y,
                self.grad,
                self._points,
                self._work,
                data.weights,
            )
        )

    def hvp(self, v: ArrayLike) -> Array:
        """``H @ v``, H the Hessian of the loss; v (n_params,)."""
        return self._second_order(kernels.hvp_at, v)

    def gnvp(self, v: ArrayLike) -> Array:
        """``G @ v``, G the Gauss-Newton matrix of the loss; v (n_params,)."""
        return self._second_order(kernels.gnvp_at, v)

    def jvp(self, v: ArrayLike) -> Array:
        """Derivative of the outputs along v (n_params,): (B, n_out)."""
        direction = checks.direction(v, "v", self.grad.shape, self.grad.dtype)
        out = np.empty((len(self._data.X), self._n_out), self.grad.dtype)
        kernels.jvp_at(self._model, self._data.X, self._points, direction, out, self._work)
        return out

    def vjp(self, u: ArrayLike) -> Array:
        """Gradient of ``sum(u * outputs)``, u (B, n_out): (n_params,)."""
        shape = len(self._data.X), self._n_out
        cotangent = checks.direction(u, "u", shape, self.grad.dtype)
        out = np.empty_like(self.grad)
        kernels.vjp_at(self._model, self._data.X, self._points, cotangent, out, self._work)
        return out

    @property
    def _n_out(self) -> int:
        return int(self._model.layers[-1, N_OUT])

    def _second_order(self, kernel: Any, v: ArrayLike) -> Array:
        direction = checks.direction(v, "v", self.grad.shape, self.grad.dtype)
        out = np.empty_like(self.grad)
        X, Y, weights = self._data
        kernel(self._model, X, Y, self._points, direction, out, self._work, weights)
        return out
