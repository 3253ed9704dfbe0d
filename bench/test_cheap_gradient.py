"""The cheap gradient principle (Baur & Strassen 1983; Griewank 1989), measured: O(N) for all.

Networks of 1e2 to 1e7 parameters, and circuits of 1e2 to 1e6 random operations.
"""

import tracemalloc
from functools import partial

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
# operations. Circuits take as N does where what they read in any order stays in the caches. As N
# grows, the tape leaves one cache after another, and so do values of operands from anywhere, of
# which each costs a cache line: moving that memory alone (LIMIT) has an exponent of 1.09 and 1.14
# on a Xeon. So over all N the gradient is claimed to be near that limit at each (`test_traffic`),
# and to grow no faster than it (`test_exponent_of_ratio`).
FAMILIES, SOME = (circuits.FORMULAS, circuits.ANYWHERE), 800
ALL = SOME, np.inf
EXPONENTS = [
    (NETWORK, None, GRADIENT, (10_000, np.inf), AS_N),
    (CIRCUIT, circuits.FORMULAS, GRADIENT, (SOME, 100_000), AS_N),
    (CIRCUIT, circuits.ANYWHERE, GRADIENT, (SOME, 10_000), AS_N),
    *((CIRCUIT, f, what, ALL, {}) for f in FAMILIES for what in (GRADIENT, circuits.VALUE, LIMIT)),
]


def test_time(benchmark, group, member):
    """One call of each member, beside the others of its network or circuit."""
    benchmark.group, benchmark.name = group.title, member
    result = benchmark(group.calls[member])
    library, _, what = member.rpartition(": ")
    network = group.about["kind"] == NETWORK
    if library not in ("", groups.LIMIT) and what == GRADIENT and not network:
        circuits.check(library, result, group.calls[GRADIENT]())
    if benchmark.enabled:
        times, batch = group.rounds(), group.about["batch"]
        ratio = group.ratio(member, group.base).value
        benchmark.extra_info |= {"N": group.n, "batch": batch, f"time / {group.base}": ratio}
        if network:
            flops = derivatives.flops(group.about["sizes"], batch, what)
            share = float(np.median(flops * times[PEAK] / times[member]))
            benchmark.extra_info |= {"flops of matrix products": flops, "share of FMA peak": share}
        else:
            each = 1e9 * float(np.median(times[member])) / (group.n * batch)
            benchmark.extra_info["ns an operation and sample"] = each


def test_ratio(claims, group, ratio):
    """At every N: whole calls from Python, of which nothing is taken off."""
    text, title = f"{group.about['kind']}: {ratio}", group.title
    if group.about["kind"] == NETWORK:
        flops = [derivatives.flops(group.about["sizes"], BATCH, each) for each in ratio[:2]]
        claims.check(f"{text}, flops of matrix products", title, groups.exact(flops[0] / flops[1]))
    measure = partial(group.ratio, *ratio[:2])
    claims.check(f"{text}, every N", title, measure, most=ratio.most)


def test_beside_others(claims, group):
    """The reference, other libraries, and gradients of each sample: for information."""
    kind, made = group.about["kind"], group.about.get("seconds to make", {})
    pairs = {other: other.rpartition(": ")[2] for other in group.members if ": " in other}
    if PER_SAMPLE in group.members:
        pairs[PER_SAMPLE] = GRADIENT
    for other, own in pairs.items():
        figure = group.ratio(other, own)
        claims.check(f"{kind}, batch {group.about['batch']}: {other} / {own}", group.title, figure)
    for library, seconds in made.items():
        text = f"{kind}: tracing and compiling by {library or 'deltajit'}, s"
        claims.check(text, group.title, groups.exact(sum(seconds)))


@pytest.fixture
def grid(pytestconfig):
    return groups.grid(pytestconfig.getoption("full"))


@pytest.fixture
def sweep(grid):
    """Networks of every size at the claims' batch."""
    return [group for group in grid if group.about["kind"] == NETWORK and group.ratios]


@pytest.mark.parametrize(("kind", "family", "member", "ends", "limits"), EXPONENTS)
def test_exponent(claims, grid, kind, family, member, ends, limits):
    some = between(grid, kind, family, ends)
    what = f"{kind}, {family}" if family else kind
    sizes = f"N >= {ends[0]:,}" if ends[1] == np.inf else f"N {ends[0]:,} to {ends[1]:,}"
    whose = "memory traffic" if member == LIMIT else member
    claims.check(
        f"{what}: exponent of N in the {whose}'s time, {sizes}",
        ends_of(some),
        lambda effort: groups.over_groups(some, groups.exponent, member, effort=effort),
        **limits,
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("base", "limits"), [(LIMIT, {"most": 0.05}), (circuits.VALUE, {})], ids=["traffic", "value"]
)
def test_exponent_of_ratio(claims, grid, family, base, limits):
    """From cache to cache, the gradient's time grows no faster than moving its memory."""
    some = between(grid, CIRCUIT, family, ALL)

    def of_ratio(n, gradient, other):
        return groups.exponent(n, gradient / other)

    def measure(effort):
        return groups.over_groups(some, of_ratio, GRADIENT, base, effort=effort)

    what = "moving its memory" if base == LIMIT else base
    text = f"circuit, {family}: exponent of N in gradient / {what}, N >= {SOME:,}"
    claims.check(text, ends_of(some), measure, **limits)


@pytest.mark.parametrize("family", FAMILIES)
def test_traffic(claims, grid, family):
    """Memory is what limits it: rows and tape are written forward, and read back."""
    for group in between(grid, CIRCUIT, family, ALL):
        text = f"circuit: gradient / moving its memory, N >= {SOME:,}"
        claims.check(text, group.title, partial(group.ratio, GRADIENT, LIMIT), most=2)


def between(grid, kind, family, ends):
    """Return the groups of some sizes, by size."""
    some = [g for g in grid if g.ratios and g.about["kind"] == kind]
    some = [g for g in some if g.about.get("family") == family and ends[0] <= g.n <= ends[1]]
    return sorted(some, key=lambda group: group.n)


def ends_of(some):
    """Say how many groups there are, and from which N to which."""
    return f"{len(some)} sizes, {some[0].n:,} to {some[-1].n:,}"


def test_floor(claims, sweep):
    """Time = c0 + c1 N: c0 is the call's, which flatters the ratio of a small network."""
    subject = f"{len(sweep)} networks, batch {BATCH}"
    for member in (LOSS, GRADIENT, HVP, KEPT):
        for i, unit, scale in ((0, "us", 1e6), (1, "ns", 1e9)):
            figure = groups.over_groups(sweep, lambda *x, i=i: groups.line(*x)[i], member)
            text = f"network: c{i} of {member} = c0 + c1 N, {unit}"
            claims.check(text, subject, groups.Figure(*(scale * x for x in figure)))


@pytest.mark.parametrize("ratio", RATIOS[NETWORK], ids=str)
def test_ratio_without_floor(claims, sweep, ratio):
    def of_c1(n, *times):
        return np.divide(*(groups.line(n, each)[1] for each in times))

    def measure(effort):
        return groups.over_groups(sweep, of_c1, *ratio[:2], effort=effort)

    subject = f"{len(sweep)} networks, batch {BATCH}"
    claims.check(f"network: {ratio}, of c1", subject, measure, most=ratio.most)


def test_one_sample(claims, grid):
    """Memory is what limits it: W is read forward and back, and its gradient written."""
    group = next(group for group in grid if LIMIT in group.members)
    text = "network, one sample: gradient / moving its memory"
    claims.check(text, group.title, partial(group.ratio, GRADIENT, LIMIT), most=1.5)
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
