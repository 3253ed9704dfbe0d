"""The cheap gradient principle (Baur & Strassen 1983; Griewank 1989), measured: O(N) for all."""

import tracemalloc

import numpy as np
import pytest

import deltajit as dj
from bench import derivatives, groups
from bench.derivatives import GRADIENT, HVP, KEPT, LOSS, PER_SAMPLE, Problem
from bench.groups import BATCH, PEAK

GROUPS = groups.networks
RATIOS = [(GRADIENT, LOSS, 3.0), (HVP, GRADIENT, 2.7), (KEPT, GRADIENT, 2.0)]
LIMIT = f"{groups.LIMIT}: {GRADIENT}"
SLOPE_FROM = 10_000  # parameters: below, the time is not that of the multiply-adds
MEMORY = {"loss": 3.0, "grad": 3.0, "hvp": 6.0}  # floats for each parameter and activation


def test_time(benchmark, group, member):
    """One call of each member, beside the others of its network."""
    benchmark.group, benchmark.name = group.title, member
    benchmark(group.calls[member])
    if benchmark.enabled:
        flops = derivatives.flops(group.about["sizes"], group.about["batch"], member)
        times = group.rounds()
        benchmark.extra_info |= {
            "N": group.n,
            "batch": group.about["batch"],
            "flops of matrix products": flops,
            "share of FMA peak": float(np.median(flops * times[PEAK] / times[member])),
            "time / loss": group.ratio(member, LOSS).value,
        }


@pytest.mark.parametrize(("numerator", "base", "most"), RATIOS)
def test_ratio(claims, group, numerator, base, most):
    """At every N: whole calls from Python, of which nothing is taken off."""
    text = f"{numerator} / {base}, every N"
    claims.check(text, group.title, lambda effort: group.ratio(numerator, base, effort), most=most)


def test_beside_others(claims, group):
    """The reference, other libraries, and gradients of each sample: for information."""
    for other in group.members:
        prefix, _, member = other.rpartition(": ")
        if prefix:
            text = f"{other} / deltajit: {member}"
            claims.check(text, group.title, lambda _, pair=(other, member): group.ratio(*pair))
    if PER_SAMPLE in group.members:
        text = f"{PER_SAMPLE} / {GRADIENT}"
        claims.check(text, group.title, lambda _: group.ratio(PER_SAMPLE, GRADIENT))


@pytest.fixture
def sweep(pytestconfig):
    """Networks of every size at the claims' batch."""
    every = GROUPS(pytestconfig.getoption("full"))
    return [group for group in every if group.about["batch"] == BATCH]


def test_exponent(claims, sweep):
    large = [group for group in sweep if group.n >= SLOPE_FROM]
    claims.check(
        f"exponent of N in the gradient's time, N >= {SLOPE_FROM:,}",
        f"{len(large)} networks, batch {BATCH}",
        lambda effort: groups.over_groups(large, groups.exponent, GRADIENT, effort=effort),
        least=0.95,
        most=1.05,
    )


def test_floor(claims, sweep):
    """Time = c0 + c1 N: c0 is the call's, which flatters the ratio of a small network."""
    subject = f"{len(sweep)} networks, batch {BATCH}"
    for member in (LOSS, GRADIENT, HVP, KEPT):
        for text, statistic, scale in (
            (f"c0 of {member} = c0 + c1 N, us", groups.floor, 1e6),
            (f"c1 of {member} = c0 + c1 N, ns", groups.per_parameter, 1e9),
        ):
            found = groups.over_groups(sweep, statistic, member)
            figure = groups.Figure(*(scale * x for x in found))
            claims.check(text, subject, lambda _, figure=figure: figure)


@pytest.mark.parametrize(("numerator", "base", "most"), RATIOS)
def test_ratio_without_floor(claims, sweep, numerator, base, most):
    def ratio(n, *times):
        return np.divide(*(groups.per_parameter(n, each) for each in times))

    claims.check(
        f"{numerator} / {base}, of c1",
        f"{len(sweep)} networks, batch {BATCH}",
        lambda effort: groups.over_groups(sweep, ratio, numerator, base, effort=effort),
        most=most,
    )


def test_one_sample(claims, pytestconfig):
    """Memory is what limits it: W is read forward and back, and its gradient written."""
    every = GROUPS(pytestconfig.getoption("full"))
    group = next(group for group in every if LIMIT in group.members)
    claims.check(
        "gradient of one sample / moving its memory",
        group.title,
        lambda effort: group.ratio(GRADIENT, LIMIT, effort),
        most=1.5,
    )
    moved = 4e-9 * derivatives.floats_moved(group.about["sizes"])
    for member in (GRADIENT, LIMIT):
        seconds = group.rounds()[member]
        rate = groups.interval(np.median, moved / seconds)
        claims.check(f"{member} of one sample, GB/s", group.title, lambda _, rate=rate: rate)


@pytest.mark.parametrize("method", MEMORY)
def test_memory(claims, sweep, method):
    """What a call allocates, scratch memory and result, by NumPy's own account."""
    for group in sweep:
        problem = Problem(group.about["sizes"], BATCH)
        for _ in range(2):  # the first compiles; each network has scratch memory of its own
            net = dj.Network(problem.sizes, "tanh", "identity", "squared_error", threads=1)
            direction = [net.theta] if method == "hvp" else []
            tracemalloc.start()
            getattr(net, method)(problem.X, problem.Y, *direction)
            floats = tracemalloc.get_traced_memory()[1] / 4
            tracemalloc.stop()
        share = groups.exact(floats / (group.n + problem.activations))
        text = f"memory of {method} / (parameters + activations)"
        claims.check(text, group.title, lambda _, share=share: share, most=MEMORY[method])
