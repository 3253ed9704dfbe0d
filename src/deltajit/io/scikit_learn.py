"""Networks from scikit-learn's estimators, and from those of deltajit.sklearn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from deltajit.io.forms import assembled
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array
from deltajit.model.standardizer import fold_inputs, fold_outputs

OUR_NAMES = {"logistic": "sigmoid"}  # the other names are the same


def from_sklearn(mlp: Any, options: Mapping[str, object]) -> tuple[Architecture, Array]:
    """Return an architecture and a copied theta of an estimator: see `Network.from_sklearn`.

    If the estimator is one of ours that standardizes inputs or targets, the first and the last
    layer do so.
    """
    missing = [
        name
        for name in ("coefs_", "intercepts_", "activation", "out_activation_")
        if not hasattr(mlp, name)
    ]
    if missing:
        raise TypeError(
            "mlp must be a fitted MLPClassifier or MLPRegressor, "
            f"got {mlp!r} without {', '.join(missing)}"
        )
    if hasattr(mlp, "_architecture"):  # ours: what fit used, since parameters may have changed
        hidden = list(mlp._architecture.activations[:-1])
    else:
        hidden = [OUR_NAMES.get(mlp.activation, mlp.activation)] * (len(mlp.coefs_) - 1)
    output = OUR_NAMES.get(mlp.out_activation_, mlp.out_activation_)
    weights = [np.array(W.T, order="F") for W in mlp.coefs_]
    biases = [np.array(b) for b in mlp.intercepts_]
    scaler = getattr(mlp, "standardizer_", None)
    if scaler is not None:  # ours too
        mean = scaler.mean_ if scaler.with_mean else np.zeros_like(scaler.scale_)
        fold_inputs(weights, biases, mean, scaler.scale_)
    scaler = getattr(mlp, "target_standardizer_", None)
    if scaler is not None:
        fold_outputs(weights, biases, scaler.mean_, scaler.scale_)
    names = [str(label) for label in getattr(mlp, "classes_", ())]
    if len({*names}) == max(2, len(biases[-1])):  # not of a single class
        options = {"class_names": names, **options}
    names = _input_names(mlp)
    if len({*names}) == weights[0].shape[1]:
        options = {"input_names": names, **options}
    return assembled(weights, biases, hidden, output, "auto", options)


def _input_names(mlp: Any) -> list[str]:
    """Return the names of the network's inputs: columns of a table of ours, or features."""
    table = getattr(mlp, "_table", None)
    return list(getattr(mlp, "feature_names_in_", ())) if table is None else table.names
