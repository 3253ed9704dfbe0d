"""Checkpoints: a fit that is killed at any moment goes on to the same bits."""

import copy
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from matplotlib.figure import Figure

import deltajit as dj
from tests.helpers import processes
from tests.helpers.networks import make_case


def fit(path=None, epochs=8, optimizer=None, resume=False, batch_size=4, **options):
    """(theta, history, early stopping) of a fit that has something of everything."""
    net, X, Y = make_case([3, 9, 2], "tanh", "identity", "squared_error", "float32", 30)
    stopping = dj.EarlyStopping(patience=30)
    history = net.fit(
        X[:20], Y[:20], epochs, batch_size, optimizer or dj.Adam(0.02),
        validation_data=(X[20:], Y[20:]), metrics={"mae": lambda y, o: abs(y - o).mean()},
        callbacks=[stopping, dj.ReduceLROnPlateau(patience=2), *options.pop("callbacks", [])],
        checkpoint=path, resume=resume, **options,
    )  # fmt: skip
    return net.theta, history, stopping


class Dies:
    """A callback that ends the process, as far as fit can see."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, state):
        if state.epoch == self.epoch:
            raise RuntimeError("dead")


OPTIMIZERS = [dj.SGD(0.05), dj.SGD(0.05, 0.9), dj.Adam(0.02), dj.Rprop(), dj.Lion(0.01), dj.KFAC()]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("every", [1, 3])
def test_a_fit_goes_on_to_the_same_bits(optimizer, every, tmp_path):
    path = tmp_path / "run.ckpt"
    whole, history, stopping = fit(optimizer=optimizer)
    with pytest.raises(RuntimeError, match="dead"):
        fit(path, optimizer=optimizer, every=every, callbacks=[Dies(5)])
    theta, resumed, again = fit(path, optimizer=optimizer, every=every, resume=True)
    assert theta.tobytes() == whole.tobytes()
    assert resumed.loss == history.loss
    assert resumed.val_loss == history.val_loss
    assert (resumed.metrics, resumed.lr) == (history.metrics, history.lr)
    assert (again.best, again.best_epoch) == (stopping.best, stopping.best_epoch)


def test_more_epochs(tmp_path):
    """A finished fit goes on where more epochs are asked for, and is left alone where not."""
    path = tmp_path / "run.ckpt"
    fit(path, 5)
    theta, history, _ = fit(path, 8, resume=True)
    assert theta.tobytes() == fit(epochs=8)[0].tobytes()
    again, unchanged, _ = fit(path, 8, resume=True)
    assert (again.tobytes(), unchanged.loss) == (theta.tobytes(), history.loss)


class Explodes:
    """A callback that makes the epoch after a checkpoint the first to diverge, or a later one."""

    def __init__(self, epoch):
        self.epoch = epoch

    def _look(self, state):
        if state.epoch == self.epoch:
            state.theta[:] = 1e30

    on_fit_resume = on_epoch_end = _look


@pytest.mark.parametrize(("epoch", "where"), [(5, "before fit"), (6, "after epoch 6")])
def test_divergence_says_where_theta_went_back_to(epoch, where, tmp_path):
    path = tmp_path / "run.ckpt"
    net, X, Y = make_case([3, 9, 2], "tanh", "identity", "squared_error", "float32", 30)
    net.fit(X, Y, 5, checkpoint=path)
    before = net.theta.copy()
    with pytest.raises(dj.DivergedError, match=f"what it was {where}"):
        net.fit(X, Y, 9, checkpoint=path, resume=True, callbacks=[Explodes(epoch)])
    assert (net.theta == before).all() == (epoch == 5)


def test_with_a_schedule(tmp_path):
    path, schedule = tmp_path / "run.ckpt", dj.schedules.CosineDecay(warmup=2)
    whole, _, _ = fit(schedule=schedule)
    with pytest.raises(RuntimeError, match="dead"):
        fit(path, schedule=schedule, callbacks=[Dies(5)])
    assert fit(path, schedule=schedule, resume=True)[0].tobytes() == whole.tobytes()
    with pytest.raises(ValueError, match="is of another fit"):
        fit(path, 9, schedule=schedule, resume=True)


def test_with_dropout(tmp_path):
    path = tmp_path / "run.ckpt"
    whole, _, _ = fit(dropout=0.3)
    with pytest.raises(RuntimeError, match="dead"):
        fit(path, dropout=0.3, callbacks=[Dies(5)])
    assert fit(path, dropout=0.3, resume=True)[0].tobytes() == whole.tobytes()


def test_without_a_file_it_begins(tmp_path):
    path = tmp_path / "run.ckpt"
    assert fit(path, resume=True)[0].tobytes() == fit()[0].tobytes()
    assert [x.name for x in tmp_path.iterdir()] == ["run.ckpt"]


@pytest.mark.parametrize("change", [{"batch_size": 5}, {"optimizer": dj.SGD()}, {"shuffle": False}])
def test_another_fit_is_refused(change, tmp_path):
    path = tmp_path / "run.ckpt"
    fit(path, 2)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="is of another fit: it has"):
        fit(path, resume=True, **change)
    assert path.read_bytes() == before


def test_other_callbacks_are_refused(tmp_path):
    path = tmp_path / "run.ckpt"
    fit(path, 2)
    net = make_case([3, 9, 2], "tanh", "identity", "squared_error", "float32")[0]
    before = net.theta.copy()
    X, Y = np.zeros((20, 3)), np.zeros((20, 2))
    with pytest.raises(ValueError, match=r"with other callbacks: \['EarlyStopping', 'Reduce"):
        net.fit(X, Y, 8, 4, dj.Adam(0.02), checkpoint=path, resume=True)
    np.testing.assert_array_equal(net.theta, before)


@pytest.mark.parametrize("how", ["empty", "cut", "garbage", "other"])
def test_what_is_no_checkpoint_is_refused(how, tmp_path):
    path = tmp_path / "run.ckpt"
    fit(path, 2)
    whole = path.read_bytes()
    other = whole.replace(b"deltajit checkpoint 1", b"deltajit checkpoint 7")
    path.write_bytes({"empty": b"", "cut": whole[:-9], "garbage": b"x" * 99, "other": other}[how])
    with pytest.raises(dj.FormatError, match="is not a checkpoint"):
        fit(path, resume=True)


WRONG = [1, "x", [], {}, [1], [None], {"a": 1}, ["x"] * 2, [["x", 1]], [1, 2, 3]]
PLACES = [("history", name) for name in ("loss", "val_loss", "metrics", "lr", "time")]
PLACES += [(name,) for name in ("fit", "history", "rng", "callbacks")]


@pytest.mark.parametrize("place", PLACES, ids="-".join)
def test_text_of_the_wrong_kind_is_refused(place, tmp_path):
    """Before anything is changed, and by an error that names the file."""
    path = tmp_path / "run.ckpt"
    fit(path, 2)
    arrays, content = safetensors.numpy.load_file(path), path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["deltajit"])
    for wrong in WRONG:
        bad = copy.deepcopy(text)
        inner = bad[place[0]] if len(place) == 2 else bad
        if isinstance(wrong, list if place[-1] != "metrics" else dict) and not wrong:
            continue  # as an empty column, or no metrics
        inner[place[-1]] = wrong
        path.write_bytes(safetensors.numpy.save(arrays, {"deltajit": json.dumps(bad)}))
        with pytest.raises(ValueError, match=r"run\.ckpt"):
            fit(path, resume=True)


def test_a_nested_text_is_refused(tmp_path):
    path = tmp_path / "run.ckpt"
    fit(path, 2)
    arrays = safetensors.numpy.load_file(path)
    path.write_bytes(safetensors.numpy.save(arrays, {"deltajit": "[" * 100_000}))
    with pytest.raises(dj.FormatError, match="is not a checkpoint"):
        fit(path, resume=True)


# ---------------------------------------------------------------- the same fit, by value


class Halves:
    """A schedule of one's own: its repr is an address."""

    def __init__(self, factor=0.5):
        self.factor, self.calls = factor, 0

    def factors(self, epochs, total):
        self.calls += 1
        return self.factor ** (epochs // 1)


class Plain:
    """An optimizer of one's own, likewise."""

    def __init__(self, lr):
        self.lr = lr

    def rule(self, n_params, dtype):
        return dj.SGD(self.lr).rule(n_params, dtype)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"clip_norm": 1}, {"clip_norm": 1.0}),
        ({"dropout": 0.2}, {"dropout": [0.2]}),
        ({"dropout": 0}, {"dropout": np.zeros(1)}),
        ({"optimizer": dj.Adam(1)}, {"optimizer": dj.Adam(1.0)}),
        (
            {"optimizer": dj.Adam(0.02, betas=(0.9, 0.99))},
            {"optimizer": dj.Adam(np.float64(0.02), betas=[0.9, np.float64(0.99)])},
        ),
        ({"optimizer": dj.Rprop()}, {"optimizer": dj.Rprop(), "batch_size": 7}),
        ({"batch_size": 20}, {"batch_size": 100}),
        ({"optimizer": Plain(0.05)}, {"optimizer": Plain(0.05)}),
        ({"schedule": Halves()}, {"schedule": Halves()}),
        ({"schedule": Halves()}, {"schedule": dj.schedules.StepDecay(1, 0.5)}),
        ({"schedule": dj.schedules.StepDecay(1)}, {"schedule": dj.schedules.StepDecay(1, 0.1)}),
        ({"shuffle": False}, {"shuffle": 0}),
    ],
)
def test_the_same_fit_in_other_words(first, then, tmp_path):
    path = tmp_path / "run.ckpt"
    whole = fit(**first)[0]
    with pytest.raises(RuntimeError, match="dead"):
        fit(path, callbacks=[Dies(5)], **first)
    assert fit(path, resume=True, **then)[0].tobytes() == whole.tobytes()


