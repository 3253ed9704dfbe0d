"""Optimizers of fit that look at all samples in every step: L-BFGS and Levenberg-Marquardt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltajit.derivatives.objective import Objective
from deltajit.model import checks

Array = NDArray[Any]
Report = Callable[[Array, float], None]

DENSE = 2_000  # parameters up to which Levenberg-Marquardt solves dense normal equations
BLOCK = 2**22  # floats of Jacobian that are held at once


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS, by scipy (an extra): ``pip install 'deltajit[scipy]'``.

    For `fit` an epoch is one iteration; `batch_size` and `shuffle` mean nothing to it.

    Parameters
    ----------
    history : int
        Steps that the approximate Hessian is made of.
    tol : float
        Stops when the gradient's largest element is below.
    """

    history: int = 10
    tol: float = 1e-8

    def __post_init__(self) -> None:
        checks.whole(self.history, "history")
        checks.real(self.tol, "tol", least=0)

    def minimize(self, objective: Objective, theta: Array, epochs: int, report: Report) -> None:
        """From `theta`; ``report(theta, loss before)`` after each of at most `epochs` steps."""
        try:
            from scipy.optimize import minimize
        except ImportError:
            raise ImportError("dj.LBFGS needs scipy: pip install 'deltajit[scipy]'") from None

        before = objective.fun(theta)

        def after_iteration(intermediate_result: Any) -> None:
            nonlocal before
            report(intermediate_result.x, before)
            before = float(intermediate_result.fun)

        options = {"maxiter": epochs, "maxcor": self.history, "gtol": self.tol, "ftol": 0.0}
        minimize(
            objective.fun_and_jac,
            theta.astype(np.float64),
            jac=True,
            method="L-BFGS-B",
            callback=after_iteration,
            options={**options, "maxfun": 20 * epochs + 20},
        )


@dataclass(frozen=True)
class LevenbergMarquardt:
    """Steps ``-(G + damping I)^-1 grad``, G the Gauss-Newton matrix; for squared_error.

    Levenberg (1944), Marquardt (1963). The damping shrinks tenfold after a step that lowers the
    loss, and grows tenfold until one does, also where there is no solution. Up to 2,000 parameters
    G is a matrix, and solved with; beyond, conjugate gradients use its products alone. For `fit` an
    epoch is one step; `batch_size` and `shuffle` mean nothing to it.

    Parameters
    ----------
    damping : float, > 0
        At the start.
    tol : float
        Stops when the gradient's largest element is no larger.
    """

    damping: float = 1e-3
    tol: float = 1e-8

    def __post_init__(self) -> None:
        checks.above_zero(self.damping, "damping")
        checks.real(self.tol, "tol", least=0)

    def minimize(self, objective: Objective, theta: Array, epochs: int, report: Report) -> None:
        """From `theta`; ``report(theta, loss before)`` after each of at most `epochs` steps."""
        objective.needs_squared_error()
        theta, damping = theta.astype(np.float64), self.damping
        loss, grad = objective.fun_and_jac(theta)
        for _ in range(epochs):
            steepest = abs(grad).max()
            if steepest <= self.tol:
                return
            solve = _dense_solver if theta.size <= DENSE else _product_solver
            with np.errstate(all="ignore"):  # what overflows is no step, as the loss there tells
                step_of = solve(objective, theta, grad)
            while True:
                with np.errstate(all="ignore"):  # the loss says whether it is a step
                    tried = theta + step_of(damping)
                tried_loss = objective.fun(tried)
                if tried_loss < loss:
                    break
                damping *= 10
                if not damping < 1e12 * max(1.0, steepest):  # no step lowers the loss any more
                    return
            damping = max(damping / 10, 1e-12)
            theta, before = tried, loss
            loss, grad = objective.fun_and_jac(theta)
            report(theta, before)


def _dense_solver(objective: Objective, theta: Array, grad: Array) -> Callable[[float], Array]:
    G = objective.gauss_newton(theta, BLOCK)

    def step(damping: float) -> Array:
        """Gaussian elimination; NaN where the matrix is singular as far as floats can tell."""
        try:
            return np.asarray(np.linalg.solve(G + damping * np.eye(len(G)), -grad))
        except np.linalg.LinAlgError:
            return np.full_like(grad, np.nan)

    return step


def _product_solver(objective: Objective, theta: Array, grad: Array) -> Callable[[float], Array]:
    def step(damping: float) -> Array:
        """Conjugate gradients (Hestenes & Stiefel 1952) for ``(G + damping I) p = -grad``."""
        p, residual = np.zeros_like(grad), -grad
        direction, size = residual.copy(), residual @ residual
        for _ in range(200):
            product = objective.gauss_newton_product(theta, direction) + damping * direction
            length = size / (direction @ product)
            p += length * direction
            residual -= length * product
            size, old = residual @ residual, size
            if size <= 1e-16 * (grad @ grad):
                break
            direction = residual + size / old * direction
        return p

    return step
