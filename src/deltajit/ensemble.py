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
from deltajit.training import members
from deltajit.training.history import History, TrainingState


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
    l1, slope, threshold, quantile, sigma, threads : optional
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
        sigma: float = 1.0,
        threads: int | None = None,
    ) -> None:
        architecture = Architecture.checked(
            sizes, activation, output, loss_name(loss), l2, slope, dtype, l1, threshold, quantile
        )
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

    def loss(self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        """Compute the loss of each member.

        Parameters
        ----------
        X, Y, sample_weight : array_like
            Samples, as for `Network.loss`, for all members; with an axis of members in front, some
            for each.

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
        progress: bool = True,
        shuffle: bool = True,
    ) -> History:
        """Train every member by minibatch descent, each on its own order of the samples.

        A member whose loss is no longer finite returns to its last good epoch and stays there, with
        a warning.

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
            Weights of the samples.
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
            raise TypeError(f"optimizer must take minibatches, as dj.SGD or dj.Adam; got {method}")
        if getattr(method, "full_batch", False):
            size = n
        history, rule = History(), members.rule_of(method, self.theta)
        state = TrainingState(self, rule, history, steps, ("loss", "val_loss", "time"))
        val_loss = None if validation is None else partial(self._loss, validation)
        rngs = self._rngs if shuffle else None
        return members.fit(state, self._model, rngs, samples, size, val_loss, progress)

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
        if inputs.ndim < 3:
            return data.checked(architecture, X, Y, weights, source, finite=finite)
        name = f"{source}[0]" if source else "X"
        if inputs.shape[0] != M or targets.shape[:2] != inputs.shape[:2]:
            raise ValueError(
                f"{name} of three axes must be ({M}, batch, {architecture.sizes[0]}) and Y "
                f"({M}, batch, ...), got {inputs.shape} and {targets.shape}"
            )
        B = inputs.shape[1]
        flat_weights = None if weights is None else self._weights(weights, B, source)
        flat = data.checked(
            architecture,
            inputs.reshape(M * B, -1),
            targets.reshape(M * B, *targets.shape[2:]),
            flat_weights,
            source,
            finite=finite,
        )
        rows = None if flat.weights is None else flat.weights.reshape(M, B)
        return Data(flat.X.reshape(M, B, -1), flat.Y.reshape(M, B, -1), rows)

    def _weights(self, weights: ArrayLike, B: int, source: str) -> Array:
        """Return weights (n_members * B,), of which no member's are all 0."""
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
        return rows.reshape(-1)


def _seeds(rng: Seed, count: int) -> list[int]:
    """Return a seed for each member."""
    generator = checks.generator(rng)
    if isinstance(rng, (int, np.integer)):
        return [int(rng) + i for i in range(count)]
    return [int(seed) for seed in generator.integers(2**63, size=count)]
