"""Kernels by address: a slot that is met empty is filled, whoever meets it, wherever that is.

Most tests begin a process of their own: only there are slots empty. Those that say nothing of a
cache find one that is warm, which is another way to fill a slot than to compile.
"""

import errno
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numba
import numpy as np
import pytest
from deltajit.kernels import abi, backend, cache, compiler
from deltajit.kernels.gemm.parallel import WORTH
from deltajit.kernels.mlp import sweeps
from deltajit.kernels.simd import views
from deltajit.kernels.status import VERSION

import deltajit as dj
from deltajit import kernels
from tests.helpers.networks import DTYPES

ROOT = Path(__file__).parents[2]
LIMIT = 240  # seconds, of any child: one that hangs fails

PRELUDE = """
import ctypes, hashlib, json, logging, os, signal, sys, threading, time
import numba
import numpy as np
import deltajit as dj
from deltajit import kernels
from deltajit.kernels import backend, cache, compiler

def data(net, batch, seed=0):
    rng = np.random.default_rng(seed)
    n_in, n_out = net.sizes[0], net.sizes[-1]
    return [rng.normal(size=(batch, n)).astype(net.dtype) for n in (n_in, n_out)]

def bits(*arrays):
    return hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in arrays)).hexdigest()
"""


def begin(source, *arguments, folder=None, **environment):
    """A child that runs a source text; its cache is in `folder`, else that of the tests."""
    if folder is not None:
        environment["NUMBA_CACHE_DIR"] = str(folder)
    command = [sys.executable, "-c", PRELUDE + source, *map(str, arguments)]
    environment = {**os.environ, **environment}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def end(child):
    """(exit code, output, errors) of a child, which has an end."""
    try:
        out, errors = child.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        child.kill()
        raise AssertionError(f"it hangs: {child.communicate()}") from None
    return child.returncode, out, errors


def run(source, *arguments, **options):
    """What a child has printed last, as JSON."""
    code, out, errors = end(begin(source, *arguments, **options))
    assert code == 0, errors
    return json.loads(out.splitlines()[-1])


# ---------------------------------------------------------------- from a user's cached functions

USERS_MODULE = """
import json, sys
import numba
import numpy as np
import deltajit as dj
from deltajit import kernels
from deltajit.kernels import compiler

@numba.njit(cache=True)
def predict(model, X, out, work):
    kernels.predict(model, X, out, work)

@numba.njit(cache=True)
def train(model, X, Y, order, rule, grad, work):
    first = kernels.value_and_grad(model, X, Y, grad, work)
    kernels.sgd_step(model, X, Y, 0.01, grad, work)
    kernels.fit_epoch(model, X, Y, order, 5, rule, grad, work)
    return first

@numba.njit(cache=True)
def curve(model, X, Y, v, out, work):
    kernels.hvp(model, X, Y, v, out, work)

@numba.njit(cache=True)
def evaluate(program, X, value, grad, work):
    kernels.circuit.value_and_grad(program, X, value, grad, work)

def main():
    net = dj.Network([3, 8, 2], "tanh", rng=0)
    rng = np.random.default_rng(0)
    X, Y = (rng.normal(size=(20, n)).astype("float32") for n in (3, 2))
    order, rule = np.arange(20), dj.Adam().rule(net.n_params, net.dtype)
    out, grad, work = np.empty_like(Y), np.empty_like(net.theta), net.workspace(20, order=2)
    before = len(compiler.in_use())
    predict(net.model, X, out, work)
    found = [out.tobytes().hex()]
    train(net.model, X, Y, order, rule, grad, work)
    curve(net.model, X, Y, np.ones_like(grad), grad, work)
    found += [net.theta.tobytes().hex(), grad.tobytes().hex()]
    c = dj.Circuit(lambda x, y, z: x * y + np.sin(z), 3, dtype="float32")
    program = c.program
    value, grads = np.empty(20, "float32"), np.empty((20, 3), "float32")
    memory = np.empty(kernels.circuit.largest_workspace(program), "float32")
    evaluate(program, X, value, grads, memory)
    found += [value.tobytes().hex(), grads.tobytes().hex()]
    functions = [predict, train, curve, evaluate]
    hits, used = [sum(f.stats.cache_hits.values()) for f in functions], sorted(compiler.in_use())
    print(json.dumps([before, hits, compiler.seconds_spent() > 0, used, found]))

main()
"""


