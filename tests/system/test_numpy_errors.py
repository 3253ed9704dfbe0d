"""What NumPy is told to raise is no business of the library's: infinity and zero are values."""

import warnings

import numpy as np
import pytest

import deltajit as dj
from deltajit import reference
from deltajit.circuit import sigmoid, softplus
from tests.helpers.networks import DTYPES, make_targets

ENDS = [
    ("identity", "squared_error"), ("softmax", "cross_entropy"), ("gaussian", "gaussian_nll"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def everything_raises():
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def data(loss, batch=12):
    """Ordinary numbers, and such as float32 has not."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(batch, 3))
    X[0] = 1e-300, -1e-310, 0
    return X, make_targets(rng, loss, batch, 2)


def scaled(X, factor):
    with np.errstate(all="ignore"):
        return factor * X


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("output", "loss"), ENDS)
def test_networks(output, loss, dtype):
    net = dj.Network([3, 4, 2], "tanh", output, loss, dtype=dtype, l2=1e-3, rng=0)
    X, Y = data(loss)
    tiny = np.full(net.n_params, 1e-300)
    assert net.predict(X[0]).shape == (2,)
    assert np.isfinite(net.predict(X)).all()
    value, _ = net.value_and_grad(X, Y, np.full(len(X), 1e-42))
    assert np.isfinite(value)
    for product in (net.hvp, net.gnvp):
        product(X, Y, tiny)
    f = net.objective(X, Y)
    f.fun_and_jac(tiny), f.hessp(tiny, tiny)
    net.theta = tiny
    net.flatten(*net.unflatten(tiny))
    W, b = net.unflatten(tiny)
    reference.value_and_grad(net.reference, scaled(X, 1e300), Y)
    reference.hvp(net.reference, X, Y, W, b)
    dj.Network([3, 2], output=output, dtype=dtype, init="normal", sigma=1e-60)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fit(dtype):
    X, Y = data("squared_error")
    for optimizer in (dj.Adam(), dj.SGD(1e-3), dj.LBFGS(), dj.LevenbergMarquardt(), dj.KFAC()):
        net = dj.Network([3, 4, 2], dtype=dtype, rng=0)
        net.fit(
            X, Y, 3, optimizer=optimizer, progress=False, validation_data=(X, Y),
            metrics={"largest": lambda Y, out: float(abs(Y - out).max())},
        )  # fmt: skip
        small = scaled(X, 1e-300)
        net.fit(small, Y, 3, optimizer=optimizer, progress=False)
        net.objective(small, Y).residuals(net.theta)
        net.objective(small, Y).residuals_jac(net.theta)


def test_ensembles():
    X, Y = data("squared_error")
    nets = dj.Ensemble([3, 4, 2], 2, dtype="float32", rng=0)
    nets.fit(X, Y, 2, progress=False)
    nets.theta *= np.float32(2**-60)
    nets.mean(scaled(X, 1e-300)), nets.std(scaled(X, 1e-300))


@pytest.mark.parametrize("scale", [1, 1e-300, 0])
def test_estimators(scale):
    exceptions = pytest.importorskip("sklearn.exceptions")
    from deltajit.sklearn import MLPClassifier, MLPRegressor

    warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
    X = np.random.default_rng(0).normal(size=(40, 3))
    y = (X[:, 0] > 0).astype(int)
    for solver in ("adam", "lbfgs"):
        classifier = MLPClassifier(
            hidden_layer_sizes=(4,), max_iter=3, solver=solver, random_state=0
        )
        small = scaled(X, scale)
        classifier.fit(small, y)
        classifier.predict_log_proba(1e30 * X), classifier.score(small, y)
        regressor = MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, solver=solver, random_state=0)
        regressor.fit(small, X[:, 1])
        regressor.predict(small), regressor.score(small, X[:, 1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_circuits(dtype):
    def f(x, y):
        return np.log(x) + 1e-300 * np.exp(1e3 * y) / x + np.exp((x - x) * 0 + 5000) * x**2.5

    c = dj.Circuit(f, 2, dtype=dtype)
    for point in ([0, 1], [1e-300, 1], [-1, 1e4], [1e-320, -1e4]):
        c(point), c.grad(point), c.hvp(point, [1, 1e-300]), str(c.trace(point))
    assert sigmoid(-800.0) == softplus(-800.0) == 0
    loss = dj.Circuit(lambda a, b, y: 1e-300 * (a - y) ** 2 + 1e-50 * b**4, 3)
    net = dj.Network([3, 4, 2], loss=loss, dtype=dtype, rng=0)
    X, _ = data("squared_error")
    net.fit(X, X[:, :1], 2, progress=False)
    reference.value_and_grad(net.reference, X, X[:, :1])
    reference.gnvp(net.reference, X, X[:, :1], *net.unflatten(net.theta))
