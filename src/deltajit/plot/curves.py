"""Pictures of training and of predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from deltajit.model import checks
from deltajit.model.architecture import Architecture
from deltajit.model.data import checked
from deltajit.model.memory import Array
from deltajit.plot import epochs
from deltajit.plot.axes import (
    MARKERS,
    axes_of,
    colors,
)
from deltajit.plot.parameters import architecture_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from deltajit.network import Network
    from deltajit.training.history import History


def history(
    history: History, *, log: bool = False, best: bool = True, ax: Axes | None = None
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
    return epochs.draw(history.loss, history.val_loss, log=log, best=best, ax=ax)


def decision_regions(
    net: Network, X: ArrayLike, Y: ArrayLike, *, resolution: int = 200, ax: Axes | None = None
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
    made_of = architecture_of(net)
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
    ax = axes_of(ax)
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
    picture = np.dstack([colors(n)[p.argmax(axis=-1)], 0.1 + 0.4 * sure.clip(0, 1)])
    ax.imshow(picture, origin="lower", extent=extent, aspect="auto")
    for k in range(n - 1):  # the last class meets only others
        lead = p[..., k] - np.delete(p, k, axis=-1).max(axis=-1)
        if lead.min() < 0 < lead.max():
            ax.contour(x, y, lead, levels=[0], colors="black", linewidths=0.8)


def _draw_samples(ax: Axes, X: Array, classes: Array, n: int) -> None:
    """A colour and a marker each class; the legend stands beside the picture, not on samples."""
    for k, color in enumerate(colors(n)):
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


def regression(net: Network, X: ArrayLike, Y: ArrayLike, *, ax: Axes | None = None) -> Axes:
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
    made_of = architecture_of(net)
    if made_of.sizes[0] > 1:
        return predicted_against_true(net, X, Y, ax=ax)
    samples, targets = _regression_data(made_of, X, Y)
    ax = axes_of(ax)
    x = _span(samples[:, 0], 500, margin=0.02)
    curves = net.predict(x[:, None])
    for k, color in enumerate(colors(len(targets.T))):
        mark = f"[:, {k}]" if len(targets.T) > 1 else ""
        ax.plot(samples[:, 0], targets[:, k], ".", color=color, alpha=0.4, label=f"Y{mark}")
        ax.plot(x, curves[:, k], color=color, linewidth=2.5, label=f"predict(X){mark}")
    ax.set(xlabel="X[:, 0]", ylabel="Y")
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def predicted_against_true(
    net: Network, X: ArrayLike, Y: ArrayLike, *, ax: Axes | None = None
) -> Axes:
    """Predictions against targets, for any number of inputs; the better, the nearer the diagonal.

    Parameters
    ----------
    net, X, Y, ax
        As for `regression`.

    Returns
    -------
    matplotlib.axes.Axes
    """
    samples, targets = _regression_data(architecture_of(net), X, Y)
    ax = axes_of(ax)
    found = net.predict(samples)
    errors = np.sqrt(np.mean((found - targets) ** 2, axis=0))
    for k, color in enumerate(colors(len(targets.T))):
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