@pytest.mark.parametrize(
    ("first", "then", "name"),
    [
        ({"clip_norm": 1}, {"clip_norm": 2}, "clip_norm=1.0, where this one has clip_norm=2.0"),
        ({"clip_norm": 1}, {}, "clip_norm=1.0"),
        ({"dropout": 0.2}, {"dropout": 0.3}, "dropout"),
        ({}, {"dropout": 0.2}, "dropout"),
        ({"optimizer": Plain(0.05)}, {"optimizer": Plain(0.06)}, "lr=0.05"),
        ({"optimizer": Plain(0.05)}, {"optimizer": dj.SGD(0.05)}, "optimizer='Plain'"),
        ({"optimizer": dj.SGD(1, 0.5)}, {"optimizer": dj.SGD(1, 0.6)}, "hyper"),
        ({"schedule": Halves()}, {"schedule": Halves(0.4)}, "rates"),
        ({"schedule": Halves()}, {}, "rates"),
        ({}, {"schedule": dj.schedules.CosineDecay()}, "rates"),
        ({"schedule": Halves(), "epochs": 4}, {"schedule": Halves()}, "epochs=4"),
    ],
)
def test_a_fit_of_other_values_is_refused(first, then, name, tmp_path):
    path = tmp_path / "run.ckpt"
    fit(path, **{"epochs": 3, **first})
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"is of another fit: it has.*{name}"):
        fit(path, resume=True, **{"epochs": 3, **then})
    assert path.read_bytes() == before


