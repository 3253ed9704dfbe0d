"""Activations of the user's own: another way to those that we have."""

import math

import numba
import numpy as np
import pytest

import deltajit as dj
from tests.conftest import DTYPES, make_case, reference_grad, relative_error


@numba.njit
def cosine(z):
    return math.cos(z)


@pytest.fixture(scope="module", autouse=True)
def registered():
    dj.register_activation("own sin", lambda z: math.sin(z), cosine, lambda z: -math.sin(z))
    dj.register_activation("own relu", lambda z: max(z, 0.0), lambda z: 1.0 if z > 0 else 0.0)
    yield
    for name in ("own sin", "own relu"):
        del dj.kernels.ACTIVATIONS[name], dj.reference.OWN[name]


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
