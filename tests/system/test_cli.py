"""The command line, as a user runs it."""

import json
import sys

import numpy as np
import pytest
from deltajit.kernels import compiler

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
    compare.run(as_json=True, seconds=0.001)
    rows = json.loads(capsys.readouterr().out)
    names = {row["name"].split()[0] for row in rows}
    assert names == {
        "linear_activation_forward", "propagate_delta", "accumulate_gradient",
        "predict", "loss", "value_and_grad",
    }  # fmt: skip
    assert {row["dtype"] for row in rows} == {"float32", "float64"}
    for row in rows:
        assert 0 <= row["ulp"] < 100, row
        assert row["kernel_time"] > 0
        assert row["ratio"] == pytest.approx(row["reference_time"] / row["kernel_time"])


def test_compare_prints_a_table(capsys):
    compare.run(seconds=0.001)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["dtype", "error/ULP", "kernel", "NumPy", "ratio"]
    assert all(line.endswith("x") for line in lines[1:])


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
    import deltajit as dj

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


def test_plan_of_nonsense(capsys):
    assert cli.main(["info", "--plan", "784,x"]) == 2
    assert "sizes[1]" in capsys.readouterr().err
