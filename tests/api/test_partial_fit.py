"""Training in chunks is training in one go: the optimizer's state goes on."""

import copy
import pickle

import numpy as np
import pytest

import deltajit as dj
from tests.helpers.networks import DTYPES, make_case


def case(batch=96, dtype="float32", **options):
    return make_case(
        [3, 9, 2], "tanh", "identity", "squared_error", dtype, batch, l2=0.01, **options
    )


def state_of(net):
    return net.theta.tobytes(), net._progress.rule.state.tobytes(), int(net._progress.rule.count[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "optimizer", [dj.SGD(0.1), dj.SGD(0.1, 0.9), dj.Adam(), dj.RMSProp(), dj.Lion()]
)
def test_chunks_are_the_whole(optimizer, dtype):
    net, X, Y = case(dtype=dtype)
    weights = np.linspace(0, 1, 96)
    whole, fitted = case(dtype=dtype)[0], case(dtype=dtype)[0]
    given = dict(batch_size=16, shuffle=False, dropout=0.3, clip_norm=0.5, rng=0)
    losses = []
    for first, last in [(0, 16), (16, 64), (64, 96)]:
        part = slice(first, last)
        loss = net.partial_fit(X[part], Y[part], optimizer, sample_weight=weights[part], **given)
        losses.append(loss * weights[part].sum())
    loss = whole.partial_fit(X, Y, optimizer, sample_weight=weights, **given)
    assert state_of(net) == state_of(whole)
    assert sum(losses) / weights.sum() == pytest.approx(loss, rel=1e-6)
    fitted.fit(X, Y, 1, optimizer=optimizer, sample_weight=weights, progress=False, **given)
    np.testing.assert_array_equal(fitted.theta, whole.theta)


def test_two_fits_are_not():
    """Else the test above could not fail: fit begins with fresh moments."""
    (net, X, Y), (whole, _, _) = case(), case()
    for part in (slice(0, 48), slice(48, 96)):
        net.fit(X[part], Y[part], 1, 16, dj.Adam(), shuffle=False, progress=False)
    whole.fit(X, Y, 1, 16, dj.Adam(), shuffle=False, progress=False)
    assert abs(net.theta - whole.theta).max() > 1e-4


def test_memory_maps_and_batches(tmp_path):
    (net, X, Y), (streamed, _, _), (mapped, _, _) = case(), case(), case()
    np.save(tmp_path / "X.npy", X)
    net.partial_fit(X, Y, shuffle=False)
    streamed.partial_fit((X[i : i + 32], Y[i : i + 32]) for i in range(0, 96, 32))
    mapped.partial_fit(np.load(tmp_path / "X.npy", mmap_mode="r"), Y, shuffle=False)
    assert state_of(net) == state_of(streamed) == state_of(mapped)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_state_goes_with_a_copy(copied):
    net, X, Y = case()
    net.partial_fit(X, Y, dj.Adam(), dropout=0.5)
    twin = copied(net)
    for each in (net, twin):
        each.partial_fit(X, Y, dj.Adam(), dropout=0.5)
    assert state_of(net) == state_of(twin)
    assert net._progress.rule.count[0] == 6
    assert not np.shares_memory(net._progress.rule.state, twin._progress.rule.state)


def test_when_state_begins_anew():
    net, X, Y = case(32)
    steps = []
    for optimizer in (
        dj.Adam(1e-3), dj.Adam(1e-3), dj.Adam(1e-4), dj.Adam(1e-4, eps=1e-7), dj.AdamW(1e-4),
        dj.SGD(0.1, 0.9), dj.SGD(0.1), dj.SGD(0.01),
    ):  # fmt: skip
        net.partial_fit(X, Y, optimizer)
        steps.append(int(net._progress.rule.count[0]))
        assert net._progress.rule.rates == [optimizer.lr]
    assert steps == [1, 2, 3, 1, 1, 1, 1, 2]
    net.fit(X, Y, 1, progress=False)
    assert net._progress is None


def test_shuffled_chunks_learn():
    net, X, Y = case()
    before = net.loss(X, Y)
    generator = np.random.default_rng(1)
    orders = {net.partial_fit(X, Y, dj.Adam(0.01), rng=generator) for _ in range(50)}
    assert net.loss(X, Y) < 0.8 * before
    assert len(orders) == 50


def broken(X, Y):
    yield X, Y
    yield X, np.full_like(Y, np.nan)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(batch_size=0), ValueError, "batch_size must be >= 1"),
        (dict(optimizer=dj.LBFGS()), ValueError, "LBFGS takes each step on all samples"),
        (dict(optimizer=dj.Rprop()), ValueError, "Rprop takes each step on all samples"),
        (dict(optimizer=dj.Adam), TypeError, "optimizer must be one such as"),
        (dict(clip_norm=0), ValueError, "clip_norm must be"),
        (dict(dropout=1.0), ValueError, r"dropout\[0\] must be less than 1"),
        (dict(X=np.zeros((4, 2))), ValueError, "X must have shape"),
        (dict(X=7, Y=None), TypeError, "without Y, X must be an iterable"),
        (dict(X=broken(*case(8)[1:]), Y=None), ValueError, r"batch 1 of X\[1\] has NaN"),
        (dict(optimizer=dj.SGD(1e30)), dj.DivergedError, "the loss is not finite"),
    ],
)
def test_errors_change_nothing(change, error, message):
    net, X, Y = case()
    net.partial_fit(X, Y, dj.SGD(0.1))
    before, drawn = state_of(net), net._rng.bit_generator.state
    with pytest.raises(error, match=message):
        net.partial_fit(**{"X": X, "Y": Y, "optimizer": dj.SGD(0.2), **change})
    assert state_of(net) == before
    assert net._rng.bit_generator.state == drawn
