"""A fit gives what scikit-learn's gives of the same data and parameters, to the last digits."""

from copy import deepcopy

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn import neural_network
from sklearn.metrics import accuracy_score, r2_score

from deltajit.sklearn import MLPClassifier, MLPRegressor
from tests.helpers.estimators import diabetes, digits

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def twins(name, **options):
    """Ours and theirs, with the same parameters."""
    options = {"random_state": 3, "max_iter": 12, "hidden_layer_sizes": 20, **options}
    ours = {"MLPClassifier": MLPClassifier, "MLPRegressor": MLPRegressor}[name]
    return ours(**options), getattr(neural_network, name)(**options)


def assert_same(ours, theirs, rtol=1e-9):
    """Whatever a fit leaves behind."""
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
    for name in ("n_iter_", "n_layers_", "n_outputs_", "out_activation_", "t_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=rtol)
    for name in ("loss_curve_", "validation_scores_", "best_loss_", "best_validation_score_"):
        if hasattr(theirs, name):
            a, b = getattr(ours, name), getattr(theirs, name)
            assert (a is None) == (b is None), name
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=rtol, err_msg=name)


# Adam's epsilon is added elsewhere here (see its parameter), so it has to be next to nothing.
TINY = {"epsilon": 1e-25, "alpha": 1e-2}
SGD = {"solver": "sgd", "learning_rate_init": 0.1}


