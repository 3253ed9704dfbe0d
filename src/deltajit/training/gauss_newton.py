"""Define `GaussNewtonCG`: steps by conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deltajit.model import checks
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array
from deltajit.training.second_order import Batch, SecondOrder

DECAY = 0.95  # of the step before, where conjugate gradients begin (Martens & Sutskever 2012)


@dataclass(frozen=True)
class GaussNewtonCG(SecondOrder):  # numpydoc ignore=PR02
    """Move theta by ``-lr * (G + damping I)^-1 grad``, of a minibatch, by conjugate gradients [1]_.

    G is the Gauss-Newton matrix, of which only products with vectors are needed, each the work of a
    gradient. Conjugate gradients begin at the step before, and end when an iteration hardly lowers
    the quadratic model of the loss any more. A step that doesn't lower the minibatch's loss isn't
    taken. The damping shrinks by a third where the model predicts the change of the loss well, and
    grows by half where it doesn't. Minibatches should be large, of 500 samples or all: each step
    goes to the minimum of its own minibatch. `clip_norm` and `dropout` are refused.

    Parameters
    ----------
    lr : float, > 0
        Share of a step that is taken.
    damping : float, > 0
        Damping of the first step.
    iterations : int
        Iterations of conjugate gradients in a step at most.
    tol : float
        Share by which an iteration must lower the model, on average over ten or a tenth of them.

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.

    References
    ----------
    .. [1] Martens (2010), Deep learning via Hessian-free optimization, ICML 27.

    Examples
    --------
    >>> import deltajit as dj
    >>> net = dj.Network([1, 1], init="zeros", dtype="float64")
    >>> X, Y = [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]
    >>> history = net.fit(X, Y, 40, optimizer=dj.GaussNewtonCG(), progress=False)
    >>> net.theta.round(3)  # y = 2 x + 1
    array([2., 1.])
    """

    iterations: int = 100
    tol: float = 5e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole(self.iterations, "iterations")
        checks.real(self.tol, "tol", least=0)

    def remembered(self, architecture: Architecture) -> int:
        """Return 0: the step before is all that it needs."""
        return 0

    def step(
        self, batch: Batch, damping: float, previous: Array, kept: Array, number: int
    ) -> tuple[Array, Array]:
        """Minimize q by conjugate gradients: see `SecondOrder.step`."""

        def product(v: Array) -> Array:
            return batch.product(v, damping)

        return conjugate_gradients(
            product, -batch.grad, DECAY * previous, self.iterations, self.tol
        )


def conjugate_gradients(
    product: Callable[[Array], Array], b: Array, x: Array, most: int, tol: float
) -> tuple[Array, Array]:
    """Minimize ``q(x) = x @ B @ x / 2 - b @ x``, from x; return x and ``B @ x``.

    The first step is along b, as from 0, where x is 0. It ends after `most` iterations, where B has
    no positive curvature, or when the last k of them, 10 or a tenth of all, have lowered q by less
    than the share ``k * tol``.
    """
    residual = b - product(x) if x.any() else b.copy()
    direction, size = residual.copy(), residual @ residual
    values = [-x @ (b + residual) / 2]
    for i in range(1, most + 1):
        across = product(direction)
        length = size / (direction @ across)
        if not 0 < length < np.inf:
            break
        x = x + length * direction
        residual -= length * across
        values.append(-x @ (b + residual) / 2)
        k = max(10, i // 10)
        if i > k and values[i] < 0 and values[i - k] - values[i] < -k * tol * values[i]:
            break
        size, old = residual @ residual, size
        direction = residual + size / old * direction
    return x, b - residual
