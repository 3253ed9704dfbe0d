"""Pictures of a network and of its training, by matplotlib, which only a picture imports.

Every function draws on the Axes `ax`, or on a new figure without one, and returns the Axes, so
that titles and labels are yours to change. Colours are those that colour-blind readers tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltajit.model import checks
from deltajit.model.architecture import Architecture
from deltajit.model.data import checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]

# Okabe and Ito (2008): blue, vermilion, green, purple, orange, sky blue, black.
PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"
MARKERS = "osD^vP*X<>"
BINS = 50


class Losses(Protocol):
    """What is drawn of a `History`, which stands above this module."""

    loss: list[Any]
    val_loss: list[Any]


class Net(Protocol):
    """What is drawn of a `Network`, which stands above this module."""

    @property
    def architecture(self) -> Architecture:
        """Sizes and activations."""

    @property
    def weights(self) -> tuple[Array, ...]:
        """W[l] (n_l, n_{l-1}) of each layer."""

    @property
    def biases(self) -> tuple[Array, ...]:
        """b[l] (n_l,) of each layer."""

    def predict(self, X: ArrayLike) -> Array:
        """Outputs (B, n_out)."""

    def grad(self, X: ArrayLike, Y: ArrayLike) -> Array:
        """Gradient (n_params,)."""

    def unflatten(self, grad: ArrayLike) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """(dW, db) of each layer."""


# -------------------------------------------------------------------- training


def history(
    history: Losses, *, log: bool = False, best: bool = True, ax: Axes | None = None
) -> Axes:
    """Loss and validation loss against the epoch, counted from 1.

    Parameters
    ----------
    history : History
        As `fit` returns it. Of an `Ensemble`, the median over its members is drawn, and the band
        between the 10th and the 90th percentile.
    log : bool
        Logarithmic losses.
    best : bool
        Mark the epoch of the smallest validation loss, or of the smallest loss without one.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    checks.has(history, "history", "a History", ["loss", "val_loss"])
    pairs = ("loss", history.loss), ("val_loss", history.val_loss)
    curves = {name: np.array(values, float) for name, values in pairs if len(values)}
    if "loss" not in curves:
        raise ValueError("history has no epochs")
    if log and not all((values > 0).any() for values in curves.values()):
        raise ValueError("log=True needs losses above 0, and history has none")
    ax = _axes(ax)
    for color, (name, values) in zip(PALETTE, curves.items(), strict=False):
        middle = _curve(ax, values, color, name)
    if best:  # of the last curve, which is val_loss where there is one
        epoch = int(np.nanargmin(middle))
        label = f"best epoch: {epoch + 1} ({middle[epoch]:.4g})"
        ax.plot(epoch + 1, middle[epoch], "o", color="black", fillstyle="none", label=label)
    ax.set(xlabel="epoch", ylabel="loss", yscale="log" if log else "linear")
    ax.xaxis.set_major_locator(_whole_numbers())
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def _whole_numbers() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)


def _curve(ax: Axes, values: Array, color: str, name: str) -> Array:
    """One line, with a band where there are many members; returns the line's heights."""
    epochs = np.arange(1, len(values) + 1)
    middle = values
    if values.ndim == 2:  # NaN is a member that has stopped
        low, middle, high = np.nanquantile(values, [0.1, 0.5, 0.9], axis=1)
        ax.fill_between(epochs, low, high, color=color, alpha=0.2, linewidth=0)
        name = f"{name}, median of {values.shape[1]:,}"
    marker = "." if len(epochs) == 1 else None  # a line through one point can't be seen
    ax.plot(epochs, middle, color=color, label=name, marker=marker)
    return middle


# -------------------------------------------------------------------- predictions


