"""Define `Laplace`: how sure a trained network is, by a Gaussian around its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from deltajit import reference
from deltajit.derivatives.kronecker import eigen
from deltajit.derivatives.objective import Objective
from deltajit.kernels.blocks import LARGEST_BLOCK
from deltajit.kernels.mlp.calls import calls_for
from deltajit.kernels.mlp.derivatives import BY_THETA
from deltajit.model import checks, memory
from deltajit.model.data import Data, checked
from deltajit.model.memory import Array
from deltajit.network import Network
from deltajit.uncertainty.bases import KINDS, Block, sharing, truncated
from deltajit.uncertainty.evidence import Evidence

BLOCK = 2**22  # elements of a Jacobian that are held at once


# ------------------------------------------------------------------ losses that are likelihoods


def _probit(z: Array, variance: Array) -> Array:
    """Return logits whose sigmoid or softmax is nearly the mean over N(z, variance)."""
    return z / np.sqrt(1 + np.pi / 8 * variance)


def _lognormal(z: Array, variance: Array) -> Array:
    """Return the logarithm of the mean of exp over N(z, variance)."""
    return z + variance / 2


# Of each loss ``-log p(y | a)`` whose BP1 is ``a - y``, so that its curvature by z is f'(z): where
# f must be taken to give the mean of a over N(z, variance). For squared_error a itself is Gaussian.
MEANS: dict[str, Callable[[Array, Array], Array]] = {
    "binary_cross_entropy": _probit,
    "cross_entropy": _probit,
    "poisson": _lognormal,
}


# ------------------------------------------------------------------ what users call


class Laplace:
    """Approximate the posterior of a trained network's parameters by a Gaussian [1]_ [2]_.

    Its mean is theta, its precision ``G / noise**2 + prior_precision * I``, G the Gauss-Newton
    matrix of the sum of the samples' losses. The network is linearized in theta [3]_, so that its
    outputs (the logits of classes) are Gaussian too. The samples and the network may change
    afterwards.

    Parameters
    ----------
    net : Network
        Trained network. Its loss is squared_error, cross_entropy, binary_cross_entropy or poisson.
    X, Y : array_like
        Samples that it was trained on, as for `Network.loss`.
    kind : str
        What is kept of G: "last_layer", that of the last layer's parameters, the others taken for
        certain; "diagonal"; "kronecker", a product of two small matrices for each layer [4]_; or
        "full".
    sample_weight : array_like, (B,), optional
        How many times each sample counts.
    prior_precision : float, > 0, optional
        Precision of the parameters before any sample, ``1 / variance``. None is that of the
        greatest evidence, ``log p(Y | X)`` [1]_.
    noise : float, > 0, optional
        Standard deviation of targets around the outputs, for squared_error. None is that of the
        greatest evidence.

    Attributes
    ----------
    kind : str
        As given.
    prior_precision : float
        As given, or that of the greatest evidence.
    noise : float or None
        As given, or that of the greatest evidence; None if the loss is not squared_error.
    log_evidence : float
        ``log p(Y | X)`` with these; for poisson without ``-log(y!)``.

    Raises
    ------
    ValueError, TypeError
        An argument is wrong, the loss is no likelihood, or "full" needs more than 1 GiB.

    References
    ----------
    .. [1] MacKay (1992), A practical Bayesian framework for backpropagation networks, Neural
       Computation 4; The evidence framework applied to classification networks, ibid.
    .. [2] Daxberger et al. (2021), Laplace redux: effortless Bayesian deep learning, NeurIPS 34.
    .. [3] Immer, Korzepa & Bauer (2021), Improving predictions of Bayesian neural nets via local
       linearization, AISTATS 24.
    .. [4] Ritter, Botev & Barber (2018), A scalable Laplace approximation for neural networks,
       ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> import deltajit as dj
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> Y = np.sin(3 * X) + np.random.default_rng(0).normal(0, 0.1, X.shape)
    >>> net = dj.Network([1, 8, 1], dtype="float64", l2=1e-4)
    >>> history = net.fit(X, Y, 100, optimizer=dj.LevenbergMarquardt(), progress=False)
    >>> posterior = dj.Laplace(net, X, Y, kind="full")
    >>> _, std = posterior.predict([[0.0], [3.0]], return_std=True)
    >>> bool(std[1] > 5 * std[0])  # no sample is near 3
    True
    """

    def __init__(
        self,
        net: Network,
        X: ArrayLike,
        Y: ArrayLike,
        kind: str = "last_layer",
        *,
        sample_weight: ArrayLike | None = None,
        prior_precision: float | None = None,
        noise: float | None = None,
    ) -> None:
        if not isinstance(net, Network):
            raise TypeError(f"net must be a Network, got {type(net).__name__}")
        loss = net.architecture.loss
        if loss != "squared_error" and loss not in MEANS:
            likelihoods = ", ".join(["squared_error", *MEANS])
            raise ValueError(f"net must have a loss of {likelihoods}, got loss={loss!r}")
        self.kind = checks.choice(kind, "kind", KINDS)
        if prior_precision is not None:
            checks.above_zero(prior_precision, "prior_precision")
        if noise is not None:
            checks.above_zero(noise, "noise")
            if loss != "squared_error":
                raise ValueError(f"noise is for loss='squared_error', got loss={loss!r}")
        data = checked(net.architecture, X, Y, sample_weight, finite=True)
        plain = replace(net.architecture, l1=0.0, l2=0.0)
        self._net = sharing(plain, memory.copy(net.theta), net)
        self._below = truncated(self._net, len(net.sizes) - 2) if kind == "last_layer" else None
        self._top = _linear_end(self._net, kind == "last_layer")
        self._basis = KINDS[self.kind].of(self._top, self._blocks(data))
        self._choose(data, prior_precision, noise)

    def predict(self, X: ArrayLike, return_std: bool = False) -> Array | tuple[Array, Array]:
        """Compute the mean of the outputs under the posterior, and their standard deviation.

        For squared_error the mean is `Network.predict`. Probabilities and rates are the mean over
        Gaussian logits: exactly for poisson, nearly for sigmoid, and for softmax as if its logits
        were independent; they are less sure than the network's.

        Parameters
        ----------
        X : array_like, (B, n_in) or one sample (n_in,)
            Inputs.
        return_std : bool
            Whether to return the standard deviation too.

        Returns
        -------
        mean : ndarray of float64, (B, n_out) or (n_out,)
            Means.
        std : ndarray of float64, of the same shape
            Standard deviations of the outputs, without the noise of targets; only if asked for.

        Raises
        ------
        ValueError, TypeError
            X does not hold finite numbers, or has another shape.
        """
        mean, std = self._mean_and_std(X)
        return (mean, std) if return_std else mean

    def interval(self, X: ArrayLike, coverage: float = 0.9) -> tuple[Array, Array]:
        """Compute intervals that hold a new target with a given probability.

        Parameters
        ----------
        X : array_like, (B, n_in) or one sample (n_in,)
            Inputs.
        coverage : float
            Probability, between 0 and 1, that a target is inside.

        Returns
        -------
        lower : ndarray of float64, (B, n_out) or (n_out,)
            Lower ends of the intervals, each for one output alone.
        upper : ndarray of float64, (B, n_out) or (n_out,)
            Upper ends.

        Raises
        ------
        ValueError, TypeError
            The loss is not squared_error, or an argument is wrong.
        """
        if self.noise is None:
            loss = self._net.architecture.loss
            raise ValueError(f"interval needs loss='squared_error', got loss={loss!r}")
        checks.above_zero(coverage, "coverage")
        checks.fraction(coverage, "coverage")
        mean, std = self._mean_and_std(X)
        half = NormalDist().inv_cdf((1 + coverage) / 2) * np.hypot(std, self.noise)
        return mean - half, mean + half

    def covariance(self, X: ArrayLike) -> Array:
        """Compute the covariance of each sample's outputs, or logits, under the posterior.

        Parameters
        ----------
        X : array_like, (B, n_in) or one sample (n_in,)
            Inputs.

        Returns
        -------
        ndarray of float64, (B, n_out, n_out) or (n_out, n_out)
            Covariances of the outputs for squared_error, else of the last layer's z.

        Raises
        ------
        ValueError, TypeError
            X does not hold finite numbers, or has another shape.
        """
        inputs, single = self._inputs(X)
        _, cov = self._moments(inputs)
        return np.asarray(cov[0]) if single else cov

    # ---------------------------------------------------------------- helpers

    def _mean_and_std(self, X: ArrayLike) -> tuple[Array, Array]:
        inputs, single = self._inputs(X)
        z, cov = self._moments(inputs)
        architecture = self._net.architecture
        name, slope, mean = architecture.activations[-1], architecture.slope, z
        if architecture.loss in MEANS:
            shifted = MEANS[architecture.loss](z, np.diagonal(cov, axis1=1, axis2=2))
            mean = reference.activate(name, shifted, slope)
            slopes = _slopes(name, reference.activate(name, z, slope), slope)
            cov = slopes @ cov @ slopes.transpose(0, 2, 1)
        std = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
        return (mean[0], std[0]) if single else (mean, std)

    def _inputs(self, X: ArrayLike) -> tuple[Array, bool]:
        """Check inputs; tell whether they are one sample."""
        inputs, single = checks.matrix(X, "X", self._net.sizes[0], self._net.dtype)
        checks.finite(inputs, "X")
        return inputs, single

    def _features(self, X: Array) -> Array:
        """Return the inputs of the layers whose parameters are uncertain."""
        return X if self._below is None else self._below.predict(X)

    def _moments(self, X: Array) -> tuple[Array, Array]:
        """Return means (B, n_out) and covariances (B, n_out, n_out) of outputs or logits."""
        features, n_out = self._features(X), self._net.sizes[-1]
        cov = np.empty((len(X), n_out, n_out))
        precision = self._basis.eigenvalues / (self.noise or 1.0) ** 2 + self.prior_precision
        for part, J in _jacobians(self._top, features):
            rows = self._basis.coordinates(J.reshape(-1, J.shape[-1])) / np.sqrt(precision)
            rows = rows.reshape(J.shape)
            cov[part] = rows @ rows.transpose(0, 2, 1)
        return self._top.predict(features).astype(np.float64), cov

    def _blocks(self, data: Data) -> Iterator[Block]:
        """Yield all samples, with rows ``C.T @ J``, ``C @ C.T`` the curvature of a loss by z."""
        features, name = self._features(data.X), self._net.architecture.activations[-1]
        for part, J in _jacobians(self._top, features):
            w = _weights(data)[part]
            rows = np.sqrt(w)[:, None, None] * J
            if self._net.architecture.loss in MEANS:
                a = self._net.predict(data.X[part]).astype(np.float64)
                values, vectors = eigen(_slopes(name, a, self._net.architecture.slope))
                rows = (vectors * np.sqrt(values)[:, None]).transpose(0, 2, 1) @ rows
            yield Block(features[part], w, rows.reshape(-1, J.shape[-1]))

    def _choose(self, data: Data, prior_precision: float | None, noise: float | None) -> None:
        """Choose what was not given for the greatest evidence."""
        net, theta = self._net, self._top.theta.astype(np.float64)
        total = _weights(data).sum()
        mean_loss = Objective(net.architecture, data, net.threads).fun(net.theta)
        evidence = Evidence(
            self._basis.eigenvalues,
            float(theta @ theta),
            float(mean_loss * total),
            float(total * net.sizes[-1]),
            net.architecture.loss == "squared_error",
        )
        found = evidence.greatest(prior_precision, None if noise is None else noise**-2)
        self.prior_precision = found[0]
        self.noise = found[1] ** -0.5 if evidence.gaussian else None
        self.log_evidence = evidence(*found)


def _slopes(name: str, a: Array, slope: float) -> Array:
    """Return da/dz (B, n, n) of an output activation."""
    units = np.eye(a.shape[1])
    columns = [reference.times_derivative(name, a, unit, slope) for unit in units]
    return np.stack([np.broadcast_to(x, a.shape) for x in columns], axis=2)


def _weights(data: Data) -> Array:
    """Return the samples' weights (B,), 1 by default."""
    given = data.weights
    return np.ones(len(data.X)) if given is None else given.astype(np.float64)


def _linear_end(net: Network, last_layer: bool) -> Network:
    """Return the network up to what is Gaussian, the outputs or the last z; or its last layer."""
    whole = net.architecture
    end = "identity" if whole.loss in MEANS else whole.activations[-1]
    first = len(whole.sizes) - 2 if last_layer else 0
    upper = replace(
        whole,
        sizes=whole.sizes[first:],
        activations=(*whole.activations[first:-1], end),
        loss="squared_error",
    )
    return sharing(upper, net.theta[net.n_params - upper.n_params :], net)


def _jacobians(net: Network, X: Array) -> Iterator[tuple[slice, Array]]:
    """Yield slices of the samples and d outputs / d theta (b, n_out, n_params) in float64."""
    n_out, n = net.sizes[-1], net.n_params
    work, jacobian = net.workspace(LARGEST_BLOCK, order=2), calls_for(net.dtype).jacobian
    count = max(1, BLOCK // (n_out * n))
    for first in range(0, len(X), count):
        part = slice(first, first + count)
        J = np.empty((len(X[part]), n_out, n), net.dtype)
        jacobian(net.model, X[part], J, work, BY_THETA)
        yield part, J.astype(np.float64)
