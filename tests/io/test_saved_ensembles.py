"""An ensemble in a file: the same bits again, and a clear error for anything else."""

import re

import numpy as np
import pytest
from safetensors.numpy import load_file

import deltajit as dj
from tests.helpers.files import joined, parts


@pytest.fixture
def path(tmp_path):
    return tmp_path / "nets.safetensors"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("members", [1, 5])
def test_round_trip(path, members, dtype):
    nets = dj.Ensemble([3, 4, 4, 2], members, ["relu", "tanh"], l2=0.1, dtype=dtype, rng=3)
    nets.theta += 1
    nets.save(path)
    same = dj.Ensemble.load(path, threads=2)
    assert same.architecture == nets.architecture
    np.testing.assert_array_equal(same.theta, nets.theta)
    X, Y = np.ones((6, 3)), np.ones((6, 2))
    np.testing.assert_array_equal(same.predict(X), nets.predict(X))
    same.fit(X, Y, 1, progress=False)
    for i in range(members):
        tensors = load_file(path)
        np.testing.assert_array_equal(tensors["layers.1.weight"][i], nets[i].weights[1])
        np.testing.assert_array_equal(tensors["layers.1.bias"][i], nets[i].biases[1])


def test_seeds_are_those_of_a_new_ensemble(path):
    new = dj.Ensemble([3, 4, 2], 3, rng=5)
    new.save(path)
    drawn = [rng.random() for rng in dj.Ensemble.load(path, rng=5)._rngs]
    assert drawn == [np.random.default_rng(5 + i).random() for i in range(3)]


def test_a_circuit_as_loss(path):
    loss = dj.Circuit(lambda o, y: np.log1p((o - y) ** 2), 2)
    nets = dj.Ensemble([2, 3, 1], 2, loss=loss)
    nets.save(path)
    X, Y = np.ones((6, 2)), np.ones(6)
    np.testing.assert_array_equal(dj.Ensemble.load(path).loss(X, Y), nets.loss(X, Y))


def test_one_is_not_the_other(path):
    dj.Ensemble([3, 4, 2], 3).save(path)
    with pytest.raises(dj.FormatError, match=r"it holds an ensemble of 3: Ensemble\.load reads it"):
        dj.load(path)
    dj.Network([3, 4, 2]).save(path)
    with pytest.raises(dj.FormatError, match=r"one network, no ensemble: deltajit\.load reads it"):
        dj.Ensemble.load(path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (0, "number of members must be 1 or more, got 0"),
        (True, "number of members must be 1 or more, got True"),
        ("3", "number of members must be 1 or more, got '3'"),
        (None, "number of members must be 1 or more, got None"),
        (4, "4 times layers of"),
        (10**15, "times layers of"),
    ],
)
def test_wrong_number_of_members(path, members, message):
    dj.Ensemble([3, 4, 2], 3).save(path)
    header, description, content = parts(path.read_bytes())
    description["members"] = members
    path.write_bytes(joined(header, content, description))
    with pytest.raises(dj.FormatError, match=re.escape(message)):
        dj.Ensemble.load(path)


def test_tensors_without_the_axis_of_members(path):
    dj.Ensemble([3, 4, 2], 1).save(path)
    header, description, content = parts(path.read_bytes())
    header["layers.0.bias"]["shape"] = [4]
    path.write_bytes(joined(header, content, description))
    with pytest.raises(
        dj.FormatError, match=r"layers\.0\.bias must have dtype F32 and shape \[1, 4\]"
    ):
        dj.Ensemble.load(path)


def test_a_failure_keeps_the_old_file(path, monkeypatch):
    old = dj.Ensemble([3, 4, 2], 2)
    old.save(path)
    before = path.read_bytes()

    def fail(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        dj.Ensemble([3, 4, 2], 3).save(path)
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1
