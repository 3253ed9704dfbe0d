"""Kernels made for one list of layers: the bits are those of the kernels for all."""

import copy
import pickle

import numpy as np
import pytest
from deltajit.kernels import compiler
from deltajit.kernels.mlp.model import SPECIAL

import deltajit as dj
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
    plain, special = pair([2, 16, 1], "tanh", batch=32)
    check(plain, special, *samples(plain))
    with pytest.raises(ValueError, match="batch"):
        special.specialize(0)


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
