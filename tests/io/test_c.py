"""Networks as C: what a compiler makes of them agrees with predict."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

import deltajit as dj
from tests.helpers.forms import INSIDE, NAMES, case, check_units, close
from tests.helpers.networks import DTYPES, make_case

CC = shutil.which("gcc") or shutil.which("cc")


def test_a_loss_that_is_a_circuit_is_no_part_of_it(tmp_path):
    loss = dj.Circuit(lambda o, y: (o - y) ** 4, 2)
    net = dj.Network([3, 4, 1], loss=loss, rng=0)
    X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    close(predictions_in_c(net, X, tmp_path), net.predict(X), "float32")


def compiled(source, folder, level="-O1"):
    """A C text as a shared library; nothing in it may cause a warning."""
    if CC is None:
        pytest.skip("there is no C compiler")
    (folder / "it.c").write_text(source)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", level, "-shared", "-fPIC"]
    library = f"it{len(list(folder.iterdir()))}.so"  # a new one: a loaded one must stay as it is
    command = [CC, *flags, "it.c", "-o", library, "-lm"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return ctypes.CDLL(str(folder / library))


def predictions_in_c(net, X, folder, name=None, level="-O1"):
    """What a program that includes the header computes of each sample."""
    net.to_c(folder / "a net-1.h", name)
    T, prefix = {"float32": "float", "float64": "double"}[net.dtype.name], name or "a_net_1"
    run = compiled(
        f'#include "a net-1.h"\nvoid run(const {T} *x, {T} *out) {{ {prefix}_predict(x, out); }}\n',
        folder,
        level,
    ).run
    out = np.full((len(X), net.sizes[-1]), np.nan, net.dtype)
    for x, y in zip(np.ascontiguousarray(X), out, strict=True):
        run(x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p))
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_c(name, dtype, tmp_path):
    net, X = case(name, dtype)
    X[3, 1] = np.nan
    close(predictions_in_c(net, X, tmp_path), net.predict(X), dtype)
    text = (tmp_path / "a net-1.h").read_text()
    assert '#include "a net-1.h"' in text
    assert "alloc(" not in text
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_c_of_special_values(name, dtype, tmp_path):
    check_units(name, dtype, lambda net, X: predictions_in_c(net, X, tmp_path))


@pytest.mark.parametrize("level", ["-O0", "-O3"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_shape_causes_a_warning(dtype, level, tmp_path):
    """Any number of layers, wide and narrow, each activation; outputs are right, too."""
    hidden = [[], [5], [1], [5, 1], [1, 5], [2, 3, 4], [4, 3, 2, 5], [3] * 9]
    for sizes in hidden:
        for n_in, n_out, output in [(1, 1, "identity"), (3, 4, "softmax"), (2, 4, "gaussian")]:
            names = [INSIDE[(len(sizes) + i) % len(INSIDE)] for i in range(len(sizes))]
            net, X, _ = make_case([n_in, *sizes, n_out], names, output, "auto", dtype)
            found = predictions_in_c(net, X.astype(dtype), tmp_path, level=level)
            close(found, net.predict(X), dtype)
    for name in INSIDE:
        net = dj.Network([2, 3, 1], name, dtype=dtype)
        predictions_in_c(net, np.ones((1, 2), dtype), tmp_path, level=level)
    text = (tmp_path / "a net-1.h").read_text()
    assert f"takes {3 * net.dtype.itemsize} bytes of" in text


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_in_c_have_all_digits(dtype, tmp_path):
    net = dj.Network([7, 3], dtype=dtype)
    net.theta = np.random.default_rng(0).normal(size=24) * 10.0 ** np.arange(-12, 12)
    net.weights[0][0, :4] = np.inf, -np.inf, np.nan, np.finfo(dtype).smallest_subnormal
    net.weights[0][1, 0] = np.finfo(dtype).max
    net.biases[0][:] = 0  # inputs that pick one weight give it back
    with np.errstate(invalid="ignore"):
        found = predictions_in_c(net, np.eye(7, dtype=dtype)[4:], tmp_path)
    np.testing.assert_array_equal(found[:, 1:], net.weights[0].T[4:, 1:])
    text = (tmp_path / "a net-1.h").read_text()
    body = text[text.index("{", text.index("_W0[")) + 1 : text.index("}", text.index("_W0["))]
    numbers = [float(x.strip().removesuffix("f")) for x in body.split(",")
               if "INF" not in x and "NAN" not in x]  # fmt: skip
    expected = net.weights[0].ravel()
    np.testing.assert_array_equal(np.array(numbers, dtype), expected[np.isfinite(expected)])


def test_name_in_c(tmp_path):
    net, X = case("tanh", "float32")
    close(predictions_in_c(net, X, tmp_path, "other"), net.predict(X), "float32")
    net.to_c(tmp_path / "2nd.h")
    assert "void _2nd_predict(const float *x, float *out)" in (tmp_path / "2nd.h").read_text()
    for name in ("a b", "1a", "", "a(", "\u00e9"):
        with pytest.raises(ValueError, match="name must be a name in C"):
            net.to_c(tmp_path / "bad.h", name)
    assert not (tmp_path / "bad.h").exists()


def test_two_networks_in_one_program(tmp_path):
    first, _ = case("tanh", "float32")
    second, _ = case("relu", "float64")
    first.to_c(tmp_path / "first.h")
    second.to_c(tmp_path / "second.h")
    compiled('#include "first.h"\n#include "second.h"\n#include "first.h"\n', tmp_path)


def test_old_file_survives(tmp_path):
    pytest.importorskip("onnx")
    net = dj.Network([2, 2])
    for method in (net.to_c, net.to_onnx):
        with pytest.raises(FileNotFoundError, match="path must be in a folder that exists"):
            method(tmp_path / "nowhere" / "net")
