"""Callbacks: what they see of fit, and what they may do to it."""

import numpy as np
import pytest

import deltajit as dj
from tests.helpers.networks import make_case


def problem(**options):
    """A network and data that it can overfit: few samples, of noise."""
    net, X, Y = make_case([3, 16, 2], "tanh", "identity", "squared_error", "float64", 40, **options)
    return net, X[:20], Y[:20], (X[20:], Y[20:])


class Recorder(dj.callbacks.Callback):
    """Writes down what it is told."""

    def __init__(self, stop_at=None):
        self.events, self.stop_at = [], stop_at

    def on_fit_begin(self, state):
        self.events.append(("begin", state.epoch, state.epochs))

    def on_epoch_end(self, state):
        theta = state.theta.copy()
        self.events.append(("epoch", state.epoch, state.loss, state.val_loss, state.lr, theta))
        if state.epoch == self.stop_at:
            state.stop()

    def on_fit_end(self, state):
        self.events.append(("end", state.epoch))


def test_what_a_callback_sees():
    net, X, Y, held_out = problem()
    recorder = Recorder()
    history = net.fit(X, Y, 3, validation_data=held_out, callbacks=[recorder])
    first, *epochs, last = recorder.events
    assert (first, last) == (("begin", 0, 3), ("end", 3))
    assert [x[1] for x in epochs] == [1, 2, 3]
    assert [x[2] for x in epochs] == history.loss
    assert [x[3] for x in epochs] == history.val_loss
    assert [x[4] for x in epochs] == [1e-3] * 3
    np.testing.assert_array_equal(epochs[-1][5], net.theta)


def test_an_object_with_one_method_will_do():
    net, X, Y, _ = problem()
    seen = []

    class Own:
        def on_epoch_end(self, state):
            seen.append(state.net.loss(X, Y))

    net.fit(X, Y, 2, callbacks=[Own()])
    assert seen[-1] == net.loss(X, Y)


METHODS = [None, dj.LBFGS(), dj.LevenbergMarquardt(), dj.KFAC()]
methods = pytest.mark.parametrize("optimizer", METHODS, ids=str)


@methods
def test_stop(optimizer):
    net, X, Y, held_out = problem()
    history = net.fit(
        X, Y, 30, optimizer=optimizer, validation_data=held_out,
        callbacks=[StopAt(4)],
    )  # fmt: skip
    assert len(history.loss) == len(history.val_loss) == 4


@methods
@pytest.mark.parametrize("epochs", [0, 3])
def test_no_epoch(optimizer, epochs):
    """None is asked for, or a callback stops fit before the first: no weight moves."""
    net, X, Y, _ = problem()
    before = net.theta.copy()
    history = net.fit(X, Y, epochs, optimizer=optimizer, callbacks=[StopsFirst()] if epochs else [])
    assert history.to_dict() == {}
    np.testing.assert_array_equal(net.theta, before)


class StopsFirst:
    def on_fit_begin(self, state):
        state.stop()


class StopAt:
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, state):
        if state.epoch == self.epoch:
            state.stop()


def test_lr_may_be_set():
    net, X, Y, _ = problem()

    class Halve:
        def on_epoch_end(self, state):
            state.lr /= 2

    history = net.fit(X, Y, 3, 5, dj.SGD(0.08), callbacks=[Halve()], schedule=None)
    assert history.lr == [0.08, 0.04, 0.02]
    schedule = dj.schedules.StepDecay(1, 0.1)
    history = net.fit(X, Y, 3, 5, dj.SGD(0.08), callbacks=[Halve()], schedule=schedule)
    np.testing.assert_allclose(history.lr, [0.008, 0.0004, 0.0002])


class Sets:
    """Sets the learning rate when fit begins, or after an epoch."""

    def __init__(self, lr, epoch):
        self.lr, self.epoch = lr, epoch

    def on_fit_begin(self, state):
        self.on_epoch_end(state)

    def on_epoch_end(self, state):
        if state.epoch == self.epoch:
            state.lr = self.lr
            self.read = state.lr


