"""Checkpoints: a fit that is killed at any moment goes on to the same bits."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import deltajit as dj
from tests.conftest import make_case

ROOT = Path(__file__).parent.parent


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


OPTIMIZERS = [dj.SGD(0.05), dj.SGD(0.05, 0.9), dj.Adam(0.02), dj.Rprop(), dj.Lion(0.01)]


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


def child(path):
    command = [sys.executable, "-c", CHILD, str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def run_to_the_end(path):
    process = child(path)
    out, _ = process.communicate()
    assert process.returncode == 0
    return out.split()[-1]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_at_any_moment(kills, tmp_path):
    """Each run is killed after a random time, until one comes to the end."""
    whole = run_to_the_end(tmp_path / "whole.ckpt")
    rng, done = np.random.default_rng(0), 0
    while done < kills:
        path = tmp_path / f"{done}.ckpt"
        for _ in range(min(5, kills - done)):  # of one fit, again and again
            process = child(path)
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0, 0.15))
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            done += process.returncode == -signal.SIGKILL
        assert run_to_the_end(path) == whole
