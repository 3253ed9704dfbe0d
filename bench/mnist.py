"""``python -m bench.mnist``: 784-30-10 sigmoid on MNIST, time of the whole run and test accuracy.

The run of Nielsen's book, "Neural Networks and Deep Learning" (2015), chapter 1: 50,000 images,
batches of 10, quadratic cost, plain gradient descent with eta 3, N(0, 1) weights and biases, 30
epochs; its test accuracy is about 95.4 %. Every library starts from the same weights and sees the
same samples in the same order; their epochs take turns, and each one's time includes the shuffling.
$DELTAJIT_MNIST is the folder of the four gzipped IDX files.
"""

import gzip
import os
import time
from pathlib import Path

from bench import limits

TRAINING, BATCH, ETA, EPOCHS = 50_000, 10, 3.0, 30


def load(name):
    """Images as rows of floats in [0, 1], or labels, of a file."""
    import numpy as np

    path = Path(os.environ.get("DELTAJIT_MNIST", "."), f"{name}-ubyte.gz")
    if not path.exists():
        raise SystemExit(f"there is no {path}; set DELTAJIT_MNIST to its folder")
    content = gzip.decompress(path.read_bytes())
    data = np.frombuffer(content, np.uint8, offset=4 + 4 * content[3])
    return data.reshape(-1, 784).astype(np.float32) / 255 if "images" in name else data


def run():
    """Train with every library, then print a table."""
    import numpy as np

    from bench import cases, libraries
    from deltajit import reference

    X, labels = load("train-images-idx3")[:TRAINING], load("train-labels-idx1")[:TRAINING]
    X_test, Y_test = load("t10k-images-idx3"), load("t10k-labels-idx1")
    case = cases.Case((784, 30, 10), "sigmoid", BATCH, output="sigmoid")
    rng = np.random.default_rng(0)
    W = [rng.normal(size=shape).astype(np.float32) for shape in ((30, 784), (10, 30))]
    b = [rng.normal(size=n).astype(np.float32) for n in (30, 10)]
    problem = cases.Problem(case, W, b, X, np.eye(10, dtype=np.float32)[labels], ETA)
    takers = [library for library in libraries.available() if hasattr(library, "reorder")]
    contestants = [library(problem) for library in takers]
    for contestant in contestants:  # compiles; one epoch more for all of them, not timed
        contestant.train(problem.batches)
    times = {contestant.name: 0.0 for contestant in contestants}
    for _ in range(EPOCHS):
        order = rng.permutation(TRAINING)
        for contestant in contestants:
            start = time.perf_counter()
            contestant.reorder(order)
            contestant.train(problem.batches)
            times[contestant.name] += time.perf_counter() - start
    for contestant in contestants:
        learned, taken = contestant.parameters(), times[contestant.name]
        model = reference.Model(learned[:2], learned[2:], ("sigmoid", "sigmoid"), case.loss)
        accuracy = (reference.predict(model, X_test).argmax(axis=1) == Y_test).mean()
        ratio = taken / times["deltajit"]
        print(f"{contestant.name:10} {taken:7.2f} s {ratio:7.2f}x   test accuracy {accuracy:.2%}")


if __name__ == "__main__":
    limits.hold(1)
    run()
