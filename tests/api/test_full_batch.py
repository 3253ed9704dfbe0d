"""net.objective with scipy.optimize, and the optimizers that take every step on all samples."""

import numpy as np
import pytest
from scipy.optimize import least_squares, minimize

import deltajit as dj
from tests.helpers.networks import make_case, relative_error


def wave(dtype="float64", sizes=(1, 12, 1), l2=0.0):
    """A network and samples of a curve that it can fit."""
    net = dj.Network(list(sizes), "tanh", dtype=dtype, l2=l2, rng=3)
    X = np.linspace(-1, 1, 60)[:, None]
    return net, X, np.sin(3 * X)


def test_functions_of_theta_are_the_networks():
    net, X, Y = make_case([4, 6, 3], "tanh", "softmax", "cross_entropy", "float64", l2=0.1)
    w = np.linspace(1, 2, len(X))
    f, v = net.objective(X, Y, w), np.arange(net.n_params) / net.n_params
    other = net.theta + 0.1
    for theta in (net.theta.copy(), other, other):
        net.theta = theta
        value, grad = net.value_and_grad(X, Y, w)
        assert f.fun(theta) == value
        np.testing.assert_array_equal(f.jac(theta), grad)
        np.testing.assert_allclose(f.hessp(theta, v), net.hvp(X, Y, v, w), rtol=1e-12, atol=1e-15)
    f.fun(other + 1)
    np.testing.assert_array_equal(net.theta, other)


@pytest.mark.parametrize("method", ["L-BFGS-B", "Newton-CG", "trust-ncg"])
def test_minimize(method):
    net, X, Y = wave()
    f = net.objective(X, Y)
    hessp = None if method == "L-BFGS-B" else f.hessp
    options = {"maxiter": 200}
    found = minimize(
        f.fun_and_jac, net.theta, jac=True, hessp=hessp, method=method, options=options
    )
    assert found.fun < 0.01 * net.loss(X, Y)
    net.theta = found.x
    assert net.loss(X, Y) == pytest.approx(found.fun)


@pytest.mark.parametrize("l2", [0.0, 1e-3])
def test_residuals_are_of_the_loss(l2):
    net, X, Y = wave(l2=l2)
    w = np.linspace(1, 2, len(X))
    f = net.objective(X, Y, w)
    r, J = f.residuals(net.theta), f.residuals_jac(net.theta)
    assert (r**2).sum() / 2 == pytest.approx(net.loss(X, Y, w), rel=1e-13)
    assert relative_error(J.T @ r, net.grad(X, Y, w)) <= 1e-12
    v = np.cos(np.arange(net.n_params))
    assert relative_error(J.T @ (J @ v), net.gnvp(X, Y, v, w)) <= 1e-12
    np.testing.assert_allclose(f.gauss_newton(net.theta, 100), J.T @ J, rtol=1e-11, atol=1e-14)


def test_least_squares():
    net, X, Y = wave()
    f = net.objective(X, Y)
    found = least_squares(f.residuals, net.theta, jac=f.residuals_jac, max_nfev=60)
    assert found.cost < 1e-3 * net.loss(X, Y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", [dj.LBFGS(), dj.LevenbergMarquardt()])
def test_fit_on_all_samples(optimizer, dtype):
    net, X, Y = wave(dtype)
    before = net.loss(X, Y)
    seen = net.fit(X, Y, epochs=100, optimizer=optimizer, validation_data=(X, Y), progress=False)
    assert seen.loss[0] == pytest.approx(before, rel=1e-6)
    assert net.loss(X, Y) < 1e-3 * before
    assert seen.val_loss[-1] == pytest.approx(net.loss(X, Y), rel=1e-6)
    assert len(seen.loss) == len(seen.val_loss) == len(seen.time) <= 100
    if isinstance(optimizer, dj.LevenbergMarquardt):
        assert sorted(seen.loss, reverse=True) == seen.loss


def test_marquardt_reaches_what_gradient_descent_does_not():
    net, X, Y = wave()
    net.fit(X, Y, epochs=100, optimizer=dj.LevenbergMarquardt(), progress=False)
    other, _, _ = wave()
    other.fit(X, Y, epochs=100, optimizer=dj.Adam(0.01), batch_size=60, progress=False)
    assert net.loss(X, Y) < 1e-3 * other.loss(X, Y)


def test_marquardt_by_products_and_by_matrix(monkeypatch):
    losses = []
    for dense in (2_000, 0):
        monkeypatch.setattr("deltajit.training.full_batch.DENSE", dense)
        net, X, Y = wave()
        net.fit(X, Y, epochs=8, optimizer=dj.LevenbergMarquardt(), progress=False)
        losses.append(net.loss(X, Y))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_marquardt_needs_squares():
    net, X, Y = make_case([4, 6, 3], "tanh", "softmax", "cross_entropy", "float64")
    before = net.theta.copy()
    with pytest.raises(ValueError, match="squared_error"):
        net.fit(X, Y, optimizer=dj.LevenbergMarquardt(), progress=False)
    np.testing.assert_array_equal(net.theta, before)


def test_bad_options():
    with pytest.raises(ValueError, match="damping"):
        dj.LevenbergMarquardt(damping=0)
    with pytest.raises(ValueError, match="history"):
        dj.LBFGS(history=0)


def test_it_keeps_samples_of_its_own():
    net, X, Y = wave()
    w, p = np.ones(len(X)), np.linspace(-1, 1, net.n_params)
    f, t = net.objective(X, Y, w), net.theta + 0.1
    product, grad = f.hessp(t, p), f.jac(t)
    G, r, J = f.gauss_newton_product(t, p), f.residuals(t), f.residuals_jac(t)
    X *= 2
    Y += 1
    w[:30] = 3
    for theta in (t, t + 1, t):
        found = f.hessp(theta, p), f.jac(theta), f.gauss_newton_product(theta, p)
        found += f.residuals(theta), f.residuals_jac(theta)
        if theta is t:
            for one, expected in zip(found, (product, grad, G, r, J), strict=True):
                np.testing.assert_array_equal(one, expected)


def test_residuals_are_not_of_l1():
    net, X, Y = wave()
    net = dj.Network(net.sizes, dtype="float64", l1=0.1)
    f = net.objective(X, Y)
    for function in (f.residuals, f.residuals_jac):
        with pytest.raises(ValueError, match=r"residuals need l1=0, got l1=0\.1"):
            function(net.theta)
    assert f.fun(net.theta) == net.loss(X, Y)