class Gives:
    """A schedule of any factors."""

    def __init__(self, factors):
        self.found = factors

    def factors(self, epochs, total):
        return self.found


@pytest.mark.parametrize("lr", [-1, np.nan, np.inf, -np.inf, "0.1", None])
@pytest.mark.parametrize("schedule", [None, dj.schedules.ExponentialDecay(0.5)], ids=str)
@pytest.mark.parametrize("epoch", [0, 2])
def test_a_wrong_lr_is_refused(lr, schedule, epoch):
    net, X, Y, _ = problem()
    twin, *_ = problem()
    twin.fit(X, Y, epoch, 5, schedule=schedule)
    with pytest.raises((ValueError, TypeError), match="lr must be a"):
        net.fit(X, Y, 4, 5, schedule=schedule, callbacks=[Sets(lr, epoch)])
    np.testing.assert_array_equal(net.theta, twin.theta)


def test_lr_may_be_zero_and_is_what_was_set():
    net, X, Y, _ = problem()
    schedule = dj.schedules.ExponentialDecay(0.9)
    sets = Sets(0.1, 1)
    net.fit(X, Y, 3, 5, dj.SGD(0.3), schedule=schedule, callbacks=[sets])
    assert sets.read == 0.1
    theta = net.theta.copy()
    history = net.fit(X, Y, 3, 5, dj.SGD(0.3), schedule=schedule, callbacks=[Sets(0, 0)])
    assert history.lr == [0, 0, 0]
    np.testing.assert_array_equal(net.theta, theta)
    with pytest.raises(ValueError, match="lr=1e\\+308 would scale later rates"):
        net.fit(X, Y, 3, 5, schedule=Gives(np.arange(12) + 1), callbacks=[Sets(1e308, 0)])


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (-1.0, "must give finite factors >= 0, got -1.0 for update 1 of 12"),
        ([1.0] * 11 + [-1e-9], "got -1e-09 for update 12 of 12"),
        ([1.0] * 5 + [np.nan] * 7, "got nan for update 6 of 12"),
        (np.inf, "got inf for update 1"),
        (np.ones(11), "one number, or 12, one an update; got float64 \\(11,\\)"),
        (np.ones((12, 1)), "one number, or 12"),
        (["a"] * 12, "one number, or 12"),
    ],
)
def test_wrong_schedules_are_refused(factors, message):
    net, X, Y, _ = problem()
    before = net.theta.copy()
    with pytest.raises(ValueError, match=f"schedule=.*Gives.*{message}"):
        net.fit(X, Y, 3, 5, schedule=Gives(factors))
    np.testing.assert_array_equal(net.theta, before)


def test_schedules_may_give_one_number():
    net, X, Y, _ = problem()
    history = net.fit(X, Y, 2, 5, dj.SGD(0.5), schedule=Gives(0.5))
    assert history.lr == [0.25, 0.25]


def test_early_stopping_restores_the_best():
    net, X, Y, held_out = problem()
    stopping, recorder = dj.EarlyStopping(patience=5), Recorder()
    optimizer = dj.Adam(0.02)
    history = net.fit(
        X, Y, 500, 5, optimizer, validation_data=held_out, callbacks=[stopping, recorder], rng=0
    )
    best = int(np.argmin(history.val_loss))
    assert len(history.loss) == best + 1 + 5 < 500
    assert (stopping.best, stopping.best_epoch) == (history.val_loss[best], best + 1)
    np.testing.assert_array_equal(net.theta, recorder.events[1 + best][5])
    assert net.loss(*held_out) == pytest.approx(stopping.best, rel=1e-14)


def test_early_stopping_options():
    net, X, Y, held_out = problem()
    history = net.fit(X, Y, 50, callbacks=[dj.EarlyStopping(3, min_delta=10, monitor="loss")])
    assert len(history.loss) == 1 + 3  # the first is better than nothing
    stopping = dj.EarlyStopping(2, restore_best=False)
    recorder = Recorder()
    net.fit(X, Y, 400, 5, dj.Adam(0.02), validation_data=held_out, callbacks=[stopping, recorder])
    np.testing.assert_array_equal(net.theta, recorder.events[-2][5])


