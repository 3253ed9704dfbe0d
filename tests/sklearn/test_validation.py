"""Samples of one's own to validate with, and scikit-learn's callbacks."""

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from deltajit.sklearn import MLPClassifier, MLPRegressor
from tests.helpers.estimators import BOTH, diabetes, digits

pytestmark = pytest.mark.filterwarnings("ignore:.*Maximum")

OPTIONS = {"hidden_layer_sizes": 8, "random_state": 0, "max_iter": 6, "learning_rate_init": 0.01}


def halves(make):
    X, y = digits() if make is MLPClassifier else diabetes()
    return X[:300], y[:300], X[300:], y[300:]


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("make", BOTH)
def test_curves_are_those_of_the_samples_given(make, standardize):
    X, y, X_val, y_val = halves(make)
    weights = np.linspace(0, 1, len(y_val))
    model = make(standardize=standardize, **OPTIONS)
    model.fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=weights)
    alone = make(standardize=standardize, **OPTIONS).fit(X, y)
    np.testing.assert_array_equal(model.coefs_[0], alone.coefs_[0])  # it is only looked at
    assert model.loss_curve_ == alone.loss_curve_
    assert len(model.validation_scores_) == len(model.validation_loss_curve_) == 6
    last = model.score(X_val, y_val, weights)
    assert model.validation_scores_[-1] == pytest.approx(last)
    assert alone.validation_scores_ is None
    assert model.best_validation_score_ == max(model.validation_scores_)


@pytest.mark.parametrize("make", BOTH)
def test_early_stopping_takes_them(make):
    X, y = halves(make)[:2]
    options = {**OPTIONS, "early_stopping": True, "shuffle": False, "max_iter": 30}
    stratify = y if make is MLPClassifier else None
    rng = np.random.RandomState(0)
    X, X_val, y, y_val = train_test_split(X, y, random_state=rng, stratify=stratify)
    model = make(**options).fit(X, y, X_val=X_val, y_val=y_val)
    best = int(np.argmax(model.validation_scores_))
    assert model.score(X_val, y_val) == pytest.approx(model.best_validation_score_)
    again = make(**{**options, "early_stopping": False, "max_iter": best + 1}).fit(X, y)
    np.testing.assert_array_equal(again.coefs_[0], model.coefs_[0])  # of all of X


def test_two_classes_and_several_labels():
    X, y, X_val, y_val = halves(MLPClassifier)
    for f in (lambda y: np.where(y > 4, "b", "a"), lambda y: np.stack([y > 4, y % 2 == 0], 1) * 1):
        model = MLPClassifier(**OPTIONS).fit(X, f(y), X_val=X_val, y_val=f(y_val))
        assert model.validation_scores_[-1] == pytest.approx(model.score(X_val, f(y_val)))


X, Y, X_VAL, Y_VAL = halves(MLPClassifier)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"X_val": X_VAL}, "X_val and y_val must be given together"),
        ({"sample_weight_val": [1]}, "sample_weight_val needs X_val"),
        ({"X_val": X_VAL[:, 1:], "y_val": Y_VAL}, "X_val: X has 63 features"),
        ({"X_val": X_VAL, "y_val": Y_VAL[1:]}, "y_val must have 200 rows"),
        ({"X_val": X_VAL, "y_val": Y_VAL + 1}, r"y_val has .*10.*, which y has not"),
        ({"X_val": X_VAL, "y_val": np.eye(10, dtype=int)[Y_VAL]}, "y_val must have 1 columns"),
        ({"X_val": X_VAL, "y_val": Y_VAL, "sample_weight_val": -Y_VAL}, "sample_weight_val must"),
    ],
)
def test_what_is_wrong_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**OPTIONS).fit(X, Y, **given)


def test_without_epochs_there_is_nothing_to_validate():
    with pytest.raises(ValueError, match="X_val means nothing to solver='lbfgs'"):
        MLPClassifier(solver="lbfgs").fit(X, Y, X_val=X_VAL, y_val=Y_VAL)


class Recorder:
    """A callback of scikit-learn."""

    def __init__(self, last=99):
        self.last, self.told, self.scores = last, [], []

    def setup(self, estimator, context):
        self.told.append("setup")

    def teardown(self, estimator, context):
        self.told.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.told.append((context.task_name, context.task_id, "begins"))

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        self.told.append((context.task_name, context.task_id, "ends"))
        self.scores.append(fitted_estimator.score(X, y))
        return context.task_name == "epoch" and context.task_id + 1 == self.last


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("make", BOTH)
def test_callbacks_are_told_of_epochs(make, standardize):
    pytest.importorskip("sklearn", minversion="1.9")
    X, y, *_ = halves(make)
    recorder = Recorder(last=3)
    model = make(standardize=standardize, **OPTIONS).set_callbacks(recorder).fit(X, y)
    epochs = [("epoch", i, event) for i in range(3) for event in ("begins", "ends")]
    fit = ("fit", 0, "begins"), ("fit", 0, "ends")
    assert recorder.told == ["setup", fit[0], *epochs, fit[1], "teardown"]
    assert model.n_iter_ == 3
    assert len(set(recorder.scores[:3])) == 3
    assert recorder.scores[-1] == recorder.scores[-2] == pytest.approx(model.score(X, y))
    silent = make(standardize=standardize, **{**OPTIONS, "max_iter": 3}).fit(X, y)
    np.testing.assert_array_equal(model.coefs_[0], silent.coefs_[0])


def test_callbacks_of_scikit_learn_work():
    pytest.importorskip("sklearn", minversion="1.9")
    from sklearn.callback import ScoringMonitor

    X, y, *_ = halves(MLPRegressor)
    monitor = ScoringMonitor(scoring="r2")
    model = MLPRegressor(standardize=True, **OPTIONS).set_callbacks(monitor).fit(X, y)
    epochs = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert [row["task_id"] for row in epochs] == list(range(6))
    assert epochs[-1]["r2"] == pytest.approx(model.score(X, y))


def test_callbacks_are_taken_down_after_a_failure():
    pytest.importorskip("sklearn", minversion="1.9")
    recorder = Recorder()
    recorder.scores = None  # which it appends to
    model = MLPClassifier(**OPTIONS).set_callbacks(recorder)
    with pytest.raises(AttributeError, match="append"):
        model.fit(X, Y)
    assert recorder.told[0] == "setup"
    assert recorder.told[-1] == "teardown"


def test_lbfgs_is_one_task():
    pytest.importorskip("sklearn", minversion="1.9")
    recorder = Recorder()
    MLPClassifier((), solver="lbfgs").set_callbacks(recorder).fit(X, Y)
    assert recorder.told == ["setup", ("fit", 0, "begins"), ("fit", 0, "ends"), "teardown"]
