"""Optimizers: frozen descriptions of how fit moves theta along a gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from deltajit import checks
from deltajit.kernels import Rule
from deltajit.kernels.compiler import Kernel
from deltajit.kernels.mlp import optimizers as updates


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
        hyper = (self.momentum, float(self.nesterov))
        return _rule(
            updates.momentum if self.momentum else None,
            self.lr,
            hyper,
            1 if self.momentum else 0,
            n_params,
            dtype,
        )


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
        checks.fractions(self.betas, "betas")
        checks.above_zero(self.eps, "eps")

    def rule(self, n_params: int, dtype: np.dtype[Any]) -> Rule:
        """Fresh state for the kernels, for one fit."""
        return _rule(updates.adam, self.lr, (*self.betas, self.eps, 0.0), 2, n_params, dtype)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019).

    Parameters
    ----------
    lr, betas, eps
        As for `Adam`.
    weight_decay : float, >= 0
        Each update shrinks theta, biases too, by ``1 - lr * weight_decay``.
    """

    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.real(self.weight_decay, "weight_decay", least=0)

    def rule(self, n_params: int, dtype: np.dtype[Any]) -> Rule:
        """Fresh state for the kernels, for one fit."""
        hyper = (*self.betas, self.eps, self.weight_decay)
        return _rule(updates.adam, self.lr, hyper, 2, n_params, dtype)


@dataclass(frozen=True)
class RMSProp:
    """Steps divided by the root of a running mean of squares (Tieleman & Hinton 2012).

    Parameters
    ----------
    lr : float, > 0
        Learning rate.
    alpha : float, 0 <= alpha < 1
        Decay of the running mean.
    eps : float, > 0
        Added to its root.
    momentum : float, 0 <= momentum < 1
        Of the steps, once they are divided.
    """

    lr: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0

    def __post_init__(self) -> None:
        checks.above_zero(self.lr, "lr")
        checks.fraction(self.alpha, "alpha")
        checks.above_zero(self.eps, "eps")
        checks.fraction(self.momentum, "momentum")

    def rule(self, n_params: int, dtype: np.dtype[Any]) -> Rule:
        """Fresh state for the kernels, for one fit."""
        hyper = (self.alpha, self.eps, self.momentum)
        return _rule(updates.rmsprop, self.lr, hyper, 2 if self.momentum else 1, n_params, dtype)


@dataclass(frozen=True)
class Adagrad:
    """Steps divided by the root of the sum of all squares so far (Duchi et al. 2011).

    Parameters
    ----------
    lr : float, > 0
        Learning rate.
    eps : float, > 0
        Added to the root.
    """

    lr: float = 0.01
    eps: float = 1e-10

    def __post_init__(self) -> None:
        checks.above_zero(self.lr, "lr")
        checks.above_zero(self.eps, "eps")

    def rule(self, n_params: int, dtype: np.dtype[Any]) -> Rule:
        """Fresh state for the kernels, for one fit."""
        return _rule(updates.adagrad, self.lr, (self.eps,), 1, n_params, dtype)


@dataclass(frozen=True)
class Rprop:
    """A step size for each parameter, from the signs of gradients (Riedmiller & Braun 1993).

    Signs mean something only if all samples are in each gradient, so `fit` takes them all, whatever
    batch_size is. The variant is iRprop- (Igel & Huesken 2000), as in PyTorch.

    Parameters
    ----------
    lr : float, > 0
        Size of the first step.
    etas : pair of float, 0 < etas[0] < 1 < etas[1]
        Factors of a step whose sign has changed, and of one whose sign has not.
    step_sizes : pair of float, 0 < step_sizes[0] < step_sizes[1]
        Least and largest step.
    """

    lr: float = 0.01
    etas: tuple[float, float] = (0.5, 1.2)
    step_sizes: tuple[float, float] = (1e-6, 50.0)

    full_batch = True

    def __post_init__(self) -> None:
        checks.above_zero(self.lr, "lr")
        checks.pair(self.etas, "etas")
        if not 0 < self.etas[0] < 1 < self.etas[1]:
            raise ValueError(f"etas must be 0 < etas[0] < 1 < etas[1], got {self.etas!r}")
        checks.pair(self.step_sizes, "step_sizes")
        if not 0 < self.step_sizes[0] < self.step_sizes[1]:
            raise ValueError(
                f"step_sizes must be 0 < step_sizes[0] < step_sizes[1], got {self.step_sizes!r}"
            )

    def rule(self, n_params: int, dtype: np.dtype[Any]) -> Rule:
        """Fresh state for the kernels, for one fit."""
        return _rule(updates.rprop, self.lr, (*self.etas, *self.step_sizes), 2, n_params, dtype)


@dataclass(frozen=True)
class Lion:
    """Steps of one size along the sign of a mean of gradients (Chen et al. 2023).

    Parameters
    ----------
    lr : float, > 0
        Learning rate; a third to a tenth of what Adam would have.
    betas : pair of float, each in [0, 1)
        Share of the running mean in the direction of the step, and decay of that mean.
    weight_decay : float, >= 0
        As for `AdamW`.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        checks.above_zero(self.lr, "lr")
        checks.fractions(self.betas, "betas")
        checks.real(self.weight_decay, "weight_decay", least=0)

    def rule(self, n_params: int, dtype: np.dtype[Any]) -> Rule:
        """Fresh state for the kernels, for one fit."""
        return _rule(updates.lion, self.lr, (*self.betas, self.weight_decay), 1, n_params, dtype)


def _rule(
    update: Kernel | None,
    lr: float,
    hyper: tuple[float, ...],
    slots: int,
    n_params: int,
    dtype: np.dtype[Any],
) -> Rule:
    return Rule(
        kernel=0 if update is None else update.slot(dtype),
        slots=slots,
        hyper=np.array(hyper, np.float64),
        rates=np.array([lr], np.float64),
        clip=0.0,
        state=np.zeros((slots, n_params), dtype),
        count=np.zeros(1, np.int64),
    )
