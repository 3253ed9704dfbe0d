"""What the diagrams share: colours, boxes of cells, arrows, an empty figure."""

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, Rectangle

from deltajit.plot import PALETTE

# Okabe and Ito's, that colour-blind readers tell apart, and lighter ones of them to write on.
BLUE, ORANGE, GREEN, GREY = *PALETTE[:3], "#555555"
LIGHT = {BLUE: "#cfe5f3", ORANGE: "#f9d9c4", GREEN: "#c9ebdf", GREY: "#eeeeee"}


def canvas(width, height):
    """Make axes of so many units, an inch each at most, without frame."""
    figure, ax = plt.subplots(figsize=(width, height))
    figure.subplots_adjust(0, 0, 1, 1)
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    ax.axis("off")
    return ax


def box(ax, x, y, width, height, text="", color=GREY, size=11, line=1.2):
    """Draw a box with a text in its middle."""
    ax.add_patch(Rectangle((x, y), width, height, fc=LIGHT[color], ec=color, lw=line))
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=size)


def arrow(ax, start, end, color=GREY, bend=0.0):
    """Draw an arrow."""
    style = f"arc3,rad={bend}"
    ax.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=14, lw=1.4, color=color,
                        connectionstyle=style, shrinkA=2, shrinkB=2)
    )  # fmt: skip


def note(ax, x, y, text, size=10, color="black", ha="center"):
    """Write a text."""
    ax.text(x, y, text, ha=ha, va="center", fontsize=size, color=color)
