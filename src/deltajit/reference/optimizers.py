"""Steps of optimizers on one parameter array: one record each, of the same name as the kernels'.

    update(p, g, state, step, lr, **numbers)

moves a parameter p in place along its gradient g. `state` has two arrays like p that start at 0,
`step` counts from 1, and the numbers are the fields of the optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from deltajit.reference.arrays import Array, quiet

Update = Callable[..., None]

#: Updates ``update(p, g, state, step, lr, **numbers)`` by the names of their optimizers.
OPTIMIZERS: dict[str, Update] = {}


def _optimizer(*names: str) -> Callable[[Update], Update]:
    """Return a decorator that registers an update under the names of its optimizers."""

    def register(update: Update) -> Update:
        quietly = quiet(update)
        OPTIMIZERS.update(dict.fromkeys(names, quietly))
        return quietly

    return register


@quiet
def clip(gradients: Sequence[Array], norm: float) -> list[Array]:
    """Scale gradients down to a given length, measured over all of them, if they are longer.

    Parameters
    ----------
    gradients : sequence of ndarray
        Parts of one gradient.
    norm : float
        Largest length allowed.

    Returns
    -------
    list of ndarray
        The scaled parts.
    """
    length = np.sqrt(sum((g**2).sum() for g in gradients))
    return [g * min(1, norm / length) for g in gradients]


@_optimizer("SGD")
def sgd_update(
    p: Array, g: Array, state: list[Array], step: int, lr: float, momentum: float, nesterov: bool
) -> None:
    """Take a step of SGD: ``v = mu v + g; p -= lr v``, and with Nesterov ``p -= lr (g + mu v)``.

    Parameters
    ----------
    p, g : ndarray
        Parameter, changed in place, and its gradient.
    state : list of ndarray
        The first is v; like p, and 0 at the start.
    step : int
        Number of the step, from 1; not used.
    lr : float
        Learning rate.
    momentum : float
        The coefficient mu.
    nesterov : bool
        Whether to look ahead by the new v.
    """
    v = state[0]
    v[...] = momentum * v + g
    p -= lr * (g + momentum * v if nesterov else v)


def _moments(g: Array, state: list[Array], betas: tuple[float, float]) -> list[Array]:
    """Update the running means of g and g**2, which are the state, and return them."""
    m, v = state
    m[...] = betas[0] * m + (1 - betas[0]) * g
    v[...] = betas[1] * v + (1 - betas[1]) * g**2
    return state


@_optimizer("Adam", "AdamW")
def adam_update(
    p: Array,
    g: Array,
    state: list[Array],
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float = 0.0,
) -> None:
    """Take a step of Adam or AdamW.

    Kingma & Ba (2015), algorithm 1; Loshchilov & Hutter (2019), algorithm 2.

    Parameters
    ----------
    p, g : ndarray
        Parameter, changed in place, and its gradient.
    state : list of ndarray
        Running means m of g and v of g**2; like p, and 0 at the start.
    step : int
        Number of the step, from 1.
    lr : float
        Learning rate.
    betas : tuple of float
        Decay of m and of v.
    eps : float
        Added to the denominator.
    weight_decay : float
        AdamW's decoupled decay, times lr per step.
    """
    m, v = _moments(g, state, betas)
    m_hat, v_hat = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    p -= lr * weight_decay * p
    p -= lr * m_hat / (np.sqrt(v_hat) + eps)


@_optimizer("RAdam")
def radam_update(
    p: Array,
    g: Array,
    state: list[Array],
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """Take a step of RAdam.

    Liu et al. (2020), algorithm 2, but with a limit of 5 for rho instead of 4, and with eps as in
    PyTorch.

    Parameters
    ----------
    p, g : ndarray
        Parameter, changed in place, and its gradient.
    state : list of ndarray
        Running means m of g and v of g**2; like p, and 0 at the start.
    step : int
        Number of the step, from 1.
    lr : float
        Learning rate.
    betas : tuple of float
        Decay of m and of v.
    eps : float
        Added to the denominator.
    """
    m, v = _moments(g, state, betas)
    m_hat, root = m / (1 - betas[0] ** step), np.sqrt(1 - betas[1] ** step)
    longest = 2 / (1 - betas[1]) - 1
    rho = longest - 2 * step * betas[1] ** step / (1 - betas[1] ** step)
    if rho > 5:
        r = np.sqrt((rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho))
        p -= lr * m_hat * r * root / (np.sqrt(v) + eps)
    else:
        p -= lr * m_hat


@_optimizer("RMSProp")
def rmsprop_update(
    p: Array,
    g: Array,
    state: list[Array],
    step: int,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
) -> None:
    """Take a step of RMSProp (Tieleman & Hinton 2012).

    Parameters
    ----------
    p, g : ndarray
        Parameter, changed in place, and its gradient.
    state : list of ndarray
        Running mean v of g**2, and velocity b; like p, and 0 at the start.
    step : int
        Number of the step, from 1; not used.
    lr : float
        Learning rate.
    alpha : float
        Decay of v.
    eps : float
        Added to the denominator.
    momentum : float
        Decay of b.
    """
    v, b = state
    v[...] = alpha * v + (1 - alpha) * g**2
    b[...] = momentum * b + g / (np.sqrt(v) + eps)
    p -= lr * b


@_optimizer("Adagrad")
def adagrad_update(
    p: Array, g: Array, state: list[Array], step: int, lr: float, eps: float
) -> None:
    """Take a step of Adagrad (Duchi et al. 2011).

    Parameters
    ----------
    p, g : ndarray
        Parameter, changed in place, and its gradient.
    state : list of ndarray
        Sum of g**2 first; like p, and 0 at the start.
    step : int
        Number of the step, from 1; not used.
    lr : float
        Learning rate.
    eps : float
        Added to the denominator.
    """
    s = state[0]
    s += g**2
    p -= lr * g / (np.sqrt(s) + eps)


@_optimizer("Rprop")
def rprop_update(
    p: Array,
    g: Array,
    state: list[Array],
    step: int,
    lr: float,
    etas: tuple[float, float],
    step_sizes: tuple[float, float],
) -> None:
    """Take a step of iRprop- (Igel & Huesken 2000).

    Parameters
    ----------
    p, g : ndarray
        Parameter, changed in place, and its gradient.
    state : list of ndarray
        Gradient of the step before, and step size of each parameter; like p, and 0 at the start.
    step : int
        Number of the step, from 1.
    lr : float
        First step size.
    etas : tuple of float
        Factors of a step size where the gradient changed its sign, and where it kept it.
    step_sizes : tuple of float
        Smallest and largest step size.
    """
    before, size = state
    if step == 1:
        size[...] = lr
    turn = np.sign(g * before)
    factor = np.choose((turn + 1).astype(int), [etas[0], 1.0, etas[1]])
    size[...] = np.clip(size * factor, *step_sizes)
    before[...] = np.where(turn < 0, 0, g)
    p -= size * np.sign(before)


@_optimizer("Lion")
def lion_update(
    p: Array,
    g: Array,
    state: list[Array],
    step: int,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> None:
    """Take a step of Lion (Chen et al. 2023, algorithm 2).

    Parameters
    ----------
    p, g : ndarray
        Parameter, changed in place, and its gradient.
    state : list of ndarray
        Running mean m of g first; like p, and 0 at the start.
    step : int
        Number of the step, from 1; not used.
    lr : float
        Learning rate.
    betas : tuple of float
        Weight of m in the direction, and decay of m.
    weight_decay : float
        Decoupled decay, times lr per step.
    """
    m = state[0]
    direction = np.sign(betas[0] * m + (1 - betas[0]) * g)
    p -= lr * (direction + weight_decay * p)
    m[...] = betas[1] * m + (1 - betas[1]) * g
