"""The loss as a function of theta alone, the way scipy.optimize wants it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltajit import checks, kernels, memory
from deltajit.data import Data
from deltajit.linearization import Linearization

Array = NDArray[Any]


class Objective:
    """What `Network.objective` returns: functions of theta (n_params,), in float64.

    The network's own theta neither moves nor matters. Functions called at one theta after another
    share what they can: ``jac`` after ``fun`` is free, and ``hessp`` keeps the sweeps of its point.

    Examples
    --------
    >>> import deltajit as dj
    >>> from scipy.optimize import minimize
    >>> net = dj.Network([1, 8, 1], dtype="float64")
    >>> X = [[0.0], [0.5], [1.0]]
    >>> f = net.objective(X, [0.0, 1.0, 0.0])
    >>> found = minimize(f.fun_and_jac, net.theta, jac=True, method="L-BFGS-B")
    >>> net.theta = found.x
    """

    def __init__(self, model: kernels.Model, data: Data, loss: str, l2: float) -> None:
        theta = memory.empty(model.theta.size, model.theta.dtype)
        theta[:] = np.nan
        self._model = model._replace(theta=theta)
        self._data, self._loss, self._l2 = data, loss, l2
        size = kernels.workspace_size(model.layers, len(data.X), 2)
        self._work = memory.empty(size, theta.dtype)
        self._value: float | None = None
        self._grad = np.empty_like(theta)
        self._linearized: Linearization | None = None

    @property
    def n_samples(self) -> int:
        """How many samples the loss is a mean over."""
        return len(self._data.X)

    def fun(self, theta: ArrayLike) -> float:
        """The loss at theta."""
        return self.fun_and_jac(theta)[0]

    def jac(self, theta: ArrayLike) -> Array:
        """Its gradient, (n_params,)."""
        return self.fun_and_jac(theta)[1]

    def fun_and_jac(self, theta: ArrayLike) -> tuple[float, Array]:
        """Both; for ``minimize(..., jac=True)``."""
        self._go_to(theta)
        if self._value is None:
            X, Y, weights = self._data
            self._value = float(
                kernels.value_and_grad(self._model, X, Y, self._grad, self._work, weights)
            )
        return self._value, self._grad.astype(np.float64)

    def hessp(self, theta: ArrayLike, p: ArrayLike) -> Array:
        """The Hessian at theta times p, (n_params,)."""
        return self._at(theta).hvp(p).astype(np.float64)

    def gauss_newton_product(self, theta: ArrayLike, p: ArrayLike) -> Array:
        """The Gauss-Newton matrix at theta times p, (n_params,)."""
        return self._at(theta).gnvp(p).astype(np.float64)

    @np.errstate(all="ignore")
    def gauss_newton(self, theta: ArrayLike, block: int) -> Array:
        """The Gauss-Newton matrix (n_params, n_params) of squared_error, ``J.T @ J``.

        At most `block` elements of J, or one sample's, are held at once.
        """
        self.needs_squared_error()
        self._go_to(theta)
        X, Y, _ = self._data
        n = self._model.theta.size
        root = self._root_weights()
        G = np.diag(self._l2 * self._is_weight().astype(np.float64))
        count = max(1, block // (Y.shape[1] * n))
        for first in range(0, len(X), count):
            part = slice(first, first + count)
            out = np.empty((*Y[part].shape, n), Y.dtype)
            kernels.parameter_jacobian(self._model, X[part], out, self._work)
            J = (root[part, None, None] * out).reshape(-1, n)
            G += J.T @ J
        return G

    @np.errstate(all="ignore")
    def residuals(self, theta: ArrayLike) -> Array:
        """``r`` with ``sum(r**2) / 2`` the loss, for squared_error: for ``least_squares``."""
        self.needs_squared_error()
        self._go_to(theta)
        X, Y, _ = self._data
        out = np.empty_like(Y)
        kernels.predict(self._model, X, out, self._work)
        parts = [(self._root_weights()[:, None] * (out.astype(np.float64) - Y)).ravel()]
        if self._l2:
            parts.append(np.sqrt(self._l2) * self._model.theta[self._is_weight()])
        return np.concatenate(parts)

    @np.errstate(all="ignore")
    def residuals_jac(self, theta: ArrayLike) -> Array:
        """Their Jacobian, (residuals, n_params)."""
        self.needs_squared_error()
        self._go_to(theta)
        X, Y, _ = self._data
        n = self._model.theta.size
        out = np.empty((*Y.shape, n), Y.dtype)
        kernels.parameter_jacobian(self._model, X, out, self._work)
        parts = [(self._root_weights()[:, None, None] * out).reshape(-1, n)]
        if self._l2:
            parts.append(np.sqrt(self._l2) * np.eye(n)[self._is_weight()])
        return np.concatenate(parts)

    def needs_squared_error(self) -> None:
        """Residuals, and Levenberg-Marquardt, exist for it alone."""
        if self._loss != "squared_error":
            raise ValueError(f"residuals need loss='squared_error', got loss={self._loss!r}")

    def _at(self, theta: ArrayLike) -> Linearization:
        """The linearization at theta, kept for the next product."""
        self._go_to(theta)
        if self._linearized is None:
            self._linearized = Linearization(self._model, self._data)
        return self._linearized

    def _go_to(self, theta: ArrayLike) -> None:
        """Go to theta; what was computed elsewhere is forgotten."""
        own = self._model.theta
        wanted = checks.shaped(theta, "theta", own.shape, own.dtype)
        if not np.array_equal(own, wanted):
            own[:] = wanted
            self._linearized = self._value = None

    def _root_weights(self) -> Array:
        """Square roots of the normalized sample weights, (B,)."""
        X, _, weights = self._data
        w = np.ones(len(X)) if weights is None else weights.astype(np.float64)
        return np.asarray(np.sqrt(w / w.sum()))

    def _is_weight(self) -> NDArray[np.bool_]:
        """Which elements of theta are weights, not biases."""
        mask = np.zeros(self._model.theta.size, bool)
        for _, n_in, n_out, _, w_at, *_ in self._model.layers.tolist():
            mask[w_at : w_at + n_in * n_out] = True
        return mask
