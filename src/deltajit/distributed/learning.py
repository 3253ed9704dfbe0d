"""Fit a network to blocks of samples: the client takes the steps, workers compute gradients."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np

from deltajit import kernels
from deltajit.derivatives.objective import Objective
from deltajit.distributed import cluster, rows
from deltajit.distributed.journal import Journal
from deltajit.distributed.reduction import Reduction
from deltajit.kernels.mlp.optimizers import Adam, Optimizer
from deltajit.model import checks
from deltajit.model.architecture import Architecture
from deltajit.model.checks import Seed
from deltajit.model.data import Data
from deltajit.model.memory import Array
from deltajit.network import Network
from deltajit.training import fitting
from deltajit.training.feeds import Finite, Held, Train
from deltajit.training.fitting import Options
from deltajit.training.full_batch import FullBatch
from deltajit.training.history import History, TrainingState
from deltajit.training.leaves import BlockObjective, Gradient, Leaf, Part, Penalty
from deltajit.training.minibatches import Sums
from deltajit.training.schedules import Schedule
from deltajit.training.watchers import Metric

Reduce = Callable[[Leaf, Array], Part]

BATCH = 2**16  # samples of a step
LOCAL_BATCH = 32  # and of one that a worker takes by itself


def fit(
    net: Network,
    X: Any,
    Y: Any,
    client: Any = None,
    optimizer: Optimizer | FullBatch | None = None,
    epochs: int = 10,
    batch_size: int | None = None,
    *,
    sample_weight: Any = None,
    validation_data: checks.Validation | None = None,
    schedule: Schedule | None = None,
    clip_norm: float | None = None,
    metrics: Mapping[str, Metric] | None = None,
    callbacks: Sequence[object] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    every: int = 1,
    resume: bool = False,
    progress: bool = True,
    rng: Seed = None,
    shuffle: bool = True,
    block_size: int | None = None,
    local_epochs: int | None = None,
    reproducible: bool = True,
) -> History:
    """Train a network on blocks of samples; its theta changes in place.

    Theta has the same bits for any number of workers, whichever of them die, and for any chunks of
    X and Y: a block's gradient is computed by one thread, and blocks are added in float64, in a
    binary tree by their numbers. An error leaves theta as it was after the last finished step.

    Parameters
    ----------
    net : Network
        Network to train.
    X, Y : array_like, dask array or data frame, path, memory map, or list of paths or memory maps
        Samples, of the shapes that `Network.fit` takes. Files in the .npy format and memory maps
        are read by workers, in each step anew; dask arrays are computed by them likewise, unless
        they are persisted. Arrays in memory are sent to them once.
    client : distributed.Client, optional
        Client of a cluster. None computes in this process, by Dask's threads.
    optimizer : Optimizer, optional
        Rule by which theta moves: ``dj.Adam()`` by default.
    epochs : int
        Passes over the samples.
    batch_size : int, optional
        Samples of a step, rounded up to whole blocks: 65,536 by default. With `local_epochs`,
        samples of a step inside a block: 32 by default.
    sample_weight : (n,) of any kind that X may be, optional
        Weights of the samples.
    validation_data : (X, Y) or (X, Y, sample_weight), optional
        Samples in memory, on which the client takes the loss after each epoch.
    schedule, clip_norm, metrics, callbacks, checkpoint, every, resume, progress : optional
        As for `Network.fit`. For LBFGS and LevenbergMarquardt, `checkpoint` keeps all gradients so
        far; a fit that goes on takes its first steps over again by these, from the same start,
        without any work, and callbacks are told of them.
    rng : None, int or numpy.random.Generator
        Seed or generator that shuffles the blocks; None goes on with the network's generator.
    shuffle : bool
        Whether each epoch takes the blocks in a new order. Samples stay in their blocks, so they
        should be in no order of their own.
    block_size : int, optional
        Samples of a block; by default as many as 32 MB hold, or fewer, so that there are 64 blocks
        and a step has whole ones. Another size gives other bits.
    local_epochs : int, optional
        Epochs that each block is trained for by itself, from theta and with a fresh optimizer,
        before the blocks' thetas are averaged: then theta moves once an epoch of the history. This
        is another algorithm [1]_, for networks whose steps are shorter than a message takes.
    reproducible : bool
        Whether to refuse workers of different versions, kernels or instruction sets.

    Returns
    -------
    History
        Losses, validation losses and seconds, as of `Network.fit`.

    Raises
    ------
    MixedClusterError
        Workers would give different bits.
    DivergedError
        The loss became NaN or infinite.

    References
    ----------
    .. [1] McMahan et al. (2017), Communication-efficient learning of deep networks from
       decentralized data, AISTATS (federated averaging).

    Examples
    --------
    >>> from deltajit import distributed
    >>> net = dj.Network([1, 8, 1], rng=0)
    >>> X = np.linspace(0, 1, 1000).reshape(-1, 1)
    >>> history = distributed.fit(net, X, X**2, optimizer=dj.LBFGS(), epochs=20, progress=False)
    >>> history.loss[-1] < 1e-4
    True
    """
    checks.has(net, "net", "a Network", ("architecture", "fit"))
    if client is not None:
        cluster.check_client(client)
    passes = None if local_epochs is None else checks.whole(local_epochs, "local_epochs")
    if batch_size is None:
        batch_size = BATCH if passes is None else LOCAL_BATCH
    batch_size = checks.whole(batch_size, "batch_size")
    method = checks.optimizer(Adam() if optimizer is None else optimizer)
    architecture = net.architecture
    columns = rows.checked(architecture, X, Y, sample_weight)
    size = _block_size(architecture, len(columns[0]), block_size, batch_size if not passes else 0)
    journal = None
    if checkpoint is not None and hasattr(method, "minimize"):
        journal = _journal(net, method, len(columns[0]), size, checkpoint, every)
    options = Options(
        epochs=epochs,
        batch_size=batch_size,
        optimizer=method,
        validation_data=validation_data,
        schedule=schedule,
        clip_norm=clip_norm,
        dropout=0.0,
        metrics=metrics,
        callbacks=callbacks if journal is None else [*callbacks, journal],
        checkpoint=checkpoint if journal is None else None,
        every=every,
        resume=resume and journal is None,
        progress=progress,
        shuffle=shuffle,
    )
    identity = None if client is None else cluster.prepare(client, architecture, reproducible)
    samples = rows.cut(architecture, columns, size, client)
    reduce = Reduction(architecture, samples, size, client, identity)
    source: Shared = Shared(len(columns[0]), size, reduce, journal)
    if passes is not None:
        source = Federated(source, method, passes, clip_norm)
    if journal is not None and resume:
        journal.resume(net.theta)
    return fitting.fit(net, source, net._rng if rng is None else checks.generator(rng), options)


def _journal(net: Network, method: Any, samples: int, size: int, path: Any, every: int) -> Journal:
    """Return the checkpoint of a method that has its state where nobody reaches it."""
    fit = {"network": repr(net.architecture), "optimizer": repr(method)}
    return Journal(path, every, {**fit, "samples": str(samples), "block_size": str(size)})


def _block_size(
    architecture: Architecture, samples: int, given: int | None, batch_size: int
) -> int:
    """Return the samples of a block: those given, or such that a step has whole blocks."""
    if given is not None:
        return min(checks.whole(given, "block_size"), samples)
    size = rows.default_size(architecture, samples)
    if 0 < batch_size < samples:
        return -(-batch_size // -(-batch_size // size))
    return size


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
            kernels.update(rule, theta, grad)
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
