"""Minimize the loss of all samples at once, each step an epoch of the training loop."""

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
BLOCK = 2**22  # elements of the Jacobian that are held at once


class FullBatch:
    """Take every step on all samples: the base class of such optimizers."""

    def minimize(self, objective: Objective, theta: Array, epochs: int, report: Report) -> None:
        """Take at most `epochs` steps from theta, and report each.

        Parameters
        ----------
        objective : Objective
            Loss and derivatives as functions of theta.
        theta : ndarray, (n_params,)
            Start.
        epochs : int
            Steps at most.
        report : function
            Function ``report(theta, loss)`` to call after each step, with the new theta and the
            loss before the step. What it raises must not be caught.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class LBFGS(FullBatch):  # numpydoc ignore=PR02
    """Minimize by limited-memory BFGS [1]_, of scipy (``pip install 'deltajit[scipy]'``).

    An epoch of `fit` is one iteration; `batch_size` and `shuffle` are ignored.

    Parameters
    ----------
    history : int
        Number of past steps from which the Hessian is approximated.
    tol : float
        Largest element of the gradient at which the fit ends.

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.

    References
    ----------
    .. [1] Liu & Nocedal (1989), On the limited memory BFGS method for large scale optimization,
       Mathematical Programming 45.
    """

    history: int = 10
    tol: float = 1e-8

    def __post_init__(self) -> None:
        checks.whole(self.history, "history")
        checks.real(self.tol, "tol", least=0)

    def minimize(self, objective: Objective, theta: Array, epochs: int, report: Report) -> None:
        """Take the steps of scipy's L-BFGS-B.

        Parameters
        ----------
        objective : Objective
            Loss and gradient as functions of theta.
        theta : ndarray, (n_params,)
            Start.
        epochs : int
            Steps at most.
        report : function
            Function ``report(theta, loss)`` to call after each step.

        Raises
        ------
        ImportError
            Scipy is not installed.
        """
        checks.has(objective, "objective", "what net.objective returns", ["fun_and_jac"])
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
class LevenbergMarquardt(FullBatch):  # numpydoc ignore=PR02
    """Minimize squared_error by steps ``-(G + damping I)^-1 grad``, G the Gauss-Newton matrix.

    The damping grows tenfold until a step lowers the loss, and shrinks tenfold after it [1]_ [2]_.
    Up to 2,000 parameters the equations are solved with the matrix; beyond, conjugate gradients
    need only products with it. An epoch of `fit` is one step; `batch_size` and `shuffle` are
    ignored.

    Parameters
    ----------
    damping : float, > 0
        Damping of the first step.
    tol : float
        Largest element of the gradient at which the fit ends.

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.

    References
    ----------
    .. [1] Levenberg (1944), A method for the solution of certain non-linear problems in least
       squares, Quarterly of Applied Mathematics 2.
    .. [2] Marquardt (1963), An algorithm for least-squares estimation of nonlinear parameters,
       Journal of the SIAM 11.

    Examples
    --------
    >>> import deltajit as dj
    >>> net = dj.Network([1, 1], init="zeros", dtype="float64")
    >>> X, Y = [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]
    >>> history = net.fit(X, Y, 20, optimizer=dj.LevenbergMarquardt(), progress=False)
    >>> net.theta.round(3)  # y = 2 x + 1
    array([2., 1.])
    """

    damping: float = 1e-3
    tol: float = 1e-8

    def __post_init__(self) -> None:
        checks.above_zero(self.damping, "damping")
        checks.real(self.tol, "tol", least=0)

    def minimize(self, objective: Objective, theta: Array, epochs: int, report: Report) -> None:
        """Take steps until the gradient vanishes, or none lowers the loss.

        Parameters
        ----------
        objective : Objective
            Loss and derivatives as functions of theta.
        theta : ndarray, (n_params,)
            Start.
        epochs : int
            Steps at most.
        report : function
            Function ``report(theta, loss)`` to call after each step.

        Raises
        ------
        ValueError
            The loss is not squared_error.
        """
        checks.has(objective, "objective", "what net.objective returns", ["fun_and_jac"])
        objective.needs_squared_error()
        theta, damping = theta.astype(np.float64), self.damping
        loss, grad = objective.fun_and_jac(theta)
        for _ in range(epochs):
            steepest = abs(grad).max()
            if steepest <= self.tol:
                return
            solve = _dense_solver if theta.size <= DENSE else _product_solver
            with np.errstate(all="ignore"):  # an overflow shows in the loss after the step
                step_of = solve(objective, theta, grad)
            while True:
                with np.errstate(all="ignore"):
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
    """Let an optimizer take the steps of a fit, each an epoch of the loop.

    Raise DivergedError if the loss, the gradient or theta is not finite.
    """
    state, theta = loop.state, loop.state.theta

    def check(*numbers: float | Array) -> None:
        if not all(np.isfinite(x).all() for x in numbers):
            raise DivergedError(state.epoch + 1, 1, state.history)

    def check_next(at: Array) -> None:
        """Raise DivergedError if the optimizer can't take another step from here."""
        if state.epoch < state.epochs:
            check(*objective.fun_and_jac(at), at)  # which the optimizer needs as well

    def report(moved: Array, loss: float) -> None:
        check(loss, moved)
        with np.errstate(all="ignore"):  # moved is float64
            theta[:] = moved
        try:
            loop.end_epoch(loss)
        except StopIteration as error:  # from a user's callback: scipy would take it for the end
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
    """Leave an optimizer: a callback has called `stop`, or has raised the cause of this error."""


def _dense_solver(objective: Objective, theta: Array, grad: Array) -> Callable[[float], Array]:
    G = objective.gauss_newton(theta, BLOCK)

    def step(damping: float) -> Array:
        """Solve by Gaussian elimination; the step is NaN if the matrix is singular."""
        try:
            return np.asarray(np.linalg.solve(G + damping * np.eye(len(G)), -grad))
        except np.linalg.LinAlgError:
            return np.full_like(grad, np.nan)

    return step


def _product_solver(objective: Objective, theta: Array, grad: Array) -> Callable[[float], Array]:
    def step(damping: float) -> Array:
        """Solve ``(G + damping I) p = -grad`` by conjugate gradients (Hestenes & Stiefel 1952)."""
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
