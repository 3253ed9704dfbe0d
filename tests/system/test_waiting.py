"""Waiting for kernels: it is said once, no epoch's time has it, and `deltajit warmup` ends it."""

import functools
import io
import json
import threading

import pytest
import tqdm
from deltajit.kernels import cache, compiler
from deltajit.kernels.simd import views

from deltajit import cli
from deltajit.training import progress
from tests.helpers import processes


def run(code, folder):
    """What a process with its cache in a folder prints: (out, errors)."""
    status, *printed = processes.end(processes.begin("-c", code, NUMBA_CACHE_DIR=folder))
    assert status == 0, printed
    return tuple(printed)


# ---------------------------------------------------------------- what is said

COPIES = """
import numpy as np
from deltajit.kernels import compiler
from deltajit.kernels.simd import views

compiler.SAY_AFTER = 0
for dtype in ("float32", "float64"):
    x = np.ones(3, dtype)
    views.copy_vector(x, x.copy())
compiler.all_kernels()[0][0].address(compiler.all_kernels()[0][1])
"""
SILENCED = "import logging\nlogging.getLogger('deltajit').setLevel(logging.ERROR)\n"


def test_compiling_is_said_once(tmp_path):
    said = run(COPIES, tmp_path)[1].splitlines()
    assert len(said) == 1
    assert said[0].startswith("deltajit: compiling kernels for this CPU, once; they are kept in ")
    assert str(tmp_path) in said[0]
    assert run(COPIES, tmp_path)[1] == ""  # they are there


def test_it_is_silenced_as_logs_are(tmp_path):
    assert run(SILENCED + COPIES, tmp_path)[1] == ""


# ---------------------------------------------------------------- time

FITS = """
import itertools, json, time
import numpy as np
from numba.core.dispatcher import Dispatcher

seconds, waits = [0.0], itertools.count()  # a clock that goes on where somebody waits for code

def long(function):
    def wrapper(*arguments):
        seconds[0] += 1000
        next(waits)
        return function(*arguments)

    return wrapper

def perf_counter():
    seconds[0] += 1e-6
    return seconds[0]

Dispatcher.compile, time.perf_counter = long(Dispatcher.compile), perf_counter
import deltajit as dj
from deltajit.kernels import compiler

compiler._code_of = long(compiler._code_of)
X = np.random.default_rng(0).normal(size=(256, 8))
found = []
for make, optimizer in [
    (lambda: dj.Network([8, 32, 1]), dj.Adam()),
    (lambda: dj.Network([8, 32, 1]), dj.LevenbergMarquardt()),
    (lambda: dj.Ensemble([8, 32, 1], 64, threads=2), dj.Adam()),
]:
    before, count, net = compiler.seconds_waited(), next(waits), make()
    validation = (X[:8], X[:8, :1])
    history = net.fit(X, X[:, :1], epochs=3, optimizer=optimizer, validation_data=validation)
    waited = compiler.seconds_waited() - before
    found.append((history.time, waited / 1000, next(waits) - count - 1))
print(json.dumps(found))
"""


def test_no_epoch_has_the_time_of_compiling():
    """Of networks, also on all samples, and of members that are shared out to threads.

    A wait, whether for the compiler or for the cache, is of 1,000 seconds of a clock of the test's
    own, so that what this machine does beside it makes no difference.
    """
    for epochs, thousands, waits in json.loads(processes.run("-c", FITS)):
        assert waits > 3  # or it shows nothing
        assert thousands == pytest.approx(waits, rel=1e-6)  # one in another counts once
        assert all(0 < seconds < 1 for seconds in epochs)


class Terminal(io.StringIO):
    """A stream that tqdm takes for a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Where progress bars are drawn."""
    stream = Terminal()
    monkeypatch.setattr(tqdm, "tqdm", functools.partial(tqdm.tqdm, file=stream))
    return stream


def test_a_progress_bar_stands_still_meanwhile(terminal):
    with progress.progress_bar(3) as bar:
        bar.start_t -= 101  # seconds go by,
        bar.last_print_t -= 101
        compiler._waits[threading.get_ident()] += 100  # most of them for compiling
        progress.advance(bar, {"loss": "1"})
        assert bar.format_dict["elapsed"] < 50
        assert bar.format_dict["rate"] > 0.5
    assert "loss=1" in terminal.getvalue()


