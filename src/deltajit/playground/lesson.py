"""One sample's pass through the network, equation by equation, and one unit's dot product."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from bokeh.models import FactorRange
from bokeh.plotting import figure

from deltajit.derivatives.blackboard import NetworkTrace
from deltajit.network import Network
from deltajit.playground.pictures import NEGATIVE, POSITIVE, Graph, fill, table

# Numbers of dW that there is room for, and units of a layer that have room below for their delta.
MOST_NUMBERS_ON_LINES, MOST_WITH_ROOM_BELOW = 12, 4

WHAT_TO_DO = "Click a unit: its inputs times its weights, plus its bias, is z"


class Lesson:
    """Goes through the equations of `Network.trace`, and shows what is known in the graph."""

    def __init__(self, graph: Graph, trace: NetworkTrace) -> None:
        self.graph, self.trace = graph, trace
        self.equations, self.known = trace.equations, 0
        # Weights and biases are given: they are shown with the equation that needs them.
        self._steps = [n for n, line in enumerate(trace.equations, 1) if line.name[0] not in "Wb"]

    def step(self) -> None:
        """Reveal the next equation; after the last one begin anew."""
        self.known = next((n for n in self._steps if n > self.known), self._steps[0])
        name = self.equations[self.known - 1].name
        layer = re.search(r"\[(\d+)\]", name)
        self.graph.frame(int(layer[1]) if layer else len(self.graph.layers) - 1)
        self._write({line.name for line in self.equations[: self.known]})

    @property
    def text(self) -> str:
        """The blackboard up to here."""
        shown, seen = [], 0
        for line in str(self.trace).split("\n"):
            seen += " = " in line and line[0] != " "
            if seen > self.known:
                break
            shown.append(line)
        return "\n".join(shown)

    def _write(self, known: set[str]) -> None:
        """Write what is known beside the units and the lines."""
        rows = []

        def write(x: float, y: float, text: str, base: str) -> None:
            rows.append((x, y, text, POSITIVE if base == "bottom" else NEGATIVE, base))

        width, half = self.graph.size[0], self.graph.size[1] / 2
        for i, (units, heights) in enumerate(self.graph.layers):
            for unit, y in zip(units.tolist(), heights.tolist(), strict=True):
                above = [
                    f"{name} {getattr(self.trace, name)[i][0, unit]:.3g}"
                    for name in ("z", "a")
                    if f"{name}[{i}]" in known
                ]
                write(i, y + half, "  ".join(above), "bottom")
                if f"delta[{i}]" in known:
                    text = f"δ {self.trace.delta[i][0, unit]:.3g}"
                    if len(units) > MOST_WITH_ROOM_BELOW:
                        write(i + width / 2 + 0.25, y, text, "middle")
                    else:
                        write(i, y - half, text, "top")
            if f"dW[{i}]" in known and self.trace.dW[i].size <= MOST_NUMBERS_ON_LINES:
                for (to, source), x, y in self._lines_into(i):
                    write(x, y, f"{self.trace.dW[i][to, source]:.2g}", "middle")
        fill(self.graph.texts, rows)

    def _lines_into(self, i: int) -> list[tuple[tuple[int, int], float, float]]:
        """(to, from) of each weight of a layer, and a place on its line."""
        (left, starts), (right, ends) = self.graph.layers[i - 1 : i + 1]
        places = []
        for to, end in zip(right.tolist(), ends, strict=True):
            for source, start in zip(left.tolist(), starts, strict=True):
                share = 0.38 + 0.24 * ((to + source) % 2)
                places.append(((to, source), i - 1 + share, start + share * (end - start)))
        return places


class Product:
    """Bars of one unit's dot product: inputs times weights, the bias, and z, their sum."""

    def __init__(self) -> None:
        self.source = table("term", "value", "color", name="product")
        self.figure = figure(
            width=560, height=190, x_range=FactorRange(), toolbar_location=None, tools="",
            title=WHAT_TO_DO, min_border=5,
        )  # fmt: skip
        self.figure.vbar("term", 0.8, "value", color="color", source=self.source)

    def clear(self) -> None:
        """Show that no unit is chosen."""
        fill(self.source)
        self.figure.title.text, self.figure.x_range.factors = WHAT_TO_DO, []

    def show(self, trace: NetworkTrace, layer: int, unit: int) -> None:
        """Show the dot product of a unit (layer from 1) in a trace."""
        W, inputs = trace.W[layer][unit], trace.a[layer - 1][0]
        z, b = float(trace.z[layer][0, unit]), float(trace.b[layer][unit])
        values = [*(W * inputs).tolist(), b, z]
        names = [f"{x:.2g} · {w:.2g}" for x, w in zip(inputs, W, strict=True)]
        terms = [f"{name} ({i})" for i, name in enumerate(names, 1)] + [f"b {b:.2g}", f"z {z:.3g}"]
        self.figure.x_range.factors = terms
        self.figure.xaxis.major_label_orientation = 0.8 if len(terms) > 6 else 0
        self.figure.title.text = f"layer {layer}, unit {unit + 1}: inputs times weights, b; z = sum"
        colors = [POSITIVE if value >= 0 else NEGATIVE for value in values]
        self.source.data = {"term": terms, "value": values, "color": colors}


def boundary(net: Network, unit: int, at: tuple[int, ...], ends: Any) -> dict[str, list[float]]:
    """The line z = 0 that a unit of the first hidden layer draws in the plane of two inputs."""
    w, b = net.weights[0][unit], float(net.biases[0][unit])
    (left, right), (low, high) = ends
    if len(at) == 1:
        x = -b / float(w[at[0]]) if w[at[0]] else np.nan
        return {"x": [x, x], "y": [low, high]}
    wx, wy = float(w[at[0]]), float(w[at[1]])
    if abs(wy) >= abs(wx):
        return {"x": [left, right], "y": [-(b + wx * x) / (wy or np.nan) for x in (left, right)]}
    return {"x": [-(b + wy * y) / wx for y in (low, high)], "y": [low, high]}
