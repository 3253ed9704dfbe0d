"""Pictures of weights, biases and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from deltajit.model import checks
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array
from deltajit.plot import units
from deltajit.plot.axes import BINS, axes_of, fitting, inches, sequence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from deltajit.network import Network

Pictured = Any  # a Network, or a fitted estimator of deltajit.sklearn, which stands above


def weight_histograms(net: Pictured, *, ax: Axes | None = None) -> Axes:
    """Draw how the weights of each layer are distributed, the first layer on top.

    Parameters
    ----------
    net : Network, or fitted MLPClassifier or MLPRegressor
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
        net is no network or has weights that are not finite, or ax is no Axes.
    """
    net, architecture = network_of(net)
    largest = max(np.abs(W).max() for W in net.weights) or 1.0
    edges = np.linspace(-largest, largest, BINS + 1)
    ax = axes_of(ax, height=0.5 * len(net.weights))
    _rows(ax, net.weights, edges, _layer_names(architecture))
    ax.set(xlabel="weight")
    return ax


def gradient_histograms(
    net: Pictured, X: ArrayLike, Y: ArrayLike, *, ax: Axes | None = None
) -> Axes:
    """Draw the sizes of dLoss/dW in each layer, which show whether gradients vanish.

    The axis is logarithmic, so derivatives that are 0 (of inputs that are always 0, or of dead
    ReLUs) cannot be drawn; their share is written beside the layer.

    Parameters
    ----------
    net : Network, or fitted MLPClassifier or MLPRegressor
        The network.
    X, Y : array_like
        Samples and targets, as for `Network.loss`, or the estimator's `fit`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes with one histogram per layer, the first layer on top.

    Raises
    ------
    ValueError, TypeError
        net is no network, its weights or the gradient are not finite, X or Y does not fit it, or ax
        is no Axes.
    """
    Y = targets_of(net, Y)
    net, architecture = network_of(net)
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
        names[i] += f", {zeros:.0%} are 0" if zeros else ""
    ax = axes_of(ax, height=0.5 * len(dW))
    ax.set(xscale="log", xlabel="|dLoss/dW|")
    _rows(ax, sizes, edges, names)
    return ax


def _rows(ax: Axes, values: Sequence[Array], edges: Array, names: list[str]) -> None:
    """Draw one histogram per layer, the first on top, each scaled to fill its row.

    Names stand inside, left of all bars: labels outside are cut off on figures without a layout.
    """
    bottoms = np.arange(len(values))[::-1]
    colors = sequence(len(values))
    for row, bottom, color in zip(values, bottoms, colors, strict=True):
        counts, _ = np.histogram(row, edges)
        heights = bottom + 0.85 * counts / max(counts.max(), 1)
        ax.stairs(heights, edges, baseline=bottom, fill=True, color=color, alpha=0.7)
        ax.axhline(bottom, color=color, linewidth=0.8)
    size = fitting(0.8 * 72 * inches(ax)[1] / len(values))
    ax.set_yticks(bottoms + 0.45, names, fontsize=size, ha="left", va="center")
    ax.tick_params(axis="y", length=0, pad=-5)
    scale = ax.xaxis.get_transform()
    ends = scale.transform(edges[[0, -1]])
    gutter = (10 + 0.62 * size * max(map(len, names))) / 72 / inches(ax)[0]
    left = ends[0] - min(gutter / (1 - gutter), 1) * (ends[1] - ends[0])
    ax.set_xlim(*scale.inverted().transform([left, ends[1]]))
    ax.set(ylabel="layer (share of its weights)", ylim=(-0.05, len(values)))
    ax.grid(alpha=0.3, axis="x")


def graph(
    net: Pictured,
    *,
    max_units: int = 12,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the units and weights of a network: lines are coloured by weights, circles by biases.

    Of a network with few weights, their values stand on the lines.

    Parameters
    ----------
    net : Network, or fitted MLPClassifier or MLPRegressor
        The network.
    max_units : int, >= 2
        Of a layer with more units only the first and last are drawn, and the picture says so.
    input_names, output_names : sequence of str, optional
        Names of the features and of the classes or targets, to write beside their units. By
        default those that the network, or a fitted estimator, has.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes with the graph, layers from left to right.

    Raises
    ------
    ValueError, TypeError
        net is no network or has weights that are not finite, max_units is not a whole number >= 2,
        there is not one name for each input or output, or ax is no Axes.
    """
    net, its = network_of(net)
    if input_names is None:
        input_names = its.input_names
    if output_names is None and len(its.class_names or ()) == its.sizes[-1]:
        output_names = its.class_names
    names = (
        _unit_names(input_names, "input_names", its.sizes[0]),
        _unit_names(output_names, "output_names", its.sizes[-1]),
    )
    return units.draw(its, net.weights, net.biases, max_units=max_units, names=names, ax=ax)


def _unit_names(names: Sequence[str] | None, argument: str, count: int) -> list[str]:
    """Check that there is one name for each unit; no names at all are empty ones."""
    if names is None:
        return [""] * count
    if isinstance(names, str) or len(names) != count:
        raise ValueError(f"{argument} must be {count} names, got {names!r}")
    return [str(name) for name in names]


def network_of(net: Pictured) -> tuple[Network, Architecture]:
    """Return the network of a fitted estimator, or a Network itself, if parameters are finite."""
    if hasattr(net, "to_network"):
        net = net.to_network()
    checks.has(net, "net", "a Network or a fitted estimator", ["architecture", "weights"])
    for name, parts in (("weights", net.weights), ("biases", net.biases)):
        for i, part in enumerate(parts):
            checks.finite(part, f"net.{name}[{i}]")
    return net, net.architecture


def targets_of(net: Pictured, Y: ArrayLike) -> ArrayLike:
    """Return the labels 0, 1, ... of a fitted classifier's classes; other targets as they are."""
    classes, labels = getattr(net, "classes_", None), checks.asarray(Y, "Y")
    if classes is None or labels.ndim != 1:
        return Y
    known = np.isin(labels, classes)
    if not known.all():
        raise ValueError(f"Y has {labels[~known][0]!r}, which is none of the classes {classes}")
    return np.searchsorted(classes, labels)


def _layer_names(architecture: Architecture) -> list[str]:
    """Label layers as W[l] is indexed, with their widths."""
    pairs = zip(architecture.sizes[:-1], architecture.sizes[1:], strict=True)
    return [f"W[{i}] {n_in:,}-{n_out:,}" for i, (n_in, n_out) in enumerate(pairs)]
