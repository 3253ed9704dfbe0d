"""``python -m bench.sklearn_scores``: our estimators' scores beside scikit-learn's.

The same data, split and hyperparameters, five seeds, in float64; `bench.peers` times their fits.
"""

import importlib
import statistics
import warnings

from bench import cases, limits
from bench.worker import Kind

SEEDS = 5
SOLVERS = {"adam": {"learning_rate_init": 0.01}, "sgd": {"learning_rate_init": 0.05}}
SOLVERS["lbfgs"] = {"alpha": 0.1}
DATA = ("digits", "iris", "wine", "breast_cancer", "diabetes")
ROW = "{:14} {:6} {:>16} {:>16}"


def estimators(kind="MLPClassifier"):
    """(ours, theirs)"""
    modules = (importlib.import_module(m) for m in ("deltajit.sklearn", "sklearn.neural_network"))
    return [getattr(module, kind) for module in modules]


def fitted(make, options, X, y):
    """The fitted model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence
        return make(**options).fit(X, y)


def scores():
    """Yield (data set, solver, ours, theirs): mean test scores, and their standard errors."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    for name in DATA:
        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        makers = estimators()
        if name == "diabetes":
            y, makers = (y - y.mean()) / y.std(), estimators("MLPRegressor")
        for solver, options in SOLVERS.items():
            found = [], []
            for seed in range(SEEDS):
                X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=seed)
                scaler = StandardScaler().fit(X_train)
                settings = {"solver": solver, "max_iter": 300, "random_state": seed, **options}
                for each, make in zip(found, makers, strict=True):
                    model = fitted(make, settings, scaler.transform(X_train), y_train)
                    each.append(model.score(scaler.transform(X_test), y_test))
            yield name, solver, *map(mean_and_error, found)


def mean_and_error(values):
    """Return the mean, and its standard error."""
    return statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5


def print_scores():
    """Print a row for each data set and solver."""
    print(ROW.format("data", "solver", "score", "scikit-learn's"))
    for *names, ours, theirs in scores():
        pairs = (f"{mean:.4f} +- {error:.4f}" for mean, error in (ours, theirs))
        print(ROW.format(*names, *pairs), flush=True)


class Fit(Kind):
    """Our fits of a row `cases.Fits`, as a subject of `bench.worker`."""

    name, package = "deltajit", "sklearn"

    def __init__(self, row):
        from sklearn.datasets import load_digits

        X, self.y = load_digits(return_X_y=True)
        self.X = (X / 16).astype(row.dtype)
        length = {"max_iter": 50, "n_iter_no_change": 50, "tol": 0}  # exactly so many epochs
        self.options = {"hidden_layer_sizes": (row.hidden,), "random_state": 0, **length}
        self.options["batch_size"] = cases.BATCH_OF_FITS
        self.make = dict(zip(("deltajit", "scikit-learn"), estimators(), strict=True))[self.name]

    def train(self, fits):
        for _ in range(fits):
            fitted(self.make, self.options, self.X, self.y)


class TheirFit(Fit):
    """scikit-learn's."""

    name = "scikit-learn"


if __name__ == "__main__":
    limits.hold(1)
    print_scores()
