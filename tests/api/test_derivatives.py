"""Derivatives beyond the gradient: against the reference, complex step, and each other."""

import numpy as np
import pytest

import deltajit as dj
from deltajit import kernels, reference
from tests.helpers.networks import DTYPES, awkward, grid, make_case, relative_error

STEP = 1e-30


def direction(net, seed=1):
    return np.random.default_rng(seed).normal(size=net.n_params).astype(net.dtype)


def moved(net, v, seed=None):
    """The reference's model at ``theta + 1e-30j v``."""
    return dj.Network.reference.fget(_Complex(net, net.theta + 1j * STEP * v))


class _Complex:
    """Enough of a network, with a complex theta, for `Network.reference`."""

    def __init__(self, net, theta):
        self._architecture = net.architecture
        self.weights, self.biases = net.architecture.unflatten(theta)


def flat(net, dW, db):
    return net.flatten([x.real for x in dW], [x.real for x in db])


def complex_step_hvp(net, X, Y, v, weights=None):
    _, dW, db = reference.value_and_grad(moved(net, v), X, Y, weights)
    return flat(net, [x.imag / STEP for x in dW], [x.imag / STEP for x in db])


def case(activation, output, loss, dtype="float64", batch=7, sizes=(5, 9, 4, 3)):
    net, X, Y = make_case(list(sizes), activation, output, loss, dtype, batch, l2=0.1, slope=0.2)
    return net, X, Y, direction(net)


@grid
def test_hvp_by_complex_step_of_the_gradient(activation, output, loss):
    net, X, Y, v = case(activation, output, loss)
    weights = np.linspace(0.5, 2, len(X))
    for w in (None, weights):
        assert relative_error(net.hvp(X, Y, v, w), complex_step_hvp(net, X, Y, v, w)) <= 1e-9
        at_theta = net.linearize(X, Y, w)
        np.testing.assert_array_equal(at_theta.hvp(v), net.hvp(X, Y, v, w))
        np.testing.assert_array_equal(at_theta.gnvp(v), net.gnvp(X, Y, v, w))
        assert at_theta.value == net.loss(X, Y, w)
        assert relative_error(at_theta.grad, net.grad(X, Y, w)) <= 1e-14


@grid
def test_every_derivative_against_the_reference(activation, output, loss):
    net, X, Y, v = case(activation, output, loss)
    model, (VW, vb) = net.reference, net.unflatten(v)
    assert relative_error(net.hvp(X, Y, v), flat(net, *reference.hvp(model, X, Y, VW, vb))) <= 1e-12
    gn = flat(net, *reference.gnvp(model, X, Y, VW, vb))
    assert relative_error(net.gnvp(X, Y, v), gn) <= 1e-12
    at_theta, u = net.linearize(X, Y), np.random.default_rng(2).normal(size=(len(X), net.sizes[-1]))
    assert relative_error(at_theta.jvp(v), reference.jvp(model, X, VW, vb)) <= 1e-12
    assert relative_error(at_theta.vjp(u), flat(net, *reference.vjp(model, X, u))) <= 1e-12
    assert relative_error(net.input_grad(X, Y), reference.input_grad(model, X, Y)) <= 1e-12
    assert relative_error(net.jacobian(X), reference.jacobian(model, X)) <= 1e-12
    dW, db = reference.per_sample_grads(model, X, Y)
    each = [flat(net, [d[b] for d in dW], [d[b] for d in db]) for b in range(len(X))]
    assert relative_error(net.per_sample_grads(X, Y), np.array(each)) <= 1e-12


@grid
def test_identities(activation, output, loss):
    net, X, Y, v = case(activation, output, loss)
    u = direction(net, 2)
    assert u @ net.hvp(X, Y, v) == pytest.approx(v @ net.hvp(X, Y, u), rel=1e-10, abs=1e-12)
    assert u @ net.gnvp(X, Y, v) == pytest.approx(v @ net.gnvp(X, Y, u), rel=1e-10, abs=1e-12)
    assert v @ net.gnvp(X, Y, v) >= 0
    at_theta, y = net.linearize(X, Y), np.random.default_rng(3).normal(size=(len(X), net.sizes[-1]))
    assert (y * at_theta.jvp(v)).sum() == pytest.approx(v @ at_theta.vjp(y), rel=1e-10, abs=1e-12)
    both = net.hvp(X, Y, 2 * u - 3 * v)
    assert relative_error(both, 2 * net.hvp(X, Y, u) - 3 * net.hvp(X, Y, v)) <= 1e-12
    penalty = np.zeros(net.n_params)
    for W, dW in zip(net.weights, net.unflatten(penalty)[0], strict=True):
        dW[...] = net.architecture.l2 * W
    mean = net.per_sample_grads(X, Y).mean(axis=0) + penalty
    assert relative_error(mean, net.grad(X, Y)) <= 1e-12


@grid
def test_inputs_by_complex_step(activation, output, loss):
    net, X, Y, _ = case(activation, output, loss)
    model = net.reference._replace(l2=0.0)
    for i in range(X.shape[1]):
        Z = X.astype(complex)
        Z[:, i] += 1j * STEP
        outputs = reference.predict(model, Z).imag / STEP
        assert relative_error(net.jacobian(X)[:, :, i], outputs) <= 1e-9
        losses = [
            reference.loss(model, Z[b : b + 1], Y[b : b + 1]).imag / STEP for b in range(len(X))
        ]
        np.testing.assert_allclose(net.input_grad(X, Y)[:, i], losses, rtol=1e-8, atol=1e-12)


