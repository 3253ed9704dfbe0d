"""Pictures of weights, biases and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltajit.model import checks
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array
from deltajit.plot.axes import BINS, DIVERGING, axes_of, sequence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection

    from deltajit.network import Network


def weight_histograms(net: Network, *, ax: Axes | None = None) -> Axes:
    """Draw how the weights of each layer are distributed, the first layer on top.

    Parameters
    ----------
    net : Network
        The network.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes with one histogram per layer.

    Raises
    ------
    ValueError, TypeError
        net is no Network or has weights that are not finite, or ax is no Axes.
    """
    architecture = architecture_of(net)
    largest = max(np.abs(W).max() for W in net.weights) or 1.0
    edges = np.linspace(-largest, largest, BINS + 1)
    ax = axes_of(ax, height=0.5 * len(net.weights))
    _rows(ax, net.weights, edges, _layer_names(architecture))
    ax.set(xlabel="weight")
    return ax


def gradient_histograms(
    net: Network, X: ArrayLike, Y: ArrayLike, *, ax: Axes | None = None
) -> Axes:
    """Draw the sizes of dLoss/dW in each layer, which show whether gradients vanish.

    The axis is logarithmic, so derivatives that are 0 (of inputs that are always 0, or of dead
    ReLUs) cannot be drawn; their share is written beside the layer.

    Parameters
    ----------
    net : Network
        The network.
    X, Y : array_like
        Samples and targets, as for `Network.loss`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes with one histogram per layer, the first layer on top.

    Raises
    ------
    ValueError, TypeError
        net is no Network, its weights or the gradient are not finite, X or Y does not fit it, or ax
        is no Axes.
    """
    architecture = architecture_of(net)
    dW, _ = net.unflatten(net.grad(X, Y))
    for i, part in enumerate(dW):
        checks.finite(part, f"the gradient dW[{i}] of net at X, Y")
    sizes = [np.abs(part[part != 0], dtype="float64") for part in dW]
    nonzero = np.concatenate(sizes) if any(map(len, sizes)) else np.ones(1)
    low, high = np.floor(np.log10(nonzero.min())), np.ceil(np.log10(nonzero.max()))
    edges = np.logspace(low, max(high, low + 1), BINS + 1)
    names = _layer_names(architecture)
    for i, part in enumerate(dW):
        zeros = np.mean(part == 0)
        names[i] += f"\n{zeros:.0%} are 0" if zeros else ""
    ax = axes_of(ax, height=0.5 * len(dW))
    _rows(ax, sizes, edges, names)
    ax.set(xscale="log", xlabel="|dLoss/dW|")
    return ax


def _rows(ax: Axes, values: Sequence[Array], edges: Array, names: list[str]) -> None:
    """Draw one histogram per layer, the first on top, each scaled to fill its row."""
    bottoms = np.arange(len(values))[::-1]
    colors = sequence(len(values))
    for row, bottom, color in zip(values, bottoms, colors, strict=True):
        counts, _ = np.histogram(row, edges)
        heights = bottom + 0.85 * counts / max(counts.max(), 1)
        ax.stairs(heights, edges, baseline=bottom, fill=True, color=color, alpha=0.7)
        ax.axhline(bottom, color=color, linewidth=0.8)
    ax.set_yticks(bottoms + 0.4, names, fontsize="small")
    ax.tick_params(axis="y", length=0)
    ax.set(ylabel="layer (share of its weights)", ylim=(-0.05, len(values)))
    ax.grid(alpha=0.3, axis="x")


class Column(NamedTuple):
    """The units of one layer that `graph` draws, and their heights.

    Attributes
    ----------
    size : int
        Number of units of the layer.
    units : ndarray of intp, (k,)
        Indices of those that are drawn.
    heights : ndarray of float, (k,)
        Where each is drawn, in units of the Axes.
    """

    size: int
    units: NDArray[np.intp]
    heights: Array

    @classmethod
    def of(cls, size: int, most: int) -> Column:
        """Place all units, or only the first and last ones, with a gap between them.

        Parameters
        ----------
        size : int
            Number of units of the layer.
        most : int
            Most units to draw.

        Returns
        -------
        Column
            The units and their heights.
        """
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


def graph(net: Network, *, max_units: int = 12, ax: Axes | None = None) -> Axes:
    """Draw the units and weights of a network: lines are coloured by weights, circles by biases.

    Parameters
    ----------
    net : Network
        The network.
    max_units : int, >= 2
        Of a layer with more units only the first and last are drawn, and the picture says so.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes with the graph, layers from left to right.

    Raises
    ------
    ValueError, TypeError
        net is no Network or has weights that are not finite, max_units is not a whole number >= 2,
        or ax is no Axes.
    """
    architecture = architecture_of(net)
    most = checks.whole(max_units, "max_units", least=2)
    columns = [Column.of(size, most) for size in architecture.sizes]
    largest = max(np.abs(part).max() for part in (*net.weights, *net.biases)) or 1.0
    ax = axes_of(ax, width=1.2 * len(columns))
    lines = _draw_weights(ax, columns, net.weights, largest)
    _draw_units(ax, columns, net.biases, largest)
    ax.set_xticks(range(len(columns)), _column_names(architecture, columns))
    ax.set_yticks([])
    ax.tick_params(axis="x", length=0)
    ax.margins(0.08)
    ax.set(xlabel="layer", ylabel="units")
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(lines, ax=ax, label="weight (line), bias (circle)")
    return ax


def _draw_weights(
    ax: Axes, columns: list[Column], weights: tuple[Array, ...], largest: float
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


def _draw_units(ax: Axes, columns: list[Column], biases: tuple[Array, ...], largest: float) -> None:
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


def _column_names(architecture: Architecture, columns: list[Column]) -> list[str]:
    """Label each layer by its activation, its number of units, and how many of them are shown."""
    names = []
    for column, activation in zip(columns, ("inputs", *architecture.activations), strict=True):
        some = len(column.units) < column.size
        names.append(f"{activation}\n{column.size:,}" + f"\n({len(column.units)} shown)" * some)
    return names


def architecture_of(net: Network) -> Architecture:
    """Return the architecture of a Network whose parameters can be drawn.

    Parameters
    ----------
    net : Network
        A user's argument.

    Returns
    -------
    Architecture
        The network's.

    Raises
    ------
    ValueError, TypeError
        The argument is no Network, or its parameters are not finite.
    """
    checks.has(net, "net", "a Network", ["architecture", "weights", "predict"])
    for name, parts in (("weights", net.weights), ("biases", net.biases)):
        for i, part in enumerate(parts):
            checks.finite(part, f"net.{name}[{i}]")
    return net.architecture


def _layer_names(architecture: Architecture) -> list[str]:
    """Label layers as W[l] is indexed, with their widths."""
    pairs = zip(architecture.sizes[:-1], architecture.sizes[1:], strict=True)
    return [f"W[{i}] {n_in:,}-{n_out:,}" for i, (n_in, n_out) in enumerate(pairs)]