def noise():
    """A network that soon overfits, and a fit with early stopping."""
    net, X, Y = make_case([3, 16, 2], "tanh", "identity", "squared_error", "float64", 40)

    def run(patience, path=None, **options):
        stopping = [dj.EarlyStopping(patience), *options.pop("callbacks", [])]
        history = net.fit(
            X[:20], Y[:20], 60, 5, dj.Adam(0.05), validation_data=(X[20:], Y[20:]), rng=0,
            callbacks=stopping, checkpoint=path, **options,
        )  # fmt: skip
        return net.theta.tobytes(), history.loss

    return run


def test_more_patience_counts(tmp_path):
    path = tmp_path / "run.ckpt"
    theta, losses = noise()(3, path)
    assert len(losses) < 50
    assert noise()(3, path, resume=True) == (theta, losses)
    whole = noise()(7)
    assert len(whole[1]) > len(losses)
    assert noise()(7, path, resume=True) == whole
    assert noise()(2, path, resume=True)[1] == whole[1]  # with less, it is over


class StopsAt:
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, state):
        if state.epoch == self.epoch:
            state.stop()


def test_what_another_callback_has_ended_stays_so(tmp_path):
    path = tmp_path / "run.ckpt"
    losses = noise()(50, path, callbacks=[StopsAt(4)])[1]
    assert len(losses) == 4
    assert noise()(55, path, callbacks=[StopsAt(4)], resume=True)[1] == losses


