"""Many threads at once: theirs, ours and the user's own; each gets the bits it would get alone."""

import concurrent.futures
import ctypes
import hashlib
import itertools
import json
import threading

import numba
import numpy as np
import pytest
from deltajit.kernels.backend import openmp
from deltajit.kernels.blocks import WORTH
from deltajit.kernels.gemm.parallel import start

import deltajit as dj
from deltajit import kernels
from tests.helpers import processes
from tests.helpers.networks import DTYPES
from tests.system.test_threads import trained

THREADS, ROUNDS = 8, 50

# (sizes, batch): in the first none of the products is worth a region of threads, in the other all.
SMALL, LARGE = ([5, 9, 3], 10), ([128, 128, 64], 128)
assert LARGE[0][1] * LARGE[0][2] * LARGE[1] > WORTH


def at_once(tasks):
    """Results of functions that all begin together, each in a thread of its own."""
    tasks = list(tasks)
    barrier = threading.Barrier(len(tasks))

    def run(task):
        barrier.wait()
        return task()

    with concurrent.futures.ThreadPoolExecutor(len(tasks)) as pool:
        return [done.result() for done in [pool.submit(run, task) for task in tasks]]


def digest(arrays):
    """Hash of the bits of some arrays."""
    return hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in arrays)).hexdigest()


def problem(kind, seed):
    """A network that may use two threads, and data for it."""
    sizes, batch = kind
    rng = np.random.default_rng(seed)
    X, Y = (rng.normal(size=(batch, n)).astype("float32") for n in (sizes[0], sizes[-1]))
    return dj.Network(sizes, rng=seed, threads=2), X, Y


def rounds(seed, shared, gradients=True):
    """Hash of what one thread computes: fits of its own network, and outputs of shared ones."""
    own, X, Y = problem(LARGE if seed % 2 else SMALL, seed)
    found = []
    for i in range(ROUNDS):
        own.fit(X, Y, 1, 64, dj.SGD(0.01), rng=i, progress=False)
        net, inputs, targets = shared[(seed + i) % len(shared)]
        found += [own.theta.copy(), net.predict(inputs)]
        if gradients:
            found += net.value_and_grad(inputs, targets)
    return digest(found)


def shared_networks():
    """One of each kind, which all threads look at and nobody changes."""
    return [problem(SMALL, 100), problem(LARGE, 101)]


def test_threads_do_not_meet():
    shared = shared_networks()
    alone = [rounds(seed, shared) for seed in range(THREADS)]
    assert len(set(alone)) == THREADS
    assert at_once(lambda seed=seed: rounds(seed, shared) for seed in range(THREADS)) == alone


def test_everything_that_python_calls_may_be_shared():
    """Each object's scratch memory, and what it remembers, is one thread's."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(500, 16)), rng.normal(size=(500, 4))
    net = dj.Network([16, 64, 4], dtype="float64", threads=1)
    nets = dj.Ensemble([16, 64, 4], 3, dtype="float64", threads=1)
    f, at_theta, n = net.objective(X, Y), net.linearize(X, Y), net.n_params
    c = dj.Circuit(lambda *x: sum(np.sin(a * b) for a, b in itertools.pairwise(x)), 16)
    of_theta = [
        f.fun, f.jac, lambda t: f.hessp(t, t), lambda t: f.gauss_newton_product(t, t), f.residuals,
        lambda t: f.residuals_jac(t).sum(axis=0), at_theta.hvp, at_theta.gnvp, at_theta.jvp,
        lambda t: at_theta.vjp(np.resize(t, (500, 4))), lambda t: net.hvp(X, Y, t),
        lambda t: net.per_sample_grads(X * t[0], Y)[::100], lambda t: net.loss(X * t[0], Y),
    ]  # fmt: skip
    of_samples = [
        net.predict, net.jacobian, nets.predict, nets.std, lambda x: nets.loss(x, Y[:80]),
        c, c.grad, lambda x: c.hvp(x, x), lambda x: c.trace(x[0]).steps[-1].value,
    ]  # fmt: skip
    points = rng.normal(size=(16, n)) / 10
    for call in of_theta + of_samples:
        given = points if call in of_theta else points[:, :1280].reshape(16, 80, 16)
        alone = [np.asarray(call(x)).tobytes() for x in given]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for _ in range(3):
                assert [np.asarray(x).tobytes() for x in pool.map(call, given)] == alone, call


# ---------------------------------------------------------------- beside the user's own threads

CHILD = """
import sys
if {without}:
    sys.modules["numba.np.ufunc.omppool"] = None  # as if Numba had been built without it
