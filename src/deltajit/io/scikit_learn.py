"""Networks from scikit-learn's estimators, and from those of deltajit.sklearn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deltajit.io.forms import assembled
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array

OUR_NAMES = {"logistic": "sigmoid"}  # the other names are the same


def from_sklearn(mlp: Any, options: Mapping[str, object]) -> tuple[Architecture, Array]:
    """Return an architecture and a copied theta of an estimator: see `Network.from_sklearn`.

    If the estimator is one of ours that standardizes its inputs, the first layer does so.
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
    weights, biases = [W.T for W in mlp.coefs_], list(mlp.intercepts_)
    scaler = getattr(mlp, "standardizer_", None)
    if scaler is not None:  # ours too: W (x - mean) / scale + b
        weights[0] = (weights[0] / scaler.scale_).astype(weights[0].dtype)
        if scaler.with_mean:
            biases[0] = (biases[0] - weights[0] @ scaler.mean_).astype(biases[0].dtype)
    return assembled(weights, biases, hidden, output, "auto", options)
