"""Optimizers: a record each, with its numbers, how many vectors it remembers, and its update.

A record is a frozen dataclass. Its fields are the learning rate and the numbers of its update, a
kernel with a loop over theta, which finds them in ``rule.hyper`` in their order, those of pairs one
by one. In an update g is the gradient's element, lr the rate of this step, and ``rule.count``
counts steps from 1. To add one, write its record here, its name into `__all__`, and the record of
the same name in `deltajit.reference`; one of a user's own is a subclass of `Optimizer` likewise.
"""

import math
from dataclasses import astuple, dataclass
from typing import ClassVar, TypeVar, dataclass_transform

import numpy as np
import numpy.typing as npt

from ..abi import Double, Vector
from ..compiler import Kernel, kernel
from ..hints import hinted
from ..ranges import above_zero, floating, fraction, fractions, increasing, real, whole
from ..simd.views import row, unpack
from .rules import Rule

T = TypeVar("T")

#: Classes of optimizers by name: all that `fit` takes and whose updates are kernels.
OPTIMIZERS: dict[str, "type[Optimizer]"] = {}


@dataclass_transform(frozen_default=True)
def optimizer(record: type[T]) -> type[T]:
    """Make a class a record, and register it."""
    OPTIMIZERS[record.__name__] = record = dataclass(frozen=True)(record)
    record.__init__ = hinted(record.__init__)  # type: ignore[method-assign]
    return record


@dataclass(frozen=True)
class Optimizer:
    """Move theta along a gradient: the base class of optimizers, which `fit` takes.

    A subclass is a frozen dataclass with the attributes below, and checks its numbers.

    Attributes
    ----------
    lr : float, > 0
        Learning rate.
    slots : int
        How many vectors like theta it remembers; they are 0 at the start.
    update : Kernel
        ``update(rule: Rule, lr: Double, theta: Vector, grad: Vector)``.
    is_descent : bool
        Whether a step is ``theta -= lr * g``, and `update` not asked.
    full_batch : bool
        Whether `fit` is to give it all samples at once, whatever batch_size is.

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.
    """

    lr: float
    slots: ClassVar[int]
    update: ClassVar[Kernel[[Rule, Double, Vector, Vector], None]]
    is_descent: ClassVar[bool] = False
    full_batch: ClassVar[bool] = False

    def __post_init__(self):
        above_zero(self.lr, "lr")

    def hyper(self) -> list[float]:
        """Return what `update` finds in ``rule.hyper``: all fields but lr."""
        _, *others = astuple(self)
        return [x for value in others for x in (value if isinstance(value, tuple) else (value,))]

    def rule(self, n_params: int, dtype: npt.DTypeLike) -> Rule:
        """Make fresh state for the kernels, for one fit.

        Parameters
        ----------
        n_params : int
            Number of theta's elements.
        dtype : "float32" or "float64"
            Type of theta.

        Returns
        -------
        kernels.Rule
            The optimizer's numbers, and vectors of zeros.

        Raises
        ------
        ValueError, TypeError
            n_params is not a whole number >= 1, or dtype is another one.
        """
        count, kind = whole(n_params, "n_params"), floating(dtype, "dtype")
        return Rule(
            kernel=0 if self.is_descent else self.update.slot(kind),
            slots=self.slots,
            hyper=np.array(self.hyper(), np.float64),
            rates=np.array([self.lr], np.float64),
            clip=0.0,
            state=np.zeros((self.slots, count), kind),
            count=np.zeros(1, np.int64),
        )


@optimizer
class SGD(Optimizer):
    """Move theta by stochastic gradient descent, ``v = momentum * v + g; theta -= lr * v``.

    Parameters
    ----------
    lr : float, > 0
        Learning rate.
    momentum : float, 0 <= momentum < 1
        Share of v that a step keeps.
    nesterov : bool
        Whether to step along ``g + momentum * v`` instead (Sutskever et al. 2013, in the form in
        which lr scales the whole step).

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.
    """

    lr: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self):
        super().__post_init__()
        fraction(self.momentum, "momentum")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs momentum > 0, got momentum=0")

    @property
    def is_descent(self):
        """Return whether there is no momentum."""
        return self.momentum == 0

    @property
    def slots(self):
        """Return 1, for v, if there is momentum, else 0."""
        return int(self.momentum != 0)

    @kernel(name="momentum")
    def update(rule: Rule, lr: Double, theta: Vector, grad: Vector):
        """Compute ``v = mu * v + g; theta -= lr * v``, and Nesterov's ``lr * (g + mu * v)``."""
        number, (v,) = theta.dtype.type, unpack(rule.state, 1)
        momentum, nesterov = unpack(rule.hyper, 2)
        rate, mu = number(lr), number(momentum)
        ahead, now = number(1.0), number(0.0)
        if nesterov != 0.0:
            ahead, now = mu, number(1.0)
        for i in range(theta.size):
            v[i] = mu * v[i] + grad[i]
            theta[i] -= rate * (now * grad[i] + ahead * v[i])


