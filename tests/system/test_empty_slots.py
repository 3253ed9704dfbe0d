"""A slot that is met empty is filled, whoever meets it, wherever that is.

Most tests begin a process of their own: only there are slots empty. Those that say nothing of a
cache find one that is warm, which is another way to fill a slot than to compile; those that say
`forget` compile these kernels, and load the others.
"""

import json
import multiprocessing
import os
import pickle
import signal

import numpy as np
import pytest
from deltajit.kernels import abi, backend, compiler
from deltajit.kernels.gemm.parallel import WORTH

import deltajit as dj
from deltajit import kernels
from tests.helpers import processes
from tests.helpers.processes import PRELUDE, answer

USERS_MODULE = """
forget(*sys.argv[1:])

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
    script.write_text(PRELUDE + USERS_MODULE)
    first = json.loads(processes.run(script, "sweeps._predict", "activations.activate.tanh"))
    slots, hits, compiled, used, found = first
    assert (slots, hits, compiled) == (0, [0, 0, 0, 0], True)
    assert json.loads(processes.run(script)) == [0, [1, 1, 1, 1], False, used, found]


# ---------------------------------------------------------------- from any thread


THREADS = """
forget(*sys.argv[1:])

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
assert compiler.seconds_spent() > 0 or not sys.argv[1:]
print(json.dumps([len(found), len({*found.values()}), found[0][1] == bits(net.grad(X, Y))]))
"""


@pytest.mark.parametrize("missing", [["sweeps._", "activations."], []])
def test_four_threads_at_an_empty_slot(missing):
    """These kernels are compiled, the others loaded."""
    assert answer(THREADS, *missing) == [4, 1, True]


PARALLEL = """
forget(*sys.argv[2:])

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
assert compiler.seconds_spent() > 0 or not sys.argv[2:]
same = bits(grads) == bits(*[net.grad(*batch) for batch in zip(X, Y)])
print(json.dumps([same, out.size == 0 or bits(out) == bits(net.predict(X[0]))]))
"""


@pytest.mark.parametrize("missing", [["sweeps._", "activations."], []])
@pytest.mark.parametrize("half", ["serial", "parallel"])
def test_parallel_functions_of_the_user(half, missing):
    """An empty slot is met before the region, or in it."""
    assert answer(PARALLEL, half, *missing, NUMBA_NUM_THREADS=2) == [True, True]


REGION = """
forget(*sys.argv[1:])

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
assert compiler.seconds_spent() > 0 or not sys.argv[1:]
print(json.dumps(found))
"""


def test_a_worker_of_ours_at_an_empty_slot():
    """The caller holds Python's lock; the same bits from 2 threads, from slices, from the cache."""
    assert WORTH < 300 * 128 * 96
    two, one = answer(REGION, "layers.", "product._panels", "activations.activate")
    assert two == one
    assert two[2] == two[3]
    assert answer(REGION) == [two, two]


PREDICT = """
forget("sweeps._predict", "activations.")
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
def test_a_c_callback(caller):
    assert answer(PREDICT + CALLBACK, caller) == [0, True]


DEEP = """
import warnings

def fail(*_, **__):
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


def test_at_the_end_of_the_recursion_limit_where_warnings_are_errors():
    """What Python compiles has nothing to do with the state of who asks for it."""
    assert answer(PREDICT + DEEP) is True


COMPILING = """
from numba.extending import overload

forget("sweeps._predict", "activations.")
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


def test_an_empty_slot_that_is_met_while_numba_compiles():
    assert answer(COMPILING) is True


# ---------------------------------------------------------------- signals


SIGNALLED = """
forget("sweeps._predict", "activations.")
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
    ("number", "handler", "caught", "heard"),
    [
        ("SIGINT", "default", "KeyboardInterrupt", []),
        ("SIGINT", "returns", "", [True]),
        ("SIGINT", "raises", "Heard", [True]),
        ("SIGALRM", "raises", "Heard", [True]),
    ],
)
def test_a_signal_while_a_kernel_compiles(number, handler, caught, heard):
    """The call is done first; then the handler is called, once."""
    assert answer(SIGNALLED, number, handler) == [caught, heard, True]


# ---------------------------------------------------------------- processes


FORKED = """
forget("sweeps._", "activations.")
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
    signal.alarm(500)
    value, grad = net.value_and_grad(X, Y)
    os._exit(0 if np.isfinite(value) and grad.any() else 1)
thread.join()
_, status = os.waitpid(child, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), bool(net.grad(X, Y).any())]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_another_thread_compiles():
    """The child has the lock of a thread that it has not got, were it forked at once."""
    found = answer(FORKED, PYTHONWARNINGS="ignore::DeprecationWarning")
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
        found = pool.apply_async(used_elsewhere, given).get(timeout=processes.LIMIT)
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

    def fail(*_, **__):
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
forget("sweeps._predict")

def fail(*_, **__):
    raise RuntimeError("out of ideas")

@numba.njit
def f(model, X, out, work):
    kernels.predict(model, X, out, work)

backend.compile_to_object = fail
net = dj.Network([2, 3, 1], "tanh")
X, Y = data(net, 3)
f(net.model, X, Y, net.workspace(3))
print("[]")
"""


def test_from_jitted_code_the_process_ends():
    """It says why, and does not go on at address 0."""
    code, out, errors = processes.end(processes.begin("-c", PRELUDE + HOPELESS))
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
    nothing, predict, grad, one, hvp, gelu = map(set, answer(USED))
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
