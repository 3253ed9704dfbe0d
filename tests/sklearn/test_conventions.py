"""The estimators are scikit-learn's: its checks of any estimator, its own tests, its scores."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from tests.helpers import processes
from tests.helpers.estimators import BOTH

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


ESTIMATORS = [*(make() for make in BOTH), *(make(solver="sgd", standardize=True) for make in BOTH)]
MORE_ESTIMATORS = [
    estimator
    for make in BOTH
    for estimator in (
        make(solver="lbfgs", alpha=1.0),
        make(solver="sgd", learning_rate="adaptive", learning_rate_init=0.002, alpha=0),
        make(hidden_layer_sizes=(16, 8), activation=["tanh", "leaky_relu"]),
        make(hidden_layer_sizes=(), learning_rate_init=0.1, standardize=True),
        make(missing="indicator", learning_rate_init=0.01, standardize=True),
    )
]


@parametrize_with_checks(ESTIMATORS)
def test_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(MORE_ESTIMATORS)
def test_more_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
def test_scores_are_scikit_learns():
    from bench import sklearn_scores

    for name, solver, ours, theirs in sklearn_scores.scores():
        assert ours[0] >= theirs[0] - theirs[1], (name, solver, ours, theirs)


# These look at what is inside scikit-learn's own classes.
INSIDE = ["test_gradient"]


@pytest.mark.slow
def test_scikit_learns_own_tests(tmp_path):
    """In a process of its own: pytest on their test module, with our classes in it."""
    code = (
        "import sys, pytest, sklearn.neural_network as theirs, deltajit.sklearn as ours\n"
        "theirs.MLPClassifier, theirs.MLPRegressor = ours.MLPClassifier, ours.MLPRegressor\n"
        "path = theirs.__path__[0] + '/tests/test_mlp.py'\n"
        "sys.exit(pytest.main([path, '-q', '-c', sys.argv[1], '-p', 'no:cacheprovider',\n"
        "                      '-k', 'not ' + ' and not '.join(sys.argv[2:])]))\n"
    )
    (tmp_path / "empty.ini").write_text("[pytest]\n")
    status, printed, _ = processes.end(processes.begin("-c", code, tmp_path / "empty.ini", *INSIDE))
    assert status == 0, printed[-4000:]