def test_users_cached_functions_in_another_process(tmp_path):
    """Numba loads them, and they fill the slots there."""
    script = tmp_path / "users_module.py"
    script.write_text(USERS_MODULE)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run_it():
        command = [sys.executable, str(script)]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    slots, hits, compiled, used, found = run_it()
    assert (slots, hits, compiled) == (0, [0, 0, 0, 0], True)
    assert run_it() == [0, [1, 1, 1, 1], False, used, found]


# ---------------------------------------------------------------- from any thread

THREADS = """
@numba.njit(nogil=True)
def f(model, X, Y, grad, work):
    return kernels.value_and_grad(model, X, Y, grad, work)

net = dj.Network([3, 8, 2], "tanh", rng=0)
X, Y = data(net, 40)
model, found = net.model, {}
f.compile(tuple(map(numba.typeof, (model, X, Y, net.theta, net.theta))))
barrier = threading.Barrier(4)

def task(i):
    grad, work = np.empty_like(net.theta), net.workspace(40)
    barrier.wait()
    found[i] = f(model, X, Y, grad, work), bits(grad)

assert not compiler.in_use()
threads = [threading.Thread(target=task, args=(i,)) for i in range(4)]
[t.start() for t in threads], [t.join() for t in threads]
print(json.dumps([len(found), len({*found.values()}), found[0][1] == bits(net.grad(X, Y))]))
"""


def test_four_threads_at_an_empty_slot(tmp_path):
    for _ in range(2):  # compiled, then loaded
        assert run(THREADS, folder=tmp_path) == [4, 1, True]


PARALLEL = """
@numba.njit(parallel=True)
def f(model, X, Y, grads, work, out):
    if out.size > 0:
        kernels.predict(model, X[0], out, work[0])
    for i in numba.prange(X.shape[0]):
        kernels.value_and_grad(model, X[i], Y[i], grads[i], work[numba.get_thread_id()])

net = dj.Network([3, 8, 2], "tanh", rng=0)
X, Y = data(net, 60)
X, Y = X.reshape(6, 10, 3), Y.reshape(6, 10, 2)
grads, work = np.empty((6, net.n_params), "float32"), net.workspace(10, threads=2)
out = np.empty((10 if sys.argv[1] == "serial" else 0, 2), "float32")
f(net.model, X, Y, grads, work, out)
same = bits(grads) == bits(*[net.grad(*batch) for batch in zip(X, Y)])
print(json.dumps([same, out.size == 0 or bits(out) == bits(net.predict(X[0]))]))
"""


@pytest.mark.parametrize("half", ["serial", "parallel"])
def test_parallel_functions_of_the_user(half, tmp_path):
    """An empty slot is met before the region, or in it."""
    for _ in range(2):
        assert run(PARALLEL, half, folder=tmp_path, NUMBA_NUM_THREADS="2") == [True, True]


REGION = """
@numba.njit
def f(model, X, Y, grad, work):  # holds Python's lock
    return kernels.value_and_grad(model, X, Y, grad, work)

nets = [dj.Network([128, 96, 64], "tanh", rng=0, threads=t) for t in (2, 1)]
X, Y = data(nets[0], 300)
found, grad = [], np.empty_like(nets[0].theta)
for net in nets:
    work, out = net.workspace(300), np.empty_like(Y)
    value = f(net.model, X, Y, grad, work)
    kernels.predict(net.model, X, out, work)
    pieces = [net.predict(X[i : i + 37]) for i in range(0, 300, 37)]
    found.append([value, bits(grad), bits(out), bits(np.concatenate(pieces))])
print(json.dumps(found))
"""


