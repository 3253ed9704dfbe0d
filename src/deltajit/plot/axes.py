"""What pictures share: Axes, colours, and checks of what is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deltajit.model import checks
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from deltajit.network import Network

# Okabe and Ito (2008): blue, vermilion, green, purple, orange, sky blue, black.
PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"
MARKERS = "osD^vP*X<>"
BINS = 50


def axes_of(ax: Axes | None, width: float = 0, height: float = 0) -> Axes:
    """`ax` itself, or the Axes of a new figure of at least that size, in inches."""
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


def architecture_of(net: Network) -> Architecture:
    """Of a Network whose parameters can be drawn."""
    checks.has(net, "net", "a Network", ["architecture", "weights", "predict"])
    for name, parts in (("weights", net.weights), ("biases", net.biases)):
        for i, part in enumerate(parts):
            checks.finite(part, f"net.{name}[{i}]")
    return net.architecture


def layer_names(made_of: Architecture) -> list[str]:
    """Layers as they are counted in W[l], with their widths."""
    pairs = zip(made_of.sizes[:-1], made_of.sizes[1:], strict=True)
    return [f"W[{i}] {n_in:,}-{n_out:,}" for i, (n_in, n_out) in enumerate(pairs)]


def probabilities(outputs: Array) -> Array:
    """One column a class: one sigmoid is the second class's probability."""
    return np.hstack([1 - outputs, outputs]) if outputs.shape[-1] == 1 else outputs


def classes_of(Y: Array) -> Array:
    """The class of each sample, from labels (B, 1) or rows of probabilities."""
    found: Array = np.rint(Y[:, 0]) if Y.shape[-1] == 1 else Y.argmax(axis=-1)
    return found


def span(x: Array, points: int, margin: float) -> Array:
    """Evenly from the smallest to the largest element, and a share of their distance beyond."""
    low, high = float(x.min()), float(x.max())
    beyond = margin * (high - low) or 1.0
    return np.linspace(low - beyond, high + beyond, points)


def colors(n: int) -> Array:
    """(n, 3) colours of things without an order."""
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(name) for name in PALETTE[:n]]) if n <= len(PALETTE) else sequence(n)


def sequence(n: int) -> Array:
    """(n, 3) colours of things in order, such as layers."""
    from matplotlib import colormaps

    return np.asarray(colormaps[SEQUENTIAL](np.linspace(0, 0.9, n)))[:, :3]