from tests.system import test_concurrency
test_concurrency.child()
"""


@numba.njit(parallel=True)
def users_sum(x):
    total = 0.0
    for i in numba.prange(x.size):
        total += x[i]
    return total


def child():
    """Print hashes of what THREADS threads compute while the user's own function is running."""
    done, sums, x = threading.Event(), [users_sum(np.ones(5))], np.ones(100_000)

    def sum_on():
        while not done.is_set():
            sums.append(users_sum(x))

    user = threading.Thread(target=sum_on)  # one alone: this layer of Numba's takes no more
    user.start()
    try:
        shared = at_once([shared_networks] * THREADS)[0]  # the first thing they do, all at once
        tasks = [lambda seed=seed: rounds(seed, shared, False) for seed in range(THREADS)]
        hashes = at_once(tasks)
    finally:
        done.set()
        user.join()
    print(json.dumps([hashes, numba.threading_layer(), openmp is not None, sorted({*sums})]))


@pytest.mark.parametrize("without_openmp", [False, True])
def test_users_own_threads(without_openmp):
    """The bits are the same where Numba has no OpenMP, and whichever layer the user has."""
    if openmp is None and not without_openmp:
        pytest.skip("Numba has no OpenMP here")
    environment = {"NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": 2}
    printed = processes.run("-c", CHILD.format(without=without_openmp), **environment)
    hashes, layer, has_openmp, sums = json.loads(printed)
    assert layer == "workqueue"
    assert has_openmp != without_openmp
    assert sums == [5, 100_000]
    shared = shared_networks()
    assert hashes == [rounds(seed, shared, False) for seed in range(THREADS)]


# ---------------------------------------------------------------- same bits


@pytest.mark.skipif(not start(), reason="Numba has no OpenMP here")
def test_ten_runs_on_any_number_of_threads():
    assert len({trained(threads) for threads in (1, 2, 3, 4, 8) for _ in range(10)}) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_out", [1, 2, 3, 4, 5, 8, 10, 16, 17, 33])
def test_a_slice_has_the_bits_of_the_whole(n_out, dtype):
    outputs = itertools.cycle(["identity", "tanh", "softmax" if n_out > 1 else "sigmoid"])
    for hidden, output in zip([[], [1], [3], [16], [33], [17, 70]], outputs, strict=False):
        net = dj.Network([9, *hidden, n_out], "relu", output, dtype=dtype, rng=n_out)
        X = np.random.default_rng(n_out).normal(size=(40, 9)).astype(dtype)
        whole = net.predict(X)
        for i, j in itertools.combinations(range(41), 2):
            assert net.predict(X[i:j]).tobytes() == whole[i:j].tobytes(), (net, i, j)


# ---------------------------------------------------------------- called from users' own code

USERS_CODE = '''
import json
import sys

import numba
import numpy as np

import deltajit as dj
from deltajit import kernels


@numba.njit(cache=True, nogil=True, parallel=True)
def of_each(model, X, Y, out, grads, work):
    """Predictions and gradients of many batches, over threads."""
    total = 0.0
    for i in numba.prange(X.shape[0]):
        mine = work[numba.get_thread_id()]
        kernels.predict(model, X[i], out[i], mine)
        total += kernels.value_and_grad(model, X[i], Y[i], grads[i], mine)
    return total


def main(folder):
    found = []
    for name in ("small", "large"):
        data = np.load(f"{folder}/{name}.npz")
        X, Y, theta = data["X"], data["Y"], data["theta"]
        net = dj.Network(data["sizes"].tolist(), threads=2)
        net.theta = theta
        out, grads = np.empty_like(Y), np.empty((len(X), net.n_params), X.dtype)
        work = net.workspace(X.shape[1], threads=numba.get_num_threads())
        of_each(net.model, X, Y, out, grads, work)
        found += [out.tobytes().hex(), grads.tobytes().hex()]
    print(json.dumps([sum(of_each.stats.cache_hits.values()), numba.get_num_threads(), found]))


if __name__ == "__main__":
    main(sys.argv[1])
'''