def decision_regions(
    net: Net, X: ArrayLike, Y: ArrayLike, *, resolution: int = 200, ax: Axes | None = None
) -> Axes:
    """Which class a classifier of two inputs sees where, the stronger the surer, and samples.

    Parameters
    ----------
    net : Network
        With 2 inputs, and a softmax or one sigmoid as its output.
    X : array_like, (B, 2)
    Y : array_like
        As for `Network.loss`.
    resolution : int
        Predictions along each side of the picture.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    made_of = _architecture(net)
    n_in, n_out, output = made_of.sizes[0], made_of.sizes[-1], made_of.activations[-1]
    if n_in != 2:
        raise ValueError(f"net must have 2 inputs for decision regions, got {n_in}")
    if output != "softmax" and (output, n_out) != ("sigmoid", 1):
        raise ValueError(
            f"net must be a classifier, of a softmax or one sigmoid, for decision regions; "
            f"got {n_out} x {output}"
        )
    points = checks.whole(resolution, "resolution", least=2)
    data = checked(made_of, X, Y, None, finite=True)
    ax = _axes(ax)
    edges = [_span(column, points + 1, margin=0.1) for column in data.X.T]
    x, y = ((edge[1:] + edge[:-1]) / 2 for edge in edges)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    p = _probabilities(net.predict(grid)).reshape(points, points, -1)
    _draw_regions(ax, x, y, p, (*edges[0][[0, -1]], *edges[1][[0, -1]]))
    _draw_samples(ax, data.X, _classes(data.Y), p.shape[-1])
    ax.set(xlabel="X[:, 0]", ylabel="X[:, 1]")
    return ax


def _draw_regions(ax: Axes, x: Array, y: Array, p: Array, extent: Any) -> None:
    """The likeliest class's colour, and lines where two are equally likely."""
    n = p.shape[-1]
    sure = (p.max(axis=-1) - 1 / n) / (1 - 1 / n)
    picture = np.dstack([_colors(n)[p.argmax(axis=-1)], 0.1 + 0.4 * sure.clip(0, 1)])
    ax.imshow(picture, origin="lower", extent=extent, aspect="auto")
    for k in range(n - 1):  # the last class meets only others
        lead = p[..., k] - np.delete(p, k, axis=-1).max(axis=-1)
        if lead.min() < 0 < lead.max():
            ax.contour(x, y, lead, levels=[0], colors="black", linewidths=0.8)


def _draw_samples(ax: Axes, X: Array, classes: Array, n: int) -> None:
    """A colour and a marker each class; the legend stands beside the picture, not on samples."""
    for k, color in enumerate(_colors(n)):
        ax.scatter(
            X[classes == k, 0],
            X[classes == k, 1],
            s=18,
            color=color,
            marker=MARKERS[k % len(MARKERS)],
            edgecolors="white",
            linewidths=0.4,
            label=f"{k}",
        )
    ax.legend(
        title="class", loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, frameon=False
    )


