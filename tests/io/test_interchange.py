"""PyTorch, scikit-learn, ONNX and C agree with predict."""

import ctypes
import shutil
import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
from deltajit.kernels import ACTIVATIONS
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

import deltajit as dj
from deltajit.io.forms import FORMS
from tests.helpers.networks import DTYPES, HIDDEN, OF_Z, make_case

CC = shutil.which("gcc") or shutil.which("cc")
NAMES = [name for name in ACTIVATIONS if name in FORMS]
INSIDE = [name for name in HIDDEN if name in NAMES]
TOLERANCE = {"float32": 3e-6, "float64": 1e-14}

# Large and tiny, and where exponential functions end; some are 0 or inf in float32.
SIZES = [
    1e-300, 1e-40, 1e-20, 1e-8, 1e-5, 1e-3, 0.1, 0.3, 0.5, 1, 2, 3, 5, 7, 10, 12.5, 17, 19, 20.5,
    25, 33, 40, 60, 88, 95, 104, 200, 708, 730, 746, 1e4, 1e10, 1e30, 1e38, 1e300, np.inf,
]  # fmt: skip
SPECIAL = np.array([np.nan, 0.0, *SIZES, *(-x for x in SIZES)])


def close(found, expected, dtype):
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def case(name, dtype):
    """A network with this activation inside and at its end, where it may be; and inputs."""
    hidden = ["tanh", name if name in INSIDE else "relu"]
    output = "identity" if name in OF_Z else name
    net, X, _ = make_case(
        [3, 5, 7, 4], hidden, output, "auto", dtype, batch=50, slope=0.123456789012345
    )
    return net, (2 * X).astype(dtype)


def test_every_row_is_of_an_activation():
    assert set(NAMES) == set(FORMS)


def units(name, dtype):
    """A network whose outputs are this activation of its inputs, and special inputs for it."""
    with np.errstate(over="ignore"):
        z = SPECIAL.astype(dtype)
    if name in ("softmax", "gaussian"):  # of two units; infinite ones have no place in W @ z
        net, z = dj.Network([2, 2], output=name, dtype=dtype), z[abs(z) < 1e37]
        X = np.stack(np.meshgrid(z, z), axis=-1).reshape(-1, 2)
        X[:2, 0] = np.nan
    else:
        net, X = dj.Network([1, 1, 1], name, dtype=dtype, slope=0.123456789012345), z[:, None]
    for W, b in zip(net.weights, net.biases, strict=True):
        W[:], b[:] = np.eye(len(W)), 0
    return net, X


def check_units(name, dtype, compute, relative=0.0):
    """`compute(net, X)` is predict(X), to some ULP or a subnormal; errors `relative` to X pass."""
    net, X = units(name, dtype)
    found, expected = compute(net, X), net.predict(X)
    info = np.finfo(dtype)
    with np.errstate(invalid="ignore"):
        wrong = abs(found - expected) > 40 * info.eps * abs(expected) + info.tiny + relative * abs(
            X
        )
    wrong |= (np.isnan(found) != np.isnan(expected)) | (np.isinf(found) != np.isinf(expected))
    assert not wrong.any(), [*zip(X[wrong], found[wrong], expected[wrong], strict=True)][:5]


def test_what_has_no_form_is_refused(tmp_path):
    """An activation of the user's, and those of ours that have no row."""
    dj.register_activation("cubed", lambda z: z**3, lambda z: 3 * z * z)
    for name in ["cubed", *(name for name in HIDDEN if name not in NAMES)]:
        net = dj.Network([3, 4, 4, 2], ["tanh", name])
        for method, arguments in [
            (net.to_torch, ()),
            (net.to_onnx, (tmp_path / "net",)),
            (net.to_c, (tmp_path / "net",)),
        ]:
            message = f"{method.__name__} cannot express activation={name!r}"
            with pytest.raises(ValueError, match=message):
                method(*arguments)
    assert not (tmp_path / "net").exists()


def test_a_loss_that_is_a_circuit_is_no_part_of_it(tmp_path):
    loss = dj.Circuit(lambda o, y: (o - y) ** 4, 2)
    net = dj.Network([3, 4, 1], loss=loss, rng=0)
    X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    close(predictions_in_c(net, X, tmp_path), net.predict(X), "float32")


