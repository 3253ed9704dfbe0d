"""Steps of optimizers, on one parameter array each: a record of the same name as the kernels'.

    update(p, g, state, step, lr, **numbers)

moves a parameter p in place along its gradient g; `state` has two arrays like p that are 0 at the
start, `step` counts from 1, and the numbers are the fields of the optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deltajit.reference.arrays import Array, quiet

Update = Callable[..., None]
OPTIMIZERS: dict[str, Update] = {}


def optimizer(*names: str) -> Callable[[Any], Any]:
    """Register an update under the names of its optimizers."""

    def register(update: Update) -> Update:
        quietly = quiet(update)
        OPTIMIZERS.update(dict.fromkeys(names, quietly))
        return quietly

    return register


@quiet
def clip(gradients: Sequence[Array], norm: float) -> list[Array]:
    """Gradients shortened to this length, all together, if they are longer."""
    length = np.sqrt(sum((g**2).sum() for g in gradients))
    return [g * min(1, norm / length) for g in gradients]


@optimizer("SGD")
def sgd_update(
    p: Array, g: Array, state: list[Array], step: int, lr: float, momentum: float, nesterov: bool
) -> None:
    """``v = mu v + g; p -= lr v``; Nesterov: ``p -= lr (g + mu v)``."""
    v = state[0]
    v[...] = momentum * v + g
    p -= lr * (g + momentum * v if nesterov else v)


def moments(g: Array, state: list[Array], betas: tuple[float, float]) -> list[Array]:
    """Move the running means of g and g**2, which are the state, and return them."""
    m, v = state
    m[...] = betas[0] * m + (1 - betas[0]) * g
    v[...] = betas[1] * v + (1 - betas[1]) * g**2
    return state


@optimizer("Adam", "AdamW")
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
    """Adam (Kingma & Ba 2015, algorithm 1), and AdamW (Loshchilov & Hutter 2019, algorithm 2)."""
    m, v = moments(g, state, betas)
    m_hat, v_hat = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    p -= lr * weight_decay * p
    p -= lr * m_hat / (np.sqrt(v_hat) + eps)


@optimizer("RAdam")
def radam_update(
    p: Array,
    g: Array,
    state: list[Array],
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """Liu et al. (2020), algorithm 2; its limit of 4 is 5, and eps is added as in PyTorch."""
    m, v = moments(g, state, betas)
    m_hat, root = m / (1 - betas[0] ** step), np.sqrt(1 - betas[1] ** step)
    longest = 2 / (1 - betas[1]) - 1
    rho = longest - 2 * step * betas[1] ** step / (1 - betas[1] ** step)
    if rho > 5:
        r = np.sqrt((rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho))
        p -= lr * m_hat * r * root / (np.sqrt(v) + eps)
    else:
        p -= lr * m_hat


@optimizer("RMSProp")
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
    """Tieleman & Hinton (2012)."""
    v, b = state
    v[...] = alpha * v + (1 - alpha) * g**2
    b[...] = momentum * b + g / (np.sqrt(v) + eps)
    p -= lr * b


@optimizer("Adagrad")
def adagrad_update(
    p: Array, g: Array, state: list[Array], step: int, lr: float, eps: float
) -> None:
    """Duchi et al. (2011)."""
    s = state[0]
    s += g**2
    p -= lr * g / (np.sqrt(s) + eps)


@optimizer("Rprop")
def rprop_update(
    p: Array,
    g: Array,
    state: list[Array],
    step: int,
    lr: float,
    etas: tuple[float, float],
    step_sizes: tuple[float, float],
) -> None:
    """iRprop- (Igel & Huesken 2000)."""
    before, size = state
    if step == 1:
        size[...] = lr
    turn = np.sign(g * before)
    factor = np.choose((turn + 1).astype(int), [etas[0], 1.0, etas[1]])
    size[...] = np.clip(size * factor, *step_sizes)
    before[...] = np.where(turn < 0, 0, g)
    p -= size * np.sign(before)


@optimizer("Lion")
def lion_update(
    p: Array,
    g: Array,
    state: list[Array],
    step: int,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> None:
    """Chen et al. (2023), algorithm 2."""
    m = state[0]
    direction = np.sign(betas[0] * m + (1 - betas[0]) * g)
    p -= lr * (direction + weight_decay * p)
    m[...] = betas[1] * m + (1 - betas[1]) * g
