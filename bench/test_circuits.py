"""Circuits of 1e2 to 1e6 random operations: value, gradient and Hessian times vector cost O(N).

Beside CasADi, JAX and autograd where they are installed, each up to the size that it makes in
minutes; what tracing and compiling take is told apart.
"""

from importlib.util import find_spec

import numpy as np
import pytest

from bench import circuits
from bench.circuits import ANYWHERE, BATCH, FORMULAS, GRADIENT, HVP, SIZES, VALUE
from bench.claims import medians
from bench.test_cheap_gradient import take_turns

LARGEST = {"casadi": 100_000, "jax": 1_000, "autograd": 10_000}
PEERS = [
    pytest.param(name, n, id=f"{name}-{n}")
    for name, largest in LARGEST.items()
    if find_spec(name)
    for n in SIZES
    if n <= largest
]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kind", [FORMULAS, ANYWHERE])
def test_cheap_gradient_of_a_circuit(benchmark, report, kind, n):
    left = circuits.count(n, kind)
    measure(benchmark, report, "deltajit", kind, left, circuits.deltajit(n, kind))


@pytest.mark.parametrize(("library", "n"), PEERS)
def test_peer_of_a_circuit(benchmark, report, library, n):
    """The same numbers, and the times of both in turns."""
    _, _, own = circuits.deltajit(n, FORMULAS)
    subject = getattr(circuits, library)(n, FORMULAS)
    value, grad = own[GRADIENT]()
    other_value, other_grad = subject[2][GRADIENT]()
    np.testing.assert_allclose(np.ravel(other_value), value, 1e-9, 1e-9)
    other_grad = np.asarray(other_grad).reshape(-1)
    if library == "casadi":  # column by column
        other_grad = other_grad.reshape(circuits.N_INPUTS, BATCH).T.reshape(-1)
    scale = np.abs(grad).max()
    np.testing.assert_allclose(other_grad / scale, grad.reshape(-1) / scale, 1e-8, 1e-8)
    measure(benchmark, report, library, FORMULAS, circuits.count(n, FORMULAS), subject, own)


def measure(benchmark, report, library, kind, n, subject, own=None):
    """Time a subject, beside our own where it is a peer's, and put the medians into the report."""
    traced, compiled, calls = subject
    named = {(library, what): call for what, call in calls.items()}
    named |= {("deltajit", what): call for what, call in (own or {}).items()}
    times = medians(take_turns(benchmark, named))
    row = {
        "library": library,
        "kind": kind,
        "n": n,
        "traced": traced,
        "compiled": compiled,
        "times": {what: times[library, what] for what in (VALUE, GRADIENT, HVP)},
        "own": {what: times["deltajit", what] for what in (VALUE, GRADIENT, HVP)},
    }
    report.circuits.append(row)
    benchmark.extra_info.update(row)
