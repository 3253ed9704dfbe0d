"""Optimizers: frozen descriptions of how fit moves theta along a gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from deltajit import checks
from deltajit.kernels import Rule
from deltajit.kernels.training import ADAM
from deltajit.kernels.training import SGD as SGD_CODE


class Optimizer(Protocol):
    """What fit needs of an optimizer."""

    def rule(self, n_params: int, dtype: np.dtype[Any]) -> Rule:
        """Fresh state for the kernels, for one fit."""


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: ``v = momentum * v + g; theta -= lr * v``.

    Parameters
    ----------
    lr : float, > 0
        Learning rate.
    momentum : float, 0 <= momentum < 1
    nesterov : bool
        Step along ``g + momentum * v`` instead (Sutskever et al. 2013).
    """

    lr: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        checks.above_zero(self.lr, "lr")
        checks.fraction(self.momentum, "momentum")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs momentum > 0, got momentum=0")

    def rule(self, n_params: int, dtype: np.dtype[Any]) -> Rule:
        """Fresh state for the kernels, for one fit."""
        hyper = (self.lr, self.momentum, float(self.nesterov))
        return _rule(SGD_CODE, hyper, 1 if self.momentum else 0, n_params, dtype)


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction (Kingma & Ba 2015).

    Parameters
    ----------
    lr : float, > 0
        Learning rate.
    betas : pair of float, each in [0, 1)
        Decay of the running means of the gradient and of its square.
    eps : float, > 0
        Added to the root of the second moment.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        checks.above_zero(self.lr, "lr")
        if not isinstance(self.betas, (tuple, list)) or len(self.betas) != 2:
            raise ValueError(f"betas must be two numbers, got {self.betas!r}")
        for i, beta in enumerate(self.betas):
            checks.fraction(beta, f"betas[{i}]")
        checks.above_zero(self.eps, "eps")

    def rule(self, n_params: int, dtype: np.dtype[Any]) -> Rule:
        """Fresh state for the kernels, for one fit."""
        return _rule(ADAM, (self.lr, *self.betas, self.eps), 2, n_params, dtype)


def _rule(
    code: int, hyper: tuple[float, ...], slots: int, n_params: int, dtype: np.dtype[Any]
) -> Rule:
    return Rule(
        code=code,
        hyper=np.array(hyper, np.float64),
        state=np.zeros((slots, n_params), dtype),
        count=np.zeros(1, np.int64),
    )
