"""Define `Objective`, the loss as a function of theta alone, as scipy.optimize takes it."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltajit import kernels
from deltajit.derivatives.linearization import Linearization
from deltajit.kernels.mlp.calls import calls_for
from deltajit.kernels.mlp.derivatives import BY_THETA
from deltajit.model import checks, memory
from deltajit.model.architecture import Architecture
from deltajit.model.data import Data
from deltajit.model.described import Described
from deltajit.model.memory import Array


def needs_squared_error(architecture: Architecture) -> None:
    """Raise ValueError for a loss that residuals aren't of.

    Parameters
    ----------
    architecture : Architecture
        Architecture of a network.

    Raises
    ------
    ValueError
        The loss is not squared_error.
    """
    if architecture.loss != "squared_error":
        raise ValueError(f"residuals need loss='squared_error', got loss={architecture.loss!r}")


class _Point:
    """Remember the theta that a thread has last asked for, and what is known there."""

    def __init__(self, architecture: Architecture, batch: int, threads: int) -> None:
        theta = memory.empty(architecture.n_params, architecture.dtype)
        theta[:] = np.nan
        self.model = architecture.model(theta, threads)
        self.work = memory.empty(kernels.workspace_size(self.model, batch, 2), theta.dtype)
        self.grad = np.empty_like(theta)
        self.value: float | None = None
        self.linearized: Linearization | None = None

    def go_to(self, theta: ArrayLike) -> None:
        """Move to theta, and forget what is known of another."""
        here = self.model.theta
        there = checks.shaped(theta, "theta", here.shape, here.dtype)
        if not np.array_equal(here, there):
            here[:] = there
            self.linearized = self.value = None


class Objective(Described):
    """Evaluate a loss and its derivatives as functions of theta, in float64.

    `Network.objective` returns one. The network's theta is neither read nor changed. Calls at the
    same theta share their work: ``jac`` after ``fun`` is free, and ``hessp`` keeps its sweeps. Any
    number of threads may call the methods; each remembers its last theta.

    Parameters
    ----------
    architecture : Architecture
        Sizes, activations and loss of the network.
    data : Data
        Checked samples, which nothing else may change.
    threads : int
        Number of threads that a large batch may use.

    Examples
    --------
    >>> import deltajit as dj
    >>> from scipy.optimize import minimize
    >>> net = dj.Network([1, 8, 1], dtype="float64")
    >>> X = [[0.0], [0.5], [1.0]]
    >>> f = net.objective(X, [0.0, 1.0, 0.0])
    >>> result = minimize(f.fun_and_jac, net.theta, jac=True, method="L-BFGS-B")
    >>> net.theta = result.x
    """

    __slots__ = ("__dict__", "__weakref__", "_architecture", "_data", "_here", "_threads")

    def __init__(self, architecture: Architecture, data: Data, threads: int) -> None:
        self._bind(architecture, data, threads)

    def _bind(self, architecture: Architecture, data: Data, threads: int) -> None:
        self._architecture, self._data, self._threads = architecture, data.ready(), threads
        self._here = threading.local()

    def _describe(self) -> dict[str, object]:
        return {"architecture": self._architecture, "data": self._data, "threads": self._threads}

    @property
    def n_samples(self) -> int:
        """Return the number of samples that the loss is a mean over."""
        return len(self._data.X)

    def fun(self, theta: ArrayLike) -> float:
        """Compute the loss.

        Parameters
        ----------
        theta : array_like, (n_params,)
            Parameters.

        Returns
        -------
        float
            The loss at theta.

        Raises
        ------
        ValueError, TypeError
            theta does not hold n_params real numbers.
        """
        return self.fun_and_jac(theta)[0]

    def jac(self, theta: ArrayLike) -> Array:
        """Compute the gradient of the loss.

        Parameters
        ----------
        theta : array_like, (n_params,)
            Parameters.

        Returns
        -------
        ndarray of float64, (n_params,)
            The gradient at theta.

        Raises
        ------
        ValueError, TypeError
            theta does not hold n_params real numbers.
        """
        return self.fun_and_jac(theta)[1]

    def fun_and_jac(self, theta: ArrayLike) -> tuple[float, Array]:
        """Compute the loss and its gradient, for ``minimize(..., jac=True)``.

        Parameters
        ----------
        theta : array_like, (n_params,)
            Parameters.

        Returns
        -------
        value : float
            The loss at theta.
        grad : ndarray of float64, (n_params,)
            The gradient at theta.

        Raises
        ------
        ValueError, TypeError
            theta does not hold n_params real numbers.
        """
        point = self._at(theta)
        if point.value is None:
            X, Y, weights = self._data
            call = calls_for(X.dtype).value_and_grad
            point.value = call(point.model, X, Y, weights, point.grad, point.work)
        return point.value, point.grad.astype(np.float64)

    def hessp(self, theta: ArrayLike, p: ArrayLike) -> Array:
        """Compute the Hessian of the loss times p.

        Parameters
        ----------
        theta : array_like, (n_params,)
            Parameters.
        p : array_like, (n_params,)
            Finite vector.

        Returns
        -------
        ndarray of float64, (n_params,)
            The product ``H @ p`` at theta.

        Raises
        ------
        ValueError, TypeError
            theta or p does not hold n_params real numbers, or p is not finite.
        """
        return self._linearized(theta).hvp(p).astype(np.float64)

    def gauss_newton_product(self, theta: ArrayLike, p: ArrayLike) -> Array:
        """Compute the Gauss-Newton matrix of the loss times p.

        Parameters
        ----------
        theta : array_like, (n_params,)
            Parameters.
        p : array_like, (n_params,)
            Finite vector.

        Returns
        -------
        ndarray of float64, (n_params,)
            The product ``G @ p`` at theta.

        Raises
        ------
        ValueError, TypeError
            theta or p does not hold n_params real numbers, or p is not finite.
        """
        return self._linearized(theta).gnvp(p).astype(np.float64)

    @np.errstate(all="ignore")
    def gauss_newton(self, theta: ArrayLike, block: int = 2**22) -> Array:
        """Compute the Gauss-Newton matrix ``J.T @ J`` of squared_error, plus that of l2.

        Parameters
        ----------
        theta : array_like, (n_params,)
            Parameters.
        block : int
            Elements of J that are held at once, at most, but at least those of one sample.

        Returns
        -------
        ndarray of float64, (n_params, n_params)
            The matrix at theta.

        Raises
        ------
        ValueError
            The loss is another one.
        """
        self.needs_squared_error()
        point = self._at(theta)
        X, Y, _ = self._data
        n = self._architecture.n_params
        root = self._root_weights()
        G = np.diag(self._architecture.l2 * self._is_weight().astype(np.float64))
        count = max(1, block // (Y.shape[1] * n))
        for first in range(0, len(X), count):
            part = slice(first, first + count)
            out = np.empty((*Y[part].shape, n), Y.dtype)
            calls_for(X.dtype).jacobian(point.model, X[part], out, point.work, BY_THETA)
            J = (root[part, None, None] * out).reshape(-1, n)
            G += J.T @ J
        return G

    @np.errstate(all="ignore")
    def residuals(self, theta: ArrayLike) -> Array:
        """Compute residuals r of which ``sum(r**2) / 2`` is the loss, for ``least_squares``.

        Parameters
        ----------
        theta : array_like, (n_params,)
            Parameters.

        Returns
        -------
        ndarray of float64, (n_residuals,)
            B * n_out residuals at theta, and with l2 one for each weight.

        Raises
        ------
        ValueError
            The loss is no sum of squares: it is not squared_error, or l1 is not 0.
        """
        self._needs_squares()
        point, l2 = self._at(theta), self._architecture.l2
        X, Y, _ = self._data
        out = np.empty_like(Y)
        calls_for(X.dtype).predict(point.model, X, out, point.work)
        parts = [(self._root_weights()[:, None] * (out.astype(np.float64) - Y)).ravel()]
        if l2:
            parts.append(np.sqrt(l2) * point.model.theta[self._is_weight()])
        return np.concatenate(parts)

    @np.errstate(all="ignore")
    def residuals_jac(self, theta: ArrayLike) -> Array:
        """Compute the Jacobian of `residuals`.

        Parameters
        ----------
        theta : array_like, (n_params,)
            Parameters.

        Returns
        -------
        ndarray of float64, (n_residuals, n_params)
            The Jacobian at theta.

        Raises
        ------
        ValueError
            The loss is no sum of squares.
        """
        self._needs_squares()
        point, l2 = self._at(theta), self._architecture.l2
        X, Y, _ = self._data
        n = self._architecture.n_params
        out = np.empty((*Y.shape, n), Y.dtype)
        calls_for(X.dtype).jacobian(point.model, X, out, point.work, BY_THETA)
        parts = [(self._root_weights()[:, None, None] * out).reshape(-1, n)]
        if l2:
            parts.append(np.sqrt(l2) * np.eye(n)[self._is_weight()])
        return np.concatenate(parts)

    def needs_squared_error(self) -> None:
        """Check that the loss is squared_error, which residuals are of.

        Raises
        ------
        ValueError
            The loss is another one.
        """
        needs_squared_error(self._architecture)

    def _needs_squares(self) -> None:
        """Check that the loss is a sum of squares, which no l1 penalty is."""
        self.needs_squared_error()
        if self._architecture.l1:
            raise ValueError(f"residuals need l1=0, got l1={self._architecture.l1}")

    def _linearized(self, theta: ArrayLike) -> Linearization:
        """Return the linearization at theta, kept for the next product."""
        point = self._at(theta)
        if point.linearized is None:
            point.linearized = Linearization.at(
                self._architecture, point.model.theta, self._data, self._threads
            )
        return point.linearized

    def _at(self, theta: ArrayLike) -> _Point:
        """Return this thread's point, moved to theta."""
        point: _Point | None = getattr(self._here, "point", None)
        if point is None:
            point = self._here.point = _Point(self._architecture, self.n_samples, self._threads)
        point.go_to(theta)
        return point

    def _root_weights(self) -> Array:
        """Return the square roots of the normalized sample weights, (B,)."""
        X, _, weights = self._data
        w = np.ones(len(X)) if weights is None else weights.astype(np.float64)
        return np.asarray(np.sqrt(w / w.sum()))

    def _is_weight(self) -> NDArray[np.bool_]:
        """Return a mask of the elements of theta that are weights, not biases."""
        mask = np.zeros(self._architecture.n_params, bool)
        for layer in self._architecture.layers:
            mask[layer["W_at"] : layer["b_at"]] = True
        return mask