def regression(net: Net, X: ArrayLike, Y: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Samples and the curve through them; with more than one input, `predicted_against_true`.

    Parameters
    ----------
    net : Network
    X : array_like, (B, n_in)
    Y : array_like, (B, n_out), also (B,) if n_out is 1
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    made_of = _architecture(net)
    if made_of.sizes[0] > 1:
        return predicted_against_true(net, X, Y, ax=ax)
    samples, targets = _regression_data(made_of, X, Y)
    ax = _axes(ax)
    x = _span(samples[:, 0], 500, margin=0.02)
    curves = net.predict(x[:, None])
    for k, color in enumerate(_colors(len(targets.T))):
        mark = f"[:, {k}]" if len(targets.T) > 1 else ""
        ax.plot(samples[:, 0], targets[:, k], ".", color=color, alpha=0.4, label=f"Y{mark}")
        ax.plot(x, curves[:, k], color=color, linewidth=2.5, label=f"predict(X){mark}")
    ax.set(xlabel="X[:, 0]", ylabel="Y")
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def predicted_against_true(net: Net, X: ArrayLike, Y: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Predictions against targets, for any number of inputs; the better, the nearer the diagonal.

    Parameters
    ----------
    net, X, Y, ax
        As for `regression`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    samples, targets = _regression_data(_architecture(net), X, Y)
    ax = _axes(ax)
    found = net.predict(samples)
    errors = np.sqrt(np.mean((found - targets) ** 2, axis=0))
    for k, color in enumerate(_colors(len(targets.T))):
        label = f"output {k}, RMSE {errors[k]:.3g}"
        ax.plot(targets[:, k], found[:, k], ".", color=color, alpha=0.5, label=label)
    ends = _span(np.concatenate([targets, found]), 2, margin=0.05)
    ax.plot(ends, ends, color="black", linewidth=0.8, label="equal")
    ax.set(xlabel="true", ylabel="predicted", aspect="equal", xlim=ends, ylim=ends)
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def _regression_data(made_of: Architecture, X: ArrayLike, Y: ArrayLike) -> tuple[Array, Array]:
    """Samples and targets; class labels are no regression."""
    if made_of.loss == "cross_entropy":
        raise ValueError("net must be a regressor, got one with loss='cross_entropy'")
    data = checked(made_of, X, Y, None, finite=True)
    return data.X, data.Y


# -------------------------------------------------------------------- parameters


def weight_histograms(net: Net, *, ax: Axes | None = None) -> Axes:
    """How the weights of each layer are distributed, a row a layer, from the inputs down.

    Parameters
    ----------
    net : Network
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    made_of = _architecture(net)
    largest = max(np.abs(W).max() for W in net.weights) or 1.0
    edges = np.linspace(-largest, largest, BINS + 1)
    ax = _axes(ax, height=0.5 * len(net.weights))
    _rows(ax, net.weights, edges, _layer_names(made_of))
    ax.set(xlabel="weight")
    return ax


def gradient_histograms(net: Net, X: ArrayLike, Y: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """How large the loss's derivatives by each layer's weights are: do they vanish on their way?

    The axis is logarithmic, so zeros (of inputs that are always 0, or of dead ReLUs) have no place
    on it: their share stands beside the layer.

    Parameters
    ----------
    net : Network
    X, Y : array_like
        As for `Network.loss`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    made_of = _architecture(net)
    dW, _ = net.unflatten(net.grad(X, Y))
    for i, part in enumerate(dW):
        checks.finite(part, f"the gradient dW[{i}] of net at X, Y")
    sizes = [np.abs(part[part != 0], dtype="float64") for part in dW]
    found = np.concatenate(sizes) if any(map(len, sizes)) else np.ones(1)
    low, high = np.floor(np.log10(found.min())), np.ceil(np.log10(found.max()))
    edges = np.logspace(low, max(high, low + 1), BINS + 1)
    names = _layer_names(made_of)
    for i, part in enumerate(dW):
        zeros = np.mean(part == 0)
        names[i] += f"\n{zeros:.0%} are 0" if zeros else ""
    ax = _axes(ax, height=0.5 * len(dW))
    _rows(ax, sizes, edges, names)
    ax.set(xscale="log", xlabel="|dLoss/dW|")
    return ax


def _rows(ax: Axes, values: Sequence[Array], edges: Array, names: list[str]) -> None:
    """A histogram each, one above the other, the first on top; each fills its own row."""
    bottoms = np.arange(len(values))[::-1]
    colors = _sequence(len(values))
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
    """The units of one layer that `graph` draws, and at what heights."""

    size: int
    units: NDArray[np.intp]
    heights: Array

    @classmethod
    def of(cls, size: int, most: int) -> Column:
        """All units, or the first and the last with one place left free between them."""
        units = np.arange(size)
        places = units
        if size > most:
            first = (most + 1) // 2
            places = np.delete(np.arange(most + 1), first)
            units = np.concatenate([units[:first], units[first - most :]])
        return cls(size, units, places[-1] / 2 - places)

    def gap(self) -> Array:
        """Heights of three dots for what is left out."""
        above = np.flatnonzero(np.diff(self.units) > 1)
        return (self.heights[above, None] - [0.7, 1.0, 1.3]).ravel()


def graph(net: Net, *, max_units: int = 12, ax: Axes | None = None) -> Axes:
    """The network's units and weights: lines are coloured by weights, circles by biases.

    Parameters
    ----------
    net : Network
    max_units : int
        Of a layer with more units only the first and last are drawn, and the picture says so.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    made_of = _architecture(net)
    most = checks.whole(max_units, "max_units", least=2)
    columns = [Column.of(size, most) for size in made_of.sizes]
    largest = max(np.abs(part).max() for part in (*net.weights, *net.biases)) or 1.0
    ax = _axes(ax, width=1.2 * len(columns))
    lines = _draw_weights(ax, columns, net.weights, largest)
    _draw_units(ax, columns, net.biases, largest)
    ax.set_xticks(range(len(columns)), _column_names(made_of, columns))
    ax.set_yticks([])
    ax.tick_params(axis="x", length=0)
    ax.margins(0.08)
    ax.set(xlabel="layer", ylabel="units")
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(lines, ax=ax, label="weight (line), bias (circle)")
    return ax


def _draw_weights(ax: Axes, columns: list[Column], weights: tuple[Array, ...], largest: Any) -> Any:
    """All lines as one collection, the largest weights on top."""
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


def _draw_units(ax: Axes, columns: list[Column], biases: tuple[Array, ...], largest: Any) -> None:
    """Circles, white ones for inputs, and dots for units that are left out."""
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


def _column_names(made_of: Architecture, columns: list[Column]) -> list[str]:
    """What each layer is, how many units it has, and how many of them are shown."""
    names = []
    for column, activation in zip(columns, ("inputs", *made_of.activations), strict=True):
        some = len(column.units) < column.size
        names.append(f"{activation}\n{column.size:,}" + f"\n({len(column.units)} shown)" * some)
    return names


# -------------------------------------------------------------------- a circuit


class Nodes(Protocol):
    """What is drawn of a `Trace`, which stands above this module."""

    @property
    def steps(self) -> list[Any]:
        """Nodes: name, text, value, operands, derivatives, adjoint."""

    @property
    def output(self) -> str:
        """The node that the adjoints are of."""


MOST_NODES = 80


def circuit(trace: Nodes, *, ax: Axes | None = None) -> Axes:
    """A circuit at one point, inputs on the left: values in boxes, adjoints below them.

    Beside each line is the derivative of the node on its right by the one on its left; an adjoint
    is the sum, over all ways to the output, of the products of these.

    Parameters
    ----------
    trace : Trace
        As `Circuit.trace` returns it, of at most 80 nodes.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    steps = trace.steps
    if len(steps) > MOST_NODES:
        raise ValueError(
            f"a picture of {len(steps)} nodes can't be read (limit {MOST_NODES}); use print(trace)"
        )
    places = _places(steps)
    columns = max(x for x, _ in places.values()) + 1
    rows = max(abs(y) for _, y in places.values()) * 2 + 1
    ax = _axes(ax, width=1.9 * columns, height=1.1 * rows)
    for step in steps:
        for name, slope in zip(step.operands, step.derivatives, strict=True):
            _draw_line(ax, places[name], places[step.name], f"{slope:.3g}")
    for step in steps:
        _draw_node(ax, places[step.name], step)
    low, high = (0.0, 0.0) if len(steps) == 1 else ax.dataLim.intervaly
    ax.set(xlim=(-0.6, columns - 0.4))
    ax.set(ylim=(min(low - 0.2, -rows / 2 - 0.2), max(high + 0.2, rows / 2 + 0.2)))
    ax.set_title(
        f"values (black), derivatives of {trace.output} by each node (below the boxes)", fontsize=10
    )
    ax.set_axis_off()
    return ax


def _places(steps: list[Any]) -> dict[str, tuple[int, float]]:
    """(column, height) of each node: one to the right of the last one that it needs."""
    depth: dict[str, int] = {}
    for step in steps:
        depth[step.name] = 1 + max((depth[name] for name in step.operands), default=-1)
    places: dict[str, tuple[int, float]] = {}
    for column in range(max(depth.values()) + 1):
        here = [name for name in depth if depth[name] == column]
        for i, name in enumerate(here):
            places[name] = column, (len(here) - 1) / 2 - i
    return places


def _draw_line(ax: Axes, left: tuple[int, float], right: tuple[int, float], text: str) -> None:
    """A line below the boxes, its derivative before the right one; past other columns in a bow."""
    ends, columns = np.array([left, right], float), right[0] - left[0]
    t = np.linspace(0, 1, 33)[:, None]
    outward = -1 if left[1] + right[1] < 0 else 1
    bow = np.array([0.0, min(0.35 * (columns - 1), 1.5) * outward])
    line = (1 - t) * ends[0] + t * ends[1] + 4 * t * (1 - t) * bow
    ax.plot(*line.T, color="0.6", linewidth=1, zorder=1)
    share = 1 - 0.5 / columns
    place = (1 - share) * ends[0] + share * ends[1] + 4 * share * (1 - share) * bow
    ax.text(
        place[0],
        place[1],
        text,
        color=PALETTE[0],
        fontsize=8,
        ha="center",
        va="center",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )


def _draw_node(ax: Axes, place: tuple[int, float], step: Any) -> None:
    """A box with the node's name, what it is and its value, and its adjoint below."""
    what = f"{step.name} = {step.text}" if step.text else step.name
    ax.text(
        *place,
        f"{what}\n{step.value:.4g}",
        fontsize=9,
        ha="center",
        va="center",
        bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": "black"},
    )
    ax.annotate(
        f"{step.adjoint:.4g}",
        place,
        (0, -20),
        textcoords="offset points",
        color=PALETTE[1],
        fontsize=9,
        ha="center",
        va="top",
    )


# -------------------------------------------------------------------- helpers


def _axes(ax: Axes | None, width: float = 0, height: float = 0) -> Axes:
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


def _architecture(net: Net) -> Architecture:
    """Of a Network whose parameters can be drawn."""
    checks.has(net, "net", "a Network", ["architecture", "weights", "predict"])
    for name, parts in (("weights", net.weights), ("biases", net.biases)):
        for i, part in enumerate(parts):
            checks.finite(part, f"net.{name}[{i}]")
    return net.architecture


def _layer_names(made_of: Architecture) -> list[str]:
    """Layers as they are counted in W[l], with their widths."""
    pairs = zip(made_of.sizes[:-1], made_of.sizes[1:], strict=True)
    return [f"W[{i}] {n_in:,}-{n_out:,}" for i, (n_in, n_out) in enumerate(pairs)]


def _probabilities(outputs: Array) -> Array:
    """One column a class: one sigmoid is the second class's probability."""
    return np.hstack([1 - outputs, outputs]) if outputs.shape[-1] == 1 else outputs


def _classes(Y: Array) -> Array:
    """The class of each sample, from labels (B, 1) or rows of probabilities."""
    found: Array = np.rint(Y[:, 0]) if Y.shape[-1] == 1 else Y.argmax(axis=-1)
    return found


def _span(x: Array, points: int, margin: float) -> Array:
    """Evenly from the smallest to the largest element, and a share of their distance beyond."""
    low, high = float(x.min()), float(x.max())
    beyond = margin * (high - low) or 1.0
    return np.linspace(low - beyond, high + beyond, points)


def _colors(n: int) -> Array:
    """(n, 3) colours of things without an order."""
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(name) for name in PALETTE[:n]]) if n <= len(PALETTE) else _sequence(n)


def _sequence(n: int) -> Array:
    """(n, 3) colours of things in order, such as layers."""
    from matplotlib import colormaps

    return np.asarray(colormaps[SEQUENTIAL](np.linspace(0, 0.9, n)))[:, :3]
