"""One sample goes through the layers by itself: a batch's bits, and the reference's gradient."""

import numpy as np
import pytest
from deltajit.kernels.blocks import KC

import deltajit as dj
from tests.helpers.networks import DTYPES, HIDDEN, OF_Z, awkward, reference_grad, relative_error

LONG = KC + 3  # sums of more than a panel's rows


@pytest.mark.parametrize("dtype", DTYPES)
def test_outputs_are_the_bits_of_a_batch(dtype):
    rng = np.random.default_rng(0)
    shapes = [(n, m, k) for n in (1, 7, LONG) for m in awkward(dtype) for k in (1, 2, 17, 70)]
    for sizes in [*shapes, (3, LONG, LONG, 1), (LONG, 5), (4, 1), (2 * KC, 130, 3)]:
        net = dj.Network(sizes, "tanh", dtype=dtype)
        net.biases[0][:] = rng.normal(size=sizes[1])
        X = rng.normal(size=(19, sizes[0])).astype(dtype)
        whole = net.predict(X)
        for i in (0, 7, 18):
            np.testing.assert_array_equal(net.predict(X[i]), whole[i], err_msg=str(sizes))
            np.testing.assert_array_equal(net.predict(X[i : i + 1]), whole[i : i + 1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [*HIDDEN, "softmax"])
def test_gradient_against_the_reference(activation, dtype):
    rng = np.random.default_rng(1)
    tolerance = {"float32": 1e-5, "float64": 1e-13}[dtype]
    hidden = "tanh" if activation == "softmax" else activation
    for n, m, k in [(n, m, k) for n in (1, 9, LONG) for m in awkward(dtype) for k in (1, 4, 17)]:
        if activation == "softmax":
            k += 1
        output = "identity" if activation in (*OF_Z, "exp") else activation
        net = dj.Network([n, m, m, k], hidden, output, "auto", 0.1, dtype, rng=2)
        x = rng.normal(size=(1, n)).astype(dtype)
        if activation in ("exp", "hard_tanh"):  # no overflow, and no unit that rounding bends
            x /= 10
        y = np.full((1, k), 0.25, dtype)
        value, grad = net.value_and_grad(x, y)
        expected_value, expected = reference_grad(net, x, y)
        assert relative_error(grad, expected) <= tolerance, (n, m, k)
        assert value == pytest.approx(expected_value, rel=1e-4 if dtype == "float32" else 1e-11)


def test_steps_of_one_sample_are_descent():
    net = dj.Network([3, 20, 2], "tanh", dtype="float64")
    slow = dj.Network([3, 20, 2], "tanh", dtype="float64")
    X, Y = np.random.default_rng(3).normal(size=(2, 5, 3))
    net.fit(X, Y[:, :2], 1, 1, dj.SGD(0.1), shuffle=False, progress=False)
    for x, y in zip(X, Y[:, :2], strict=True):
        slow.theta -= 0.1 * slow.grad(x, y)
    np.testing.assert_allclose(net.theta, slow.theta, rtol=1e-12)
