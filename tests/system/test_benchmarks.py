"""The benchmarks: what they compare is right, and a claim that does not hold fails the run."""

import json
import re
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from bench import (
    cases,
    checks,
    claims,
    derivatives,
    first_calls,
    groups,
    libraries,
    machine,
    peak,
    peers,
    products,
    report,
    second_order,
    start,
    store,
    table,
    worker,
)

import deltajit as dj
from tests.helpers import processes

SMALL = [case for case in cases.CASES if case.n_params < 30_000]
OURS = [libraries.Deltajit, libraries.NumPy]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: f"{case.name} {case.batch}")
@pytest.mark.parametrize("library", OURS, ids=lambda library: library.name)
def test_equal_to_reference(library, case):
    checks.check(library, cases.problem(case))


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


def test_elementary_functions_of_a_step():
    case = cases.Case((4, 8, 8, 3), "tanh", 10, output="sigmoid")
    assert case.elementary == {"tanh": 160, "sigmoid": 30}
    case = cases.Case((4, 8, 3), "relu", 10, **cases.SOFTMAX)
    assert case.elementary == {"exp": 30}


def test_a_worker_has_its_subjects_methods_and_errors():
    problem = cases.problem(SMALL[0])
    with closing(worker.Worker(libraries.NumPy, problem.case)) as subject:
        assert subject.start > 0
        assert subject.most == cases.CHECKED_STEPS
        checks.compare(subject, problem.few)
        subject.go_on()
        assert subject.most == problem.batches
        with pytest.raises(RuntimeError, match="NumPy: TypeError"):
            subject.train("three")


@pytest.mark.parametrize("library", [libraries.Libxsmm, libraries.Fann], ids=lambda x: x.name)
def test_drivers_in_c(library):
    """Blocks that are filled up, several blocks, and one sample."""
    if lacks := library.missing():
        pytest.skip(f"{lacks} is missing")
    wide = cases.Case((96, 130, 20), "tanh", 128, **cases.SOFTMAX)
    for case in filter(library.takes, [*SMALL, wide]):
        checks.check(library, cases.problem(case))
    assert np.spacing(np.float32(0)) * np.float64(1) > 0  # the process still has subnormals


def test_from_timing_to_table_and_picture(tmp_path):
    kinds = {
        "steps": (SMALL[0], OURS),
        "products": (cases.Product(64), products.LIBRARIES[:2]),
    }
    rows = [peers.measure(kind, *each, quick=True) for kind, each in kinds.items()]
    assert 0 < rows[0]["share of peak"] < rows[0]["share of limit"] < 1
    settings = {"threads": 1, "quick": True, "isa": "native"}
    results = {"machine": machine.describe(), "settings": settings, "rows": rows}
    for kind, name in (("steps", "2-16-1 tanh, batch 1"), ("products", "m = n = k = 64")):
        lines = table.table(results, kind).splitlines()
        assert lines[-1].startswith(f"| {name} | ")
        assert re.search(r"\*\*\d[\d.]*x\*\*", lines[-1])  # the fastest of all peers
    assert table.picture(results, tmp_path / "report.png").stat().st_size > 10_000


def test_verdicts():
    row = {"seconds": {"deltajit": 1.0, "A": 1.5, "B": 3.0}, "over": 2, "peak": 0.8}
    row["share of peak"] = 0.7
    assert table.best(row) == ("A", 1.5)
    assert table.best({"seconds": row["seconds"] | {"specialized": 0.5}}) == ("A", 1.5)
    assert table.verdict(row) == "2x, 80% of peak"
    assert table.verdict(row | {"over": 1.5, "peak": None}) == "met"


def test_what_a_restricted_process_may_use():
    """Both instruction sets in turn; where there is no more than AVX2, they are the same."""
    code = "from bench import limits; limits.restrict('avx2'); from bench import machine, peak\n"
    found = processes.run("-c", code + "print(peak.LANES_F32, machine.place(machine.describe()))")
    assert found.split(maxsplit=1)[0] == "8"
    assert "restricted to AVX2" in found


# ---------------------------------------------------------------- pytest bench/

