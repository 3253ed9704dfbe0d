"""What is measured together: the members of one network or circuit, in interleaved rounds."""

from functools import cache, cached_property
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

from bench import cases, circuits, derivatives, peak
from bench.circuits import VALUE
from bench.clock import Contestant, race, repeat
from bench.derivatives import GRADIENT, HVP, KEPT, LOSS, PER_SAMPLE

SECONDS, CHUNK_SECONDS, LEAST_ROUNDS = 1.5, 1e-3, 7  # of a group's rounds, and of a turn in one
MORE = 4  # times as many rounds, where the first ones contradict a claim
RESAMPLES, INSIDE = 1_000, 0.95  # of the bootstrap
PEAK = "peak"  # seconds of one operation of `bench.peak`, in every round


class Figure(NamedTuple):
    """A measured number, and the ends of its bootstrap interval (Efron 1979)."""

    value: float
    low: float
    high: float


class Ratio(NamedTuple):
    """What is claimed: a member takes at most so many times as long as another."""

    member: str
    base: str
    most: float

    def __str__(self):
        return f"{self.member} / {self.base}"


class Group:
    """One network or circuit; `title` names its group in pytest-benchmark's table.

    count : function that returns its parameters, or operations. members : names of what `make`
    returns, {member: call without arguments}. ratios : what is claimed.
    about : what the results hold of it; `kind` and `batch` always.
    """

    def __init__(self, title, count, members, make, ratios, **about):
        self.title, self.count, self.members, self.make = title, count, members, make
        self.ratios, self.about, self.measured = ratios, about, {}
        self.base = members[0]  # what all others are compared with

    @cached_property
    def n(self):
        """Parameters, or operations: those of a circuit are known when it is traced."""
        return self.count()

    @cached_property
    def calls(self):
        """{member: call without arguments}, each called once: nothing is left to compile."""
        calls = self.make()
        for call in calls.values():
            call()
        return calls

    def forget(self):
        """Give the memory of the calls back; what was measured stays."""
        self.__dict__.pop("calls", None)

    def rounds(self, effort=1):
        """{member: CPU seconds of a call in each round}, measured when it is first asked for."""
        if effort not in self.measured:
            contestants = [Contestant(m, repeat(c), 1 << 40) for m, c in self.calls.items()]
            contestants.append(peak.contestant("float32"))
            pace = effort * SECONDS, CHUNK_SECONDS, effort * LEAST_ROUNDS
            self.measured[effort] = race(contestants, *pace)
        return self.measured[effort]

    def seconds(self):
        """{member: median CPU seconds of a call}, of all rounds there are."""
        latest = self.measured[max(self.measured)]
        return {member: float(np.median(times)) for member, times in latest.items()}

    def ratio(self, member, base, effort=1):
        """Median of a member's time over another's, taken round by round."""
        times = self.rounds(effort)
        return interval(np.median, times[member] / times[base])


def interval(statistic, *samples):
    """Figure of ``statistic(each sample, axis=-1)``, samples (rounds,) resampled on their own."""
    rng = np.random.default_rng(0)
    again = [x[rng.integers(len(x), size=(RESAMPLES, len(x)))] for x in samples]
    ends = np.quantile(statistic(*again, axis=-1), [(1 - INSIDE) / 2, (1 + INSIDE) / 2])
    return Figure(*map(float, (statistic(*samples, axis=-1), *ends)))


def exact(value):
    """Figure of a number without noise."""
    return Figure(value, value, value)


def over_groups(groups, statistic, *members, effort=1):
    """Figure of ``statistic(N, *medians of each member)``, N and medians (groups,)."""
    samples = [group.rounds(effort)[member] for member in members for group in groups]
    for group in groups:
        group.forget()
    n = np.array([group.n for group in groups], float)

    def of_rounds(*samples, axis):
        medians = np.array([np.median(sample, axis=axis) for sample in samples])
        return statistic(n, *medians.reshape(len(members), len(groups), *medians.shape[1:]))

    return interval(of_rounds, *samples)


def exponent(n, times):
    """Of time ~ N**exponent: slope of a line through the logs, by least squares."""
    x = np.log(n) - np.log(n).mean()
    return np.tensordot(x / (x @ x), np.log(times), 1)


