"""What scikit-learn's estimators lack: losses, dropout, l1, activations by layer, gradients."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deltajit import Network
from deltajit.sklearn import MLPClassifier, MLPRegressor
from tests.helpers.estimators import BOTH, diabetes, digits

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_class_weight_is_a_sample_weight():
    X, y = digits()
    options = {"random_state": 0, "max_iter": 5, "hidden_layer_sizes": 8}
    weights = {k: 1.0 + k for k in range(10)}
    by_class = MLPClassifier(class_weight=weights, **options).fit(X, y, np.full(len(y), 0.5))
    by_sample = MLPClassifier(**options).fit(X, y, 0.5 * (1.0 + y))
    np.testing.assert_array_equal(by_class.coefs_[0], by_sample.coefs_[0])
    balanced = MLPClassifier(class_weight="balanced", **options).fit(X, y)
    by_sample = MLPClassifier(**options).fit(X, y, len(y) / 10 / np.bincount(y)[y])
    np.testing.assert_array_equal(balanced.coefs_[0], by_sample.coefs_[0])
    with pytest.raises(ValueError, match="balanced"):
        balanced.partial_fit(X, y)


def test_an_activation_per_layer():
    X, y = diabetes()
    names = ["tanh", "logistic", "leaky_relu"]
    model = MLPRegressor(
        hidden_layer_sizes=(7, 6, 5), activation=names, random_state=0, max_iter=3
    ).fit(X, y)
    a = X
    functions = [np.tanh, lambda z: 1 / (1 + np.exp(-z)), lambda z: np.where(z > 0, z, 0.01 * z)]
    for W, b, f in zip(model.coefs_, model.intercepts_, [*functions, lambda z: z], strict=True):
        a = f(a @ W + b)
    np.testing.assert_allclose(model.predict(X), a[:, 0])
    assert MLPRegressor(activation="sigmoid", max_iter=2).fit(X, y).out_activation_ == "identity"
    with pytest.raises(ValueError, match=r"one for each of 3 hidden layers"):
        MLPRegressor(hidden_layer_sizes=(7, 6, 5), activation=["tanh"]).fit(X, y)


def test_losses_of_the_regressor():
    X, y = diabetes()
    y = y.copy()
    y[::20] += 50  # outliers
    fitted = {
        (loss, option): MLPRegressor(
            loss, (), solver="lbfgs", random_state=0, max_iter=2000, tol=1e-6, **{name: option}
        ).fit(X, y)
        for loss, name, option in (
            ("squared_error", "alpha", 0),
            ("absolute_error", "alpha", 0),
            ("huber", "threshold", 0.5),
            ("quantile", "quantile", 0.25),
            ("quantile", "quantile", 0.75),
        )
    }
    share_above = {key: (y > model.predict(X)).mean() for key, model in fitted.items()}
    assert share_above["quantile", 0.25] == pytest.approx(0.75, abs=0.03)
    assert share_above["quantile", 0.75] == pytest.approx(0.25, abs=0.03)
    assert share_above["absolute_error", 0] == pytest.approx(0.5, abs=0.03)
    assert share_above["squared_error", 0] < 0.2
    clean = np.arange(len(y)) % 20 > 0
    for key in (("absolute_error", 0), ("huber", 0.5)):
        assert r2_score(y[clean], fitted[key].predict(X[clean])) > 0.4
    assert r2_score(y[clean], fitted["squared_error", 0].predict(X[clean])) < 0


def test_dropout():
    X, y = digits()
    options = {"random_state": 0, "max_iter": 30, "hidden_layer_sizes": (64, 32)}
    options.update(learning_rate_init=0.01)
    full, without = (MLPClassifier(dropout=p, **options).fit(X, y) for p in (0, 0.5))
    assert without.score(X, y) > 0.95
    assert without.loss_ > 3 * full.loss_  # that of training, with units left out
    again = MLPClassifier(dropout=[0.5, 0.5], **options).fit(X, y)
    np.testing.assert_array_equal(again.coefs_[0], without.coefs_[0])
    none = MLPClassifier(dropout=[0.0, 0.0], **options).fit(X, y)
    np.testing.assert_array_equal(none.coefs_[0], full.coefs_[0])
    steps = MLPClassifier(dropout=0.5, shuffle=False, **options)
    for _ in range(2):  # other units each time, also with the same random_state
        steps.partial_fit(X, y, classes=np.arange(10))
    whole = clone(steps).set_params(max_iter=2).fit(X, y)
    np.testing.assert_array_equal(steps.coefs_[0], whole.coefs_[0])
    with pytest.raises(ValueError, match="dropout means nothing"):
        MLPClassifier(dropout=0.5, solver="lbfgs").fit(X, y)


def test_l1_is_scaled_as_alpha_is():
    X, y = diabetes()
    options = {"solver": "sgd", "momentum": 0, "shuffle": False, "batch_size": 100, "max_iter": 1}
    options.update(random_state=0, learning_rate_init=0.01, hidden_layer_sizes=())
    with_l1, without = (
        MLPRegressor(l1=l1, alpha=0, **options).fit(X[:100], y[:100]) for l1 in (3.0, 0.0)
    )
    start = MLPRegressor(**{**options, "learning_rate_init": 1e-300}).fit(X[:100], y[:100])
    W = start.coefs_[0]
    moved = with_l1.coefs_[0] - without.coefs_[0]
    np.testing.assert_allclose(moved, -0.01 * 3.0 / 100 * np.sign(W), rtol=1e-6)
    assert with_l1.loss_ - without.loss_ == pytest.approx(3.0 / 100 * abs(W).sum())
    assert with_l1.intercepts_[0] == without.intercepts_[0]


@pytest.mark.parametrize("standardize", [False, True])
def test_input_gradients(standardize):
    X, y = diabetes()
    X = X * np.arange(1, 11)
    options = {"activation": "tanh", "random_state": 0, "max_iter": 5, "standardize": standardize}

    def by_differences(f):
        steps = 1e-6 * np.eye(10)
        return np.stack([(f(X + h) - f(X - h)) / 2e-6 for h in steps], axis=-1)

    def check(model, f, shape):
        found = model.input_gradients(X)
        assert found.shape == shape
        np.testing.assert_allclose(found, by_differences(f), atol=1e-7)

    n = len(X)
    model = MLPRegressor(**options).fit(X, y)
    check(model, model.predict, (n, 10))
    model = MLPRegressor(**options).fit(X, np.stack([y, -y], axis=1))
    check(model, model.predict, (n, 2, 10))
    for targets, n_classes in ((y > 0, 2), (np.digitize(y, [-1, 1]), 3)):
        model = MLPClassifier(**options).fit(X, targets)
        check(model, model.predict_proba, (n, n_classes, 10))


@pytest.mark.parametrize("make", BOTH)
def test_standardize_is_a_scaler_in_front(make):
    X, y = digits()
    X = X * 100 + 7
    inputs_alone = {"standardize_target": False} if make is MLPRegressor else {}
    model = make(standardize=True, random_state=0, max_iter=5, **inputs_alone).fit(X, y)
    pipeline = make_pipeline(StandardScaler(), make(random_state=0, max_iter=5)).fit(X, y)
    np.testing.assert_array_equal(model._outputs(X), pipeline[1]._outputs(pipeline[0].transform(X)))
    sparse = make(standardize=True, random_state=0, max_iter=5).fit(csr_array(X), y)
    assert not sparse.standardizer_.with_mean
    np.testing.assert_array_equal(sparse.predict(X), sparse.predict(csr_array(X)))


@pytest.mark.parametrize("container", [np.asarray, csr_array])
@pytest.mark.parametrize("standardize", [False, True])
def test_it_becomes_a_network(standardize, container):
    X, y = digits()
    model = MLPClassifier((8, 6), ["tanh", "logistic"], standardize=standardize, max_iter=3)
    model.fit(container(X + 3), y)
    found = Network.from_sklearn(model).predict(X)
    np.testing.assert_allclose(found, model.predict_proba(X), rtol=1e-6)
