"""Before anything is timed: every library must give the reference's numbers."""

import numpy as np

from bench.cases import CHECKED_STEPS
from deltajit import reference

GRADIENT = 2e-5  # largest difference over largest element
MOVEMENT = 1e-2  # float32 keeps few digits of a small change


def check(library, problem):
    """Raise AssertionError unless `library` predicts, differentiates and trains as it should."""
    compare(library(problem.few), problem.few)


def compare(subject, few):
    """Raise AssertionError unless a library's subject, made of `few`, does what it should."""
    case, batch = few.case, few.case.batch
    model = reference.Model(
        tuple(W.astype(float) for W in few.W),
        tuple(b.astype(float) for b in few.b),
        (*[case.activation] * (len(case.sizes) - 2), case.output),
        case.loss,
    )
    X, Y = few.X.astype(float), few.Y if few.Y.ndim == 1 else few.Y.astype(float)
    value, dW, db = reference.value_and_grad(model, X[:batch], Y[:batch])

    def close(what, found, right, most):
        error = max(np.abs(np.asarray(f) - r).max() for f, r in zip(found, right, strict=True))
        error /= max(np.abs(r).max() for r in right)
        if not error < most:
            raise AssertionError(f"{subject.name}, {case.name}: {what} is off by {error:.1e}")

    if not subject.only_trains:
        outputs = np.reshape(subject.predict(), (batch, -1))
        close("predict", [outputs], [reference.predict(model, X[:batch])], GRADIENT)
        found_value, grads = subject.gradient()
        close("loss", [found_value], [value], GRADIENT)
        close("gradient", grads, [*dW, *db], GRADIENT)
    parameters = model.weights + model.biases
    start = [x.copy() for x in parameters]
    _train(model, X, Y, few)
    subject.train(CHECKED_STEPS)
    for after, right, before in zip(subject.parameters(), parameters, start, strict=True):
        close("training", [after - before], [right - before], MOVEMENT)


def _train(model, X, Y, problem):
    batch, parameters = problem.case.batch, model.weights + model.biases
    states = [[np.zeros_like(p), np.zeros_like(p)] for p in parameters]
    for i in range(CHECKED_STEPS):
        rows = slice(i * batch, (i + 1) * batch)
        if problem.case.optimizer == "sgd":
            reference.sgd_step(model, X[rows], Y[rows], problem.lr)
            continue
        _, dW, db = reference.value_and_grad(model, X[rows], Y[rows])
        for of_one in zip(parameters, [*dW, *db], states, strict=True):
            reference.adam_update(*of_one, i + 1, problem.lr, (0.9, 0.999), 1e-8)