def test_a_worker_of_ours_at_an_empty_slot(tmp_path):
    """The caller holds Python's lock; the same bits from 2 threads, from slices, from the cache."""
    assert WORTH < 300 * 128 * 96
    two, one = run(REGION, folder=tmp_path)
    assert two == one
    assert two[2] == two[3]
    assert run(REGION, folder=tmp_path) == [two, two]


PREDICT = """
net = dj.Network([3, 8, 2], "tanh", rng=0)
handle, x, y = net.handle(), data(net, 1)[0][0], np.empty(2, "float32")

@numba.cfunc("voidptr(voidptr)")
def callback(place):
    outputs = numba.carray(place, 2, np.float32)
    model, work = kernels.from_handle(handle, x)
    kernels.predict(model, x, outputs, work)
    return place
"""

CALLBACK = """
used = len(compiler.in_use())
if sys.argv[1] == "python":
    callback.ctypes(y.ctypes.data)
else:
    c, thread, settings = ctypes.CDLL(None), ctypes.c_ulong(), ctypes.create_string_buffer(256)
    c.pthread_attr_init(settings)
    assert c.pthread_attr_setstacksize(settings, ctypes.c_size_t(64 * 1024)) == 0
    begin = ctypes.cast(callback.address, ctypes.c_void_p)
    place = ctypes.c_void_p(y.ctypes.data)
    assert c.pthread_create(ctypes.byref(thread), settings, begin, place) == 0
    assert c.pthread_join(thread, None) == 0
print(json.dumps([used, bits(y) == bits(net.predict(x))]))
"""


@pytest.mark.skipif(os.name != "posix", reason="threads are made as POSIX has them")
@pytest.mark.parametrize("caller", ["python", "a C thread with a small stack"])
def test_a_c_callback(caller, tmp_path):
    assert run(PREDICT + CALLBACK, caller, folder=tmp_path) == [0, True]


DEEP = """
import warnings

def fail(*_):
    raise OSError("no space")

def frames():
    frame, count = sys._getframe(), 0
    while frame is not None:
        frame, count = frame.f_back, count + 1
    return count

def at(depth):
    return call(place) if depth == 0 else at(depth - 1)

call, place, os.replace = callback.ctypes, y.ctypes.data, fail
assert not compiler.in_use()
with np.errstate(all="raise"), warnings.catch_warnings():
    warnings.simplefilter("error")
    at(sys.getrecursionlimit() - frames() - 4)
print(json.dumps(bits(y) == bits(net.predict(x))))
"""


def test_at_the_end_of_the_recursion_limit_where_warnings_are_errors(tmp_path):
    """What Python compiles has nothing to do with the state of who asks for it."""
    assert run(PREDICT + DEEP, folder=tmp_path) is True


COMPILING = """
from numba.extending import overload

net = dj.Network([3, 8, 2], "tanh", rng=0)
X, Y = data(net, 4)

def norm(x):
    raise NotImplementedError

@overload(norm)
def typed_norm(x):
    value = float(np.square(net.predict(X)).sum())  # while Numba holds its lock
    return lambda x: value * x

f = numba.njit(lambda x: norm(x))
print(json.dumps(bool(np.isclose(f(2.0), 2 * np.square(net.predict(X)).sum()))))
"""


def test_an_empty_slot_that_is_met_while_numba_compiles(tmp_path):
    assert run(COMPILING, folder=tmp_path) is True


# ---------------------------------------------------------------- signals

