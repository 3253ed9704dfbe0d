"""How fit ends when it can't go on: Ctrl-C, and a loss that is not finite."""

import os
import signal
import threading
import time

import numpy as np
import pytest

import deltajit as dj


def data(n=1000, n_in=20):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, n_in)), rng.normal(size=(n, 1))


def interrupt_after(seconds):
    """Ctrl-C, later; returns a list that will hold when it came."""
    moments = []

    def press():
        moments.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Timer(seconds, press).start()
    return moments


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
@pytest.mark.parametrize("batch_size", [1, 50])
def test_ctrl_c_returns_what_there_is(batch_size):
    X, Y = data()
    net = dj.Network([20, 16, 1])
    fit = dict(batch_size=batch_size, optimizer=dj.SGD(1e-4), progress=False)
    net.fit(X, Y, 1, **fit, validation_data=(X, Y))  # compiled
    twin = dj.Network([20, 16, 1])
    twin.fit(X, Y, 1, **fit)
    pressed = interrupt_after(0.3)
    history = net.fit(X, Y, 10**6, **fit, validation_data=(X, Y))
    waited = time.perf_counter() - pressed[0]
    assert history.interrupted
    assert 0 < len(history.loss) == len(history.val_loss) == len(history.time) < 10**6
    assert waited < 2.5  # 0.25 s is promised, to a machine that does nothing else
    # Theta is that of a finished step: some whole number of steps of the twin reaches its bits.
    twin.fit(X, Y, len(history.loss), **fit)
    steps = -(-len(X) // batch_size)
    order = twin._rng.permutation(len(X))
    for step in range(steps + 1):
        if np.array_equal(twin.theta, net.theta):
            return
        batch = order[step * batch_size :][:batch_size]
        twin.fit(X[batch], Y[batch], 1, **fit, shuffle=False)
    raise AssertionError("theta is between two steps")


def test_ctrl_c_in_a_full_batch_method():
    X, Y = data()
    net = dj.Network([20, 16, 1])
    net.fit(X, Y, 1, optimizer=dj.LevenbergMarquardt(), progress=False)
    interrupt_after(0.2)
    history = net.fit(X, Y, 10**6, optimizer=Slow(), progress=False)
    assert history.interrupted
    assert net.loss(X, Y) == history.loss[-1]


class Slow:
    """Takes no step at all, for ever."""

    def minimize(self, objective, theta, epochs, report):
        for _ in range(epochs):
            report(theta, float(objective.fun(theta)))
            time.sleep(1e-3)


@pytest.mark.parametrize("optimizer", [dj.SGD(1e30), dj.SGD(1e30, momentum=0.5)])
def test_divergence_names_the_step_and_restores(optimizer):
    X, Y = data(100)
    net = dj.Network([20, 8, 1], "identity")
    before = net.theta.copy()
    with pytest.raises(dj.DivergedError, match=r"epoch 1, step [23];.*before fit") as caught:
        net.fit(X, Y, 5, 10, optimizer, progress=False)
    np.testing.assert_array_equal(net.theta, before)
    assert caught.value.epoch == 1
    assert caught.value.history.loss == []


def test_divergence_in_a_later_epoch():
    """The learning rate doubles what is wrong each epoch: it takes some to overflow."""
    X, Y = data(100)
    net = dj.Network([20, 1])
    fit = dict(batch_size=100, optimizer=dj.SGD(30.0), progress=False, shuffle=False)
    with pytest.raises(dj.DivergedError) as caught:
        net.fit(X, Y, 10**4, **fit)
    good = caught.value.epoch - 1
    assert good > 2
    assert caught.value.step == 1
    assert len(caught.value.history.loss) == good
    twin = dj.Network([20, 1])
    twin.fit(X, Y, good, **fit)
    np.testing.assert_array_equal(net.theta, twin.theta)


def test_last_step_that_overflows_is_noticed():
    net = dj.Network([1, 1])
    before = net.theta.copy()
    with pytest.raises(dj.DivergedError, match="epoch 1, step 1"):
        net.fit([[1e15]], [[0.0]], 1, 1, dj.SGD(3e38), progress=False)
    np.testing.assert_array_equal(net.theta, before)
