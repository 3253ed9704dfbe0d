"""Picture of a search for a learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deltajit.model import checks
from deltajit.plot.axes import PALETTE, axes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def learning_rates(found: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the losses of steps against their learning rates, and the rate that is suggested.

    Parameters
    ----------
    found : LearningRates
        What `learning_rate_finder` returned.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes with the curves.

    Raises
    ------
    TypeError
        found is nothing that `learning_rate_finder` returns, or ax is no Axes.
    """
    parts = ["rates", "losses", "smoothed", "suggestion"]
    checks.has(found, "found", "what learning_rate_finder returns", parts)
    ax = axes_of(ax)
    each, mean, chosen = PALETTE[:3]
    ax.plot(found.rates, found.losses, ".", color=each, alpha=0.4, label="loss of a minibatch")
    ax.plot(found.rates, found.smoothed, color=mean, label="moving average")
    label = f"suggestion: {found.suggestion:.2g}"
    ax.axvline(found.suggestion, color=chosen, linestyle="--", label=label)
    ax.set(xlabel="learning rate", ylabel="loss", xscale="log")
    ax.grid(alpha=0.3)
    ax.legend()
    return ax
