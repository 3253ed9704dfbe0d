"""What a network lets you see and set: features, weights, other points, samples by dropout."""

import numpy as np
import pytest
from deltajit.kernels.blocks import LARGEST_BLOCK

import deltajit as dj
from deltajit import reference
from tests.helpers.networks import DTYPES, make_case, relative_error


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 7, LARGEST_BLOCK + 9])
def test_activations(dtype, batch):
    """Those of the reference, and the last are the bits of predict."""
    net, X, _ = make_case([5, 9, 4, 3], "gelu", "softmax", "cross_entropy", dtype, batch)
    a = net.activations(X)
    expected = reference.forward(net.reference, X.astype(dtype)).a
    assert [x.shape for x in a] == [(batch, n) for n in net.sizes]
    for found, wanted in zip(a, expected, strict=True):
        assert found.dtype == net.dtype
        assert relative_error(found, wanted) <= 100 * np.finfo(dtype).eps
    np.testing.assert_array_equal(a[-1], net.predict(X))
    for found, of_one in zip(a, net.activations(X[0]), strict=True):
        np.testing.assert_array_equal(found[0], of_one)


def test_activations_are_copies():
    net, X = dj.Network([2, 3, 1], dtype="float64"), np.ones((4, 2))
    net.activations(X)[0][:] = 7
    assert (X == 1).all()


@pytest.mark.parametrize("name", ["weights", "biases"])
def test_weights_and_biases_can_be_assigned(name):
    net, other = (dj.Network([3, 4, 4, 2], rng=seed) for seed in (0, 1))
    other.theta += 1
    views, before = getattr(net, name), net.theta.copy()
    setattr(net, name, [part.tolist() for part in getattr(other, name)])
    for view, part in zip(views, getattr(other, name), strict=True):
        np.testing.assert_array_equal(view, part)
        assert np.shares_memory(view, net.theta)
    rest = "biases" if name == "weights" else "weights"
    setattr(net, rest, getattr(other, rest))
    np.testing.assert_array_equal(net.theta, other.theta)
    assert not np.array_equal(net.theta, before)


def test_views_of_each_other_can_be_assigned():
    net = dj.Network([3, 3, 3], rng=0)
    first, last = (W.copy() for W in net.weights)
    net.weights = net.weights[::-1]
    np.testing.assert_array_equal(net.weights, [last, first])


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([np.ones((4, 3))], ValueError, "weights must have 2 arrays, got 1"),
        ([np.ones((4, 3)), np.ones((4, 2))], ValueError, r"weights\[1\] must have shape \(2, 4\)"),
        ([np.ones((4, 3)), [["a"] * 4] * 2], TypeError, r"weights\[1\] must hold real numbers"),
        (None, TypeError, "weights must be a list of 2 arrays"),
    ],
)
def test_wrong_weights_change_nothing(value, error, message):
    net = dj.Network([3, 4, 2])
    before = net.theta.copy()
    with pytest.raises(error, match=message):
        net.weights = value
    np.testing.assert_array_equal(net.theta, before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_another_theta(dtype):
    """The bits of a network that has that theta, and this network's stays."""
    net, X, Y = make_case([5, 9, 3], "tanh", "identity", "squared_error", dtype, 40, l2=0.1)
    twin, w = dj.Network([5, 9, 3], l2=0.1, dtype=dtype, rng=5), np.linspace(0, 1, 40)
    before = net.theta.copy()
    for theta in (twin.theta, twin.theta.astype("f8"), twin.theta.tolist()):
        np.testing.assert_array_equal(net.predict(X, theta=theta), twin.predict(X))
        np.testing.assert_array_equal(net.predict(X[0], theta=theta), twin.predict(X[0]))
        assert net.loss(X, Y, w, theta=theta) == twin.loss(X, Y, w)
        value, grad = net.value_and_grad(X, Y, w, theta=theta)
        assert value == twin.loss(X, Y, w)
        np.testing.assert_array_equal(grad, twin.grad(X, Y, w))
        np.testing.assert_array_equal(net.grad(X, Y, w, theta=theta), grad)
    np.testing.assert_array_equal(net.theta, before)
    with pytest.raises(ValueError, match=r"theta must have shape \(84,\), got \(83,\)"):
        net.value_and_grad(X, Y, theta=np.zeros(83))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("output", "loss"), [("softmax", "cross_entropy"), ("tanh", "auto")])
