"""``python -m bench.sklearn_scores``: our estimators beside scikit-learn's, scores and fit times.

Scores: the same data, split and hyperparameters, five seeds, in float64. Times: fits of the same
number of epochs on one core, digits, float64 and float32.
"""

import importlib.util
import statistics
import time
import warnings

from bench import cases, limits, store

SEEDS, EPOCHS, ROUNDS = 5, cases.EPOCHS, 3
SOLVERS = {"adam": {"learning_rate_init": 0.01}, "sgd": {"learning_rate_init": 0.05}}
SOLVERS["lbfgs"] = {"alpha": 0.1}
DATA = ("digits", "iris", "wine", "breast_cancer", "diabetes")
HIDDEN = ((100,), (32,), (16,), (256, 128))
ROW = "{:14} {:6} {:>16} {:>16}"


def estimators(kind="MLPClassifier"):
    """(ours, theirs)"""
    modules = (importlib.import_module(m) for m in ("deltajit.sklearn", "sklearn.neural_network"))
    return [getattr(module, kind) for module in modules]


def timed_fit(make, options, X, y):
    """The fitted model, and CPU seconds."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence
        model = make(**options).fit(X, y)
    return model, time.process_time() - start


def print_scores():
    """Print a row for each data set and solver: mean test scores and their standard errors."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    print(ROW.format("data", "solver", "score", "scikit-learn's"))
    for name in DATA:
        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        makers = estimators()
        if name == "diabetes":
            y, makers = (y - y.mean()) / y.std(), estimators("MLPRegressor")
        for solver, options in SOLVERS.items():
            scores = [], []
            for seed in range(SEEDS):
                X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=seed)
                scaler = StandardScaler().fit(X_train)
                settings = {"solver": solver, "max_iter": 300, "random_state": seed, **options}
                for each, make in zip(scores, makers, strict=True):
                    model, _ = timed_fit(make, settings, scaler.transform(X_train), y_train)
                    each.append(model.score(scaler.transform(X_test), y_test))
            errors = (statistics.stdev(each) / SEEDS**0.5 for each in scores)
            pairs = zip(map(statistics.mean, scores), errors, strict=True)
            print(ROW.format(name, solver, *(f"{m:.4f} +- {e:.4f}" for m, e in pairs)), flush=True)


def timed_options(hidden, epochs):
    """Hyperparameters of fits that stop after so many epochs, and not before."""
    options = {"hidden_layer_sizes": hidden, "tol": 0.0, "random_state": 0, "max_iter": epochs}
    return options | {"n_iter_no_change": EPOCHS, "batch_size": cases.BATCH_OF_FITS}


class Fit:
    """Our fits of a row `cases.Fits`, as a subject of `bench.worker`."""

    name, package, environment, only_trains, most = "deltajit", "sklearn", None, True, 1 << 40

    def __init__(self, row):
        from sklearn.datasets import load_digits

        X, self.y = load_digits(return_X_y=True)
        self.X, self.options = (X / 16).astype(row.dtype), timed_options((row.hidden,), EPOCHS)
        self.make = dict(zip(("deltajit", "scikit-learn"), estimators(), strict=True))[self.name]

    @classmethod
    def missing(cls):
        return None if importlib.util.find_spec(cls.package) else "scikit-learn"

    @classmethod
    def takes(cls, row):
        return True

    def train(self, fits):
        for _ in range(fits):
            timed_fit(self.make, self.options, self.X, self.y)


class TheirFit(Fit):
    """scikit-learn's."""

    name = "scikit-learn"


def print_times():
    """Print a row for each list of hidden layers and dtype; return ours."""
    import numpy as np
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    ours = {}
    for hidden in HIDDEN:
        layers = "digits " + "-".join(map(str, (X.shape[1], *hidden, 10)))
        for dtype in (np.float64, np.float32):
            inputs, times = (X / 16).astype(dtype), ([], [])
            for _ in range(ROUNDS):
                for taken, make in zip(times, estimators(), strict=True):
                    timed_fit(make, timed_options(hidden, 1), inputs[:400], y[:400])
                    taken.append(timed_fit(make, timed_options(hidden, EPOCHS), inputs, y)[1])
            own, other = (1e3 * min(taken) for taken in times)
            text = f"{own:9.1f} ms, scikit-learn {other:9.1f} ms  {other / own:5.1f}x"
            print(f"{layers:22} {inputs.dtype.name:8} {EPOCHS} epochs {text}", flush=True)
            ours.setdefault(layers, {})[inputs.dtype.name] = own
    return {"ms a fit": ours}


if __name__ == "__main__":
    limits.hold(1)
    print_scores()
    store.run("sklearn_scores", print_times)
