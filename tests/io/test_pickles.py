"""What is copied, pickled and saved is a description: nothing of one process reaches another."""

import copy
import dataclasses
import json
import math
import pickle
import runpy
import sys

import numpy as np
import pytest
from deltajit.kernels import abi

import deltajit as dj
from deltajit import kernels, reference
from deltajit.circuits import graphs
from deltajit.sklearn import MLPClassifier
from tests.helpers import processes
from tests.helpers.files import joined, parts

X, Y = np.linspace(-1, 1, 12).reshape(6, 2), np.linspace(0, 1, 6)[:, None]

CHILD = """
import pickle, sys
import numpy as np
from tests.io.test_pickles import numbers, register

if sys.argv[2] == "registered":
    register()
with open(sys.argv[1], "rb") as file:
    found = [numbers(pickle.loads(part)) for part in pickle.load(file)]
print(b"".join(np.asarray(x, float).tobytes() for x in found).hex())
"""


def bump(z):
    return math.exp(-z * z)


def slope_of_bump(z):
    return -2 * z * math.exp(-z * z)


def curvature_of_bump(z):
    return (4 * z * z - 2) * math.exp(-z * z)


def register():
    dj.register_activation("bump", bump, slope_of_bump, curvature_of_bump)


@pytest.fixture(scope="module", autouse=True)
def registered():
    register()
    yield
    del kernels.ACTIVATIONS["bump"], reference.ACTIVATIONS["bump"]


def circuit_loss():
    return dj.Circuit(lambda o, y: np.log1p(3 * (o - y) ** 2) + dj.circuit.relu(o), 2)


def objects():
    """One of each kind that holds what only one process can use."""
    for loss in ("squared_error", circuit_loss()):
        net = dj.Network([2, 4, 1], "bump", loss=loss, dtype="float64")
        yield net
        yield dj.Ensemble([2, 4, 1], 3, "bump", loss=loss, dtype="float64", threads=2)
        yield net.objective(X, Y)
        yield net.linearize(X, Y)
    yield circuit_loss()


def numbers(thing):
    """What it computes, as one vector."""
    if isinstance(thing, dj.Circuit):
        return np.concatenate([thing(X), thing.hvp(X, X[0]).ravel()])
    if hasattr(thing, "hessp"):
        theta = np.linspace(-1, 1, 17)
        return np.concatenate([thing.jac(theta), thing.hessp(theta, theta)])
    if hasattr(thing, "gnvp") and hasattr(thing, "grad") and hasattr(thing, "value"):
        v = np.linspace(-1, 1, 17)
        return np.concatenate([[thing.value], thing.grad, thing.hvp(v), thing.vjp(Y)])
    value, grad = thing.value_and_grad(X, Y)
    return np.concatenate([thing.predict(X).ravel(), np.ravel(value), grad.ravel()])


def in_another_process(parts, tmp_path, how="registered"):
    (tmp_path / "parts").write_bytes(pickle.dumps(parts))
    return processes.end(processes.begin("-c", CHILD, tmp_path / "parts", how))


def test_everything_is_the_same_in_another_process(tmp_path):
    made = list(objects())
    expected = b"".join(numbers(x).tobytes() for x in made).hex()
    for twins in (map(copy.copy, made), map(copy.deepcopy, made)):
        assert b"".join(numbers(x).tobytes() for x in twins).hex() == expected
    code, printed, errors = in_another_process([pickle.dumps(x) for x in made], tmp_path)
    assert code == 0, errors
    assert printed.strip() == expected


def test_buffers_that_are_read_only():
    """As joblib's workers and dask's get them; kernels would be compiled once more for such."""
    for thing in objects():
        buffers = []
        content = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
        twin = pickle.loads(content, buffers=[bytes(buffer) for buffer in buffers])
        np.testing.assert_array_equal(numbers(twin), numbers(thing))
        held = twin._data[:2] if hasattr(twin, "fun") or hasattr(twin, "jvp") else ()
        for array in (*held, getattr(twin, "_points", X)):
            assert type(array) is np.ndarray
            assert array.flags.carray


