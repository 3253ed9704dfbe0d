"""Pictures that follow a network while it learns, by Bokeh: each is made once, and updated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker, Range1d
from bokeh.palettes import Viridis256
from bokeh.plotting import figure

from deltajit import reference
from deltajit.model.memory import Array
from deltajit.network import Network
from deltajit.playground.datasets import Samples
from deltajit.playground.run import shares
from deltajit.playground.trainer import Curve
from deltajit.plot.axes import PALETTE

# Classes: red and green first, as points by hand have them, of Okabe and Ito's; shapes help too.
CLASS_COLORS = [PALETTE[i] for i in (1, 2, 0, 4, 3, 5, 6)] + ["#777777", "#882255", "#44aa99"]
MARKERS = ["circle", "square", "triangle", "diamond", "star", "hex", "plus", "cross", "x", "y"]
POSITIVE, NEGATIVE = PALETTE[0], PALETTE[1]
GRID, BINS, MOST_POINTS = 100, 40, 3000
# Pixels of a unit's picture, and below it: 3/4 of a unit's place.
THUMBNAIL, GAP = 18, 6
# Units of a layer that the graph draws.
MOST_DRAWN = 16


def rgb(colors: list[str]) -> Array:
    """(n, 3) numbers from 0 to 255."""
    return np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colors], float)


def table(*columns: str, name: str | None = None) -> ColumnDataSource:
    """Make a source of empty columns."""
    return ColumnDataSource({column: [] for column in columns}, name=name)


def fill(source: ColumnDataSource, rows: Iterable[Sequence[Any]] = ()) -> None:
    """Put these rows into a source, in place of what it has."""
    rows = [*rows]
    source.data = {column: [row[i] for row in rows] for i, column in enumerate(source.data)}


VIRIDIS = rgb(list(Viridis256))


def rgba(colors: Array) -> Array:
    """Colours (..., 3) as the words that Bokeh's images are of."""
    image = np.full((*colors.shape[:-1], 4), 255, np.uint8)
    image[..., :3] = np.clip(np.nan_to_num(colors), 0, 255)
    return image.view(np.uint32)[..., 0]


def _diverging() -> Array:
    """Colours of the numbers from -1 to 1, as words."""
    share = np.linspace(-1, 1, 511)[:, None]
    end = np.where(share < 0, rgb([NEGATIVE]), rgb([POSITIVE]))
    return rgba(255 + np.abs(share) * (end - 255))


DIVERGING = _diverging()


def diverging(values: Array) -> Array:
    """Colours of each column of values (n, m), white where it is 0, as words."""
    values = np.nan_to_num(values)
    largest = np.abs(values).max(axis=0)
    return np.asarray(
        DIVERGING[(255.5 + 255 * values / np.where(largest > 0, largest, 1)).astype(int)]
    )


class Window:
    """The part of the input space that is seen: two inputs, or one; the others are 0.

    at : which inputs are the axes; a second one is missing where there is one input alone.
    """

    def __init__(self, samples: Samples, at: tuple[int, ...]) -> None:
        self.samples, self.at = samples, at
        self.x = self._range(samples.X[:, at[0]])
        if len(at) == 2:
            self.y = self._range(samples.X[:, at[1]])
        elif samples.classes:
            self.y = (-0.5, len(samples.classes) - 0.5)
        else:
            self.y = self._range(samples.Y[:, 0])

    @staticmethod
    def _range(values: Array) -> tuple[float, float]:
        low, high = (float(values.min()), float(values.max())) if values.size else (-3.0, 3.0)
        middle, half = (low + high) / 2, max((high - low) / 2, 0.5) * 1.1
        return middle - half, middle + half

    def grid(self, n: int) -> Array:
        """Inputs (n * n, n_in), row by row from below, or (n, n_in) on a line."""
        x = np.linspace(*self.x, n)
        if len(self.at) == 1:
            points = x[:, None]
        else:
            columns, rows = np.meshgrid(x, np.linspace(*self.y, n))
            points = np.stack([columns.ravel(), rows.ravel()], axis=1)
        X = np.zeros((len(points), self.samples.X.shape[1]))
        X[:, list(self.at)] = points
        return X

    def image(self, values: Array, n: int) -> Array:
        """Values at the points of `grid` as rows of pixels."""
        shape = (n, n, *values.shape[1:])
        return values.reshape(shape) if len(self.at) == 2 else np.broadcast_to(values, shape)

    def box(self) -> dict[str, list[float]]:
        """Where an image of it lies."""
        return {
            "x": [self.x[0]], "y": [self.y[0]],
            "dw": [self.x[1] - self.x[0]], "dh": [self.y[1] - self.y[0]],
        }  # fmt: skip


