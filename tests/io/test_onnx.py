"""Networks as ONNX: what ONNX Runtime makes of them agrees with predict."""

import sys

import numpy as np
import pytest

import deltajit as dj
from tests.helpers.forms import NAMES, TOLERANCE, case, check_units, close, units
from tests.helpers.networks import DTYPES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_onnx(name, dtype, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    net, X = case(name, dtype)
    path = tmp_path / "net.onnx"
    net.to_onnx(path)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (X, X[:1]):
        close(session.run(None, {"X": batch})[0], net.predict(batch), dtype)
    assert [i.name for i in session.get_inputs()] == ["X"]
    assert [o.shape for o in session.get_outputs()] == [["batch", 4]]


@pytest.fixture
def onnx_run(tmp_path):
    """What ONNX Runtime makes of a network's file: a function of the network and X."""
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")

    def run(net, X):
        net.to_onnx(tmp_path / "net.onnx")
        session = runtime.InferenceSession(
            tmp_path / "net.onnx", providers=["CPUExecutionProvider"]
        )
        return session.run(None, {"X": X})[0]

    return run


def test_without_onnx_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'deltajit\[onnx\]'"):
        dj.Network([2, 1]).to_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_onnx_of_special_values(name, dtype, onnx_run):
    check_units(name, dtype, onnx_run)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "x", "exact"),
    [
        ("softplus", -17, 4.1399376330897474e-8),
        ("sigmoid", -33, 4.6588861451033757e-15),
        ("silu", -33, -1.537432427884114e-13),
        ("elu", -1e-8, -9.9999999500000004e-9),
        ("selu", -1e-8, -1.7580993320568802e-8),
        ("gelu", -0.7, -0.16937455655615111),
    ],
)
def test_small_values_in_onnx(name, x, exact, dtype, onnx_run):
    net, _ = units(name, dtype)
    assert onnx_run(net, np.array([[x]], dtype)) == pytest.approx(exact, TOLERANCE[dtype], 0)
