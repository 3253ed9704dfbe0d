"""What a type checker knows of the kernels: a right call passes, a wrong one is reported."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from deltajit.kernels.mlp import optimizers

from deltajit import kernels

pytest.importorskip("mypy", reason="it comes with the extra lint")

ROOT = Path(__file__).parents[2]
RIGHT = """
import numpy as np

import deltajit as dj
from deltajit import kernels

net = dj.Network([2, 16, 1])
X, Y = np.zeros((4, 2), np.float32), np.zeros((4, 1), np.float32)
grad, work = np.empty_like(net.theta), net.workspace(4)
rule = dj.Adam(1e-3).rule(net.n_params, net.dtype)
value: float = kernels.value_and_grad(net.model, X, Y, grad, work)
kernels.sgd_step(net.model, X, Y, np.float32(0.1), grad, work, weights=np.ones(4, np.float32))
kernels.adam_step(net.model, X, Y, rule, grad, work)
total, mass = kernels.fit_epoch(net.model, X, Y, np.arange(4), 2, rule, grad, work)
size: int = kernels.workspace_size(net.model, 4, order=2)
updates = rule.count + 1
f = kernels.function_of("tanh", "float32")
W, b, a = net.weights[0].T.copy(), net.biases[0], np.empty((4, 16), np.float32)
kernels.linear_activation_forward(X, W, b, f, a, a, 1)
circuit = dj.Circuit(lambda x, y: x * y, 2)
scratch = np.empty(kernels.circuit.workspace_size(circuit.program, 4))
kernels.circuit.evaluate(circuit.program, np.ones((4, 2)), np.empty(4), scratch)
"""
CALLS = [f"kernels.{x}" for x in kernels.__all__ if x in vars(kernels) and x[0].islower()]
CALLS.remove("kernels.circuit")
CALLS += [f"kernels.circuit.{x}" for x in kernels.circuit.__all__ if x[0].islower()]
WRONG = [
    *(f"{call}(net)" for call in CALLS),
    "kernels.value_and_grad(net, X, Y, grad, work)",
    "kernels.value_and_grad(net.model, X.tolist(), Y, grad, work)",
    "kernels.adam_step(net.model, X, Y, 1e-3, grad, work)",
    "kernels.fit_epoch(net.model, X, Y, [0, 1], 2, rule, grad, work)",
    "kernels.linear_activation_forward(X, W, b, 'tanh', a, a, 1)",
    "kernels.Model(net.theta)",
    "dj.Adam(lr='fast')",
]


def mypy(folder, text):
    """Return mypy's lines about a user's script."""
    path = folder / "script.py"
    path.write_text(text)
    (folder / "mypy.ini").write_text(
        f"[mypy]\nstrict = true\nmypy_path = {ROOT / 'src'}:{ROOT / '.mypy'}\n"
        "follow_imports = silent\nignore_missing_imports = true\n"
    )
    command = [sys.executable, "-m", "mypy", "--no-incremental", "script.py"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return [line for line in run.stdout.splitlines() if line.startswith("script.py")]


def test_calls_of_kernels(tmp_path):
    lines = mypy(tmp_path, "\n".join([RIGHT, *WRONG]))
    first = len(RIGHT.splitlines()) + 2
    reported = {int(line.split(":")[1]) for line in lines if ": error: " in line}
    assert reported == set(range(first, first + len(WRONG))), "\n".join(lines)


def test_right_calls_run():
    scope = {}
    exec(RIGHT, scope)
    assert np.isfinite(scope["value"])


def test_every_optimizer_is_named_for_type_checkers():
    assert sorted(optimizers.__all__) == sorted(["Optimizer", *kernels.OPTIMIZERS])
