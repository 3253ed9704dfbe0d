"""The `Network`: a thin face over the kernels. It checks, allocates once, and calls one kernel."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deltajit import kernels, reference
from deltajit.circuit import Circuit
from deltajit.derivatives.blackboard import NetworkTrace
from deltajit.derivatives.linearization import Linearization
from deltajit.derivatives.numbers import traced
from deltajit.derivatives.objective import Objective
from deltajit.io import c_header, onnx, pytorch, saving, scikit_learn
from deltajit.io.files import Path
from deltajit.kernels.blocks import LARGEST_BLOCK
from deltajit.kernels.mlp import handle
from deltajit.kernels.mlp.optimizers import Adam, Optimizer
from deltajit.model import checks, custom, memory
from deltajit.model.architecture import Architecture, with_names
from deltajit.model.collapse import collapsed
from deltajit.model.data import Data, checked
from deltajit.model.described import Described
from deltajit.model.initializers import initial_theta
from deltajit.model.memory import Array
from deltajit.plot import units
from deltajit.training import fitting
from deltajit.training.fitting import Options
from deltajit.training.full_batch import FullBatch
from deltajit.training.history import History
from deltajit.training.schedules import Schedule
from deltajit.training.watchers import Metric


@with_names
class Network(Described):
    """A multilayer perceptron: predictions, loss, gradient and training.

    Parameters
    ----------
    sizes : list of int
        Units of each layer, inputs first, outputs last.
    activation : str or list of str
        Of the hidden layers, one name for all or one name each. There are
        {hidden},
        and your own, by `register_activation`. The derivative of "step", the perceptron's
        threshold, is 0.
    output : str
        Activation of the output layer. There are
        {outputs}.
        "gaussian" is means first, then as many variances. "auto" is the one that belongs to the
        loss, and identity if there is none.
    loss : str or Circuit
        There are
        {losses},
        and your own, by `register_loss`. Where none is said, any output will do but gaussian.
        "auto" is the one that belongs to the output. Or a `Circuit`, the loss of one sample as a
        function of its outputs, then of its targets, one or more.
    l2, l1 : float
        Add ``l2/2 * sum(W**2) + l1 * sum(|W|)`` to the loss; biases are not penalized.
    dtype : "float32" or "float64"
        Of theta and of everything that is computed.
    init : str
        "auto" (he for layers of the relu family, glorot for others), "he", "glorot", "lecun",
        "normal", "zeros". Biases start at 0.
    rng : None, int or numpy.random.Generator
        Draws the initial weights, and the order of samples in `fit`.
    slope : float
        Slope of leaky_relu below 0.
    threshold : float
        Residuals larger than this count linearly in the loss "huber".
    quantile : float
        That the loss "quantile" asks for, between 0 and 1.
    sigma : float
        Standard deviation of init="normal".
    threads : int, optional
        How many threads a batch may use that is large enough for it to pay; None is one for each
        core that this process may use, and without OpenMP it is 1. The results are the same bits
        for any number.

    Raises
    ------
    ValueError, TypeError
        Naming the wrong argument, what it was, and what was expected.

    Examples
    --------
    >>> import deltajit as dj
    >>> net = dj.Network([2, 2, 1], activation="tanh", output="sigmoid", rng=1)
    >>> net
    Network(2-2-1, tanh -> sigmoid, binary_cross_entropy, float32, 9 parameters)
    """

    __slots__ = (
        "__dict__", "__weakref__", "_architecture", "_biases", "_lent", "_model", "_rng",
        "_scratch", "_weights",
    )  # fmt: skip

    def __init__(
        self,
        sizes: Any,
        activation: Any = "tanh",
        output: str = "auto",
        loss: str | Circuit = "auto",
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
        name = custom.loss_name(loss)
        architecture = Architecture.checked(
            sizes, activation, output, name, l2, slope, dtype, l1, threshold, quantile
        )
        architecture.check_size()
        generator, workers = checks.generator(rng), checks.threads(threads)
        theta = initial_theta(architecture, init, sigma, generator)
        self._bind(architecture, memory.copy(theta), generator, workers)

    def _bind(
        self, architecture: Architecture, theta: Array, rng: np.random.Generator, threads: int
    ) -> None:
        """Hold `theta` and the views of it that kernels and users work with."""
        self._architecture = architecture
        self._rng = rng
        self._weights, self._biases = architecture.unflatten(theta)
        self._model = architecture.model(theta, threads)
        self._scratch = threading.local()
        self._lent: list[Array] = []  # workspaces behind handles

    # ---------------------------------------------------------------- what it is

    @property
    def theta(self) -> Array:
        """Every parameter in one vector (n_params,); assigning copies into it."""
        theta: Array = self._model.theta
        return theta

    @theta.setter
    def theta(self, value: ArrayLike) -> None:
        self.theta[:] = checks.shaped(value, "theta", self.theta.shape, self.dtype)

    @property
    def weights(self) -> tuple[Array, ...]:
        """W[l] (n_l, n_{l-1}) of each layer, views of theta."""
        return self._weights

    @property
    def biases(self) -> tuple[Array, ...]:
        """b[l] (n_l,) of each layer, views of theta."""
        return self._biases

    @property
    def architecture(self) -> Architecture:
        """Sizes, activations and loss: what the network is, without its parameters."""
        return self._architecture

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units of each layer, inputs first."""
        return self._architecture.sizes

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self._architecture.dtype

    @property
    def n_params(self) -> int:
        """Number of weights and biases."""
        return self._architecture.n_params

    @property
    def threads(self) -> int:
        """How many threads a large batch may use; the results are the same bits for any number."""
        threads: int = self._model.threads
        return threads

    def __repr__(self) -> str:
        made_of = self._architecture
        hidden = made_of.activations[:-1]
        names = hidden[:1] if len(set(hidden)) == 1 else hidden
        return (
            f"Network({'-'.join(map(str, made_of.sizes))}, "
            f"{' -> '.join((*names, made_of.activations[-1]))}, {made_of.loss}, "
            f"{made_of.dtype.name}, {made_of.n_params:,} parameters)"
        )

    def _repr_html_(self) -> str:
        return units.face(repr(self), self._architecture, self.theta)

    def _describe(self) -> dict[str, Any]:
        return {
            "architecture": self._architecture,
            "theta": self.theta,
            "rng": self._rng,
            "threads": self.threads,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "theta": memory.copy(state["theta"])})

    @classmethod
    def sharing(
        cls, architecture: Architecture, theta: Array, rng: np.random.Generator, threads: int = 1
    ) -> Network:
        """A network on `theta` (n_params,) itself: what is done to one is done to the other."""
        net = cls.__new__(cls)
        net._bind(architecture, theta, rng, threads)
        return net

    # ---------------------------------------------------------------- for jitted code and checks

    @property
    def model(self) -> kernels.Model:
        """The network as the kernels take it; theta is shared with it, not copied."""
        return self._model

    def workspace(self, batch: int, order: int = 1, threads: int | None = None) -> Array:
        """Scratch memory that the kernels need for batches of up to `batch` samples.

        Parameters
        ----------
        batch : int
        order : 1 or 2
            1 is enough to predict, for loss and gradient, and to train; 2 for all derivatives.
        threads : int, optional
            How many threads of your own call kernels at once: each needs a row of the result.

        Returns
        -------
        ndarray, (size,), or (threads, at least size) where threads is given
        """
        samples = checks.whole(batch, "batch")
        if order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {order!r}")
        size = kernels.workspace_size(self._model, samples, order)
        if threads is None:
            return memory.empty(size, self.dtype)
        return memory.rows(checks.whole(threads, "threads"), size, self.dtype)

    def handle(self, batch: int = 1, order: int = 1) -> NDArray[np.int64]:
        """The network and a workspace as one array of addresses, for C callbacks.

        A ``numba.cfunc`` may use it as a global: ``model, work = kernels.from_handle(handle, x)``
        gives back what every kernel takes, with the weights as they are now. It is valid as long
        as this network lives, in this process (so never with cache=True), for one thread at a time.

        Parameters
        ----------
        batch, order
            As for `workspace`.
        """
        work = self.workspace(batch, order)
        self._lent.append(work)
        made: NDArray[np.int64] = handle.make_handle(self._model, work)
        return made

    @property
    def reference(self) -> reference.Model:
        """The same network for `deltajit.reference`, on views of the same theta."""
        it = self._architecture
        return reference.Model(
            self.weights, self.biases, it.activations, it.loss, it.l2, it.slope, it.l1, it.bend
        )

    # ---------------------------------------------------------------- what it computes

    def predict(self, X: ArrayLike) -> Array:
        """Outputs of the network.

        Parameters
        ----------
        X : array_like, (B, n_in) or one sample (n_in,)

        Returns
        -------
        ndarray, (B, n_out) or (n_out,)
            Probabilities for softmax and sigmoid outputs.
        """
        made_of = self._architecture
        samples = checks.samples(X, "X", made_of.sizes[0], made_of.dtype)
        out = np.empty((*samples.shape[:-1], made_of.sizes[-1]), made_of.dtype)
        handle.predict(self._handle(), samples, out)
        return out

    def loss(self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Weighted mean over samples of the loss, plus ``l2/2 * sum(W**2) + l1 * sum(|W|)``.

        Parameters
        ----------
        X : array_like, (B, n_in) or one sample (n_in,)
        Y : array_like, (B, n_out), also (B,) if n_out is 1
            For cross_entropy also integer class labels (B,).
        sample_weight : array_like, (B,), optional
            ``sum(w * loss) / sum(w)`` replaces the mean.
        """
        data = self._data(X, Y, sample_weight)
        return float(handle.loss(self._handle(), data.X, data.Y, data.weights))

    def value_and_grad(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        out: Array | None = None,
    ) -> tuple[float, Array]:
        """The loss and its gradient with respect to theta.

        Parameters
        ----------
        X, Y, sample_weight
            As for `loss`.
        out : ndarray, (n_params,), optional
            Where to write the gradient.

        Returns
        -------
        value : float
        grad : ndarray, (n_params,)
            Laid out like theta; `unflatten` gives its dW and db.
        """
        data = self._data(X, Y, sample_weight)
        if out is None:
            grad = memory.empty(self.n_params, self.dtype)
        else:
            grad = checks.out(out, self.n_params, self.dtype)
        value = handle.value_and_grad(self._handle(), data.X, data.Y, grad, data.weights)
        return float(value), grad

    def grad(self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        """Gradient of `loss` with respect to theta, (n_params,)."""
        return self.value_and_grad(X, Y, sample_weight)[1]

    def hvp(
        self, X: ArrayLike, Y: ArrayLike, v: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Array:
        """Hessian of `loss` times v, without the Hessian: about 2.7 gradients (Pearlmutter 1994).

        Parameters
        ----------
        X, Y, sample_weight
            As for `loss`.
        v : array_like, (n_params,)
            Finite, laid out like theta.

        Returns
        -------
        ndarray, (n_params,)
        """
        return self._product(kernels.hvp, X, Y, v, sample_weight)

    def gnvp(
        self, X: ArrayLike, Y: ArrayLike, v: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Array:
        """Gauss-Newton matrix of `loss` times v (Schraudolph 2002), as for `hvp`.

        It is the Hessian without the network's own curvature, and never indefinite.
        """
        return self._product(kernels.gnvp, X, Y, v, sample_weight)

    def hessian(self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        """Hessian of `loss`, (n_params, n_params): for small networks, at most 1 GiB."""
        checks.dense("hessian", self.n_params, self.dtype)
        return self.linearize(X, Y, sample_weight).hessian()

    def linearize(
        self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Linearization:
        """Forward and backward once; the result's products reuse both.

        Returns
        -------
        Linearization
            With ``.value .grad .hvp(v) .gnvp(v) .jvp(v) .vjp(u)``.
        """
        data = self._data(X, Y, sample_weight).copied()
        return Linearization.at(self._architecture, self.theta, data, self.threads)

    def objective(
        self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Objective:
        """`loss` as a function of theta, with derivatives, for scipy.optimize.

        It is of the samples as they are now: it keeps a copy.
        """
        return Objective(self._architecture, self._data(X, Y, sample_weight).copied(), self.threads)

    def per_sample_grads(self, X: ArrayLike, Y: ArrayLike) -> Array:
        """Gradient of each sample's own loss, without l2 and weights: (B, n_params)."""
        data = self._data(X, Y, None)
        out = np.empty((len(data.X), self.n_params), self.dtype)
        kernels.per_sample_grads(self._model, data.X, data.Y, out, self._work_of_order_2())
        return out

    def input_grad(self, X: ArrayLike, Y: ArrayLike) -> Array:
        """Gradient of each sample's own loss with respect to its inputs: like X."""
        data = self._data(X, Y, None)
        out = np.empty_like(data.X)
        kernels.input_grad(self._model, data.X, data.Y, out, self._work_of_order_2())
        return out[0] if np.ndim(X) == 1 else out

    def jacobian(self, X: ArrayLike) -> Array:
        """Derivatives of the outputs with respect to the inputs, (B, n_out, n_in).

        One sample (n_in,) gives (n_out, n_in).
        """
        samples, single = checks.matrix(X, "X", self.sizes[0], self.dtype)
        out = np.empty((len(samples), self.sizes[-1], self.sizes[0]), self.dtype)
        kernels.jacobian(self._model, samples, out, self._work_of_order_2())
        return out[0] if single else out

    def trace(
        self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> NetworkTrace:
        """Every number of one forward and one backward pass, to be read.

        Parameters
        ----------
        X, Y, sample_weight
            As for `loss`; of one sample or a few.

        Returns
        -------
        NetworkTrace
            ``print`` it, or ``.plot()``; it has ``z a slopes delta dW db`` of each layer.
            `deltajit.reference.trace` computes the same by NumPy.
        """
        data = self._data(X, Y, sample_weight)
        return traced(self._architecture, self.reference, self.theta, data)

    def unflatten(self, grad: ArrayLike) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Views (dW tuple, db tuple) of a vector laid out like theta; dW[l] is like W[l]."""
        found = np.asarray(grad)
        if found.shape != (self.n_params,):
            found = checks.shaped(grad, "grad", self.theta.shape, self.dtype)
        return self._architecture.unflatten(found)

    def flatten(self, dW: Sequence[ArrayLike], db: Sequence[ArrayLike]) -> Array:
        """One new vector like theta from dW and db of every layer: the inverse of `unflatten`."""
        return self._architecture.flatten(dW, db)

    def collapse(self) -> Network:
        """The same function by one layer: ``W = W[L] ... W[1]``, for identity hidden layers only.

        However many such layers there are, they compute no more than one. The product is taken in
        float64. Output activation, loss, dtype and all else are as here; l2 and l1 too, but they
        penalize the entries of the product then, so `loss` is another one unless both are 0.

        Returns
        -------
        Network
            Of sizes [n_in, n_out], with a copy of this one's generator.

        Raises
        ------
        ValueError
            A hidden layer has another activation.
        """
        one = collapsed(self._architecture, self.theta)
        return Network.sharing(*one, copy.deepcopy(self._rng), self.threads)

    def fit(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        epochs: int = 10,
        batch_size: int = 32,
        optimizer: Optimizer | FullBatch | None = None,
        *,
        validation_data: tuple[Any, ...] | None = None,
        sample_weight: ArrayLike | None = None,
        schedule: Schedule | None = None,
        clip_norm: float | None = None,
        dropout: float | Sequence[float] = 0.0,
        metrics: Mapping[str, Metric] | None = None,
        callbacks: Sequence[Any] = (),
        checkpoint: str | os.PathLike[str] | None = None,
        every: int = 1,
        resume: bool = False,
        progress: bool = True,
        rng: Any = None,
        shuffle: bool = True,
    ) -> History:
        """Train by minibatch descent; theta changes in place.

        What raises an error before the first epoch is done has changed neither theta nor rng.

        Parameters
        ----------
        X, Y, sample_weight
            As for `loss`; finite.
        epochs : int
            Passes over the data.
        batch_size : int
            Samples a step; the last step of an epoch takes what is left.
        optimizer : Optimizer, optional
            ``dj.Adam()`` by default. ``dj.LBFGS()``, ``dj.LevenbergMarquardt()`` and ``dj.Rprop()``
            take every step on all samples, whatever batch_size is; the first two stop early when
            they are done.
        validation_data : (X, Y) or (X, Y, sample_weight), optional
            Its loss is taken after each epoch.
        schedule : Schedule, optional
            Changes the optimizer's learning rate from update to update: see ``dj.schedules``.
        clip_norm : float, > 0, optional
            Longer gradients are shortened to this Euclidean length.
        dropout : float, or one for each hidden layer
            Share of units that a step leaves out; the others are scaled up, so that predictions
            need not be. Losses of training are those with units left out.
        metrics : dict of functions, optional
            ``name: f(Y, outputs)``, taken on validation_data after each epoch, into
            ``History.metrics``; Y is as it was given.
        callbacks : sequence of Callback
            Told of each epoch, and able to end fit: see ``dj.callbacks``.
        checkpoint : path, optional
            Where the state of fit is kept, written after `every` epochs and after the last.
        resume : bool
            Go on from `checkpoint`, if the file is there; the weights become the very same bits
            that they would have become without the interruption. Network, number of samples and
            what decides the steps must have the same values, a schedule the same rates; epochs,
            validation_data, metrics and the arguments of callbacks may change.
        progress : bool
            Show a progress bar, if there is a terminal.
        rng : None, int or numpy.random.Generator
            Shuffles the samples; None goes on with the network's own generator.
        shuffle : bool
            A new order each epoch; else the order given.

        Returns
        -------
        History
            Loss of each epoch (the mean of its minibatches' losses, each before its step),
            validation loss, and seconds. Ctrl-C ends fit after the step that is under way: theta
            is then that step's, and `interrupted` is True. A process that ignores SIGINT, as shells
            let jobs in the background do, goes on.

        Raises
        ------
        DivergedError
            The loss became NaN or infinite; theta is what it was after the last good epoch, or what
            a callback makes of it.
        """
        data = checked(self._architecture, X, Y, sample_weight, finite=True)
        options = Options(
            epochs=epochs,
            batch_size=batch_size,
            optimizer=Adam() if optimizer is None else optimizer,
            validation_data=validation_data,
            schedule=schedule,
            clip_norm=clip_norm,
            dropout=dropout,
            metrics=metrics,
            callbacks=callbacks,
            checkpoint=checkpoint,
            every=every,
            resume=resume,
            progress=progress,
            shuffle=shuffle,
        )
        return fitting.fit(self, data, self._rng if rng is None else checks.generator(rng), options)

    # ---------------------------------------------------------------- files and other libraries

    def save(self, path: Path) -> None:
        """Write the network to a safetensors file, which `deltajit.load` reads.

        A file that is there already is replaced as a whole; after any failure it is as it was.
        The tensors are named "layers.0.weight" (n_out, n_in) and "layers.0.bias", for other tools.
        """
        saving.save(path, self._architecture, self.theta)

    @classmethod
    def load(cls, path: Path, *, rng: Any = 0, threads: int | None = None) -> Network:
        """The network that `save` wrote; nothing in the file is executed.

        Parameters
        ----------
        path : str or os.PathLike
        rng, threads
            As for `Network`: they are not in the file. rng shuffles samples in `fit`.

        Raises
        ------
        FormatError
            The file is no saved network, is damaged, or needs a newer deltajit.
        FileNotFoundError
        """
        return cls._holding(saving.load(path), rng, threads)

    def to_torch(self) -> Any:
        """A ``torch.nn.Sequential`` with copies of the weights, and outputs equal to `predict`'s.

        It ends with the output activation, so softmax and sigmoid outputs are probabilities there
        too; PyTorch's losses for logits want ``net.to_torch()[:-1]``.
        """
        return pytorch.to_torch(self._architecture, self.theta)

    @classmethod
    def from_torch(
        cls,
        source: Any,
        activation: Any = None,
        output: str = "auto",
        loss: str = "auto",
        *,
        rng: Any = 0,
        threads: int | None = None,
        **options: Any,
    ) -> Network:
        """A network with copies of a PyTorch network's weights.

        Parameters
        ----------
        source : torch.nn.Sequential, or a state_dict
            Of Linear layers; a mapping of names to NumPy arrays will do. Layers of a state_dict
            are in the order of their numbers, if they have such ("layers.0.weight"), else in its.
        activation : str or list of str
            Of the hidden layers; needed for a state_dict, which has none. A Sequential has its own.
        output : str
            "auto" is the last module's activation if it has one, else the one that belongs to the
            loss: a network that ends in logits for ``CrossEntropyLoss`` wants
            loss="cross_entropy", and `predict` then gives probabilities.
        loss, rng, threads
            As for `Network`.
        **options
            slope (a Sequential has its own), l2, l1, threshold, quantile, as for `Network`.
        """
        made = pytorch.from_torch(source, activation, output, loss, options)
        return cls._holding(made, rng, threads)

    @classmethod
    def from_sklearn(
        cls, mlp: Any, *, rng: Any = 0, threads: int | None = None, **options: Any
    ) -> Network:
        """A network with copies of the weights of a fitted MLPClassifier or MLPRegressor.

        `predict` gives what predict_proba does, in the order of ``mlp.classes_``, but for two
        classes only the probability of the second; of a regressor what its predict does.

        Parameters
        ----------
        mlp : sklearn.neural_network.MLPClassifier or MLPRegressor
        rng, threads
            As for `Network`.
        **options
            l2, l1, as for `Network`; scikit-learn's penalty is ``l2 = alpha / samples in a batch``.
        """
        return cls._holding(scikit_learn.from_sklearn(mlp, options), rng, threads)

    def to_onnx(self, path: Path) -> None:
        """Write `predict` to an ONNX file: input "X" (batch, n_in), output "Y" (batch, n_out)."""
        onnx.to_onnx(self._architecture, self.theta, path)

    def to_c(self, path: Path, name: str | None = None) -> None:
        """Write `predict` for one sample to a C99 header that needs nothing but math.h.

        Parameters
        ----------
        path : str or os.PathLike
        name : str, optional
            Prefix of what it defines: ``void <name>_predict(const float *x, float *out)``, or
            double; by default the file's own name.
        """
        c_header.to_c(self._architecture, self.theta, path, name)

    # ---------------------------------------------------------------- helpers

    @classmethod
    def _holding(cls, made: tuple[Architecture, Array], rng: Any, threads: int | None) -> Network:
        """A network on a theta that nobody else has."""
        return cls.sharing(*made, checks.generator(rng), checks.threads(threads))

    def _data(self, X: Any, Y: Any, weights: Any) -> Data:
        return checked(self._architecture, X, Y, weights)

    def _handle(self) -> Array:
        """What the kernels need, with this thread's scratch memory, for blocks of any batch."""
        try:
            found: Array = self._scratch.handle
        except AttributeError:
            self._scratch.work = self.workspace(LARGEST_BLOCK)
            found = self._scratch.handle = handle.make_handle(self._model, self._scratch.work)
        return found

    def _work_of_order_2(self) -> Array:
        """This thread's scratch memory for all derivatives, enough for blocks of any batch."""
        try:
            work: Array = self._scratch.work_of_order_2
        except AttributeError:
            work = self._scratch.work_of_order_2 = self.workspace(LARGEST_BLOCK, 2)
        return work

    def _product(self, kernel: Any, X: Any, Y: Any, v: Any, weights: Any) -> Array:
        """A second-order kernel's product with v."""
        data = self._data(X, Y, weights)
        direction = checks.direction(v, "v", self.theta.shape, self.dtype)
        out = np.empty_like(self.theta)
        work = self._work_of_order_2()
        kernel(self._model, data.X, data.Y, direction, out, work, data.weights)
        return out