def test_hessian_is_symmetric_and_the_derivative_of_the_gradient():
    net, X, Y, v = case("tanh", "softmax", "cross_entropy")
    H = net.hessian(X, Y)
    assert relative_error(H, H.T) <= 1e-12
    assert relative_error(H @ v, net.hvp(X, Y, v)) <= 1e-12


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 2, 31, 257])
def test_awkward_sizes(dtype, batch):
    tolerance = {"float32": 2e-5, "float64": 1e-12}[dtype]
    for n_in, n_hidden, n_out in [
        (n, m, k) for n in (1, 9) for m in awkward(dtype) for k in (1, 17)
    ]:
        sizes = (n_in, n_hidden, n_hidden, n_out)
        net, X, Y, v = case("tanh", "identity", "squared_error", dtype, batch, sizes)
        double = dj.Network(sizes, "tanh", "identity", dtype="float64", l2=0.1)
        double.theta = net.theta
        model, (VW, vb) = double.reference, double.unflatten(v.astype(float))
        X64, Y64 = X.astype(float), Y.astype(float)
        expected = flat(double, *reference.hvp(model, X64, Y64, VW, vb))
        assert relative_error(net.hvp(X, Y, v), expected) <= tolerance, sizes
        expected = flat(double, *reference.gnvp(model, X64, Y64, VW, vb))
        assert relative_error(net.gnvp(X, Y, v), expected) <= tolerance, sizes
        expected = reference.jacobian(model, X64)
        assert relative_error(net.jacobian(X), expected) <= tolerance, sizes
        expected = reference.input_grad(model, X64, Y64)
        assert relative_error(net.input_grad(X, Y), expected) <= tolerance, sizes
        expected = reference.jvp(model, X64, VW, vb)
        assert relative_error(net.linearize(X, Y).jvp(v), expected) <= tolerance, sizes


def test_linearization_stays_where_it_was_made():
    net, X, Y, v = case("tanh", "identity", "squared_error")
    at_theta, before = net.linearize(X, Y), net.hvp(X, Y, v)
    net.theta += 1
    X[:] = 0
    np.testing.assert_array_equal(at_theta.hvp(v), before)


@pytest.mark.parametrize("name", ["hvp", "gnvp"])
def test_bad_direction(name):
    net, X, Y, v = case("tanh", "identity", "squared_error")
    product = getattr(net, name)
    for wrong, error in ((v[1:], ValueError), (v * np.inf, ValueError), (v * 1j, TypeError)):
        with pytest.raises(error, match="v "):
            product(X, Y, wrong)
    v[3] = np.nan
    with pytest.raises(ValueError, match=r"v has NaN or inf.*\[3\]"):
        product(X, Y, v)


def test_large_hessian_says_what_to_use():
    net = dj.Network([200, 100, 10])
    with pytest.raises(ValueError, match=r"1\.\d GiB.*hvp"):
        net.hessian(np.zeros((2, 200)), [0, 1])


def test_one_sample_as_a_vector():
    net, X, Y, _ = case("tanh", "identity", "squared_error")
    np.testing.assert_allclose(net.jacobian(X[0]), net.jacobian(X)[0], rtol=1e-12)
    np.testing.assert_allclose(net.input_grad(X[0], Y[0]), net.input_grad(X, Y)[0], rtol=1e-12)


def test_agrees_with_jax():
    jax = pytest.importorskip("jax")
    net, X, Y, v = case("tanh", "softmax", "cross_entropy", "float32")
    l2 = net.architecture.l2

    def loss(theta):
        weights, biases = net.architecture.unflatten(theta)
        a = X
        for W, b in zip(weights[:-1], biases[:-1], strict=True):
            a = jax.numpy.tanh(a @ W.T + b)
        logs = jax.nn.log_softmax(a @ weights[-1].T + biases[-1])
        penalty = l2 / 2 * sum((W**2).sum() for W in weights)
        return -(targets * logs).sum() / len(X) + penalty

    targets = np.eye(3, dtype="float32")[Y] if Y.ndim == 1 else Y
    theta = jax.numpy.asarray(net.theta)
    expected = jax.jvp(jax.grad(loss), (theta,), (v,))[1]
    assert relative_error(net.hvp(X, Y, v), np.asarray(expected)) <= 1e-5
    assert relative_error(net.grad(X, Y), np.asarray(jax.grad(loss)(theta))) <= 1e-5


@pytest.mark.parametrize("output", ["identity", "tanh"])
def test_points_are_filled(output):
    """What is kept is the same whatever the memory held before."""
    net = dj.Network([3, 4, 2], output=output, loss="squared_error", rng=0)
    X, Y = np.ones((5, 3), net.dtype), np.zeros((5, 2), net.dtype)
    points = np.full(kernels.points_size(net.model, 5), np.nan, net.dtype)
    kernels.linearize(net.model, X, Y, np.empty_like(net.theta), points, net.workspace(5, 2))
    assert np.isfinite(points).all()
