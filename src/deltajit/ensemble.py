"""Define `Ensemble`: many networks of one shape, trained and evaluated in one call."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import partial
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from deltajit import kernels
from deltajit.circuit import Circuit
from deltajit.io import saving
from deltajit.io.files import Path
from deltajit.kernels.hints import hinted
from deltajit.kernels.mlp import stacked
from deltajit.kernels.mlp.optimizers import Adam, Optimizer
from deltajit.model import checks, data, memory
from deltajit.model.architecture import MOST_PARAMS, Architecture
from deltajit.model.checks import Seed
from deltajit.model.custom import loss_name
from deltajit.model.data import Data
from deltajit.model.described import Described
from deltajit.model.initializers import initial_theta
from deltajit.model.memory import Array
from deltajit.network import Network
from deltajit.plot import units
from deltajit.training import members, schedules
from deltajit.training.history import History, TrainingState
from deltajit.training.minibatches import dropout_of
from deltajit.training.schedules import Schedule
from deltajit.training.watchers import Watchers


class Ensemble(Described):
    """Train and evaluate many networks of one shape at once.

    Each member computes, bit for bit, what it would compute alone.

    Parameters
    ----------
    sizes : sequence of int
        Number of units of each layer: inputs first, outputs last.
    n_members : int
        Number of networks.
    activation, output, loss, l2, dtype, init : optional
        Description of each member, as for `Network`.
    rng : None, int or numpy.random.Generator
        Source of the members' seeds. With an int, member i is ``Network(..., rng=rng + i)``.
    l1, slope, threshold, quantile, gamma, sigma, threads : optional
        Further options, as for `Network`.

    Raises
    ------
    ValueError, TypeError
        An argument is wrong: the message names it, what it was, and what was expected.

    Examples
    --------
    >>> import deltajit as dj
    >>> nets = dj.Ensemble([4, 32, 32, 1], 1000)
    >>> nets
    Ensemble(1,000 x 4-32-32-1, tanh -> identity, squared_error, float32, 1,249 parameters each)
    """

    __slots__ = ("__dict__", "__weakref__", "_architecture", "_model", "_rngs")

    @hinted
    def __init__(
        self,
        sizes: Sequence[int],
        n_members: int,
        activation: str | Sequence[str] = "tanh",
        output: str = "auto",
        loss: str | Circuit = "auto",
        l2: float = 0.0,
        dtype: DTypeLike = "float32",
        init: str = "auto",
        rng: Seed = 0,
        *,
        l1: float = 0.0,
        slope: float = 0.01,
        threshold: float = 1.0,
        quantile: float = 0.5,
        gamma: float = 2.0,
        sigma: float = 1.0,
        threads: int | None = None,
    ) -> None:
        architecture = Architecture.checked(
            sizes, activation, output, loss_name(loss), l2, slope, dtype, l1, threshold, quantile,
            gamma=gamma,
        )  # fmt: skip
        architecture.check_size()
        n_params = architecture.n_params
        workers = checks.threads(threads)
        count = checks.whole(n_members, "n_members", most=MOST_PARAMS // n_params)
        theta = memory.empty(count * n_params, architecture.dtype).reshape(count, -1)
        rngs = [np.random.default_rng(seed) for seed in _seeds(rng, count)]
        for row, generator in zip(theta, rngs, strict=True):
            row[:] = initial_theta(architecture, init, sigma, generator)
        self._bind(architecture, theta, rngs, workers)

    def _bind(
        self,
        architecture: Architecture,
        theta: Array,
        rngs: list[np.random.Generator],
        threads: int,
    ) -> None:
        """Keep `theta`, a row for each member, and make what the kernels work with."""
        self._architecture, self._rngs = architecture, rngs
        self._model = architecture.model(theta, min(threads, len(theta)))

    def _describe(self) -> dict[str, object]:
        return {
            "architecture": self._architecture,
            "theta": self.theta,
            "rngs": self._rngs,
            "threads": self._model.threads,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        theta = memory.copy(state["theta"].ravel()).reshape(state["theta"].shape)
        super().__setstate__({**state, "theta": theta})

    # ---------------------------------------------------------------- what it is

    @property
    def theta(self) -> Array:
        """Return the parameters of all members (n_members, n_params); assigning copies into it."""
        theta: Array = self._model.theta
        return theta

    @theta.setter
    def theta(self, value: ArrayLike) -> None:  # numpydoc ignore=GL08
        self.theta[:] = checks.shaped(value, "theta", self.theta.shape, self._architecture.dtype)

    @property
    def architecture(self) -> Architecture:
        """Return a member without its parameters: sizes, activations and loss."""
        return self._architecture

    @property
    def n_members(self) -> int:
        """Return the number of networks."""
        return len(self.theta)

    def __len__(self) -> int:
        return self.n_members

    @overload
    def __getitem__(self, i: int) -> Network: ...

    @overload
    def __getitem__(self, i: slice) -> Ensemble: ...

    def __getitem__(self, i: int | slice) -> Network | Ensemble:
        """Return member i as a `Network`, or members ``i:j`` as an `Ensemble`.

        Either shares the memory of `theta`, and the members' generators.
        """
        if not isinstance(i, slice):
            return self._member(i)
        first, last, step = i.indices(self.n_members)
        if step != 1 or first >= last:
            raise ValueError(
                f"a slice of an ensemble must have step 1 and at least one of its {self.n_members} "
                f"members, got {i}"
            )
        part = type(self).__new__(type(self))
        theta, rngs = self.theta[first:last], self._rngs[first:last]
        part._bind(self._architecture, theta, rngs, self._model.threads)
        return part

    def _member(self, i: int) -> Network:
        if isinstance(i, bool | np.bool_) or not isinstance(i, SupportsIndex):
            raise TypeError(f"a member's index must be a whole number or a slice, got {i!r}")
        i = operator.index(i)
        if not -self.n_members <= i < self.n_members:
            raise IndexError(f"index must be less than the {self.n_members} members, got {i}")
        return Network.sharing(self._architecture, self.theta[i], self._rngs[i])

    def __repr__(self) -> str:
        member = repr(self[0]).removeprefix("Network(").removesuffix(")")
        return f"Ensemble({self.n_members:,} x {member} each)"

    def _repr_html_(self) -> str:
        return units.face(repr(self), self._architecture, self.theta[0], "member 0")

    # ---------------------------------------------------------------- what it computes

    def predict(self, X: ArrayLike) -> Array:
        """Compute the outputs of all members.

        Parameters
        ----------
        X : array_like, (B, n_in) or one sample (n_in,), or (n_members, B, n_in)
            Inputs, the same for all members or some for each.

        Returns
        -------
        ndarray, (n_members, B, n_out), or (n_members, n_out) of one sample
            Outputs.

        Raises
        ------
        ValueError, TypeError
            X does not hold real numbers, or has another shape.
        """
        (n_in, *_, n_out), dtype = self._architecture.sizes, self._architecture.dtype
        M, inputs = self.n_members, np.asarray(X)
        if inputs.ndim == 3:
            samples = checks.shaped(X, "X", (M, inputs.shape[1], n_in), dtype)
        else:
            samples = checks.matrix(X, "X", n_in, dtype)[0]
        batch = samples.shape[-2]
        out = np.empty((M, batch, n_out), dtype)
        stacked.predict(self._members, samples, out, self._work(batch))
        return out[:, 0] if inputs.ndim == 1 else out

    @np.errstate(all="ignore")
    def mean(self, X: ArrayLike) -> Array:
        """Compute the mean of the members' predictions.

        Parameters
        ----------
        X : array_like
            Inputs, as for `predict`.

        Returns
        -------
        ndarray, (B, n_out) or (n_out,)
            The mean over members.

        Raises
        ------
        ValueError, TypeError
            X is not such as `predict` takes.
        """
        return np.asarray(self.predict(X).mean(axis=0))

    @np.errstate(all="ignore")
    def std(self, X: ArrayLike) -> Array:
        """Compute the standard deviation of the members' predictions, by which they disagree.

        Parameters
        ----------
        X : array_like
            Inputs, as for `predict`.

        Returns
        -------
        ndarray, (B, n_out) or (n_out,)
            The standard deviation over members.

        Raises
        ------
        ValueError, TypeError
            X is not such as `predict` takes.
        """
        return np.asarray(self.predict(X).std(axis=0))

    @np.errstate(all="ignore")
    def quantile(self, X: ArrayLike, q: ArrayLike) -> Array:
        """Compute quantiles of the members' predictions, such as the ends of an interval.

        Parameters
        ----------
        X : array_like
            Inputs, as for `predict`.
        q : float, or array_like (Q,)
            Shares in [0, 1] of members that lie below.

        Returns
        -------
        ndarray, (B, n_out) or (n_out,), with an axis (Q,) in front for several q
            The quantiles over members, interpolated linearly.

        Raises
        ------
        ValueError, TypeError
            X is not such as `predict` takes, or q is not in [0, 1].

        Examples
        --------
        >>> import deltajit as dj
        >>> nets = dj.Ensemble([2, 8, 1], 100)
        >>> low, high = nets.quantile([[0.0, 1.0]], [0.05, 0.95])
        >>> bool(low < high)
        True
        """
        shares = checks.array(q, "q", np.dtype(np.float64))
        if shares.ndim > 1 or not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError(f"q must be a share in [0, 1], or a list of them; got {q!r}")
        outputs = self.predict(X)
        return np.asarray(np.quantile(outputs, shares, axis=0), outputs.dtype)

    def loss(self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        """Compute the loss of each member.

        Parameters
        ----------
        X, Y, sample_weight : array_like
            Samples, as for `Network.loss`, for all members; with an axis of members in front, some
            for each. Weights may have it also where X and Y have not.

        Returns
        -------
        ndarray, (n_members,)
            The losses.

        Raises
        ------
        ValueError, TypeError
            X, Y or sample_weight has another shape, or holds what the loss is not defined for.
        """
        return self._loss(self._data(X, Y, sample_weight))

    def value_and_grad(
        self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        """Compute the loss of each member, and its gradient with respect to the member's theta.

        Parameters
        ----------
        X, Y, sample_weight : array_like
            Samples, as for `loss`.

        Returns
        -------
        values : ndarray, (n_members,)
            The losses.
        grads : ndarray, (n_members, n_params)
            The gradients, laid out like theta.

        Raises
        ------
        ValueError, TypeError
            The samples are not such as `loss` takes.
        """
        samples = self._data(X, Y, sample_weight)
        values, grads = np.empty(self.n_members), np.empty_like(self.theta)
        work = self._work(samples.X.shape[-2])
        stacked.value_and_grad(self._members, stacked.Samples(*samples), values, grads, work)
        return values, grads

    @hinted
    def fit(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        epochs: int = 10,
        batch_size: int = 32,
        optimizer: Optimizer | None = None,
        *,
        validation_data: checks.Validation | None = None,
        sample_weight: ArrayLike | None = None,
        schedule: Schedule | None = None,
        clip_norm: float | None = None,
        dropout: float | Sequence[float] = 0.0,
        callbacks: Sequence[object] = (),
        progress: bool = True,
        shuffle: bool = True,
    ) -> History:
        """Train every member by minibatch descent, each on its own order of the samples.

        A member whose loss is no longer finite returns to its last good epoch and stays there, with
        a warning. A call that raises an error before its first epoch ends changes nothing.

        Parameters
        ----------
        X, Y : array_like
            Finite samples, as for `loss`.
        epochs, batch_size : int
            Passes over the samples, and samples of one step.
        optimizer : Optimizer, optional
            Rule by which theta moves, ``dj.Adam()`` by default; each member has its own state.
        validation_data : (X, Y) or (X, Y, sample_weight), optional
            Samples on which the losses are taken after each epoch.
        sample_weight : array_like, (B,) or (n_members, B), optional
            Weights of the samples; of each member, as counts of a bootstrap, if X is shared too.
        schedule, clip_norm, dropout : optional
            Learning rate of each update, longest gradient, and share of units that a step leaves
            out, as for `Network.fit`; each member leaves out others.
        callbacks : sequence of Callback
            Objects that are told of each epoch, as for `Network.fit`. They see all members: `loss`
            and `val_loss` are means over those that go on, and theta is (n_members, n_params).
        progress : bool
            Whether to show a progress bar, if there is a terminal.
        shuffle : bool
            Whether each epoch takes the samples in a new order.

        Returns
        -------
        History
            Losses, validation losses and seconds, one for each epoch. A loss is an array
            (n_members,), NaN where a member has stopped. Ctrl-C ends the fit, and returns all
            members to the last finished epoch.

        Raises
        ------
        DivergedError
            No member has a finite loss.
        """
        samples = self._data(X, Y, sample_weight, finite=True)
        validation = None
        if validation_data is not None:
            parts = checks.validation_data(validation_data)
            validation = self._data(*parts, source="validation_data", finite=True)
        steps = checks.whole(epochs, "epochs", least=0)
        n = samples.X.shape[-2]
        size = min(checks.whole(batch_size, "batch_size"), n)
        method = checks.optimizer(Adam() if optimizer is None else optimizer)
        if not hasattr(method, "rule"):
            raise TypeError(f"optimizer must be one such as dj.SGD or dj.Adam; got {method}")
        if getattr(method, "full_batch", False):
            size = n
        checks.schedule(schedule)
        if clip_norm is not None:
            checks.above_zero(clip_norm, "clip_norm")
        rule = members.rule_of(method, self.theta)
        rates = schedules.rates(schedule, float(rule.rates[0]), steps, -(-n // size))
        rule = rule._replace(rates=rates, clip=float(clip_norm or 0))
        watchers = Watchers(callbacks=checks.callbacks(callbacks), progress=bool(progress))
        columns = ("loss", "time") if validation is None else ("loss", "val_loss", "time")
        n_hidden = len(self._architecture.sizes) - 2
        left_out = dropout_of(dropout, n_hidden, lambda: np.zeros(self.n_members, np.uint64))
        state = TrainingState(self, rule, History(), steps, columns, left_out)
        val_loss = None if validation is None else partial(self._loss, validation)
        return members.fit(
            state, self._model, self._rngs, samples, size, val_loss, bool(shuffle), watchers
        )

    # ---------------------------------------------------------------- files

    def save(self, path: Path) -> None:
        """Write all members to one safetensors file, which `load` reads.

        The tensors are named as by `Network.save`, with an axis of members in front:
        "layers.0.weight" (n_members, n_out, n_in) and "layers.0.bias" (n_members, n_out).

        Parameters
        ----------
        path : str, bytes or os.PathLike
            File to write. An existing file is replaced as a whole, and kept after any failure.

        Raises
        ------
        TypeError
            path is no path.
        ValueError
            There are so many layers, or so large a loss, that `load` would refuse the file.
        OSError
            The file can't be written.
        """
        saving.save(path, self._architecture, self.theta)

    @classmethod
    def load(cls, path: Path, *, rng: Seed = 0, threads: int | None = None) -> Ensemble:
        """Read an ensemble from a file that `save` wrote; nothing in the file is executed.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            File to read.
        rng : None, int or numpy.random.Generator
            Source of the members' seeds, as for `Ensemble`; the file holds none.
        threads : int, optional
            Number of threads, as for `Network`.

        Returns
        -------
        Ensemble
            The ensemble.

        Raises
        ------
        FormatError
            The file is no saved ensemble, is damaged, or needs a newer deltajit.
        FileNotFoundError
            There is no such file.
        """
        architecture, theta = saving.load_members(path)
        rngs = [np.random.default_rng(seed) for seed in _seeds(rng, len(theta))]
        new = cls.__new__(cls)
        new._bind(architecture, theta, rngs, checks.threads(threads))
        return new

    # ---------------------------------------------------------------- helpers

    @property
    def _members(self) -> stacked.Members:
        return stacked.Members(*self._model)

    def _loss(self, samples: Data) -> Array:
        values, work = np.empty(self.n_members), self._work(samples.X.shape[-2])
        stacked.loss(self._members, stacked.Samples(*samples), values, work)
        return values

    def _work(self, batch: int) -> Array:
        """Allocate scratch memory, a row for each thread."""
        size = kernels.workspace_size(self._model, batch)
        return memory.rows(self._model.threads, size, self.theta.dtype)

    def _data(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        weights: ArrayLike | None,
        source: str = "",
        *,
        finite: bool = False,
    ) -> Data:
        """Check samples, for all members or with an axis of members in front."""
        architecture, M = self._architecture, self.n_members
        inputs, targets = np.asarray(X), np.asarray(Y)
        if inputs.ndim < 3 and np.ndim(weights) < 2:  # type: ignore[arg-type]
            return data.checked(architecture, X, Y, weights, source, finite=finite)
        if inputs.ndim < 3:
            shared = data.checked(architecture, X, Y, None, source, finite=finite)
            return shared._replace(weights=self._weights(weights, len(shared.X), source))
        name = f"{source}[0]" if source else "X"
        if inputs.shape[0] != M or targets.shape[:2] != inputs.shape[:2]:
            raise ValueError(
                f"{name} of three axes must be ({M}, batch, {architecture.sizes[0]}) and Y "
                f"({M}, batch, ...), got {inputs.shape} and {targets.shape}"
            )
        B = inputs.shape[1]
        rows = None if weights is None else self._weights(weights, B, source)
        flat = data.checked(
            architecture,
            inputs.reshape(M * B, -1),
            targets.reshape(M * B, *targets.shape[2:]),
            None,
            source,
            finite=finite,
        )
        return Data(flat.X.reshape(M, B, -1), flat.Y.reshape(M, B, -1), rows)

    def _weights(self, weights: object, B: int, source: str) -> Array:
        """Return finite weights (n_members, B) >= 0, of which no member's are all 0."""
        name, M = f"{source}[2]" if source else "sample_weight", self.n_members
        given = checks.array(weights, name, self._architecture.dtype)
        try:
            rows = np.broadcast_to(given, (M, B))
        except ValueError:
            raise ValueError(
                f"{name} must have shape ({M}, {B}) or ({B},), got {given.shape}"
            ) from None
        has_weight = rows.any(axis=1)
        if B and not has_weight.all():
            raise ValueError(
                f"{name} must not be 0 for every sample of a member, as it is for member "
                f"{has_weight.argmin()}"
            )
        flat = checks.weights(rows.reshape(-1), name, M * B, given.dtype)
        assert flat is not None
        return flat.reshape(M, B)


def _seeds(rng: Seed, count: int) -> list[int]:
    """Return a seed for each member."""
    generator = checks.generator(rng)
    if isinstance(rng, (int, np.integer)):
        return [int(rng) + i for i in range(count)]
    return [int(seed) for seed in generator.integers(2**63, size=count)]
