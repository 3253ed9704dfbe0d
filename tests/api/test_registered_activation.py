"""Activations of the user's own: another way to those that we have."""

import math
import pickle

import numba
import numpy as np
import pytest

import deltajit as dj
from deltajit import reference
from tests.helpers.networks import DTYPES, make_case, reference_grad, relative_error


@numba.njit
def cosine(z):
    return math.cos(z)


@pytest.fixture(scope="module", autouse=True)
def registered():
    dj.register_activation("own sin", lambda z: math.sin(z), cosine, lambda z: -math.sin(z))
    dj.register_activation("own relu", lambda z: max(z, 0.0), lambda z: 1.0 if z > 0 else 0.0)
    yield
    for name in ("own sin", "own relu", "twice", "inverse", "picky", "early"):
        dj.kernels.ACTIVATIONS.pop(name, None), dj.reference.ACTIVATIONS.pop(name, None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 9, 300])
@pytest.mark.parametrize("name", ["sin", "relu"])
def test_the_same_as_ours(name, batch, dtype):
    case = (["own " + name, "tanh", "own " + name], "identity", "squared_error", dtype, batch)
    net, X, Y = make_case([4, 9, 17, 5, 2], *case, seed=4)
    twin, _, _ = make_case([4, 9, 17, 5, 2], [name, "tanh", name], *case[1:], seed=4)
    twin.theta = net.theta
    tolerance = {"float32": 1e-5, "float64": 1e-13}[dtype]
    assert relative_error(net.predict(X), twin.predict(X)) <= tolerance
    assert relative_error(net.grad(X, Y), twin.grad(X, Y)) <= tolerance
    assert relative_error(net.grad(X, Y), reference_grad(net, X, Y)[1]) <= tolerance
    assert relative_error(net.jacobian(X), twin.jacobian(X)) <= tolerance
    v = np.linspace(-1, 1, net.n_params)
    if name == "sin":
        assert relative_error(net.hvp(X, Y, v), twin.hvp(X, Y, v)) <= 10 * tolerance
    else:  # it has no second derivative
        assert np.isnan(net.hvp(X, Y, v)).any()
    before = net.loss(X, Y)
    net.fit(X, Y, 3, optimizer=dj.SGD(1e-3))
    assert net.loss(X, Y) < before


def test_wrong_activations():
    for arguments, error, message in [
        (("tanh", cosine, cosine), ValueError, "no activation has, got 'tanh'"),
        (("new", math.sin, cosine), TypeError, "f must be a Python function of one number"),
        (("new", lambda z: math.sin(z), lambda z: 1.0), ValueError, "derivative is not that of f"),
    ]:
        with pytest.raises(error, match=message):
            dj.register_activation(*arguments)
    with pytest.raises(ValueError, match="activation='new' is unknown"):
        dj.Network([2, 3, 1], "new")


def one_unit(activation, dtype="float64"):
    """A network that computes the activation of its only input."""
    net = dj.Network([1, 1, 1], activation, dtype=dtype)
    net.theta = [1, 0, 1, 0]
    return net


def test_the_same_name_again_replaces_it():
    """As a notebook's cell that runs twice does: every network then has the new function."""
    dj.register_activation("twice", lambda z: 2 * z, lambda z: 2.0, lambda z: 0.0)
    net = one_unit("twice")
    assert net.predict([3.0]) == 6
    with pytest.raises(ValueError, match="derivative is not that of f"):
        dj.register_activation("twice", lambda z: 3 * z, lambda z: 2.0)
    assert net.predict([3.0]) == 6
    dj.register_activation("twice", lambda z: z * z, lambda z: 2 * z, lambda z: 2.0)
    for each in (net, one_unit("twice"), pickle.loads(pickle.dumps(net))):
        assert each.predict([3.0]) == 9
        np.testing.assert_array_equal(each.jacobian([3.0]), [[6.0]])
        np.testing.assert_array_equal(reference.predict(each.reference, np.array([[3.0]])), [[9.0]])


@numba.njit
def inverse(z):
    return 1 / z


def slope_of_inverse(z):
    return -1 / (z * z)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("f", [inverse, inverse.py_func])
def test_division_by_zero_is_numpys(f, dtype):
    dj.register_activation("inverse", f, slope_of_inverse, lambda z: 2 / (z * z * z))
    net, zero, n = one_unit("inverse", dtype), [[0.0]], one_unit("inverse").n_params
    assert net.predict(zero) == math.inf
    assert net.jacobian(zero) == -math.inf
    assert net.input_grad(zero, zero) == -math.inf
    assert net.loss(zero, zero) == math.inf
    assert not np.isfinite(net.hvp(zero, zero, np.ones(n))).all()
    assert reference.predict(net.reference, np.array(zero)) == math.inf


@numba.njit
def picky(z):
    if z < 0:
        raise ValueError("z is below 0")
    if z > 100:
        raise ValueError(f"{z} is too large")
    return z


def test_what_raises_is_nan(capfd):
    dj.register_activation("picky", picky, lambda z: picky(z) / z, lambda z: 0 * picky(z))
    net = one_unit("picky")
    np.testing.assert_array_equal(
        net.predict([[2.0], [-2.0], [200.0]]).ravel(), [2, np.nan, np.nan]
    )
    np.testing.assert_array_equal(net.jacobian([[2.0], [-2.0]]).ravel(), [1, np.nan])
    assert math.isnan(net.loss([[2.0], [-2.0]], [1.0, 1.0]))
    assert np.isnan(net.grad([-2.0], [1.0])).any()
    assert np.isnan(net.hvp([-2.0], [1.0], np.ones(4))).any()
    X = np.array([[2.0], [-2.0]])
    np.testing.assert_array_equal(reference.predict(net.reference, X), [[2.0], [np.nan]])
    with pytest.raises(dj.DivergedError):
        net.fit([[2.0], [-2.0]], [1.0, 1.0], 1, progress=False)
    many = dj.Network([400, 400, 400], "picky", threads=2)  # over threads, where none may raise
    assert np.isnan(many.predict(np.ones((300, 400)))).any()
    assert capfd.readouterr().err == ""


def test_one_that_raises_at_once_has_no_derivative():
    def early(z):
        if z < 1000:
            raise ValueError("too soon")
        return 2 * z

    with pytest.raises(ValueError, match="derivative is not that of f"):
        dj.register_activation("early", early, lambda z: 1.0)
    dj.register_activation("early", lambda z: 1 if z > 0 else 0, lambda z: False)
    assert one_unit("early").predict([3.0]) == 1
    with pytest.raises(numba.TypingError):
        dj.register_activation("complex", lambda z: 1j * z, lambda z: 1.0)