def test_an_instance_serves_fit_after_fit():
    _, X, Y, held_out = problem()
    stopping = dj.EarlyStopping(patience=2)
    counts = []
    for _ in range(2):
        twin, *_ = problem()
        history = twin.fit(
            X, Y, 300, 5, dj.Adam(0.02), validation_data=held_out, callbacks=[stopping], rng=0
        )
        counts.append(len(history.loss))
    assert counts[0] == counts[1]


def test_plateaus():
    net, X, Y, _ = problem()
    plateau = dj.ReduceLROnPlateau(0.5, patience=2, min_delta=1e9, monitor="loss", min_lr=0.02)
    history = net.fit(X, Y, 8, 5, dj.SGD(0.08), callbacks=[plateau])
    assert history.lr == [0.08, 0.08, 0.08, 0.04, 0.04, 0.02, 0.02, 0.02]


def test_metrics():
    net, X, Y, held_out = problem()
    metrics = {"mae": lambda y, out: np.abs(y - out).mean()}
    history = net.fit(X, Y, 3, validation_data=held_out, metrics=metrics)
    assert history.metrics["mae"][-1] == np.abs(held_out[1] - net.predict(held_out[0])).mean()
    assert list(history.to_dict()) == ["loss", "val_loss", "mae", "lr", "time"]
    stopped = net.fit(
        X, Y, 60, validation_data=held_out, metrics={"worse": lambda *_: 1.0},
        callbacks=[dj.EarlyStopping(3, monitor="worse")],
    )  # fmt: skip
    assert len(stopped.loss) == 4


def test_metrics_of_targets_in_one_axis_get_outputs_in_one():
    net, X, Y = dj.Network([3, 4, 1]), np.ones((20, 3)), np.arange(20.0)
    shapes = []

    def error(y, out):
        shapes.append((y - out).shape)
        return np.abs(y - out).mean()

    net.fit(X, Y, 1, validation_data=(X, Y), metrics={"mae": error}, progress=False)
    net.fit(X, Y, 1, validation_data=(X, Y[:, None]), metrics={"mae": error}, progress=False)
    assert shapes == [(20,), (20, 1)]


def test_metrics_get_labels_as_they_were_given():
    net, X, _, _ = problem()
    net = dj.Network([3, 4, 3], output="softmax")
    labels = np.arange(20) % 3
    seen = []

    def accuracy(y, out):
        seen.append(y)
        return (out.argmax(axis=1) == y).mean()

    net.fit(X, labels, 1, validation_data=(X, labels), metrics={"accuracy": accuracy})
    np.testing.assert_array_equal(seen[0], labels)


class NoState:
    def on_epoch_end(self):
        pass


class NoFunction:
    on_fit_end = 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"callbacks": dj.EarlyStopping()}, TypeError, "callbacks must be a list"),
        ({"callbacks": [dj.EarlyStopping]}, TypeError, r"callbacks\[0\] must have a method"),
        ({"callbacks": [3]}, TypeError, r"callbacks\[0\] must have a method"),
        ({"callbacks": [dj.EarlyStopping()]}, ValueError, "no 'val_loss'.*needs validation_data"),
        ({"metrics": {"a": len}}, ValueError, "metrics are taken on validation_data"),
        ({"metrics": {"a": 1}}, TypeError, "metrics must be a dict of functions"),
        ({"schedule": "cosine"}, TypeError, "schedule must be one such as"),
        ({"clip_norm": 0}, ValueError, "clip_norm must be greater than 0"),
        ({"resume": True}, ValueError, "resume=True needs checkpoint"),
        ({"optimizer": dj.LBFGS(), "resume": True}, ValueError, "resume=True needs checkpoint"),
        ({"optimizer": dj.LBFGS(), "dropout": [0.1]}, ValueError, "dropout means nothing to LBFGS"),
        ({"callbacks": [NoState()]}, TypeError, r"on_epoch_end must take \(state\)"),
        ({"callbacks": [StopAt(1), NoFunction()]}, TypeError, r"callbacks\[1\].on_fit_end must be"),
        ({"optimizer": dj.LBFGS(), "clip_norm": 1}, ValueError, "clip_norm means nothing to LBFGS"),
        (
            {"schedule": dj.schedules.CosineDecay(warmup=10)},
            ValueError,
            "warmup must be less than epochs=10",
        ),
    ],
)
def test_wrong_options(options, error, message):
    net, X, Y, _ = problem()
    before = net.theta.copy()
    with pytest.raises(error, match=message):
        net.fit(X, Y, **options)
    np.testing.assert_array_equal(net.theta, before)