SIGNALLED = """
number, answer = getattr(signal, sys.argv[1]), sys.argv[2]
heard, compile_to_object = [], backend.compile_to_object

class Heard(BaseException):
    pass

def handler(*_):
    heard.append(threading.current_thread() is threading.main_thread())
    if answer == "raises":
        raise Heard

def interrupted(*arguments):
    signal.raise_signal(number)
    os.kill(os.getpid(), number)
    time.sleep(0.05)
    return compile_to_object(*arguments)

@numba.njit
def f(model, X, out, work):
    kernels.predict(model, X, out, work)

signal.signal(signal.SIGINT, signal.default_int_handler)
if answer != "default":
    signal.signal(number, handler)
net = dj.Network([2, 3, 1], "tanh", rng=0)
X, Y = data(net, 3)
out, work, model = np.empty_like(Y), net.workspace(3), net.model
f.compile(tuple(map(numba.typeof, (model, X, out, work))))
caught, backend.compile_to_object = "", interrupted
try:
    f(model, X, out, work)
    for _ in range(10):
        pass
except BaseException as error:
    caught = type(error).__name__
backend.compile_to_object = compile_to_object
print(json.dumps([caught, heard, bits(out) == bits(net.predict(X))]))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
@pytest.mark.parametrize(
    ("number", "answer", "caught", "heard"),
    [
        ("SIGINT", "default", "KeyboardInterrupt", []),
        ("SIGINT", "returns", "", [True]),
        ("SIGINT", "raises", "Heard", [True]),
        ("SIGALRM", "raises", "Heard", [True]),
    ],
)
def test_a_signal_while_a_kernel_compiles(number, answer, caught, heard, tmp_path):
    """The call is done first; then the handler is called, once."""
    assert run(SIGNALLED, number, answer, folder=tmp_path) == [caught, heard, True]


# ---------------------------------------------------------------- processes

FORKED = """
is_compiling, compile_to_object = threading.Event(), backend.compile_to_object

def slowly(*arguments):
    is_compiling.set()
    time.sleep(1.0)
    return compile_to_object(*arguments)

net = dj.Network([2, 3, 1], "tanh", rng=0)
X, Y = data(net, 3)
backend.compile_to_object = slowly
thread = threading.Thread(target=net.predict, args=(X,))
thread.start()
is_compiling.wait()
child = os.fork()  # in the midst of it
backend.compile_to_object = compile_to_object
if child == 0:
    signal.alarm(100)
    value, grad = net.value_and_grad(X, Y)
    os._exit(0 if np.isfinite(value) and grad.any() else 1)
thread.join()
_, status = os.waitpid(child, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), bool(net.grad(X, Y).any())]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_another_thread_compiles(tmp_path):
    """The child has the lock of a thread that it has not got, were it forked at once."""
    found = run(FORKED, folder=tmp_path, PYTHONWARNINGS="ignore::DeprecationWarning")
    assert found == [0, True]


def used_elsewhere(model, rule, f, program, X, grad):
    """What a process makes of pickled tuples of arrays, which hold slots of kernels."""
    out, work = np.empty((len(X), 2)), np.empty(kernels.workspace_size(model, len(X)))
    kernels.predict(model, X, out, work)
    kernels.update(rule, model.theta, grad)
    z, W = np.empty_like(X), np.eye(X.shape[1])
    kernels.linear_activation_forward(X, W, np.zeros(X.shape[1]), f, z, z, 1)
    value = np.empty((len(X), 1))
    memory = np.empty(kernels.circuit.largest_workspace(program))
    kernels.circuit.evaluate(program, X, value, memory)
    return [x.tobytes() for x in (out, model.theta, rule.state, z, value)]


def test_what_holds_slots_is_pickled_by_names():
    """In another process kernels are elsewhere: addresses would lead nowhere."""
    net = dj.Network([3, 8, 2], "tanh", dtype="float64", rng=0)
    circuit = dj.Circuit(lambda x, y, z: x * y + np.sin(z), 3)
    X = np.random.default_rng(0).normal(size=(5, 3))
    given = (
        net.model,
        dj.Adam().rule(net.n_params, net.dtype),
        kernels.function_of("gelu", "float64"),
        circuit.program,
        X,
        np.linspace(-1, 1, net.n_params),
    )
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply_async(used_elsewhere, given).get(timeout=LIMIT)
    assert found == used_elsewhere(*given)
    for one in given[:4]:
        again = pickle.loads(pickle.dumps(one))
        assert type(again) is type(one)
        assert str(again) == str(one)


