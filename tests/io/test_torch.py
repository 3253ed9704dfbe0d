"""PyTorch: modules agree with predict, and come back."""

import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest

import deltajit as dj
from tests.helpers.forms import INSIDE, NAMES, case, check_units, close
from tests.helpers.networks import DTYPES


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


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript_comes_back(torch, tmp_path):
    """Scripted, traced, and loaded from a file; the options of a trace are in its values alone."""
    nn = torch.nn
    net = dj.Network([3, *[4] * len(INSIDE), 2], INSIDE, "softmax", slope=0.25, rng=1)
    X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    module = net.to_torch()
    for scripted in (torch.jit.script(module), torch.jit.trace(module, torch.tensor(X))):
        scripted.save(tmp_path / "policy.pt")
        back = dj.Network.from_torch(torch.jit.load(tmp_path / "policy.pt"))
        assert back.architecture.activations == net.architecture.activations
        np.testing.assert_array_equal(back.predict(X), net.predict(X))
    assert dj.Network.from_torch(torch.jit.script(module)).architecture == back.architecture
    with pytest.raises(TypeError, match="must be a trace that was saved"):
        dj.Network.from_torch(scripted)
    actor = nn.ModuleDict({"actor": nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Tanh())})
    for source, error, message in [
        (nn.Linear(3, 4), TypeError, "must be a .*Sequential or a state_dict, got Linear"),
        (nn.Sequential(nn.Linear(3, 4), nn.ELU(2.0)), ValueError, "ELU must be Linear or one"),
        (nn.Sequential(nn.Linear(3, 4), nn.LogSoftmax(1)), ValueError, "LogSoftmax must be"),
        (nn.Sequential(nn.Linear(3, 4), nn.Softmax(0)), ValueError, "Softmax must be"),
    ]:
        with pytest.raises(error, match=message):
            dj.Network.from_torch(torch.jit.script(source))
    tanh = nn.Tanh()
    shared = nn.Sequential(nn.Linear(3, 4), tanh, nn.Sequential(nn.Linear(4, 4), tanh))
    for source in (shared, torch.jit.script(shared)):
        assert dj.Network.from_torch(source).architecture.activations == ("tanh", "tanh")
    part = torch.jit.script(actor["actor"].eval())
    assert dj.Network.from_torch(part).architecture.activations == ("tanh",)


def test_part_of_a_state_dict():
    """Checkpoints hold critics, normalizers and numbers beside the actor."""
    net = dj.Network([4, 5, 2], "elu")
    checkpoint = {"std": np.ones(2), "critic.0.weight": np.ones((1, 4)), "normalizer.mean": 0}
    for i, (W, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        checkpoint |= {f"actor.{2 * i}.weight": W, f"actor.{2 * i}.bias": b}
    back = dj.Network.from_torch(checkpoint, "elu", prefix="actor.")
    np.testing.assert_array_equal(back.theta, net.theta)
    with pytest.raises(ValueError, match=r"got \['std', .*; for a part of it pass prefix="):
        dj.Network.from_torch(checkpoint, "elu")
    with pytest.raises(ValueError, match=r'such as "policy.0.weight" .* got an empty one$'):
        dj.Network.from_torch(checkpoint, "elu", prefix="policy.")
    with pytest.raises(TypeError, match="prefix is for a state_dict, source is a Network"):
        dj.Network.from_torch(net, prefix="actor.")


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
