"""Optimizers that look at all samples in every step, and how they go through the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltajit.derivatives.objective import Objective
from deltajit.model import checks
from deltajit.model.memory import Array
from deltajit.training.history import History
from deltajit.training.loop import DivergedError, Loop

Report = Callable[[Array, float], None]

DENSE = 2_000  # parameters up to which Levenberg-Marquardt solves dense normal equations
BLOCK = 2**22  # floats of Jacobian that are held at once


class FullBatch:
    """Base class of an optimizer that takes every step on all samples."""

    def minimize(self, objective: Objective, theta: Array, epochs: int, report: Report) -> None:
        """Start from `theta`; call ``report(theta, loss before)`` after each of `epochs` steps.

        It may take fewer steps. What `report` raises is not to be caught.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class LBFGS(FullBatch):
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
        """Take the steps of scipy's L-BFGS-B."""
        try:
            from scipy.optimize import minimize
        except ImportError:
            raise ImportError("dj.LBFGS needs scipy: pip install 'deltajit[scipy]'") from None
        if epochs == 0:  # scipy takes at least one step
            return
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
class LevenbergMarquardt(FullBatch):
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
        """Take steps until the gradient vanishes, or none lowers the loss."""
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


def train(loop: Loop, objective: Objective, optimizer: FullBatch) -> History:
    """Let an optimizer take the steps of a fit; each is an epoch of the loop."""
    state, theta = loop.state, loop.state.theta

    def check(*numbers: Any) -> None:
        if not all(np.isfinite(x).all() for x in numbers):
            raise DivergedError(state.epoch + 1, 1, state.history)

    def check_next(at: Array) -> None:
        """Raise DivergedError where no further step can be taken from."""
        if state.epoch < state.epochs:
            check(*objective.fun_and_jac(at), at)  # as the optimizer will, or has

    def report(moved: Array, loss: float) -> None:
        check(loss, moved)
        with np.errstate(all="ignore"):  # moved is float64
            theta[:] = moved
        try:
            loop.end_epoch(loss)
        except StopIteration as error:  # of a user's own code: scipy would take it for the end
            raise _ReportError from error
        if state.stopped:
            raise _ReportError
        check_next(moved)

    def steps() -> None:
        check_next(theta)
        try:
            epochs = 0 if state.is_over else state.epochs
            optimizer.minimize(objective, theta.copy(), epochs, report)
        except _ReportError as end:
            if end.__cause__ is not None:
                raise end.__cause__ from None

    return loop.drive(steps)


class _ReportError(Exception):
    """A callback has called `stop`, or has raised what is the cause of this."""


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