@methods
def test_an_epoch_that_can_not_be_noted_is_none(optimizer):
    """Theta is as before, where it is the first."""
    net, X, Y, held_out = problem()
    before = net.theta.copy()
    fit = dict(optimizer=optimizer, validation_data=held_out, callbacks=[StopAt(1)])
    with pytest.raises(TypeError, match=r"metrics\['a'\] must return a number, got array"):
        net.fit(X, Y, 3, **fit, metrics={"a": lambda y, outputs: y - outputs})
    np.testing.assert_array_equal(net.theta, before)
    history = net.fit(X, Y, 3, **fit, metrics={"a": lambda *_: np.array([[1.0]])})
    assert history.metrics["a"] == [1.0]


def test_callbacks_check_their_arguments():
    for make, message in [
        (lambda: dj.EarlyStopping(0), "patience must be >= 1"),
        (lambda: dj.EarlyStopping(min_delta=-1), "min_delta must be"),
        (lambda: dj.ReduceLROnPlateau(1.0), "factor must be less than 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()


def test_history_of_an_epoch_is_noted_as_a_whole():
    """Ctrl-C may come between two of its numbers."""
    net, X, Y, held_out = problem()
    calls = iter([1.0, 1.0, KeyboardInterrupt])

    def metric(y, outputs):
        value = next(calls)
        if value is KeyboardInterrupt:
            raise value
        return value

    history = net.fit(X, Y, 5, validation_data=held_out, metrics={"metric": metric})
    assert history.interrupted
    assert {name: len(column) for name, column in history.to_dict().items()} == dict.fromkeys(
        ["loss", "val_loss", "metric", "lr", "time"], 2
    )


# -------------------------------------------------------------------- averages of theta


class Thetas(dj.callbacks.Callback):
    """Keep theta of each epoch."""

    def on_fit_begin(self, state):
        self.kept = []

    def on_epoch_end(self, state):
        self.kept.append(state.theta.astype("float64"))


@pytest.mark.parametrize("decay", [None, 0.7])
def test_weights_are_averaged(decay, tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 2))

    def fit(epochs, **options):
        net, average, thetas = dj.Network([2, 4, 1]), dj.WeightAveraging(3, decay), Thetas()
        callbacks = [average, thetas]
        net.fit(X, X[:, 0] * X[:, 1], epochs, callbacks=callbacks, progress=False, **options)
        return net, average, thetas.kept

    net, average, thetas = fit(8)
    expected = np.mean(thetas[2:], axis=0)
    if decay is not None:
        expected = thetas[2]
        for theta in thetas[3:]:
            expected = 0.7 * expected + 0.3 * theta
    assert average.count == 6
    np.testing.assert_allclose(average.theta, expected, rtol=1e-12)
    np.testing.assert_array_equal(net.theta, average.theta.astype("float32"))
    net, _, thetas = fit(2)
    np.testing.assert_array_equal(net.theta, thetas[-1])  # too short for an average
    fit(5, checkpoint=tmp_path / "run")
    resumed, *_ = fit(8, checkpoint=tmp_path / "run", resume=True)
    whole, *_ = fit(8)
    np.testing.assert_array_equal(resumed.theta, whole.theta)


@pytest.mark.parametrize("arguments", [{"start": 0}, {"decay": 1.0}, {"decay": -0.1}])
def test_wrong_averages_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        dj.WeightAveraging(**arguments)
