"""Losses of the user's own, by `register_loss`: another way to those that we have."""

import math
import pickle

import numba
import numpy as np
import pytest

import deltajit as dj
from deltajit import kernels, reference
from tests.helpers.networks import (
    DTYPES,
    complex_step_grad,
    make_case,
    reference_grad,
    relative_error,
)


@numba.njit
def residual(a, y):
    return a - y


@pytest.fixture(scope="module", autouse=True)
def registered():
    squared = (lambda a, y: (a - y) ** 2 / 2, residual, lambda a, y: 1.0)
    absolute = (lambda a, y: abs(a - y), lambda a, y: 1.0 if a > y else -1.0 if a < y else 0.0)
    dj.register_loss("own squared_error", *squared)
    dj.register_loss("own absolute_error", *absolute)
    yield
    for name in [name for name in kernels.LOSSES if name.startswith("own ")]:
        kernels.LOSSES.pop(name), reference.LOSSES.pop(name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("output", ["identity", "tanh", "softmax"])
@pytest.mark.parametrize("name", ["squared_error", "absolute_error"])
def test_the_same_as_ours(name, output, dtype):
    net, X, Y = make_case([3, 9, 5], "tanh", output, "own " + name, dtype, 70, l2=0.01)
    twin, _, _ = make_case([3, 9, 5], "tanh", output, name, dtype, 70, l2=0.01)
    weights, v = np.linspace(0.5, 2, 70), np.linspace(-1, 1, net.n_params)
    tolerance = {"float32": 1e-5, "float64": 1e-13}[dtype]
    for w in (None, weights):
        value, grad = net.value_and_grad(X, Y, w)
        assert value == pytest.approx(twin.loss(X, Y, w), rel=tolerance)
        assert relative_error(grad, twin.grad(X, Y, w)) <= tolerance
        assert relative_error(grad, reference_grad(net, X, Y, w)[1]) <= tolerance
        for product in ("hvp", "gnvp"):
            found = getattr(net, product)(X, Y, v, w)
            if name == "squared_error":
                assert relative_error(found, getattr(twin, product)(X, Y, v, w)) <= 10 * tolerance
            else:  # it has no curve
                assert np.isnan(found).any()
    if dtype == "float64":
        assert relative_error(net.grad(X, Y), complex_step_grad(net, X, Y)) <= tolerance
    assert relative_error(net.per_sample_grads(X, Y), twin.per_sample_grads(X, Y)) <= tolerance
    assert relative_error(net.input_grad(X, Y), twin.input_grad(X, Y)) <= tolerance
    assert net.grad(X[0], Y[0]) == pytest.approx(twin.grad(X[0], Y[0]), rel=1e-4, abs=1e-6)


def test_in_an_ensemble_and_in_jitted_code():
    net, X, Y = make_case([3, 9, 2], "tanh", "identity", "own squared_error", "float32", 40)
    X, Y = X.astype(np.float32), Y.astype(np.float32)
    nets = dj.Ensemble([3, 9, 2], 3, "tanh", "identity", "own squared_error")
    nets.fit(X, Y, epochs=2, batch_size=16, progress=False)
    assert nets.loss(X, Y).tolist() == [each.loss(X, Y) for each in nets]
    grad, work = np.empty_like(net.theta), net.workspace(len(X))
    assert kernels.value_and_grad(net.model, X, Y, grad, work) == net.loss(X, Y)
    f = net.objective(X, Y)
    assert f.fun(net.theta) == net.loss(X, Y)
    before = net.loss(X, Y)
    net.fit(X, Y, 5, progress=False)
    assert net.loss(X, Y) < before


def one_output(loss, dtype="float64"):
    """A network whose output is its input."""
    net = dj.Network([1, 1], loss=loss, dtype=dtype)
    net.theta = [1, 0]
    return net


def test_the_same_name_again_replaces_it():
    dj.register_loss("own twice", lambda a, y: 2 * a * y, lambda a, y: 2 * y, lambda a, y: 0.0)
    net = one_output("own twice")
    assert net.loss([3.0], [5.0]) == 30
    with pytest.raises(
        ValueError, match=r"slope is not the derivative of value: at -1\.97, 0\.31 it"
    ):
        dj.register_loss("own twice", lambda a, y: a * y, lambda a, y: a)
    assert net.loss([3.0], [5.0]) == 30
    dj.register_loss("own twice", lambda a, y: a * a * y, lambda a, y: 2 * a * y)
    for each in (net, one_output("own twice"), pickle.loads(pickle.dumps(net))):
        assert each.loss([3.0], [5.0]) == 45
        assert each.grad([3.0], [5.0])[1] == 30
        assert reference.loss(each.reference, np.array([[3.0]]), np.array([[5.0]])) == 45


@numba.njit
def logarithm(a, y):
    if a < 0:
        raise ValueError("a is below 0")
    return -y * math.log(a)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_raises_is_nan(dtype, capfd):
    """Where it is a number, its slope is checked; what raises elsewhere is no wrong slope."""
    dj.register_loss("own logarithm", logarithm, lambda a, y: -y / a, lambda a, y: y / (a * a))
    net = one_output("own logarithm", dtype)
    assert net.loss([1.0], [2.0]) == 0
    assert net.loss([0.0], [2.0]) == math.inf
    assert net.grad([0.0], [2.0])[1] == -math.inf
    assert math.isnan(net.loss([[1.0], [-1.0]], [1.0, 1.0]))
    X = np.array([[-1.0]])
    assert math.isnan(reference.loss(net.reference, X, X))
    with pytest.raises(dj.DivergedError):
        net.fit([[-1.0], [2.0]], [1.0, 1.0], 1, progress=False)
    assert capfd.readouterr().err == ""


def test_wrong_losses():
    for arguments, error, message in [
        (("huber", residual, residual), ValueError, "no loss has, got 'huber'"),
        (("auto", residual, residual), ValueError, "no loss has, got 'auto'"),
        (("new", max, residual), TypeError, "value must be a Python function of two numbers"),
        (("new", residual, residual), ValueError, "slope is not the derivative of value"),
        (
            ("new", lambda a, y: (a - y) ** 2 / 2, residual, lambda a, y: 2.0),
            ValueError,
            r"curve is not the derivative of slope: at -1\.97, 0\.31 it gives 2, where",
        ),
    ]:
        with pytest.raises(error, match=message):
            dj.register_loss(*arguments)
    with pytest.raises(ValueError, match="loss='new' is unknown"):
        dj.Network([2, 1], loss="new")
    with pytest.raises(ValueError, match="output='gaussian' needs loss='gaussian_nll'"):
        dj.Network([2, 2], output="gaussian", loss="own squared_error")


def test_where_it_is_missing_the_error_says_what_to_do(tmp_path):
    dj.register_loss("own missing", lambda a, y: a * y, lambda a, y: y)
    net = one_output("own missing")
    net.save(tmp_path / "net")
    kept = pickle.dumps(net)
    assert dj.load(tmp_path / "net").loss([3.0], [5.0]) == 15
    with pytest.raises(TypeError, match="functions of one's own"):
        pickle.dumps(net.model)
    record = kernels.LOSSES.pop("own missing")
    message = r"call dj\.register_loss\('own missing', value, slope, curve\) first"
    with pytest.raises(ValueError, match=message):
        pickle.loads(kept)
    with pytest.raises(dj.FormatError, match=message):
        dj.load(tmp_path / "net")
    kernels.LOSSES["own missing"] = record