# ---------------------------------------------------------------- a kernel that can't be compiled


def test_from_python_it_raises(monkeypatch):
    @compiler.kernel(name="hopeless", is_kept=False)
    def hopeless(x: abi.Vector):
        x[0] = 1

    def fail(*_):
        raise RuntimeError("out of ideas")

    x = np.zeros(3)
    with monkeypatch.context() as patch:
        patch.setattr(backend, "compile_to_object", fail)
        with pytest.raises(RuntimeError, match="out of ideas"):
            hopeless(x)
    assert not x.any()
    hopeless(x)
    assert x[0] == 1


HOPELESS = """
def fail(*_):
    raise RuntimeError("out of ideas")

backend.compile_to_object = fail
net = dj.Network([2, 3, 1], "tanh")
net.predict(np.ones((3, 2)))
print("[]")
"""


def test_from_jitted_code_the_process_ends(tmp_path):
    """It says why, and does not go on at address 0."""
    code, out, errors = end(begin(HOPELESS, folder=tmp_path))
    assert code == -signal.SIGABRT
    assert out == ""
    assert "RuntimeError: out of ideas" in errors
    assert errors.splitlines()[-1].startswith("deltajit: the kernel sweeps._predict")


# ---------------------------------------------------------------- what is compiled

USED = """
found = []
def step(do):
    before = compiler.in_use()
    do()
    found.append(sorted(x.rpartition(".")[0] for x in compiler.in_use() - before))

sizes = [64, 64, 64]  # whole panels
net = dj.Network(sizes, "tanh", rng=0, threads=1)
X, Y = data(net, 40)
step(lambda: None)
step(lambda: net.predict(X))
step(lambda: net.grad(X, Y))
step(lambda: net.predict(X[:1]))
step(lambda: net.hvp(X, Y, net.theta))
step(lambda: dj.Network(sizes, "gelu", rng=0).predict(X))
print(json.dumps(found))
"""


def test_only_what_is_used_is_compiled():
    nothing, predict, grad, one, hvp, gelu = map(set, run(USED))
    assert nothing == set()
    assert {"sweeps._predict", "sweeps.forward", "activations.activate.tanh"} <= predict
    everything = predict | grad | one | hvp
    for word, where in [
        ("tangent", grad | hvp), ("backward", grad | hvp), ("losses", grad | hvp),
        ("sample", one), ("curve", hvp), ("narrow.product", set()), ("gelu", set()),
        ("circuit", set()), ("optimizers", set()), ("training", set()),
    ]:  # fmt: skip
        found = {name for name in everything if word in name}
        assert found <= where, word
    assert gelu == {"activations.activate.gelu"}


# ---------------------------------------------------------------- files


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
        assert run(COPY, folder=tmp_path, **given) == [True, True]
        assert known < files(tmp_path)
        known = files(tmp_path)
    for given in SETTINGS:
        assert run(COPY, folder=tmp_path, **given) == [True, False]
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
    assert run(UNJITTED, NUMBA_DISABLE_JIT="1") == ["function", True]


def test_a_full_disk(monkeypatch, tmp_path):
    """A warning, once, which is not an error even where warnings are; and nothing is left."""

    def full(self, content):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    monkeypatch.setattr(Path, "write_bytes", full)
    cache.warn_once.cache_clear()
    caplog = []
    monkeypatch.setattr(cache.logger, "warning", caplog.append)
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
    child = begin(HOLDS)
    try:
        assert json.loads(child.stdout.readline()) == str(cache.folder())
        child.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(cache, "PATIENCE", 0.3)
        start = time.monotonic()
        with cache.lock("kernel.float32", "fingerprint"):
            assert time.monotonic() - start >= 0.3
        start = time.monotonic()
        with cache.lock("another.float32", "fingerprint"):
            assert time.monotonic() - start < 0.3
    finally:
        child.kill()
        child.communicate()


