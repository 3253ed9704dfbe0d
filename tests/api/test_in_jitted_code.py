"""The kernels called from a user's own jitted function."""

import numba
import numpy as np
import pytest
from deltajit.kernels import compiler, status
from deltajit.kernels.mlp import sweeps

import deltajit as dj
from deltajit import kernels
from tests.helpers.networks import DTYPES


@numba.njit
def descend(model, X, Y, steps, lr, grad, work):
    before = kernels.loss(model, X, Y, work)
    for _ in range(steps):
        kernels.sgd_step(model, X, Y, lr, grad, work)
    return before, kernels.value_and_grad(model, X, Y, grad, work)


@pytest.mark.parametrize("dtype", DTYPES)
def test_user_code_trains_the_network_in_place(dtype):
    net = dj.Network([3, 8, 2], dtype=dtype)
    twin = dj.Network([3, 8, 2], dtype=dtype)
    X, Y = (np.random.default_rng(0).normal(size=(20, n)).astype(dtype) for n in (3, 2))
    grad, work = np.empty(net.n_params, dtype), net.workspace(20)
    before, after = descend(net.model, X, Y, 5, 0.1, grad, work)
    assert before == twin.loss(X, Y)
    twin.fit(X, Y, epochs=5, batch_size=20, optimizer=dj.SGD(0.1), shuffle=False)
    np.testing.assert_array_equal(net.theta, twin.theta)
    assert after == net.loss(X, Y) < before


def test_one_compiled_set_for_every_topology():
    """Topology is data: other layers, sizes and names compile nothing."""
    X, Y = np.ones((4, 3)), np.ones((4, 2))
    dj.Network([3, 5, 2], "tanh").value_and_grad(X, Y)
    before = compiler.in_use()
    for sizes in ([3, 2], [3, 4, 2], [3, 6, 5, 7, 2]):
        dj.Network(sizes, "tanh").value_and_grad(X, Y)
    assert compiler.in_use() == before
    dj.Network([3, 5, 2], "softsign").value_and_grad(X, Y)
    added = {name.removesuffix(".float32") for name in compiler.in_use() - before}
    assert added <= {"activations.activate.softsign", "activations.tangent.softsign"}


def test_the_gil_is_released():
    assert all(
        f.targetoptions.get("nogil") for f in (kernels.predict, kernels.fit_epoch, kernels.loss)
    )


def test_a_function_compiled_with_other_kernels_says_so():
    """It hands the kernel another version than theirs."""
    net = dj.Network([2, 3, 1], dtype="float64")
    X, out, work = np.ones((4, 2)), np.zeros((4, 1)), net.workspace(4)
    found = sweeps._predict(status.VERSION + 1, net.model, X, out, work)
    assert found == status.STALE
    assert not out.any()
    with pytest.raises(ValueError, match="compiled with another version of deltajit"):
        status.refuse(found)


@numba.njit
def adam(model, X, Y, rule, grad, work, steps):
    for _ in range(steps):
        kernels.adam_step(model, X, Y, rule, grad, work)


def test_adam_step_is_that_of_fit():
    net, twin = dj.Network([3, 8, 2]), dj.Network([3, 8, 2])
    X, Y = (np.random.default_rng(0).normal(size=(20, n)).astype("float32") for n in (3, 2))
    rule = dj.Adam(0.01).rule(net.n_params, net.dtype)
    adam(net.model, X, Y, rule, np.empty_like(net.theta), net.workspace(20), 5)
    twin.fit(X, Y, 5, 20, dj.Adam(0.01), shuffle=False, progress=False)
    np.testing.assert_array_equal(net.theta, twin.theta)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_sample_may_come_as_vectors(dtype):
    net = dj.Network([3, 8, 2], dtype=dtype)
    x, y = (np.random.default_rng(0).normal(size=n).astype(dtype) for n in (3, 2))
    work, grad, out = net.workspace(1, order=2), np.empty_like(net.theta), np.empty(2, dtype)
    kernels.predict(net.model, x, out, work)
    np.testing.assert_array_equal(out, net.predict(x))
    assert kernels.value_and_grad(net.model, x, y, grad, work) == net.loss(x, y)
    np.testing.assert_array_equal(grad, net.grad(x, y))
    J = np.empty((2, 3), dtype)
    kernels.jacobian(net.model, x, J, work)
    np.testing.assert_array_equal(J, net.jacobian(x))
