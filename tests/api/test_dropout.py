"""Dropout: its gradient is that of the network that is left, and its masks are fair."""

import numpy as np
import pytest

import deltajit as dj
from deltajit import kernels, reference
from tests.helpers.networks import DTYPES, HIDDEN, make_case, relative_error


def dropped(net, keep, seed=3):
    return kernels.Dropout(np.array(keep), np.array([seed], np.uint64))


def gradient_of_a_step(net, X, Y, dropout, weights=None):
    """(loss, gradient): from a step of descent at rate 1."""
    before, rule = net.theta.copy(), dj.SGD(1.0).rule(net.n_params, net.dtype)
    grad, work = np.empty_like(net.theta), net.workspace(len(X))
    total, mass = kernels.fit_epoch(
        net.model, X, Y, np.arange(len(X)), len(X), rule, grad, work, weights, dropout
    )
    found = before - net.theta
    net.theta = before
    return total / mass, found


def masks_of(net, batch, keep, seed=3):
    return reference.dropout_masks(seed, keep, [(batch, n) for n in net.sizes[1:-1]])


@pytest.mark.parametrize("batch", [1, 7, 40])
@pytest.mark.parametrize("activation", HIDDEN)
def test_gradient(activation, batch):
    net, X, Y = make_case(
        [5, 9, 4, 3], activation, "identity", "squared_error", "float64", batch, l2=0.1
    )
    keep = [0.7, 0.4]
    value, grad = gradient_of_a_step(net, X, Y, dropped(net, keep))
    masks = masks_of(net, batch, keep)
    expected, dW, db = reference.value_and_grad(net.reference, X, Y, None, masks)
    assert value == pytest.approx(expected, rel=1e-12)
    assert relative_error(grad, net.flatten(dW, db)) <= 1e-12
    assert relative_error(grad, complex_step(net, X, Y, masks)) <= 1e-9


def test_each_block_leaves_out_others():
    net, X, Y = make_case([5, 9, 4, 3], "tanh", "identity", "squared_error", "float64", 7)
    keep, dropout = [0.7, 0.4], dropped(net, [0.7, 0.4])
    for seed in (3, 3 + 0x9E3779B97F4A7C15):
        _, grad = gradient_of_a_step(net, X, Y, dropout)
        _, dW, db = reference.value_and_grad(
            net.reference, X, Y, None, masks_of(net, 7, keep, seed)
        )
        assert relative_error(grad, net.flatten(dW, db)) <= 1e-12


def complex_step(net, X, Y, masks):
    theta, grad = net.theta.astype(complex), np.empty(net.n_params)
    W, b = net.unflatten(theta)
    model = net.reference._replace(weights=W, biases=b)
    for k in range(net.n_params):
        theta[k] += 1e-30j
        grad[k] = reference.loss(model, X, Y, None, masks).imag / 1e-30
        theta[k] = theta[k].real
    return grad


def test_masks_are_fair():
    """As often as they should be, in every layer, and independent of each other and of the step."""
    masks = [reference.dropout_masks(s, [0.7, 0.4], [(200, 300), (200, 50)]) for s in range(5)]
    for first, second in masks:
        assert abs((first > 0).mean() - 0.7) < 4 * np.sqrt(0.21 / first.size)
        assert abs((second > 0).mean() - 0.4) < 4 * np.sqrt(0.24 / second.size)
        assert np.unique(first).tolist() == [0, 1 / 0.7]
    columns = (masks[0][0] > 0).mean(axis=0)
    assert abs(columns - 0.7).max() < 5 * np.sqrt(0.21 / 200)
    for a, b in [(masks[0][0], masks[1][0]), (masks[0][0][:-1], masks[0][0][1:])]:
        together = ((a > 0) & (b > 0)).mean()
        assert abs(together - 0.49) < 4 * np.sqrt(0.25 / a.size)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fit(dtype):
    """The same bits for the same seed; other units in each step; predictions leave none out."""
    net, X, Y = make_case([3, 30, 30, 2], "relu", "identity", "squared_error", dtype, 300)
    start = net.theta.copy()
    thetas = []
    for rng, dropout in [(0, 0.5), (0, 0.5), (1, 0.5), (0, [0.5, 0.0]), (0, 0.0)]:
        net.theta = start
        history = net.fit(X, Y, 20, 300, dropout=dropout, rng=rng)
        assert len(set(history.loss)) == 20
        thetas.append(net.theta.tobytes())
    assert thetas[0] == thetas[1]
    assert len(set(thetas)) == 4
    np.testing.assert_array_equal(net.predict(X[:5]), net.predict(X)[:5])


def test_no_dropout_is_no_dropout():
    net, X, Y = make_case([3, 8, 2], "tanh", "identity", "squared_error", "float32", 50)
    twin, _, _ = make_case([3, 8, 2], "tanh", "identity", "squared_error", "float32", 50)
    net.fit(X, Y, 3, rng=0, dropout=[0.0])
    twin.fit(X, Y, 3, rng=0)
    np.testing.assert_array_equal(net.theta, twin.theta)


def test_wrong_dropout():
    net, X, Y = make_case([3, 8, 4, 2], "tanh", "identity", "squared_error", "float32")
    for value, message in [
        (1.0, r"dropout\[0\] must be less than 1"),
        (-0.1, r"dropout\[0\] must be a finite number"),
        ([0.1], "dropout must be one share, or one for each of 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            net.fit(X, Y, dropout=value)
    with pytest.raises(ValueError, match="dropout means nothing to LBFGS"):
        net.fit(X, Y, dropout=0.5, optimizer=dj.LBFGS())
    with pytest.raises(ValueError, match="dropout must have a share for each hidden layer"):
        gradient_of_a_step(net, X.astype("f"), Y.astype("f"), dropped(net, [0.5]))
