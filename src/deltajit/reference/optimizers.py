"""Steps of optimizers, on one parameter array each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deltajit.reference.arrays import Array, quiet


@quiet
def clip(gradients: Sequence[Array], norm: float) -> list[Array]:
    """Gradients shortened to this length, all together, if they are longer."""
    length = np.sqrt(sum((g**2).sum() for g in gradients))
    return [g * min(1, norm / length) for g in gradients]


@quiet
def sgd_update(
    p: Array, g: Array, state: list[Array], lr: float, momentum: float, nesterov: bool
) -> None:
    """``v = mu v + g; p -= lr v`` in place; Nesterov: ``p -= lr (g + mu v)``.

    Here and below p and g are a parameter and its gradient, `state` arrays like p that are 0 at the
    start, and `step` counts from 1.
    """
    (v,) = state
    v[...] = momentum * v + g
    p -= lr * (g + momentum * v if nesterov else v)


@quiet
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
    m, v = state
    m[...] = betas[0] * m + (1 - betas[0]) * g
    v[...] = betas[1] * v + (1 - betas[1]) * g**2
    m_hat, v_hat = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    p -= lr * weight_decay * p
    p -= lr * m_hat / (np.sqrt(v_hat) + eps)


@quiet
def rmsprop_update(
    p: Array, g: Array, state: list[Array], lr: float, alpha: float, eps: float, momentum: float
) -> None:
    """Tieleman & Hinton (2012)."""
    v, b = state
    v[...] = alpha * v + (1 - alpha) * g**2
    b[...] = momentum * b + g / (np.sqrt(v) + eps)
    p -= lr * b


@quiet
def adagrad_update(p: Array, g: Array, state: list[Array], lr: float, eps: float) -> None:
    """Duchi et al. (2011)."""
    (s,) = state
    s += g**2
    p -= lr * g / (np.sqrt(s) + eps)


@quiet
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


@quiet
def lion_update(
    p: Array,
    g: Array,
    state: list[Array],
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> None:
    """Chen et al. (2023), algorithm 2."""
    (m,) = state
    direction = np.sign(betas[0] * m + (1 - betas[0]) * g)
    p -= lr * (direction + weight_decay * p)
    m[...] = betas[1] * m + (1 - betas[1]) * g
