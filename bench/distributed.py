"""``python -m bench.distributed``: what Dask adds to a step, and what a step costs on more workers.

With --memory instead: train on 8 GB of a memory map, and print the most memory that was used.
"""

import hashlib
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench import store

WORK = [0.01, 0.03, 0.1, 0.3, 1.0]  # seconds of gradient in a step
REPEATS = 5
SIZES, BLOCK = (32, 256, 256, 1), 1024
WORKERS = 16, 256, 4096
GIGABYTES = 8


def run():
    """Hashes after two fits for 1 to 4 workers; step times, the model of them, and predictions."""
    hashes = {workers: hashes_of(workers) for workers in (0, 1, 2, 3, 4)}
    for workers, values in hashes.items():
        print(f"{workers or 'no'} workers:", *values)
    assert len(set(hashes.values())) == 1
    one, two = step_times(1), step_times(2)
    print("  work a step    1 worker   2 workers   ratio")
    for x, y in zip(one, two, strict=True):
        ratio = x["seconds"] / y["seconds"]
        print(f"{x['work']:11.3f} s {x['seconds']:9.3f} s {y['seconds']:9.3f} s {ratio:7.2f}")
    model = fitted([*one, *two])
    print(", ".join(f"{name}: {seconds:.2g} s" for name, seconds in model.items()))
    predictions = {}
    for work in (1, 10, 100, 1000, 10_000):
        alone = predict(model, work, 1)
        predictions[work] = {n: alone / predict(model, work, n) for n in WORKERS}
        print(f"{work:11} s", *(f"{x:10.1f}x by {n:,}" for n, x in predictions[work].items()))
    return {
        "theta": hashes[0],
        "steps": {"1": one, "2": two},
        "model": model,
        "predicted": {str(work): [*x.values()] for work, x in predictions.items()},
    }


def cluster(workers):
    """A client of so many processes, or None."""
    from contextlib import ExitStack, contextmanager

    from distributed import Client, LocalCluster

    @contextmanager
    def client():
        with ExitStack() as stack:
            if workers == 0:
                yield None
            else:
                machines = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    dashboard_address=":0",
                    scheduler_kwargs={"dashboard": False},
                )
                yield stack.enter_context(Client(stack.enter_context(machines)))

    return client()


def problem(samples, n_in=SIZES[0]):
    """X and Y."""
    import numpy as np

    X = np.random.default_rng(0).normal(size=(samples, n_in)).astype(np.float32)
    return X, np.sin(X[:, :4].sum(axis=1))


def hashes_of(workers):
    """sha256 of theta after LBFGS and after Adam."""
    import deltajit as dj
    from deltajit import distributed

    X, Y = problem(20_000)
    found = []
    with cluster(workers) as client:
        for method in (dj.LBFGS(), dj.Adam()):
            net = dj.Network([32, 64, 1], rng=0)
            distributed.fit(
                net, X, Y, client, method, epochs=10, batch_size=4096, block_size=512,
                progress=False,
            )  # fmt: skip
            found.append(hashlib.sha256(net.theta.tobytes()).hexdigest()[:16])
    return tuple(found)


def step_times(workers):
    """Median seconds of full-batch steps of different work, in seconds of one core, and tasks."""
    import numpy as np

    import deltajit as dj
    from deltajit.distributed import cluster as machines
    from deltajit.distributed import reduction, rows
    from deltajit.training.leaves import Gradient

    net = dj.Network(SIZES, rng=0)
    X, Y = problem(BLOCK)
    leaf_seconds = min(leaf_time(net, X, Y) for _ in range(20))
    found = []
    with cluster(workers) as client, tempfile.TemporaryDirectory() as folder:
        for work in WORK:
            blocks = max(1, round(work / leaf_seconds))
            X, Y = problem(blocks * BLOCK)
            np.save(f"{folder}/X.npy", X)
            np.save(f"{folder}/Y.npy", Y)
            columns = rows.checked(net.architecture, f"{folder}/X.npy", f"{folder}/Y.npy", None)
            identity = machines.prepare(client, net.architecture, True)
            samples = rows.cut(net.architecture, columns, BLOCK, client)
            reduce = reduction.Reduction(net.architecture, samples, BLOCK, client, identity)
            seconds = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                reduce(Gradient(), net.theta, range(blocks))
                seconds.append(time.perf_counter() - start)
            tasks, depth = shape(blocks, workers, reduction)
            found.append(
                {
                    "work": blocks * leaf_seconds,
                    "workers": workers,
                    "tasks": tasks,
                    "depth": depth,
                    "seconds": float(np.median(seconds)),
                }
            )
    return found


