"""Files of kernels: each target has its own, and a disk that is full or locked is no obstacle."""

import errno
import json
import signal
from pathlib import Path

import pytest
from deltajit.kernels import cache, object_code

from tests.helpers import processes
from tests.helpers.processes import PRELUDE, answer


def files(folder):
    return {path.name for path in folder.rglob("*.o")}


COPY = """
from deltajit.kernels.simd import views
x, y = np.arange(37.0), np.zeros(37)
views.copy_vector(x, y)
print(json.dumps([bool((x == y).all()), compiler.seconds_spent() > 0]))
"""


SETTINGS = [
    {},
    {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma"},
    {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
    {"NUMBA_OPT": "0"},
    {"NUMBA_BOUNDSCHECK": "1"},
]


def test_each_target_has_files_of_its_own(tmp_path):
    """Nor does code for debugging come back when nobody debugs any more."""
    known = set()
    for given in SETTINGS:
        assert answer(COPY, folder=tmp_path, **given) == [True, True]
        assert known < files(tmp_path)
        known = files(tmp_path)
    for given in SETTINGS:
        assert answer(COPY, folder=tmp_path, **given) == [True, False]
    assert files(tmp_path) == known
    assert len(known) == len(SETTINGS)


UNJITTED = """
@numba.njit
def f(model, X, out, work):  # Python's own, stepped through in a debugger
    kernels.predict(model, X, out, work)

net = dj.Network([3, 8, 2], "tanh", rng=0)
X, Y = data(net, 4)
out = np.empty_like(Y)
f(net.model, X, out, net.workspace(4))
net.fit(X, Y, 2, progress=False)
print(json.dumps([type(f).__name__, bool(np.isfinite(out).all())]))
"""


def test_kernels_are_compiled_where_numba_compiles_nothing():
    assert answer(UNJITTED, NUMBA_DISABLE_JIT="1") == ["function", True]


def test_a_full_disk(monkeypatch, tmp_path):
    """A warning, once, which is not an error even where warnings are; and nothing is left."""

    def full(self, content):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    monkeypatch.setattr(Path, "write_bytes", full)
    object_code.warn_once.cache_clear()
    caplog = []
    monkeypatch.setattr(object_code.logger, "warning", caplog.append)
    for _ in range(2):
        cache.save("kernel.float32", "fingerprint", b"code")
    assert len(caplog) == 1
    assert "No space left" in caplog[0]
    assert not list(tmp_path.iterdir())
    assert cache.load("kernel.float32", "fingerprint") is None


@pytest.mark.skipif(cache.fcntl is None, reason="no locks of files here")
def test_a_file_system_without_locks(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(cache.fcntl, "lockf", refuse)
    with cache.lock("kernel.float32", "fingerprint"):
        pass


HOLDS = """
with cache.lock("kernel.float32", "fingerprint"):
    print(json.dumps(str(cache.folder())), flush=True)
    time.sleep(1000)
"""


@pytest.mark.skipif(cache.fcntl is None, reason="no locks of files here")
def test_a_process_that_is_stopped_does_not_hold_others_up(monkeypatch):
    """It keeps its lock, as Ctrl-Z in a terminal has it."""
    child = processes.begin("-c", PRELUDE + HOLDS)
    try:
        assert json.loads(child.stdout.readline()) == str(cache.folder())
        child.send_signal(signal.SIGSTOP)
        waits = []
        monkeypatch.setattr(cache, "PATIENCE", 0.3)
        monkeypatch.setattr(cache.time, "sleep", waits.append)
        with cache.lock("kernel.float32", "fingerprint"):  # when patience has come to its end
            assert waits
        waits.clear()
        with cache.lock("another.float32", "fingerprint"):
            assert not waits
    finally:
        child.kill()
        child.communicate()