def test_parameter_jacobian(dtype, output, loss):
    net, X, _ = make_case([3, 6, 5, 4], "silu", output, loss, dtype, 7)
    found = net.parameter_jacobian(X)
    dW, db = reference.parameter_jacobian(net.reference, X.astype(dtype))
    for b in range(7):
        for o in range(4):
            expected = net.flatten([d[b, o] for d in dW], [d[b, o] for d in db])
            assert relative_error(found[b, o], expected) <= 200 * np.finfo(dtype).eps
    np.testing.assert_array_equal(net.parameter_jacobian(X[2]), found[2])


def test_parameter_jacobian_of_the_reference_by_complex_steps():
    net, X, _ = make_case([3, 5, 2], "tanh", "softmax", "cross_entropy", "float64", 4)
    dW, db = reference.parameter_jacobian(net.reference, X)
    theta = net.theta.astype(complex)
    W, b = net.unflatten(theta)
    model = net.reference._replace(weights=W, biases=b)
    for i in range(4):
        rows = [net.flatten([d[i, o] for d in dW], [d[i, o] for d in db]) for o in range(2)]
        for k in range(net.n_params):
            theta[k] += 1e-30j
            column = reference.predict(model, X[i : i + 1])[0].imag / 1e-30
            theta[k] = theta[k].real
            np.testing.assert_allclose([row[k] for row in rows], column, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 40, LARGEST_BLOCK + 10])
def test_predictions_with_dropout(dtype, batch):
    """Those of the reference, whose masks begin anew with each block."""
    net, X, _ = make_case([5, 9, 4, 3], "tanh", "identity", "squared_error", dtype, batch)
    keep, seed = [0.7, 0.4], int(np.random.default_rng(3).integers(2**64, dtype=np.uint64))
    found = net.predict(X, dropout=[0.3, 0.6], rng=3)
    size = -(-batch // (1 + (batch > LARGEST_BLOCK)))
    for first in range(0, batch, size):
        x = X[first : first + size].astype(dtype)
        masks = reference.dropout_masks(seed, keep, [(len(x), 9), (len(x), 4)])
        expected = reference.predict(net.reference, x, [m.astype(dtype) for m in masks])
        assert relative_error(found[first : first + size], expected) <= 100 * np.finfo(dtype).eps
        seed = (seed + 0x9E3779B97F4A7C15) % 2**64


def test_dropout_draws_anew():
    net, X, _ = make_case([5, 40, 3], "tanh", "identity", "squared_error", "float32", 9)
    a, b = (net.predict(X, dropout=0.5) for _ in range(2))
    assert not np.array_equal(a, b)
    same = [net.predict(X, dropout=0.5, rng=1) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    zero = net.predict(X, dropout=0.5, rng=1, theta=np.zeros(net.n_params))
    np.testing.assert_array_equal(zero, np.zeros((9, 3)))
    for nothing in (0, [0.0], np.zeros(1)):
        np.testing.assert_array_equal(net.predict(X, dropout=nothing), net.predict(X))
    many = np.mean([net.predict(X[0], dropout=0.2) for _ in range(4000)], axis=0)
    np.testing.assert_allclose(many, net.predict(X[0]), atol=0.1)  # a linear layer follows


def test_wrong_dropout_of_predictions():
    net, X = dj.Network([2, 3, 1]), np.ones((4, 2))
    drawn = net._rng.bit_generator.state
    with pytest.raises(ValueError, match=r"dropout\[0\] must be less than 1"):
        net.predict(X, dropout=1.0)
    with pytest.raises(ValueError, match="dropout must be one share, or one for each of 1"):
        net.predict(X, dropout=[0.1, 0.1])
    with pytest.raises(TypeError, match="rng must be None, a seed"):
        net.predict(X, dropout=0.1, rng="a")
    assert net._rng.bit_generator.state == drawn
