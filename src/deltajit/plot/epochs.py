"""Pictures of losses, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deltajit.model.memory import Array
from deltajit.plot.axes import PALETTE, SMALL, axes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(
    loss: Sequence[float | Array],
    val_loss: Sequence[float | Array],
    *,
    log: bool = False,
    best: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw losses epoch by epoch: see `deltajit.plot.history`."""
    pairs = ("loss", loss), ("val_loss", val_loss)
    curves = {name: np.array(values, float) for name, values in pairs if len(values)}
    if "loss" not in curves:
        raise ValueError("history has no epochs")
    if log and not all((values > 0).any() for values in curves.values()):
        raise ValueError("log=True needs losses above 0, and history has none")
    ax = axes_of(ax)
    from matplotlib.ticker import MaxNLocator

    for color, (name, values) in zip(PALETTE, curves.items(), strict=False):
        middle = _curve(ax, values, color, name)
    if best:  # of the last curve: val_loss if there is one
        epoch = int(np.nanargmin(middle))
        label = f"best epoch: {epoch + 1} ({middle[epoch]:.4g})"
        ax.plot(epoch + 1, middle[epoch], "o", color="black", fillstyle="none", label=label)
    ax.set(xlabel="epoch", yscale="log" if log else "linear")
    ax.set_ylabel("loss", labelpad=2)
    ax.tick_params(axis="y", which="minor", labelsize=SMALL)  # "6 x 10^-1" is long
    whole_numbers = MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)
    ax.xaxis.set_major_locator(whole_numbers)
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def _curve(ax: Axes, values: Array, color: str, name: str) -> Array:
    """Draw one line, for many members their median with a band, and return the line's heights."""
    epochs = np.arange(1, len(values) + 1)
    middle = values
    if values.ndim == 2:  # NaN is a member that has stopped
        low, middle, high = np.nanquantile(values, [0.1, 0.5, 0.9], axis=1)
        ax.fill_between(epochs, low, high, color=color, alpha=0.2, linewidth=0)
        name = f"{name}, median of {values.shape[1]:,}"
    marker = "." if len(epochs) == 1 else None  # a line through one point can't be seen
    ax.plot(epochs, middle, color=color, label=name, marker=marker)
    return middle
