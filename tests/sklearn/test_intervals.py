"""predict_interval: its coverage, what it is by formula, and what it refuses."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn import datasets
from sklearn.exceptions import NotFittedError

import deltajit as dj
from deltajit.sklearn import MLPRegressor
from tests.helpers.estimators import diabetes

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

OPTIONS = {
    "hidden_layer_sizes": (8,),
    "solver": "lbfgs",
    "alpha": 1.0,
    "max_iter": 60,
    "activation": "tanh",
    "standardize": True,
    "random_state": 0,
}


def wine():
    """The alcohol of wines by their other properties."""
    X, _ = datasets.load_wine(return_X_y=True)
    return X[:, 1:], (X[:, 0] - X[:, 0].mean()) / X[:, 0].std()


def intervals(X, y, method, seed, coverage):
    """(lower, upper, targets) of a quarter of the samples."""
    order = np.random.default_rng(seed).permutation(len(y))
    test, rest = np.split(order, [len(y) // 4])
    fitted, held_out = (rest[::2], rest[1::2]) if method == "conformal" else (rest, rest)
    model = MLPRegressor(**OPTIONS).fit(X[fitted], y[fitted])
    data = X[held_out], y[held_out]
    return *model.predict_interval(X[test], coverage, data=data, method=method), y[test]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["conformal", "ensemble"])
@pytest.mark.parametrize("samples", [diabetes, wine])
def test_coverage_is_nominal(samples, method):
    """Within 3 points, over 20 splits."""
    X, y = samples()
    inside = []
    for seed in range(20):
        lower, upper, targets = intervals(X, y, method, seed, 0.9)
        inside.append(((lower < targets) & (targets < upper)).mean())
    assert np.mean(inside) == pytest.approx(0.9, abs=0.03)


def test_conformal_is_a_quantile_of_errors():
    X, y = diabetes()
    model = MLPRegressor(**OPTIONS).fit(X[:200], y[:200])
    lower, upper = model.predict_interval(X[300:], 0.8, data=(X[200:300], y[200:300]))
    errors = np.sort(abs(y[200:300] - model.predict(X[200:300])))
    np.testing.assert_array_equal(upper, model.predict(X[300:]) + errors[81 - 1])
    np.testing.assert_array_equal(lower, model.predict(X[300:]) - errors[81 - 1])


def test_laplace_is_that_of_the_network():
    X, y = diabetes()
    model = MLPRegressor(**OPTIONS).fit(X, y)
    net = dj.Network([10, 8, 1], activation="tanh", dtype="float64")
    net.theta = net.flatten([W.T for W in model.coefs_], model.intercepts_)
    scaled = model.standardizer_.transform(X)
    scale = model.target_standardizer_
    targets = scale.transform(y[:, None])
    expected = dj.Laplace(net, scaled, targets, "kronecker").interval(scaled, 0.9)
    found = model.predict_interval(X, data=(X, y), method="laplace")
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, scale.inverse_transform(other)[:, 0], rtol=1e-9)


@pytest.mark.parametrize("method", ["conformal", "ensemble", "laplace"])
def test_several_outputs_and_sparse_samples(method):
    X, y = diabetes()
    Y = np.column_stack([y, 10 * y])
    model = MLPRegressor(**{**OPTIONS, "standardize": False, "max_iter": 10}).fit(X, Y)
    lower, upper = model.predict_interval(X[:5], data=(X, Y), method=method)
    assert lower.shape == upper.shape == (5, 2)
    assert (lower < upper).all()
    sparse = model.predict_interval(csr_array(X[:5]), data=(csr_array(X), Y), method=method)
    np.testing.assert_allclose(sparse, (lower, upper), rtol=1e-9)


def test_bad_arguments():
    X, y = diabetes()
    with pytest.raises(NotFittedError):
        MLPRegressor().predict_interval(X, data=(X, y))
    model = MLPRegressor(**OPTIONS).fit(X, y)
    wrong = [
        ("coverage", {"coverage": 0}),
        ("coverage", {"coverage": 1}),
        ("method", {"method": "magic"}),
        ("data must be a tuple", {"data": X}),
        ("features", {"data": (X[:, :3], y)}),
        ("inconsistent numbers of samples", {"data": (X, y[:-1])}),
        ("data must hold more samples", {"data": (X[:8], y[:8])}),
    ]
    for words, options in wrong:
        with pytest.raises(ValueError, match=words):
            model.predict_interval(X, **{"data": (X, y), **options})
    robust = MLPRegressor(**OPTIONS | {"loss": "huber"}).fit(X, y)
    with pytest.raises(ValueError, match="squared_error"):
        robust.predict_interval(X, data=(X, y), method="laplace")
