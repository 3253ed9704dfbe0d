"""Targets of any scale: standardized in fit, as they were in predict."""

import warnings

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from deltajit.sklearn import MLPRegressor
from tests.helpers.estimators import diabetes

pytestmark = pytest.mark.filterwarnings("ignore:.*(Maximum|far from|lbfgs failed)")

SHORT = {"hidden_layer_sizes": 8, "random_state": 0, "max_iter": 5}


def prices():
    rng = np.random.default_rng(0)
    X = rng.normal(50, 20, size=(600, 4))
    return X, 1e5 + 3e3 * X[:, 0] + 20 * X[:, 1] * X[:, 2]


def test_prices_are_learnt():
    X, y = prices()
    model = MLPRegressor(standardize=True, random_state=0, learning_rate_init=0.01)
    assert model.fit(X, y).score(X, y) > 0.99
    model.set_params(standardize_target=False)
    assert model.fit(X, y).score(X, y) < 0.5


@pytest.mark.parametrize("weights", [None, np.linspace(0, 2, 442)])
@pytest.mark.parametrize("n_out", [1, 2])
def test_it_is_scikit_learns_transformed_target(n_out, weights):
    X, y = diabetes()
    Y = np.stack([1000 + 300 * y, 1e-4 * y**2], axis=1)[:, :n_out]
    Y = Y[:, 0] if n_out == 1 else Y
    model = MLPRegressor(standardize_target=True, **SHORT).fit(X, Y, weights)
    scaler = StandardScaler().fit(Y.reshape(len(Y), -1), sample_weight=weights)
    scaled = scaler.transform(Y.reshape(len(Y), -1)).reshape(Y.shape)
    theirs = MLPRegressor(**SHORT).fit(X, scaled, weights)
    expected = scaler.inverse_transform(theirs.predict(X).reshape(len(Y), -1))
    np.testing.assert_allclose(model.predict(X).reshape(len(Y), -1), expected, rtol=1e-12)
    assert model.loss_curve_ == theirs.loss_curve_
    if weights is None:
        wrapped = TransformedTargetRegressor(MLPRegressor(**SHORT), transformer=StandardScaler())
        np.testing.assert_allclose(model.predict(X), wrapped.fit(X, Y).predict(X), rtol=1e-12)


def test_scores_and_gradients_are_of_the_target():
    X, y = diabetes()
    Y = np.stack([1000 + 300 * y, 7 - 0.001 * y], axis=1)
    options = {**SHORT, "activation": "tanh", "early_stopping": True}
    model = MLPRegressor(standardize=True, **options).fit(X, Y)
    steps = 1e-5 * np.eye(10)
    slopes = np.stack([(model.predict(X + h) - model.predict(X - h)) / 2e-5 for h in steps], -1)
    np.testing.assert_allclose(
        model.input_gradients(X) / [[1000], [0.01]], slopes / [[1000], [0.01]], atol=1e-8
    )
    assert model.best_validation_score_ <= 1


def test_partial_fit_keeps_the_scales_of_its_first_call():
    X, y = prices()
    model = MLPRegressor(standardize_target=True, **SHORT).partial_fit(X, y)
    mean = model.target_standardizer_.mean_.copy()
    model.partial_fit(X, 2 * y)
    np.testing.assert_array_equal(model.target_standardizer_.mean_, mean)
    model.set_params(standardize_target=False).fit(X, y)
    assert not hasattr(model, "target_standardizer_")


def test_counts_are_not_standardized():
    X, y = diabetes()
    counts = np.rint(np.exp(y))
    model = MLPRegressor("poisson", standardize=True, **SHORT).fit(X, counts)
    assert not hasattr(model, "target_standardizer_")
    with pytest.raises(ValueError, match="standardize_target must be False for loss='poisson'"):
        MLPRegressor("poisson", standardize_target=True).fit(X, counts)


@pytest.mark.parametrize(("scale", "mean"), [(1000, 0), (1, 1000), (0.001, 0)])
def test_a_scale_far_from_1_is_warned_of(scale, mean):
    X, y = diabetes()
    y = scale * y + mean
    with pytest.warns(ConvergenceWarning, match="standardize_target=True scales it"):
        MLPRegressor(**SHORT).fit(X, y)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "y has")
        MLPRegressor(standardize_target=True, **SHORT).fit(X, y)
        MLPRegressor(solver="lbfgs", **SHORT).fit(X, y)
        MLPRegressor(**SHORT).fit(X, (y - mean) / scale)
        MLPRegressor(**SHORT).fit(X, np.zeros(len(y)))
