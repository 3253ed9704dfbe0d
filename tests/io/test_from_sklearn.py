"""scikit-learn's networks become ours."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

import deltajit as dj
from tests.helpers.forms import close
from tests.helpers.networks import DTYPES


@pytest.mark.filterwarnings("ignore", category=ConvergenceWarning)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("task", ["binary", "classes", "labels", "number", "numbers"])
def test_sklearn(task, activation, dtype):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)).astype(dtype)
    score = X @ rng.normal(size=(4, 3)).astype(dtype)
    kind, Y = {
        "binary": (MLPClassifier, np.where(score[:, 0] > 0, "yes", "no")),
        "classes": (MLPClassifier, np.array(["c", "a", "b"])[score.argmax(axis=1)]),
        "labels": (MLPClassifier, (score > 0).astype(int)),
        "number": (MLPRegressor, score[:, 0]),
        "numbers": (MLPRegressor, score),
    }[task]
    mlp = kind(hidden_layer_sizes=(6, 5), activation=activation, max_iter=20, random_state=0).fit(
        X, Y
    )
    net = dj.Network.from_sklearn(mlp, l2=0.1)
    found = net.predict(X)
    if task in ("number", "numbers"):
        expected = mlp.predict(X).reshape(60, -1)
        ends = ("identity", "squared_error")
    else:
        expected = mlp.predict_proba(X)
        ends = ("sigmoid", "binary_cross_entropy")
        if task == "binary":
            expected = expected[:, 1:]
        if task == "classes":
            ends = ("softmax", "cross_entropy")
    close(found, expected, dtype)
    assert (net.architecture.activations[-1], net.architecture.loss) == ends
    assert net.dtype == dtype
    assert net.architecture.l2 == 0.1


@pytest.mark.filterwarnings("ignore", category=ConvergenceWarning)
def test_sklearn_of_counts():
    X = np.random.default_rng(0).normal(size=(60, 4))
    options = {"loss": "poisson", "max_iter": 20, "random_state": 0}
    mlp = MLPRegressor(**options).fit(X, np.arange(60) % 5)
    net = dj.Network.from_sklearn(mlp)
    close(net.predict(X)[:, 0], mlp.predict(X), "float64")
    assert net.architecture.activations[-1] == "exp"


def test_bad_sklearn():
    for mlp in (MLPClassifier(), dj.Network([2, 2]), 3):
        with pytest.raises(TypeError, match=r"mlp must be a fitted MLPClassifier or MLPRegressor"):
            dj.Network.from_sklearn(mlp)
