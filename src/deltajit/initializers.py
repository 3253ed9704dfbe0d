"""Initial weights: how theta is drawn. Biases start at 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltajit import checks
from deltajit.architecture import Architecture
from deltajit.kernels import ACTIVATIONS

INITS = ("auto", "he", "glorot", "lecun", "normal", "zeros")


def initial_theta(
    architecture: Architecture, init: object, sigma: object, rng: np.random.Generator
) -> NDArray[Any]:
    """Draw theta.

    ``he`` N(0, 2/n_in) (He et al. 2015), ``glorot`` U(+-sqrt(6/(n_in + n_out))) (Glorot & Bengio
    2010), ``lecun`` N(0, 1/n_in) (LeCun et al. 1998), ``normal`` N(0, sigma^2), ``zeros``;
    ``auto`` is he for layers of the relu family, lecun for selu, glorot for the others.
    """
    scheme = checks.choice(init, "init", INITS)
    spread = checks.real(sigma, "sigma", least=0)
    theta = np.zeros(architecture.n_params, architecture.dtype)
    weights, _ = architecture.unflatten(theta)
    for W, activation in zip(weights, architecture.activations, strict=True):
        with np.errstate(all="ignore"):  # a sigma may be too small for float32
            W[:] = _draw(_scheme_for(activation, scheme), spread, W.shape, rng)
    return theta


def _scheme_for(activation: str, scheme: str) -> str:
    if scheme != "auto":
        return scheme
    return str(ACTIVATIONS[activation].init)


def _draw(
    scheme: str, sigma: float, shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.float64]:
    n_out, n_in = shape
    if scheme == "zeros":
        return np.zeros(shape)
    if scheme == "glorot":
        limit = np.sqrt(6 / (n_in + n_out))
        return rng.uniform(-limit, limit, shape)
    variance = {"he": 2 / n_in, "lecun": 1 / n_in, "normal": sigma**2}[scheme]
    return rng.normal(0, np.sqrt(variance), shape)
