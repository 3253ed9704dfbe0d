"""Fit a network to blocks of samples: the client takes the steps, workers compute gradients."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from deltajit.distributed import cluster, rows
from deltajit.distributed.journal import Journal
from deltajit.distributed.reduction import Reduction
from deltajit.distributed.steps import Federated, Shared
from deltajit.kernels.mlp.optimizers import Adam, Optimizer
from deltajit.model import checks
from deltajit.model.architecture import Architecture
from deltajit.model.checks import Seed
from deltajit.network import Network
from deltajit.training import fitting
from deltajit.training.fitting import Options
from deltajit.training.full_batch import FullBatch
from deltajit.training.history import History
from deltajit.training.schedules import Schedule
from deltajit.training.second_order import SecondOrder
from deltajit.training.watchers import Metric

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
    >>> history.loss[-1] < 0.1 * history.loss[0]
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
    if isinstance(method, SecondOrder):
        name = type(method).__name__
        raise ValueError(f"optimizer must be one that gradients are enough for, got {name}")
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
