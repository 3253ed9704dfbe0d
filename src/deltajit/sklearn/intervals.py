"""Prediction intervals of a fitted regressor, by several methods, each a function in `METHODS`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import clone

from deltajit.model.memory import Array
from deltajit.sklearn.monotone import constraints_of
from deltajit.sklearn.samples import Matrix, Samples, dense
from deltajit.uncertainty.laplace import Laplace

MEMBERS = 20  # fits of the ensemble
BLOCK = 2**22  # elements that are held at once

Ends = tuple[Array, Array]


def conformal(model: Any, X: Matrix, samples: Samples, coverage: float) -> Ends:
    """Use the errors of samples held out of the fit: split conformal (Lei et al. 2018)."""
    errors = np.sort(abs(samples.Y - model._outputs_of(samples.X)), axis=0)
    rank = _rank(len(errors), coverage)
    half = errors[rank - 1]
    outputs = model._outputs_of(X)
    return outputs - half, outputs + half


def ensemble(model: Any, X: Matrix, samples: Samples, coverage: float) -> Ends:
    """Fit copies to resampled samples: the jackknife+ after bootstrap (Kim, Xu & Barber 2020).

    Each sample has the error of those copies that have not seen it.
    """
    n, rng = samples.size, np.random.default_rng(0)
    picks = rng.integers(n, size=(MEMBERS, n))
    unseen = np.ones((MEMBERS, n))
    for row, pick in zip(unseen, picks, strict=True):
        row[pick] = 0
    known = unseen.any(axis=0)
    share = (unseen / np.maximum(unseen.sum(axis=0), 1)).T[known]
    at_samples, at_X, signs = [], [], constraints_of(model)
    for seed, pick in enumerate(picks):
        member = clone(model).set_params(random_state=seed, monotonic_cst=signs)
        part = samples.pick(pick)
        member.fit(part.X, part.Y[:, 0] if part.Y.shape[1] == 1 else part.Y)
        at_samples.append(member._outputs_of(samples.X))
        at_X.append(member._outputs_of(X))
    means = np.einsum("im,mio->io", share, np.stack(at_samples)[:, known])
    errors = abs(samples.Y[known] - means)
    return _jackknife(share, np.stack(at_X), errors, coverage)


def laplace(model: Any, X: Matrix, samples: Samples, coverage: float) -> Ends:
    """Use the posterior of the network's parameters, by Kronecker factors: see `Laplace`."""
    x, given = (dense(model._standardized(each)) for each in (X, samples.X))
    targets = model._scaled(samples.Y, None, first=False)
    lower, upper = Laplace(model._network(), given, targets, "kronecker").interval(x, coverage)
    return model._unscaled(lower), model._unscaled(upper)


METHODS: dict[str, Callable[[Any, Matrix, Samples, float], Ends]] = {
    "conformal": conformal,
    "ensemble": ensemble,
    "laplace": laplace,
}


def _rank(n: int, coverage: float) -> int:
    """Return which of n sorted errors a new one is below, with that probability or more."""
    rank = math.ceil((n + 1) * coverage)
    if rank > n:
        raise ValueError(f"data must hold more samples for coverage={coverage}, got {n}")
    return rank


def _jackknife(share: Array, outputs: Array, errors: Array, coverage: float) -> Ends:
    """Return quantiles of each sample's mean (share @ outputs) less, and plus, its error."""
    n, size = len(share), outputs.shape[1]
    rank = _rank(n, coverage)
    lower, upper = (np.empty(outputs.shape[1:]) for _ in range(2))
    step = max(1, BLOCK // (n * outputs.shape[2]))
    for first in range(0, size, step):
        part = slice(first, first + step)
        means = np.einsum("im,mxo->ixo", share, outputs[:, part])
        lower[part] = np.sort(means - errors[:, None], axis=0)[n - rank]
        upper[part] = np.sort(means + errors[:, None], axis=0)[rank - 1]
    return lower, upper
