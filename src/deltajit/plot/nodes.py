"""Pictures of circuits."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from deltajit.circuits.trace import Step, Trace
from deltajit.model import checks
from deltajit.plot.axes import PALETTE, SMALL, axes_of, fitting, inches

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NODES = 80


def circuit(trace: Trace, *, ax: Axes | None = None) -> Axes:
    """Draw a circuit at one point, inputs on the left: values in boxes, adjoints below.

    The number on a line is the derivative of its right node by its left one. An adjoint is the sum
    over all paths to the output of the products of these numbers.

    Parameters
    ----------
    trace : Trace
        What `Circuit.trace` returned, with at most 80 nodes.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes with the graph.

    Raises
    ------
    ValueError, TypeError
        trace is no Trace of a circuit or has more than 80 nodes, or ax is no Axes.
    """
    checks.has(trace, "trace", "what Circuit.trace returns", ["steps", "output"])
    if len(trace.steps) > MOST_NODES:
        raise ValueError(
            f"a picture of {len(trace.steps)} nodes can't be read (limit {MOST_NODES}); use "
            "print(trace)"
        )
    ax = draw(trace.steps, ax=ax)
    _write_legend(ax, trace.output)
    return ax


def _write_legend(ax: Axes, output: str) -> None:
    """Say above the picture what its numbers are, in their colours."""
    from matplotlib.lines import Line2D

    texts = "value", "on an arrow: its end by its start", f"below: {output} by the node"
    ax.legend(
        [Line2D([], [], linewidth=0) for _ in texts], texts, labelcolor=["black", *PALETTE[:2]],
        loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, fontsize=SMALL, frameon=False,
        handlelength=0, columnspacing=1, title="derivatives in colour", title_fontsize=SMALL,
    )  # fmt: skip


def draw(steps: list[Step], *, numbers: bool = True, ax: Axes | None = None) -> Axes:
    """Draw the nodes of a circuit; without `numbers` only their names and formulas."""
    places = _places(steps)
    columns = max(x for x, _ in places.values()) + 1
    rows = max(abs(y) for _, y in places.values()) * 2 + 1
    ax = axes_of(ax, width=1.9 * columns, height=1.1 * rows)
    style = _style(steps, 72 * inches(ax)[0] / columns, numbers)
    for step in steps:
        for name, slope in zip(step.operands, step.derivatives, strict=True):
            text = f"{slope:.3g}" if numbers else ""
            _draw_line(ax, places[name], places[step.name], text, style)
    for step in steps:
        _draw_node(ax, places[step.name], step, style)
    low, high = (0.0, 0.0) if len(steps) == 1 else ax.dataLim.intervaly
    ax.set(xlim=(-0.6, columns - 0.4))
    ax.set(ylim=(min(low - 0.2, -rows / 2 - 0.2), max(high + 0.2, rows / 2 + 0.2)))
    ax.set_axis_off()
    return ax


class Style(NamedTuple):
    """Hold how the texts of a picture fit into its columns.

    Attributes
    ----------
    size : float
        Points of the text.
    joint : str
        What stands between a node's name and its formula.
    numbers : bool
        Whether there are values and derivatives.
    """

    size: float
    joint: str
    numbers: bool


def _style(steps: list[Step], width: float, numbers: bool) -> Style:
    """Choose the style for columns `width` points wide: one line if that can be read."""
    room = (width - 16) / 0.6  # of a box and the number beside it, 0.6 em a letter
    beside = 6 if numbers else 1
    longest = max(len(step.name) + 3 + len(step.text) for step in steps)
    if room / (longest + beside) >= SMALL - 1:
        return Style(fitting(room / (longest + beside)), " = ", numbers)
    longest = max(max(len(step.name), len(step.text)) for step in steps)
    return Style(fitting(room / (longest + beside)), "\n", numbers)


def _places(steps: list[Step]) -> dict[str, tuple[int, float]]:
    """Return (column, height) of each node, one column to the right of its rightmost operand."""
    depth: dict[str, int] = {}
    for step in steps:
        depth[step.name] = 1 + max((depth[name] for name in step.operands), default=-1)
    places: dict[str, tuple[int, float]] = {}
    for column in range(max(depth.values()) + 1):
        here = [name for name in depth if depth[name] == column]
        for i, name in enumerate(here):
            places[name] = column, (len(here) - 1) / 2 - i
    return places


def _draw_line(
    ax: Axes, left: tuple[int, float], right: tuple[int, float], text: str, style: Style
) -> None:
    """Draw an arrow, bowed around the columns it skips, with its derivative on it."""
    ends, columns = np.array([left, right], float), right[0] - left[0]
    t = np.linspace(0, 1, 33)[:, None]
    outward = -1 if left[1] + right[1] < 0 else 1
    bow = np.array([0.0, min(0.35 * (columns - 1), 1.5) * outward])
    line = (1 - t) * ends[0] + t * ends[1] + 4 * t * (1 - t) * bow
    ax.plot(*line.T, color="0.6", linewidth=1, zorder=1)
    k = round(32 * (1 - 0.27 / columns))  # between the number and the box
    way = {"arrowstyle": "-|>", "color": "0.6", "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", line[k + 1], line[k], arrowprops=way, zorder=1)
    if not text:
        return
    share = 0.5 if columns == 1 else 1 - 0.5 / columns
    if left[1] != right[1] and columns == 1:
        share = 0.4  # lines that cross do so in the middle
    place = (1 - share) * ends[0] + share * ends[1] + 4 * share * (1 - share) * bow
    ax.text(
        place[0], place[1], text, color=PALETTE[0], fontsize=style.size - 1,
        ha="center", va="center",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )  # fmt: skip


def _draw_node(ax: Axes, place: tuple[int, float], step: Step, style: Style) -> None:
    """Draw a box with the node's name, formula and value, and its adjoint below."""
    lines = f"{step.name}{style.joint}{step.text}" if step.text else step.name
    if style.numbers:
        lines += f"\n{step.value:.4g}"
    ax.text(
        *place, lines, fontsize=style.size, ha="center", va="center",
        bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": "black"},
    )  # fmt: skip
    if not style.numbers:
        return
    below = style.size * (0.6 * (lines.count("\n") + 1) + 0.7)
    ax.annotate(
        f"{step.adjoint:.4g}", place, (0, -below), textcoords="offset points", color=PALETTE[1],
        fontsize=style.size, ha="center", va="top",
    )  # fmt: skip
