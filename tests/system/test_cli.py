"""The command line, as a user runs it."""

import json
import sys

import numpy as np
import pytest
from deltajit.kernels import compiler

import deltajit as dj
from deltajit import cli, kernels
from deltajit.cli import compare, demo
from tests.helpers import processes


def test_demo(tmp_path, capsys):
    figure = tmp_path / "demo.png"
    assert cli.main(["demo", "--figure", str(figure)]) == 0
    printed = capsys.readouterr().out
    words = printed.split()
    accuracy = float(words[words.index("images") + 1])
    assert accuracy >= 0.97
    reference_error = float(printed.split("to the NumPy reference")[1].split()[0])
    step_error = float(printed.split("to complex step")[1].split()[0])
    assert 0 <= reference_error <= 1e-13
    assert 0 <= step_error <= 1e-10
    assert "x the loss" in printed
    assert "the same in NumPy" in printed
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert figure.stat().st_size > 10_000


def test_compare(capsys):
    rows = compare.run(seconds=0.001)
    lines = capsys.readouterr().out.splitlines()
    names = {row["name"].split()[0] for row in rows}
    assert names == {
        "linear_activation_forward", "propagate_delta", "accumulate_gradient",
        "predict", "loss", "value_and_grad",
    }  # fmt: skip
    assert {row["dtype"] for row in rows} == {"float32", "float64"}
    for row in rows:
        assert 0 <= row["ulp"] <= row["tolerance"] < 100, row
        assert row["ok"]
        assert "128" in row["name"] or "2-16-1" in row["name"]  # its sizes
        assert row["kernel_time"] > 0
        assert row["ratio"] == pytest.approx(row["reference_time"] / row["kernel_time"])

    assert lines[0].split() == ["dtype", "error/ULP", "at", "most", "kernel", "NumPy", "ratio"]
    assert all(line.endswith("  ok") for line in lines[1:-1])
    assert lines[-1] == f"all {len(rows)} rows are ok"


@pytest.mark.parametrize("error", [1e-3, np.nan])
def test_compare_of_a_wrong_kernel_says_so_and_fails(error, monkeypatch, capsys):
    right = np.ones(3, np.float32)
    cases = [
        compare.Case("right", lambda: right, lambda: right, right, 3),
        compare.Case("wrong", lambda: right + error, lambda: right, right, 3),
    ]
    monkeypatch.setattr(compare, "cases", lambda dtype: iter(cases))
    assert cli.main(["compare"]) == 1
    *_, right_row, wrong_row, verdict = capsys.readouterr().out.splitlines()
    assert right_row.endswith("ok")
    assert wrong_row.endswith("OFF")
    assert verdict == "2 of 4 rows are off"


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (["info"], "lanes"),
        (["info", "--plan", "784,128,1"], "shape"),
        (["warmup", "--dtype", "float32"], "kernels"),
        (["compare"], "ulp"),
    ],
)
def test_json(command, key, monkeypatch, capsys):
    """It is all that is on stdout."""
    one = compare.Case("right", lambda: np.ones(3), lambda: None, np.ones(3), 3)
    monkeypatch.setattr(compare, "cases", lambda dtype: iter([one]))
    assert cli.main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert key in (report[0] if isinstance(report, list) else report)


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"deltajit {dj.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(shell, capsys):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as ended:
        cli.main(["--print-completion", shell])
    assert ended.value.code == 0
    assert "playground" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "--batch", "4"], "--batch and --dtype mean something with --plan"),
        (["info", "--dtype", "float64"], "--batch and --dtype mean something with --plan"),
        (["info", "--plan", "784,x"], "sizes[1]"),
        (["info", "--plan", "784,1", "--batch", "0"], "batch must be >= 1"),
        (["demo", "--figure", "no/such/folder/x.png"], "must be in a folder that exists"),
        (["demo", "--figure", "x.doc"], "the figure must end in one of ."),
        (["playground", "--port", "70000"], "a port is 0 to 65535"),
    ],
)
def test_wrong_arguments_are_named_before_the_work(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_demo_shows_wrong_guesses_then_every_digit():
    labels = np.array([6, 6, 6, 1, 2, 6])
    guess = np.array([6, 6, 6, 1, 2, 1])
    assert demo.chosen(guess, labels, 5).tolist() == [5, 3, 4, 0, 1]


def test_info(capsys):
    assert cli.main(["info"]) == 0
    printed = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert "float32" in printed["lanes"]
    assert printed["CPU"]
    counts = [int(part.split()[0]) for part in printed["kernels"].split(",")]
    assert sum(counts) == len(compiler.all_kernels())


def test_info_of_each_kernel(capsys):
    """Where its code comes from."""
    kernels.ACTIVATIONS["tanh"].activate(np.ones((1, 1)), np.ones((1, 1)), 0.0)
    assert cli.main(["info", "--kernels"]) == 0
    lines = capsys.readouterr().out.splitlines()[-len(compiler.all_kernels()) :]
    printed = dict(line.split(None, 1) for line in lines)
    assert printed["activations.activate.tanh.float64"] in ("in the cache", "shipped")


def test_installed_command():
    assert "compare" in processes.run("-m", "deltajit", "--help")


@pytest.mark.parametrize(
    ("command", "module"), [("demo", "sklearn.datasets"), ("compare", "threadpoolctl")]
)
def test_missing_extra_says_what_to_install(command, module, monkeypatch, capsys):
    """Before anything else is printed."""
    monkeypatch.setitem(sys.modules, module, None)
    assert cli.main([command]) == 1
    printed = capsys.readouterr()
    assert "pip install 'deltajit[demo]'" in printed.err
    assert printed.out == ""


def test_complex_step_of_the_demo_can_disagree(digits):
    net = dj.Network(demo.SIZES, "relu", "softmax", dtype="float64")
    grad = demo.complex_step(net, digits.X[:2], digits.Y[:2])
    assert abs(grad - net.grad(digits.X[:2], digits.Y[:2])).max() < 1e-15
    assert abs(grad - net.grad(digits.X[2:4], digits.Y[2:4])).max() > 1e-3


def test_plan(capsys):
    assert cli.main(["info", "--plan", "784,128,1", "--batch", "64"]) == 0
    lines = capsys.readouterr().out.splitlines()
    products = [line.split()[:2] for line in lines[2:]]
    assert products == [
        ["784-128", "forward"], ["128-1", "forward"],
        ["128-1", "BP2"], ["128-1", "BP3"], ["784-128", "BP3"],
    ]  # fmt: skip
    assert all(0 < int(line.split()[-1].rstrip("%")) <= 100 for line in lines[2:])
