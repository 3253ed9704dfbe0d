"""How fit ends when it can't go on: Ctrl-C, and a loss that is not finite."""

import os
import signal
import threading
import time

import numpy as np
import pytest

import deltajit as dj
from tests.helpers import processes

posix = pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")


def data(n=1000, n_in=20):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, n_in)), rng.normal(size=(n, 1))


class Interrupts:
    """A callback: Ctrl-C some time after the first epoch, and the end if it is not heard.

    Its time is that of this process's CPU, which other processes do not change.
    """

    def __init__(self, seconds):
        self.timer = threading.Timer(seconds, self.press)

    def press(self):
        self.pressed = time.process_time()
        os.kill(os.getpid(), signal.SIGINT)

    def on_epoch_end(self, state):
        if state.epoch == 1:
            self.timer.start()
        if self.waited() > 60:
            state.stop()

    def waited(self):
        """CPU seconds since Ctrl-C."""
        return time.process_time() - getattr(self, "pressed", np.inf)


@pytest.fixture
def interrupts():
    """One of them; Ctrl-C is heard even where it is ignored otherwise, as in background jobs."""
    before, callback = signal.signal(signal.SIGINT, signal.default_int_handler), Interrupts(0.2)
    yield callback
    callback.timer.cancel()
    if callback.timer.is_alive():
        callback.timer.join()
    signal.signal(signal.SIGINT, before)


@posix
@pytest.mark.parametrize("batch_size", [1, 50])
def test_ctrl_c_returns_what_there_is(batch_size, interrupts):
    X, Y = data()
    net = dj.Network([20, 16, 1])
    fit = dict(batch_size=batch_size, optimizer=dj.SGD(1e-4), progress=False)
    net.fit(X, Y, 1, **fit, validation_data=(X, Y))  # compiled
    twin = dj.Network([20, 16, 1])
    twin.fit(X, Y, 1, **fit)
    history = net.fit(X, Y, 10**6, **fit, validation_data=(X, Y), callbacks=[interrupts])
    waited = interrupts.waited()
    assert history.interrupted
    assert 0 < len(history.loss) == len(history.val_loss) == len(history.time) < 10**6
    assert waited < 1  # 0.25 s is promised, to a machine that does nothing else
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


@posix
def test_ctrl_c_in_a_full_batch_method(interrupts):
    X, Y = data()
    net = dj.Network([20, 16, 1])
    net.fit(X, Y, 1, optimizer=dj.LevenbergMarquardt(), progress=False)
    history = net.fit(X, Y, 10**6, optimizer=Slow(), progress=False, callbacks=[interrupts])
    assert history.interrupted
    assert net.loss(X, Y) == history.loss[-1]


IGNORES = """
import os, signal
import deltajit as dj
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for a job in the background
class Press:
    def on_epoch_end(self, state):
        os.kill(os.getpid(), signal.SIGINT)
net = dj.Network([1, 3, 1])
history = net.fit([[0.0], [1.0]], [0.0, 1.0], 4, callbacks=[Press()], progress=False)
print(len(history.loss), history.interrupted)
"""


@posix
def test_fit_goes_on_where_ctrl_c_is_ignored():
    assert processes.run("-c", IGNORES).split() == ["4", "False"]


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


# ---------------------------------------------------------------- methods that take all samples

