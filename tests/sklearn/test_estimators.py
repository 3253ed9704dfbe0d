"""The estimators: scikit-learn's checks, its results to the last digits, and what is ours."""

import pickle
from copy import copy, deepcopy

import joblib
import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from scipy.sparse import csc_array, csr_array, csr_matrix
from sklearn import datasets, neural_network
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from deltajit import Network
from deltajit.sklearn import MLPClassifier, MLPRegressor, base, descent, samples

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

BOTH = [MLPClassifier, MLPRegressor]
ESTIMATORS = [*(make() for make in BOTH), *(make(solver="sgd", standardize=True) for make in BOTH)]
MORE_ESTIMATORS = [
    estimator
    for make in BOTH
    for estimator in (
        make(solver="lbfgs", alpha=1.0),
        make(solver="sgd", learning_rate="adaptive", learning_rate_init=0.002, alpha=0),
        make(hidden_layer_sizes=(16, 8), activation=["tanh", "leaky_relu"]),
        make(hidden_layer_sizes=(), learning_rate_init=0.1, standardize=True),
    )
]


@parametrize_with_checks(ESTIMATORS)
def test_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(MORE_ESTIMATORS)
def test_more_checks(estimator, check):
    check(estimator)


# ---------------------------------------------------------------- the same as scikit-learn


def digits(dtype=np.float64):
    X, y = datasets.load_digits(return_X_y=True)
    return (X[:500] / 16).astype(dtype), y[:500]


def diabetes(dtype=np.float64):
    X, y = datasets.load_diabetes(return_X_y=True)
    return (X * 20).astype(dtype), (y - y.mean()) / y.std()


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


# ---------------------------------------------------------------- what holds of any fit


@pytest.mark.parametrize("make", BOTH)
def test_float32_stays(make):
    X, y = digits(np.float32)
    model = make(random_state=0, max_iter=3).fit(X, y)
    assert {array.dtype for array in (*model.coefs_, *model.intercepts_)} == {np.dtype("float32")}
    outputs = model.predict_proba(X) if make is MLPClassifier else model.predict(X)
    assert outputs.dtype == np.float32
    wide = make(random_state=0, max_iter=3).fit(X.astype(float), y)
    assert wide.coefs_[0].dtype == np.float64
    np.testing.assert_allclose(model.coefs_[0], wide.coefs_[0], atol=2e-3)


def test_early_stopping_goes_back_to_the_best():
    X, y = digits()
    model = MLPClassifier(random_state=0, early_stopping=True, learning_rate_init=0.1, max_iter=25)
    model.fit(X, y)
    best = int(np.argmax(model.validation_scores_))
    assert len(model.validation_scores_) == len(model.validation_loss_curve_) == model.n_iter_
    assert best < model.n_iter_ - 1  # else this tests nothing
    again = clone(model).set_params(max_iter=best + 1).fit(X, y)
    np.testing.assert_array_equal(model.coefs_[0], again.coefs_[0])
    _, held = again._split(again._samples(X, y, None, False, True))
    assert again.best_validation_score_ == model.best_validation_score_
    assert held.size == 50


def test_the_validation_loss_is_that_of_the_samples_held_out():
    X, y = diabetes()
    model = MLPRegressor(early_stopping=True, random_state=0, max_iter=1, alpha=100.0).fit(X, y)
    rng = np.random.RandomState(0)
    for n_in, n_out in ((10, 100), (100, 1)):
        rng.uniform(size=(n_in, n_out)), rng.uniform(size=n_out)
    again = clone(model)
    again._random_state, again.n_outputs_ = rng, 1
    _, held = again._split(samples.Samples(X, y[:, None], None))
    expected = 0.5 * np.mean((model.predict(held.X) - held.Y[:, 0]) ** 2)
    assert model.validation_loss_curve_ == pytest.approx([expected])


@pytest.mark.parametrize("make", BOTH)
def test_epochs_one_by_one_are_a_fit(make):
    X, y = digits()
    options = {"shuffle": False, "random_state": 0, "hidden_layer_sizes": 8, "tol": 0}
    whole = make(max_iter=4, **options).fit(X, y)
    steps = make(**options)
    for _ in range(4):
        steps.partial_fit(X, y, **({"classes": np.arange(10)} if make is MLPClassifier else {}))
    np.testing.assert_array_equal(whole.coefs_[0], steps.coefs_[0])
    assert whole.loss_curve_ == steps.loss_curve_
    assert (steps.n_iter_, steps.t_) == (1, 2000)