# ---------------------------------------------------------------- arguments


def case():
    """A network, and what `_predict` takes."""
    net = dj.Network([3, 8, 2], "tanh", rng=0)
    X, out = np.ones((4, 3), np.float32), np.zeros((4, 2), np.float32)
    return net, [net.model, X, out, net.workspace(4)]


def read_only(x):
    y = x.copy()
    y.setflags(write=False)
    return y


WRONG = [  # (place, what is made of the argument there, message)
    (1, lambda x: x.astype("float64"), "X: kernels take .* here float32, got array.float64"),
    (1, lambda x: x.astype("float16"), "X: kernels take"),
    (1, lambda x: x.astype("int64"), "X: kernels take"),
    (1, lambda x: x[:, ::-1], "X: kernels take C-contiguous"),
    (1, lambda x: x[None], "X must have 2 axes, or one less for one sample, got"),
    (1, lambda x: x.tolist(), "X: kernels take .* got reflected list"),
    (1, lambda x: 3, "X: kernels take .* got int64"),
    (2, read_only, "out is written, and must not be read-only"),
    (3, lambda x: x[0], "work: kernels take"),
    (0, lambda m: m[:3], "model must be a Model .theta, network, layers, threads., got a tuple of"),
    (0, lambda m: 5, "model must be a Model"),
    (0, lambda m: m._replace(theta=None), "model.theta must not be None"),
    (0, lambda m: m._replace(network=None), "model.network must not be None"),
    (0, lambda m: m._replace(layers=m.theta), "model.layers: kernels take .* got array"),
    (0, lambda m: m._replace(threads=2.5), "model.threads must be of type int64, got float64"),
]


@pytest.mark.parametrize("how", ["python", "jitted", "kernel"])
def test_wrong_arguments_are_named(how):
    """In one sentence; Numba's own has pages of the columns of tables."""
    for place, make, message in WRONG:
        _, given = case()
        given[place] = make(given[place])
        call = {
            "python": kernels.predict,
            "jitted": numba.njit(lambda m, x, o, w: kernels.predict(m, x, o, w)),
            "kernel": lambda *given: sweeps._predict(VERSION, *given),
        }[how]
        with pytest.raises(TypeError, match=f"^deltajit's predict: {message}") as caught:
            call(*given)
        assert len(str(caught.value)) < 250


def test_a_kernel_counts_its_arguments():
    _, given = case()
    for wrong in (given, [VERSION, *given, 1], []):
        with pytest.raises(TypeError, match="it takes version, model, X, out, work; got"):
            sweeps._predict(*wrong)


@pytest.mark.parametrize(
    "make",
    [
        lambda model: None,
        lambda model: model._replace(theta=model.theta[:-1].copy()),
        lambda model: model._replace(theta=np.append(model.theta, np.float32(0))),
        lambda model: model._replace(layers=model.layers[:1].copy()),
        lambda model: model._replace(network=model.network[:0].copy()),
        lambda model: model._replace(theta=model.theta.astype("float64")),
    ],
)
def test_parts_of_a_model_belong_together(make):
    """Else kernels would read what is not theirs, or floats as what they are not."""
    _, (model, X, out, work) = case()
    wrong = make(model)
    kind = "float32" if wrong is None else wrong.theta.dtype
    with pytest.raises(ValueError, match="model must be that of a network"):
        kernels.predict(wrong, X.astype(kind), out.astype(kind), work.astype(kind))


