"""Linearize a network: loss and gradient at one theta, then products with its derivatives there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deltajit import kernels
from deltajit.kernels.mlp.calls import calls_for
from deltajit.kernels.mlp.derivatives import EXACT, GAUSS_NEWTON
from deltajit.kernels.mlp.model import block_size
from deltajit.model import checks, memory
from deltajit.model.architecture import Architecture
from deltajit.model.data import Data
from deltajit.model.described import Described
from deltajit.model.memory import Array


class Sweep(NamedTuple):
    """Hold both sweeps over a block of samples.

    Attributes
    ----------
    rows : slice
        Which samples these are.
    a : list of ndarray, (b, n_l)
        ``[X, a[1], ..., a[L]]``.
    delta : list of ndarray, (b, n_l)
        ``[delta[1], ..., delta[L]]`` of the loss of all samples, a mean.
    """

    rows: slice
    a: list[Array]
    delta: list[Array]


class Linearization(Described):
    """Multiply vectors with a network's derivatives at one theta, which `Network.linearize` fixes.

    The sweeps at that theta are kept, so that a product costs only its own. Later changes of the
    network don't matter. Any number of threads may call the methods.

    Attributes
    ----------
    value : float
        The loss.
    grad : ndarray, (n_params,)
        The gradient of the loss.
    """

    __slots__ = (
        "__dict__", "__weakref__", "_architecture", "_calls", "_data", "_model", "_points",
        "_scratch", "grad", "value",
    )  # fmt: skip

    @classmethod
    def at(
        cls, architecture: Architecture, theta: Array, data: Data, threads: int
    ) -> Linearization:
        """Linearize at a copy of theta.

        Parameters
        ----------
        architecture : Architecture
            Sizes, activations and loss of the network.
        theta : ndarray, (n_params,)
            Parameters.
        data : Data
            Checked samples, which nothing else may change.
        threads : int
            Number of threads that a large batch may use.

        Returns
        -------
        Linearization
            The linearization, after one forward and one backward sweep.
        """
        new = cls.__new__(cls)
        size = kernels.points_size(architecture.model(theta), len(data.X))
        points = memory.empty(size, theta.dtype)
        new._bind(architecture, theta, data, threads, points, np.empty_like(theta), np.nan)
        X, Y, weights = data
        call, work = new._calls.linearize, new._work()
        new.value = call(new._model, X, Y, weights, new.grad, points, work)
        return new

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
        """Keep what is known at theta, and make what the kernels work with."""
        self._architecture, self._data = architecture, data.ready()
        self._points = memory.ready(points)
        self._model = architecture.model(memory.copy(theta), threads)
        self.grad, self.value = memory.ready(grad), value
        self._calls = calls_for(theta.dtype)
        self._scratch = threading.local()

    def _describe(self) -> dict[str, object]:
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
        """Compute ``H @ v``, H the Hessian of the loss.

        Parameters
        ----------
        v : array_like, (n_params,)
            Finite vector, laid out like theta.

        Returns
        -------
        ndarray, (n_params,)
            The product.

        Raises
        ------
        ValueError, TypeError
            v has another shape, or is not finite.
        """
        return self._second_order(EXACT, v)

    def gnvp(self, v: ArrayLike) -> Array:
        """Compute ``G @ v``, G the Gauss-Newton matrix of the loss.

        Parameters
        ----------
        v : array_like, (n_params,)
            Finite vector, laid out like theta.

        Returns
        -------
        ndarray, (n_params,)
            The product.

        Raises
        ------
        ValueError, TypeError
            v has another shape, or is not finite.
        """
        return self._second_order(GAUSS_NEWTON, v)

    def hessian(self) -> Array:
        """Compute the Hessian of the loss, one product with a unit vector after the other.

        Returns
        -------
        ndarray, (n_params, n_params)
            The Hessian.

        Raises
        ------
        ValueError
            The matrix would need more than 1 GiB.
        """
        n, dtype = self._model.theta.size, self._model.theta.dtype
        checks.dense("hessian", n, dtype)
        H, v = np.empty((n, n), dtype), np.zeros(n, dtype)
        for i in range(n):
            v[i] = 1
            H[i] = self.hvp(v)
            v[i] = 0
        return H

    def jvp(self, v: ArrayLike) -> Array:
        """Compute the derivative of the outputs along a direction of theta.

        Parameters
        ----------
        v : array_like, (n_params,)
            Finite direction, laid out like theta.

        Returns
        -------
        ndarray, (B, n_out)
            The tangents of `Network.predict`.

        Raises
        ------
        ValueError, TypeError
            v has another shape, or is not finite.
        """
        theta, X = self._model.theta, self._data.X
        direction = checks.direction(v, "v", theta.shape, theta.dtype)
        out = np.empty((len(X), self._architecture.sizes[-1]), theta.dtype)
        self._calls.jvp(self._model, X, self._points, direction, out, self._work())
        return out

    def vjp(self, u: ArrayLike) -> Array:
        """Compute the gradient of ``sum(u * outputs)`` with respect to theta.

        Parameters
        ----------
        u : array_like, (B, n_out)
            Finite weights of the outputs.

        Returns
        -------
        ndarray, (n_params,)
            The gradient, a plain sum over samples.

        Raises
        ------
        ValueError, TypeError
            u has another shape, or is not finite.
        """
        theta, X = self._model.theta, self._data.X
        shape = len(X), self._architecture.sizes[-1]
        cotangent = checks.direction(u, "u", shape, theta.dtype)
        out = np.empty(theta.size, theta.dtype)
        self._calls.vjp(self._model, X, self._points, cotangent, out, self._work())
        return out

    def sweeps(self) -> Iterator[Sweep]:
        """Yield both sweeps, block by block of the samples.

        Yields
        ------
        Sweep
            Views of what is kept: not to be changed.
        """
        X, network = self._data.X, self._model.network[0]
        units, size = int(network["units"]), block_size(len(X))
        for first in range(0, len(X), size):
            rows = slice(first, min(first + size, len(X)))
            count = rows.stop - first
            here = self._points[2 * first * units :]  # a, then delta
            deltas = here[count * units :]
            a, delta = [X[rows]], []
            for layer in self._model.layers:
                at, n = int(layer["a_at"]) * count, int(layer["n_out"])
                a.append(here[at : at + count * n].reshape(count, n))
                delta.append(deltas[at : at + count * n].reshape(count, n))
            yield Sweep(rows, a, delta)

    def _second_order(self, kind: int, v: ArrayLike) -> Array:
        theta, (X, Y, weights) = self._model.theta, self._data
        direction = checks.direction(v, "v", theta.shape, theta.dtype)
        out = np.empty(theta.size, theta.dtype)
        model, points, work = self._model, self._points, self._work()
        self._calls.product(model, X, Y, points, weights, direction, out, work, kind)
        return out

    def _work(self) -> Array:
        """Return this thread's scratch memory."""
        work: Array | None = getattr(self._scratch, "work", None)
        if work is None:
            size = kernels.workspace_size(self._model, len(self._data.X), 2)
            work = self._scratch.work = memory.empty(size, self._model.theta.dtype)
        return work