@optimizer
class Adam(Optimizer):
    """Move theta by Adam with bias correction (Kingma & Ba 2015, algorithm 1).

    Parameters
    ----------
    lr : float, > 0
        Learning rate.
    betas : pair of float, each in [0, 1)
        Decay of the running means of the gradient and of its square.
    eps : float, > 0
        Added to the root of the second moment.

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    slots = 2

    def __post_init__(self):
        super().__post_init__()
        fractions(self.betas, "betas")
        above_zero(self.eps, "eps")

    def hyper(self):
        """Return the numbers of Adam, and no decay."""
        return [*self.betas, self.eps, 0.0]

    @kernel(name="adam")
    def update(rule: Rule, lr: Double, theta: Vector, grad: Vector):
        """Compute a step of Adam; AdamW shrinks theta by ``1 - lr * decay`` first."""
        number, (m, v) = theta.dtype.type, unpack(rule.state, 2)
        beta1, beta2, eps, decay = unpack(rule.hyper, 4)
        keep, small = number(1.0 - lr * decay), number(eps)
        rate = number(lr / (1.0 - beta1 ** rule.count[0]))
        unbias = number(1.0 / math.sqrt(1.0 - beta2 ** rule.count[0]))
        keep1, new1 = number(beta1), number(1.0 - beta1)
        keep2, new2 = number(beta2), number(1.0 - beta2)
        for i in range(theta.size):
            m[i] = keep1 * m[i] + new1 * grad[i]
            v[i] = keep2 * v[i] + new2 * (grad[i] * grad[i])
            theta[i] = keep * theta[i] - rate * m[i] / (math.sqrt(v[i]) * unbias + small)


@optimizer
class AdamW(Adam):
    """Move theta by Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).

    Parameters
    ----------
    lr, betas, eps : float, pair of float, float
        As for `Adam`.
    weight_decay : float, >= 0
        Each update shrinks theta, biases too, by ``1 - lr * weight_decay``.

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.
    """

    weight_decay: float = 0.01

    def __post_init__(self):
        super().__post_init__()
        real(self.weight_decay, "weight_decay", least=0)

    def hyper(self):
        """Return the numbers of Adam, and the decay."""
        return [*self.betas, self.eps, self.weight_decay]


@optimizer
class RAdam(Adam):
    """Move theta by Adam once its mean of squares can be trusted (Liu et al. 2020, algorithm 2).

    Until then, for some 5 updates, steps are of the mean of gradients alone. Both limits, and where
    `eps` is added, to the root of the uncorrected mean, are PyTorch's.

    Parameters
    ----------
    lr, betas, eps : float, pair of float, float
        As for `Adam`.

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.
    """

    @kernel(name="radam")
    def update(rule: Rule, lr: Double, theta: Vector, grad: Vector):
        """Take Adam's step times r, or ``theta -= lr * m_hat`` while the mean is of 5 or less."""
        number, (m, v) = theta.dtype.type, unpack(rule.state, 2)
        beta1, beta2, eps, _ = unpack(rule.hyper, 4)
        t = rule.count[0]
        left, longest = 1.0 - beta2**t, 2.0 / (1.0 - beta2) - 1.0
        length = longest - 2.0 * t * beta2**t / left
        rate, small, trusted = lr / (1.0 - beta1**t), number(eps), length > 5.0
        if trusted:
            r2 = (length - 4.0) * (length - 2.0) * longest
            r2 /= (longest - 4.0) * (longest - 2.0) * length
            rate *= math.sqrt(r2 * left)
        keep1, new1 = number(beta1), number(1.0 - beta1)
        keep2, new2 = number(beta2), number(1.0 - beta2)
        for i in range(theta.size):
            m[i] = keep1 * m[i] + new1 * grad[i]
            v[i] = keep2 * v[i] + new2 * (grad[i] * grad[i])
            size = m[i]
            if trusted:
                size /= math.sqrt(v[i]) + small
            theta[i] -= number(rate) * size


