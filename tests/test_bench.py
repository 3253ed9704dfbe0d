"""The peers benchmark: what it compares is right, and it runs from timing to table and picture."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from bench import cases, checks, figure, first_calls, libraries, machine, peak, peers, start, table

SMALL = [case for case in cases.CASES if case.n_params < 30_000]
OURS = [libraries.Deltajit, libraries.NumPy, libraries.ScikitLearn]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: f"{case.name} {case.batch}")
@pytest.mark.parametrize("library", OURS, ids=lambda library: library.name)
def test_equal_to_reference(library, case):
    if not library.takes(case):
        pytest.skip("the library can't express it")
    checks.check(library, cases.problem(case))


@pytest.mark.parametrize("library", OURS[:2], ids=lambda library: library.name)
def test_reorder_is_cumulative(library):
    problem = cases.problem(cases.Case((2, 3, 1), "tanh", 2))
    problem = problem._replace(X=problem.X[:8], Y=problem.Y[:8])
    order = np.array([3, 1, 0, 2, 7, 6, 5, 4])
    twice = order[order]
    shuffled, ready = (
        library(problem),
        library(problem._replace(X=problem.X[twice], Y=problem.Y[twice])),
    )
    shuffled.reorder(order)
    shuffled.reorder(order)
    for subject in (shuffled, ready):
        subject.train(4)
    for a, b in zip(shuffled.parameters(), ready.parameters(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_wrong_gradient_is_found():
    class Wrong(libraries.NumPy):
        def gradient(self):
            value, grads = super().gradient()
            return value, [grads[0] * 1.01, *grads[1:]]

    with pytest.raises(AssertionError, match="gradient is off"):
        checks.check(Wrong, cases.problem(SMALL[0]))


def test_flops_of_a_step():
    case = cases.Case((16, 64, 64, 8), "tanh", 64)
    assert case.flops == 6 * 64 * (16 * 64 + 64 * 64 + 64 * 8) - 2 * 64 * 16 * 64
    assert case.n_params == 17 * 64 + 65 * 64 + 65 * 8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_peak_kernel_does_every_multiply_add(dtype):
    lanes = peak.flops(np.dtype(dtype).name, 1) // (2 * peak.CHAINS)
    value = np.arange(peak.CHAINS, dtype=dtype) * dtype(0.75)
    for _ in range(3):
        value = value * dtype(0.75) + dtype(0.25)
    found = peak.multiply_adds(dtype(0.75), dtype(0.25), 3)
    np.testing.assert_allclose(found, value.sum() * lanes, rtol=1e-5)


def test_from_timing_to_table_and_picture(tmp_path):
    row = peers.measure(SMALL[0], OURS, SimpleNamespace(quick=True, threads=1))
    peers.share_of_peak([row], threads=1)
    assert 0 < row["share_of_peak"] < 1
    report = {
        "machine": machine.describe(OURS, None),
        "settings": {"threads": 1, "quick": True},
        "rows": [row],
    }
    for fastest in (False, True):
        lines = table.table(report, fastest).splitlines()
        assert lines[-1].startswith("| 2-16-1 tanh | 1 |")
        assert "no JAX scan, no PyTorch" in lines[-1]
    assert figure.save(report, tmp_path / "report.png").stat().st_size > 10_000


# ---------------------------------------------------------------- bench.start


def test_a_checkout_is_imported_from_a_copy():
    """Not from where it is installed."""
    with start.package_of(Path(start.__file__).parents[1]) as package:
        code = "import deltajit, deltajit.kernels as k; print(deltajit.__file__, k.__file__)"
        environment = {**os.environ, "PYTHONPATH": str(package)}
        command = [sys.executable, "-c", code]
        run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        names = ("deltajit/__init__.py", "deltajit/kernels/__init__.py")
        assert run.stdout.split() == [str(package / name) for name in names]
        assert not list(package.glob("deltajit/kernels/**/*.o"))


def test_twelve_features(capsys):
    first_calls.features()
    assert float(capsys.readouterr().out) > 0


def test_first_calls_in_processes_of_their_own(tmp_path):
    (tmp_path / "users.py").write_text(start.USERS.format(factor=1.0))
    whole, edited = start.seconds("gradient"), start.seconds("jitted", PYTHONPATH=str(tmp_path))
    assert whole > 0
    assert edited > 0
    assert start.peers(sys.executable)["scikit-learn"] > 0


def test_medians_and_ratios():
    numbers = iter([{"a": 1.0, "b": 9.0}, {"a": 5.0, "b": 7.0}, {"a": 2.0, "b": 8.0}])
    assert start.medians(lambda: next(numbers), 3) == {"a": 2.0, "b": 8.0}
    lines = start.table({"this": {"a": 2.0}, "old": {"a": 8.0}})
    assert lines[1].split() == ["a", "2.00", "8.00", "0.25x"]
    assert start.table({"this": {"a": 2.0}})[1].split() == ["a", "2.00"]
