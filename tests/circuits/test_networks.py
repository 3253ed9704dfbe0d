"""A network as a circuit: the same function, to be differentiated with what is built on it."""

import numpy as np
import pytest
from deltajit.kernels import ACTIVATIONS

import deltajit as dj
from deltajit.circuits import networks
from tests.helpers.networks import HIDDEN, OF_Z, grid, make_case

TRACED = [*networks.OF_UNITS, *networks.OF_ROWS]


def test_every_row_is_of_an_activation():
    assert set(TRACED) <= set(ACTIVATIONS)


@grid
def test_predictions_and_derivatives(activation, output, loss):
    if not {activation, output} <= {*TRACED}:
        pytest.skip("not every activation can be traced")
    net, X, _ = make_case([3, 5, 4, 2], activation, output, loss, "float64", slope=0.2)
    c, whole, n = net.circuit(), net.circuit("theta, x"), net.n_params
    assert (c.n_inputs, whole.n_inputs) == (3, n + 3)
    np.testing.assert_allclose(c(X), net.predict(X), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(c.jacobian(X), net.jacobian(X), rtol=1e-10, atol=1e-12)
    points = np.hstack([np.tile(net.theta, (len(X), 1)), X])
    np.testing.assert_array_equal(whole(points), c(X))
    J = whole.jacobian(points)
    np.testing.assert_allclose(J[..., :n], net.parameter_jacobian(X), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(J[..., n:], net.jacobian(X), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", [x for x in networks.OF_UNITS if x not in OF_Z])
def test_special_values(name):
    """Values and slopes at kinks and far out, and NaN."""
    net = dj.Network([1, 1], output=name, loss="squared_error", dtype="float64")
    net.theta[:] = 1, 0
    X = np.array([0.0, -0.0, 1.0, -1.0, 700.0, -700.0, np.nan])[:, None]
    c = net.circuit()
    np.testing.assert_allclose(c(X), net.predict(X)[:, 0], rtol=1e-12)
    X = X[:-1]  # of NaN a slope may be any number
    np.testing.assert_allclose(c.grad(X), net.jacobian(X)[:, 0], rtol=1e-10, atol=1e-300)


def test_weights_are_those_of_the_moment():
    net = dj.Network([2, 3, 1], dtype="float64", rng=0)
    c, x = net.circuit(), np.ones(2)
    before = c(x)
    net.theta += 1
    assert c(x) == before != net.circuit()(x)
    net32 = dj.Network([2, 3, 1], rng=0)
    assert net32.circuit().dtype == np.float64
    np.testing.assert_allclose(net32.circuit()(x), net32.predict(x)[0], rtol=1e-6)


def test_second_derivative():
    """u'' of a tanh network, by hvp, by hand, and by differences."""
    net = dj.Network([1, 6, 1], dtype="float64", rng=0)
    X, u = np.linspace(-1, 1, 9)[:, None], net.circuit()
    (W, V), (b, _) = net.weights, net.biases
    a = np.tanh(X @ W.T + b)
    by_hand = (-2 * a * (1 - a * a) * W[:, 0] ** 2) @ V[0]
    np.testing.assert_allclose(u.hvp(X, [1.0])[:, 0], by_hand, rtol=1e-12)
    h = 1e-4
    differences = (net.predict(X + h) - 2 * net.predict(X) + net.predict(X - h))[:, 0] / h**2
    np.testing.assert_allclose(by_hand, differences, atol=1e-6)


def test_a_circuit_in_a_circuit():
    inner = dj.Circuit(lambda x, y: (x * y, np.sin(x) + 2), 2)
    outer = dj.Circuit(lambda x, y: inner([x, y])[0] * inner(np.array([y, 3.0]))[1], 2)
    plain = dj.Circuit(lambda x, y: x * y * (np.sin(y) + 2), 2)
    X = np.random.default_rng(0).normal(size=(5, 2))
    np.testing.assert_allclose(outer(X), plain(X), rtol=1e-15)
    np.testing.assert_allclose(outer.grad(X), plain.grad(X), rtol=1e-13)
    np.testing.assert_allclose(outer.hvp(X, X), plain.hvp(X, X), rtol=1e-12)
    square = dj.Circuit(lambda x: x * x, 1)
    assert dj.Circuit(lambda x: square(x) + 1, 1)([3.0]) == 10
    with pytest.raises(ValueError, match=r"x must have shape \(2,\), got \(1,\)"):
        dj.Circuit(lambda x: inner([x])[0], 1)


def test_on_top_of_a_network():
    """Half the squared distance of two outputs, by theta: the loss's own gradient."""
    net, X, Y = make_case([3, 5, 2], "tanh", "identity", "squared_error", "float64", 6)
    u = net.circuit("theta, x")

    def distance(*values):
        outputs, targets = u(values[:-2]), np.array(values[-2:])
        return ((outputs - targets) ** 2).sum() / 2

    points = np.hstack([np.tile(net.theta, (6, 1)), X, Y])
    values, grads = dj.Circuit(distance, points.shape[1]).value_and_grad(points)
    value, grad = net.value_and_grad(X, Y)
    assert values.mean() == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(grads[:, : net.n_params].mean(axis=0), grad, rtol=1e-10, atol=1e-14)


def test_kernels_take_no_traced_values():
    net = dj.Network([1, 3, 1])
    for f in (
        lambda x: net.predict(x),
        lambda x: net.predict([x])[0],
        lambda x: net.predict(np.array([x])),
    ):
        with pytest.raises(TypeError, match=r"X holds traced values.* net\.circuit\(\)\(x\) there"):
            dj.Circuit(f, 1)


@pytest.mark.parametrize("name", [name for name in HIDDEN if name not in TRACED])
def test_what_cannot_be_traced(name):
    message = f"circuit cannot express activation={name!r}; it knows identity,"
    with pytest.raises(ValueError, match=message):
        dj.Network([2, 3, 1], name).circuit()
