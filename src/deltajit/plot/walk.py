"""Pictures of one forward and one backward pass, unit by unit."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from deltajit.model import checks
from deltajit.plot.axes import PALETTE, SMALL, axes_of, fitting, inches
from deltajit.reference import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Most units of a layer, and most lines between two layers, that can be read.
MOST_UNITS, MOST_LINES = 12, 36
FORWARD, BACKWARD = PALETTE[0], PALETTE[1]
WIDTH, HEIGHT = 3.4, 1.5  # of a layer and of a unit, in inches


def steps(trace: Trace, sample: int = 0, *, ax: Axes | None = None) -> Axes:
    """Draw the forward and backward pass of one sample: z and a above each unit, delta below.

    On each line, the weight is above, and the derivative of the loss with respect to it below. That
    is a sum over all samples of the trace.

    Parameters
    ----------
    trace : NetworkTrace
        What `Network.trace` returned, with at most 12 units in each layer, and 36 weights.
    sample : int
        Index of the sample.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes with the graph, layers from left to right.

    Raises
    ------
    ValueError, TypeError
        trace is no NetworkTrace or has too many units or weights, sample is not the index of one of
        its samples, or ax is no Axes.
    """
    checks.has(trace, "trace", "what net.trace returns", ["model", "slopes", "delta"])
    sizes = [a.shape[1] for a in trace.a]
    lines = max(left * right for left, right in pairwise(sizes))
    if max(sizes) > MOST_UNITS or lines > MOST_LINES:
        raise ValueError(
            f"a picture of {'-'.join(map(str, sizes))} can't be read (limits: {MOST_UNITS} units a "
            f"layer, {MOST_LINES} weights between two); use print(trace)"
        )
    i = checks.whole(sample, "sample", least=0, most=len(trace.w) - 1)
    ax = axes_of(ax, width=WIDTH * len(sizes), height=HEIGHT * max(sizes) + 1)
    width, height = inches(ax)
    size = fitting(SMALL * min(width / (WIDTH * len(sizes)), height / (HEIGHT * max(sizes) + 1)))
    heights = [np.arange(n)[::-1] - (n - 1) / 2 for n in sizes]
    for layer in range(1, len(sizes)):
        _draw_lines(ax, trace, layer, heights, size)
    for layer, column in enumerate(heights):
        for unit, height in enumerate(column):
            _draw_unit(ax, (layer, height), _texts(trace, layer, i, unit), size)
    top = max(sizes) / 2
    ax.set(xlim=(-0.4, len(sizes) - 0.6), ylim=(-top - 0.2, top + 0.2))
    many = f", sample {i} of {len(trace.w)}; dW and db are sums" if len(trace.w) > 1 else ""
    ax.set_title(
        f"forward (blue, above), backward (red, below); loss {trace.value:.4g}{many}", fontsize=10
    )
    ax.set_axis_off()
    return ax


def _texts(trace: Trace, layer: int, sample: int, unit: int) -> tuple[str, str, str]:
    """Write the texts in the circle of a unit, above it and below it."""
    a = f"{trace.a[layer][sample, unit]:.3g}"
    if layer == 0:
        return f"$x_{{{unit + 1}}}$", a, ""
    z, b = trace.z[layer][sample, unit], trace.b[layer][unit]
    above = f"b {b:.3g}   z {z:.3g}   a {a}"
    below = f"δ {trace.delta[layer][sample, unit]:.3g}"
    if len(trace.w) > 1:  # else db is delta
        below += f"   db {trace.db[layer][unit]:.3g}"
    return trace.model.activations[layer - 1], above, below


def _draw_unit(ax: Axes, place: tuple[int, Any], texts: tuple[str, str, str], size: float) -> None:
    """Draw a circle, numbers of the forward pass above it, those of the backward pass below."""
    inside, above, below = texts
    ax.plot(*place, "o", color="white", markeredgecolor="black", markersize=4.7 * size, zorder=3)
    ax.text(*place, inside, ha="center", va="center", fontsize=size, zorder=4)
    for text, color, up in ((above, FORWARD, 1), (below, BACKWARD, -1)):
        ax.annotate(
            text, place, (0, 2.75 * size * up), textcoords="offset points", color=color,
            fontsize=size, ha="center", va="bottom" if up > 0 else "top", zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )  # fmt: skip


def _draw_lines(ax: Axes, trace: Trace, layer: int, heights: list[Any], size: float) -> None:
    """Draw the weights of a layer, their numbers and derivatives staggered along the lines."""
    W, dW = trace.W[layer], trace.dW[layer]
    largest = np.abs(W).max() or 1.0
    for to, end in enumerate(heights[layer]):
        for source, start in enumerate(heights[layer - 1]):
            weight, slope = W[to, source], dW[to, source]
            color = FORWARD if weight >= 0 else BACKWARD
            width = 0.5 + 2.5 * abs(weight) / largest
            ax.plot([layer - 1, layer], [start, end], color=color, lw=width, alpha=0.35, zorder=1)
            share = 0.36 + 0.28 * ((to + source) % 2) if W.size > 1 else 0.5
            place = layer - 1 + share, start + share * (end - start)
            for text, color, up in ((f"{weight:.3g}", FORWARD, 1), (f"{slope:.3g}", BACKWARD, -1)):
                ax.annotate(
                    text, place, (0, 1.5 * up), textcoords="offset points", color=color,
                    fontsize=0.9 * size,
                    ha="center", va="bottom" if up > 0 else "top", zorder=2,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.3, "alpha": 0.8},
                )  # fmt: skip
