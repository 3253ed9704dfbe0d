"""What the estimators refuse."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from deltajit.sklearn import MLPClassifier, MLPRegressor
from tests.helpers.estimators import BOTH, digits

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("solver", "newton"),
        ("activation", "gelo"),
        ("activation", ["relu", "relu"]),
        ("learning_rate", "fast"),
        ("learning_rate_init", 0.0),
        ("epsilon", -1.0),
        ("alpha", -1.0),
        ("l1", -1.0),
        ("tol", np.nan),
        ("power_t", -1),
        ("beta_1", 1.0),
        ("beta_2", -0.1),
        ("validation_fraction", 1.5),
        ("dropout", 1.0),
        ("dropout", [0.1, 0.1]),
        ("momentum", 1.1),
        ("max_iter", 0),
        ("max_fun", 1.5),
        ("batch_size", 0),
        ("batch_size", "all"),
        ("n_iter_no_change", -1),
        ("hidden_layer_sizes", -1),
        ("hidden_layer_sizes", (3, 2.5)),
        ("random_state", "seed"),
    ],
)
@pytest.mark.parametrize("make", BOTH)
def test_wrong_parameters(make, name, value):
    X, y = digits()
    with pytest.raises((ValueError, TypeError), match=name if name != "random_state" else "seed"):
        make(**{name: value}).fit(X, y)
    with pytest.raises(NotFittedError):
        make().predict(X)


def test_wrong_calls():
    X, y = digits()
    with pytest.raises(ValueError, match="loss"):
        MLPRegressor("hinge").fit(X, y)
    with pytest.raises(ValueError, match="threshold"):
        MLPRegressor("huber", threshold=0).fit(X, y)
    with pytest.raises(ValueError, match="quantile"):
        MLPRegressor("quantile", quantile=1).fit(X, y)
    with pytest.raises(ValueError, match="early_stopping"):
        MLPRegressor(early_stopping=True).partial_fit(X, y)
    with pytest.raises(ValueError, match="validation set is too small"):
        MLPRegressor(early_stopping=True).fit(X[:3], y[:3])
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")
    with pytest.raises(ValueError, match="classes must be passed"):
        MLPClassifier().partial_fit(X, y)
    model = MLPClassifier(max_iter=2).partial_fit(X, y, classes=range(10))
    with pytest.raises(ValueError, match="not the same as on last call"):
        model.partial_fit(X, y, classes=range(11))
    with pytest.raises(ValueError, match="has classes not in"):
        model.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="same classes"):
        MLPClassifier(max_iter=2, warm_start=True).fit(X, y).fit(X, y // 2)
    with pytest.raises(ValueError, match="go on with the same network"):
        model.set_params(hidden_layer_sizes=3).partial_fit(X, y)
    with pytest.raises(ValueError, match="one class a sample"):
        MLPClassifier().fit(X, np.stack([y, y], axis=1))
    with pytest.raises(ValueError, match="sample_weight must be >= 0"):
        MLPRegressor().fit(X, y, -np.ones(len(y)))
    model = MLPRegressor(max_iter=2).fit(X, y)
    with pytest.raises(ValueError, match="1 outputs as before"):
        model.partial_fit(X, np.stack([y, y], axis=1))


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("share", [0.1, 0.9])
def test_early_stopping_needs_weight_on_both_sides(estimator, share):
    """scikit-learn raises ValueError too."""
    X, y, weights = np.arange(40.0)[:, None], np.arange(40) % 2, np.zeros(40)
    weights[0] = 1
    model = estimator(early_stopping=True, validation_fraction=share, random_state=0, max_iter=2)
    with pytest.raises(ValueError, match="sample_weight must not be 0 for every sample that early"):
        model.fit(X, y, weights)


@pytest.mark.parametrize(
    ("rows", "weights", "message"),
    [(3, None, "validation set is too small"), (20, np.eye(20)[0], "sample_weight must not be 0")],
)
@pytest.mark.parametrize("make", BOTH)
def test_a_split_that_fails_changes_nothing(make, rows, weights, message):
    X, y = digits()
    model = make(hidden_layer_sizes=4, standardize=True, max_iter=2).fit(X, y)
    before, state = model.predict(X), dict(model.__dict__)
    model.set_params(early_stopping=True)
    with pytest.raises(ValueError, match=message):
        model.fit(X[:rows] + 1, y[:rows], weights)
    np.testing.assert_array_equal(model.predict(X), before)
    assert all(value is state[name] for name, value in model.__dict__.items() if name[-1] == "_")