FULL_BATCH = [dj.LBFGS(), dj.LevenbergMarquardt(), dj.Rprop(), dj.GaussNewtonCG(), dj.KFAC()]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e25])
@pytest.mark.parametrize("optimizer", [dj.Adam(), *FULL_BATCH], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_theta_that_no_step_can_help(activation, optimizer, value):
    """Every optimizer says so, and nothing has changed."""
    X, Y = data(50)
    net = dj.Network([20, 4, 1], activation)
    net.theta[:] = np.where(net.theta < 0, -value, value)
    before = net.theta.copy()
    with pytest.raises(dj.DivergedError, match=r"epoch 1, step 1;.*before fit") as caught:
        net.fit(X, Y, 3, 50, optimizer, progress=False)
    np.testing.assert_array_equal(net.theta, before)
    assert caught.value.history.loss == []
    assert net.fit(X, Y, 0, optimizer=optimizer, progress=False).loss == []


@pytest.mark.parametrize("optimizer", FULL_BATCH[:2], ids=lambda x: type(x).__name__)
def test_a_gradient_that_is_not_finite_is_no_end(optimizer):
    """The loss is finite, but no step leads on: it is not as if fit were done."""
    net = dj.Network([1, 1], init="zeros")
    X, Y = [[1e20]], [1e19]
    assert np.isfinite(net.loss(X, Y))
    with pytest.raises(dj.DivergedError, match="epoch 1, step 1"):
        net.fit(X, Y, 3, optimizer=optimizer, progress=False)
    assert not net.theta.any()


class GoesAway:
    """A method that takes one step, and another to where nothing is finite."""

    def minimize(self, objective, theta, epochs, report):
        report(theta + 1, objective.fun(theta))
        report(theta + 1e30, objective.fun(theta + 1))
        report(theta, 0.0)


def test_a_method_of_ones_own_that_diverges():
    X, Y = data(50)
    net = dj.Network([20, 4, 1])
    with pytest.raises(dj.DivergedError, match=r"epoch 3, step 1;.*after epoch 2") as caught:
        net.fit(X, Y, 3, optimizer=GoesAway(), progress=False)
    assert len(caught.value.history.loss) == 2


@pytest.mark.parametrize("dense", [2_000, 0])
@pytest.mark.parametrize("scale", [1e5, 1e12])
def test_a_singular_matrix_is_no_step(scale, dense, monkeypatch):
    """A column that is there twice makes one, once the damping is too small to be seen in it."""
    monkeypatch.setattr("deltajit.training.full_batch.DENSE", dense)
    rng = np.random.default_rng(0)
    column = scale * rng.normal(size=(40, 1))
    X, Y = np.hstack([column, column]), np.abs(column) / scale
    net = dj.Network([2, 4, 1], "relu", dtype="float64", rng=1)
    with np.errstate(all="raise"):
        history = net.fit(X, Y, 30, optimizer=dj.LevenbergMarquardt(damping=1e-12), progress=False)
    assert len(history.loss) > 1
    assert net.loss(X, Y) < history.loss[0] * 1e-3


# ---------------------------------------------------------------- what callbacks are told of ends

METHODS = [dj.SGD(1e-3), dj.LBFGS(), dj.LevenbergMarquardt(), dj.GaussNewtonCG()]
methods = pytest.mark.parametrize("optimizer", METHODS, ids=lambda x: type(x).__name__)


class Worsens:
    """Keeps theta of each epoch, and calls `end` in the third."""

    def __init__(self, end):
        self.end, self.thetas, self.ends = end, [], 0

    def on_epoch_end(self, state):
        self.thetas.append(state.theta.copy())
        if state.epoch == 3:
            self.end(state)

    def on_fit_end(self, state):
        self.ends += 1


def lose(state):
    raise LookupError("lost")


def interrupt(state):
    raise KeyboardInterrupt


def exhaust(state):
    next(iter([]))


def leave(state):
    raise SystemExit


ENDS = [
    (lose, LookupError), (exhaust, StopIteration), (leave, SystemExit), (interrupt, None),
    (lambda state: state.stop(), None),
]  # fmt: skip


@pytest.mark.parametrize(("end", "error"), ENDS)
@methods
def test_the_best_theta_returns_however_fit_ends(optimizer, end, error):
    """And what a callback raises reaches the user, StopIteration among it."""
    X, Y = data(50)
    net = dj.Network([20, 4, 1], dtype="float64")
    worsens, grows = Worsens(end), iter(range(100))
    fit = dict(
        optimizer=optimizer, validation_data=(X, Y), metrics={"grows": lambda *_: next(grows)},
        callbacks=[worsens, dj.EarlyStopping(patience=50, monitor="grows")], progress=False,
    )  # fmt: skip
    if error is None:
        history = net.fit(X, Y, 20, **fit)
        assert len(history.loss) == 3
        assert history.interrupted == (end is interrupt)
    else:
        with pytest.raises(error):
            net.fit(X, Y, 20, **fit)
    assert worsens.ends == 1
    np.testing.assert_array_equal(net.theta, worsens.thetas[0])
    assert not np.array_equal(worsens.thetas[0], worsens.thetas[2])


class Fails:
    """A callback whose own end fails."""

    def on_fit_end(self, state):
        raise LookupError("lost")


class Interrupted:
    """A callback that Ctrl-C meets at the fit's end."""

    def on_fit_end(self, state):
        raise KeyboardInterrupt


@methods
def test_ctrl_c_at_the_end_keeps_the_history(optimizer):
    """And a callback after it is told of the end."""
    X, Y = data(50)
    worsens, net = Worsens(len), dj.Network([20, 1], dtype="float64")
    callbacks = [Interrupted(), worsens]
    history = net.fit(X, Y, 2, optimizer=optimizer, callbacks=callbacks, progress=False)
    assert (len(history.loss), history.interrupted, worsens.ends) == (2, True, 1)


def test_ctrl_c_at_the_end_hides_no_error():
    X, Y = data(50)
    callbacks = [Fails(), Interrupted(), Worsens(lose)]
    with pytest.raises(LookupError, match="lost"):
        dj.Network([20, 1]).fit(X, Y, 5, callbacks=callbacks, progress=False)


def test_an_end_that_fails_does_not_keep_others_from_theirs():
    X, Y = data(50)
    worsens = Worsens(len)
    with pytest.raises(LookupError, match="lost"):
        dj.Network([20, 1]).fit(X, Y, 2, callbacks=[Fails(), worsens], progress=False)
    assert worsens.ends == 1


def test_the_best_theta_returns_when_fit_diverges():
    X, Y = data(100)
    net = dj.Network([20, 1])
    worsens = Worsens(lambda state: None)
    stopping = dj.EarlyStopping(patience=10**6, monitor="loss")
    with pytest.raises(dj.DivergedError) as caught:
        net.fit(
            X, Y, 10**4, 100, dj.SGD(30.0), callbacks=[stopping, worsens], progress=False,
            shuffle=False,
        )  # fmt: skip
    assert (stopping.best_epoch, worsens.ends) == (1, 1)
    assert len(caught.value.history.loss) == len(worsens.thetas) > 2
    np.testing.assert_array_equal(net.theta, worsens.thetas[0])


@methods
def test_a_metric_that_runs_out_is_not_an_end(optimizer):
    X, Y = data(50)
    values = iter([1.0, 2.0])
    with pytest.raises(StopIteration):
        dj.Network([20, 4, 1]).fit(
            X, Y, 20, optimizer=optimizer, validation_data=(X, Y), progress=False,
            metrics={"runs out": lambda *_: next(values)},
        )  # fmt: skip
