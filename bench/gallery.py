"""Pictures of three small networks, by `dj.plot`: ``python -m bench.gallery`` writes gallery.png.

Two moons are told apart, a noisy sine is fitted, and handwritten digits are read.
"""

import argparse
import io
from pathlib import Path

import numpy as np

import deltajit as dj
from bench import store
from deltajit.cli import demo

PICTURE = store.FOLDER / "gallery.png"


def moons(samples=300, noise=0.15, seed=0):
    """Two half circles that reach into each other: X (samples, 2), labels (samples,)."""
    rng = np.random.default_rng(seed)
    Y = np.arange(samples) % 2
    angle = np.pi * (rng.uniform(size=samples) + Y)
    X = np.column_stack([np.cos(angle) + Y, np.sin(angle) + Y / 2])
    return X + noise * rng.normal(size=X.shape), Y


def noisy_sine(samples=200, noise=0.15, seed=0):
    """X (samples, 1), and sin(X) with noise."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-np.pi, np.pi, size=(samples, 1))
    return X, np.sin(X) + noise * rng.normal(size=X.shape)


def save(path, epochs=None):
    """Train and draw into a file; `epochs` for all three instead of enough for each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 8.5), layout="constrained")
    axes = figure.subplots(2, 3).ravel()

    X, Y = moons()
    net = dj.Network([2, 16, 16, 1], output="sigmoid")
    net.fit(X, Y, epochs=epochs or 300, optimizer=dj.Adam(1e-2), progress=False)
    dj.plot.decision_regions(net, X, Y, ax=axes[0]).set_title("plot.decision_regions: two moons")
    dj.plot.graph(net, ax=axes[5]).set_title("plot.graph: the network of the two moons")

    X, Y = noisy_sine()
    net = dj.Network([1, 32, 1])
    net.fit(X, Y, epochs=epochs or 1000, optimizer=dj.Adam(1e-2), progress=False)
    dj.plot.regression(net, X, Y, ax=axes[1]).set_title("plot.regression: a noisy sine")

    digits = demo.load()
    net = dj.Network([64, 64, 32, 10], "relu", "softmax")
    test = digits.X_test, digits.Y_test
    history = net.fit(digits.X, digits.Y, epochs=epochs or 40, validation_data=test, progress=False)
    history.plot(log=True, ax=axes[2]).set_title("history.plot(log=True): digits")
    dj.plot.weight_histograms(net, ax=axes[3]).set_title("plot.weight_histograms: digits")
    dj.plot.gradient_histograms(net, *test, ax=axes[4]).set_title(
        "plot.gradient_histograms: digits"
    )
    save_small(figure, path)


def save_small(figure, path):
    """With 256 colours instead of all: a third of the bytes."""
    from PIL import Image

    file = io.BytesIO()
    figure.savefig(file, dpi=100)
    picture = Image.open(file).convert("RGB")
    picture.quantize(256, Image.Quantize.MAXCOVERAGE).save(path, "PNG", optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path", nargs="?", type=Path, default=PICTURE)
    save(parser.parse_args().path)