def test_what_is_missing_is_named(tmp_path):
    net = dj.Network([2, 4, 1], "bump", dtype="float64")
    nets = dj.Ensemble([2, 4, 1], 2, "bump")
    message = r"activation 'bump' is unknown here.*call dj.register_activation\('bump', f, deriv"
    net.save(tmp_path / "net")
    parts = [pickle.dumps(x) for x in (net, nets, net.objective(X, Y), net.linearize(X, Y))]
    code = kernels.ACTIVATIONS.pop("bump")
    try:
        for part in parts:
            with pytest.raises(ValueError, match=message):
                pickle.loads(part)
        with pytest.raises(dj.FormatError, match=message):
            dj.load(tmp_path / "net")
    finally:
        kernels.ACTIVATIONS["bump"] = code
    assert dj.load(tmp_path / "net").loss(X, Y) == net.loss(X, Y)
    code, _, errors = in_another_process(parts[:1], tmp_path, "not registered")
    assert code == 1
    assert "call dj.register_activation('bump'" in errors


def test_a_kernels_model_with_addresses_is_not_pickled():
    for net in (dj.Network([2, 3, 1], "bump"), dj.Network([2, 3, 1], loss=circuit_loss())):
        with pytest.raises(TypeError, match="pickle the Network"):
            pickle.dumps(net.model)
    net = dj.Network([2, 3, 1])
    model = pickle.loads(pickle.dumps(net.model))
    assert type(model) is kernels.Model
    out = np.empty((6, 1), np.float32)
    kernels.predict(model, X.astype(np.float32), out, net.workspace(6))
    np.testing.assert_array_equal(out, net.predict(X))


# ---------------------------------------------------------------- circuits as data


def test_a_circuit_travels_in_the_file(tmp_path):
    net = dj.Network([2, 4, 1], loss=circuit_loss(), dtype="float64")
    net.save(tmp_path / "net")
    name = net.architecture.loss
    del kernels.LOSSES[name]
    known = reference.LOSSES.pop(name)
    loaded = dj.load(tmp_path / "net")
    assert name in kernels.LOSSES
    assert reference.LOSSES[name] is not known
    assert loaded.architecture == net.architecture
    assert loaded.loss(X, Y) == net.loss(X, Y)
    np.testing.assert_array_equal(loaded.grad(X, Y), net.grad(X, Y))


