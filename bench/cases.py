"""What is compared, the targets it is held to, and its data."""

from collections import Counter
from itertools import pairwise
from typing import NamedTuple

import numpy as np

FLOATS = 1 << 21  # at most so many inputs in a case's data: 8 MiB in float32
MOST_BATCHES = 8192
CHECKED_STEPS = 3


class Case(NamedTuple):
    """One row of the table: training steps of a network, in float32.

    over : how many times as long the fastest peer is to take, at least, on (AVX2, AVX-512).
    peak : the share of the multiply-adds' peak that is to be reached there.
    """

    sizes: tuple
    activation: str
    batch: int
    over: tuple = (1, 1)
    peak: tuple | None = None
    output: str = "identity"
    loss: str = "squared_error"
    optimizer: str = "sgd"

    @property
    def name(self):
        """Such as ``16-64-64-8 tanh, batch 64``."""
        adam = " Adam" * (self.optimizer == "adam")
        return f"{'-'.join(map(str, self.sizes))} {self.activation}{adam}, batch {self.batch:,}"

    @property
    def n_params(self):
        """Weights and biases."""
        return sum((n_in + 1) * n_out for n_in, n_out in pairwise(self.sizes))

    @property
    def flops(self):
        """Of the matrix products of a step: forward, BP2 (not for the inputs) and BP3."""
        products = sum(a * b for a, b in pairwise(self.sizes))
        return 6 * self.batch * products - 2 * self.batch * self.sizes[0] * self.sizes[1]

    @property
    def elementary(self):
        """{function: how many of it a step computes}; a softmax counts as exp, a relu as none."""
        hidden, last = self.batch * sum(self.sizes[1:-1]), self.batch * self.sizes[-1]
        of_output = {"softmax": "exp"}.get(self.output, self.output)
        counts = Counter({self.activation: hidden}) + Counter({of_output: last})
        return {name: n for name, n in counts.items() if name not in ("relu", "identity")}


class Product(NamedTuple):
    """A row of products ``a @ b``, all n x n, float32."""

    n: int
    over: tuple = (1, 1)

    @property
    def name(self):
        """Such as ``m = n = k = 64``."""
        return f"m = n = k = {self.n}"

    @property
    def flops(self):
        """Of one product."""
        return 2 * self.n**3


class Fits(NamedTuple):
    """A row of fits of scikit-learn's digits: MLPClassifier, one hidden layer, 50 epochs."""

    hidden: int
    dtype: str
    over: tuple

    @property
    def name(self):
        """Such as ``64-32-10, batch 200, float32``."""
        return f"64-{self.hidden}-10, batch {BATCH_OF_FITS}, {self.dtype}"


BATCH_OF_FITS = 200
SOFTMAX = {"output": "softmax", "loss": "cross_entropy"}
WIDE = {"over": (1.25, 1.25), "peak": (0.86, 0.88)}
CASES = [
    Case((2, 16, 1), "tanh", 1, (1 / 1.5, 1 / 1.5)),
    Case((2, 16, 1), "tanh", 32, (2, 3.5)),
    Case((4, 32, 32, 1), "tanh", 32, (1.8, 3)),
    Case((784, 30, 10), "sigmoid", 10, (2.5, 3.5), output="sigmoid"),
    Case((16, 64, 64, 8), "tanh", 64, (1.5, 1.95), (0.64, 0.75)),
    Case((64, 128, 128, 10), "tanh", 128, (1.3, 1.4), (0.76, 0.82), **SOFTMAX),
    Case((784, 128, 10), "relu", 128, **WIDE, **SOFTMAX),
    Case((128, 256, 256, 10), "tanh", 256, **WIDE, **SOFTMAX),
    Case((784, 512, 512, 10), "relu", 256, **WIDE, **SOFTMAX),
    Case((1024, 1024, 1024, 1024), "tanh", 256, (1.2, 1.2), (0.87, 0.87)),
    Case((4, 32, 16, 4), "tanh", 10_000, (3, 3), optimizer="adam"),
]
PRODUCTS = [Product(n) for n in (64, 128, 256, 512, 1024)]
FITS = [Fits(32, "float32", (8, 10)), Fits(32, "float64", (5, 6))]


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
    def few(self):
        """The first CHECKED_STEPS batches alone."""
        samples = CHECKED_STEPS * self.case.batch
        return self._replace(X=self.X[:samples], Y=self.Y[:samples])

    @property
    def batches(self):
        """Steps before the data are used up."""
        return len(self.X) // self.case.batch


def problem(case, seed=0):
    """Random weights, inputs and targets. The targets are noise, so no gradient dies out."""
    rng = np.random.default_rng(seed)
    batches = max(CHECKED_STEPS, min(MOST_BATCHES, FLOATS // (case.batch * case.sizes[0])))
    samples, n_out = batches * case.batch, case.sizes[-1]
    X = rng.normal(size=(samples, case.sizes[0])).astype("f4")
    labels = case.loss == "cross_entropy"
    Y = rng.integers(n_out, size=samples) if labels else rng.uniform(size=(samples, n_out))
    Y = Y if labels else Y.astype("f4")
    pairs = [
        (rng.normal(size=(m, n)) / np.sqrt(n), 0.1 * rng.normal(size=m))
        for n, m in pairwise(case.sizes)
    ]
    W, b = ([x.astype("f4") for x in part] for part in zip(*pairs, strict=True))
    return Problem(case, W, b, X, Y, lr=1e-3)
