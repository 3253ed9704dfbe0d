"""Steps of a fit on blocks: what the client does with the sums that workers return."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np

from deltajit.derivatives.objective import Objective
from deltajit.distributed.journal import Journal
from deltajit.distributed.reduction import Reduction
from deltajit.kernels.mlp.calls import calls_for
from deltajit.model.architecture import Architecture
from deltajit.model.data import Data
from deltajit.model.memory import Array
from deltajit.network import Network
from deltajit.training.feeds import Finite, Held, Train
from deltajit.training.history import History, TrainingState
from deltajit.training.leaves import BlockObjective, Gradient, Leaf, Part, Penalty
from deltajit.training.minibatches import Sums

Reduce = Callable[[Leaf, Array], Part]


class Shared(Finite):
    """Take steps along gradients of blocks."""

    keeps_steps = True

    def __init__(
        self, samples: int, size: int, reduce: Reduction, journal: Journal | None = None
    ) -> None:
        self.samples, self._size, self._reduce, self._journal = samples, size, reduce, journal
        self._blocks = -(-samples // size)
        self.options = {"block_size": size}

    def steps(self, batch_size: int) -> int:
        """Return the number of steps of an epoch."""
        return -(-self._blocks // -(-batch_size // self._size))

    def objective(self, net: Any) -> Objective:
        """Return the loss of all samples as a function of theta."""
        reduce: Reduce = partial(self._reduce, numbers=range(self._blocks))
        if self._journal is not None:
            reduce = self._journal.around(reduce)
        return cast(Objective, BlockObjective(net.architecture, reduce))

    def training(
        self, state: TrainingState, batch_size: int, rng: np.random.Generator, shuffle: bool
    ) -> Train:
        """Return a function that takes the steps of an epoch."""
        step, per_step = _stepping(state, self._reduce), -(-batch_size // self._size)

        def train() -> Iterator[Sums]:
            order = rng.permutation(self._blocks) if shuffle else np.arange(self._blocks)
            weight = 0.0
            for first in range(0, self._blocks, per_step):
                sums = step(sorted(order[first : first + per_step].tolist()))
                weight += sums[1]
                yield sums
            _check_weight(weight)

        return train


def _stepping(state: TrainingState, reduce: Reduction) -> Callable[[list[int]], Sums]:
    """Return a function that moves theta along the gradient of some blocks."""
    theta, rule, penalty = state.theta, state.rule, Penalty(state.net.architecture)
    assert rule is not None

    def step(numbers: list[int]) -> Sums:
        loss, weight, vector = reduce(Gradient(), theta.copy(), numbers)
        loss += weight * penalty.value(theta)
        if weight > 0 and math.isfinite(loss):
            with np.errstate(all="ignore"):
                grad = (vector / weight + penalty.gradient(theta)).astype(theta.dtype)
            calls_for(theta.dtype).update(rule, theta, grad)
        return loss, weight

    return step


def _check_weight(weight: float) -> None:
    if weight == 0:
        raise ValueError("sample_weight must not be 0 for every sample")


class Federated(Shared):
    """Train each block by itself, and average where they get to."""

    def __init__(
        self, shared: Shared, optimizer: Any, passes: int, clip_norm: float | None
    ) -> None:
        super().__init__(shared.samples, shared._size, shared._reduce)
        if not hasattr(optimizer, "rule"):
            raise ValueError(f"local_epochs means nothing to {type(optimizer).__name__}")
        self._local = partial(Trained, optimizer, clip_norm or 0.0, passes)
        self.options["local_epochs"] = passes

    def steps(self, batch_size: int) -> int:
        """Return 1: theta moves once."""
        return 1

    def training(
        self, state: TrainingState, batch_size: int, rng: np.random.Generator, shuffle: bool
    ) -> Train:
        """Return a function that lets theta move once."""
        theta, rule = state.theta, state.rule
        assert rule is not None

        def train() -> Iterator[Sums]:
            leaf = self._local(batch_size, shuffle, state.lr, int(rng.integers(2**63)))
            loss, weight, vector = self._reduce(leaf, theta.copy(), range(self._blocks))
            _check_weight(weight)
            if math.isfinite(loss):
                rule.count[0] += 1
                with np.errstate(all="ignore"):
                    theta[:] = vector / weight
            yield loss, weight

        return train


@dataclass(frozen=True)
class Trained:
    """Train a copy of the network on a block, and return its theta times the block's weight."""

    optimizer: Any
    clip: float
    passes: int
    batch_size: int
    shuffle: bool
    lr: float
    seed: int

    def __call__(self, architecture: Architecture, theta: Array, data: Data, number: int) -> Part:
        """Return the sum of weight times loss in the last epoch, and theta times all weights."""
        net = Network.sharing(architecture, theta.copy(), np.random.default_rng(0))
        rule = self.optimizer.rule(theta.size, theta.dtype)
        rule = rule._replace(rates=np.array([self.lr]), clip=self.clip)
        state = TrainingState(net, rule, History(), self.passes, ())
        rng = np.random.default_rng([self.seed, number])
        size = len(data.X) if getattr(self.optimizer, "full_batch", False) else self.batch_size
        train = Held(data).training(state, min(size, len(data.X)), rng, self.shuffle)
        for _ in range(self.passes):
            sums = [*train()]
            loss, weight = sum(x for x, _ in sums), sum(x for _, x in sums)
        with np.errstate(all="ignore"):
            return Part(loss, weight, weight * net.theta.astype(np.float64))