class Plane:
    """Samples, and what the network makes of all points around them."""

    def __init__(self) -> None:
        self.figure = figure(
            width=400, height=400, x_range=Range1d(-3, 3), y_range=Range1d(-3, 3),
            toolbar_location=None, tools="", name="plane", min_border=5,
        )  # fmt: skip
        self.image = table("image", "x", "y", "dw", "dh", name="regions")
        self.points = table("x", "y", "color", "marker", "alpha", name="samples")
        self.curve = table("x", "y", "low", "high", name="curve")
        self.line = table("x", "y")
        self.figure.image_rgba(
            image="image", x="x", y="y", dw="dw", dh="dh", source=self.image, level="image"
        )
        self.dots = self.figure.scatter(
            "x", "y", marker="marker", fill_color="color", line_color="black", fill_alpha="alpha",
            size=8, line_width=0.8, source=self.points,
        )  # fmt: skip
        self.dots.nonselection_glyph = None
        self.figure.varea("x", "low", "high", source=self.curve, color=PALETTE[3], alpha=0.25)
        self.figure.line("x", "y", source=self.curve, line_width=3, color=PALETTE[3])
        self.figure.line("x", "y", source=self.line, line_width=3, color="black", line_dash="6 3")
        self.figure.grid.visible = False

    def show(self, window: Window) -> None:
        """Show other samples."""
        self.window, samples = window, window.samples
        for own, wanted in ((self.figure.x_range, window.x), (self.figure.y_range, window.y)):
            own.update(start=wanted[0], end=wanted[1])
        self.figure.xaxis.axis_label = samples.names[window.at[0]]
        self.figure.yaxis.axis_label = self._y_name()
        self.figure.yaxis.ticker = self.figure.xaxis.ticker
        some = np.arange(len(samples.X))[:: -(-len(samples.X) // MOST_POINTS) or 1]
        X, Y = samples.X[some], samples.Y[some]
        self.points.data = {
            "x": X[:, window.at[0]],
            "y": X[:, window.at[1]] if len(window.at) == 2 else Y.reshape(-1).astype(float),
            "color": self._colors(Y),
            "marker": [MARKERS[k] for k in Y] if samples.classes else ["circle"] * len(X),
            "alpha": np.where(some < samples.n_train, 1.0, 0.25),
        }
        fill(self.line)

    def _y_name(self) -> str:
        names, at = self.window.samples.names, self.window.at
        if len(at) == 2:
            return names[at[1]]
        return "class" if self.window.samples.classes else names[-1]

    def _colors(self, Y: Array) -> list[str]:
        if self.window.samples.classes:
            return [CLASS_COLORS[k] for k in Y]
        if len(self.window.at) == 1:
            return [PALETTE[0]] * len(Y)
        return [Viridis256[i] for i in self._heights(Y[:, 0])]

    def _heights(self, values: Array) -> Array:
        """Numbers as places in the colour map of the targets."""
        Y = self.window.samples.Y
        share = (values - Y.min()) / (np.ptp(Y) or 1.0)
        return np.asarray(np.clip(np.nan_to_num(share) * 255, 0, 255).astype(int))

    def clear(self) -> None:
        """Show that nothing has been learned."""
        for source in (self.image, self.curve):
            fill(source)

    def update(self, net: Network) -> None:
        """Show what the network has learned."""
        window = self.window
        outputs = net.predict(window.grid(GRID))
        curve: dict[str, Any] = {"x": [], "y": [], "low": [], "high": []}
        image: dict[str, Any] = {name: [] for name in self.image.data}
        if window.samples.classes:
            mixed = shares(outputs) @ rgb(CLASS_COLORS)[: len(window.samples.classes)]
            pale = 255 - 0.6 * (255 - window.image(mixed, GRID))
            image = {"image": [rgba(pale)], **window.box()}
        elif len(window.at) == 2:
            colors = VIRIDIS[self._heights(window.image(outputs[:, 0], GRID))]
            image = {"image": [rgba(colors)], **window.box()}
        else:
            spread = np.sqrt(outputs[:, 1]) if outputs.shape[1] == 2 else 0.0
            middle = outputs[:, 0]
            curve = {"x": window.grid(GRID)[:, window.at[0]], "y": middle}
            curve |= {"low": middle - 2 * spread, "high": middle + 2 * spread}
        self.image.data, self.curve.data = image, curve


class Losses:
    """Losses of epochs, of training and of held-out samples; logarithmic or not."""

    def __init__(self) -> None:
        self.source = table("epoch", "loss", "held out", name="losses")
        self.figures = [self._figure("linear"), self._figure("log")]
        self.figures[0].visible = False

    def _figure(self, scale: Any) -> Any:
        fig = figure(
            width=560, height=420, y_axis_type=scale, x_axis_label="epoch", y_axis_label="loss",
            toolbar_location=None, tools="", output_backend="canvas",
        )  # fmt: skip
        for name, color, dash in (("loss", PALETTE[0], "solid"), ("held out", PALETTE[1], "6 2")):
            options = dict(source=self.source, color=color, line_dash=dash, line_width=2)
            fig.line("epoch", name, legend_label=name, **options)
        return fig

    def update(self, curve: Curve) -> None:
        """Show the curve as it is now."""
        n = min(len(curve.epochs), len(curve.losses))
        losses = np.array(curve.losses[:n], float).reshape(-1, 2)
        self.source.data = {
            "epoch": np.array(curve.epochs[:n], float), "loss": losses[:, 0],
            "held out": losses[:, 1],
        }  # fmt: skip


class Graph:
    """The network: lines by weights, and each unit's response over the plane as a small picture."""

    def __init__(self) -> None:
        self.figure = figure(
            width=560, height=330, x_range=Range1d(-0.5, 3.5), y_range=Range1d(-4.5, 4.5),
            toolbar_location=None, tools="", name="graph", min_border=5,
        )  # fmt: skip
        self.lines = table("x0", "y0", "x1", "y1", "color", "width")
        self.units = table("image", "x", "y", "dw", "dh")
        self.frames = table("x", "y", "w", "h", "color")
        self.texts = table("x", "y", "text", "color", "base", name="texts")
        self.figure.segment(
            "x0", "y0", "x1", "y1", line_color="color", line_width="width", line_alpha=0.7,
            source=self.lines,
        )  # fmt: skip
        self.figure.image_rgba(image="image", x="x", y="y", dw="dw", dh="dh", source=self.units)
        self.figure.rect(
            "x", "y", "w", "h", fill_alpha=0, line_color="color", line_width=2, source=self.frames
        )
        self.figure.text(
            "x", "y", "text", text_color="color", text_font_size="11px", text_align="center",
            text_baseline="base", background_fill_color="white", background_fill_alpha=0.8,
            source=self.texts,
        )  # fmt: skip
        self.figure.grid.visible = False
        self.figure.yaxis.visible = False

    def show(self, net: Network, window: Window) -> None:
        """Show another network."""
        self.window, self.layers = window, []
        for size in net.sizes:
            n = min(size, MOST_DRAWN)
            units = np.arange(n) if size == n else np.r_[: n // 2, size - n // 2 : size]
            self.layers.append((units, (n - 1) / 2 - np.arange(n)))
        rows = max(len(units) for units, _ in self.layers)
        L = len(net.sizes) - 1
        self.figure.x_range.update(start=-0.5, end=L + 0.5)
        self.figure.y_range.update(start=-rows / 2 - 0.2, end=rows / 2 + 0.2)
        self.size = min(0.35, 0.75 / rows * (L + 1) * 0.62), 0.75
        names = [f"inputs, {net.sizes[0]}"]
        names += [
            f"{f}, {n}" for f, n in zip(net.architecture.activations, net.sizes[1:], strict=True)
        ]
        self.figure.xaxis.ticker = FixedTicker(ticks=list(range(L + 1)))
        self.figure.xaxis.major_label_overrides = dict(enumerate(names))
        self.forget()

    def place_of(self, x: float, y: float) -> tuple[int, int] | None:
        """The unit (layer, number) that is drawn there, if any is."""
        layer = round(x)
        if not 0 <= layer < len(self.layers):
            return None
        units, heights = self.layers[layer]
        nearest = int(np.abs(heights - y).argmin())
        is_near = abs(heights[nearest] - y) < 0.5 and abs(x - layer) < self.size[0]
        return (layer, int(units[nearest])) if is_near else None

    def forget(self) -> None:
        """Take numbers and black frames away."""
        fill(self.texts)
        self.frame(None)

    def frame(self, active: Any) -> None:
        """Frame all units, those of a layer, or one (layer, unit), in black."""
        places = [
            (layer, unit, height)
            for layer, (units, heights) in enumerate(self.layers)
            for unit, height in zip(units.tolist(), heights, strict=True)
        ]
        colors = ["black" if active in (i, (i, unit)) else "#bbbbbb" for i, unit, _ in places]
        fill(
            self.frames,
            [(i, y, *self.size, c) for (i, _, y), c in zip(places, colors, strict=True)],
        )

    def update(self, net: Network) -> None:
        """Show the weights, and the responses of the units."""
        X = self.window.grid(THUMBNAIL).astype(net.dtype)
        activations = reference.forward(net.reference, X).a
        w, h = self.size
        strips = [
            (self._strip(a[:, units]), i - w / 2, heights[-1] - h / 2, w, len(units) - 1 + h)
            for i, (a, (units, heights)) in enumerate(zip(activations, self.layers, strict=True))
        ]
        fill(self.units, strips)
        self.lines.data = self._lines(net)

    def _strip(self, values: Array) -> Array:
        """The responses of a layer's units, one above the other, as one image."""
        n = values.shape[1]
        strip = np.zeros((n, THUMBNAIL + GAP, THUMBNAIL), np.uint32)
        pictures = np.moveaxis(self.window.image(diverging(values), THUMBNAIL), -1, 0)
        strip[:, :THUMBNAIL] = pictures[::-1]
        return strip.reshape(-1, THUMBNAIL)[:-GAP]

    def _lines(self, net: Network) -> dict[str, Any]:
        """All weights, from the right end of the unit before."""
        half, parts = self.size[0] / 2, []
        for layer, W in enumerate(net.weights):
            (left, starts), (right, ends) = self.layers[layer : layer + 2]
            shown = W[np.ix_(right, left)]
            width = 0.3 + 5 * np.abs(shown) / max(float(np.abs(shown).max()), 1e-9)
            y1, y0 = np.broadcast_arrays(ends[:, None], starts)
            x = np.full(shown.shape, layer + half), np.full(shown.shape, layer + 1 - half)
            parts.append((x[0], y0, x[1], y1, shown, width))
        x0, y0, x1, y1, weights, width = (
            np.concatenate([part[i].ravel() for part in parts]) for i in range(6)
        )
        color = np.where(weights >= 0, POSITIVE, NEGATIVE).tolist()
        return dict(x0=x0, y0=y0, x1=x1, y1=y1, color=color, width=width)


class Histograms:
    """How weights and gradients of each layer are distributed, a line a layer."""

    def __init__(self) -> None:
        self.parts = []
        for title in ("weights", "gradients of the loss by weights"):
            fig = figure(
                width=560, height=240, title=title, toolbar_location=None, tools="",
                y_axis_label="share", min_border=5,
            )  # fmt: skip
            source = table("xs", "ys", "color", "layer")
            fig.multi_line(
                "xs", "ys", line_color="color", line_width=2, legend_field="layer", source=source
            )
            self.parts.append((fig, source))

    def update(self, net: Network, grad: Array) -> None:
        """Show the distributions as they are now."""
        for (_, source), arrays in zip(
            self.parts, (net.weights, net.unflatten(grad)[0]), strict=True
        ):
            largest = max(float(np.abs(part).max()) for part in arrays)
            edges = np.linspace(-1, 1, BINS + 1) * (largest if 0 < largest < np.inf else 1)
            rows = []
            for layer, part in enumerate(arrays, 1):
                steps = np.r_[0, np.repeat(np.histogram(part, edges)[0] / part.size, 2), 0]
                color = CLASS_COLORS[(layer + 1) % len(CLASS_COLORS)]
                rows.append((np.repeat(edges, 2), steps, color, f"W[{layer}]"))
            fill(source, rows)