def test_any_graph_comes_back():
    def strange(x, y):
        return [np.maximum(x, y) * np.inf, x**y - np.nan, -0.0 * y, 1e-310 + x, x, 3.0]

    for ties in ("both", "first", "split"):
        graph = dj.Circuit(strange, 2, ties=ties).graph
        found = graphs.from_data(json.loads(json.dumps(graphs.to_data(graph))))
        assert graphs.digest(found) == graphs.digest(graph)
        for a, b in zip(graph, found, strict=True):
            assert np.asarray(a).dtype == np.asarray(b).dtype
            np.testing.assert_array_equal(a, b)
    assert graphs.digest(dj.Circuit(strange, 2).graph) != graphs.digest(graph)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(x=[0, 9, 0, 0]), "x must be whole numbers"),
        (dict(x=[0, 1, -1, 0]), "x must be whole numbers"),
        (dict(x=[0, 1, 3, 0], y=[0, 1, 3, 0]), "operands before"),
        (dict(x=[1, 0, 0, 0]), "inputs first"),
        (dict(y=[0, 1, 1, 0.0]), "y must be whole numbers"),
        (dict(y=[0, 1, 1]), "as many codes as x and y"),
        (dict(outputs=[4]), "outputs must be whole numbers"),
        (dict(outputs=[]), "outputs must be whole numbers"),
        (dict(n_inputs=3), "inputs first"),
        (dict(n_inputs=2**70), "n_inputs must be from 1 to its 4 nodes"),
        (dict(n_inputs=True), "n_inputs must be from 1"),
        (dict(codes=[0, 0, 1, 3]), "codes must be whole numbers"),
        (dict(operations=["input", "add", "system"]), "'system', which is unknown"),
        (dict(operations=["input", ["add"], "exp"]), "which is unknown"),
        (dict(constants=["0x1p0"]), "inputs first"),
        (dict(constants=["zero"]), "hexadecimal"),
        (dict(constants=[1.0]), "hexadecimal"),
        (dict(ties=[2.0, 0.0]), "ties must be"),
        (dict(ties=[]), "ties must be"),
        (dict(x="0123"), "consist of lists"),
        (dict(more=[]), "must have operations"),
    ],
)
def test_a_damaged_graph_is_refused(change, message, tmp_path):
    """Kernels would go wherever it points."""
    data = {
        "operations": ["input", "add", "exp"], "codes": [0, 0, 1, 2], "x": [0, 1, 0, 2],
        "y": [0, 1, 1, 2], "constants": [], "outputs": [3], "n_inputs": 2, "ties": [1.0, 1.0],
    }  # fmt: skip
    assert graphs.to_data(graphs.from_data(data))["operations"] == ["input", "add", "exp"]
    with pytest.raises(ValueError, match=message):
        graphs.from_data({**data, **change})
    if "y" in change:
        return
    net = dj.Network([2, 1], loss=dj.Circuit(lambda o, y: np.exp(o + y), 2))
    net.save(tmp_path / "net")
    header, described, tensors = parts((tmp_path / "net").read_bytes())
    described["circuit"].update(change)
    (tmp_path / "net").write_bytes(joined(header, tensors, described))
    with pytest.raises(dj.FormatError, match=message):
        dj.load(tmp_path / "net")


def test_a_circuit_of_another_name_is_refused(tmp_path, monkeypatch):
    net = dj.Network([2, 1], loss=dj.Circuit(lambda o, y: np.exp(o + y), 2))
    other = graphs.to_data(dj.Circuit(lambda o, y: np.exp(o - y), 2).graph)
    monkeypatch.setattr(type(net.architecture), "circuit", other)
    net.save(tmp_path / "net")
    with pytest.raises(dj.FormatError, match="its circuit is not the loss"):
        dj.load(tmp_path / "net")


def test_a_circuit_too_large_for_a_file(tmp_path):
    def long(o, y):
        for k in range(9000):
            o = o + (o - k) * y
        return o

    net = dj.Network([2, 1], loss=dj.Circuit(long, 2))
    with pytest.raises(ValueError, match=r"a loss of \d\d,\d\d\d nodes, cannot be saved"):
        net.save(tmp_path / "net")
    assert not (tmp_path / "net").exists()
    assert pickle.loads(pickle.dumps(net)).architecture == net.architecture


# ---------------------------------------------------------------- what a user adds


class MyNetwork(dj.Network):
    """It has arguments and attributes of its own."""

    def __init__(self, name):
        self.name = name
        super().__init__([2, 4, 1], dtype="float64")
        self.inner = {"seen": [1, 2]}

    def doubled(self):
        return 2 * self.predict(X)


class MyEnsemble(dj.Ensemble):
    pass


class MyCircuit(dj.Circuit):
    pass


COPIES = [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]


@pytest.mark.parametrize("copied", COPIES)
def test_attributes_and_subclasses_survive(copied):
    net = MyNetwork("mine")
    net._private, net.itself = X, net
    twin = copied(net)
    assert (type(twin), twin.name, twin.inner) == (MyNetwork, "mine", {"seen": [1, 2]})
    np.testing.assert_array_equal(twin._private, X)
    np.testing.assert_array_equal(twin.doubled(), net.doubled())
    assert (twin.inner is net.inner) == (copied is copy.copy)
    assert twin.itself is (net if copied is copy.copy else twin)
    twin.theta += 1
    assert (twin.predict(X) != net.predict(X)).all()
    nets, c = MyEnsemble([2, 4, 1], 3), MyCircuit(lambda x, y: x * y, 2)
    net = dj.Network([2, 1])
    for thing in (nets, c, net, net.objective(X, Y), net.linearize(X, Y)):
        thing.remark = [thing]
        twin = copied(thing)
        assert type(twin) is type(thing)
        assert twin.remark[0] is (thing if copied is copy.copy else twin)
    twin = copied(nets)
    assert twin.theta is not nets.theta
    np.testing.assert_array_equal(twin.predict(X), nets.predict(X))
    twin.theta *= 2
    assert (twin.predict(X) != nets.predict(X)).any()


