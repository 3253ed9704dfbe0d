"""`monotonic_cst`: outputs are monotone in the features that it names, and free in the others."""

import numpy as np
import pytest
from deltajit.kernels import ACTIVATIONS

from deltajit.model.architecture import hidden_activations
from deltajit.sklearn import MLPClassifier, MLPRegressor, monotone

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SIGNS = np.array([1, -1, 0, 0])
rng = np.random.default_rng(0)
X = rng.normal(size=(300, 4))
AGAINST = -X @ SIGNS + np.sin(3 * X[:, 2])  # what the constraints forbid, and what they don't


def pairs(dtype, n=2000):
    """Random samples, and others that differ from them in constrained features only, upwards."""
    low = rng.normal(scale=3, size=(n, 4))
    return low.astype(dtype), (low + SIGNS * rng.exponential(size=(n, 4))).astype(dtype)


def fitted(make, y, dtype=np.float64, **options):
    options = {"random_state": 0, "max_iter": 20, "learning_rate_init": 0.01, **options}
    model = make(hidden_layer_sizes=(12, 9), monotonic_cst=SIGNS, **options)
    return model.fit(X.astype(dtype), y)


def least_rise(compute, dtype):
    low, high = (compute(each) for each in pairs(dtype))
    return (high - low).min()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"solver": "lbfgs", "standardize": True},
        {"solver": "sgd", "early_stopping": True, "dropout": 0.1, "learning_rate": "adaptive"},
        {"activation": ["relu", "leaky_relu"], "alpha": 1.0, "l1": 0.1},
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_random_pairs_of_a_regressor(dtype, options):
    """Products and sums round monotonically, so that not even the last bit decreases."""
    y = np.stack([AGAINST, -AGAINST], axis=1).astype(dtype)
    assert least_rise(fitted(MLPRegressor, y, dtype, **options).predict, dtype) >= 0


@pytest.mark.parametrize("activation", ["tanh", "logistic", "softplus"])
def test_random_pairs_of_a_classifier(activation):
    model = fitted(MLPClassifier, AGAINST > 0, activation=activation)
    assert least_rise(lambda x: model.predict_proba(x)[:, 1], np.float64) > -1e-14
    slopes = model.input_gradients(pairs(np.float64)[0])[:, 1]
    assert (slopes * SIGNS).min() >= 0
    labels = np.stack([AGAINST > 0, AGAINST < 1], axis=1).astype(int)
    model = fitted(MLPClassifier, labels, activation=activation)
    assert least_rise(model.predict_proba, np.float64) > -1e-14


def test_the_check_can_fail():
    model = fitted(MLPRegressor, AGAINST).set_params(monotonic_cst=None).fit(X, AGAINST)
    assert least_rise(model.predict, np.float64) < -0.1


def test_constraints_do_not_leak_to_other_features():
    """What is constrained is fitted beside others that go up and down, and interact with it."""
    x = rng.uniform(-2, 2, size=(400, 3))
    y = np.maximum(x[:, 0], np.sin(3 * x[:, 1])) + np.cos(2 * x[:, 2])
    options = {"hidden_layer_sizes": (32, 32), "solver": "lbfgs", "max_iter": 120}
    model = MLPRegressor(random_state=0, monotonic_cst=[1, 0, 0], **options).fit(x, y)
    assert model.score(x, y) > 0.9
    slopes = model.input_gradients(x)
    assert slopes[:, 0].min() >= 0
    assert (slopes[:, 1:].min(axis=0) < -1).all()
    assert (slopes[:, 1:].max(axis=0) > 1).all()


def test_units_of_sign_0_do_not_see_constrained_features():
    net = fitted(MLPRegressor, AGAINST).to_network()
    signs = monotone.signs_of_units(SIGNS.astype(np.int8), net.sizes[1:])
    assert [np.bincount(s + 1).tolist() for s in signs[1:3]] == [[4, 4, 4], [3, 3, 3]]
    assert (net.weights[0][np.ix_(signs[1] == 0, SIGNS != 0)] == 0).all()
    assert (net.weights[1][np.ix_(signs[2] == 0, signs[1] != 0)] == 0).all()
    free = net.weights[1][np.ix_(signs[2] == 0, signs[1] == 0)]
    assert free.min() < 0 < free.max()


def test_constraints_of_0_are_none():
    options = {"random_state": 0, "max_iter": 5}
    free = MLPRegressor(**options).fit(X, AGAINST)
    zeros = MLPRegressor(monotonic_cst=[0, 0, 0, 0], **options).fit(X, AGAINST)
    np.testing.assert_array_equal(zeros.predict(X), free.predict(X))


def test_it_holds_through_warm_starts_and_partial_fit():
    model = fitted(MLPRegressor, AGAINST, warm_start=True)
    model.coefs_[0][...] = 1.0
    for _ in range(3):
        model.partial_fit(X, AGAINST)
    assert least_rise(model.predict, np.float64) >= 0
    net = model.to_network()
    np.testing.assert_allclose(net.predict(X)[:, 0], model.predict(X))


def test_names_of_columns():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = fitted(MLPRegressor, AGAINST)
    named = fitted(MLPRegressor, AGAINST).set_params(monotonic_cst={"b": -1, "a": 1})
    np.testing.assert_array_equal(named.fit(frame, AGAINST).predict(frame), model.predict(X))
    low, high = named.set_params(max_iter=2).predict_interval(
        frame, data=(frame, AGAINST), method="ensemble"
    )
    assert (low < high).all()
    with pytest.raises(ValueError, match="monotonic_cst has 'e', which is no column of X"):
        named.set_params(monotonic_cst={"e": 1}).fit(frame, AGAINST)


def test_activations_that_decrease_are_refused():
    decreasing = {"gelu", "hardswish", "mish", "silu", "sin"}
    for name in set(hidden_activations()) & set(ACTIVATIONS):
        if name in decreasing:
            with pytest.raises(ValueError, match=f"monotonic_cst needs activations .*{name}"):
                monotone.check_activations([name])
        elif not name.startswith("test"):
            monotone.check_activations([name])


@pytest.mark.parametrize("value", [1, [1, 0], [[1, 0, 0, 0]], [2, 0, 0, 0], ["up", 0, 0, 0], "up"])
def test_wrong_constraints(value):
    with pytest.raises(ValueError, match="monotonic_cst must be 4 numbers -1, 0 or 1"):
        MLPRegressor(monotonic_cst=value).fit(X, AGAINST)


def test_what_constraints_do_not_go_with():
    with pytest.raises(ValueError, match="monotonic_cst is a dict, so X must have names"):
        MLPRegressor(monotonic_cst={"a": 1}).fit(X, AGAINST)
    with pytest.raises(ValueError, match="monotonic_cst means nothing to more than two classes"):
        MLPClassifier(monotonic_cst=SIGNS).fit(X, np.arange(300) % 3)
    model = fitted(MLPRegressor, AGAINST)
    with pytest.raises(ValueError, match="method='laplace' knows no bounds"):
        model.predict_interval(X, data=(X, AGAINST), method="laplace")
