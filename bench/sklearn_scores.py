"""``python -m bench.sklearn_scores``: our estimators beside scikit-learn's, scores and fit times.

Scores: the same data, split and hyperparameters, five seeds, in float64. Times: fits of the same
number of epochs on one core, digits and MNIST, float64 and float32.
"""

import argparse
import statistics
import time
import warnings

from bench import limits, store

SEEDS = 5
SOLVERS = {
    "adam": {"learning_rate_init": 0.01},
    "sgd": {"learning_rate_init": 0.05},
    "lbfgs": {"alpha": 0.1},
}
HIDDEN = ((100,), (32,), (16,), (256, 128))
ROW = "{:14} {:6} {:>16} {:>16} {:>10} {:>10} {:>7}"


def problems():
    """Name, whether it is classification, X and y of each data set of scikit-learn's."""
    from sklearn import datasets

    for name in ("digits", "iris", "wine", "breast_cancer", "diabetes"):
        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        classes = name != "diabetes"
        yield name, classes, X, y if classes else (y - y.mean()) / y.std()


def estimators(classes):
    """(ours, theirs)"""
    from sklearn import neural_network

    import deltajit.sklearn as ours

    kind = "MLPClassifier" if classes else "MLPRegressor"
    return getattr(ours, kind), getattr(neural_network, kind)


def timed_fit(make, options, X, y):
    """The fitted model, and CPU seconds."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence
        model = make(**options).fit(X, y)
    return model, time.process_time() - start


def compare(classes, X, y, options, seeds=SEEDS):
    """Test scores and fit times of both: (ours, theirs), each a list of (score, seconds)."""
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    found = [], []
    for seed in range(seeds):
        X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=seed)
        scaler = StandardScaler().fit(X_train)
        for rows, make in zip(found, estimators(classes), strict=True):
            settings = {**options, "random_state": seed}
            model, seconds = timed_fit(make, settings, scaler.transform(X_train), y_train)
            rows.append((model.score(scaler.transform(X_test), y_test), seconds))
    return found


def mean_and_error(found):
    """Mean score, and its standard error."""
    scores = [score for score, _ in found]
    return statistics.mean(scores), statistics.stdev(scores) / len(scores) ** 0.5


def print_scores():
    """A row for each data set and solver."""
    print(ROW.format("data", "solver", "score", "scikit-learn's", "fit, ms", "theirs", "ratio"))
    for name, classes, X, y in problems():
        for solver, options in SOLVERS.items():
            settings = {"solver": solver, "max_iter": 300, **options}
            compare(classes, X, y, settings, seeds=1)  # compiles
            ours, theirs = compare(classes, X, y, settings)
            numbers = [f"{m:.4f} +- {e:.4f}" for m, e in map(mean_and_error, (ours, theirs))]
            times = [statistics.median(s for _, s in found) for found in (ours, theirs)]
            times = [f"{t * 1e3:.1f}" for t in times] + [f"{times[1] / times[0]:.1f}x"]
            print(ROW.format(name, solver, *numbers, *times), flush=True)


def print_times(name, X, y, epochs, rounds):
    """Print a row for each list of hidden layers and dtype: so many epochs, batches of 200.

    Returns {"data layers": {dtype: ms of a fit}}, of ours.
    """
    import numpy as np

    ours = {}
    for hidden in HIDDEN:
        for dtype in (np.float64, np.float32):
            inputs, times = X.astype(dtype), ([], [])
            options = {"hidden_layer_sizes": hidden, "tol": 0.0, "random_state": 0}
            options.update(n_iter_no_change=epochs, batch_size=200)
            for _ in range(rounds):
                for taken, make in zip(times, estimators(True), strict=True):
                    timed_fit(make, {**options, "max_iter": 1}, inputs[:400], y[:400])
                    taken.append(timed_fit(make, {**options, "max_iter": epochs}, inputs, y)[1])
            own, other = map(min, times)
            layers = "-".join(map(str, (X.shape[1], *hidden, 10)))
            print(
                f"{name:7} {layers:15} {inputs.dtype.name:8} {epochs:3} epochs "
                f"{own * 1e3:9.1f} ms, scikit-learn {other * 1e3:9.1f} ms  {other / own:5.1f}x",
                flush=True,
            )
            ours.setdefault(f"{name} {layers}", {})[inputs.dtype.name] = own * 1e3
    return ours


def main():
    """Read the command line, hold the machine still, then run."""
    parser = argparse.ArgumentParser(prog="python -m bench.sklearn_scores", description=__doc__)
    parser.add_argument("--only", choices=["scores", "times"])
    options = parser.parse_args()
    limits.hold(1)
    if options.only != "times":
        print_scores()
    if options.only != "scores":
        from sklearn.datasets import load_digits

        from bench import machine, mnist

        X, y = load_digits(return_X_y=True)
        fits = print_times("digits", X / 16, y, epochs=50, rounds=3)
        if (mnist.folder() / "train-images-idx3-ubyte.gz").exists():
            X, y, _, _ = mnist.load(mnist.folder())
            fits |= print_times("MNIST", X, y, epochs=2, rounds=2)
        print(store.save("sklearn_scores", {"machine": machine.describe(), "ms a fit": fits}))


if __name__ == "__main__":
    main()
