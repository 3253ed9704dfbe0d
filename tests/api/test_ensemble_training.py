"""An ensemble trains with schedules, dropout, callbacks and weights as a member alone does."""

import numpy as np
import pytest

import deltajit as dj
from tests.api.test_ensemble import M, alone, assert_same, data


@pytest.mark.parametrize(
    "given",
    [
        dict(schedule=dj.schedules.CosineDecay(warmup=1)),
        dict(clip_norm=0.1),
        dict(dropout=0.4),
        dict(dropout=[0.4], shuffle=False, optimizer=dj.SGD(0.1)),
    ],
)
def test_members_train_as_networks_alone(given):
    X, Y = data()
    nets, twins = dj.Ensemble([3, 9, 2], M, rng=7), [alone(i) for i in range(M)]
    plain = dj.Ensemble([3, 9, 2], M, rng=7)
    history = nets.fit(X, Y, 3, 16, progress=False, **given)
    alone_histories = [twin.fit(X, Y, 3, 16, progress=False, **given) for twin in twins]
    assert_same(nets, twins)
    np.testing.assert_array_equal(np.transpose(history.loss), [h.loss for h in alone_histories])
    assert history.lr == alone_histories[0].lr
    plain.fit(X, Y, 3, 16, progress=False)
    assert not np.array_equal(plain.theta, nets.theta)


def test_threads_do_not_matter_to_dropout():
    X, Y = data(300)
    nets = [dj.Ensemble([3, 40, 40, 2], 8, rng=1, threads=t) for t in (1, 3)]
    for ensemble in nets:
        ensemble.fit(X, Y, 2, dropout=0.2, progress=False)
    np.testing.assert_array_equal(*(ensemble.theta for ensemble in nets))


class Watch(dj.callbacks.Callback):
    """Keeps what it is told, and stops after some epochs."""

    def __init__(self, last=99, error=None):
        self.last, self.error, self.told = last, error, []

    def on_fit_begin(self, state):
        self.told.append("begin")

    def on_epoch_end(self, state):
        self.told.append((state.loss, state.val_loss, state.net, state.theta.shape))
        if self.error is not None:
            raise self.error
        if state.epoch == self.last:
            state.stop()

    def on_fit_end(self, state):
        self.told.append("end")


def test_callbacks_see_all_members():
    X, Y = data()
    nets, watch = dj.Ensemble([3, 9, 2], M), Watch(last=2)
    history = nets.fit(X, Y, 5, validation_data=(X, Y), callbacks=[watch], progress=False)
    first, *epochs, last = watch.told
    assert (first, last, len(epochs), len(history.loss)) == ("begin", "end", 2, 2)
    for (loss, val_loss, net, shape), losses, val_losses in zip(
        epochs, history.loss, history.val_loss, strict=True
    ):
        assert net is nets
        assert shape == nets.theta.shape
        assert loss == pytest.approx(losses.mean())
        assert val_loss == pytest.approx(val_losses.mean())


def test_early_stopping_restores_the_best_of_the_means():
    X, Y = data()
    nets, stopping = dj.Ensemble([3, 9, 2], M), dj.EarlyStopping(2)
    history = nets.fit(
        X, Y, 200, 16, dj.Adam(0.05), validation_data=data(50), callbacks=[stopping],
        progress=False,
    )  # fmt: skip
    means = np.mean(history.val_loss, axis=1)
    assert len(means) == means.argmin() + 3 < 200
    np.testing.assert_array_equal(nets.loss(*data(50)), history.val_loss[means.argmin()])


def test_a_rate_that_a_callback_lowers():
    X, Y = data()
    plateau = dj.ReduceLROnPlateau(0.5, patience=1, min_delta=1e9, monitor="loss")
    history = dj.Ensemble([3, 9, 2], M).fit(X, Y, 3, callbacks=[plateau], progress=False)
    assert history.lr == [1e-3, 1e-3, 5e-4]


def test_members_that_have_diverged_are_left_out_of_means():
    X, Y = data()
    nets, watch = dj.Ensemble([3, 9, 2], M, "identity"), Watch()
    nets.theta[1] *= 1e18
    with pytest.warns(RuntimeWarning, match="1 of 5 members diverged"):
        history = nets.fit(X, Y, 2, validation_data=(X, Y), callbacks=[watch], progress=False)
    assert np.isnan(history.loss[0][1])
    assert watch.told[1][0] == pytest.approx(np.delete(history.loss[0], 1).mean())


def test_an_error_before_the_first_epoch_is_done_changes_nothing():
    X, Y = data()
    nets = dj.Ensemble([3, 9, 2], M)
    before, drawn = nets.theta.copy(), [rng.bit_generator.state for rng in nets._rngs]

    class Fails(dj.callbacks.Callback):
        def on_fit_begin(self, state):
            state.theta[:] = 0
            raise RuntimeError

    for bad, error in [
        (dict(callbacks=[Fails()]), RuntimeError),
        (dict(callbacks=[dj.EarlyStopping()]), ValueError),  # without validation_data
        (dict(callbacks=[1]), TypeError),
        (dict(dropout=1.0), ValueError),
        (dict(dropout=[0.1, 0.1]), ValueError),
        (dict(schedule=1), TypeError),
        (dict(clip_norm=0), ValueError),
    ]:
        with pytest.raises(error):
            nets.fit(X, Y, 2, progress=False, **bad)
        np.testing.assert_array_equal(nets.theta, before)
        assert [rng.bit_generator.state for rng in nets._rngs] == drawn


def test_bootstrap_by_weights_of_each_member():
    """Shared samples, and how often each member has drawn each of them."""
    X, Y = data()
    rng = np.random.default_rng(0)
    counts = np.stack([np.bincount(rng.integers(70, size=70), minlength=70) for _ in range(M)])
    nets, twins = dj.Ensemble([3, 9, 2], M, rng=7), [alone(i) for i in range(M)]
    for value, twin, w in zip(nets.loss(X, Y, counts), twins, counts, strict=True):
        assert value == twin.loss(X, Y, w)
    nets.fit(X, Y, 2, progress=False, sample_weight=counts, validation_data=(X, Y, counts))
    for twin, w in zip(twins, counts, strict=True):
        twin.fit(X, Y, 2, progress=False, sample_weight=w)
    assert_same(nets, twins)
    for wrong, message in [
        (counts[:2], r"sample_weight must have shape \(5, 70\) or \(70,\), got \(2, 70\)"),
        (counts[:, :9], "sample_weight must have shape"),
        (-counts, "sample_weight must be >= 0"),
        (counts * [[0], [1], [1], [1], [1]], "sample_weight must not be 0 .* member 0"),
        (counts * np.nan, "sample_weight has NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            nets.fit(X, Y, sample_weight=wrong, progress=False)


def test_quantiles():
    X, _ = data()
    nets = dj.Ensemble([3, 9, 2], 20)
    outputs = nets.predict(X)
    np.testing.assert_array_equal(nets.quantile(X, [0, 1]), [outputs.min(0), outputs.max(0)])
    np.testing.assert_allclose(nets.quantile(X, 0.5), np.median(outputs, axis=0), rtol=1e-6)
    assert nets.quantile(X[0], 0.1).shape == (2,)
    assert nets.quantile(X[0], [0.1, 0.2, 0.3]).shape == (3, 2)
    assert nets.quantile(X, 0.1).dtype == np.float32
    for q, error in [
        (1.1, ValueError),
        ([[0.1]], ValueError),
        (np.nan, ValueError),
        ("a", TypeError),
    ]:
        with pytest.raises(error, match="q must"):
            nets.quantile(X, q)
