"""Before anything is timed: every library must give the reference's numbers."""

import numpy as np

from deltajit import reference

CHECKED_STEPS = 3
GRADIENT = {"float32": 2e-5, "float64": 1e-12}  # largest difference over largest element
MOVEMENT = {"float32": 1e-2, "float64": 1e-6}  # float32 keeps few digits of a small change


def check(library, problem):
    """Raise AssertionError unless `library` predicts, differentiates and trains as it should."""
    case = problem.case
    few = problem._replace(
        X=problem.X[: CHECKED_STEPS * case.batch], Y=problem.Y[: CHECKED_STEPS * case.batch]
    )
    model = _reference(few)
    X, Y = few.X.astype(float), few.Y if few.Y.ndim == 1 else few.Y.astype(float)
    batch = slice(0, case.batch)
    value, dW, db = reference.value_and_grad(model, X[batch], Y[batch])
    subject = library(few)
    found = np.reshape(subject.predict(), (case.batch, -1))
    _close(library.name, case, "predict", [found], [reference.predict(model, X[batch])])
    if hasattr(subject, "gradient"):
        found_value, grads = subject.gradient()
        _close(library.name, case, "loss", [found_value], [value])
        _close(library.name, case, "gradient", grads, [*dW, *db])
    start = [x.copy() for x in model.weights + model.biases]
    _train(model, X, Y, few)
    subject.train(CHECKED_STEPS)
    for after, right, before in zip(
        subject.parameters(), model.weights + model.biases, start, strict=True
    ):
        error = np.abs((after - before) - (right - before)).max() / np.abs(right - before).max()
        if not error < MOVEMENT[case.dtype]:
            raise AssertionError(f"{library.name}, {case.name}: training is off by {error:.1e}")


def _close(name, case, what, found, right):
    error = max(np.abs(np.asarray(f) - r).max() for f, r in zip(found, right, strict=True))
    error /= max(np.abs(r).max() for r in right)
    if not error < GRADIENT[case.dtype]:
        raise AssertionError(f"{name}, {case.name}: {what} is off by {error:.1e}")


def _reference(problem):
    """The problem's network in float64, on copies of its weights."""
    case = problem.case
    hidden = (case.activation,) * (len(case.sizes) - 2)
    return reference.Model(
        tuple(W.astype(float) for W in problem.W),
        tuple(b.astype(float) for b in problem.b),
        (*hidden, case.output),
        case.loss,
    )


def _train(model, X, Y, problem):
    batch, parameters = problem.case.batch, model.weights + model.biases
    states = [[np.zeros_like(p), np.zeros_like(p)] for p in parameters]
    for i in range(CHECKED_STEPS):
        rows = slice(i * batch, (i + 1) * batch)
        if problem.case.optimizer == "sgd":
            reference.sgd_step(model, X[rows], Y[rows], problem.lr)
            continue
        _, dW, db = reference.value_and_grad(model, X[rows], Y[rows])
        for p, g, state in zip(parameters, [*dW, *db], states, strict=True):
            reference.adam_update(p, g, state, i + 1, problem.lr, (0.9, 0.999), 1e-8)