@optimizer
class RMSProp(Optimizer):
    """Divide steps by the root of a running mean of squares (Tieleman & Hinton 2012).

    Parameters
    ----------
    lr : float, > 0
        Learning rate.
    alpha : float, 0 <= alpha < 1
        Decay of the running mean.
    eps : float, > 0
        Added to its root.
    momentum : float, 0 <= momentum < 1
        Share of the last step that is added, after the division.

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.
    """

    lr: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        fraction(self.alpha, "alpha")
        above_zero(self.eps, "eps")
        fraction(self.momentum, "momentum")

    @property
    def slots(self):
        """Return 1, for the running mean, and 1 more for the steps if there is momentum."""
        return 1 + int(self.momentum != 0)

    @kernel(name="rmsprop")
    def update(rule: Rule, lr: Double, theta: Vector, grad: Vector):
        """Compute ``v = alpha * v + (1 - alpha) * g**2; theta -= lr * g / (sqrt(v) + eps)``.

        With momentum its sum of steps, ``b = mu * b + g / (sqrt(v) + eps)``.
        """
        number, v = theta.dtype.type, row(rule.state, 0)
        alpha, eps, momentum = unpack(rule.hyper, 3)
        rate, keep, new = number(lr), number(alpha), number(1.0 - alpha)
        small, mu = number(eps), number(momentum)
        for i in range(theta.size):
            v[i] = keep * v[i] + new * (grad[i] * grad[i])
            size = grad[i] / (math.sqrt(v[i]) + small)
            if mu != 0:
                rule.state[1, i] = size = mu * rule.state[1, i] + size
            theta[i] -= rate * size


@optimizer
class Adagrad(Optimizer):
    """Divide steps by the root of the sum of all squares so far (Duchi et al. 2011).

    Parameters
    ----------
    lr : float, > 0
        Learning rate.
    eps : float, > 0
        Added to the root.

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.
    """

    lr: float = 0.01
    eps: float = 1e-10

    slots = 1

    def __post_init__(self):
        super().__post_init__()
        above_zero(self.eps, "eps")

    @kernel(name="adagrad")
    def update(rule: Rule, lr: Double, theta: Vector, grad: Vector):
        """Compute ``s += g**2; theta -= lr * g / (sqrt(s) + eps)``."""
        number, (s,), (small,) = theta.dtype.type, unpack(rule.state, 1), unpack(rule.hyper, 1)
        rate, eps = number(lr), number(small)
        for i in range(theta.size):
            s[i] += grad[i] * grad[i]
            theta[i] -= rate * grad[i] / (math.sqrt(s[i]) + eps)


@optimizer
class Rprop(Optimizer):
    """Adapt a step size for each parameter to the signs of gradients (Riedmiller & Braun 1993).

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

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.
    """

    lr: float = 0.01
    etas: tuple[float, float] = (0.5, 1.2)
    step_sizes: tuple[float, float] = (1e-6, 50.0)

    slots, full_batch = 2, True

    def __post_init__(self):
        super().__post_init__()
        increasing(self.etas, "etas", 0, 1)
        increasing(self.step_sizes, "step_sizes", 0)

    @kernel(name="rprop")
    def update(rule: Rule, lr: Double, theta: Vector, grad: Vector):
        """Grow steps until the gradient changes its sign; the next gradient then counts as 0."""
        number, (before, step) = theta.dtype.type, unpack(rule.state, 2)
        shrink, grow, lowest, highest = unpack(rule.hyper, 4)
        smaller, larger, least, most = number(shrink), number(grow), number(lowest), number(highest)
        zero = number(0)
        for i in range(theta.size):
            g, size = grad[i], step[i]
            if rule.count[0] == 1:
                size = number(lr)
            turn = g * before[i]
            if turn > zero:
                size = min(size * larger, most)
            elif turn < zero:
                size, g = max(size * smaller, least), zero
            step[i], before[i] = size, g
            if g > zero:
                theta[i] -= size
            elif g < zero:
                theta[i] += size


@optimizer
class Lion(Optimizer):
    """Take steps of one size along the sign of a mean of gradients (Chen et al. 2023).

    Parameters
    ----------
    lr : float, > 0
        Learning rate; a third to a tenth of what Adam would have.
    betas : pair of float, each in [0, 1)
        Share of the running mean in the direction of the step, and decay of that mean.
    weight_decay : float, >= 0
        As for `AdamW`.

    Raises
    ------
    ValueError, TypeError
        A number is not in its range, or no number.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    slots = 1

    def __post_init__(self):
        super().__post_init__()
        fractions(self.betas, "betas")
        real(self.weight_decay, "weight_decay", least=0)

    @kernel(name="lion")
    def update(rule: Rule, lr: Double, theta: Vector, grad: Vector):
        """Compute ``theta -= lr * (sign(beta1 m + (1 - beta1) g) + decay * theta)``, then m."""
        number, (m,) = theta.dtype.type, unpack(rule.state, 1)
        beta1, beta2, decay = unpack(rule.hyper, 3)
        keep, rate = number(1.0 - lr * decay), number(lr)
        keep1, new1 = number(beta1), number(1.0 - beta1)
        keep2, new2 = number(beta2), number(1.0 - beta2)
        for i in range(theta.size):
            direction = np.sign(keep1 * m[i] + new1 * grad[i])
            theta[i] = keep * theta[i] - rate * direction
            m[i] = keep2 * m[i] + new2 * grad[i]


__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Lion", "Optimizer", "RAdam", "RMSProp", "Rprop"]
