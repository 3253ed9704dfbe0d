"""Circuits of 1e2 to 1e6 random operations: value, gradient and Hessian times vector cost O(N).

Beside CasADi, JAX and autograd where they are installed, each up to the size that it makes in
minutes; what tracing and compiling take is told apart.
"""

import numpy as np
import pytest

from bench import groups
from bench.circuits import ANYWHERE, BATCH, FORMULAS, GRADIENT, HVP, N_INPUTS, VALUE

GROUPS = groups.all_circuits
RATIOS = [(GRADIENT, VALUE, 4.0), (HVP, VALUE, 10.0)]
SLOPE_FROM = 800  # operations: below, the time is not that of the operations
IN_CACHE = 10_000  # operations: above, values of operands from anywhere come from ever further away


def test_time(benchmark, group, member):
    """One call of each member, beside the others of its circuit."""
    benchmark.group, benchmark.name = group.title, member
    result = benchmark(group.calls[member])
    library, _, what = member.rpartition(": ")
    if library and what == GRADIENT:
        check(library, result, group.calls[GRADIENT]())
    if benchmark.enabled:
        seconds = float(np.median(group.rounds()[member]))
        benchmark.extra_info |= {
            "N": group.n,
            "batch": BATCH,
            "ns an operation and sample": 1e9 * seconds / (group.n * BATCH),
            "time / value": group.ratio(member, VALUE).value,
            "seconds of tracing and compiling": group.about["made"][library],
        }


def check(library, found, right):
    """Raise AssertionError unless another library's value and gradient are ours."""
    (value, grad), (other_value, other_grad) = right, found
    np.testing.assert_allclose(np.ravel(other_value), value, 1e-9, 1e-9)
    other_grad = np.asarray(other_grad).reshape(-1)
    if library == "casadi":  # column by column
        other_grad = other_grad.reshape(N_INPUTS, BATCH).T.reshape(-1)
    scale = np.abs(grad).max()
    np.testing.assert_allclose(other_grad / scale, grad.reshape(-1) / scale, 1e-8, 1e-8)


@pytest.mark.parametrize(("numerator", "base", "most"), RATIOS)
def test_ratio(claims, group, numerator, base, most):
    text = f"circuit: {numerator} / {base}, every N"
    claims.check(text, group.title, lambda effort: group.ratio(numerator, base, effort), most=most)


def test_beside_others(claims, group):
    for other in group.members:
        library, _, member = other.rpartition(": ")
        if library and member == GRADIENT:
            text = f"circuit: {other} / deltajit: {member}"
            claims.check(text, group.title, lambda _, o=other, m=member: group.ratio(o, m))
            seconds = groups.exact(sum(group.about["made"][library]))
            text = f"circuit: tracing and compiling by {library}, s"
            claims.check(text, group.title, lambda _, seconds=seconds: seconds)


@pytest.mark.parametrize(
    ("family", "most_n", "limits"),
    [
        (FORMULAS, None, {"least": 0.95, "most": 1.05}),
        (ANYWHERE, IN_CACHE, {"least": 0.95, "most": 1.05}),
        (ANYWHERE, None, {}),  # the value's time grows as much
    ],
)
def test_exponent(claims, pytestconfig, family, most_n, limits):
    every = GROUPS(pytestconfig.getoption("full"))
    some = [group for group in every if group.about["family"] == family and group.n >= SLOPE_FROM]
    some = [group for group in some if most_n is None or group.n <= most_n]
    to = f" to {most_n:,}" if most_n else ""
    for member in (GRADIENT,) if limits else (GRADIENT, VALUE):
        claims.check(
            f"circuit: exponent of N in the {member}'s time, {family}, N from {SLOPE_FROM:,}{to}",
            f"{len(some)} circuits",
            lambda effort, m=member: groups.over_groups(some, groups.exponent, m, effort=effort),
            **limits,
        )
