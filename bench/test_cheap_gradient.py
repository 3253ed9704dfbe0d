"""The cheap gradient principle (Baur & Strassen 1983; Griewank 1989), measured: O(N) for all.

Loss, gradient and products with second derivatives of one network take turns in every round, each
after an untimed run of its own, so that neither drift nor a neighbour's cache favours one of them.
"""

import resource
import time
import tracemalloc
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest

from bench import derivatives, machine
from bench.claims import medians
from bench.derivatives import NETWORKS, SIMPLE_CHAINS, Problem

ROUNDS, SECONDS, CHUNK = 31, 1.0, 1e-3
LIBRARIES = {"deltajit": derivatives.deltajit}
if find_spec("jax"):
    LIBRARIES["JAX"] = derivatives.jax
if find_spec("torch"):
    LIBRARIES["PyTorch"] = derivatives.torch
COMPARED = [(16, 64, 64, 8), (64, 128, 128, 10), (128, 256, 256, 10), (512, 512, 512, 10)]


def name(sizes):
    return "-".join(map(str, sizes))


def take_turns(benchmark, calls):
    """{call: seconds of one call in each round}; a round is one sample of pytest-benchmark."""
    counts = {}
    for what, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        counts[what] = max(1, round(CHUNK / (time.perf_counter() - start)))
    times = {what: [] for what in calls}

    def one_round():
        for what, call in calls.items():
            call()
            start = time.perf_counter()
            for _ in range(counts[what]):
                call()
            times[what].append((time.perf_counter() - start) / counts[what])

    start = time.perf_counter()
    one_round()
    rounds = int(min(ROUNDS, max(5, SECONDS / (time.perf_counter() - start))))
    for found in times.values():
        found.clear()
    benchmark.pedantic(one_round, rounds=rounds)
    return times


def peak_flops():
    """Multiply-adds that this core can do, times two, in a second."""
    from bench.clock import best_time
    from bench.peak import flops, multiply_adds

    rounds, number = 200_000, np.float32
    return flops("float32", rounds) / best_time(
        partial(multiply_adds, number(1), number(0)), rounds
    )


@pytest.mark.parametrize("batch", [1, 64, 256])
@pytest.mark.parametrize("sizes", NETWORKS, ids=name)
def test_cheap_gradient(benchmark, report, sizes, batch):
    measure(benchmark, report, "deltajit", Problem(sizes, batch), sweep=True)


def test_small_network_on_many_samples(benchmark, report):
    measure(benchmark, report, "deltajit", Problem(SIMPLE_CHAINS, 10_000), sweep=False)


@pytest.mark.parametrize("library", [x for x in LIBRARIES if x != "deltajit"])
@pytest.mark.parametrize("sizes", COMPARED, ids=name)
def test_peer(benchmark, report, sizes, library):
    measure(benchmark, report, library, Problem(sizes, 256), sweep=True)


def measure(benchmark, report, library, problem, sweep):
    """Time a library on a problem, and put the medians into the report."""
    times = medians(take_turns(benchmark, LIBRARIES[library](problem)))
    row = {
        "library": library,
        "sizes": problem.sizes,
        "batch": problem.batch,
        "n_params": problem.n_params,
        "times": times,
        "share_of_peak": problem.loss_flops / times[derivatives.LOSS] / peak_flops(),
        "sweep": sweep,
    }
    report.rows.append(row)
    benchmark.extra_info.update(row)


@pytest.mark.parametrize("sizes", [(16, 64, 64, 8), (128, 256, 256, 10), (1024, 1024, 1024, 10)])
def test_memory_of_the_gradient(report, sizes):
    """What a gradient allocates: its result, and scratch memory, by NumPy's own account."""
    import deltajit as dj

    batch = 256
    problem = Problem(sizes, batch)
    net = dj.Network(sizes, "tanh", "identity", "squared_error", threads=1)
    peaks = {}
    for what in ("loss", "grad", "hvp"):
        fresh = dj.Network(sizes, "tanh", "identity", "squared_error", threads=1)
        v = [np.ones(net.n_params, np.float32)] if what == "hvp" else []
        getattr(net, what)(problem.X, problem.Y, *v)  # compiles
        tracemalloc.start()
        getattr(fresh, what)(problem.X, problem.Y, *v)
        peaks[what] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    limit = 4 * (3 * problem.activations + 2 * problem.n_params)
    size = 4 * (problem.activations + problem.n_params)
    row = {"sizes": sizes, "size": size, "workspace": peaks["grad"], "limit": limit, **peaks}
    report.memory.append(row)
    assert peaks["grad"] <= limit


def test_machine(report):
    """Bytes a second that a copy of 256 MiB reads and writes, and what else there is to know."""
    from bench.libraries import available

    source = np.ones(1 << 26, np.float32)
    target = np.empty_like(source)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        np.copyto(target, source)
        times.append(time.perf_counter() - start)
    report.machine.update(machine.describe(available(), None))
    report.machine["max_rss"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report.machine["bandwidth"] = 2 * source.nbytes / min(times)
