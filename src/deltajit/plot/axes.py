"""Axes, colours and sizes of text that all pictures share."""

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
SMALL, LEAST = 8.0, 5.0  # points of text inside of a picture, where there is room and at least


def axes_of(ax: Axes | None, width: float = 0, height: float = 0) -> Axes:
    """Return the Axes that a user gave, or those of a new figure, at least so many inches large."""
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


def inches(ax: Axes) -> tuple[float, float]:
    """Return the width and height of Axes as they are now."""
    box = ax.get_window_extent()
    dpi = ax.figure.dpi
    return float(box.width / dpi), float(box.height / dpi)


def fitting(points: float) -> float:
    """Return a size of text that fits where `points` are free for it."""
    return min(max(points, LEAST), SMALL)


def colors(n: int) -> Array:
    """Return n colours (n, 3), RGB from 0 to 1, for things without an order, such as classes."""
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(name) for name in PALETTE[:n]]) if n <= len(PALETTE) else sequence(n)


def sequence(n: int) -> Array:
    """Return n colours (n, 3), RGB from 0 to 1, for things in order; none is faint on white."""
    from matplotlib import colormaps

    return np.asarray(colormaps[SEQUENTIAL](np.linspace(0, 0.75, n)))[:, :3]
