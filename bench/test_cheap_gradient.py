"""The cheap gradient principle (Baur & Strassen 1983; Griewank 1989), measured: O(N) for all.

Networks of 1e2 to 1e7 parameters, and circuits of 1e2 to 1e6 random operations.
"""

import tracemalloc

import numpy as np
import pytest

import deltajit as dj
from bench import circuits, derivatives, groups
from bench.derivatives import GRADIENT, HVP, KEPT, LOSS, PER_SAMPLE
from bench.groups import BATCH, CIRCUIT, NETWORK, PEAK, RATIOS

LIMIT = f"{groups.LIMIT}: {GRADIENT}"
MEMORY = {"loss": 3.0, "grad": 3.0, "hvp": 6.0}  # floats for each parameter and activation
AS_N = {"least": 0.95, "most": 1.05}
# What the exponents are taken of: (N from, to). Below, the time is not that of the multiply-adds or
# operations. Values of operands from anywhere leave one cache after another as N grows: there the
# value's time grows faster than N, and the gradient's with it.
EXPONENTS = [
    (NETWORK, None, GRADIENT, (10_000, np.inf), AS_N),
    (CIRCUIT, circuits.FORMULAS, GRADIENT, (800, np.inf), AS_N),
    (CIRCUIT, circuits.ANYWHERE, GRADIENT, (800, 10_000), AS_N),
    (CIRCUIT, circuits.ANYWHERE, GRADIENT, (5_000, np.inf), {}),
    (CIRCUIT, circuits.ANYWHERE, circuits.VALUE, (5_000, np.inf), {}),
]


def test_time(benchmark, group, member):
    """One call of each member, beside the others of its network or circuit."""
    benchmark.group, benchmark.name = group.title, member
    result = benchmark(group.calls[member])
    library, _, what = member.rpartition(": ")
    network = group.about["kind"] == NETWORK
    if library and what == GRADIENT and not network:
        circuits.check(library, result, group.calls[GRADIENT]())
    if benchmark.enabled:
        times, batch = group.rounds(), group.about["batch"]
        ratio = group.ratio(member, group.base).value
        benchmark.extra_info |= {"N": group.n, "batch": batch, f"time / {group.base}": ratio}
        if network:
            flops = derivatives.flops(group.about["sizes"], batch, what)
            benchmark.extra_info |= {
                "flops of matrix products": flops,
                "share of FMA peak": float(np.median(flops * times[PEAK] / times[member])),
            }
        else:
            each = 1e9 * float(np.median(times[member])) / (group.n * batch)
            benchmark.extra_info["ns an operation and sample"] = each


def test_ratio(claims, group, ratio):
    """At every N: whole calls from Python, of which nothing is taken off."""
    if group.about["kind"] == NETWORK:
        flops = [derivatives.flops(group.about["sizes"], BATCH, each) for each in ratio[:2]]
        text = f"{group.about['kind']}: {ratio}, flops of matrix products"
        claims.check(text, group.title, groups.exact(flops[0] / flops[1]))
    claims.check(
        f"{group.about['kind']}: {ratio}, every N",
        group.title,
        lambda effort: group.ratio(ratio.member, ratio.base, effort),
        most=ratio.most,
    )


def test_beside_others(claims, group):
    """The reference, other libraries, and gradients of each sample: for information."""
    kind, made = group.about["kind"], group.about.get("seconds to make", {})
    pairs = {other: other.rpartition(": ")[2] for other in group.members if ": " in other}
    if PER_SAMPLE in group.members:
        pairs[PER_SAMPLE] = GRADIENT
    for other, own in pairs.items():
        figure = group.ratio(other, own)
        claims.check(f"{kind}, batch {group.about['batch']}: {other} / {own}", group.title, figure)
    for library in made:
        seconds = groups.exact(sum(made[library]))
        text = f"{kind}: tracing and compiling by {library or 'deltajit'}, s"
        claims.check(text, group.title, seconds)


@pytest.fixture
def grid(pytestconfig):
    """All groups."""
    return groups.grid(pytestconfig.getoption("full"))


@pytest.fixture
def sweep(grid):
    """Networks of every size at the claims' batch."""
    return [group for group in grid if group.about["kind"] == NETWORK and group.ratios]


@pytest.mark.parametrize(("kind", "family", "member", "ends", "limits"), EXPONENTS)
def test_exponent(claims, grid, kind, family, member, ends, limits):
    some = [group for group in grid if group.about["kind"] == kind and group.ratios]
    some = [group for group in some if group.about.get("family") == family]
    some = sorted((g for g in some if ends[0] <= g.n <= ends[1]), key=lambda group: group.n)
    what = f"{kind}, {family}" if family else kind
    between = f"N >= {ends[0]:,}" if ends[1] == np.inf else f"N {ends[0]:,} to {ends[1]:,}"
    claims.check(
        f"{what}: exponent of N in the {member}'s time, {between}",
        f"{len(some)} sizes, {some[0].n:,} to {some[-1].n:,}",
        lambda effort: groups.over_groups(some, groups.exponent, member, effort=effort),
        **limits,
    )


def test_floor(claims, sweep):
    """Time = c0 + c1 N: c0 is the call's, which flatters the ratio of a small network."""
    subject = f"{len(sweep)} networks, batch {BATCH}"
    for member in (LOSS, GRADIENT, HVP, KEPT):
        for text, statistic, scale in (
            (f"network: c0 of {member} = c0 + c1 N, us", groups.floor, 1e6),
            (f"network: c1 of {member} = c0 + c1 N, ns", groups.per_parameter, 1e9),
        ):
            figure = groups.over_groups(sweep, statistic, member)
            claims.check(text, subject, groups.Figure(*(scale * x for x in figure)))


@pytest.mark.parametrize("ratio", RATIOS[NETWORK], ids=str)
def test_ratio_without_floor(claims, sweep, ratio):
    def of_c1(n, *times):
        return np.divide(*(groups.per_parameter(n, each) for each in times))

    claims.check(
        f"network: {ratio}, of c1",
        f"{len(sweep)} networks, batch {BATCH}",
        lambda effort: groups.over_groups(sweep, of_c1, ratio.member, ratio.base, effort=effort),
        most=ratio.most,
    )


def test_one_sample(claims, grid):
    """Memory is what limits it: W is read forward and back, and its gradient written."""
    group = next(group for group in grid if LIMIT in group.members)
    claims.check(
        "network, one sample: gradient / moving its memory",
        group.title,
        lambda effort: group.ratio(GRADIENT, LIMIT, effort),
        most=1.5,
    )
    moved = 4e-9 * derivatives.floats_moved(group.about["sizes"])
    for member in (GRADIENT, LIMIT):
        figure = groups.interval(np.median, moved / group.rounds()[member])
        claims.check(f"network, one sample: {member}, GB/s", group.title, figure)


@pytest.mark.parametrize("method", MEMORY)
def test_memory(claims, sweep, method):
    """What a call allocates, scratch memory and result, by NumPy's own account."""
    for group in sweep:
        problem = derivatives.problem(group.about["sizes"], BATCH)
        for _ in range(2):  # the first compiles; each network has scratch memory of its own
            net = dj.Network(problem.case.sizes, threads=1)
            direction = [net.theta] if method == "hvp" else []
            tracemalloc.start()
            getattr(net, method)(problem.X, problem.Y, *direction)
            floats = tracemalloc.get_traced_memory()[1] / 4
            tracemalloc.stop()
        figure = groups.exact(floats / (group.n + BATCH * sum(net.sizes)))
        text = f"network: memory of {method} / (parameters + activations)"
        claims.check(text, group.title, figure, most=MEMORY[method])
