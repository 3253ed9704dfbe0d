"""Add up a loss and its derivatives over blocks of samples, in one order whoever computes them.

Samples are cut into blocks, numbered by sample. What a block contributes is a leaf; leaves are
added in a binary tree by their numbers, so that the sum has the same bits whether one process
computes all of it or many compute branches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from deltajit import kernels
from deltajit.derivatives.linearization import Linearization
from deltajit.derivatives.objective import needs_squared_error
from deltajit.kernels.blocks import LARGEST_BLOCK
from deltajit.kernels.mlp.calls import calls_for
from deltajit.model import checks, memory
from deltajit.model.architecture import Architecture
from deltajit.model.data import Data, checked
from deltajit.model.memory import Array

PIECE = 16 * LARGEST_BLOCK  # samples of which a kernel adds gradients; float64 adds up the pieces


class Part(NamedTuple):
    """Hold what some samples contribute: sums of weight times loss, of weights, of derivatives."""

    loss: float
    weight: float
    vector: NDArray[np.float64]

    def plus(self, other: Part) -> Part:
        """Return the contribution of both."""
        with np.errstate(all="ignore"):  # an overflow shows in the loss
            vector = self.vector + other.vector
        return Part(self.loss + other.loss, self.weight + other.weight, vector)


def tree(parts: Iterable[Part]) -> Part:
    """Add parts in a binary tree: neighbours, then neighbours of these, the odd one as it is.

    Parts may be sums of 2^k leaves each, the last one of less, and the result is the same. At most
    one part a level is held.
    """
    branches: list[tuple[int, Part]] = []
    for part in parts:
        level, here = 0, part
        while branches and branches[-1][0] == level:
            here, level = branches.pop()[1].plus(here), level + 1
        branches.append((level, here))
    _, total = branches.pop()
    while branches:
        total = branches.pop()[1].plus(total)
    return total


# ---------------------------------------------------------------- leaves


class Leaf(Protocol):
    """Compute what a block contributes, as a pure function; the penalties are no part of it."""

    def __call__(self, architecture: Architecture, theta: Array, data: Data, number: int) -> Part:
        """Return the contribution of the block of this number."""


@dataclass(frozen=True)
class Gradient:
    """Sum the gradients of a block."""

    def __call__(self, architecture: Architecture, theta: Array, data: Data, number: int) -> Part:
        """Return the sum of weight times loss, and of its gradients."""
        model = bare(architecture).model(theta)
        value_and_grad = calls_for(theta.dtype).value_and_grad
        grad = _scratch("grad", theta.size, theta.dtype)
        work = _scratch("work", kernels.workspace_size(model, LARGEST_BLOCK), theta.dtype)

        def of_piece(piece: Data) -> tuple[float, Array]:
            X, Y, weights = piece
            return value_and_grad(model, X, Y, weights, grad, work), grad

        return _over_pieces(data, theta.size, of_piece)


@dataclass(frozen=True)
class Product:
    """Sum products of a block's Hessian ("hvp") or Gauss-Newton matrix ("gnvp") with vectors.

    Attributes
    ----------
    name : str
        Method of `Linearization`.
    vectors : ndarray, (n, n_params), or None
        The vectors; None are all unit vectors.
    """

    name: str
    vectors: Array | None

    def __call__(self, architecture: Architecture, theta: Array, data: Data, number: int) -> Part:
        """Return the sum of weight times loss, and of the products, one after the other."""
        vectors = np.eye(theta.size) if self.vectors is None else self.vectors

        def of_piece(piece: Data) -> tuple[float, Array]:
            here = Linearization.at(bare(architecture), theta, piece, 1)
            product = getattr(here, self.name)
            return here.value, np.concatenate([product(v) for v in vectors])

        return _over_pieces(data, vectors.size, of_piece)


def bare(architecture: Architecture) -> Architecture:
    """Return the architecture without penalties, which are added once and not by each block."""
    return replace(architecture, l2=0.0, l1=0.0)


def _over_pieces(data: Data, size: int, of_piece: Callable[[Data], tuple[float, Array]]) -> Part:
    """Add means over pieces of the samples, times their weights, in float64."""
    loss, weight, vector = 0.0, 0.0, np.zeros(size)
    scaled = _scratch("scaled", size, np.float64)
    for first in range(0, len(data.X), PIECE):
        rows = slice(first, first + PIECE)
        piece = Data(*(None if x is None else x[rows] for x in data))  # type: ignore[arg-type]
        mass = float(len(piece.X) if piece.weights is None else piece.weights.sum(dtype=np.float64))
        if mass > 0:
            value, mean = of_piece(piece)
            loss, weight = loss + mass * value, weight + mass
            scaled[:] = mean
            with np.errstate(all="ignore"):
                scaled *= mass
                vector += scaled
    return Part(loss, weight, vector)


_kept = threading.local()


def _scratch(name: str, size: int, dtype: DTypeLike) -> Array:
    """Return memory of this thread's, kept from leaf to leaf.

    Dask's workers give what is freed back to the system, and to get it again takes a fifth of the
    time of a small block.
    """
    array: Array | None = getattr(_kept, name, None)
    if array is None or array.size != size or array.dtype != dtype:
        array = memory.empty(size, dtype)
        setattr(_kept, name, array)
    return array


# ---------------------------------------------------------------- blocks


class Blocks:
    """Cut samples into blocks, and check each when it is read.

    Attributes
    ----------
    architecture : Architecture
        The network that they are for.
    samples, size : int
        Number of samples, and of those in a block; the last block may have less.
    """

    def __init__(self, architecture: Architecture, columns: Sequence[Any], size: int) -> None:
        """Cut X, Y and weights (or None) of one length, which ``column[first:last]`` reads."""
        self.architecture, self._columns, self.size = architecture, tuple(columns), size
        self.samples = len(columns[0])

    @classmethod
    def of(cls, architecture: Architecture, X: Any, Y: Any, weights: Any, size: int) -> Blocks:
        """Cut arrays, whose shapes are checked here."""
        columns = checks.asarray(X, "X"), checks.asarray(Y, "Y")
        shapes(architecture, *(column.shape for column in columns))
        checks.not_empty(columns[0], "X")
        n = len(columns[0])
        w = checks.sample_weight(weights, "sample_weight", n, architecture.dtype)
        return cls(architecture, (*columns, w), min(size, n))

    def __len__(self) -> int:
        return -(-self.samples // self.size)

    def load(self, number: int) -> Data:
        """Read a block, and check it."""
        rows = slice(number * self.size, (number + 1) * self.size)
        parts = [None if column is None else column[rows] for column in self._columns]
        return block(self.architecture, parts, number, self.size)

    def pick(self, rows: NDArray[np.int64]) -> Data:
        """Read some samples, in this order."""
        X, Y, weights = self._columns
        return Data(
            *checked(self.architecture, X[rows], Y[rows], None)[:2],
            None if weights is None else weights[rows],
        )

    def parts(self, leaf: Leaf, theta: Array, numbers: Iterable[int]) -> Iterator[Part]:
        """Yield what blocks contribute, one after the other."""
        for number in numbers:
            yield leaf(self.architecture, theta, self.load(number), number)

    def reduce(self, leaf: Leaf, theta: Array) -> Part:
        """Return the sum over all blocks."""
        return tree(self.parts(leaf, theta, range(len(self))))


def block(architecture: Architecture, parts: Sequence[Any], number: int, size: int) -> Data:
    """Return X, Y and weights of a block as kernels take them; errors name the block."""
    X, Y, weights = parts
    try:
        data = checked(architecture, X, Y, None, finite=True)
        w = checks.weights(weights, "sample_weight", len(data.X), architecture.dtype)
    except (TypeError, ValueError) as error:
        first = number * size
        raise type(error)(
            f"block {number}, of samples {first} to {first + len(X) - 1}: {error}"
        ) from None
    return data._replace(weights=w)


def shapes(architecture: Architecture, X: tuple[int, ...], Y: tuple[int, ...]) -> None:
    """Check that X is (n, n_in), and that Y has as many samples."""
    n_in = architecture.sizes[0]
    if len(X) != 2 or X[1] != n_in:
        raise ValueError(f"X must have shape (batch, {n_in}), got {X}")
    if len(Y) not in (1, 2) or Y[0] != X[0]:
        raise ValueError(f"Y must have as many samples as X, {X[0]}, got shape {Y}")


# ---------------------------------------------------------------- the loss of all blocks


class Penalty:
    """Penalize weights by ``l2/2 * sum(W**2) + l1 * sum(|W|)``, in float64."""

    def __init__(self, architecture: Architecture) -> None:
        self._l2, self._l1 = architecture.l2, architecture.l1
        self._where = [slice(int(x["W_at"]), int(x["b_at"])) for x in architecture.layers]

    def value(self, theta: Array) -> float:
        """Return the penalty."""
        weights = [theta[where].astype(np.float64) for where in self._where]
        with np.errstate(all="ignore"):
            squares = sum(float((W * W).sum()) for W in weights)
            sizes = sum(float(abs(W).sum()) for W in weights)
        return 0.5 * self._l2 * squares + self._l1 * sizes

    def gradient(self, theta: Array) -> NDArray[np.float64]:
        """Return the gradient of the penalty, 0 for biases."""
        out = np.zeros(theta.size)
        for where in self._where:
            W = theta[where].astype(np.float64)
            out[where] = self._l2 * W + self._l1 * np.sign(W)
        return out

    def product(self, v: Array) -> NDArray[np.float64]:
        """Return the Hessian of the penalty times v."""
        out = np.zeros(v.size)
        for where in self._where:
            out[where] = self._l2 * v[where]
        return out


class BlockObjective:
    """Evaluate the loss of all blocks, as `full_batch` takes it from `Objective`.

    `reduce` is like `Blocks.reduce`.
    """

    def __init__(self, architecture: Architecture, reduce: Callable[[Leaf, Array], Part]) -> None:
        self._architecture, self._reduce = architecture, reduce
        self._penalty = Penalty(architecture)
        self._last = np.full(architecture.n_params, np.nan, architecture.dtype)
        self._known = np.nan, np.empty(0)

    def fun(self, theta: ArrayLike) -> float:
        """Return the loss."""
        return self.fun_and_jac(theta)[0]

    def jac(self, theta: ArrayLike) -> Array:
        """Return the gradient."""
        return self.fun_and_jac(theta)[1]

    def fun_and_jac(self, theta: ArrayLike) -> tuple[float, Array]:
        """Return the loss and its gradient; at the last theta again, without computing."""
        here = self._rounded(theta)
        if not np.array_equal(here, self._last):
            part = self._mean(Gradient(), here)
            with np.errstate(all="ignore"):
                value = part.loss + self._penalty.value(here)
                self._known = value, part.vector + self._penalty.gradient(here)
            self._last = here
        value, grad = self._known
        return value, grad.copy()

    def hessp(self, theta: ArrayLike, p: ArrayLike) -> Array:
        """Return the Hessian times p."""
        return self._product("hvp", theta, p)

    def gauss_newton_product(self, theta: ArrayLike, p: ArrayLike) -> Array:
        """Return the Gauss-Newton matrix times p."""
        return self._product("gnvp", theta, p)

    def gauss_newton(self, theta: ArrayLike, block: int) -> Array:
        """Return the Gauss-Newton matrix, from its products with unit vectors."""
        n = self._architecture.n_params
        G = self._mean(Product("gnvp", None), self._rounded(theta)).vector.reshape(n, n)
        return G + np.diag(self._penalty.product(np.ones(n)))

    def needs_squared_error(self) -> None:
        """Raise ValueError for a loss that residuals aren't of."""
        needs_squared_error(self._architecture)

    def _product(self, name: str, theta: ArrayLike, p: ArrayLike) -> Array:
        v = checks.direction(p, "p", self._last.shape, np.dtype(np.float64))
        rounded = v.astype(self._architecture.dtype)[None]
        part = self._mean(Product(name, rounded), self._rounded(theta))
        return np.asarray(part.vector + self._penalty.product(v))

    def _rounded(self, theta: ArrayLike) -> Array:
        """Return theta as the network would hold it."""
        with np.errstate(all="ignore"):
            given = np.asarray(theta).astype(self._architecture.dtype)
        return checks.shaped(given, "theta", self._last.shape, self._architecture.dtype)

    def _mean(self, leaf: Leaf, theta: Array) -> Part:
        part = self._reduce(leaf, theta)
        if not part.weight > 0:
            raise ValueError("sample_weight must not be 0 for every sample")
        return Part(part.loss / part.weight, part.weight, part.vector / part.weight)