def test_cached_parallel_functions_of_the_user(tmp_path):
    """In a first process, which compiles and saves them, and in a second, which loads them."""
    script, expected = tmp_path / "users_code.py", []
    script.write_text(USERS_CODE)
    for name, kind in (("small", SMALL), ("large", LARGE)):
        net, _, _ = problem(kind, 0)
        X, Y = (
            np.random.default_rng(1).normal(size=(6, kind[1], n)).astype("float32")
            for n in (kind[0][0], kind[0][-1])
        )
        np.savez(tmp_path / name, X=X, Y=Y, theta=net.theta, sizes=kind[0])
        expected += [np.array([net.predict(x) for x in X]).tobytes().hex()]
        expected += [
            np.array([net.grad(*batch) for batch in zip(X, Y, strict=True)]).tobytes().hex()
        ]
    for loaded in (0, 1):
        printed = processes.run(script, tmp_path, NUMBA_NUM_THREADS=2)
        hits, threads, found = json.loads(printed)
        assert (hits, threads) == (loaded, 2)
        assert found == expected


def test_functions_without_the_gil():
    """One function, a thread and a row of the workspace each."""

    @numba.njit(nogil=True)
    def train(model, X, Y, steps, grad, work):
        for _ in range(steps):
            kernels.sgd_step(model, X, Y, 0.01, grad, work)

    def task(net, X, Y, work):
        def run():
            train(net.model, X, Y, 300, np.empty_like(net.theta), work)
            return net.theta.tobytes()

        return run

    twins = [[problem(SMALL, seed) for seed in range(THREADS)] for _ in range(2)]
    rows = problem(SMALL, 0)[0].workspace(SMALL[1], threads=THREADS)
    alone = [task(*one, rows[0])() for one in twins[0]]
    assert at_once(task(*one, row) for one, row in zip(twins[1], rows, strict=True)) == alone
    assert alone[0] != problem(SMALL, 0)[0].theta.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_c_callback(dtype):
    """A cfunc holds a handle: it sees weights that change after it was compiled."""
    net, rng = dj.Network([3, 8, 2], "tanh", dtype=dtype), np.random.default_rng(0)
    handle, real = net.handle(), getattr(numba.types, dtype)

    @numba.cfunc(numba.types.void(numba.types.CPointer(real), numba.types.CPointer(real)))
    def callback(x, y):
        inputs, outputs = numba.carray(x, 3), numba.carray(y, 2)
        model, work = kernels.from_handle(handle, inputs)
        kernels.predict(model, inputs, outputs, work)

    pointer = ctypes.POINTER({"float32": ctypes.c_float, "float64": ctypes.c_double}[dtype])
    found = []
    for _ in range(3):
        x, y = rng.normal(size=3).astype(dtype), np.empty(2, dtype)
        callback.ctypes(x.ctypes.data_as(pointer), y.ctypes.data_as(pointer))
        assert y.tobytes() == net.predict(x).tobytes()
        found.append(y.tobytes())
        net.theta *= 1.5
        net.fit(rng.normal(size=(8, 3)), rng.normal(size=(8, 2)), 1, progress=False)
    assert len(set(found)) == 3


def test_ufunc():
    """`vectorize` makes a function of two numbers of a network of two inputs."""
    net = dj.Network([2, 8, 1], "tanh")
    handle = net.handle()

    @numba.vectorize(["float32(float32, float32)"])
    def f(a, b):
        x, y = np.array([a, b]), np.empty(1, np.float32)
        model, work = kernels.from_handle(handle, x)
        kernels.predict(model, x, y, work)
        return y[0]

    a, b = np.random.default_rng(0).normal(size=(2, 20, 50)).astype("float32")
    for _ in range(2):
        expected = net.predict(np.stack([a.ravel(), b.ravel()], axis=1)).reshape(a.shape)
        np.testing.assert_array_equal(f(a, b), expected)
        net.weights[0][:] *= -2
