"""Draw initial weights; biases start at 0. An initializer is a registered function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deltajit.kernels import ACTIVATIONS
from deltajit.model import checks
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array

Weights = NDArray[np.float64]
Draw = Callable[[tuple[int, int], float, np.random.Generator], Weights]

INITIALIZERS: dict[str, Draw] = {}


def initializer(draw: Draw) -> Draw:
    """Register ``draw((n_out, n_in), sigma, rng)`` under its name."""
    INITIALIZERS[draw.__name__] = draw
    return draw


@initializer
def he(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> Weights:
    """Draw from N(0, 2 / n_in) (He et al. 2015)."""
    return rng.normal(0, np.sqrt(2 / shape[1]), shape)


@initializer
def glorot(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> Weights:
    """Draw from U(-r, r), r = sqrt(6 / (n_in + n_out)) (Glorot & Bengio 2010)."""
    limit = np.sqrt(6 / sum(shape))
    return rng.uniform(-limit, limit, shape)


@initializer
def lecun(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> Weights:
    """Draw from N(0, 1 / n_in) (LeCun et al. 1998)."""
    return rng.normal(0, np.sqrt(1 / shape[1]), shape)


@initializer
def normal(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> Weights:
    """Draw from N(0, sigma**2)."""
    return rng.normal(0, sigma, shape)


@initializer
def zeros(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> Weights:
    """Return zeros, for layers whose weights are set by hand."""
    return np.zeros(shape)


def initial_theta(
    architecture: Architecture, init: object, sigma: object, rng: np.random.Generator
) -> Array:
    """Draw theta by one of INITIALIZERS; "auto" is the one that suits each layer's activation."""
    scheme = checks.choice(init, "init", ["auto", *INITIALIZERS])
    spread = checks.real(sigma, "sigma", least=0)
    theta = np.zeros(architecture.n_params, architecture.dtype)
    weights, _ = architecture.unflatten(theta)
    for W, activation in zip(weights, architecture.activations, strict=True):
        draw = INITIALIZERS[ACTIVATIONS[activation].init if scheme == "auto" else scheme]
        with np.errstate(all="ignore"):  # a sigma may be too small for float32
            W[:] = draw((W.shape[0], W.shape[1]), spread, rng)
    return theta
