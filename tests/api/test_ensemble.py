"""An ensemble's members are, bit for bit, the networks that they would be alone."""

import numpy as np
import pytest

import deltajit as dj

M = 5


def data(n=70, n_in=3, n_out=2, members=None):
    rng = np.random.default_rng(0)
    axis = () if members is None else (members,)
    return rng.normal(size=(*axis, n, n_in)), rng.normal(size=(*axis, n, n_out))


def alone(i, **options):
    return dj.Network([3, 9, 2], rng=7 + i, threads=1, **options)


def assert_same(nets, twins):
    for net, twin in zip(nets.theta, twins, strict=True):
        np.testing.assert_array_equal(net, twin.theta)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("optimizer", [dj.SGD(0.1), dj.SGD(0.1, 0.9), dj.Adam()])
def test_members_train_as_networks_alone(optimizer, dtype, threads):
    X, Y = data()
    nets = dj.Ensemble([3, 9, 2], M, dtype=dtype, rng=7, threads=threads)
    twins = [alone(i, dtype=dtype) for i in range(M)]
    assert_same(nets, twins)
    fit = dict(epochs=3, batch_size=16, optimizer=optimizer, progress=False)
    found = nets.fit(X, Y, **fit, validation_data=(X, Y))
    histories = [twin.fit(X, Y, **fit, validation_data=(X, Y)) for twin in twins]
    assert_same(nets, twins)
    np.testing.assert_array_equal(np.transpose(found.loss), [h.loss for h in histories])
    np.testing.assert_array_equal(np.transpose(found.val_loss), [h.val_loss for h in histories])
    assert len(found.time) == 3


def test_threads_open_a_region():
    """Enough work for one; a member's bits do not depend on it."""
    X, Y = data(300)
    nets = [dj.Ensemble([3, 40, 40, 2], 8, rng=1, threads=t) for t in (1, 2, 4, 8)]
    for ensemble in nets:
        ensemble.fit(X, Y, 2, progress=False)
    assert len({ensemble.theta.tobytes() for ensemble in nets}) == 1
    assert len({ensemble.predict(X).tobytes() for ensemble in nets}) == 1


@pytest.mark.slow
def test_each_member_may_have_its_own_data():
    X, Y = data(members=M)
    weights = np.random.default_rng(1).uniform(0.5, 2, (M, 70))
    nets = dj.Ensemble([3, 9, 2], M, rng=7)
    twins = [alone(i) for i in range(M)]
    nets.fit(X, Y, 2, progress=False, sample_weight=weights)
    for twin, x, y, w in zip(twins, X, Y, weights, strict=True):
        twin.fit(x, y, 2, progress=False, sample_weight=w)
    assert_same(nets, twins)
    for found, twin, x in zip(nets.predict(X), twins, X, strict=True):
        np.testing.assert_array_equal(found, twin.predict(x))


@pytest.mark.parametrize("own", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_values_and_gradients(own):
    X, Y = data(members=M if own else None)
    nets = dj.Ensemble([3, 9, 2], M, rng=7, l2=0.1)
    values, grads = nets.value_and_grad(X, Y)
    losses, outputs = nets.loss(X, Y), nets.predict(X)
    for i in range(M):
        x, y = (X[i], Y[i]) if own else (X, Y)
        value, grad = alone(i, l2=0.1).value_and_grad(x, y)
        assert values[i] == losses[i] == value
        np.testing.assert_array_equal(grads[i], grad)
        np.testing.assert_array_equal(outputs[i], nets[i].predict(x))
    if not own:
        np.testing.assert_array_equal(nets.mean(X), outputs.mean(axis=0))
        np.testing.assert_array_equal(nets.std(X), outputs.std(axis=0))
        np.testing.assert_array_equal(nets.predict(X[3]), outputs[:, 3])


def test_labels():
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(40, 3)), rng.integers(4, size=40)
    nets = dj.Ensemble([3, 8, 4], M, loss="cross_entropy", rng=3)
    nets.fit(X, labels, 2, progress=False)
    twin = dj.Network([3, 8, 4], loss="cross_entropy", rng=3 + 4)
    twin.fit(X, labels, 2, progress=False)
    np.testing.assert_array_equal(nets.theta[4], twin.theta)
    own = np.stack([labels] * M)
    np.testing.assert_array_equal(nets.loss(np.stack([X] * M), own), nets.loss(X, labels))


