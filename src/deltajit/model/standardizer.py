"""Scale samples to mean 0 and variance 1, and build scalings into a network's weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from deltajit.model import checks, memory
from deltajit.model.memory import Array


class Standardizer:
    """Scale each input, and each target if it is given any, to mean 0 and variance 1.

    A network that was trained on scaled samples becomes one of the samples as they are by `fold`:
    the scales are then in its weights, and so in whatever is done with it: `save`, `to_c`,
    `to_onnx`, derivatives, and kernels in jitted code.

    Attributes
    ----------
    mean, scale : ndarray, (n_in,)
        Mean and standard deviation of each input, in float64; the scale of a constant one is 1.
    target_mean, target_scale : ndarray, (n_targets,), or None
        The same of each target, if `fit` was given targets.

    Examples
    --------
    >>> import deltajit as dj, numpy as np
    >>> X = np.linspace(1900, 2000, 50)[:, None]
    >>> Y = 3000 * X[:, 0]
    >>> scaler = dj.Standardizer().fit(X, Y)
    >>> net = dj.Network([1, 1], dtype="float64")
    >>> history = net.fit(*scaler.transform(X, Y), optimizer=dj.LBFGS(), progress=False)
    >>> np.allclose(scaler.fold(net).predict(X)[:, 0], Y)
    True
    """

    mean: Array
    scale: Array
    target_mean: Array | None
    target_scale: Array | None

    def fit(
        self, X: ArrayLike, Y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Measure means and standard deviations.

        Parameters
        ----------
        X : array_like, (B, n_in)
            Inputs.
        Y : array_like, (B, n_targets) or (B,), optional
            Targets, if they are to be scaled too.
        sample_weight : array_like, (B,), optional
            Weights of the samples.

        Returns
        -------
        Standardizer
            The standardizer itself.

        Raises
        ------
        ValueError, TypeError
            An argument has another shape, or holds what is no finite real number.
        """
        inputs = _columns(X, "X", None)
        w = checks.sample_weight(sample_weight, "sample_weight", len(inputs), inputs.dtype)
        targets = None if Y is None else _columns(Y, "Y", len(inputs))
        self.mean, self.scale = _moments(inputs, w)
        self.target_mean = self.target_scale = None
        if targets is not None:
            self.target_mean, self.target_scale = _moments(targets, w)
        return self

    def transform(self, X: ArrayLike, Y: ArrayLike | None = None) -> Any:
        """Scale samples.

        Parameters
        ----------
        X : array_like, (B, n_in) or one sample (n_in,)
            Inputs.
        Y : array_like, (B, n_targets), or (B,) for one target, optional
            Targets.

        Returns
        -------
        ndarray, or a tuple of two if Y is given
            Scaled samples in the same shapes, in float32 if they are, else in float64.

        Raises
        ------
        ValueError, TypeError
            `fit` was not called, or an argument has another shape or holds no real numbers.
        """
        self._check_fitted()
        scaled = _scaled(X, "X", self.mean, self.scale)
        if Y is None:
            return scaled
        if self.target_mean is None or self.target_scale is None:
            raise ValueError("Y must be given to fit too, if targets are to be scaled")
        return scaled, _scaled(Y, "Y", self.target_mean, self.target_scale)

    def fold(self, net: Any) -> Any:
        """Make a network of samples as they are from one that was trained on scaled samples.

        Parameters
        ----------
        net : Network
            The network; it stays as it is. If targets were scaled, its outputs must be linear.

        Returns
        -------
        Network
            The network, with the scales in its first and last weights, which loss and penalties
            are then of.

        Raises
        ------
        ValueError, TypeError
            `fit` was not called, or net does not fit it.
        """
        self._check_fitted()
        checks.has(net, "net", "a Network", ["architecture", "theta", "sharing"])
        its = net.architecture
        if its.sizes[0] != len(self.mean):
            raise ValueError(f"net must have {len(self.mean)} inputs, got {its.sizes[0]}")
        theta = memory.copy(net.theta)
        weights, biases = its.unflatten(theta)
        fold_inputs(weights, biases, self.mean, self.scale)
        if self.target_mean is not None and self.target_scale is not None:
            if its.sizes[-1] != len(self.target_mean) or its.activations[-1] != "identity":
                raise ValueError(
                    f"net must have {len(self.target_mean)} linear outputs, as targets were "
                    f"scaled, got {its.sizes[-1]} x {its.activations[-1]}"
                )
            fold_outputs(weights, biases, self.target_mean, self.target_scale)
        return net.sharing(its, theta, np.random.default_rng(0), net.threads)

    def _check_fitted(self) -> None:
        if not hasattr(self, "mean"):
            raise ValueError("Standardizer must be fitted first: dj.Standardizer().fit(X)")


def fold_inputs(
    weights: Sequence[Array], biases: Sequence[Array], mean: Array, scale: Array
) -> None:
    """Change the first layer, in place, to one of inputs x for which it had ``(x - mean) / scale``.

    The bias is that of the weights as they are rounded.
    """
    W, b = weights[0], biases[0]
    W[...] = W / scale
    b[...] = b - W.astype(np.float64) @ mean


def fold_outputs(
    weights: Sequence[Array], biases: Sequence[Array], mean: Array, scale: Array
) -> None:
    """Change the last layer, in place, so that outputs y become ``scale * y + mean``."""
    W, b = weights[-1], biases[-1]
    W[...] = W * scale[:, None]
    b[...] = b * scale + mean


def _columns(value: ArrayLike, name: str, rows: int | None) -> Array:
    """Return (B, n) finite numbers in float64; one column may have the shape (B,) if B is given."""
    array = checks.array(value, name, np.dtype(np.float64))
    if rows is not None and array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.size == 0 or rows not in (None, len(array)):
        first = "batch" if rows is None else rows
        raise ValueError(f"{name} must have shape ({first}, columns), got {array.shape}")
    checks.finite(array, name)
    return array


def _moments(columns: Array, weights: Array | None) -> tuple[Array, Array]:
    """Return mean and standard deviation of each column, 1 for a constant."""
    if weights is not None:  # a column is constant where it has weight
        columns, weights = columns[weights > 0], weights[weights > 0]
    mean = np.average(columns, axis=0, weights=weights)
    scale = np.sqrt(np.average((columns - mean) ** 2, axis=0, weights=weights))
    scale[np.ptp(columns, axis=0) == 0] = 1
    return mean, scale


def _scaled(value: ArrayLike, name: str, mean: Array, scale: Array) -> Array:
    given = checks.asarray(value, name)
    kind = np.dtype(np.float32 if given.dtype == np.float32 else np.float64)
    array = checks.array(given, name, kind)
    is_column = len(mean) == 1 and name == "Y" and array.ndim == 1
    if not is_column and array.shape[-1:] != mean.shape:
        raise ValueError(f"{name} must have {len(mean)} columns, got the shape {array.shape}")
    return np.asarray((array - mean) / scale, kind)