def test_weights_may_be_replaced():
    X, y = digits()
    model = MLPClassifier(8, random_state=0, max_iter=5).fit(X, y)
    before, W = model.predict_proba(X), model.coefs_[1].copy()
    model.coefs_[1][:] = 0  # in place
    model.intercepts_[1][:] = 0
    np.testing.assert_allclose(model.predict_proba(X), 0.1)
    model.coefs_[1] = W  # another array
    assert not np.allclose(model.predict_proba(X), 0.1)
    assert not np.allclose(model.predict_proba(X), before)
    model.coefs_[1] = W[:, :3]
    with pytest.raises(ValueError, match="coefs_ and intercepts_ have the shapes"):
        model.predict(X)


@pytest.mark.parametrize("copied", [deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("make", BOTH)
def test_copies_are_whole(make, copied):
    X, y = digits()
    model = make(random_state=0, max_iter=3, standardize=True).fit(X, y)
    other = copied(model)
    np.testing.assert_array_equal(other.predict(X), model.predict(X))
    for estimator in (model, other):
        estimator.partial_fit(X, y)
    np.testing.assert_array_equal(other.coefs_[0], model.coefs_[0])
    other.coefs_[0][:] = 0
    assert np.ptp(other._outputs(X)[:, 0]) == 0 < np.ptp(model._outputs(X)[:, 0])
    assert len(pickle.dumps(model)) < 8 * model.coefs_[0].nbytes


SET_LATER = [
    dict(activation="tanh"),
    dict(activation=["tanh", "relu"]),
    dict(hidden_layer_sizes=(5,)),
    dict(hidden_layer_sizes=(5, 4, 3), activation="gelo"),
    dict(standardize=False),
    dict(solver="lbfgs", early_stopping=True),
]


@pytest.mark.parametrize("later", SET_LATER, ids=str)
@pytest.mark.parametrize("make", BOTH)
def test_what_fit_made_stays_until_the_next(make, later, tmp_path):
    """Parameters that are set later mean nothing to predictions and copies, in whatever form."""
    X, y = digits()
    options = dict(activation="leaky_relu", random_state=0, max_iter=2, standardize=True)
    model = make(hidden_layer_sizes=(9, 8), **options).fit(X + 3, y)
    expected, J = model._outputs(X), model.input_gradients(X[:3])
    model.set_params(**later)
    joblib.dump(model, tmp_path / "model")
    copies = [
        model,
        copy(model),
        deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        pickle.loads(pickle.dumps(deepcopy(model))),
        joblib.load(tmp_path / "model"),
        joblib.load(tmp_path / "model", mmap_mode="r"),
    ]
    for each in copies:
        np.testing.assert_array_equal(each._outputs(X), expected)
        np.testing.assert_array_equal(each.input_gradients(X[:3]), J)
        np.testing.assert_allclose(Network.from_sklearn(each).predict(X), expected, rtol=1e-9)
        for name, value in later.items():
            assert getattr(each, name) == value
        each.coefs_ = [W.copy() for W in each.coefs_]  # another network of the same make
        np.testing.assert_array_equal(each._outputs(X), expected)
    with pytest.raises(NotFittedError):
        clone(model).predict(X)


@pytest.mark.parametrize("make", BOTH)
def test_the_next_fit_takes_todays_parameters(make):
    X, y = digits()
    options = dict(random_state=0, max_iter=2)
    model = make(hidden_layer_sizes=9, standardize=True, **options).fit(X, y)
    model.set_params(activation="tanh", hidden_layer_sizes=(5,), standardize=False).fit(X, y)
    expected = make(hidden_layer_sizes=5, activation="tanh", **options).fit(X, y)
    np.testing.assert_array_equal(model._outputs(X), expected._outputs(X))
    assert not hasattr(model, "standardizer_")


@pytest.mark.parametrize("later", [dict(activation="tanh"), dict(alpha=3.0, max_iter=5)], ids=str)
@pytest.mark.parametrize("copied", [lambda model: model, deepcopy])
def test_going_on_with_other_parameters_is_the_same_as_scikit_learn(copied, later):
    X, y = digits()
    for goes_on in ("partial_fit", "fit"):
        models = [model.fit(X, y) for model in twins("MLPClassifier", warm_start=True, **SGD)]
        models = [copied(model.set_params(**later)) for model in models]
        assert_same(*(getattr(model, goes_on)(X, y) for model in models))
        np.testing.assert_array_equal(*(model.predict(X) for model in models))


@pytest.mark.parametrize("make", BOTH)
def test_an_optimizer_keeps_its_schedule(make):
    """partial_fit goes on with Adam, whose state no schedule of SGD's may touch."""
    X, y = digits()
    options = dict(hidden_layer_sizes=8, random_state=0, max_iter=3, shuffle=False)
    models = [make(**options).fit(X, y) for _ in range(2)]
    models[0].set_params(solver="sgd", learning_rate="invscaling")
    for _ in range(3):
        for model in models:
            model.partial_fit(X, y)
    np.testing.assert_array_equal(models[0].coefs_[0], models[1].coefs_[0])


def test_pipelines_searches_and_threads():
    X, y = digits()
    model = MLPClassifier(16, random_state=0, max_iter=20, learning_rate_init=0.02)
    pipeline = make_pipeline(StandardScaler(), model)
    grid = {"mlpclassifier__alpha": [1e-4, 1e4]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    assert search.best_params_ == {"mlpclassifier__alpha": 1e-4}
    alone = cross_val_score(pipeline, X, y, cv=3)
    with joblib.parallel_config("threading", n_jobs=2):
        np.testing.assert_array_equal(cross_val_score(pipeline, X, y, cv=3), alone)
    assert alone.mean() > 0.8


def test_processes():
    X, y = digits()
    model = MLPClassifier(16, random_state=0, max_iter=20)
    with joblib.parallel_config("loky", n_jobs=2):
        found = cross_val_score(model, X, y, cv=2)
    np.testing.assert_array_equal(found, cross_val_score(model, X, y, cv=2))


def test_workers_do_not_take_all_cores(monkeypatch):
    monkeypatch.setattr(base, "usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert base._threads() == 8
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # as joblib does in its processes
    assert base._threads() == 2
    with joblib.parallel_config("threading", n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(base._threads)() for _ in range(2))
    assert found == [1, 1]


@pytest.mark.parametrize("container", [csr_matrix, csr_array, csc_array])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("make", BOTH)
def test_sparse_and_dense_are_the_same(make, solver, container, monkeypatch):
    X, y = digits()
    w = np.arange(len(y)) % 3.0
    options = {"solver": solver, "random_state": 0, "max_iter": 4, "batch_size": 30}
    if solver == "sgd":
        options.update(early_stopping=True, learning_rate_init=0.01)
    for weight in (None, w):
        of_dense = make(**options).fit(X, y, weight)
        monkeypatch.setattr(samples, "DENSE", 64 * 100)  # so small that X goes in parts
        monkeypatch.setattr(descent, "DENSE", 64 * 100)
        monkeypatch.setattr(base, "DENSE", 64 * 100)
        of_sparse = make(**options).fit(container(X), y, weight)
        np.testing.assert_allclose(of_sparse.coefs_[0], of_dense.coefs_[0], rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(of_sparse.predict(container(X)), of_sparse.predict(X))
        monkeypatch.undo()


def test_sparse_x_is_never_dense_as_a_whole(monkeypatch):
    X, y = digits()
    seen = []
    plain = samples.dense

    def watched(X):
        seen.append(X.shape)
        return plain(X)

    for module in (samples, descent, base):
        monkeypatch.setattr(module, "DENSE", 64 * 100)
        monkeypatch.setattr(module, "dense", watched)
    for solver in ("adam", "lbfgs"):
        model = MLPClassifier(8, solver=solver, batch_size=30, max_iter=2).fit(csr_array(X), y)
        model.predict(csr_array(X))
    assert max(rows for rows, _ in seen) <= 100
    model.predict(X)
    assert seen[-1] == (500, 64)


def test_divergence():
    X, y = diabetes()
    options = {"solver": "sgd", "learning_rate_init": 1e3, "activation": "identity"}
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        MLPRegressor(random_state=0, **options).fit(X, y)
    model = MLPRegressor(random_state=0, early_stopping=True, **options)
    with pytest.warns(ConvergenceWarning, match="not finite"):
        model.fit(X, y)
    assert not np.isfinite(model.validation_scores_[-1])
    assert np.isfinite(model.predict(X)).all()


def test_ctrl_c_ends_fit(monkeypatch):
    plain = descent.epochs

    def interrupted(*arguments):
        epoch, count = plain(*arguments), 0

        def run(order):
            nonlocal count
            count += 1
            if count == 3:
                raise KeyboardInterrupt
            return epoch(order)

        return run

    monkeypatch.setattr(descent, "epochs", interrupted)
    X, y = digits()
    with pytest.warns(UserWarning, match="interrupted"):
        model = MLPClassifier(8).fit(X, y)
    assert model.n_iter_ == len(model.loss_curve_) == 2
    assert model.predict(X).shape == y.shape


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_warnings_of_ends():
    X, y = digits()
    MLPClassifier(8, tol=10.0).fit(X, y)
    MLPClassifier(8).partial_fit(X, y, classes=np.unique(y))
    for solver, match in (("adam", "Maximum iterations"), ("lbfgs", "failed to converge")):
        with pytest.warns(ConvergenceWarning, match=match):
            MLPClassifier(8, solver=solver, max_iter=2).fit(X, y)
    with pytest.warns(UserWarning, match="batch_size=10000"):
        MLPClassifier(8, batch_size=10_000, tol=10.0).fit(X, y)


def test_verbose(capsys):
    X, y = digits()
    MLPClassifier(8, early_stopping=True, tol=1.0, verbose=True, n_iter_no_change=2).fit(X, y)
    shown = capsys.readouterr().out
    assert "Iteration 1, loss = " in shown
    assert "Validation score: " in shown
    assert "did not improve more than tol=1.0" in shown
    assert "Stopping." in shown
    MLPClassifier(8, solver="lbfgs", max_iter=2, verbose=True).fit(X, y)
    assert "Iteration 2, loss = " in capsys.readouterr().out


# ---------------------------------------------------------------- what is ours


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
    model = make(standardize=True, random_state=0, max_iter=5).fit(X, y)
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


# ---------------------------------------------------------------- what is refused


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


# ---------------------------------------------------------------- minutes


@pytest.mark.slow
def test_scores_are_scikit_learns():
    from bench import sklearn_scores as scores

    for name, classes, X, y in scores.problems():
        for solver, options in scores.SOLVERS.items():
            settings = {"solver": solver, "max_iter": 300, **options}
            ours, theirs = map(scores.mean_and_error, scores.compare(classes, X, y, settings))
            assert ours[0] >= theirs[0] - theirs[1], (name, solver, ours, theirs)


# These look at what is inside scikit-learn's own classes.
INSIDE = ["test_gradient"]


@pytest.mark.slow
def test_scikit_learns_own_tests(tmp_path):
    """In a process of its own: pytest on their test module, with our classes in it."""
    import subprocess
    import sys

    code = (
        "import sys, pytest, sklearn.neural_network as theirs, deltajit.sklearn as ours\n"
        "theirs.MLPClassifier, theirs.MLPRegressor = ours.MLPClassifier, ours.MLPRegressor\n"
        "path = theirs.__path__[0] + '/tests/test_mlp.py'\n"
        "sys.exit(pytest.main([path, '-q', '-c', sys.argv[1], '-p', 'no:cacheprovider',\n"
        "                      '-k', 'not ' + ' and not '.join(sys.argv[2:])]))\n"
    )
    (tmp_path / "empty.ini").write_text("[pytest]\n")
    command = [sys.executable, "-c", code, str(tmp_path / "empty.ini"), *INSIDE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("share", [0.1, 0.9])
def test_early_stopping_needs_weight_on_both_sides(estimator, share):
    """scikit-learn raises ValueError too."""
    X, y, weights = np.arange(40.0)[:, None], np.arange(40) % 2, np.zeros(40)
    weights[0] = 1
    model = estimator(early_stopping=True, validation_fraction=share, random_state=0, max_iter=2)
    with pytest.raises(ValueError, match="sample_weight must not be 0 for every sample that early"):
        model.fit(X, y, weights)