def test_nothing_of_ours_is_among_a_users_attributes():
    """Else it would go along, addresses and all."""
    net = dj.Network([2, 1])
    nets = dj.Ensemble([2, 1], 2)
    things = net, nets, dj.Circuit(abs, 1), net.objective(X, Y), net.linearize(X, Y)
    for thing in things:
        assert vars(thing) == {}
    net.predict(X), net.hvp(X, Y, net.theta), net.handle(), things[2]([1.0])
    things[3].hessp(net.theta, net.theta), things[4].hvp(net.theta), nets.fit(X, Y, 1)
    for thing in things:
        assert vars(thing) == {}


TAKE_UP = """
import pickle, sys
from pathlib import Path
import numpy as np
import deltajit as dj

model, rule, program, f, estimator, X, y = pickle.loads(Path(sys.argv[1]).read_bytes())
out, work = np.empty((3, 1)), np.empty(dj.kernels.workspace_size(model, 3))
dj.kernels.predict(model, X[:3], out, work)
theta, a, value = np.ones(5), np.empty((3, 4)), np.empty(3)
dj.kernels.update(rule, theta, np.ones(5))
dj.kernels.linear_activation_forward(X[:3], np.eye(4), np.zeros(4), f, a, a, 1)
work = np.empty(dj.kernels.circuit.workspace_size(program, 3))
dj.kernels.circuit.evaluate(program, np.ascontiguousarray(X[:3, :2]), value, work)
estimator.partial_fit(X, y)
print([x.tolist() for x in (out, theta, a, value, *estimator.coefs_)])
"""


def test_what_kernels_take_is_taken_up_elsewhere(tmp_path, capsys, monkeypatch):
    """Models, rules, programs and functions hold addresses; pickles of them hold names."""
    X = np.random.default_rng(0).normal(size=(60, 4))
    y = (X[:, 0] > 0).astype(int)
    estimator = MLPClassifier((8,), random_state=0).partial_fit(X, y, classes=[0, 1])
    things = (
        dj.Network([4, 3, 1], dtype="float64").model,
        dj.Adam().rule(5, "float64"),
        dj.Circuit(lambda x, y: np.sin(x) * y, 2).program,
        kernels.function_of("gelu", "float64"),
        estimator,
    )
    path = tmp_path / "things"
    path.write_bytes(pickle.dumps((*things, X, y)))
    script = tmp_path / "take_up.py"
    script.write_text(TAKE_UP)
    printed = processes.run(script, path)
    monkeypatch.setattr(sys, "argv", [str(script), str(path)])
    runpy.run_path(str(script))
    assert capsys.readouterr().out == printed


def test_what_others_do_not_know_is_not_pickled():
    @dataclasses.dataclass(frozen=True)
    class Mine(dj.Optimizer):
        lr: float = 0.1
        slots = 0

        @kernels.kernel
        def update(rule: kernels.Rule, lr: abi.Double, theta: abi.Vector, grad: abi.Vector):  # noqa: N805
            for i in range(theta.size):
                theta[i] -= np.sign(grad[i])

    net = dj.Network([2, 1], rng=0)
    before = net.theta.copy()
    net.fit(np.ones((4, 2)), np.ones(4), 1, 4, Mine(), progress=False)
    np.testing.assert_array_equal(net.theta, before + np.sign(net.theta - before))
    assert (net.theta != before).all()
    with pytest.raises(TypeError, match="pickle the Network, or the optimizer"):
        pickle.dumps(Mine().rule(3, "float32"))
