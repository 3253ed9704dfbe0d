"""Kernels made for one list of layers: the bits are those of the kernels for all."""

import copy
import pickle

import numpy as np
import pytest
from deltajit.kernels import compiler
from deltajit.kernels.mlp import special
from deltajit.kernels.mlp.model import SPECIAL

import deltajit as dj
from deltajit import kernels
from tests.helpers.networks import awkward

BATCHES = (1, 2, 9, 32, 300)


def pair(*args, batch=None, **kwargs):
    """Return two equal networks, the second of which is specialized."""
    plain, special = dj.Network(*args, **kwargs), dj.Network(*args, **kwargs)
    special.specialize(batch)
    return plain, special


def check(plain, special, X, Y, **options):
    """Compare predictions, gradients and fits, bit for bit."""
    for batch in BATCHES:
        x, y = X[:batch], Y[:batch]
        np.testing.assert_array_equal(plain.predict(x), special.predict(x))
        expected, grad = plain.value_and_grad(x, y), special.value_and_grad(x, y)
        assert expected[0] == grad[0]
        np.testing.assert_array_equal(expected[1], grad[1])
    for optimizer, batch in [(dj.SGD(1e-2), 1), (dj.SGD(1e-2), 32), (dj.Adam(), 13)]:
        for net in (plain, special):
            net.fit(X[:70], Y[:70], 2, batch, optimizer, progress=False, **options)
        np.testing.assert_array_equal(plain.theta, special.theta)


def samples(net, batch=BATCHES[-1]):
    """Return inputs and targets in [0, 1]."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(batch, net.sizes[0])).astype(net.dtype)
    return X, rng.uniform(size=(batch, net.sizes[-1])).astype(net.dtype)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_bits_of_any_sizes(dtype):
    few, most = min(awkward(dtype)), max(awkward(dtype))
    for sizes in [(2, 16, 1), (few, most, 5)]:
        plain, special = pair(sizes, "tanh", dtype=dtype)
        check(plain, special, *samples(plain))


def test_bits_of_other_activations():
    plain, special = pair([5, 9, 17, 3], ["gelu", "identity"], "sigmoid", "squared_error", l2=0.01)
    check(plain, special, *samples(plain))


def test_bits_of_one_size_of_batches():
    plain, net = pair([2, 16, 1], "tanh", batch=32)
    check(plain, net, *samples(plain))
    with pytest.raises(ValueError, match="batch"):
        net.specialize(0)
    for batch, error in [
        (-1, ValueError),
        (2**63, ValueError),
        (2.9, TypeError),
        (True, TypeError),
    ]:
        with pytest.raises(error, match="batch"):
            kernels.specialize(net.model, batch)
    assert net.model.network["batch"] == 32
    net.specialize(1000)
    assert net.model.network["batch"] == 250  # it is cut into four


def test_what_fails_changes_nothing(monkeypatch):
    _, net = pair([3, 5, 2], batch=4)
    X = np.ones((8, 3), net.dtype)
    before, made = net.predict(X), special.sweeps_of

    def interrupted(layers, facts, batch):
        if batch == 8:
            raise KeyboardInterrupt
        return made(layers, facts, batch)

    monkeypatch.setattr(special, "sweeps_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        net.specialize(8)
    np.testing.assert_array_equal(net.predict(X), before)


def test_one_layer_alone_may_write_over_its_inputs():
    for net in pair([40, 40]):
        X, _ = samples(net, 20)
        expected = net.predict(X)
        kernels.predict(net.model, X, X, net.workspace(20))
        np.testing.assert_array_equal(X, expected)


@pytest.mark.parametrize("n_out", [10, 16])
def test_bits_of_many_classes(n_out):
    plain, net = pair([4, n_out], [], "softmax")
    X, Y = samples(net, 32)
    np.testing.assert_array_equal(net.predict(X), plain.predict(X))
    for targets in (Y.argmax(axis=1), Y / Y.sum(axis=1, keepdims=True)):
        for there, here in zip(
            plain.value_and_grad(X, targets), net.value_and_grad(X, targets), strict=True
        ):
            np.testing.assert_array_equal(here, there)


def test_bits_with_labels_weights_and_dropout():
    plain, special = pair([6, 20, 4], "relu", "softmax")
    X, Y = samples(plain)
    labels, w = Y.argmax(axis=1), Y[:, 0]
    assert plain.loss(X, labels, w) == special.loss(X, labels, w)
    for net in (plain, special):
        net.fit(X, labels, 2, 16, sample_weight=w, dropout=0.5, progress=False)
        net.fit(X, labels, 2, 16, sample_weight=w, progress=False)
    np.testing.assert_array_equal(plain.theta, special.theta)


def test_they_are_used_and_made_once_for_equal_layers():
    _, net = pair([3, 5, 2], batch=4)
    _, other = pair([3, 5, 2], batch=4, rng=1)
    net.predict(np.zeros(3))
    names = [name for name in compiler.in_use() if "special_forward" in name]
    other.predict(np.zeros(3))
    assert names == [name for name in compiler.in_use() if "special_forward" in name]
    slots = [net.model.network[name] for name in sum(SPECIAL, ())]
    assert len({int(slot[0]) for slot in slots} - {0}) == 6


def test_copies_compute_the_same_without_them():
    plain, net = pair([3, 5, 2])
    X, _ = samples(net, 4)
    for same in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(same.predict(X), plain.predict(X))
    model = pickle.loads(pickle.dumps(net.model))
    assert model.network["step"][0] == 0 != net.model.network["step"][0]