def test_a_line_of_the_log_takes_the_bars_place(terminal, caplog):
    with progress.progress_bar(3) as bar:
        assert "0/3" in terminal.getvalue().split("\r")[-1]
        compiler.logger.warning("a line")
        assert terminal.getvalue().split("\r")[-1] == ""
        bar.update(3)
    assert caplog.messages == ["a line"]
    assert not compiler.logger.filters


# ---------------------------------------------------------------- warmup


def test_all_kernels_are_listed():
    listed = compiler.all_kernels()
    names = [f"{kernel.name}.{real}" for kernel, real in listed]
    assert names == sorted(set(names))
    assert {f"{kind}.{real}" for kind in ("losses.total.huber", "activations.activate.tanh")
            for real in ("float32", "float64")} < set(names)  # fmt: skip
    assert "schedule.arrange.float64" in names
    assert "schedule.arrange.float32" not in names  # it has no floats


def test_warmup(monkeypatch, capsys):
    some = [pair for pair in compiler.all_kernels() if pair[0] is views.copy_vector]
    monkeypatch.setattr(compiler, "all_kernels", lambda: some)
    assert cli.main(["warmup", "--dtype", "float32"]) == 0
    assert capsys.readouterr().out.startswith(f"1 kernels are in {cache.folder()}, after ")
    assert cli.main(["warmup"]) == 0
    assert capsys.readouterr().out.startswith("2 kernels are in")
    assert {"views.copy_vector.float32", "views.copy_vector.float64"} <= compiler.in_use()


def test_warmup_without_a_cache(monkeypatch):
    monkeypatch.setattr(cache, "is_on", lambda: False)
    with pytest.raises(SystemExit, match="no folder for the cache"):
        cli.main(["warmup"])


EVERYTHING = """
import numpy as np
import deltajit as dj
from deltajit import kernels
from deltajit.kernels import compiler
from deltajit.kernels.circuit.operations import OPERATIONS
from deltajit.kernels.mlp import handle

X, weights = np.full((4, 3), 0.5, np.float32), np.ones(4)
for activation in kernels.ACTIVATIONS:
    if activation not in ("softmax", "gaussian"):
        net = dj.Network([3, 5, 2], activation)
        net.hvp(X, X[:, :2], net.theta), net.grad(X[0], X[0, :2])
for name, loss in kernels.LOSSES.items():
    if name != "circuit":
        output = loss.output or "identity"
        net = dj.Network([3, 5, 2], output=output, loss=name)
        Y = X[:, : 2 // loss.outputs_per_target]
        net.gnvp(X, Y, net.theta), net.fit(X, Y, epochs=1, sample_weight=weights)
net = dj.Network([3, 20, 1])
for optimizer in (dj.SGD(), dj.SGD(momentum=0.9), dj.AdamW(), dj.RMSProp(), dj.Adagrad(), dj.Lion(),
                  dj.Rprop(), dj.LBFGS(), dj.LevenbergMarquardt()):
    net.fit(X, X[:, :1], epochs=2, optimizer=optimizer, validation_data=(X, X[:, :1]))
net.per_sample_grads(X, X[:, :1]), net.input_grad(X, X[:, :1]), net.jacobian(X)
dj.Ensemble([3, 5, 1], 3).fit(X, X[:, :1], epochs=1)
c = dj.Circuit(lambda x, y: np.log1p((x - y) ** 2) + np.tanh(x) / y, 2, dtype="float32")
c.value_and_grad([1.0, 2.0]), c.hvp([1.0, 2.0], [1.0, 1.0])
made = {**vars(kernels), **vars(kernels.circuit), **vars(handle)}
missed = {name: x.stats.cache_misses for name, x in made.items() if hasattr(x, "stats")}
print(compiler.seconds_spent(), [name for name, count in missed.items() if sum(count.values())])
"""


@pytest.mark.slow
def test_after_warmup_nothing_is_compiled(tmp_path):
    """Of what its dtype needs."""
    command = "from deltajit import cli; cli.main(['warmup', '--dtype', 'float32'])"
    run(command, tmp_path)
    assert run(EVERYTHING, tmp_path) == ("0.0 []\n", "")
    assert run(command, tmp_path)[1] == ""
