"""A network near one point: loss and gradient once, then products with derivatives from there."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deltajit import kernels
from deltajit.model import checks, memory
from deltajit.model.architecture import Architecture
from deltajit.model.data import Data
from deltajit.model.described import Described
from deltajit.model.memory import Array


class Linearization(Described):
    """What `Network.linearize` returns: each product costs only its own sweeps.

    It stays at the theta at which it was made, whatever becomes of the network. Any number of
    threads may call it.

    Attributes
    ----------
    value : float
        The loss.
    grad : ndarray, (n_params,)
        Its gradient.
    """

    __slots__ = (
        "__dict__", "__weakref__", "_architecture", "_data", "_model", "_points", "_scratch",
        "grad", "value",
    )  # fmt: skip

    @classmethod
    def at(
        cls, architecture: Architecture, theta: Array, data: Data, threads: int
    ) -> Linearization:
        """The linearization at a copy of theta."""
        made = cls.__new__(cls)
        size = kernels.points_size(architecture.model(theta), len(data.X))
        points = memory.empty(size, theta.dtype)
        made._bind(architecture, theta, data, threads, points, np.empty_like(theta), np.nan)
        made.value = float(
            kernels.linearize(
                made._model,
                data.X,
                data.Y,
                made.grad,
                points,
                made._work(),
                data.weights,
            )
        )
        return made

    def _bind(
        self,
        architecture: Architecture,
        theta: Array,
        data: Data,
        threads: int,
        points: Array,
        grad: Array,
        value: float,
    ) -> None:
        """Hold what is known at theta, and what the kernels work with."""
        self._architecture, self._data = architecture, data.ready()
        self._points = memory.ready(points)
        self._model = architecture.model(memory.copy(theta), threads)
        self.grad, self.value = memory.ready(grad), value
        self._scratch = threading.local()

    def _describe(self) -> dict[str, Any]:
        return {
            "architecture": self._architecture,
            "theta": self._model.theta,
            "data": self._data,
            "threads": self._model.threads,
            "points": self._points,
            "grad": self.grad,
            "value": self.value,
        }

    def hvp(self, v: ArrayLike) -> Array:
        """``H @ v``, H the Hessian of the loss; v (n_params,)."""
        return self._second_order(kernels.hvp_at, v)

    def gnvp(self, v: ArrayLike) -> Array:
        """``G @ v``, G the Gauss-Newton matrix of the loss; v (n_params,)."""
        return self._second_order(kernels.gnvp_at, v)

    def hessian(self) -> Array:
        """The Hessian of the loss, (n_params, n_params), a product with each unit vector."""
        n, dtype = self._model.theta.size, self._model.theta.dtype
        H, v = np.empty((n, n), dtype), np.zeros(n, dtype)
        for i in range(n):
            v[i] = 1
            H[i] = self.hvp(v)
            v[i] = 0
        return H

    def jvp(self, v: ArrayLike) -> Array:
        """Derivative of the outputs along v (n_params,): (B, n_out)."""
        theta, X = self._model.theta, self._data.X
        direction = checks.direction(v, "v", theta.shape, theta.dtype)
        out = np.empty((len(X), self._architecture.sizes[-1]), theta.dtype)
        kernels.jvp_at(self._model, X, self._points, direction, out, self._work())
        return out

    def vjp(self, u: ArrayLike) -> Array:
        """Gradient of ``sum(u * outputs)``, u (B, n_out): (n_params,)."""
        theta, X = self._model.theta, self._data.X
        shape = len(X), self._architecture.sizes[-1]
        cotangent = checks.direction(u, "u", shape, theta.dtype)
        out = np.empty(theta.size, theta.dtype)
        kernels.vjp_at(self._model, X, self._points, cotangent, out, self._work())
        return out

    def _second_order(self, kernel: Any, v: ArrayLike) -> Array:
        theta, (X, Y, weights) = self._model.theta, self._data
        direction = checks.direction(v, "v", theta.shape, theta.dtype)
        out = np.empty(theta.size, theta.dtype)
        kernel(self._model, X, Y, self._points, direction, out, self._work(), weights)
        return out

    def _work(self) -> Array:
        """This thread's scratch memory."""
        work: Array | None = getattr(self._scratch, "work", None)
        if work is None:
            size = kernels.workspace_size(self._model, len(self._data.X), 2)
            work = self._scratch.work = memory.empty(size, self._model.theta.dtype)
        return work