class Remembers:
    """A callback of one's own, with something to remember, once there is."""

    def __init__(self, kept=None):
        self.kept = {} if kept is None else kept

    def on_epoch_end(self, state):
        pass

    def state_dict(self):
        return self.kept

    def load_state_dict(self, kept):
        self.loaded = kept


@pytest.mark.parametrize("wrong", [None, "x", -1, [1.0], {}])
@pytest.mark.parametrize("key", ["best", "best_epoch", "since", "ended", "bext"])
def test_a_damaged_state_of_a_callback_is_refused(key, wrong, tmp_path):
    """By an error that names the file, and theta stays as it was."""
    path = tmp_path / "run.ckpt"
    fit(path, 2)
    arrays, content = safetensors.numpy.load_file(path), path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["deltajit"])
    kept = text["callbacks"][0][1]
    if key == "bext":
        kept[key] = kept.pop("best")
    elif key == "best" and wrong == -1:  # which a metric may be
        return
    else:
        kept[key] = wrong
    path.write_bytes(safetensors.numpy.save(arrays, {"deltajit": json.dumps(text)}))
    with pytest.raises(dj.FormatError, match=r"run\.ckpt has a state that EarlyStopping\.load"):
        fit(path, resume=True)


def test_a_flipped_byte_is_refused_or_harmless(tmp_path):
    """Whichever byte of the header it is."""
    path = tmp_path / "run.ckpt"
    fit(path, 2)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    for at in range(0, 8 + length, 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            fit(path, 3, resume=True)
        except ValueError as error:
            assert "run.ckpt" in str(error)  # noqa: PT017


def test_a_callback_with_nothing_to_remember_yet(tmp_path):
    path, kept = tmp_path / "run.ckpt", {"seen": 3, "x": np.arange(3.0), "scalar": np.array(2.5)}
    fit(path, 2, callbacks=[Remembers()])
    fit(path, 3, callbacks=[Remembers(kept)], resume=True)
    again = Remembers()
    fit(path, 4, callbacks=[again], resume=True)
    assert again.loaded["seen"] == 3
    np.testing.assert_array_equal(again.loaded["x"], kept["x"])
    assert again.loaded["scalar"].shape == ()


# ---------------------------------------------------------------- columns of History


def test_validation_that_comes_and_goes(tmp_path):
    """Columns stay in step: NaN where there was none."""
    path = tmp_path / "run.ckpt"
    net, X, Y = make_case([3, 9, 2], "tanh", "identity", "squared_error", "float32", 30)
    held_out, first, second = (X[20:], Y[20:]), {"a": lambda *_: 1.0}, {"b": lambda *_: 2.0}
    for epochs, options in [
        (2, {}),
        (4, {"validation_data": held_out, "metrics": first}),
        (5, {"validation_data": held_out, "metrics": second}),
        (7, {}),
    ]:
        history = net.fit(X[:20], Y[:20], epochs, 4, checkpoint=path, resume=True, **options)
    nan = float("nan")
    columns = history.to_dict()
    assert {len(column) for column in columns.values()} == {7}
    np.testing.assert_array_equal(columns["a"], [nan, nan, 1, 1, nan, nan, nan])
    np.testing.assert_array_equal(columns["b"], [nan, nan, nan, nan, 2, nan, nan])
    np.testing.assert_array_equal(np.isnan(columns["val_loss"]), [1, 1, 0, 0, 0, 1, 1])
    drawn = next(
        x for x in history.plot(ax=Figure().subplots()).lines if x.get_label() == "val_loss"
    )
    np.testing.assert_array_equal(drawn.get_xdata(), range(1, 8))
    assert np.isfinite([columns["loss"], columns["lr"], columns["time"]]).all()


# ---------------------------------------------------------------- wrong input changes nothing


def array(Y, outputs):
    return abs(Y - outputs)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"checkpoint": "missing/run.ckpt"}, FileNotFoundError, "checkpoint must be in a folder"),
        ({"checkpoint": "."}, OSError, "checkpoint must be a file or new"),
        ({"checkpoint": 3}, TypeError, "checkpoint must be a path"),
        ({"every": 0}, ValueError, "every must be >= 1"),
        ({"metrics": {"a": array}}, TypeError, r"metrics\['a'\] must return a number, got array"),
        ({"metrics": {"a": lambda *_: "1"}}, TypeError, r"metrics\['a'\] must return a number"),
        ({"metrics": {"a": lambda *_: None}}, TypeError, r"metrics\['a'\] must return a number"),
        ({"metrics": {"a": lambda Y: 1.0}}, TypeError, r"metrics\['a'\] must take \(Y, outputs\)"),
        ({"metrics": {3: lambda *_: 1.0}}, TypeError, "metrics must have strings for names"),
        ({"metrics": {"a": lambda *_: 1 / 0}}, ZeroDivisionError, "division"),
        *(
            ({"callbacks": [Remembers({"x": x})]}, TypeError, "Remembers.state_dict has 'x'")
            for x in (object(), {1, 2}, 1j, [object()], np.array([object()]), np.array(["a"]))
        ),
        ({"callbacks": [Remembers({3: 1})]}, TypeError, "dict with strings as keys"),
        ({"callbacks": [Remembers([1])]}, TypeError, "dict with strings as keys"),
    ],
)
@pytest.mark.parametrize("resume", [False, True])
def test_wrong_input_changes_nothing(options, error, message, resume, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = [3, 9, 2], "tanh", "identity", "squared_error", "float32", 30
    net, X, Y = make_case(*case)
    good = {"checkpoint": "run.ckpt", "dropout": 0.2, "validation_data": (X, Y)}
    if resume:
        callbacks = [Remembers() for _ in options.get("callbacks", [])]
        make_case(*case)[0].fit(X, Y, 2, 4, callbacks=callbacks, **good)
    theta, rng, files = net.theta.copy(), net._rng.bit_generator.state, contents()
    with pytest.raises(error, match=message):
        net.fit(X, Y, 4, 4, **{**good, "resume": resume, **options})
    np.testing.assert_array_equal(net.theta, theta)
    assert net._rng.bit_generator.state == rng
    assert contents() == files


def contents():
    return {path.name: path.read_bytes() for path in Path().iterdir()}


BITS = [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64]


@pytest.mark.parametrize("bits", BITS)
def test_any_bit_generator_goes_on(bits, tmp_path):
    path = tmp_path / "run.ckpt"
    whole = fit(rng=np.random.Generator(bits(1)))[0]
    with pytest.raises(RuntimeError, match="dead"):
        fit(path, rng=np.random.Generator(bits(1)), callbacks=[Dies(5)])
    again = fit(path, rng=np.random.Generator(bits(2)), resume=True)[0]
    assert again.tobytes() == whole.tobytes()


@pytest.mark.parametrize("bits", BITS[1:])
def test_another_bit_generator_is_refused(bits, tmp_path):
    path = tmp_path / "run.ckpt"
    fit(path, 2)
    net, X, Y = make_case([3, 9, 2], "tanh", "identity", "squared_error", "float32", 30)
    before = net.theta.copy()
    with pytest.raises(ValueError, match=f"rng was a PCG64, where this one has a {bits.__name__}"):
        net.fit(
            X[:20], Y[:20], 8, 4, dj.Adam(0.02), rng=np.random.Generator(bits(1)),
            checkpoint=path, resume=True, validation_data=(X[20:], Y[20:]),
            callbacks=[dj.EarlyStopping(30), dj.ReduceLROnPlateau(patience=2)],
        )  # fmt: skip
    np.testing.assert_array_equal(net.theta, before)


# ---------------------------------------------------------------- killed

CHILD = """
import sys
import numpy as np
import deltajit as dj
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(300, 8)), rng.normal(size=(300, 2))
net = dj.Network([8, 32, 2], "tanh", rng=1)
net.predict(X)
print("ready", flush=True)
net.fit(X, Y, 400, 16, dj.Adam(0.01), checkpoint=sys.argv[1], resume=True, progress=False)
print(net.theta.tobytes().hex())
"""


def run_to_the_end(path):
    return processes.run("-c", CHILD, path).split()[-1]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_at_any_moment(kills, tmp_path):
    """Each run is killed after a random time, until one comes to the end."""
    whole = run_to_the_end(tmp_path / "whole.ckpt")
    rng, done = np.random.default_rng(0), 0
    while done < kills:
        path = tmp_path / f"{done}.ckpt"
        for _ in range(min(5, kills - done)):  # of one fit, again and again
            process = processes.begin("-c", CHILD, path)
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0, 0.15))
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            done += process.returncode == -signal.SIGKILL
        assert run_to_the_end(path) == whole
