"""Axes and colours that all pictures share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deltajit.model.memory import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes

# Okabe and Ito (2008): blue, vermilion, green, purple, orange, sky blue, black.
PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"
MARKERS = "osD^vP*X<>"
BINS = 50


def axes_of(ax: Axes | None, width: float = 0, height: float = 0) -> Axes:
    """Return the Axes to draw on.

    Parameters
    ----------
    ax : matplotlib.axes.Axes or None
        A user's argument.
    width, height : float
        Least size of a new figure, in inches.

    Returns
    -------
    matplotlib.axes.Axes
        The argument itself, or without it the Axes of a new figure.

    Raises
    ------
    ModuleNotFoundError
        Without matplotlib; it says what to install.
    TypeError
        The argument is no Axes.
    """
    try:
        import matplotlib.pyplot as plt
        from matplotlib.axes import Axes
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            f"deltajit.plot needs {missing.name}: pip install 'deltajit[plot]'", name=missing.name
        ) from missing
    if ax is None:
        size = max(width, 6.4), max(height, 4.8)
        return plt.subplots(figsize=size, layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be one matplotlib Axes, got {type(ax).__name__}")
    return ax


def colors(n: int) -> Array:
    """Return colours for things without an order, such as classes.

    Parameters
    ----------
    n : int
        How many.

    Returns
    -------
    ndarray, (n, 3)
        Red, green and blue, from 0 to 1.
    """
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(name) for name in PALETTE[:n]]) if n <= len(PALETTE) else sequence(n)


def sequence(n: int) -> Array:
    """Return colours for things in order, such as layers.

    Parameters
    ----------
    n : int
        How many.

    Returns
    -------
    ndarray, (n, 3)
        Red, green and blue, from 0 to 1.
    """
    from matplotlib import colormaps

    return np.asarray(colormaps[SEQUENTIAL](np.linspace(0, 0.9, n)))[:, :3]
