"""The networks that are compared, the targets they are held to, and their data."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

FLOATS = 1 << 21  # at most so many inputs in a case's data: 8 MiB in float32
MOST_BATCHES = 8192


class Case(NamedTuple):
    """One row of the table; targets are the least ratios to a peer, and the least peak share."""

    sizes: tuple
    activation: str
    batch: int
    over_jax: float | None = None
    over_torch: float | None = None
    peak: float | None = None
    output: str = "identity"
    loss: str = "squared_error"
    optimizer: str = "sgd"
    dtype: str = "float32"

    @property
    def name(self):
        """Such as ``16-64-64-8 tanh``."""
        optimizer, dtype = {"adam": "Adam"}.get(self.optimizer), self.dtype.replace("float32", "")
        parts = ["-".join(map(str, self.sizes)), self.activation, optimizer, dtype]
        return " ".join(filter(None, parts))

    @property
    def n_params(self):
        """Weights and biases."""
        return sum((n_in + 1) * n_out for n_in, n_out in pairwise(self.sizes))

    @property
    def flops(self):
        """Of the matrix products of a step: forward, BP2 (not for the inputs) and BP3."""
        products = sum(a * b for a, b in pairwise(self.sizes))
        return 6 * self.batch * products - 2 * self.batch * self.sizes[0] * self.sizes[1]


SOFTMAX = {"output": "softmax", "loss": "cross_entropy"}
CASES = [
    Case((2, 16, 1), "tanh", 1, 5, 500),
    Case((2, 16, 1), "tanh", 32, 5, 150),
    Case((4, 32, 32, 1), "tanh", 32, 3, 50),
    Case((16, 64, 64, 8), "tanh", 64, 1.9, 15, 0.70),
    Case((64, 128, 128, 10), "tanh", 128, 1.35, 4.5, 0.80, **SOFTMAX),
    Case((784, 30, 10), "sigmoid", 10, 3, 15, output="sigmoid"),
    Case((784, 128, 10), "relu", 128, 1.2, 2.8, 0.85, **SOFTMAX),
    Case((128, 256, 256, 10), "tanh", 256, 1.2, 2.7, 0.85, **SOFTMAX),
    Case((784, 512, 512, 10), "relu", 256, 1.15, 2.5, 0.85, **SOFTMAX),
    Case((1024, 1024, 1024, 1024), "tanh", 256, 1.15, 2.5, 0.85),
    Case((4, 32, 16, 4), "tanh", 10_000, 3, 8, optimizer="adam"),
    Case((2, 16, 1), "tanh", 32, dtype="float64"),
    Case((64, 128, 128, 10), "tanh", 128, dtype="float64", **SOFTMAX),
    Case((784, 512, 512, 10), "relu", 256, dtype="float64", **SOFTMAX),
]


class Problem(NamedTuple):
    """A case with its numbers: every library starts from these weights, on these samples.

    W : of each layer, (n_out, n_in). b : (n_out,). X : (batches * batch, n_in), a step takes the
    next `batch` rows. Y : (batches * batch, n_out), or labels (batches * batch,).
    """

    case: Case
    W: list
    b: list
    X: np.ndarray
    Y: np.ndarray
    lr: float

    @property
    def batches(self):
        """Steps before the data are used up."""
        return len(self.X) // self.case.batch


def problem(case, seed=0):
    """Random weights, inputs and targets. The targets are noise, so no gradient dies out."""
    rng = np.random.default_rng(seed)
    batches = max(2, min(MOST_BATCHES, FLOATS // (case.batch * case.sizes[0])))
    samples, n_out = batches * case.batch, case.sizes[-1]
    X = rng.normal(size=(samples, case.sizes[0])).astype(case.dtype)
    labels = case.loss == "cross_entropy"
    Y = rng.integers(n_out, size=samples) if labels else rng.uniform(size=(samples, n_out))
    Y = Y if labels else Y.astype(case.dtype)
    pairs = [
        (rng.normal(size=(m, n)) / np.sqrt(n), 0.1 * rng.normal(size=m))
        for n, m in pairwise(case.sizes)
    ]
    W, b = ([x.astype(case.dtype) for x in part] for part in zip(*pairs, strict=True))
    return Problem(case, W, b, X, Y, lr=1e-3)
