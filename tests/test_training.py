"""Training: the update rules against NumPy, minibatches, and that networks learn."""

import itertools

import numpy as np
import pytest

import deltajit as dj
from deltajit import reference
from tests.conftest import DTYPES, make_case

RULES = {
    "sgd": dj.SGD(0.1),
    "momentum": dj.SGD(0.1, momentum=0.9),
    "nesterov": dj.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": dj.Adam(0.01),
    "adam, other constants": dj.Adam(0.02, betas=(0.8, 0.99), eps=1e-4),
}


def reference_fit(net, X, Y, optimizer, batches, weights=None):
    """The same training in NumPy, over the given index lists; changes net.theta."""
    parameters = net.reference.weights + net.reference.biases
    first = [np.zeros_like(p) for p in parameters]
    second = [np.zeros_like(p) for p in parameters]
    for step, batch in enumerate(batches, start=1):
        w = None if weights is None else weights[batch]
        _, dW, db = reference.value_and_grad(net.reference, X[batch], Y[batch], w)
        if isinstance(optimizer, dj.Adam):
            o = optimizer
            reference.adam_update(parameters, dW + db, first, second, step, o.lr, o.betas, o.eps)
        else:
            o = optimizer
            reference.sgd_update(parameters, dW + db, first, o.lr, o.momentum, o.nesterov)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [1, 4, 10, 23, 100])
@pytest.mark.parametrize("rule", RULES)
def test_fit_is_the_reference(rule, batch_size, dtype):
    net, X, Y = make_case([3, 5, 2], "tanh", "softmax", "cross_entropy", dtype, 23, l2=0.01)
    twin, _, _ = make_case([3, 5, 2], "tanh", "softmax", "cross_entropy", "float64", 23, l2=0.01)
    twin.theta = net.theta
    history = net.fit(
        X, Y, epochs=3, batch_size=batch_size, optimizer=RULES[rule], rng=7, progress=False
    )
    rng = np.random.default_rng(7)
    orders = [rng.permutation(23) for _ in range(3)]
    batches = [order[i : i + batch_size] for order in orders for i in range(0, 23, batch_size)]
    reference_fit(twin, X, Y, RULES[rule], batches)
    tolerance = {"float32": 3e-5, "float64": 1e-11}[dtype]
    np.testing.assert_allclose(net.theta, twin.theta, rtol=tolerance, atol=tolerance)
    assert len(history.loss) == len(history.time) == 3


def test_fit_with_weights_skips_what_weighs_nothing():
    net, X, Y = make_case([3, 5, 2], "tanh", "identity", "squared_error", "float64", 12)
    twin, _, _ = make_case([3, 5, 2], "tanh", "identity", "squared_error", "float64", 12)
    weights = np.array([1, 2, 3, 4, 0, 0, 0, 0, 1, 0, 2, 5.0])
    optimizer = dj.SGD(0.1, momentum=0.5)
    net.fit(X, Y, epochs=1, batch_size=4, optimizer=optimizer, sample_weight=weights, shuffle=False)
    batches = [np.arange(4), np.arange(8, 12)]  # the middle one has no weight: no step
    reference_fit(twin, X, Y, optimizer, batches, weights)
    np.testing.assert_allclose(net.theta, twin.theta, rtol=1e-12)


def test_history_losses():
    net, X, Y = make_case([3, 5, 2], "tanh", "identity", "squared_error", "float64", 20, l2=0.1)
    before = net.loss(X, Y)
    w = np.arange(1.0, 6)
    validation = (X[:5], Y[:5], w)
    history = net.fit(X, Y, epochs=4, batch_size=20, validation_data=validation)
    assert history.loss[0] == pytest.approx(before, rel=1e-12)
    assert history.loss == sorted(history.loss, reverse=True)
    assert history.val_loss[-1] == pytest.approx(net.loss(X[:5], Y[:5], w), rel=1e-12)
    assert len(history.val_loss) == 4
    assert all(t > 0 for t in history.time)
    assert net.fit(X, Y, epochs=0).loss == []


def test_seeds_decide_the_bits():
    X, Y = np.random.default_rng(0).normal(size=(2, 50, 3))
    thetas = []
    for rng in (1, 1, 2):
        net = dj.Network([3, 8, 3], rng=0)
        net.fit(X, Y, epochs=3, rng=rng)
        thetas.append(net.theta.tobytes())
    assert thetas[0] == thetas[1] != thetas[2]


def test_network_goes_on_with_its_own_generator():
    X, Y = np.random.default_rng(0).normal(size=(2, 50, 3))
    first, second = dj.Network([3, 8, 3], rng=3), dj.Network([3, 8, 3], rng=3)
    optimizer = dj.SGD(0.1)
    first.fit(X, Y, epochs=4, optimizer=optimizer)
    second.fit(X, Y, epochs=2, optimizer=optimizer)
    second.fit(X, Y, epochs=2, optimizer=optimizer)
    np.testing.assert_array_equal(first.theta, second.theta)


def test_chunks_do_not_change_the_bits(monkeypatch):
    X, Y = np.random.default_rng(0).normal(size=(2, 50, 3))
    thetas = []
    for chunk in (1, 1e9):
        monkeypatch.setattr("deltajit.training.CHUNK", chunk)
        net = dj.Network([3, 8, 3], rng=0)
        history = net.fit(X, Y, epochs=3, batch_size=8)
        thetas.append((net.theta.tobytes(), round(history.loss[-1], 12)))
    assert thetas[0] == thetas[1]


def test_xor_is_learnt_by_2_2_1():
    X = np.array(list(itertools.product([0, 1], repeat=2)))
    Y = X[:, 0] ^ X[:, 1]
    net = dj.Network([2, 2, 1], output="sigmoid", rng=1, dtype="float64")
    history = net.fit(X, Y, epochs=2000, batch_size=4, optimizer=dj.Adam(0.05))
    np.testing.assert_array_equal(net.predict(X)[:, 0] > 0.5, Y)
    assert history.loss[-1] < 0.02 < history.loss[0]


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "leaky_relu"])
def test_training_lowers_the_loss(activation, digits):
    net = dj.Network([64, 32, 10], activation, output="softmax")
    history = net.fit(digits.X, digits.Y, epochs=10, optimizer=dj.Adam(3e-3))
    assert history.loss[-1] < history.loss[0] / 5
    accuracy = (net.predict(digits.X_test).argmax(axis=1) == digits.Y_test).mean()
    assert accuracy > 0.93


def test_optimizers_check_their_arguments():
    for make, message in [
        (lambda: dj.SGD(0), "lr must be greater than 0"),
        (lambda: dj.SGD(-1), "lr must be a finite number from 0"),
        (lambda: dj.SGD(0.1, momentum=1), "momentum must be less than 1"),
        (lambda: dj.SGD(0.1, nesterov=True), "nesterov=True needs momentum > 0"),
        (lambda: dj.Adam(betas=(0.9,)), "betas must be two numbers"),
        (lambda: dj.Adam(betas=(0.9, 1.0)), r"betas\[1\] must be less than 1"),
        (lambda: dj.Adam(eps=0), "eps must be greater than 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    assert repr(dj.SGD(0.1, momentum=0.9)) == "SGD(lr=0.1, momentum=0.9, nesterov=False)"


def test_bar_is_shown_only_on_a_terminal(capsys):
    net, X, Y = make_case([3, 2], "tanh", "identity", "squared_error", "float32")
    net.fit(X, Y, epochs=2)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