# A gradient that is computed N / 10,000 times more than it should be, on a small grid.
QUADRATIC = """
def pytest_collection():
    from bench import derivatives, groups

    derivatives.QUICK = [(4, 8, 8, 1), (64, 128, 128, 10), (128, 256, 256, 10)]
    groups.SECONDS, derivatives.LARGEST_PER_SAMPLE = 0.05, 0
    right = derivatives.deltajit

    def wrong(problem):
        calls = right(problem)

        def gradient():
            for _ in range(1 + problem.case.n_params // 10_000):
                calls["gradient"]()

        return calls | {"gradient": gradient}

    derivatives.deltajit = wrong
"""


def test_a_quadratic_gradient_fails_the_run(tmp_path):
    (tmp_path / "quadratic.py").write_text(QUADRATIC)
    command = ["-m", "pytest", "bench/test_cheap_gradient.py", "-p", "quadratic"]
    command += ["-k", "test_ratio and loss or exponent and network", "--results", tmp_path]
    code, printed, _ = processes.end(processes.begin(*command, PYTHONPATH=tmp_path))
    assert code == pytest.ExitCode.TESTS_FAILED, printed
    number, cpu = r"[\d.]+", re.escape(machine.cpu_name())
    for claim, subject, limits in (
        ("network: gradient / loss, every N", "N = 101,386: 128-256-256-10, batch 256", "<= 3"),
        (
            "network: exponent of N in the gradient's time, N >= 10,000",
            "2 sizes, 26,122 to 101,386",
            "0.95 to 1.05",
        ),
    ):
        interval = rf"{claim} is {number} \(95 % interval {number} to {number}\) for {subject}"
        limited = rf"where {limits} is claimed: off by \d+%, on this CPU: {cpu}"
        assert re.search(f"{interval}, {limited}", printed), printed
    assert "for N = 121" not in printed  # where it is computed once
    kept = json.loads((tmp_path / "claims.json").read_text())["claims"]
    assert {claim["holds"] for claim in kept} == {True, False}


def test_a_claim_is_measured_once_more_before_it_fails():
    efforts = []

    def measure(effort):
        efforts.append(effort)
        return claims.Figure(3.2, 3.1 if effort == 1 else low, 3.3)

    for low, report_only in ((2.9, False), (3.1, True)):
        checked = claims.Claims(report_only)
        checked.check("a / b", "N = 1", measure, most=3)
        assert checked.all[0].holds == (low < 3)
        assert ("NO" in checked.table()[1]) == (low > 3)
    with pytest.raises(
        pytest.fail.Exception, match=r"a / b is 3.2 .* N = 1, where <= 3 is claimed: off by 7%"
    ):
        claims.Claims(False).check("a / b", "N = 1", measure, most=3)
    assert efforts == 3 * [1, claims.MORE]


def test_intervals_and_fits():
    rng, n = np.random.default_rng(0), np.array([100.0, 1e4, 1e6])
    noisy = groups.interval(np.median, 2 + rng.normal(size=400) / 10)
    assert noisy.low < noisy.value < noisy.high
    assert noisy.high - noisy.low == pytest.approx(4 * 1.25 * 0.1 / 20, rel=0.5)
    assert noisy.value == pytest.approx(2, abs=0.03)
    assert groups.exponent(n, 3 * n**1.5) == pytest.approx(1.5)
    assert groups.line(n, 7 + 3 * n) == pytest.approx((7, 3))
    many = np.stack([7 + 3 * n, 5 + 2 * n], axis=1)  # of all resamples at once
    np.testing.assert_allclose(groups.line(n, many), [[7, 5], [3, 2]])
    np.testing.assert_allclose(groups.exponent(n, np.stack([n, n**2], axis=1)), [1, 2])


def test_flops_of_a_member():
    sizes = (16, 64, 64, 8)
    first, rest = 16 * 64, 64 * 64 + 64 * 8
    assert derivatives.flops(sizes, 64, "loss") == 2 * 64 * (first + rest)
    assert derivatives.flops(sizes, 64, "reference: gradient") == 2 * 64 * (2 * first + 3 * rest)
    assert derivatives.flops(sizes, 1, "hvp") == 2 * (3 * first + 8 * rest)
    assert derivatives.name((64, *[96] * 8, 10)) == "64-8x96-10"


# ---------------------------------------------------------------- what texts say

