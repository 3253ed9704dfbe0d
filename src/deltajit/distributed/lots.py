"""Train members of an ensemble, and predict lots of samples, by Dask."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
from dask.delayed import delayed
from distributed import as_completed
from numpy.typing import ArrayLike

from deltajit.distributed import cluster, rows
from deltajit.ensemble import Ensemble
from deltajit.kernels.mlp.optimizers import Optimizer
from deltajit.model import checks
from deltajit.model.memory import Array
from deltajit.network import Network
from deltajit.training.history import History
from deltajit.training.loop import DivergedError
from deltajit.training.members import say_diverged
from deltajit.training.progress import progress_bar

TASKS = 4  # slices of members for each thread


def predict(net: Network, X: Any) -> da.Array:
    """Predict samples block by block, when the result is computed.

    Parameters
    ----------
    net : Network
        Network, which is copied now.
    X : array_like, dask array or data frame, path, memory map, or list of paths or memory maps
        Samples (n, n_in); the chunks of a dask array stay as they are.

    Returns
    -------
    dask.array.Array, (n, n_out)
        The outputs, lazily: the bits of ``net.predict``, whatever the chunks.

    Examples
    --------
    >>> from deltajit import distributed
    >>> net = dj.Network([4, 8, 2])
    >>> distributed.predict(net, np.zeros((1000, 4))).compute().shape
    (1000, 2)
    """
    checks.has(net, "net", "a Network", ("architecture", "predict"))
    architecture, column = net.architecture, rows.column(X, "X")
    n_in, *_, n_out = architecture.sizes
    if column.ndim != 2 or column.shape[1] != n_in:
        raise ValueError(f"X must have shape (batch, {n_in}), got {column.shape}")
    if not isinstance(column, da.Array):
        size = rows.default_size(architecture, len(column))
        column = da.from_array(column, chunks=(size, n_in))
    alone = Network.sharing(architecture, net.theta.copy(), np.random.default_rng(0))
    return column.map_blocks(
        _outputs,
        delayed(alone, traverse=False),
        dtype=net.dtype,
        chunks=(column.chunks[0], (n_out,)),
        meta=np.empty((0, 0), net.dtype),
        name="deltajit-predict",
    )


def _outputs(X: Array, net: Network) -> Array:
    return net.predict(X)


# ---------------------------------------------------------------- ensembles


class _Trained(NamedTuple):
    """Hold what a task returns of its members."""

    theta: Array
    rngs: list[Any]
    history: History
    error: DivergedError | None


def fit_ensemble(
    nets: Ensemble,
    X: ArrayLike,
    Y: ArrayLike,
    client: Any = None,
    optimizer: Optimizer | None = None,
    epochs: int = 10,
    batch_size: int = 32,
    *,
    validation_data: checks.Validation | None = None,
    sample_weight: ArrayLike | None = None,
    progress: bool = True,
    shuffle: bool = True,
    reproducible: bool = True,
) -> History:
    """Train an ensemble, slices of its members on workers; theta changes when all are done.

    Each member gets, bit for bit, what it gets from ``nets.fit``, and from a fit of its own.

    Parameters
    ----------
    nets : Ensemble
        Networks to train.
    X, Y : array_like
        Samples that fit into the memory of each worker, as for `Ensemble.fit`.
    client : distributed.Client, optional
        Client of a cluster. None trains in this process, as `Ensemble.fit` does.
    optimizer : Optimizer, optional
        Rule by which theta moves: ``dj.Adam()`` by default.
    epochs, batch_size : int
        Passes over the samples, and samples of one step.
    validation_data, sample_weight : optional
        As for `Ensemble.fit`.
    progress : bool
        Whether to show a progress bar, of slices that are done, if there is a terminal.
    shuffle : bool
        Whether each epoch takes the samples in a new order.
    reproducible : bool
        Whether to refuse workers of different versions, kernels or instruction sets.

    Returns
    -------
    History
        As of `Ensemble.fit`; the seconds are those of the slowest slice.

    Raises
    ------
    MixedClusterError
        Workers would give different bits.
    DivergedError
        No member has a finite loss.
    """
    checks.has(nets, "nets", "an Ensemble", ("n_members", "fit"))
    options: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "shuffle": shuffle,
    }
    if client is None:
        return nets.fit(
            X, Y, validation_data=validation_data, sample_weight=sample_weight,
            progress=progress, **options,
        )  # fmt: skip
    checks.whole(epochs, "epochs", least=0)
    samples = _Samples.of(nets, X, Y, sample_weight)
    validation = None
    if validation_data is not None:
        validation = _Samples.of(nets, *checks.validation_data(validation_data), "validation_data")
    cluster.prepare(client, nets.architecture, reproducible)
    done = _computed(client, _tasks(nets, samples, validation, options, client), progress)
    nets.theta[:] = np.concatenate([part.theta for part in done])
    states = [state for part in done for state in part.rngs]
    for generator, state in zip(nets._rngs, states, strict=True):
        generator.bit_generator.state = state
    history = _joined([part.history for part in done], [len(part.theta) for part in done])
    _report(done, history)
    return history


class _Samples(NamedTuple):
    """Hold samples as they were given, for all members or with an axis of members in front."""

    X: Array
    Y: Array
    weights: Array | None

    @classmethod
    def of(cls, nets: Ensemble, X: Any, Y: Any, weights: Any, source: str = "") -> _Samples:
        """Check samples, for workers to check them again."""
        nets._data(X, Y, weights, source, finite=True)
        return cls(np.asarray(X), np.asarray(Y), None if weights is None else np.asarray(weights))

    def of_members(self, some: slice) -> _Samples:
        """Return those of some members; itself if they are the same for all."""
        if self.X.ndim < 3:
            return self
        weights = self.weights
        if weights is not None and weights.ndim == 2:
            weights = weights[some]
        return _Samples(self.X[some], self.Y[some], weights)


def _tasks(
    nets: Ensemble, samples: _Samples, validation: Any, options: dict[str, Any], client: Any
) -> list[Any]:
    """Return a task for each slice of members."""
    size = -(-nets.n_members // (TASKS * max(1, sum(client.nthreads().values()))))
    slices = [slice(first, first + size) for first in range(0, nets.n_members, size)]
    shared = delayed((samples, validation), traverse=False)
    tasks = []
    for some in slices:
        given = shared
        parts = [x if x is None else x.of_members(some) for x in (samples, validation)]
        if parts[0] is not samples or parts[1] is not validation:
            given = delayed(tuple(parts), traverse=False)
        tasks.append(delayed(_train, pure=False)(nets[some], given, options))
    return tasks


def _train(part: Ensemble, given: tuple[_Samples, _Samples | None], options: Any) -> _Trained:
    """Train a slice of members on a worker."""
    ((X, Y, weights), validation), error = given, None
    try:
        history = part.fit(
            X, Y, sample_weight=weights, validation_data=validation, progress=False, **options
        )
    except DivergedError as lost:  # all of the slice, but maybe not all of the ensemble
        error, history = lost, lost.history
    return _Trained(part.theta, [rng.bit_generator.state for rng in part._rngs], history, error)


def _computed(client: Any, tasks: list[Any], progress: bool) -> list[_Trained]:
    """Return the results of tasks, in their order."""
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": 2**62}):
        futures = client.compute(tasks)
    with progress_bar(len(futures), progress, unit="slice") as bar:
        for _ in as_completed(futures):
            bar.update()
    results: list[_Trained] = client.gather(futures)
    return results


def _joined(histories: list[History], members: list[int]) -> History:
    """Join the histories of slices; one that ended early, all diverged, has NaN from there on."""
    epochs = max(len(history.loss) for history in histories)

    def joined(name: str) -> list[Array]:
        columns = [getattr(history, name) for history in histories]
        return [
            np.concatenate(
                [
                    column[epoch] if epoch < len(column) else np.full(count, np.nan)
                    for column, count in zip(columns, members, strict=True)
                ]
            )
            for epoch in range(max(map(len, columns)))
        ]

    whole = History(joined("loss"), joined("val_loss"))
    times = [history.time for history in histories]
    whole.time = [max(t[epoch] for t in times if epoch < len(t)) for epoch in range(epochs)]
    return whole


def _report(done: list[_Trained], history: History) -> None:
    """Raise DivergedError if all members have diverged, and warn if some have."""
    errors = [part.error for part in done]
    if all(errors):
        last = max(filter(None, errors), key=lambda error: error.epoch)
        last.history = history
        raise last
    bad = [part.error is not None for part in done]
    lost = np.repeat(bad, [len(part.theta) for part in done])
    if history.loss:
        lost |= np.isnan(history.loss[-1])
    if lost.any():
        warnings.warn(say_diverged(lost), RuntimeWarning, stacklevel=3)
