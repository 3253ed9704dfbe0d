"""Where a fit takes its samples from: memory, memory maps, or a stream of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from deltajit.derivatives.objective import Objective
from deltajit.model.architecture import Architecture
from deltajit.model.data import Data, checked
from deltajit.training.history import TrainingState
from deltajit.training.leaves import BlockObjective, Blocks
from deltajit.training.loop import pieces
from deltajit.training.minibatches import Sums
from deltajit.training.second_order import steps_of

Train = Callable[[], Iterator[Sums]]

READ = 2**25  # bytes of a memory map that are converted at once


class Source(Protocol):
    """Give samples to a fit, and take its steps on them.

    Attributes
    ----------
    samples : int
        Samples of an epoch; 0 if that isn't known.
    keeps_steps : bool
        Whether an error leaves theta at the last finished step, though no epoch is done.
    options : dict
        What decides the steps, for a checkpoint to compare.
    """

    samples: int
    keeps_steps: bool
    options: dict[str, Any]

    def steps(self, batch_size: int) -> int:
        """Return the number of steps of an epoch."""

    def needs_all(self, method: object) -> None:
        """Raise ValueError if a step can't be taken on all samples, as `method` takes it."""

    def training(
        self, state: TrainingState, batch_size: int, rng: np.random.Generator, shuffle: bool
    ) -> Train:
        """Return what `minibatches.epochs` takes."""

    def objective(self, net: Any) -> Objective:
        """Return the loss of all samples as a function of theta."""


class Finite:
    """Have all samples at hand: what sources have in common but streams."""

    samples: int
    keeps_steps = False
    options: dict[str, Any] = {}  # noqa: RUF012

    def steps(self, batch_size: int) -> int:
        """Return the number of steps of an epoch."""
        return -(-self.samples // batch_size)

    def needs_all(self, method: object) -> None:
        """Raise nothing: a step may take all samples."""

    def orders(
        self, batch_size: int, rng: np.random.Generator, shuffle: bool
    ) -> Callable[[], NDArray[np.int64]]:
        """Return a function that returns the rows of the samples in the order of an epoch.

        A step on all samples takes them as they are: a new order would only change how sums round.
        """
        if shuffle and batch_size < self.samples:
            return lambda: rng.permutation(self.samples)
        in_order = np.arange(self.samples)
        return lambda: in_order


class Held(Finite):
    """Samples in memory."""

    def __init__(self, data: Data) -> None:
        self.data, self.samples = data, len(data.X)

    def training(
        self, state: TrainingState, batch_size: int, rng: np.random.Generator, shuffle: bool
    ) -> Train:
        """Return a function that takes the steps of an epoch."""
        step = steps_of(state, batch_size, rng)
        order = self.orders(batch_size, rng, shuffle)

        def train() -> Iterator[Sums]:
            for rows in pieces(order(), batch_size, state.theta.size):
                yield step(rows, *self.data)

        return train

    def objective(self, net: Any) -> Objective:
        """Return the loss of all samples as a function of theta."""
        return Objective(net.architecture, self.data, net.threads)


class Mapped(Finite):
    """Samples in memory maps of another dtype than the network's: converted some at a time.

    Minibatches give the bits that they give in memory. What takes all samples at once adds up
    gradients of blocks, in float64.
    """

    def __init__(self, blocks: Blocks) -> None:
        self._blocks, self.samples = blocks, blocks.samples
        for number in range(len(blocks)):
            blocks.load(number)  # raises for what is wrong

    def training(
        self, state: TrainingState, batch_size: int, rng: np.random.Generator, shuffle: bool
    ) -> Train:
        """Return a function that takes the steps of an epoch."""
        step = steps_of(state, batch_size, rng)
        order = self.orders(batch_size, rng, shuffle)
        most = max(1, self._blocks.size // batch_size)

        def train() -> Iterator[Sums]:
            for rows in pieces(order(), batch_size, state.theta.size, most):
                yield step(np.arange(len(rows)), *self._blocks.pick(rows))

        return train

    def objective(self, net: Any) -> Objective:
        """Return the loss of all samples as a function of theta."""
        return cast(Objective, BlockObjective(net.architecture, self._blocks.reduce))


class Stream:
    """Batches (X, Y) or (X, Y, weight), each of which is a step."""

    keeps_steps, samples = False, 0
    options: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, architecture: Architecture, batches: object, epochs: object) -> None:
        if not isinstance(batches, Iterable):
            raise TypeError(
                "without Y, X must be an iterable of batches (X, Y) or (X, Y, weight), got "
                f"{type(batches).__name__}"
            )
        if isinstance(batches, Iterator) and epochs != 1:
            raise ValueError(
                "X is an iterator, which can be gone through once: epochs must be 1, got "
                f"{epochs!r}; or pass an object whose __iter__ begins anew"
            )
        self._architecture, self._batches = architecture, batches

    def steps(self, batch_size: int) -> int:
        """Return the number of batches, of which each is a step."""
        if not isinstance(self._batches, Sized):
            raise ValueError("schedule needs batches with a length: X has no len()")
        return len(self._batches)

    def needs_all(self, method: object) -> None:
        """Raise ValueError: all samples are never there at once."""
        raise ValueError(
            f"{type(method).__name__} takes each step on all samples; X must be an array, not "
            "batches"
        )

    def training(
        self, state: TrainingState, batch_size: int, rng: np.random.Generator, shuffle: bool
    ) -> Train:
        """Return a function that takes the steps of an epoch."""
        step = steps_of(state, READ, rng)

        def train() -> Iterator[Sums]:
            number = -1
            for number, batch in enumerate(self._batches):
                yield step.on_all(*self._checked(batch, f"batch {number} of X"))
            if number < 0:
                raise ValueError("X has no batches; at least 1 is needed")

        return train

    def objective(self, net: Any) -> Objective:
        """Return the loss of all samples as a function of theta."""
        raise NotImplementedError  # `needs_all` has refused

    def _checked(self, batch: object, name: str) -> Data:
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            raise TypeError(f"{name} must be (X, Y) or (X, Y, weight), got {type(batch).__name__}")
        X, Y, *weights = batch
        return checked(self._architecture, X, Y, weights[0] if weights else None, name, finite=True)


def source_of(
    architecture: Architecture, X: object, Y: object, weights: object, epochs: object
) -> Source:
    """Return the source of these arguments of `Network.fit`, checked."""
    if Y is None:
        if weights is not None:
            raise ValueError("sample_weight belongs into the batches: (X, Y, weight)")
        return Stream(architecture, X, epochs)
    if _converts(X, architecture) or _converts(Y, architecture):
        size = max(1, READ // (8 * architecture.sizes[0]))
        return Mapped(Blocks.of(architecture, X, Y, weights, size))
    return Held(checked(architecture, X, Y, weights, finite=True))


def in_memory(source: Source, argument: str) -> Data:
    """Return the samples of a source that holds them all, as an argument of `Network.fit` needs."""
    if not isinstance(source, Held):
        raise ValueError(
            f"{argument} needs all samples in memory, as X and Y of the network's dtype"
        )
    return source.data


def _converts(value: object, architecture: Architecture) -> bool:
    """Return whether `value` is a memory map that would be copied as a whole."""
    if not isinstance(value, np.memmap):
        return False
    return value.dtype != architecture.dtype or not value.flags.c_contiguous