def test_numbers_may_be_of_any_type_that_fits():
    for lr in (0.5, np.float32(0.5), np.float64(0.5)):
        net, (model, X, out, work) = case()
        kernels.sgd_step(model, X, out, lr, grad := np.empty_like(net.theta), work)
        twin, (model, X, out, work) = case()
        kernels.sgd_step(model, X, Y=out, work=work, grad=grad, lr=0.5)
        np.testing.assert_array_equal(net.theta, twin.theta)
    for lr in (0, False, np.int32(0)):
        net, (model, X, out, work) = case()
        before = net.theta.copy()
        kernels.sgd_step(model, X, out, lr, grad, work)
        np.testing.assert_array_equal(net.theta, before)
    for lr in (None, 1j, "0.1", np.array(0.1)):
        with pytest.raises(TypeError, match="sgd_step: lr must be of type float64"):
            kernels.sgd_step(model, X, out, lr, grad, work)
    rule, order = dj.Adam().rule(net.n_params, net.dtype), np.arange(4)
    with pytest.raises(TypeError, match="batch_size must be of type int64, got float64"):
        kernels.fit_epoch(model, X, out, order, 2.7, rule, grad, work)


def test_a_rule_fits_its_network():
    net, (model, X, out, work) = case()
    rule, grad = dj.Adam().rule(net.n_params, net.dtype), np.empty_like(net.theta)

    @numba.njit
    def step(model, X, Y, rule, grad, work):
        kernels.adam_step(model, X, Y, rule, grad, work)

    before = net.theta.copy()
    for wrong, error, message in [
        (rule[:5], TypeError, "rule must be a Rule .* got a tuple of 5"),
        (rule._replace(state=rule.state.astype("float64")), TypeError, "rule.state: kernels take"),
        (rule._replace(count=None), TypeError, "rule.count must not be None"),
        (rule._replace(hyper=None), TypeError, "rule.hyper must not be None"),
        (rule._replace(count=rule.count[:0].copy()), ValueError, "rule was made for another"),
        (dj.Adam().rule(3, net.dtype), ValueError, "rule was made for another"),
        (None, ValueError, "rule was made for another"),
    ]:
        for call in (step, kernels.adam_step):
            with pytest.raises(error, match=message):
                call(model, X, out, wrong, grad, work)
    np.testing.assert_array_equal(net.theta, before)


def test_helpers_are_not_for_python():
    x = np.ones((3, 2))
    for call in (lambda: views.rows(x, 0, 2), lambda: views.fill(x, 0)):
        with pytest.raises(TypeError):
            call()


# ---------------------------------------------------------------- temporaries