def test_a_member_is_a_network_on_the_same_theta():
    nets = dj.Ensemble([3, 9, 2], M)
    nets[2].theta[:] = 0
    assert not nets.theta[2].any()
    assert nets.theta[1].any()
    assert len(nets) == nets.n_members == len(list(nets)) == M
    assert repr(nets).startswith("Ensemble(5 x 3-9-2, tanh -> identity")


@pytest.mark.parametrize("noted", [False, True])
def test_ctrl_c_while_an_epoch_is_noted(noted, monkeypatch):
    """Theta is that of the last epoch in History, on whichever side of it the signal comes."""
    plain, nets, (X, Y) = dj.History.note, dj.Ensemble([3, 9, 2], M), data()

    def note(history, numbers):
        if len(history.loss) == 2:
            raise KeyboardInterrupt
        plain(history, numbers)
        if len(history.loss) == 2 and noted:
            raise KeyboardInterrupt

    monkeypatch.setattr(dj.History, "note", note)
    history = nets.fit(X, Y, 5, validation_data=(X, Y), progress=False)
    assert history.interrupted
    assert len(history.loss) == 2
    np.testing.assert_array_equal(nets.loss(X, Y), history.val_loss[-1])


def test_a_member_that_diverges_stops_alone():
    X, Y = data()
    nets = dj.Ensemble([3, 9, 2], M, "identity", rng=7)
    nets.theta[1] *= 1e18
    before = nets.theta[1].copy()
    with pytest.warns(RuntimeWarning, match=r"1 of 5 members diverged in epoch 1 \(first: 1\)"):
        history = nets.fit(X, Y, 3, progress=False)
    np.testing.assert_array_equal(nets.theta[1], before)
    assert np.isnan([loss[1] for loss in history.loss]).all()
    twins = [alone(i, activation="identity") for i in range(M)]
    twins[3].fit(X, Y, 3, progress=False)
    np.testing.assert_array_equal(nets.theta[3], twins[3].theta)
    nets.theta *= 1e18
    with pytest.warns(RuntimeWarning), pytest.raises(dj.DivergedError, match="epoch 1"):
        nets.fit(X, Y, 3, progress=False)


@pytest.mark.parametrize(
    ("X", "Y", "message"),
    [
        (np.zeros((4, 7, 3)), np.zeros((5, 7, 2)), r"X of three axes must be \(5, batch, 3\)"),
        (np.zeros((5, 7, 3)), np.zeros((5, 6, 2)), "got"),
        (np.zeros((5, 7, 4)), np.zeros((5, 7, 2)), "X must have shape"),
        (np.zeros((7, 3)), np.zeros((7, 3)), "Y must have shape"),
        (np.full((7, 3), np.nan), np.zeros((7, 2)), "X has NaN"),
    ],
)
def test_wrong_data_is_refused(X, Y, message):
    nets = dj.Ensemble([3, 9, 2], M)
    before = nets.theta.copy()
    with pytest.raises(ValueError, match=message):
        nets.fit(X, Y, progress=False)
    np.testing.assert_array_equal(nets.theta, before)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="n_members must be >= 1"):
        dj.Ensemble([2, 1], 0)
    with pytest.raises(TypeError, match="optimizer must be one such as"):
        dj.Ensemble([2, 1], 2).fit(*data(4, 2, 1), optimizer=dj.LBFGS(), progress=False)


