"""Pictures of a network and of its training, drawn by matplotlib.

Every function draws on the Axes `ax`, or on a new figure without one, and returns the Axes, so that
titles and labels are yours to change. Colour-blind readers can tell the colours apart. matplotlib
is imported by the first picture, not by this package.
"""

from deltajit.plot.axes import DIVERGING, PALETTE, SEQUENTIAL
from deltajit.plot.curves import decision_regions, history, predicted_against_true, regression
from deltajit.plot.nodes import circuit
from deltajit.plot.parameters import gradient_histograms, graph, weight_histograms
from deltajit.plot.rates import learning_rates
from deltajit.plot.walk import steps

__all__ = [
    "DIVERGING", "PALETTE", "SEQUENTIAL", "circuit", "decision_regions", "gradient_histograms",
    "graph", "history", "learning_rates", "predicted_against_true", "regression", "steps",
    "weight_histograms",
]  # fmt: skip
