"""The learning rate finder: its steps, where they end, and that they leave the network alone."""

import dataclasses

import numpy as np
import pytest

import deltajit as dj

X = np.linspace(-3, 3, 60)[:, None]
Y = np.sin(2 * X[:, 0])


def some_net(**options):
    return dj.Network([1, 16, 1], dtype="float64", rng=3, **options)


def test_losses_are_those_of_steps_at_these_rates():
    net, optimizer, weights = some_net(), dj.Adam(0.5), np.linspace(1, 2, 60)
    options = dict(steps=30, batch_size=25, sample_weight=weights, rng=5)
    found = dj.learning_rate_finder(net, X, Y, optimizer, lowest=1e-4, highest=1e-1, **options)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-4, 1e-1, 30))
    rng, losses = np.random.default_rng(5), []
    order = np.concatenate([rng.permutation(60) for _ in range(13)])[: 25 * 30].reshape(30, 25)
    for rate, rows in zip(found.rates, order, strict=True):
        step = dataclasses.replace(optimizer, lr=rate)
        part = dict(batch_size=25, sample_weight=weights[rows], shuffle=False)
        losses.append(net.partial_fit(X[rows], Y[rows], step, **part))
    np.testing.assert_array_equal(found.losses, losses)
    shares = 0.9 ** np.arange(30)[::-1]
    assert found.smoothed[-1] == pytest.approx(shares @ losses / shares.sum())
    assert found.suggestion == found.rates[found.smoothed.argmin()] / 10


@pytest.mark.parametrize("optimizer", [dj.SGD(1.0), dj.Adam(1.0)])
def test_it_ends_where_the_loss_rises_and_the_suggestion_trains(optimizer):
    net = some_net()
    theta, state = net.theta.copy(), net._rng.bit_generator.state
    found = dj.learning_rate_finder(net, X, Y, optimizer, highest=1e6, steps=300)
    assert len(found.rates) == len(found.losses) == len(found.smoothed) < 300
    assert np.isfinite(found.losses).all()
    np.testing.assert_array_equal(net.theta, theta)
    assert net._rng.bit_generator.state == state
    losses = []
    for rate in (found.suggestion / 100, found.suggestion):
        step = dataclasses.replace(optimizer, lr=rate)
        losses.append(some_net().fit(X, Y, 30, optimizer=step, progress=False).loss[-1])
    assert losses[1] < losses[0] / 2


def test_losses_below_0_and_batches_without_weight():
    net = dj.Network([1, 16, 2], output="gaussian", rng=0)
    found = dj.learning_rate_finder(net, X, Y / 100, sample_weight=np.arange(60) > 50, batch_size=2)
    assert 10 < len(found.rates) == len(found.losses) < 150
    assert found.smoothed.min() < 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(net=dj.Adam()), TypeError, "net must be a Network"),
        (dict(X=X[:, [0, 0]]), ValueError, "X must have shape"),
        (dict(X=X * np.nan), ValueError, "X has NaN"),
        (dict(optimizer="adam"), TypeError, r"did you mean optimizer=dj.Adam\(\)"),
        (dict(optimizer=dj.LBFGS()), ValueError, "optimizer must be one such as"),
        (dict(optimizer=dj.Rprop()), ValueError, "optimizer must be one such as"),
        (dict(lowest=0), ValueError, "lowest must be"),
        (dict(highest=1e-9), ValueError, "highest must be above lowest=1e-06, got 1e-09"),
        (dict(highest=np.inf), ValueError, "highest must be"),
        (dict(steps=1), ValueError, "steps must be"),
        (dict(batch_size=0), ValueError, "batch_size must be"),
        (dict(Y=Y * 1e300), ValueError, "a finite loss on X and Y"),
    ],
)
def test_what_is_wrong_is_named(change, error, message):
    given = {"net": some_net(), "X": X, "Y": Y, **change}
    with pytest.raises(error, match=message):
        dj.learning_rate_finder(given.pop("net"), given.pop("X"), given.pop("Y"), **given)