@pytest.mark.parametrize("some", [slice(1, 3), slice(None), slice(-2, None), slice(3, 99)])
def test_a_slice_is_an_ensemble_on_the_same_theta(some):
    X, Y = data()
    nets, twins = (dj.Ensemble([3, 9, 2], M, rng=7) for _ in range(2))
    part = nets[some]
    assert isinstance(part, dj.Ensemble)
    assert len(part) == len(range(M)[some])
    assert np.shares_memory(part.theta, nets.theta)
    np.testing.assert_array_equal(part.predict(X), nets.predict(X)[some])
    part.fit(X, Y, 2, progress=False)
    twins.fit(X, Y, 2, progress=False)
    np.testing.assert_array_equal(nets.theta[some], twins.theta[some])
    others = np.setdiff1d(range(M), range(M)[some])
    np.testing.assert_array_equal(
        nets.theta[others], dj.Ensemble([3, 9, 2], M, rng=7).theta[others]
    )
    np.testing.assert_array_equal(part[0].theta, nets[range(M)[some][0]].theta)
    assert repr(part).startswith(f"Ensemble({len(part)} x 3-9-2")


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (slice(None, None, 2), ValueError, "a slice of an ensemble must have step 1"),
        (slice(None, None, -1), ValueError, "must have step 1"),
        (slice(2, 2), ValueError, "at least one of its 5 members"),
        (5, IndexError, "index must be less than the 5 members, got 5"),
        (-6, IndexError, "index must be"),
        (1.0, TypeError, "index must be a whole number or a slice, got 1.0"),
        (True, TypeError, "index must be a whole number"),
        ([0, 1], TypeError, "index must be a whole number"),
        (None, TypeError, "index must be a whole number"),
    ],
)
def test_wrong_indices(index, error, message):
    with pytest.raises(error, match=message):
        dj.Ensemble([3, 9, 2], M)[index]


@pytest.mark.parametrize("index", [-1, np.int64(2)])
def test_other_whole_numbers(index):
    nets = dj.Ensemble([3, 9, 2], M)
    np.testing.assert_array_equal(nets[index].theta, nets.theta[index])


def weights(*zeros):
    found = np.ones((M, 70))
    found[list(zeros)] = 0
    return found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (weights(2), "sample_weight must not be 0 for every sample of a member, as .* member 2"),
        (weights(*range(M)), "must not be 0 for every sample"),
        (1e-60 * weights(), "must not be 0 for every sample"),  # in float32
        (np.ones((M, 69)), r"sample_weight must have shape \(5, 70\) or \(70,\), got \(5, 69\)"),
        (np.full((M, 70), np.nan), "sample_weight has NaN"),
        (-weights(), "sample_weight must be >= 0"),
    ],
)
def test_wrong_weights_of_members(given, message):
    """As a network alone says it, and before anything has changed."""
    X, Y = data(members=M)
    nets = dj.Ensemble([3, 9, 2], M)
    before = nets.theta.copy()
    validation = "validation_data\\[2\\]" + message.removeprefix("sample_weight")
    for call in (nets.loss, nets.value_and_grad):
        with pytest.raises(ValueError, match=message):
            call(X, Y, given)
    with pytest.raises(ValueError, match=message):
        nets.fit(X, Y, sample_weight=given, progress=False)
    with pytest.raises(ValueError, match=validation if "sample_weight" in message else message):
        nets.fit(X, Y, validation_data=(X, Y, given), progress=False)
    np.testing.assert_array_equal(nets.theta, before)


def test_weights_may_be_shared():
    X, Y = data(members=M)
    nets, w = dj.Ensemble([3, 9, 2], M), np.linspace(0, 1, 70)
    np.testing.assert_array_equal(nets.loss(X, Y, w), nets.loss(X, Y, np.tile(w, (M, 1))))


def test_methods_that_take_all_samples_do_so_here():
    X, Y = data()
    nets, twin = dj.Ensemble([3, 9, 2], M, rng=7), alone(1)
    nets.fit(X, Y, 3, optimizer=dj.Rprop(), progress=False)
    twin.fit(X, Y, 3, optimizer=dj.Rprop(), progress=False)
    np.testing.assert_array_equal(nets.theta[1], twin.theta)
