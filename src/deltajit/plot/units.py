"""The units and weights of a network as a graph."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deltajit.model import checks
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array
from deltajit.plot import notebook
from deltajit.plot.axes import DIVERGING, SMALL, axes_of, fitting, inches

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection

MOST_NUMBERS = 24  # weights of a network whose values can be read on its lines


class Column(NamedTuple):
    """Hold the number of units of a layer, the indices of those drawn, and their heights."""

    size: int
    units: NDArray[np.intp]
    heights: Array

    @classmethod
    def of(cls, size: int, most: int) -> Column:
        """Place all units, or only the first and last `most`, with a gap between them."""
        units = np.arange(size)
        places = units
        if size > most:
            first = (most + 1) // 2
            places = np.delete(np.arange(most + 1), first)
            units = np.concatenate([units[:first], units[first - most :]])
        return cls(size, units, places[-1] / 2 - places)

    def gap(self) -> Array:
        """Return the heights of three dots for the units left out."""
        above = np.flatnonzero(np.diff(self.units) > 1)
        return (self.heights[above, None] - [0.7, 1.0, 1.3]).ravel()


def draw(
    architecture: Architecture,
    weights: Sequence[Array],
    biases: Sequence[Array],
    *,
    max_units: int = 12,
    names: tuple[Sequence[str], Sequence[str]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw units, and weights that are finite: see `deltajit.plot.graph`."""
    most = checks.whole(max_units, "max_units", least=2)
    columns = [Column.of(size, most) for size in architecture.sizes]
    largest = max(np.abs(part).max() for part in (*weights, *biases)) or 1.0
    ax = axes_of(ax, width=1.2 * len(columns))
    lines = _draw_weights(ax, columns, weights, largest)
    _draw_units(ax, columns, biases, largest)
    if names is not None:
        for x, column, texts in zip(
            (0, len(columns) - 1), columns[:: len(columns) - 1], names, strict=True
        ):
            _write_names(ax, x, column, texts)
    if sum(W.size for W in weights) <= MOST_NUMBERS:
        _write_weights(ax, columns, weights)
    size = fitting(72 * inches(ax)[0] / len(columns) / 8)
    ax.set_xticks(range(len(columns)), _column_names(architecture, columns), fontsize=size)
    ax.set_yticks([])
    ax.tick_params(axis="x", length=0)
    longest = max(map(len, itertools.chain(*names))) if names else 0
    ax.margins(0.08 + 0.6 * SMALL * longest / 72 / inches(ax)[0], 0.08)
    ax.set_xlabel("layer", fontsize=SMALL, labelpad=1)
    ax.set_ylabel("units", fontsize=SMALL)
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(lines, ax=ax, label="weight (line), bias (circle)")
    return ax


def face(title: str, architecture: Architecture, theta: Array, caption: str = "") -> str:
    """Write what notebooks show of a network: its layers, and if theta is finite its graph."""
    head = "layer", "units", "activation", "parameters"
    rows = [("0", f"{architecture.sizes[0]:,}", "inputs", "")]
    layers = zip(
        architecture.sizes[:-1], architecture.sizes[1:], architecture.activations, strict=True
    )
    for i, (n_in, n_out, name) in enumerate(layers, 1):
        rows.append((str(i), f"{n_out:,}", name, f"{(n_in + 1) * n_out:,}"))

    def draw_on(ax: Axes) -> None:
        draw(architecture, *architecture.unflatten(theta), max_units=8, ax=ax).set_title(caption)

    return notebook.face(title, [head, *rows], draw_on if np.isfinite(theta).all() else None)


def _draw_weights(
    ax: Axes, columns: list[Column], weights: Sequence[Array], largest: float
) -> LineCollection:
    """Draw all lines as one collection, the largest weights on top."""
    from matplotlib.collections import LineCollection

    ends, values = [], []
    for i, (W, left, right) in enumerate(zip(weights, columns[:-1], columns[1:], strict=True)):
        for to, height in zip(right.units, right.heights, strict=True):
            ends += [[(i, start), (i + 1, height)] for start in left.heights]
            values.append(W[to, left.units])
    value = np.concatenate(values)
    order = np.argsort(np.abs(value))
    lines = LineCollection(
        [ends[k] for k in order],
        array=value[order],
        linewidths=0.3 + 2 * np.abs(value[order]) / largest,
        cmap=DIVERGING,
        clim=(-largest, largest),
    )
    ax.add_collection(lines)
    return lines


def _draw_units(ax: Axes, columns: list[Column], biases: Sequence[Array], largest: float) -> None:
    """Draw circles coloured by biases, white for inputs, and dots for units left out."""
    no_bias = np.zeros(columns[0].size)
    for x, (column, b) in enumerate(zip(columns, (no_bias, *biases), strict=True)):
        ax.scatter(
            np.full_like(column.heights, x),
            column.heights,
            s=60,
            c=b[column.units],
            cmap=DIVERGING,
            vmin=-largest,
            vmax=largest,
            edgecolors="black",
            linewidths=0.8,
            zorder=3,
        )
        gap = column.gap()
        ax.plot(np.full_like(gap, x), gap, ".", color="black", markersize=3, zorder=3)


def _write_names(ax: Axes, x: int, column: Column, names: Sequence[str]) -> None:
    """Write names beside units: left of the inputs, right of the outputs."""
    side = -1 if x == 0 else 1
    for unit, height in zip(column.units, column.heights, strict=True):
        ax.annotate(
            names[unit], (x, height), (7 * side, 0), textcoords="offset points", fontsize=SMALL,
            ha="right" if side < 0 else "left", va="center",
        )  # fmt: skip


def _write_weights(ax: Axes, columns: list[Column], weights: Sequence[Array]) -> None:
    """Write each weight on its line, nearer to its end the further down the line starts."""
    for i, (W, left, right) in enumerate(zip(weights, columns[:-1], columns[1:], strict=True)):
        for to, end in zip(right.units, right.heights, strict=True):
            for source, start in zip(left.units, left.heights, strict=True):
                share = (1 + (source + to) % left.size) / (left.size + 1)
                ax.text(
                    i + share, start + share * (end - start), f"{W[to, source]:.2g}",
                    fontsize=SMALL, ha="center", va="center", zorder=2,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
                )  # fmt: skip


def _column_names(architecture: Architecture, columns: list[Column]) -> list[str]:
    """Label each layer by its activation, its number of units, and how many of them are shown."""
    names = []
    for column, activation in zip(columns, ("inputs", *architecture.activations), strict=True):
        some = f"{len(column.units)} of " * (len(column.units) < column.size)
        names.append(f"{activation}\n{some}{column.size:,}")
    return names