def line(n, times):
    """(c0, c1) of time = c0 + c1 N, by least squares of ``c0 / t + c1 N / t - 1``."""
    u = 1 / times
    v = (n * u.T).T
    uu, uv, vv = (u * u).sum(axis=0), (u * v).sum(axis=0), (v * v).sum(axis=0)
    u, v, determinant = u.sum(axis=0), v.sum(axis=0), uu * vv - uv * uv
    return (vv * u - uv * v) / determinant, (uu * v - uv * u) / determinant


# ------------------------------------------------------------------ networks and circuits

OURS = (LOSS, GRADIENT, HVP, KEPT, PER_SAMPLE)
REFERENCE, LIMIT = "reference", "limit"
BATCH = 256  # where the claims about time are made
NETWORK, CIRCUIT = "network", "circuit"
RATIOS = {
    NETWORK: [Ratio(GRADIENT, LOSS, 3), Ratio(HVP, GRADIENT, 2.7), Ratio(KEPT, GRADIENT, 2)],
    CIRCUIT: [Ratio(GRADIENT, VALUE, 4), Ratio(HVP, VALUE, 10)],
}
LARGEST_OF_PEERS = {"casadi": 100_000, "jax": 1_000, "autograd": 10_000}  # circuits in minutes


@cache
def grid(full):
    """Return all groups by size: the claims' batch and one sample; more in the full grid."""
    if full:
        every = [*derivatives.WIDE, *derivatives.DEEP, *derivatives.FLAT]
        networks = [(sizes, batch) for sizes in every for batch in (1, 64, BATCH)]
    else:
        networks = [(sizes, BATCH) for sizes in derivatives.QUICK] + [(derivatives.LARGEST, 1)]
    operations = circuits.SIZES if full else circuits.SIZES[:-1]
    families = circuits.FORMULAS, circuits.ANYWHERE
    return [
        *(network(*each) for each in networks),
        *(circuit(n, family, with_peers=full) for family in families for n in operations),
    ]


def network(sizes, batch):
    """Return the group of one network: our members, and those of the reference."""
    n = cases.Case(sizes, "tanh", batch).n_params
    libraries = {"": derivatives.deltajit, REFERENCE: derivatives.numpy}
    members = [*OURS[:4], *(f"{REFERENCE}: {member}" for member in OURS[:3])]
    if batch * n <= derivatives.LARGEST_PER_SAMPLE:
        members.append(PER_SAMPLE)
    if (sizes, batch) == (derivatives.LARGEST, 1):
        libraries[LIMIT] = derivatives.memory
        members.append(f"{LIMIT}: {GRADIENT}")

    def make():
        problem = derivatives.problem(sizes, batch)
        return named({name: library(problem) for name, library in libraries.items()})

    title = f"N = {n:,}: {derivatives.name(sizes)}, batch {batch:,}"
    ratios = RATIOS[NETWORK] if batch == BATCH else []
    about = {"kind": NETWORK, "sizes": sizes, "batch": batch}
    return Group(title, lambda: n, members, make, ratios, **about)


def circuit(n, family, with_peers=False):
    """Return the group of one circuit: our members, and those of others by prefixed names."""
    libraries = {"": circuits.deltajit, LIMIT: circuits.traffic}
    if with_peers and family == circuits.FORMULAS:
        for name, most in LARGEST_OF_PEERS.items():
            if find_spec(name) and n <= most:
                libraries[name] = getattr(circuits, name)
    made = {}

    def make():
        subjects = {}
        for name, library in libraries.items():
            *seconds, subjects[name] = library(n, family)
            if name != LIMIT:
                made[name] = seconds
        return named(subjects)

    title = f"circuit of {n:,}: {family}, batch {circuits.BATCH}"
    members = [VALUE, GRADIENT, HVP, *(f"{name}: {GRADIENT}" for name in libraries if name)]
    about = {"kind": CIRCUIT, "family": family, "batch": circuits.BATCH, "seconds to make": made}

    def count():
        return circuits.circuit(n, family)[1].n_operations

    return Group(title, count, members, make, RATIOS[CIRCUIT], **about)


def named(subjects):
    """{member: call} of {library: {member: call}}: our names are plain, others' have a prefix."""
    pairs = [(f"{name}: " if name else "", calls) for name, calls in subjects.items()]
    return {prefix + member: call for prefix, calls in pairs for member, call in calls.items()}
