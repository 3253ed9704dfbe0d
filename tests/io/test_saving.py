"""Files: what is saved comes back."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import deltajit as dj
from deltajit.io import saving
from deltajit.model.architecture import Architecture
from tests.helpers.files import joined, parts, some_net
from tests.helpers.networks import DTYPES, ENDS, HIDDEN


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("output", "loss"), ENDS)
def test_there_and_back(output, loss, dtype, path):
    sizes = [3, *range(2, 2 + len(HIDDEN)), 2]
    options = dict(l2=0.1, l1=0.2, slope=0.3, threshold=0.7, quantile=0.9, gamma=3.0)
    net = some_net(1, sizes, HIDDEN, output=output, loss=loss, dtype=dtype, **options)
    net.save(path)
    found = dj.load(path)
    assert found.architecture == net.architecture
    np.testing.assert_array_equal(found.theta, net.theta)
    X = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_array_equal(found.predict(X), net.predict(X))
    assert found.theta.ctypes.data % 64 == 0
    path.unlink()
    found.theta += 1  # its own memory, not the file's


def test_other_tools_find_the_tensors(path):
    net = some_net()
    net.save(str(path))
    tensors = safetensors.numpy.load_file(path)
    assert set(tensors) == {f"layers.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")}
    for i in (0, 1):
        np.testing.assert_array_equal(tensors[f"layers.{i}.weight"], net.weights[i])
        np.testing.assert_array_equal(tensors[f"layers.{i}.bias"], net.biases[i])


def test_same_network_same_bytes(path, content):
    some_net(activation="leaky_relu").save(path)
    assert path.read_bytes() == content


def test_other_tools_may_write_them(path, content):
    """Tensors in another order, spaces, and more metadata are no harm."""
    header, description, data = parts(content)
    net = some_net(activation="leaky_relu")
    tensors, at, moved = {}, 0, b""
    for name in reversed(header.keys() - {"__metadata__"} and sorted(header)):
        if name != "__metadata__":
            begin, end = header[name]["data_offsets"]
            offsets = [at, at + end - begin]
            tensors[name] = {**header[name], "data_offsets": offsets}
            moved, at = moved + data[begin:end], offsets[1]
    assert moved != data
    metadata = {"deltajit": json.dumps(description), "format": "pt"}
    path.write_bytes(joined(json.dumps({"__metadata__": metadata, **tensors}, indent=3), moved))
    np.testing.assert_array_equal(dj.load(path).theta, net.theta)


def test_weights_that_are_not_finite(path):
    net = some_net()
    net.theta[:3] = np.nan, np.inf, -np.inf
    net.save(path)
    np.testing.assert_array_equal(dj.load(path).theta, net.theta)


def test_large_layers_are_read_in_pieces(path, monkeypatch):
    monkeypatch.setattr(saving, "PIECE", 7)
    for sizes in ([3, 5, 4], [20, 2], [2, 20], [7, 7]):
        net = some_net(0, sizes)
        net.save(path)
        np.testing.assert_array_equal(dj.load(path).theta, net.theta)


def test_what_is_not_in_the_file(path):
    some_net().save(path)
    X, Y = np.ones((8, 3)), np.arange(16.0).reshape(8, 2)
    trained = [dj.load(path, rng=rng) for rng in (5, 5, 6)]
    for net in trained:
        net.fit(X * Y[:, :1], Y, epochs=2, batch_size=2, progress=False)
    np.testing.assert_array_equal(trained[0].theta, trained[1].theta)
    assert (trained[0].theta != trained[2].theta).any()
    assert dj.load(path, threads=1).threads == 1
    with pytest.raises(TypeError, match="rng must be None, a seed"):
        dj.load(path, rng="a")
    with pytest.raises(ValueError, match="threads must be >= 1, got 0"):
        dj.load(path, threads=0)


# ------------------------------------------------------------------ fields to come


@dataclass(frozen=True)
class Wider(Architecture):
    """An Architecture of some later version, with one field more."""

    offsets: tuple[float, ...] = ()

    @classmethod
    def checked(cls, *args, offsets=(0.5,), **options):
        made = Architecture.checked(*args, **options)
        return cls(**vars(made), offsets=tuple(offsets))


def test_a_new_field_travels_along(path, monkeypatch):
    net = some_net()
    net.save(path)
    monkeypatch.setattr(saving, "Architecture", Wider)
    older, theta = saving.load(path)
    assert older.offsets == (0.5,)  # the default of `checked`
    np.testing.assert_array_equal(theta, net.theta)
    saving.save(
        path, Wider.checked([3, 4, 2], "tanh", "auto", "auto", 0, 0, "f4", offsets=[1, 2]), theta
    )
    assert saving.load(path)[0].offsets == (1, 2)
    monkeypatch.undo()
    with pytest.raises(dj.FormatError, match=r"\['offsets'\], which are unknown.*pip install --up"):
        dj.load(path)


def test_fields_that_json_has_not_are_refused(path):
    made = Wider.checked([3, 4, 2], "tanh", "auto", "auto", 0, 0, "f4", offsets=[object()])
    with pytest.raises(TypeError, match="cannot be saved"):
        saving.save(path, made, some_net().theta)
    assert not path.exists()