@pytest.mark.parametrize(
    "options",
    [
        TINY,
        {**TINY, "early_stopping": True},
        {**TINY, "hidden_layer_sizes": (20, 10), "activation": "logistic"},
        SGD,
        {**SGD, "alpha": 3.0, "batch_size": 64},
        {**SGD, "learning_rate": "invscaling", "power_t": 0.1},
        {**SGD, "learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1, "max_iter": 60},
        {**SGD, "nesterovs_momentum": False, "activation": "tanh"},
        {**SGD, "momentum": 0, "alpha": 0, "batch_size": 7, "shuffle": False},
        {**SGD, "early_stopping": True, "n_iter_no_change": 2, "validation_fraction": 0.3},
        {"solver": "lbfgs", "activation": "tanh", "alpha": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("weighted", [False, True])
def test_same_as_scikit_learn(options, weighted):
    for name, (X, y) in (("MLPClassifier", digits()), ("MLPRegressor", diabetes())):
        if name == "MLPRegressor" and options.get("solver") == "sgd":
            options = {**options, "learning_rate_init": 0.01}
        w = np.arange(len(y)) % 4 / 3 if weighted else None
        ours, theirs = twins(name, **options)
        assert_same(ours.fit(X, y, w), theirs.fit(X, y, w))
        np.testing.assert_allclose(ours.score(X, y, w), theirs.score(X, y, w))


@pytest.mark.parametrize("options", [SGD, {**SGD, "early_stopping": True}])
def test_same_of_two_classes_and_of_several_labels(options):
    X, y = digits()
    several = np.stack([y % 2, y > 4], axis=1).astype(int)
    for targets in (y > 4, several, csr_array(several)):
        ours, theirs = twins("MLPClassifier", **options)
        if isinstance(targets, csr_array):  # scikit-learn can't
            targets = targets.toarray()
            ours.fit(X, csr_array(targets))
        else:
            ours.fit(X, targets)
        assert_same(ours, theirs.fit(X, targets))
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
        for method in ("predict_proba", "predict_log_proba"):
            np.testing.assert_allclose(getattr(ours, method)(X), getattr(theirs, method)(X))


def test_same_of_several_outputs():
    X, y = diabetes()
    Y = np.stack([y, y**2 / 2, -y], axis=1)
    ours, theirs = twins("MLPRegressor", solver="sgd", alpha=0, early_stopping=True)
    assert_same(ours.fit(X, Y), theirs.fit(X, Y))
    ours, theirs = twins("MLPRegressor", solver="sgd", alpha=0.1, max_iter=1)
    ours.fit(X, Y)
    assert ours.loss_ == pytest.approx(theirs.fit(X, Y).loss_, rel=1e-2)  # see `_reported`


@pytest.mark.parametrize(
    "options", [{**TINY, "early_stopping": True}, {"solver": "sgd"}, {"solver": "lbfgs"}], ids=str
)
@pytest.mark.skipif(not hasattr(neural_network.MLPRegressor(), "loss"), reason="needs 1.7")
def test_same_poisson(options):
    X, y = diabetes()
    counts = np.random.default_rng(0).poisson(np.exp(y / 2))
    ours, theirs = twins("MLPRegressor", loss="poisson", **options)
    assert_same(ours.fit(X, counts), theirs.fit(X, counts))
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X))
    with pytest.raises(ValueError, match="y must be >= 0"):
        ours.fit(X, -counts)


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_partial_fit_and_warm_start_are_the_same(name):
    X, y = digits() if name == "MLPClassifier" else diabetes()
    first = {"classes": np.unique(y)} if name == "MLPClassifier" else {}
    ours, theirs = twins(name, **SGD, learning_rate="invscaling", power_t=0.1)
    for _ in range(3):
        ours.partial_fit(X, y, **first)
        theirs.partial_fit(X, y, **first)
    assert_same(ours, theirs)
    ours, theirs = twins(name, **SGD, warm_start=True, max_iter=2)
    for _ in range(3):
        ours.fit(X, y)
        theirs.fit(X, y)
    assert_same(ours, theirs)
    assert len(ours.loss_curve_) == 6


@pytest.mark.parametrize("later", [dict(activation="tanh"), dict(alpha=3.0, max_iter=5)], ids=str)
@pytest.mark.parametrize("copied", [lambda model: model, deepcopy])
def test_going_on_with_other_parameters_is_the_same_as_scikit_learn(copied, later):
    X, y = digits()
    for goes_on in ("partial_fit", "fit"):
        models = [model.fit(X, y) for model in twins("MLPClassifier", warm_start=True, **SGD)]
        models = [copied(model.set_params(**later)) for model in models]
        assert_same(*(getattr(model, goes_on)(X, y) for model in models))
        np.testing.assert_array_equal(*(model.predict(X) for model in models))


def test_it_has_all_that_theirs_has():
    for name in ("MLPClassifier", "MLPRegressor"):
        X, y = digits() if name == "MLPClassifier" else diabetes()
        for options in ({}, {"early_stopping": True}, {"solver": "lbfgs"}):
            ours, theirs = (model.fit(X, y) for model in twins(name, **options))
            public = {attribute for attribute in dir(theirs) if not attribute.startswith("_")}
            if ours.solver == "lbfgs":
                public.discard("partial_fit")  # which MLPRegressor has, and can't do
            assert public <= set(dir(ours))
            defaults = type(theirs)().get_params()
            assert defaults.items() <= type(ours)().get_params().items()


def test_the_validation_scores_are_scikit_learns_metrics():
    X, y = digits()
    several = np.stack([y % 2, y > 4], axis=1).astype(int)
    w = 1 + np.arange(len(y)) % 3
    for targets in (y, y > 4, several):
        model = MLPClassifier(8, max_iter=5, random_state=0).fit(X, targets)
        held = model._samples(X, targets, w, False, True)
        expected = accuracy_score(targets, model.predict(X), sample_weight=w)
        assert model._score_of(model._outputs(X), held) == pytest.approx(expected)
    X, y = diabetes()
    for targets in (y, np.stack([y, np.ones_like(y)], axis=1)):
        model = MLPRegressor(hidden_layer_sizes=8, max_iter=5, random_state=0).fit(X, targets)
        held = model._samples(X, targets, w[: len(y)], False, True)
        expected = r2_score(targets, model.predict(X), sample_weight=w[: len(y)])
        assert model._score_of(model._outputs(X), held) == pytest.approx(expected)
