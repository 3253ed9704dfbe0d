"""Loss and gradient of whole networks against the reference, complex step, and each other."""

import numpy as np
import pytest

import deltajit as dj
from tests.helpers.networks import (
    DTYPES,
    awkward,
    complex_step_grad,
    grid,
    make_case,
    make_targets,
    reference_grad,
    relative_error,
)


@grid
def test_gradient_by_complex_step(activation, output, loss):
    net, X, Y = make_case([5, 9, 4, 3], activation, output, loss, "float64", l2=0.1, slope=0.2)
    value, grad = net.value_and_grad(X, Y)
    assert relative_error(grad, complex_step_grad(net, X, Y)) <= 1e-10
    expected_value, expected_grad = reference_grad(net, X, Y)
    assert value == pytest.approx(expected_value, rel=1e-13)
    assert value == net.loss(X, Y)
    assert relative_error(grad, expected_grad) <= 1e-13


@grid
def test_float32_against_float64(activation, output, loss):
    net, X, Y = make_case([7, 16, 17, 3], activation, output, loss, "float32", batch=33, l2=0.01)
    double, _, _ = make_case([7, 16, 17, 3], activation, output, loss, "float64", l2=0.01)
    X, Y = X.astype(np.float32), Y.astype(np.float32)
    double.theta = net.theta
    value, grad = net.value_and_grad(X, Y)
    exact, exact_grad = double.value_and_grad(X, Y)
    assert relative_error(grad, exact_grad) <= 1e-5
    assert value == pytest.approx(exact, rel=1e-5)
    assert relative_error(net.predict(X), double.predict(X)) <= 1e-5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 2, 31, 257])
def test_awkward_sizes(dtype, batch):
    rng = np.random.default_rng(0)
    tolerance = {"float32": 1e-5, "float64": 1e-13}[dtype]
    for n_in in awkward(dtype):
        for n_hidden in awkward(dtype):
            for n_out in (1, 2, 17):
                net = dj.Network([n_in, n_hidden, n_hidden, n_out], "tanh", dtype=dtype)
                X = rng.normal(size=(batch, n_in)).astype(dtype)
                Y = rng.normal(size=(batch, n_out)).astype(dtype)
                value, grad = net.value_and_grad(X, Y)
                expected_value, expected_grad = reference_grad(net, X, Y)
                # The loss is a difference squared: judged by what was subtracted.
                size = float(expected_value + 0.5 * np.square(Y).sum(axis=1).mean())
                assert abs(value - expected_value) <= tolerance * size
                assert relative_error(grad, expected_grad) <= tolerance, net.sizes


def test_no_hidden_layer():
    net, X, Y = make_case([3, 2], "tanh", "identity", "squared_error", "float64")
    assert relative_error(net.grad(X, Y), complex_step_grad(net, X, Y)) <= 1e-12


def test_many_blocks():
    """A batch larger than one block of samples, with a last block of one."""
    for batch in (256, 257, 1025):
        net, X, Y = make_case([9, 65, 3], "tanh", "identity", "squared_error", "float64", batch)
        value, grad = net.value_and_grad(X, Y)
        expected_value, expected = reference_grad(net, X, Y)
        assert value == pytest.approx(expected_value, rel=1e-13)
        assert relative_error(grad, expected) <= 1e-12
        np.testing.assert_array_equal(net.predict(X)[-5:], net.predict(X[-5:]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_labels_are_one_hot_rows(dtype):
    net, X, _ = make_case([4, 6, 5], "tanh", "softmax", "cross_entropy", dtype, batch=20)
    labels = make_targets(np.random.default_rng(1), "cross_entropy", 20, 5, labels=True)
    value, grad = net.value_and_grad(X, labels)
    rows_value, rows_grad = net.value_and_grad(X, np.eye(5)[labels])
    assert value == pytest.approx(rows_value, rel=1e-6)
    assert relative_error(grad, rows_grad) <= 1e-6
    expected_value, expected_grad = reference_grad(net, X.astype(dtype), labels)
    assert value == pytest.approx(expected_value, rel=1e-6)
    assert relative_error(grad, expected_grad) <= 1e-5


def test_sample_weights():
    net, X, Y = make_case([4, 6, 2], "tanh", "identity", "squared_error", "float64", l2=0.3)
    w = np.random.default_rng(2).uniform(0, 3, size=len(X))
    value, grad = net.value_and_grad(X, Y, sample_weight=w)
    assert value == pytest.approx(reference_grad(net, X, Y, w)[0], rel=1e-13)
    assert value == net.loss(X, Y, sample_weight=w)
    assert relative_error(grad, complex_step_grad(net, X, Y, w)) <= 1e-12
    # A weight of 2 is the sample twice; a weight of 0 is no sample.
    twice = np.array([2, 0, 1, 1, 1, 1, 1.0])
    rows = [0, 0, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(net.grad(X, Y, twice), net.grad(X[rows], Y[rows]), rtol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("output", "loss", "Y"),
    [("softmax", "cross_entropy", [[0, 1.0]]), ("sigmoid", "binary_cross_entropy", [[1.0, 0.0]])],
)
def test_sure_answers(dtype, output, loss, Y):
    """Logits of +-200 neither overflow nor lose a small loss."""
    net = dj.Network([1, 2], output=output, loss=loss, dtype=dtype, init="zeros")
    net.weights[0][:] = [[200.0], [-200.0]]
    wrong_is = {"softmax": [400.0, 0.0], "sigmoid": [0.0, 400.0]}[output]
    assert net.loss([[1.0]], Y) == pytest.approx(wrong_is[0], abs=1e-30)
    assert net.loss([[-1.0]], Y) == pytest.approx(wrong_is[1], abs=1e-30)
    value, grad = net.value_and_grad([[0.1]], Y)  # logits 20, -20
    assert np.isfinite(grad).all()
    small = net.loss([[-0.1 if output == "softmax" else 0.1]], Y)
    exact = np.log1p(np.exp(-40.0)) if output == "softmax" else 2 * np.log1p(np.exp(-20.0))
    assert small == pytest.approx(exact, rel=1e-5)
    assert value >= small


def test_kernel_survives_a_wrong_label():
    """A jitted caller's label is not checked by Python: it gives NaN, no stray access."""
    from deltajit import kernels

    net = dj.Network([2, 3], output="softmax", dtype="float64")
    grad, work = np.empty(net.n_params), net.workspace(1)
    for label in (-1.0, 3.0, np.nan, 1e300):
        value = kernels.value_and_grad(net.model, np.ones((1, 2)), np.array([[label]]), grad, work)
        assert np.isnan(value)
        assert np.isnan(grad).all()
