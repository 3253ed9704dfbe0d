"""Bounds of theta in a fit: what fixes weights beside embeddings, and gives weights signs."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import Bounds

from deltajit.network import Network
from deltajit.sklearn import monotone
from deltajit.sklearn.columns import Embedding, Table


def bounds_of(estimator: Any, net: Network, embedding: Embedding | None) -> Bounds | None:
    """Return the bounds of theta that an estimator asks for, or None if it is free."""
    inputs = _signs_of_inputs(estimator, net)
    if embedding is None and inputs is None:
        return None
    low, high = (np.full(net.n_params, x, net.dtype) for x in (-np.inf, np.inf))
    (lower, b_lower), (upper, b_upper) = map(net.architecture.unflatten, (low, high))
    if embedding is not None:
        embedding.restrict(lower[0], upper[0])
        b_lower[0][:] = b_upper[0][:] = 0
    if inputs is not None:
        if embedding is not None:
            inputs = embedding.behind(inputs)
        layers = slice(embedding is not None, None)
        signs = monotone.signs_of_units(inputs, net.sizes[layers][1:])
        monotone.restrict(lower[layers], upper[layers], signs)
    return Bounds(low, high)


def _signs_of_inputs(estimator: Any, net: Network) -> monotone.Signs | None:
    """Return what `monotonic_cst` says of each input of the network, if it says anything."""
    signs = monotone.constraints_of(estimator)
    if signs is None:
        return None
    if estimator.out_activation_ == "softmax":
        raise ValueError("monotonic_cst means nothing to more than two classes; leave it out")
    monotone.check_activations(net.architecture.activations[:-1])
    table: Table | None = estimator._table
    if table is None:
        return signs
    if signs[table.categorical].any():
        raise ValueError("monotonic_cst must be 0 for columns of categories, which have no order")
    return table.spread(signs)
