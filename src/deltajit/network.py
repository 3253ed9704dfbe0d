"""Define `Network`: each method checks its arguments, allocates once, and calls one kernel."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy import empty, ndarray
from numpy.typing import ArrayLike, DTypeLike, NDArray

from deltajit import kernels, reference
from deltajit.circuit import Circuit
from deltajit.circuits import networks
from deltajit.derivatives import by_inputs
from deltajit.derivatives.blackboard import NetworkTrace
from deltajit.derivatives.linearization import Linearization
from deltajit.derivatives.numbers import activations, traced
from deltajit.derivatives.objective import Objective
from deltajit.io import c_header, onnx, pytorch, saving, scikit_learn
from deltajit.io.files import Path
from deltajit.kernels.blocks import LARGEST_BLOCK
from deltajit.kernels.hints import hinted
from deltajit.kernels.mlp import handle
from deltajit.kernels.mlp.calls import calls_for
from deltajit.kernels.mlp.derivatives import BY_INPUTS, BY_THETA, EXACT, GAUSS_NEWTON
from deltajit.kernels.mlp.optimizers import Adam
from deltajit.model import checks, custom, memory, scores
from deltajit.model.architecture import Architecture, with_names
from deltajit.model.checks import Seed
from deltajit.model.collapse import collapsed
from deltajit.model.data import Data, checked, class_weighted, smoothed, split
from deltajit.model.described import Described
from deltajit.model.initializers import initial_theta
from deltajit.model.memory import Array, DType
from deltajit.plot import units
from deltajit.training import fitting, incremental
from deltajit.training.feeds import Held, in_memory, source_of
from deltajit.training.fitting import Method, Options
from deltajit.training.full_batch import FullBatch
from deltajit.training.history import History
from deltajit.training.incremental import Progress
from deltajit.training.minibatches import dropout_of, seeds
from deltajit.training.schedules import Schedule
from deltajit.training.watchers import Metric

Batch = checks.Validation  # (X, Y) or (X, Y, sample_weight)


class Scratch(threading.local):
    """Hold a thread's memory for a network's kernels and blocks of any batch, once it is asked for.

    Parameters
    ----------
    model : kernels.Model
        The network.
    """

    def __init__(self, model: kernels.Model) -> None:
        self._model = model

    def _workspace(self, order: int) -> Array:
        size = kernels.workspace_size(self._model, LARGEST_BLOCK, order)
        return memory.empty(size, self._model.theta.dtype)

    @cached_property
    def work(self) -> Array:
        """Return memory for derivatives of order 1."""
        return self._workspace(1)

    @cached_property
    def work_of_order_2(self) -> Array:
        """Return memory for all derivatives."""
        return self._workspace(2)


ClassWeight = str | Mapping[Any, float] | Sequence[float]


@with_names
class Network(Described):
    """Compute a multilayer perceptron's predictions, loss and derivatives, and train it.

    Layer l computes ``z[l] = a[l-1] @ W[l].T + b[l]`` and ``a[l] = f(z[l])``, from ``a[0] = X``
    (B, n_in), one sample a row, to the predictions ``a[L]`` (B, n_out).

    Parameters
    ----------
    sizes : sequence of int
        Number of units of each layer: inputs first, outputs last.
    activation : str or sequence of str
        Activation of the hidden layers: one name for all, or one name for each. It is one of
        {hidden},
        or a custom one, by `register_activation`. The derivative of "step", the perceptron's
        threshold, is 0.
    output : str
        Activation of the output layer: "auto", which is the one that belongs to the loss (identity
        if none does), or one of
        {outputs}.
        The outputs of "gaussian" are means, followed by as many variances.
    loss : str or Circuit
        Loss of one sample: "auto", which is the one that belongs to the output, or one of
        {losses},
        or a custom one, by `register_loss`. A loss listed without an output takes any but gaussian.
        A `Circuit` is a function of the sample's outputs, then of its targets, one or more.
    l2 : float
        Penalty ``l2/2 * sum(W**2)`` on the weights, added to the loss; biases are not penalized.
    dtype : "float32" or "float64"
        Type of theta and of everything that is computed.
    init : str
        Distribution of the initial weights: "auto" (he for layers of the relu family, glorot for
        others), "he", "glorot", "lecun", "normal" or "zeros". Biases start at 0.
    rng : None, int or numpy.random.Generator
        Seed or generator that draws the initial weights, and the order of samples in `fit`.
    l1 : float
        Penalty ``l1 * sum(|W|)`` on the weights, added to the loss.
    slope : float
        Slope of leaky_relu below 0.
    threshold : float
        Size of a residual above which the loss "huber" is linear.
    quantile : float
        Quantile, between 0 and 1, that the loss "quantile" estimates.
    gamma : float, >= 0
        Exponent of the losses "focal" and "binary_focal", cross entropies times ``(1 - p)**gamma``
        of the probability p of what is true: samples that are easy count little (Lin et al. 2017).
        What is called alpha there is `class_weight` of `fit`.
    sigma : float
        Standard deviation of the weights for ``init="normal"``.
    threads : int, optional
        Number of threads that a large batch may use; None is one for each core that this process
        may use (1 without OpenMP). Results are the same bits for any number of threads.
    class_names : sequence of str, optional
        Names of the classes, one for each output, or two for a single output; pictures and files
        have them.
    input_names : sequence of str, optional
        Names of the inputs, one for each, likewise.

    Raises
    ------
    ValueError, TypeError
        An argument is wrong: the message names it, what it was, and what was expected.

    Examples
    --------
    >>> import deltajit as dj
    >>> net = dj.Network([2, 2, 1], activation="tanh", output="sigmoid", rng=1)
    >>> net
    Network(2-2-1, tanh -> sigmoid, binary_cross_entropy, float32, 9 parameters)
    """

    __slots__ = (
        "__dict__", "__weakref__", "_architecture", "_biases", "_calls", "_face", "_lent",
        "_model", "_progress", "_rng", "_scratch", "_weights",
    )  # fmt: skip

    @hinted
    def __init__(
        self,
        sizes: Sequence[int],
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
        class_names: Sequence[str] | None = None,
        input_names: Sequence[str] | None = None,
    ) -> None:
        name = custom.loss_name(loss)
        architecture = Architecture.checked(
            sizes, activation, output, name, l2, slope, dtype, l1, threshold, quantile,
            class_names, gamma, input_names,
        )  # fmt: skip
        architecture.check_size()
        generator, workers = checks.generator(rng), checks.threads(threads)
        theta = initial_theta(architecture, init, sigma, generator)
        self._bind(architecture, memory.copy(theta), generator, workers)

    def _bind(
        self,
        architecture: Architecture,
        theta: Array,
        rng: np.random.Generator,
        threads: int,
        progress: Progress | None = None,
    ) -> None:
        """Keep `theta`, and make the views of it that kernels and users work with."""
        self._architecture = architecture
        self._rng, self._progress = rng, progress
        self._weights, self._biases = architecture.unflatten(theta)
        self._model = architecture.model(theta, threads)
        sizes = architecture.sizes
        self._face: tuple[tuple[int], int, DType] = (sizes[0],), sizes[-1], architecture.dtype
        self._calls = calls_for(architecture.dtype)
        self._scratch = Scratch(self._model)
        self._lent: list[Array] = []  # workspaces behind handles

    # ---------------------------------------------------------------- what it is

    @property
    def theta(self) -> Array:
        """Return every parameter in one vector (n_params,); assigning copies into it."""
        theta: Array = self._model.theta
        return theta

    @theta.setter
    def theta(self, value: ArrayLike) -> None:  # numpydoc ignore=GL08
        self.theta[:] = checks.shaped(value, "theta", self.theta.shape, self.dtype)

    @property
    def weights(self) -> tuple[Array, ...]:
        """Return the weights W[l] (n_l, n_{l-1}), as views of theta; assigning copies into it."""
        return self._weights

    @weights.setter
    def weights(self, value: Sequence[ArrayLike]) -> None:  # numpydoc ignore=GL08
        _assign(self._weights, value, "weights")

    @property
    def biases(self) -> tuple[Array, ...]:
        """Return the biases b[l] (n_l,) of each layer, as views of theta; assigning copies."""
        return self._biases

    @biases.setter
    def biases(self, value: Sequence[ArrayLike]) -> None:  # numpydoc ignore=GL08
        _assign(self._biases, value, "biases")

    @property
    def architecture(self) -> Architecture:
        """Return the network without its parameters: sizes, activations and loss."""
        return self._architecture

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the number of units of each layer, inputs first."""
        return self._architecture.sizes

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Return the names of the classes, if there are any."""
        return self._architecture.class_names

    @property
    def input_names(self) -> tuple[str, ...] | None:
        """Return the names of the inputs, if there are any."""
        return self._architecture.input_names

    @property
    def dtype(self) -> DType:
        """Return the type of theta and of everything that is computed: float32 or float64."""
        return self._architecture.dtype

    @property
    def n_params(self) -> int:
        """Return the number of weights and biases."""
        return self._architecture.n_params

    @property
    def threads(self) -> int:
        """Return the number of threads that a large batch may use."""
        threads: int = self._model.threads
        return threads

    def __repr__(self) -> str:
        architecture = self._architecture
        *hidden, output = architecture.activations
        names = hidden[:1] if len(set(hidden)) == 1 else hidden
        return (
            f"Network({'-'.join(map(str, architecture.sizes))}, "
            f"{' -> '.join((*names, output))}, {architecture.loss}, "
            f"{architecture.dtype.name}, {architecture.n_params:,} parameters)"
        )

    def _repr_html_(self) -> str:
        return units.face(repr(self), self._architecture, self.theta)

    def _describe(self) -> dict[str, object]:
        return {
            "architecture": self._architecture,
            "theta": self.theta,
            "rng": self._rng,
            "threads": self.threads,
            "progress": self._progress,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "theta": memory.copy(state["theta"])})

    @classmethod
    def sharing(
        cls, architecture: Architecture, theta: Array, rng: np.random.Generator, threads: int = 1
    ) -> Network:
        """Return a network that shares the memory of `theta`, without a copy.

        Parameters
        ----------
        architecture : Architecture
            Sizes, activations and loss, as another network's `architecture` gives them.
        theta : ndarray, (n_params,)
            Parameters, of the architecture's dtype; training the network changes them.
        rng : numpy.random.Generator
            Generator that shuffles the samples in `fit`.
        threads : int
            Number of threads that a large batch may use.

        Returns
        -------
        Network
            The network whose `theta` is that array.

        Raises
        ------
        ValueError, TypeError
            theta is no such array, or another argument is wrong.
        """
        if not isinstance(architecture, Architecture):
            raise TypeError(f"architecture must be that of a network, got {architecture!r}")
        checks.buffer(theta, "theta", architecture.n_params, architecture.dtype)
        net = cls.__new__(cls)
        net._bind(architecture, theta, rng, threads)
        return net

    # ---------------------------------------------------------------- for jitted code and checks

    @property
    def model(self) -> kernels.Model:
        """Return the network as the kernels take it, a tuple of arrays; theta is not copied."""
        return self._model

    def workspace(self, batch: int, order: int = 1, threads: int | None = None) -> Array:
        """Allocate the scratch memory that the kernels need for batches of up to `batch` samples.

        Parameters
        ----------
        batch : int
            Number of samples at most.
        order : 1 or 2
            Order of the derivatives: 1 for predictions, loss, gradient and training, 2 for all.
        threads : int, optional
            Number of threads that call kernels at the same time, each with a row of the result.

        Returns
        -------
        ndarray, (size,), or (threads, at least size) where threads is given
            Uninitialized elements of the network's dtype.

        Raises
        ------
        ValueError, TypeError
            batch or threads is not a whole number >= 1, or order is neither 1 nor 2.
        """
        samples = checks.whole(batch, "batch")
        if order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {order!r}")
        size = kernels.workspace_size(self._model, samples, order)
        if threads is None:
            return memory.empty(size, self.dtype)
        return memory.rows(checks.whole(threads, "threads"), size, self.dtype)

    def handle(self, batch: int = 1, order: int = 1) -> NDArray[np.int64]:
        """Return the addresses of the network and of a workspace in one array, for C callbacks.

        A ``numba.cfunc`` may use the handle as a global variable: ``model, work =
        kernels.from_handle(handle, x)`` gives what every kernel takes, with the weights of the
        moment. The handle is valid as long as this network lives, in this process (so never with
        ``cache=True``), for one thread at a time.

        Parameters
        ----------
        batch : int
            Number of samples that the workspace is for, at most.
        order : 1 or 2
            Order of the derivatives that the workspace is for.

        Returns
        -------
        ndarray of int64
            The handle.

        Raises
        ------
        ValueError, TypeError
            batch is not a whole number >= 1, or order is neither 1 nor 2.
        """
        work = self.workspace(batch, order)
        self._lent.append(work)
        addresses: NDArray[np.int64] = handle.make_handle(self._model, work)
        return addresses

    def specialize(self, batch: int | None = None) -> None:
        """Compile kernels for this very list of layers, which tiny networks are faster with.

        Predictions, losses, gradients and fits use them from then on, as does `model` in jitted
        code; the bits stay the same, and one thread does it all. What is needed is compiled when it
        is needed, in about a second, in each process anew. A copy has to be asked again.

        Parameters
        ----------
        batch : int, optional
            Samples of a minibatch: batches of this very size get kernels of their own, faster yet.
            Of more than 256 samples it is the blocks that they are cut into which do.

        Raises
        ------
        ValueError
            If batch is not a whole number >= 1.

        Examples
        --------
        >>> import deltajit as dj
        >>> net = dj.Network([2, 16, 1])
        >>> before = net.predict([0.5, -1.0])
        >>> net.specialize()
        >>> bool((net.predict([0.5, -1.0]) == before).all())
        True
        """
        size = 0 if batch is None else checks.whole(batch, "batch")
        kernels.specialize(self._model, size)

    @property
    def reference(self) -> reference.Model:
        """Return the network as `deltajit.reference` takes it, on views of the same theta."""
        its = self._architecture
        return reference.Model(
            self.weights,
            self.biases,
            its.activations,
            its.loss,
            its.l2,
            its.slope,
            its.l1,
            its.bend,
        )

    # ---------------------------------------------------------------- what it computes

    def predict(
        self,
        X: ArrayLike,
        *,
        theta: ArrayLike | None = None,
        dropout: float | Sequence[float] | None = None,
        rng: Seed = None,
    ) -> Array:
        """Compute the outputs ``a[L]`` of the network.

        Parameters
        ----------
        X : array_like, (B, n_in) or one sample (n_in,)
            Inputs.
        theta : array_like, (n_params,), optional
            Parameters to use in place of the network's own.
        dropout : float, or one for each hidden layer, optional
            Share of units left out at random, in [0, 1), others of each sample and in each call:
            the spread of many calls is that of Monte Carlo dropout [1]_.
        rng : None, int or numpy.random.Generator
            Seed or generator that chooses these units; None goes on with the network's generator.

        Returns
        -------
        ndarray, (B, n_out) or (n_out,)
            Outputs; probabilities for softmax and sigmoid.

        Raises
        ------
        ValueError, TypeError
            X or theta does not hold real numbers, or has another shape; or dropout or rng is wrong.

        Notes
        -----
        The shape follows from X alone, as in PyTorch: with one output it is (B, 1), also where the
        targets were (B,). Compare ``net.predict(X)[:, 0]`` with such, since NumPy broadcasts (B, 1)
        minus (B,) to (B, B). The estimators of ``deltajit.sklearn`` return (B,) for such targets.

        References
        ----------
        .. [1] Gal & Ghahramani (2016), Dropout as a Bayesian approximation, ICML 33.

        Examples
        --------
        >>> import deltajit as dj
        >>> net = dj.Network([2, 3, 1], init="zeros")
        >>> net.predict([[0.0, 1.0], [1.0, 0.0]])
        array([[0.],
               [0.]], dtype=float32)
        """
        if theta is not None or dropout is not None:
            return self._predict_by(theta, dropout, rng, X)
        one, n_out, kind = self._face
        if type(X) is ndarray and X.shape == one and X.dtype is kind and X.flags.carray:
            out = empty(n_out, kind)  # what follows would do the same, in twice the time
            self._calls.predict(self._model, X, out, self._scratch.work)
            return out
        samples = checks.samples(X, "X", *one, kind)
        out = empty((*samples.shape[:-1], n_out), kind)
        self._calls.predict(self._model, samples, out, self._scratch.work)
        return out

    def activations(self, X: ArrayLike) -> tuple[Array, ...]:
        """Compute the activations of every layer, such as a hidden layer's features.

        Parameters
        ----------
        X : array_like, (B, n_in) or one sample (n_in,)
            Inputs.

        Returns
        -------
        tuple of ndarray, (B, n_l) or (n_l,)
            ``a[0]``, a copy of X, to ``a[L]``, which `predict` returns. `trace` has z and delta.

        Raises
        ------
        ValueError, TypeError
            X does not hold real numbers, or has another shape.

        Examples
        --------
        >>> import deltajit as dj
        >>> net = dj.Network([2, 3, 1], init="zeros")
        >>> [a.shape for a in net.activations([[0.0, 1.0], [1.0, 0.0]])]
        [(2, 2), (2, 3), (2, 1)]
        """
        samples, single = checks.matrix(X, "X", self.sizes[0], self.dtype)
        a = activations(self._architecture, self.reference, samples, self.threads)
        return tuple(each[0] for each in a) if single else a

    def loss(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        theta: ArrayLike | None = None,
    ) -> float:
        """Compute the mean loss of the samples, plus ``l2/2 * sum(W**2) + l1 * sum(|W|)``.

        Parameters
        ----------
        X : array_like, (B, n_in) or one sample (n_in,)
            Inputs.
        Y : array_like, (B, n_out), also (B,) if n_out is 1
            Targets; for cross_entropy and focal rows of probabilities, or class labels (B,).
        sample_weight : array_like, (B,), optional
            Weights w >= 0: ``sum(w * loss) / sum(w)`` replaces the mean.
        theta : array_like, (n_params,), optional
            Parameters to use in place of the network's own.

        Returns
        -------
        float
            The loss.

        Raises
        ------
        ValueError, TypeError
            X, Y, sample_weight or theta has another shape, or holds what the loss is not defined
            for.
        """
        data = self._data(X, Y, sample_weight)
        model = checks.model_at(self._model, theta)
        work = self._scratch.work
        value: float = self._calls.loss(model, data.X, data.Y, data.weights, work)
        return value

    def score(self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Compute the accuracy of a classifier, or R2 of a regressor.

        A classifier has softmax as output, or the loss binary_cross_entropy or binary_focal; of
        several sigmoids, all must be right. R2 is the mean over outputs; of gaussian outputs it is
        that of the means.

        Parameters
        ----------
        X, Y : array_like
            Samples and targets, as for `loss`.
        sample_weight : array_like, (B,), optional
            Weights of the samples.

        Returns
        -------
        float
            Share of right samples, or 1 less the squared residuals over those of the mean target.

        Raises
        ------
        ValueError, TypeError
            An argument is such as `loss` refuses, or the loss, a circuit, takes other targets than
            one for each output.

        Examples
        --------
        >>> import deltajit as dj
        >>> dj.constructions.xor().score([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0])
        1.0
        """
        data = self._data(X, Y, sample_weight)
        return scores.score(self._architecture, self.predict(data.X), data.Y, data.weights)

    def value_and_grad(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        out: Array | None = None,
        *,
        theta: ArrayLike | None = None,
    ) -> tuple[float, Array]:
        """Compute the loss and its gradient with respect to theta, by backpropagation.

        Parameters
        ----------
        X, Y, sample_weight : array_like
            Samples, as for `loss`.
        out : ndarray, (n_params,), optional
            Contiguous array of the network's dtype into which the gradient is written.
        theta : array_like, (n_params,), optional
            Parameters to use in place of the network's own; `objective` has more of such functions.

        Returns
        -------
        value : float
            The loss, as `loss` returns it.
        grad : ndarray, (n_params,)
            The gradient, laid out like theta; `unflatten` splits it into dW and db.

        Raises
        ------
        ValueError, TypeError
            The samples are not such as `loss` takes, or `out` or theta is not as above.

        Notes
        -----
        With ``delta[l] = dLoss/dz[l]`` and f the activation of layer l [1]_::

            delta[L] = dLoss/da[L] * f'(z[L])                   (BP1)
            delta[l] = (delta[l+1] @ W[l+1]) * f'(z[l])         (BP2)
            dW[l] = delta[l].T @ a[l-1]                         (BP3)
            db[l] = delta[l].sum(axis=0)                        (BP4)

        References
        ----------
        .. [1] Rumelhart, Hinton & Williams (1986), Learning representations by back-propagating
           errors, Nature 323.

        Examples
        --------
        >>> import deltajit as dj
        >>> net = dj.Network([1, 1], init="zeros")
        >>> net.value_and_grad([[2.0]], [[1.0]])  # 1/2 (0 - 1)**2; delta = 0 - 1
        (0.5, array([-2., -1.], dtype=float32))
        """
        architecture = self._architecture
        samples, targets, weights = checked(architecture, X, Y, sample_weight)
        if out is None:
            grad = memory.result(architecture.n_params, architecture.dtype)
        else:
            grad = checks.buffer(out, "out", architecture.n_params, architecture.dtype)
        model, call = self._model, self._calls.value_and_grad
        if theta is not None:
            model = checks.model_at(self._model, theta)
        return call(model, samples, targets, weights, grad, self._scratch.work), grad

    def grad(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        theta: ArrayLike | None = None,
    ) -> Array:
        """Compute the gradient of the loss with respect to theta.

        Parameters
        ----------
        X, Y, sample_weight : array_like
            Samples, as for `loss`.
        theta : array_like, (n_params,), optional
            Parameters to use in place of the network's own.

        Returns
        -------
        ndarray, (n_params,)
            The gradient, laid out like theta.

        Raises
        ------
        ValueError, TypeError
            The samples are not such as `loss` takes, or theta is not as above.
        """
        return self.value_and_grad(X, Y, sample_weight, theta=theta)[1]

    def hvp(
        self, X: ArrayLike, Y: ArrayLike, v: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Array:
        """Compute the Hessian of the loss times v, without the Hessian, for about 2.7 gradients.

        Parameters
        ----------
        X, Y : array_like
            Samples, as for `loss`.
        v : array_like, (n_params,)
            Finite vector, laid out like theta.
        sample_weight : array_like, (B,), optional
            Weights of the samples, as for `loss`.

        Returns
        -------
        ndarray, (n_params,)
            The product ``H @ v`` [1]_.

        Raises
        ------
        ValueError, TypeError
            The samples are not such as `loss` takes, or v has another shape or is not finite.

        References
        ----------
        .. [1] Pearlmutter (1994), Fast exact multiplication by the Hessian, Neural Computation 6.
        """
        return self._product(EXACT, X, Y, v, sample_weight)

    def gnvp(
        self, X: ArrayLike, Y: ArrayLike, v: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Array:
        """Compute the Gauss-Newton matrix of the loss times v, without the matrix.

        The matrix is the Hessian without the curvature of the network [1]_: ``J.T @ B @ J``, J the
        Jacobian of z[L] and B the loss's curvature in z[L].

        Parameters
        ----------
        X, Y : array_like
            Samples, as for `loss`.
        v : array_like, (n_params,)
            Finite vector, laid out like theta.
        sample_weight : array_like, (B,), optional
            Weights of the samples, as for `loss`.

        Returns
        -------
        ndarray, (n_params,)
            The product ``G @ v``.

        Raises
        ------
        ValueError, TypeError
            The samples are not such as `loss` takes, or v has another shape or is not finite.

        References
        ----------
        .. [1] Schraudolph (2002), Fast curvature matrix-vector products for second-order gradient
           descent, Neural Computation 14.
        """
        return self._product(GAUSS_NEWTON, X, Y, v, sample_weight)

    def hessian(self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        """Compute the Hessian of the loss, one product with a unit vector after the other.

        Parameters
        ----------
        X, Y, sample_weight : array_like
            Samples, as for `loss`.

        Returns
        -------
        ndarray, (n_params, n_params)
            The Hessian.

        Raises
        ------
        ValueError
            The matrix would need more than 1 GiB.
        """
        checks.dense("hessian", self.n_params, self.dtype)
        return self.linearize(X, Y, sample_weight).hessian()

    def linearize(
        self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Linearization:
        """Sweep forward and backward once, for any number of products that reuse both sweeps.

        Parameters
        ----------
        X, Y, sample_weight : array_like
            Samples, as for `loss`; they are copied.

        Returns
        -------
        Linearization
            The network at its present theta: ``.value .grad .hvp(v) .gnvp(v) .jvp(v) .vjp(u)``.

        Raises
        ------
        ValueError, TypeError
            The samples are not such as `loss` takes.

        Examples
        --------
        >>> import deltajit as dj
        >>> net = dj.Network([1, 1], init="zeros")
        >>> at = net.linearize([[2.0]], [[1.0]])
        >>> at.jvp([1.0, 0.0])
        array([[2.]], dtype=float32)
        """
        data = self._data(X, Y, sample_weight).copied()
        return Linearization.at(self._architecture, self.theta, data, self.threads)

    def objective(
        self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Objective:
        """Return the loss as a function of theta, with derivatives, for scipy.optimize.

        Parameters
        ----------
        X, Y, sample_weight : array_like
            Samples, as for `loss`; they are copied.

        Returns
        -------
        Objective
            Functions of theta: ``.fun .jac .hessp .fun_and_jac``.

        Raises
        ------
        ValueError, TypeError
            The samples are not such as `loss` takes.
        """
        return Objective(self._architecture, self._data(X, Y, sample_weight).copied(), self.threads)

    def per_sample_grads(self, X: ArrayLike, Y: ArrayLike) -> Array:
        """Compute the gradient of each sample's loss with respect to theta, without penalties.

        Parameters
        ----------
        X, Y : array_like
            Samples, as for `loss`.

        Returns
        -------
        ndarray, (B, n_params)
            A gradient in each row, laid out like theta.

        Raises
        ------
        ValueError, TypeError
            The samples are not such as `loss` takes.
        """
        data = self._data(X, Y, None)
        out = np.empty((len(data.X), self.n_params), self.dtype)
        work = self._scratch.work_of_order_2
        self._calls.sample_gradients(self._model, data.X, data.Y, out, work, BY_THETA)
        return out

    def input_jvp(self, X: ArrayLike, v: ArrayLike) -> Array:
        """Compute the derivative of the outputs along a direction of each sample's inputs.

        Parameters
        ----------
        X : array_like, (B, n_in) or one sample (n_in,)
            Inputs.
        v : array_like, of the shape of X
            Finite directions.

        Returns
        -------
        ndarray, (B, n_out) or (n_out,)
            The Jacobian of `predict` at each sample, times v.

        Raises
        ------
        ValueError, TypeError
            X or v does not hold real numbers, or has another shape, or v is not finite.
        """
        samples, single = checks.matrix(X, "X", self.sizes[0], self.dtype)
        shape = samples.shape[1:] if single else samples.shape
        direction = checks.direction(v, "v", shape, self.dtype)
        out = np.empty((len(samples), self.sizes[-1]), self.dtype)
        work = self._scratch.work_of_order_2
        self._calls.input_jvp(self._model, samples, direction, out, work)
        return out[0] if single else out

    def input_vjp(self, X: ArrayLike, u: ArrayLike) -> Array:
        """Compute the gradient of ``sum(u * predict(X))`` with respect to X.

        Parameters
        ----------
        X : array_like, (B, n_in) or one sample (n_in,)
            Inputs.
        u : array_like, (B, n_out) or (n_out,)
            Finite weights of the outputs.

        Returns
        -------
        ndarray, (B, n_in) or (n_in,)
            The product of u and the Jacobian of `predict` at each sample.

        Raises
        ------
        ValueError, TypeError
            X or u does not hold real numbers, or has another shape, or u is not finite.
        """
        samples, single = checks.matrix(X, "X", self.sizes[0], self.dtype)
        n_out = self.sizes[-1]
        shape = (n_out,) if single else (len(samples), n_out)
        cotangent = checks.direction(u, "u", shape, self.dtype)
        out = np.empty_like(samples)
        work = self._scratch.work_of_order_2
        self._calls.input_vjp(self._model, samples, cotangent, out, work)
        return out[0] if single else out

    def input_hessian(self, X: ArrayLike) -> Array:
        """Compute the second derivatives of the outputs with respect to the inputs.

        Parameters
        ----------
        X : array_like, (B, n_in) or one sample (n_in,)
            Inputs.

        Returns
        -------
        ndarray, (B, n_out, n_in, n_in) or (n_out, n_in, n_in)
            The Hessian of each output at each sample; NaN for a custom activation without a second
            derivative.

        Raises
        ------
        ValueError, TypeError
            X does not hold real numbers, or has another shape.

        Examples
        --------
        >>> import deltajit as dj
        >>> net = dj.Network([1, 1, 1], activation="sin", dtype="float64")
        >>> net.theta[:] = 1, 0, 1, 0
        >>> net.input_hessian([0.5]).round(4)  # -sin(0.5)
        array([[[-0.4794]]])
        """
        samples, single = checks.matrix(X, "X", self.sizes[0], self.dtype)
        n_in, n_out = self.sizes[0], self.sizes[-1]
        out = np.empty((len(samples), n_out, n_in, n_in), self.dtype)
        self._calls.input_hessian(self._model, samples, out, self._scratch.work_of_order_2)
        return out[0] if single else out

    def laplacian(self, X: ArrayLike) -> Array:
        """Compute the Laplacian of each output, the sum of its second derivatives by each input.

        One sweep forward takes values, first derivatives and the Laplacian along [1]_, without the
        Hessian.

        Parameters
        ----------
        X : array_like, (B, n_in) or one sample (n_in,)
            Inputs.

        Returns
        -------
        ndarray, (B, n_out) or (n_out,)
            The Laplacian at each sample.

        Raises
        ------
        ValueError, TypeError
            X does not hold real numbers, or has another shape.

        References
        ----------
        .. [1] Li et al. (2023), Forward Laplacian: a new computational framework for neural
           network-based variational Monte Carlo.
        """
        samples, single = checks.matrix(X, "X", self.sizes[0], self.dtype)
        axes = by_inputs.axes_or(None, self._model)
        out = by_inputs.jets(self._model, samples, axes, len(axes) + 2)[:, -1]
        return out[0] if single else out

    def jets(self, X: ArrayLike, directions: ArrayLike | None = None) -> Array:
        """Compute the outputs with first and second derivatives along directions of the inputs.

        `DifferentialLoss` has the theta-gradient of functions of them.

        Parameters
        ----------
        X : array_like, (B, n_in) or one sample (n_in,)
            Inputs.
        directions : array_like, (D, n_in), optional
            Finite directions; by default the axes.

        Returns
        -------
        ndarray, (B, 1 + 2 D, n_out) or (1 + 2 D, n_out)
            The outputs, their first derivatives along each direction, then their second ones.

        Raises
        ------
        ValueError, TypeError
            X or directions does not hold real numbers, or has another shape.
        """
        samples, single = checks.matrix(X, "X", self.sizes[0], self.dtype)
        along = by_inputs.axes_or(directions, self._model)
        out = by_inputs.jets(self._model, samples, along, 1 + 2 * len(along))
        return out[0] if single else out

    def input_grad(self, X: ArrayLike, Y: ArrayLike) -> Array:
        """Compute the gradient of each sample's loss with respect to its inputs.

        Parameters
        ----------
        X, Y : array_like
            Samples, as for `loss`.

        Returns
        -------
        ndarray, (B, n_in) or (n_in,)
            The gradients, of the shape of X.

        Raises
        ------
        ValueError, TypeError
            The samples are not such as `loss` takes.
        """
        data = self._data(X, Y, None)
        out = np.empty_like(data.X)
        work = self._scratch.work_of_order_2
        self._calls.sample_gradients(self._model, data.X, data.Y, out, work, BY_INPUTS)
        return out[0] if np.ndim(X) == 1 else out

    def jacobian(self, X: ArrayLike) -> Array:
        """Compute the derivatives of the outputs with respect to the inputs.

        Parameters
        ----------
        X : array_like, (B, n_in) or one sample (n_in,)
            Inputs.

        Returns
        -------
        ndarray, (B, n_out, n_in) or (n_out, n_in)
            The Jacobian of `predict` at each sample.

        Raises
        ------
        ValueError, TypeError
            X does not hold real numbers, or has another shape.
        """
        samples, single = checks.matrix(X, "X", self.sizes[0], self.dtype)
        out = np.empty((len(samples), self.sizes[-1], self.sizes[0]), self.dtype)
        self._calls.jacobian(self._model, samples, out, self._scratch.work_of_order_2, BY_INPUTS)
        return out[0] if single else out

    def parameter_jacobian(self, X: ArrayLike) -> Array:
        """Compute the derivatives of the outputs with respect to theta.

        Parameters
        ----------
        X : array_like, (B, n_in) or one sample (n_in,)
            Inputs.

        Returns
        -------
        ndarray, (B, n_out, n_params) or (n_out, n_params)
            The Jacobian of `predict` at each sample, each row laid out like theta; `linearize` has
            products with it that don't form it.

        Raises
        ------
        ValueError, TypeError
            X does not hold real numbers, or has another shape.
        """
        samples, single = checks.matrix(X, "X", self.sizes[0], self.dtype)
        out = np.empty((len(samples), self.sizes[-1], self.n_params), self.dtype)
        self._calls.jacobian(self._model, samples, out, self._scratch.work_of_order_2, BY_THETA)
        return out[0] if single else out

    def trace(
        self, X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> NetworkTrace:
        """Compute every number of one forward and one backward pass, to be read.

        Parameters
        ----------
        X, Y, sample_weight : array_like
            One sample or a few, as for `loss`.

        Returns
        -------
        NetworkTrace
            The arrays z, a, f'(z), delta, dW and db of each layer. ``print`` shows them as
            equations, and its `plot` in the network's graph.

        Raises
        ------
        ValueError, TypeError
            The samples are not such as `loss` takes.

        Examples
        --------
        >>> import deltajit as dj
        >>> net = dj.Network([1, 1], dtype="float64")
        >>> net.theta[:] = 2, 1
        >>> trace = net.trace([3.0], [5.0])
        >>> trace.bp1
        "(a[1] - Y) * f'(z[1])"
        >>> trace.delta[1]
        array([[2.]])
        """
        data = self._data(X, Y, sample_weight)
        return traced(self._architecture, self.reference, self.theta, data)

    def circuit(self, inputs: str = "x") -> Circuit:
        """Trace `predict` as a circuit of scalars, to differentiate it and what is built on it.

        In the function of another `Circuit`, call the circuit with a list of traced values.

        Parameters
        ----------
        inputs : "x" or "theta, x"
            What the circuit is a function of: x (n_in,), where the weights of this moment are
            constants, or theta (n_params,) and then x.

        Returns
        -------
        Circuit
            A float64 circuit; its values are a scalar if n_out is 1, else (n_out,).

        Raises
        ------
        ValueError, TypeError
            An activation cannot be traced: gelu, or a custom one; or inputs is neither.

        Examples
        --------
        >>> import deltajit as dj
        >>> net = dj.Network([1, 1], output="tanh")
        >>> net.theta[:] = 1, 0
        >>> u = net.circuit()
        >>> u.hvp([0.5], [1.0])  # u'' = -2 tanh(x) (1 - tanh(x)**2)
        array([-0.72686198])
        """
        n_inputs, theta = self.sizes[0], None
        if checks.choice(inputs, "inputs", ("x", "theta, x")) == "x":
            theta = self.theta.copy()
        else:
            n_inputs += self.n_params
        return Circuit(networks.function_of(self._architecture, theta), n_inputs)

    def unflatten(self, grad: ArrayLike) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Split a vector laid out like theta into arrays of each layer.

        Parameters
        ----------
        grad : array_like, (n_params,)
            Vector such as a gradient.

        Returns
        -------
        dW : tuple of ndarray, (n_l, n_{l-1})
            Parts of the shapes of `weights`; views if `grad` is an array.
        db : tuple of ndarray, (n_l,)
            Parts of the shapes of `biases`, likewise.

        Raises
        ------
        ValueError, TypeError
            grad does not have as many elements as theta, or not real numbers.

        Examples
        --------
        >>> import deltajit as dj
        >>> net = dj.Network([2, 1])
        >>> net.unflatten([1.0, 2.0, 3.0])
        ((array([[1., 2.]]),), (array([3.]),))
        """
        flat = np.asarray(grad)
        if flat.shape != (self.n_params,):
            flat = checks.shaped(grad, "grad", self.theta.shape, self.dtype)
        return self._architecture.unflatten(flat)

    def flatten(self, dW: Sequence[ArrayLike], db: Sequence[ArrayLike]) -> Array:
        """Join arrays of each layer into one vector laid out like theta, as `unflatten` splits it.

        Parameters
        ----------
        dW : sequence of array_like, (n_l, n_{l-1})
            Arrays of the shapes of `weights`.
        db : sequence of array_like, (n_l,)
            Arrays of the shapes of `biases`.

        Returns
        -------
        ndarray, (n_params,)
            A new vector.

        Raises
        ------
        ValueError, TypeError
            dW or db has not one array of the layer's shape for each layer.
        """
        return self._architecture.flatten(dW, db)

    def collapse(self) -> Network:
        """Multiply layers without activations into one: ``W = W[L] ... W[1]``.

        A network whose hidden layers are all identity computes no more than one layer does. The
        product is taken in float64. The penalties l2 and l1 stay, but apply to the entries of the
        product, so that `loss` changes unless both are 0.

        Returns
        -------
        Network
            A network of sizes [n_in, n_out] with the same predictions, and a copy of the generator.

        Raises
        ------
        ValueError
            A hidden layer has an activation other than identity.
        """
        one = collapsed(self._architecture, self.theta)
        return Network.sharing(*one, copy.deepcopy(self._rng), self.threads)

    @hinted
    def fit(
        self,
        X: ArrayLike | Iterable[Batch],
        Y: ArrayLike | None = None,
        epochs: int = 10,
        batch_size: int = 32,
        optimizer: Method | FullBatch | None = None,
        *,
        validation_data: checks.Validation | None = None,
        validation_split: float | None = None,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight | None = None,
        label_smoothing: float = 0.0,
        schedule: Schedule | None = None,
        clip_norm: float | None = None,
        dropout: float | Sequence[float] = 0.0,
        metrics: Mapping[str, Metric] | None = None,
        callbacks: Sequence[object] = (),
        checkpoint: Path | None = None,
        every: int = 1,
        resume: bool = False,
        progress: bool = True,
        rng: Seed = None,
        shuffle: bool = True,
    ) -> History:
        """Train the network by minibatch descent; theta changes in place.

        A call that raises an error before its first epoch ends changes neither theta nor rng.

        Parameters
        ----------
        X, Y : array_like
            Finite samples, of the shapes that `loss` takes. A memory map isn't copied: one of
            another dtype than the network's is converted some samples at a time. Without Y, X is an
            iterable of batches ``(X, Y)`` or ``(X, Y, weight)``, each of which is a step, whatever
            batch_size and shuffle are.
        epochs : int
            Number of passes over the samples.
        batch_size : int
            Samples of one step; the last step of an epoch takes those that are left.
        optimizer : Optimizer, optional
            Rule by which theta moves: ``dj.Adam()`` by default. ``dj.LBFGS()``,
            ``dj.LevenbergMarquardt()`` and ``dj.Rprop()`` take every step on all samples, whatever
            batch_size is; the first two may end before `epochs` steps, when they have converged.
            ``dj.GaussNewtonCG()`` and ``dj.KFAC()`` look at the curvature of each minibatch.
        validation_data : (X, Y) or (X, Y, sample_weight), optional
            Samples on which the loss is taken after each epoch.
        validation_split : float, optional
            Share of the samples, the last ones, that is taken out of X and Y for that instead;
            shuffle samples that are sorted first.
        sample_weight : array_like, (B,), optional
            Weights of the samples, as for `loss`.
        class_weight : "balanced", dict or sequence, optional
            Factors of the weights of a class's samples in training, by labels or class names (1 for
            those left out), or one for each class; "balanced" gives all classes the same weight in
            all. For cross_entropy and focal, and binary_cross_entropy and binary_focal of one
            output.
        label_smoothing : float
            Share, in [0, 1), of each target of cross_entropy and focal that is spread evenly over
            all classes in training, and of binary_cross_entropy and binary_focal over 0 and 1
            (Szegedy et al. 2016).
        schedule : Schedule, optional
            Learning rate of each update, as a multiple of the optimizer's: see ``dj.schedules``.
        clip_norm : float, > 0, optional
            Euclidean length to which longer gradients are shortened.
        dropout : float, or one for each hidden layer
            Share of units that a step leaves out, in [0, 1). The others are scaled up, so that
            `predict` needs no scaling. Training losses are those with units left out.
        metrics : dict of functions, optional
            Functions ``name: f(Y, outputs)``, evaluated on validation_data after each epoch and
            kept in ``History.metrics``; Y is passed as it was given, and for Y (B,) the outputs of
            a network with one are (B,) too.
        callbacks : sequence of Callback
            Objects that are told of each epoch and may end the fit: see ``dj.callbacks``.
        checkpoint : str, bytes or os.PathLike, optional
            File that keeps the state of the fit.
        every : int
            Epochs between two writes of `checkpoint`; the last epoch is always written.
        resume : bool
            Whether to go on from `checkpoint`, if the file exists, to the same bits as without the
            interruption. The network's shape, the number of samples and what decides the steps must
            be equal, and a schedule must give the same rates; epochs, validation_data, metrics and
            the arguments of callbacks may change.
        progress : bool
            Whether to show a progress bar, if there is a terminal.
        rng : None, int or numpy.random.Generator
            Seed or generator that shuffles the samples; None goes on with the network's generator.
        shuffle : bool
            Whether each epoch takes the samples in a new order.

        Returns
        -------
        History
            Losses, validation losses and seconds, one for each epoch. Ctrl-C ends the fit after the
            step under way, with that step's theta and ``interrupted=True``; a process that ignores
            SIGINT, as a shell's background job does, goes on.

        Raises
        ------
        DivergedError
            The loss became NaN or infinite. Theta is that of the last good epoch, unless a callback
            changes it.
        FormatError
            `checkpoint` is damaged, or no checkpoint.
        OSError
            `checkpoint` can't be written.
        ValueError, TypeError
            An argument is wrong, or `checkpoint` is of another fit.

        Examples
        --------
        >>> import deltajit as dj
        >>> net = dj.Network([1, 4, 1], rng=0)
        >>> X, Y = [[0.0], [0.5], [1.0]], [0.0, 1.0, 0.0]
        >>> history = net.fit(X, Y, epochs=20, optimizer=dj.Adam(0.1), progress=False)
        >>> history.loss[-1] < history.loss[0]
        True
        """
        source = source_of(self._architecture, X, Y, sample_weight, epochs)
        if validation_split is not None:
            data = in_memory(source, "validation_split")
            data, validation_data = split(data, Y, validation_split, validation_data)
            source = Held(data)
        if class_weight is not None:
            data = in_memory(source, "class_weight")
            source = Held(class_weighted(self._architecture, data, class_weight))
        if label_smoothing != 0:
            data = in_memory(source, "label_smoothing")
            source = Held(smoothed(self._architecture, data, label_smoothing))
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
        generator = self._rng if rng is None else checks.generator(rng)
        history = fitting.fit(self, source, generator, options)
        self._progress = None  # moments of another theta
        return history

    @hinted
    def partial_fit(
        self,
        X: ArrayLike | Iterable[Batch],
        Y: ArrayLike | None = None,
        optimizer: Method | None = None,
        *,
        batch_size: int = 32,
        sample_weight: ArrayLike | None = None,
        clip_norm: float | None = None,
        dropout: float | Sequence[float] = 0.0,
        rng: Seed = None,
        shuffle: bool = True,
    ) -> float:
        """Train for one pass over some samples, where the last call has stopped; theta changes.

        The network keeps the state of the optimizer, such as Adam's moments, for the next call, and
        in a pickle. So with ``shuffle=False`` chunks of whole minibatches give the bits that one
        call for all of them gives, and `fit` with ``epochs=1``. State begins anew after `fit`, and
        for another optimizer, but not for one of another learning rate alone. A call that raises an
        error changes nothing.

        Parameters
        ----------
        X, Y : array_like
            Finite samples, as for `fit`, memory maps too; or an iterable of batches without Y.
        optimizer : Optimizer, optional
            Rule by which theta moves: ``dj.Adam()`` by default. One that takes every step on all
            samples is refused.
        batch_size : int
            Samples of one step; the last step takes those that are left.
        sample_weight : array_like, (B,), optional
            Weights of the samples, as for `loss`.
        clip_norm : float, > 0, optional
            Euclidean length to which longer gradients are shortened.
        dropout : float, or one for each hidden layer
            Share of units that a step leaves out, in [0, 1).
        rng : None, int or numpy.random.Generator
            Seed or generator that shuffles the samples; None goes on with the network's generator.
        shuffle : bool
            Whether the samples are taken in a new order.

        Returns
        -------
        float
            Mean loss of the samples, each before its step.

        Raises
        ------
        DivergedError
            The loss became NaN or infinite.
        ValueError, TypeError
            An argument is wrong.

        Examples
        --------
        >>> import deltajit as dj
        >>> net = dj.Network([1, 4, 1], rng=0)
        >>> opt = dj.Adam(0.1)
        >>> losses = [net.partial_fit([[0.0], [0.5]], [0.0, 1.0], opt) for _ in range(20)]
        >>> losses[-1] < losses[0]
        True
        """
        source = source_of(self._architecture, X, Y, sample_weight, epochs=1)
        options = incremental.Options(
            batch_size=batch_size,
            optimizer=Adam() if optimizer is None else optimizer,
            clip_norm=clip_norm,
            dropout=dropout,
            shuffle=shuffle,
        )
        generator = self._rng if rng is None else checks.generator(rng)
        loss, self._progress = incremental.partial_fit(
            self, source, generator, options, self._progress
        )
        return loss

    # ---------------------------------------------------------------- files and other libraries

    def save(self, path: Path) -> None:
        """Write the network to a safetensors file, which `deltajit.load` reads.

        The tensors are named "layers.0.weight" (n_out, n_in) and "layers.0.bias", for other tools.

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

        Examples
        --------
        >>> import deltajit as dj, os, tempfile
        >>> net = dj.Network([2, 3, 1])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     net.save(os.path.join(folder, "net.safetensors"))
        ...     same = dj.load(os.path.join(folder, "net.safetensors"))
        >>> bool((same.theta == net.theta).all())
        True
        """
        saving.save(path, self._architecture, self.theta)

    @classmethod
    def load(cls, path: Path, *, rng: Seed = 0, threads: int | None = None) -> Network:
        """Read a network from a file that `save` wrote; nothing in the file is executed.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            File to read.
        rng : None, int or numpy.random.Generator
            Seed or generator that shuffles the samples in `fit`; the file holds none.
        threads : int, optional
            Number of threads that a large batch may use, as for `Network`.

        Returns
        -------
        Network
            The network.

        Raises
        ------
        FormatError
            The file is no saved network, is damaged, or needs a newer deltajit.
        FileNotFoundError
            There is no such file.
        """
        return cls._holding(saving.load(path), rng, threads)

    def to_torch(self) -> Any:
        """Return the network as a ``torch.nn.Sequential``, with copies of the weights.

        Returns
        -------
        torch.nn.Sequential
            Module whose outputs are those of `predict`. It ends with the output activation; for
            PyTorch's losses of logits take ``net.to_torch()[:-1]``.

        Raises
        ------
        ValueError
            PyTorch has no module for an activation: a custom one, say.
        ImportError
            PyTorch is not installed.
        """
        return pytorch.to_torch(self._architecture, self.theta)

    @classmethod
    def from_torch(
        cls,
        source: Any,
        activation: str | Sequence[str] | None = None,
        output: str = "auto",
        loss: str = "auto",
        *,
        prefix: str = "",
        rng: Seed = 0,
        threads: int | None = None,
        **options: float,
    ) -> Network:
        """Make a network with copies of a PyTorch network's weights.

        Parameters
        ----------
        source : torch.nn.Sequential, or a state_dict
            Linear layers and their activations, also in TorchScript, as `torch.jit.load` returns
            it, or a mapping of names to tensors or NumPy arrays. Layers of a mapping are sorted by
            the numbers in their names ("layers.0.weight"), or else in its order.
        activation : str or sequence of str
            Activation of the hidden layers, for a state_dict; a Sequential has its own.
        output : str
            Activation of the outputs. "auto" is the Sequential's last activation, if it ends with
            one, else the one that belongs to the loss: for a network whose logits go into
            ``CrossEntropyLoss`` pass ``loss="cross_entropy"``; `predict` then gives probabilities.
        loss : str
            Loss of one sample, as for `Network`.
        prefix : str
            Of a state_dict only what has a name with this prefix, such as "actor." in a
            checkpoint that has a critic too.
        rng : None, int or numpy.random.Generator
            Seed or generator that shuffles the samples in `fit`.
        threads : int, optional
            Number of threads that a large batch may use, as for `Network`.
        **options : float
            Arguments slope (a Sequential has its own), l2, l1, threshold, quantile and gamma of
            `Network`.

        Returns
        -------
        Network
            The network.

        Raises
        ------
        ValueError, TypeError
            The source has other layers, its shapes do not fit each other, or an argument is wrong
            or contradicts it.
        """
        return cls._holding(
            pytorch.from_torch(source, activation, output, loss, options, prefix), rng, threads
        )

    @classmethod
    def from_sklearn(
        cls, mlp: Any, *, rng: Seed = 0, threads: int | None = None, **options: float
    ) -> Network:
        """Make a network with copies of the weights of a fitted MLPClassifier or MLPRegressor.

        Parameters
        ----------
        mlp : sklearn.neural_network.MLPClassifier or MLPRegressor
            Fitted estimator.
        rng : None, int or numpy.random.Generator
            Seed or generator that shuffles the samples in `fit`.
        threads : int, optional
            Number of threads that a large batch may use, as for `Network`.
        **options : float
            Penalties l2 and l1 of `Network`; scikit-learn's is ``l2 = alpha / samples of a step``.

        Returns
        -------
        Network
            Network whose `predict` is the regressor's, or the classifier's ``predict_proba`` in the
            order of ``mlp.classes_``; of two classes only the second has an output.

        Raises
        ------
        ValueError, TypeError
            mlp is no such estimator, or is not fitted; or an argument is wrong.
        """
        return cls._holding(scikit_learn.from_sklearn(mlp, options), rng, threads)

    def to_onnx(self, path: Path) -> None:
        """Write `predict` to an ONNX file: input "X" (batch, n_in), output "Y" (batch, n_out).

        Parameters
        ----------
        path : str, bytes or os.PathLike
            File to write.

        Raises
        ------
        ValueError, TypeError
            path is no path, or an activation has no form in ONNX: a custom one, say.
        OSError
            The file can't be written.
        ImportError
            The package onnx is not installed (``pip install 'deltajit[onnx]'``).
        """
        onnx.to_onnx(self._architecture, self.theta, path)

    @classmethod
    def from_onnx(
        cls,
        path: Path,
        output_name: str | None = None,
        loss: str = "auto",
        *,
        rng: Seed = 0,
        threads: int | None = None,
        **options: float,
    ) -> Network:
        """Make a network of the multilayer perceptron in an ONNX file.

        Exporters write it in many ways. Linear layers are Gemm or MatMul and Add; activations are
        known by their values, of whatever operators they consist. Normalizations of the inputs,
        factors and terms between layers, and chosen parts of outputs are folded into the weights,
        in float64. An activation without a linear layer in front, or a scaling behind the last,
        gets a layer of its own, a diagonal one. Nothing in the file is executed.

        Parameters
        ----------
        path : str or os.PathLike
            File to read; its weights may be in a second file beside it.
        output_name : str, optional
            Which output of the graph is the network's. By default the only one of real numbers: of
            a classifier by skl2onnx the probabilities, not the labels.
        loss : str
            Loss of one sample, as for `Network`; "auto" is the one that belongs to the output. For
            a file whose outputs are logits pass ``loss="cross_entropy"``; `predict` then gives
            probabilities.
        rng : None, int or numpy.random.Generator
            Seed or generator that shuffles the samples in `fit`.
        threads : int, optional
            Number of threads that a large batch may use, as for `Network`.
        **options : float
            Arguments l2, l1, threshold, quantile and gamma of `Network`.

        Returns
        -------
        Network
            Network in float64 if weights in the file are, else in float32.

        Raises
        ------
        FormatError
            The file is damaged, or computes something else: the error, a ValueError, names the
            node.
        ImportError
            There is no onnx, the extra ``deltajit[onnx]``.
        """
        return cls._holding(onnx.from_onnx(path, output_name, loss, options), rng, threads)

    def to_c(self, path: Path, name: str | None = None) -> None:
        """Write `predict` for one sample to a C99 header that needs nothing but math.h.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            File to write.
        name : str, optional
            Prefix of the names in the header, by default the file's name. The function is ``void
            <name>_predict(const float *x, float *out)``, with double for float64.

        Raises
        ------
        ValueError, TypeError
            path is no path, name is no name in C, or an activation has no form in C: a custom one,
            say.
        OSError
            The file can't be written.
        """
        c_header.to_c(self._architecture, self.theta, path, name)

    # ---------------------------------------------------------------- helpers

    @classmethod
    def _holding(
        cls, described: tuple[Architecture, Array], rng: Seed, threads: int | None
    ) -> Network:
        """Return a network on a theta that nothing else refers to."""
        return cls.sharing(*described, checks.generator(rng), checks.threads(threads))

    def _data(self, X: ArrayLike, Y: ArrayLike, weights: ArrayLike | None) -> Data:
        return checked(self._architecture, X, Y, weights)

    def _predict_by(
        self,
        theta: ArrayLike | None,
        dropout: float | Sequence[float] | None,
        rng: Seed,
        X: ArrayLike,
    ) -> Array:
        """Compute `predict` with other parameters, or with units left out."""
        samples = checks.samples(X, "X", self.sizes[0], self.dtype)
        out = np.empty((*samples.shape[:-1], self.sizes[-1]), self.dtype)
        model, work = checks.model_at(self._model, theta), self._scratch.work
        generator = self._rng if rng is None else checks.generator(rng)
        share = 0.0 if dropout is None else dropout
        left_out = dropout_of(share, len(self.sizes) - 2, lambda: seeds(generator))
        if left_out is None:
            self._calls.predict(model, samples, out, work)
        else:
            self._calls.predict_with_dropout(model, samples, out, work, left_out)
        return out

    def _product(
        self,
        kind: int,
        X: ArrayLike,
        Y: ArrayLike,
        v: ArrayLike,
        weights: ArrayLike | None,
    ) -> Array:
        """Compute the product with v of the Hessian (EXACT) or of the Gauss-Newton matrix."""
        data = self._data(X, Y, weights)
        direction = checks.direction(v, "v", self.theta.shape, self.dtype)
        out = np.empty_like(self.theta)
        work = self._scratch.work_of_order_2
        X, Y, weights = data
        self._calls.product(self._model, X, Y, None, weights, direction, out, work, kind)
        return out


def _assign(views: Sequence[Array], value: object, name: str) -> None:
    """Copy an array into each view, once all are checked; they may be views of each other."""
    given = [each.copy() for each in checks.layers(value, name, views)]
    for view, each in zip(views, given, strict=True):
        view[...] = each
