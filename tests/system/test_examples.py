"""The examples show what they say that they show."""

import importlib
import math
import runpy
import sys

import numba
import numpy as np
import pytest
from deltajit.kernels.compiler import FINGERPRINT

from tests.helpers import processes

EXAMPLES = processes.ROOT / "examples"


@pytest.fixture
def cache(pytestconfig):
    """A folder for compiled examples: they hold kernels, and Numba can't see a kernel change."""
    return str(pytestconfig.cache.mkdir(f"examples-{FINGERPRINT[:16]}"))


@pytest.fixture
def run(request, cache, monkeypatch):
    """The `run` of the example that a test is named after."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", cache)
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module(request.function.__name__.removeprefix("test_")).run


def test_constructions(run):
    found = run(points=20_000)
    assert all(right == count for *_, right, count in found["exact"])
    assert found["functions_of_3"] == (256, 256)
    assert found["slope"] == pytest.approx(-1, abs=0.1)
    assert found["collapse"][-1] < 1e-13


@pytest.fixture
def cells(request, tmp_path, monkeypatch):
    """What the cells of the example that a test is named after leave, and a picture in tmp_path."""
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    script = EXAMPLES / f"{request.function.__name__.removeprefix('test_')}.py"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), "--save"])
    yield runpy.run_path(str(script))
    plt.close("all")


def test_four_equations(cells, tmp_path):
    assert cells["y"] == 6
    assert cells["y_grad"].tolist() == [2, 5, 0]
    assert cells["p"] == pytest.approx(1 / (1 + math.exp(-1)), rel=1e-15)
    slope = cells["p"] * (1 - cells["p"])
    np.testing.assert_allclose(cells["p_grad"], slope * np.array([-1, 2, -2, -3, 1]), rtol=1e-14)
    assert cells["agreement"] < 1e-12
    assert cells["hvp_agreement"] < 1e-12
    assert cells["hvp_error"] < 1e-7
    assert (tmp_path / "four_equations.png").stat().st_size > 0


def test_derivations(cells):
    assert max(cells["two_layers"].values()) < 1e-12
    assert list(cells["recursion"]) == [2, 3, 4, 5, 6]
    assert max(cells["recursion"].values()) < 1e-12
    assert cells["softmax_error"] < 1e-12
    assert max(cells["collapse"]) < 1e-12


def test_descents(cells, tmp_path):
    final = {method: losses[-1] for method, (_, losses, _) in cells["by_epochs"].items()}
    others = set(final) - {"batch"}
    assert len(others) == 4
    assert all(final[method] < 0.1 * final["batch"] for method in others)
    assert cells["noise"][1] > 5 * cells["noise"][32] > 0
    assert cells["noise"][len(cells["X"])] < 1e-5
    assert (tmp_path / "descents.png").stat().st_size > 0


@pytest.mark.slow
def test_many_machines(run):
    found = run(workers=[1, 2])
    assert found["hashes"][0] == found["hashes"][1] == found["hashes"][2]
    assert all(losses[-1] < 0.05 * losses[0] for losses in found["losses"].values())


@pytest.mark.slow
def test_controller(run):
    found = run()
    assert found["gradient_error"] < 1e-7
    assert found["cost_after"] < 0.5 * found["cost_before"]
    assert found["upright_before"] == 0
    assert found["upright_after"] > 0.8


def test_onnx_policy(run):
    pytest.importorskip("onnx")
    found = run()
    assert found["net"].architecture.activations == ("silu", "silu", "silu", "tanh")
    assert np.abs(found["actions"]).max() <= 1
    # Of ONNX Runtime, where it is: both are up to 4e-6 from the actions in float64.
    assert found.get("difference", 0) < 8e-6


@pytest.mark.slow
def test_neural_ode(run):
    found = run(updates=2000)
    assert found["gradient_error"] < 1e-7
    assert found["error_after"] < 0.1 * found["error_before"]
    assert found["error_beyond"] < 0.2
    assert found["radau_difference"] < 1e-2
    assert found["radau_evaluations"] > found["radau_jacobians"] > 0


@pytest.mark.slow
def test_online(run):
    found = run(samples=100_000, turns=1)
    assert found["learner"] < 0.1 * found["frozen"]
    assert found["learner"] < 0.1 * found["constant"]
    assert found["ns_a_step"] > 0


@pytest.mark.slow
def test_physics_informed(run):
    found = run()
    assert found["gradient_error"] < 1e-7
    assert found["loss_after"] < 1e-6 * found["loss_before"]
    assert found["error"] < 1e-3
    assert found["slope_error"] < 1e-2


@pytest.mark.slow
def test_differential_equations(run):
    found = run()
    assert found["error_of_poisson"] < 1e-4
    assert found["error_of_heat"] < 1e-4
    assert found["residual_of_heat"] < 1e-2


def test_as_a_script(cache):
    printed = processes.run("-W", "error", EXAMPLES / "online.py", NUMBA_CACHE_DIR=cache)
    assert "learns all the time" in printed