UNITS = "us|ms|ns|CPU seconds|times as (?:long|fast)|times the loss|gradients|values"
SPEED = rf"\d[\d.,]*x? (?:{UNITS})\b"


def test_texts_cite_what_was_measured():
    """Every sentence about speed is made of the stored results, and there is no other."""
    text = " ".join(" ".join(path.read_text().split()) for path in report.TEXTS)
    for sentence in report.sentences(store.cited()):
        sentence = " ".join(sentence.split())
        assert sentence in text
        text = text.replace(sentence, "")
    assert not re.findall(SPEED, text)


def test_sentences_are_rewritten_in_place():
    text = "# Speed\n\nOne call takes 2 us\nhere, " + "word " * 15 + "\n\n| 2 us |\n"
    found = report.rewrite(text, ["takes 2 us here", "no such"], ["takes 3 us, and more, here", ""])
    assert " ".join(found.split()) == " ".join(text.split()).replace(
        "2 us here", "3 us, and more, here"
    )
    assert max(map(len, found.splitlines())) <= 100


def test_pictures_of_texts_are_there():
    for path in report.TEXTS:
        for picture in re.findall(r"\]\((\S+\.png)\)", path.read_text()):
            assert (path.parent / picture).stat().st_size < 200_000, picture


def test_what_is_cited(tmp_path, monkeypatch):
    """The last runs' results take the place of older ones, section by section."""
    monkeypatch.setattr(store, "CITED", tmp_path / "results.json")
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    store.CITED.write_text('{"single": 1, "peers": 2}')
    store.save("single", 3, tmp_path)
    rows = [{"text": "a", "subject": s, "value": v} for s, v in (("N = 1", 1.23456), ("N = 2", 2))]
    store.save("claims", {"machine": {}, "claims": rows, "groups": []}, tmp_path)
    figures = {"a": {"N = 1": 1.235, "N = 2": 2.0}}
    assert report.update() == {
        "single": 3,
        "peers": 2,
        "claims": {"machine": {}, "figures": figures},
    }
    assert report.between([2.0, 1.2345]) == "1.2 to 2"
    assert report.between([440.4, 440.0]) == "440"


def test_losses_over_time(monkeypatch, tmp_path):
    monkeypatch.setattr(second_order, "SECONDS", 0.05)
    one = second_order.train("surface", dj.Adam(), 64, schedule=dj.schedules.CosineDecay())
    assert one["seconds"] == sorted(one["seconds"])
    assert one["loss"][-1] < one["loss"][0]
    assert second_order.after(one, one["seconds"][1]) == one["loss"][1]
    picture = second_order.picture({"curves": {x: {"Adam": one} for x in "ab"}}, tmp_path / "a.png")
    assert picture.stat().st_size > 10_000


# ---------------------------------------------------------------- bench.start


def test_a_checkout_is_imported_from_a_copy():
    """Not from where it is installed."""
    with start.package_of(Path(start.__file__).parents[1]) as package:
        code = "import deltajit, deltajit.kernels as k; print(deltajit.__file__, k.__file__)"
        found = processes.run("-c", code, PYTHONPATH=package).split()
        names = ("deltajit/__init__.py", "deltajit/kernels/__init__.py")
        assert found == [str(package / name) for name in names]
        assert not list(package.glob("deltajit/kernels/**/*.o"))


def test_twelve_features(capsys):
    first_calls.features()
    assert float(capsys.readouterr().out) > 0


def test_first_calls_in_processes_of_their_own(tmp_path):
    (tmp_path / "users.py").write_text(start.USERS.format(factor=1.0))
    whole, edited = start.seconds("gradient"), start.seconds("jitted", PYTHONPATH=str(tmp_path))
    assert whole > 0
    assert edited > 0


def test_medians_and_ratios():
    numbers = iter([{"a": 1.0, "b": 9.0}, {"a": 5.0, "b": 7.0}, {"a": 2.0, "b": 8.0}])
    assert start.medians(lambda: next(numbers), 3) == {"a": 2.0, "b": 8.0}
    lines = start.table({"this": {"a": 2.0}, "old": {"a": 8.0}})
    assert lines[1].split() == ["a", "2.00", "8.00", "0.25x"]
    assert start.table({"this": {"a": 2.0}})[1].split() == ["a", "2.00"]