TEMPORARIES = """
@numba.njit
def temporary(model, X, Y, v, rule, order, f, W, b, program, work, points):
    a, grad, J = np.empty((40, 2)), np.zeros(v.size), np.empty((40, 2, 3))
    kernels.predict(model, X.T.copy(), a, work + 0)
    value = kernels.value_and_grad(model, X.T.copy(), Y + 0, grad, work + 0, np.ones(40))
    p = a.copy(), grad.copy()
    kernels.hvp(model, X.T.copy(), Y + 0, v + 0, grad, work + 0)
    q = grad.copy()
    kernels.vjp(model, X.T.copy(), Y + 0, grad, work + 0)
    kernels.jacobian(model, X.T.copy(), J, work + 0)
    kernels.linearize(model, X.T.copy(), Y + 0, grad + 0, points, work + 0)
    kernels.hvp_at(model, X.T.copy(), Y + 0, points + 0, v + 0, grad, work + 0)
    r = grad.copy()
    kernels.fit_epoch(model, X.T.copy(), Y + 0, order + 0, 7, rule, grad + 0, work + 0)
    kernels.update(rule, model.theta, v + 0)
    z, delta = np.empty((40, 4)), np.empty((40, 3))
    kernels.linear_activation_forward(X.T.copy(), W + 0, b + 0, f, z, z, 1)
    kernels.propagate_delta(z + 0, W + 0, X.T.copy(), f, delta, 1)
    dW, db = np.zeros((3, 4)), np.zeros(4)
    kernels.accumulate_gradient(z + 0, X.T.copy(), 1.0, dW, db, 1)
    out = np.empty((40, 1))
    kernels.circuit.evaluate(program, X.T.copy(), out, np.empty(program.rows * 2 * 64))
    return value, p, q, J, r, z, delta, dW, db, out

@numba.njit
def kept(model, X, Y, v, rule, order, f, W, b, program, work, points):
    x, ones, spare = X.T.copy(), np.ones(40), np.empty(v.size)
    a, grad, J = np.empty((40, 2)), np.zeros(v.size), np.empty((40, 2, 3))
    kernels.predict(model, x, a, work)
    value = kernels.value_and_grad(model, x, Y, grad, work, ones)
    p = a.copy(), grad.copy()
    kernels.hvp(model, x, Y, v, grad, work)
    q = grad.copy()
    kernels.vjp(model, x, Y, grad, work)
    kernels.jacobian(model, x, J, work)
    kernels.linearize(model, x, Y, spare, points, work)
    kernels.hvp_at(model, x, Y, points, v, grad, work)
    r = grad.copy()
    kernels.fit_epoch(model, x, Y, order, 7, rule, spare, work)
    spare[:] = v
    kernels.update(rule, model.theta, spare)
    z, delta = np.empty((40, 4)), np.empty((40, 3))
    kernels.linear_activation_forward(x, W, b, f, z, z, 1)
    kernels.propagate_delta(z, W, x, f, delta, 1)
    dW, db = np.zeros((3, 4)), np.zeros(4)
    kernels.accumulate_gradient(z, x, 1.0, dW, db, 1)
    out, memory = np.empty((40, 1)), np.empty(program.rows * 2 * 64)
    kernels.circuit.evaluate(program, x, out, memory)
    return value, p, q, J, r, z, delta, dW, db, out, x.size + ones.size + spare.size + memory.size

rng, circuit = np.random.default_rng(0), dj.Circuit(lambda x, y, z: x * y + np.sin(z), 3)
W, b, order = rng.normal(size=(3, 4)), rng.normal(size=4), rng.permutation(40)
f, found = kernels.function_of("tanh", "float64"), []
for function in (temporary, kept):
    net = dj.Network([3, 8, 2], "tanh", dtype="float64", rng=0)
    X, Y = data(net, 40)
    rule, v = dj.Adam().rule(net.n_params, net.dtype), np.linspace(-1, 1, net.n_params)
    points = np.empty(kernels.points_size(net.model, 40))
    work = net.workspace(40, order=2)
    value, p, *others = function(
        net.model, X.T.copy(), Y, v, rule, order, f, W, b, circuit.program, work, points
    )
    found.append([value, bits(*p, *others[:8], net.theta, rule.state)])
print(json.dumps(found))
"""


def test_temporaries_live_until_a_kernel_returns():
    """What the C library frees it fills with other bytes."""
    temporary, kept = run(TEMPORARIES, MALLOC_PERTURB_="165")
    assert temporary == kept


# ---------------------------------------------------------------- ends of what there is


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_thousand_layers(dtype):
    net = dj.Network([1, *[2] * 999, 1], "identity", dtype=dtype, rng=0)
    for W in net.weights[1:-1]:
        W[:] = np.eye(2)
    X = np.linspace(-1, 1, 9).reshape(-1, 1)
    W, V = net.weights[0], net.weights[-1]
    np.testing.assert_allclose(net.predict(X), X @ (V @ W).T, rtol=1e-4)
    value, grad = net.value_and_grad(X, X)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


def test_no_samples():
    """Nothing is written but what has no samples either; the mean of no losses is NaN."""
    net, (model, X, out, work) = case()
    X, Y, grad = X[:0].copy(), out[:0].copy(), np.ones_like(net.theta)
    kernels.predict(model, X, Y, work)
    assert np.isnan(kernels.loss(model, X, Y, work))
    assert np.isnan(kernels.value_and_grad(model, X, Y, grad, work))
    before, rule = net.theta.copy(), dj.SGD(0.1).rule(net.n_params, net.dtype)
    order = np.arange(0)
    assert kernels.fit_epoch(model, X, Y, order, 3, rule, grad, net.workspace(3)) == (0, 0)
    np.testing.assert_array_equal(net.theta, before)
