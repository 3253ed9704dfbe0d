"""``python -m bench.mnist``: 784-30-10 sigmoid on MNIST, time of the whole run and test accuracy.

The run of Nielsen's book, "Neural Networks and Deep Learning" (2015), chapter 1: 50,000 images,
batches of 10, quadratic cost, plain gradient descent with eta 3, N(0, 1) weights and biases, 30
epochs; its test accuracy is about 95.4 %. Every library starts from the same weights and sees the
same samples in the same order; their epochs take turns, and each one's time includes the shuffling.
"""

import argparse
import gzip
import os
import time
from pathlib import Path

from bench import limits, store

TRAINING, BATCH, ETA = 50_000, 10, 3.0
PARTS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def folder():
    """Where the four gzipped IDX files are."""
    return Path(os.environ.get("DELTAJIT_MNIST", store.FOLDER / "mnist"))


def load(where):
    """Images as rows of floats in [0, 1] and labels: X, Y, X_test, Y_test."""
    import numpy as np

    parts = []
    for name in PARTS:
        path = where / f"{name}-ubyte.gz"
        if not path.exists():
            raise SystemExit(f"{path.name} is not in {where}; set DELTAJIT_MNIST to its folder")
        content = gzip.decompress(path.read_bytes())
        data = np.frombuffer(content, np.uint8, offset=4 + 4 * content[3])
        images = "images" in name
        parts.append(data.reshape(-1, 784).astype(np.float32) / 255 if images else data)
    return parts


def draw_problem(X, labels, rng):
    """The training images, and N(0, 1) weights and biases."""
    import numpy as np

    from bench import cases

    case = cases.Case((784, 30, 10), "sigmoid", BATCH, output="sigmoid")
    W, b = [], []
    for n_in, n_out in ((784, 30), (30, 10)):
        W.append(rng.normal(size=(n_out, n_in)).astype(np.float32))
        b.append(rng.normal(size=n_out).astype(np.float32))
    Y = np.eye(10, dtype=np.float32)[labels[:TRAINING]]
    return cases.Problem(case, W, b, X[:TRAINING], Y, ETA)


def accuracy_of(contestant, X_test, Y_test):
    """Of what a library has learned, by the reference."""
    from deltajit import reference

    learned = contestant.parameters()
    loss = contestant.case.loss
    model = reference.Model(learned[:2], learned[2:], ("sigmoid", "sigmoid"), loss)
    return (reference.predict(model, X_test).argmax(axis=1) == Y_test).mean()


def run(epochs):
    """Train with every library, then print a table."""
    import numpy as np

    from bench import libraries

    X, labels, X_test, Y_test = load(folder())
    rng = np.random.default_rng(0)
    problem = draw_problem(X, labels, rng)
    contestants = [
        library(problem)
        for library in libraries.available()
        if library in (libraries.Deltajit, libraries.NumPy, libraries.PyTorch, libraries.Jax)
    ]
    steps = TRAINING // BATCH
    print(
        f"MNIST 784-30-10 sigmoid, batch {BATCH}, {epochs} epochs of {steps} steps, float32",
        flush=True,
    )
    for contestant in contestants:  # compiles; one epoch more for all of them, not timed
        contestant.train(steps)
    times = {contestant.name: [] for contestant in contestants}
    for _ in range(epochs):
        order = rng.permutation(TRAINING)
        for contestant in contestants:
            start = time.perf_counter()
            contestant.reorder(order)
            contestant.train(steps)
            times[contestant.name].append(time.perf_counter() - start)
    own = sum(times["deltajit"])
    for contestant in contestants:
        accuracy = accuracy_of(contestant, X_test, Y_test)
        taken = times[contestant.name]
        print(
            f"{contestant.name:10} {sum(taken):7.2f} s {sum(taken) / own:7.2f}x"
            f"   an epoch {np.median(taken) * 1e3:7.1f} ms   test accuracy {accuracy:.2%}"
        )


def main():
    """Read the command line, hold the machine still, then run."""
    parser = argparse.ArgumentParser(prog="python -m bench.mnist", description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    limits.hold(1)
    run(options.epochs)


if __name__ == "__main__":
    main()