# ------------------------------------------------------------------ PyTorch


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_torch_there_and_back(name, dtype, torch):
    net, X = case(name, dtype)
    drawn = torch.get_rng_state()
    module = net.to_torch()
    assert torch.equal(torch.get_rng_state(), drawn)
    with torch.no_grad():
        close(module(torch.from_numpy(X)).numpy(), net.predict(X), dtype)
    back = dj.Network.from_torch(module, loss=net.architecture.loss)
    assert back.architecture.activations == net.architecture.activations
    assert back.dtype == net.dtype
    np.testing.assert_array_equal(back.predict(X), net.predict(X))
    hidden = list(net.architecture.activations[:-1])
    output = net.architecture.activations[-1]
    options = dict(activation=hidden, output=output, loss=net.architecture.loss)
    from_dict = dj.Network.from_torch(module.state_dict(), **options, slope=0.123456789012345)
    assert from_dict.architecture == net.architecture
    np.testing.assert_array_equal(from_dict.theta, net.theta)
    with torch.no_grad():
        module[0].weight += 1  # a copy
    np.testing.assert_array_equal(from_dict.theta, net.theta)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_torch_of_special_values(name, dtype, torch):
    def compute(net, X):
        with torch.no_grad():
            found = net.to_torch()(torch.from_numpy(X)).numpy()
        if name == "gelu" and dtype == "float32":  # PyTorch's own is NaN at inf
            found[np.isposinf(X)] = np.inf
        return found

    relative = 4 * np.finfo(dtype).eps if name == "gelu" else 0.0  # 1 + erf cancels, for both
    check_units(name, dtype, compute, relative)


SAVED = """
import sys, torch
module = torch.load(sys.argv[1], weights_only=False)
X, expected = torch.load(sys.argv[2])
with torch.no_grad():
    assert torch.equal(module(X), expected)
"""


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torch_modules_are_saved_and_scripted(torch, tmp_path):
    """Whatever the activation: in a file for another process, as a script, and as a copy."""
    inside = dj.Network([3, *[4] * len(INSIDE), 4], INSIDE, "gaussian", init="normal", rng=1)
    for net in (inside, dj.Network([3, 2], output="softmax"), dj.Network([3, 4, 2], "sin")):
        module = net.to_torch()
        X = torch.linspace(-1, 1, 15).reshape(5, 3)
        with torch.no_grad():
            expected = module(X)
            for scripted in (torch.jit.script(module), torch.jit.trace(module, X)):
                scripted.save(tmp_path / "script")
                assert torch.equal(torch.jit.load(tmp_path / "script")(X), expected)
            assert torch.equal(deepcopy(module)(X), expected)
        torch.save(module, tmp_path / "module")
        torch.save((X, expected), tmp_path / "data")
        command = [sys.executable, "-c", SAVED, tmp_path / "module", tmp_path / "data"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        back = dj.Network.from_torch(torch.load(tmp_path / "module", weights_only=False))
        assert back.architecture.activations == net.architecture.activations


def test_torch_forms_of_networks(torch):
    nn = torch.nn
    X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    nested = nn.Sequential(
        nn.Flatten(),
        nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(inplace=True), nn.Dropout(0.5)),
        nn.Linear(4, 4),
        nn.Linear(4, 2),
    ).eval()
    net = dj.Network.from_torch(nested, loss="huber", l2=0.5, l1=0.25, threshold=2)
    assert (net.architecture.loss, net.architecture.threshold) == ("huber", 2)
    assert net.architecture.activations == ("relu", "identity", "identity")
    assert net.architecture.l2 == 0.5
    with torch.no_grad():
        close(net.predict(X), nested(torch.from_numpy(X)).numpy(), "float32")
        classes = dj.Network.from_torch(nested, loss="cross_entropy")
        logits = nested(torch.from_numpy(X))
        close(classes.predict(X), torch.softmax(logits, 1).numpy(), "float32")
        close(classes.to_torch()[:-1](torch.from_numpy(X)).numpy(), logits.numpy(), "float32")
    dim = nn.Sequential(nn.Linear(3, 2), nn.Softmax(dim=1))
    assert dj.Network.from_torch(dim).architecture.loss == "cross_entropy"
    two = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    for same in ("relu", ["relu", "relu"], ("relu", "relu")):
        assert dj.Network.from_torch(two, same).architecture.activations[:2] == ("relu", "relu")
    soft = nn.Sequential(nn.Linear(3, 4), nn.Softplus(), nn.Linear(4, 2))
    assert dj.Network.from_torch(soft).architecture.activations == ("softplus", "identity")
    half = nn.Sequential(nn.Linear(3, 2)).to(torch.bfloat16)
    assert dj.Network.from_torch(half).dtype == np.float32


def test_state_dicts_without_torch(tmp_path):
    """Arrays by PyTorch's names will do, as safetensors files have them."""
    import safetensors.numpy

    net = dj.Network([4] * 13, dtype="float64")
    net.save(tmp_path / "net")
    tensors = safetensors.numpy.load_file(tmp_path / "net")
    for names in (sorted(tensors), sorted(tensors, reverse=True)):
        found = dj.Network.from_torch({name: tensors[name] for name in names}, activation="tanh")
        np.testing.assert_array_equal(found.theta, net.theta)
    named = {
        "z.weight": net.weights[0],
        "b.weight": 2 * net.weights[1],
        "a.weight": 3 * net.weights[2],
    }
    found = dj.Network.from_torch(named, activation="relu")
    np.testing.assert_array_equal(found.weights, list(named.values()))
    assert not np.any(found.biases)


