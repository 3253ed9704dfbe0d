"""What holds of any fit of an estimator: how it ends, goes on, is copied, and takes its data."""

import pickle
from copy import copy, deepcopy

import joblib
import numpy as np
import pytest
from scipy.sparse import csc_array, csr_array, csr_matrix
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deltajit import Network
from deltajit.sklearn import MLPClassifier, MLPRegressor, base, descent, samples
from tests.helpers.estimators import BOTH, diabetes, digits

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


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


WARNED = {
    "Maximum iterations": {"solver": "adam"},
    "lbfgs failed": {"solver": "lbfgs", "max_iter": 1, "max_fun": 1},
    "is more than the": {"batch_size": 1000},
    "not finite": {"solver": "sgd", "learning_rate_init": 1e30, "early_stopping": True},
}


@pytest.mark.parametrize("message", WARNED)
def test_warnings_point_at_the_line_that_calls_fit(message):
    X, y = diabetes()
    model = MLPRegressor(random_state=0, **{"max_iter": 3, **WARNED[message]})
    with pytest.warns(match=message) as warned:
        model.fit(X, y)
    assert {w.filename for w in warned} == {__file__}


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


def test_ctrl_c_while_an_epoch_is_scored(monkeypatch):
    """The epoch is in none of the curves, rather than in some."""
    plain, count = descent.mean_loss, 0

    def interrupted(*arguments):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(descent, "mean_loss", interrupted)
    X, y = digits()
    with pytest.warns(UserWarning, match="interrupted"):
        model = MLPClassifier(8, early_stopping=True).fit(X, y)
    curves = model.loss_curve_, model.validation_scores_, model.validation_loss_curve_
    assert [model.n_iter_, *map(len, curves)] == [2, 2, 2, 2]


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