def shape(blocks, workers, reduction):
    """How many tasks a step has, and how many levels of additions."""
    grain = 1 << max(0, (blocks // (reduction.TASKS * workers)).bit_length() - 1)
    level = -(-blocks // grain)
    tasks, depth = level, 0
    while level > 1:
        level = -(-level // reduction.FAN)
        tasks, depth = tasks + level, depth + 1
    return tasks, depth


def leaf_time(net, X, Y):
    """Seconds of one block's gradient here."""
    from deltajit.model.data import checked
    from deltajit.training.leaves import Gradient

    start = time.perf_counter()
    data = checked(net.architecture, X, Y, None, finite=True)
    Gradient()(net.architecture, net.theta, data, 0)
    return time.perf_counter() - start


def fitted(steps):
    """The start of a step, times of a task and of a message, and seconds a second of work takes."""
    import numpy as np
    from scipy.optimize import nnls

    parts = np.array([(1.0, x["tasks"], x["depth"], x["work"] / x["workers"]) for x in steps])
    scaled = parts / np.array([[x["seconds"]] for x in steps])  # errors count in proportion
    parameters, _ = nnls(scaled, np.ones(len(steps)))
    return dict(zip(("start", "task", "message", "work"), parameters.tolist(), strict=True))


def predict(model, work, workers):
    """Seconds of a step."""
    from deltajit.distributed import reduction

    tasks, depth = shape(reduction.TASKS * workers, workers, reduction)
    parts = 1.0, tasks, depth, work / workers
    return sum(x * y for x, y in zip(model.values(), parts, strict=True))


# ---------------------------------------------------------------- memory


def memory():
    """Train on a memory map of 8 GB, without a client; print the most resident memory."""
    import numpy as np

    import deltajit as dj
    from deltajit import distributed

    n_in, rows_at_once = 64, 2**18
    n = GIGABYTES * 10**9 // (4 * n_in)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        X = np.lib.format.open_memmap(f"{folder}/X.npy", "w+", np.float32, (n, n_in))
        Y = np.lib.format.open_memmap(f"{folder}/Y.npy", "w+", np.float32, (n,))
        rng = np.random.default_rng(0)
        for first in range(0, n, rows_at_once):
            part = rng.standard_normal((min(rows_at_once, n - first), n_in), np.float32)
            X[first : first + len(part)] = part
            Y[first : first + len(part)] = np.tanh(part[:, :4].sum(axis=1))
        del X, Y
        peak, done = [0], threading.Event()
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM from here on

        def watch():
            while not done.wait(0.02):
                peak[0] = max(peak[0], resident()["RssAnon"])

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        net = dj.Network([n_in, 16, 1], rng=0)
        given = f"{folder}/X.npy", f"{folder}/Y.npy"
        adam = distributed.fit(net, *given, epochs=1, batch_size=2**20, progress=False)
        lbfgs = distributed.fit(net, *given, optimizer=dj.LBFGS(), epochs=1, progress=False)
        done.set()
        watcher.join()
        found = {
            "samples": n,
            "losses": [adam.loss[-1], lbfgs.loss[-1]],
            "seconds": time.perf_counter() - start,
            "peak RSS, GB": resident()["VmHWM"] / 1e9,
            "peak anonymous, GB": peak[0] / 1e9,
        }
    print(*(f"{name}: {value}" for name, value in found.items()), sep="\n")
    return found


def resident():
    """{name: bytes} of this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    parts = [line.split() for line in lines if line.startswith(("VmHWM", "VmRSS", "Rss"))]
    return {name.rstrip(":"): 1024 * int(size) for name, size, _ in parts}


if __name__ == "__main__":
    if "--memory" in sys.argv:
        store.save("distributed_memory", memory())
    else:
        store.run("distributed", run, threads=2)
