"""Ensembles: many networks of one shape, trained and evaluated in one call."""

from __future__ import annotations

import operator
from functools import partial
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike

from deltajit import kernels
from deltajit.kernels.mlp import ensemble
from deltajit.kernels.mlp.optimizers import Adam, Optimizer
from deltajit.model import checks, data, memory
from deltajit.model.architecture import MOST_PARAMS, Architecture
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
    """Many networks of one shape; each is, bit for bit, what it would be alone.

    Parameters
    ----------
    sizes, activation, output, loss, l2, dtype, init, l1, slope, threshold, quantile, sigma, threads
        As for `Network`.
    n_members : int
        How many networks.
    rng : None, int or numpy.random.Generator
        Where the members' seeds come from. With an int, member i is ``Network(..., rng=rng + i)``.

    Examples
    --------
    >>> import deltajit as dj
    >>> nets = dj.Ensemble([4, 32, 32, 1], 1000)
    >>> nets
    Ensemble(1,000 x 4-32-32-1, tanh -> identity, squared_error, float32, 1,249 parameters each)
    """

    __slots__ = ("__dict__", "__weakref__", "_architecture", "_model", "_rngs")

    def __init__(
        self,
        sizes: Any,
        n_members: int,
        activation: Any = "tanh",
        output: str = "auto",
        loss: str = "auto",
        l2: float = 0.0,
        dtype: Any = "float32",
        init: str = "auto",
        rng: Any = 0,
        *,
        l1: float = 0.0,
        slope: float = 0.01,
        threshold: float = 1.0,
        quantile: float = 0.5,
        sigma: float = 1.0,
        threads: int | None = None,
    ) -> None:
        made_of = Architecture.checked(
            sizes, activation, output, loss_name(loss), l2, slope, dtype, l1, threshold, quantile
        )
        made_of.check_size()
        most, workers = MOST_PARAMS // made_of.n_params, checks.threads(threads)
        count = checks.whole(n_members, "n_members", most=most)
        theta = memory.empty(count * made_of.n_params, made_of.dtype).reshape(count, -1)
        rngs = [np.random.default_rng(seed) for seed in _seeds(rng, count)]
        for row, generator in zip(theta, rngs, strict=True):
            row[:] = initial_theta(made_of, init, sigma, generator)
        self._bind(made_of, theta, rngs, workers)

    def _bind(
        self,
        architecture: Architecture,
        theta: Array,
        rngs: list[np.random.Generator],
        threads: int,
    ) -> None:
        """Hold `theta` itself, a row for each member, and what the kernels work with."""
        self._architecture, self._rngs = architecture, rngs
        self._model = architecture.model(theta, min(threads, len(theta)))

    def _describe(self) -> dict[str, Any]:
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
        """Parameters of all members, (n_members, n_params); assigning copies into it."""
        theta: Array = self._model.theta
        return theta

    @theta.setter
    def theta(self, value: ArrayLike) -> None:
        self.theta[:] = checks.shaped(value, "theta", self.theta.shape, self._architecture.dtype)

    @property
    def architecture(self) -> Architecture:
        """Sizes, activations and loss of each member."""
        return self._architecture

    @property
    def n_members(self) -> int:
        """How many networks there are."""
        return len(self.theta)

    def __len__(self) -> int:
        return self.n_members

    @overload
    def __getitem__(self, i: int) -> Network: ...

    @overload
    def __getitem__(self, i: slice) -> Ensemble: ...

    def __getitem__(self, i: int | slice) -> Network | Ensemble:
        """Member i as a `Network`, or neighbours ``i:j`` as an `Ensemble`.

        Both are on the same theta, and have the members' own generators.
        """
        if not isinstance(i, slice):
            return self._member(i)
        first, last, step = i.indices(self.n_members)
        if step != 1 or first >= last:
            raise ValueError(
                f"a slice of an ensemble must have step 1 and at least one of its {self.n_members} "
                f"members, got {i}"
            )
        some = type(self).__new__(type(self))
        theta, rngs = self.theta[first:last], self._rngs[first:last]
        some._bind(self._architecture, theta, rngs, self._model.threads)
        return some

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
        """Outputs of all members.

        Parameters
        ----------
        X : array_like, (B, n_in) for all members, or (n_members, B, n_in), or one sample (n_in,)

        Returns
        -------
        ndarray, (n_members, B, n_out), or (n_members, n_out) of one sample
        """
        made_of, M = self._architecture, self.n_members
        inputs = np.asarray(X)
        if inputs.ndim == 3:
            samples = checks.shaped(X, "X", (M, inputs.shape[1], made_of.sizes[0]), made_of.dtype)
        else:
            samples = checks.matrix(X, "X", made_of.sizes[0], made_of.dtype)[0]
        batch = samples.shape[-2]
        out = np.empty((M, batch, made_of.sizes[-1]), made_of.dtype)
        ensemble.predict(self._model, samples, out, self._work(batch))
        return out[:, 0] if inputs.ndim == 1 else out

    @np.errstate(all="ignore")
    def mean(self, X: ArrayLike) -> Array:
        """Mean of the members' predictions, (B, n_out)."""
        mean: Array = self.predict(X).mean(axis=0)
        return mean

    @np.errstate(all="ignore")
    def std(self, X: ArrayLike) -> Array:
        """Standard deviation of the members' predictions, (B, n_out): where they disagree."""
        spread: Array = self.predict(X).std(axis=0)
        return spread

    def loss(self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        """Loss of each member, (n_members,).

        X, Y and sample_weight as for `Network.loss`, or with an axis of members in front.
        """
        return self._loss(self._data(X, Y, sample_weight))

    def value_and_grad(
        self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        """Losses (n_members,) and gradients (n_members, n_params); arguments as for `loss`."""
        samples = self._data(X, Y, sample_weight)
        values, grads = np.empty(self.n_members), np.empty_like(self.theta)
        work = self._work(samples.X.shape[-2])
        ensemble.value_and_grad(self._model, samples, values, grads, work)
        return values, grads

    def fit(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        epochs: int = 10,
        batch_size: int = 32,
        optimizer: Optimizer | None = None,
        *,
        validation_data: tuple[Any, ...] | None = None,
        sample_weight: ArrayLike | None = None,
        progress: bool = True,
        shuffle: bool = True,
    ) -> History:
        """Train every member by minibatch descent, each with an order of samples of its own.

        A member whose loss is no longer finite goes back to its last good epoch and stays there,
        with a warning.

        Parameters
        ----------
        X, Y, sample_weight
            As for `Network.fit`; with an axis of members in front, each has its own data.
        epochs, batch_size, optimizer, validation_data, progress, shuffle
            As for `Network.fit`; each member has an optimizer of its own.

        Returns
        -------
        History
            Each loss is an array (n_members,), NaN where a member has stopped. After Ctrl-C all
            members are at the end of the last finished epoch.

        Raises
        ------
        DivergedError
            No member is left.
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

    def _loss(self, samples: Data) -> Array:
        values, work = np.empty(self.n_members), self._work(samples.X.shape[-2])
        ensemble.loss(self._model, samples, values, work)
        return values

    def _work(self, batch: int) -> Array:
        """Scratch memory, a row for each thread."""
        size = kernels.workspace_size(self._model, batch)
        return memory.rows(self._model.threads, size, self.theta.dtype)

    def _data(
        self, X: Any, Y: Any, weights: Any, source: str = "", *, finite: bool = False
    ) -> Data:
        """Samples for all members, or with an axis of members for each."""
        made_of, M = self._architecture, self.n_members
        inputs, targets = np.asarray(X), np.asarray(Y)
        if inputs.ndim < 3:
            return data.checked(made_of, X, Y, weights, source, finite=finite)
        name = f"{source}[0]" if source else "X"
        if inputs.shape[0] != M or targets.shape[:2] != inputs.shape[:2]:
            raise ValueError(
                f"{name} of three axes must be ({M}, batch, {made_of.sizes[0]}) and Y ({M}, batch, "
                f"...), got {inputs.shape} and {targets.shape}"
            )
        B = inputs.shape[1]
        flat_weights = None if weights is None else self._weights(weights, B, source)
        flat = data.checked(
            made_of,
            inputs.reshape(M * B, -1),
            targets.reshape(M * B, *targets.shape[2:]),
            flat_weights,
            source,
            finite=finite,
        )
        own_weights = None if flat.weights is None else flat.weights.reshape(M, B)
        return Data(flat.X.reshape(M, B, -1), flat.Y.reshape(M, B, -1), own_weights)

    def _weights(self, weights: Any, B: int, source: str) -> Array:
        """Weights (n_members * B,), of which no member's are all 0."""
        name, M = f"{source}[2]" if source else "sample_weight", self.n_members
        given = checks.array(weights, name, self._architecture.dtype)
        try:
            rows = np.broadcast_to(given, (M, B))
        except ValueError:
            raise ValueError(
                f"{name} must have shape ({M}, {B}) or ({B},), got {given.shape}"
            ) from None
        weighty = rows.any(axis=1)
        if B and not weighty.all():
            raise ValueError(
                f"{name} must not be 0 for every sample of a member, as it is for member "
                f"{weighty.argmin()}"
            )
        return rows.reshape(-1)


def _seeds(rng: Any, count: int) -> list[int]:
    """One seed a member."""
    generator = checks.generator(rng)
    if isinstance(rng, (int, np.integer)):
        return [int(rng) + i for i in range(count)]
    return [int(seed) for seed in generator.integers(2**63, size=count)]
