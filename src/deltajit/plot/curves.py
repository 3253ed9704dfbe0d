"""Pictures of training and of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from deltajit.kernels import LOSSES
from deltajit.model import checks
from deltajit.model.architecture import Architecture
from deltajit.model.data import checked
from deltajit.model.memory import Array
from deltajit.plot import epochs
from deltajit.plot.axes import MARKERS, axes_of, colors
from deltajit.plot.parameters import Pictured, network_of, targets_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from deltajit.training.history import History


def history(
    history: History | Any, *, log: bool = False, best: bool = True, ax: Axes | None = None
) -> Axes:
    """Draw loss and validation loss against the epoch, counted from 1.

    Parameters
    ----------
    history : History, or a fitted MLPClassifier or MLPRegressor
        What `fit` returned, or an estimator with a `loss_curve_`. For an `Ensemble`, the median
        over its members is drawn, with a band from the 10th to the 90th percentile.
    log : bool
        Make the axis of the loss logarithmic.
    best : bool
        Mark the epoch of the smallest validation loss, or of the smallest loss without validation.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes with the curves.

    Raises
    ------
    ValueError, TypeError
        history has no epochs, or no loss above 0 for a logarithmic axis; or history or ax is of
        another type.
    """
    if hasattr(history, "loss_curve_"):
        curves = history.loss_curve_, getattr(history, "validation_loss_curve_", None) or ()
    else:
        checks.has(history, "history", "a History or a fitted estimator", ["loss", "val_loss"])
        curves = history.loss, history.val_loss
    return epochs.draw(*curves, log=log, best=best, ax=ax)


def decision_regions(
    net: Pictured, X: ArrayLike, Y: ArrayLike, *, resolution: int = 200, ax: Axes | None = None
) -> Axes:
    """Draw which class a classifier of two inputs predicts where, and the samples.

    The stronger the colour, the higher the probability of the class; lines separate classes.

    Parameters
    ----------
    net : Network or fitted MLPClassifier
        A classifier with 2 inputs, and a softmax or a single sigmoid as output.
    X : array_like, (B, 2)
        Samples.
    Y : array_like
        Classes, as for `Network.loss`, or the estimator's `fit`.
    resolution : int, >= 2
        Number of predictions along each side of the picture.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes with the regions.

    Raises
    ------
    ValueError, TypeError
        net is no such classifier or has weights that are not finite, X or Y does not fit it,
        resolution is not a whole number >= 2, or ax is no Axes.
    """
    Y = targets_of(net, Y)
    net, architecture = network_of(net)
    (n_in, *_, n_out), output = architecture.sizes, architecture.activations[-1]
    if n_in != 2:
        raise ValueError(f"net must have 2 inputs for decision regions, got {n_in}")
    if output != "softmax" and (output, n_out) != ("sigmoid", 1):
        raise ValueError(
            f"net must be a classifier, of a softmax or one sigmoid, for decision regions; "
            f"got {n_out} x {output}"
        )
    points = checks.whole(resolution, "resolution", least=2)
    data = checked(architecture, X, Y, None, finite=True)
    ax = axes_of(ax)
    edges = [_span(column, points + 1, margin=0.1) for column in data.X.T]
    x, y = ((edge[1:] + edge[:-1]) / 2 for edge in edges)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    p = net.predict(grid)
    if n_out == 1:  # a sigmoid is the probability of the second class
        p = np.hstack([1 - p, p])
    p = p.reshape(points, points, -1)
    _draw_regions(ax, x, y, p, (edges[0][0], edges[0][-1], edges[1][0], edges[1][-1]))
    names = architecture.class_names or [f"{k}" for k in range(p.shape[-1])]
    _draw_samples(ax, data.X, _classes(data.Y), names)
    ax.set(xlabel="X[:, 0]", ylabel="X[:, 1]")
    return ax


def _draw_regions(
    ax: Axes, x: Array, y: Array, p: Array, extent: tuple[float, float, float, float]
) -> None:
    """Colour each point by its likeliest class, and draw lines where two are equally likely."""
    n = p.shape[-1]
    sure = (p.max(axis=-1) - 1 / n) / (1 - 1 / n)
    picture = np.dstack([colors(n)[p.argmax(axis=-1)], 0.1 + 0.4 * sure.clip(0, 1)])
    ax.imshow(picture, origin="lower", extent=extent, aspect="auto")
    for k in range(n - 1):  # the last class has no borders but these
        lead = p[..., k] - np.delete(p, k, axis=-1).max(axis=-1)
        if lead.min() < 0 < lead.max():
            ax.contour(x, y, lead, levels=[0], colors="black", linewidths=0.8)


def _draw_samples(ax: Axes, X: Array, classes: Array, names: Sequence[str]) -> None:
    """Draw the samples, a colour and a marker per class, and a legend beside the picture."""
    if ax.figure.get_layout_engine() is None:  # which would make room for the legend
        place = ax.get_position()
        ax.set_position((place.x0, place.y0, 0.9 * place.width, place.height))
    for k, (name, color) in enumerate(zip(names, colors(len(names)), strict=True)):
        ax.scatter(
            X[classes == k, 0],
            X[classes == k, 1],
            s=18,
            color=color,
            marker=MARKERS[k % len(MARKERS)],
            edgecolors="white",
            linewidths=0.4,
            label=name,
        )
    ax.legend(
        title="class", loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, frameon=False
    )


def regression(net: Pictured, X: ArrayLike, Y: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Draw samples and predictions of a regressor against its input.

    For a network with more than one input it draws `predicted_against_true`.

    Parameters
    ----------
    net : Network or fitted MLPRegressor
        A regressor.
    X : array_like, (B, n_in)
        Samples.
    Y : array_like, (B, n_out), or (B,) if n_out is 1
        Targets.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes with the curves, one per output.

    Raises
    ------
    ValueError, TypeError
        net is a classifier of softmax outputs or has weights that are not finite, X or Y does
        not fit it, or ax is no Axes.
    """
    net, architecture = network_of(net)
    if architecture.sizes[0] > 1:
        return predicted_against_true(net, X, Y, ax=ax)
    samples, targets = _regression_data(architecture, X, Y)
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
    net: Pictured, X: ArrayLike, Y: ArrayLike, *, ax: Axes | None = None
) -> Axes:
    """Draw predictions of a regressor against targets, for any number of inputs.

    The better the predictions, the closer they are to the diagonal. The legend has each output's
    root mean squared error, in units of Y.

    Parameters
    ----------
    net : Network or fitted MLPRegressor
        A regressor.
    X : array_like, (B, n_in)
        Samples.
    Y : array_like, (B, n_out), or (B,) if n_out is 1
        Targets.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes with the points.

    Raises
    ------
    ValueError, TypeError
        net is a classifier of softmax outputs or has weights that are not finite, X or Y does
        not fit it, or ax is no Axes.
    """
    net, architecture = network_of(net)
    samples, targets = _regression_data(architecture, X, Y)
    ax = axes_of(ax)
    predicted = net.predict(samples)
    errors = np.sqrt(np.mean((predicted - targets) ** 2, axis=0))
    for k, color in enumerate(colors(len(targets.T))):
        label = f"output {k}, RMSE {errors[k]:.3g}"
        ax.plot(targets[:, k], predicted[:, k], ".", color=color, alpha=0.5, label=label)
    ends = _span(np.concatenate([targets, predicted]), 2, margin=0.05)
    ax.plot(ends, ends, color="black", linewidth=0.8, label="equal")
    ax.set(xlabel="true", ylabel="predicted", aspect="equal", xlim=ends, ylim=ends)
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def _regression_data(architecture: Architecture, X: ArrayLike, Y: ArrayLike) -> tuple[Array, Array]:
    """Check samples and targets of a regressor; refuse a network that takes class labels."""
    if LOSSES[architecture.loss].takes_labels:
        raise ValueError(f"net must be a regressor, got one with loss={architecture.loss!r}")
    data = checked(architecture, X, Y, None, finite=True)
    return data.X, data.Y


def _classes(Y: Array) -> Array:
    """Return the class of each sample, from labels (B, 1) or rows of probabilities."""
    classes: Array = np.rint(Y[:, 0]) if Y.shape[-1] == 1 else Y.argmax(axis=-1)
    return classes


def _span(x: Array, points: int, margin: float) -> Array:
    """Space points evenly over the range of x, and by `margin` of it beyond both ends."""
    low, high = float(x.min()), float(x.max())
    beyond = margin * (high - low) or 1.0
    return np.linspace(low - beyond, high + beyond, points)