def test_bad_torch(torch):
    nn = torch.nn
    linear = nn.Linear(3, 4)
    from_torch = dj.Network.from_torch

    class Tanh(nn.Module):
        """Somebody's own, whatever it does."""

    for source, options, error, message in [
        (nn.Sequential(linear, nn.PReLU()), {}, ValueError, r"PReLU\(num_parameters=1\) must be"),
        (nn.Sequential(nn.ReLU(), linear), {}, ValueError, r"ReLU\(\) must come right behind"),
        (nn.Sequential(linear, nn.ReLU(), nn.Tanh()), {}, ValueError, r"Tanh\(\) must come right"),
        (nn.Sequential(linear, nn.Linear(3, 2)), {}, ValueError, r"layer 1 must have a weight"),
        (
            nn.Sequential(linear, nn.Softplus(threshold=1)),
            {}, ValueError, "has threshold=1, which softplus cannot",
        ),
        (nn.Sequential(linear, Tanh()), {}, ValueError, r"Tanh\(\) must be Linear or one of our"),
        (nn.Sequential(), {}, ValueError, "source must have Linear layers"),
        (linear, {}, TypeError, r"must be a torch\.nn\.Sequential or a state_dict, got Linear"),
        (nn.Sequential(linear, nn.ELU(2.0)), {}, ValueError, r"has alpha=2.0, which elu cannot"),
        (
            nn.Sequential(linear, nn.Tanh(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)),
            dict(activation="tanh"), ValueError, r"must be the Sequential's, .'tanh', 'relu'.",
        ),
        ({"weight": np.ones(())}, {}, ValueError, "layer 0 must have a weight"),
        (
            nn.Sequential(linear, nn.Tanh()),
            dict(output="relu"), ValueError, "output must be the Sequential's, 'tanh'; got 'relu'",
        ),
        (
            nn.Sequential(linear, nn.LeakyReLU(0.1), nn.Linear(4, 2), nn.LeakyReLU(0.2)),
            {}, ValueError, r"slope must be one for all layers, got \[0.1, 0.2\]",
        ),
        (
            nn.Sequential(linear, nn.LeakyReLU(0.1)),
            dict(slope=0.3), ValueError, "slope must be one for all layers",
        ),
        (
            nn.Sequential(linear, nn.Linear(4, 2)).state_dict(),
            {}, TypeError, "activation must be given with a state_dict",
        ),
        ({}, {}, ValueError, "source must be a state_dict of Linear layers, .* got an empty one"),
        (
            nn.Sequential(linear, nn.BatchNorm1d(4)).state_dict(),
            dict(activation="relu"), ValueError, "running_mean",
        ),
        (nn.Sequential(linear, nn.Sigmoid()), dict(loss="cross_entropy"), ValueError, "softmax"),
    ]:  # fmt: skip
        with pytest.raises(error, match=message):
            from_torch(source, **options)


# ------------------------------------------------------------------ scikit-learn


@pytest.mark.filterwarnings("ignore", category=ConvergenceWarning)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("task", ["binary", "classes", "labels", "number", "numbers"])
def test_sklearn(task, activation, dtype):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)).astype(dtype)
    score = X @ rng.normal(size=(4, 3)).astype(dtype)
    kind, Y = {
        "binary": (MLPClassifier, np.where(score[:, 0] > 0, "yes", "no")),
        "classes": (MLPClassifier, np.array(["c", "a", "b"])[score.argmax(axis=1)]),
        "labels": (MLPClassifier, (score > 0).astype(int)),
        "number": (MLPRegressor, score[:, 0]),
        "numbers": (MLPRegressor, score),
    }[task]
    mlp = kind(hidden_layer_sizes=(6, 5), activation=activation, max_iter=20, random_state=0).fit(
        X, Y
    )
    net = dj.Network.from_sklearn(mlp, l2=0.1)
    found = net.predict(X)
    if task in ("number", "numbers"):
        expected = mlp.predict(X).reshape(60, -1)
        ends = ("identity", "squared_error")
    else:
        expected = mlp.predict_proba(X)
        ends = ("sigmoid", "binary_cross_entropy")
        if task == "binary":
            expected = expected[:, 1:]
        if task == "classes":
            ends = ("softmax", "cross_entropy")
    close(found, expected, dtype)
    assert (net.architecture.activations[-1], net.architecture.loss) == ends
    assert net.dtype == dtype
    assert net.architecture.l2 == 0.1


@pytest.mark.filterwarnings("ignore", category=ConvergenceWarning)
def test_sklearn_of_counts():
    X = np.random.default_rng(0).normal(size=(60, 4))
    options = {"loss": "poisson", "max_iter": 20, "random_state": 0}
    mlp = MLPRegressor(**options).fit(X, np.arange(60) % 5)
    net = dj.Network.from_sklearn(mlp)
    close(net.predict(X)[:, 0], mlp.predict(X), "float64")
    assert net.architecture.activations[-1] == "exp"


def test_bad_sklearn():
    for mlp in (MLPClassifier(), dj.Network([2, 2]), 3):
        with pytest.raises(TypeError, match=r"mlp must be a fitted MLPClassifier or MLPRegressor"):
            dj.Network.from_sklearn(mlp)


# ------------------------------------------------------------------ ONNX


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


# ------------------------------------------------------------------ C


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
