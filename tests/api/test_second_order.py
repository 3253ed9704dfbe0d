"""GaussNewtonCG and KFAC: their steps are the reference's, and training by them is as by others."""

import itertools
import pickle

import numpy as np
import pytest

import deltajit as dj
from deltajit import reference
from deltajit.training import kfac
from deltajit.training.gauss_newton import conjugate_gradients
from deltajit.training.second_order import MOST, adapted
from tests.helpers.networks import make_case, relative_error

METHODS = [dj.GaussNewtonCG(), dj.KFAC()]
methods = pytest.mark.parametrize("optimizer", METHODS, ids=lambda x: type(x).__name__)
OUTPUTS = {
    "squared_error": "tanh", "binary_cross_entropy": "sigmoid", "cross_entropy": "softmax",
    "poisson": "exp",
}  # fmt: skip


def case(loss="squared_error", output=None, dtype="float64", batch=20, activation="gelu"):
    ends = output or OUTPUTS[loss], loss
    net, X, Y = make_case([3, 5, 2], activation, *ends, dtype, batch, l2=0.01)
    return net, X, Y, np.linspace(0, 2, batch)


def step_of(net, X, Y, optimizer, before=None, **given):
    """Theta's move by one step, as the reference joins vectors."""
    start = net.theta.copy()
    net.fit(X, Y, 1, len(X), optimizer, progress=False, **given)
    return reference.joined(*net.unflatten(net.theta - start))


@pytest.mark.parametrize("loss", [*OUTPUTS, "log_cosh"])
def test_gauss_newton_step(loss):
    net, X, Y, w = case(loss, OUTPUTS.get(loss, "identity"))
    optimizer = dj.GaussNewtonCG(lr=0.5, damping=0.3, iterations=200, tol=0)
    expected = reference.gauss_newton_step(net.reference, X, Y, 0.3, w)
    found = step_of(net, X, Y, optimizer, sample_weight=w)
    assert relative_error(found, 0.5 * expected) < 1e-9


@pytest.mark.parametrize("batch", [20, 300])  # one block of samples, and two
@pytest.mark.parametrize("loss", OUTPUTS)
def test_kfac_steps(loss, batch):
    """Two of them: the second has a step before, and means of two minibatches."""
    net, X, Y, w = case(loss, batch=batch)
    rng, previous, factors, damping = np.random.default_rng(5), None, None, 0.3
    start = net.theta.copy()
    for number in (1, 2):
        model = net.reference
        a = reference.predict(model, X)
        drawn = a - kfac.DRAWS[loss](a, 2.0 * rng.integers(2, size=a.shape) - 1)
        new = reference.kronecker_factors(model, X, drawn, w)
        keep = 1 - 1 / number
        means = zip(factors or new, new, strict=True)
        factors = [
            tuple(keep * x + (1 - keep) * y for x, y in zip(*pair, strict=True)) for pair in means
        ]
        step = reference.kfac_step(model, X, Y, damping, factors, previous, w)
        before, dW, db = reference.value_and_grad(model, X, Y, w)
        G = reference.gauss_newton_matrix(model, X, Y, w)
        q = reference.joined(dW, db) @ step + step @ (G @ step + damping * step) / 2
        net.theta += net.flatten(*reference.parted(model, step))
        change = net.loss(X, Y, w) - before
        assert change < 0
        damping, previous = adapted(damping, change / q), step
    expected = net.theta.copy()
    net.theta = start
    net.fit(
        X, Y, 2, batch, dj.KFAC(damping=0.3), sample_weight=w, progress=False,
        rng=np.random.default_rng(5),
    )  # fmt: skip
    assert relative_error(net.theta - start, expected - start) < 1e-9


@pytest.mark.parametrize("loss", OUTPUTS)
def test_draws_have_the_curvature(loss):
    """Over all signs, the second moments of BP1's delta are d delta / dz = f'(z)."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4, 3))
    a = reference.activate(OUTPUTS[loss], z)
    signs = np.array([*itertools.product([-1.0, 1.0], repeat=3)])
    draws = [kfac.DRAWS[loss](a, x * np.ones(a.shape)) for x in signs]
    moments = np.mean([d[:, :, None] * d[:, None, :] for d in draws], axis=0)
    unit = np.eye(3)
    slopes = [reference.times_derivative(OUTPUTS[loss], a, e[None], 0.01) for e in unit]
    expected = np.stack(slopes, axis=2) if loss != "squared_error" else unit[None]
    np.testing.assert_allclose(moments, expected + 0 * moments, atol=1e-12)


def test_sweeps_of_a_linearization():
    net, X, Y, _ = case(batch=300)
    model = net.reference
    a, deltas = reference.forward(model, X).a, reference.per_sample_grads(model, X, Y)[1]
    rows = []
    for sweep in net.linearize(X, Y).sweeps():
        rows += [*range(300)[sweep.rows]]
        for found, expected in zip(sweep.a, a, strict=True):
            assert relative_error(found, expected[sweep.rows]) < 1e-12
        for found, expected in zip(sweep.delta, deltas, strict=True):
            assert relative_error(300 * found, expected[sweep.rows]) < 1e-10
    assert rows == [*range(300)]


def test_conjugate_gradients():
    rng = np.random.default_rng(0)
    M, b, start = rng.normal(size=(30, 30)), rng.normal(size=30), rng.normal(size=30)
    B = M @ M.T + np.eye(30)
    for x in (0 * b, start):
        found, product = conjugate_gradients(lambda v: B @ v, b, x, 200, 0)
        np.testing.assert_allclose(found, np.linalg.solve(B, b), rtol=1e-6)
        np.testing.assert_allclose(product, b, rtol=1e-6)
    rough, _ = conjugate_gradients(lambda v: B @ v, b, 0 * b, 200, 1e-2)
    assert 1e-6 < relative_error(rough, found) < 0.5
    x, product = conjugate_gradients(lambda v: -v, b, 0 * b, 9, 0)  # no minimum
    assert not x.any()
    assert not product.any()


def test_damping():
    assert adapted(3.0, 0.8) == 2.0
    assert adapted(3.0, 0.5) == 3.0
    for ratio in (0.2, -1.0, np.nan):
        assert adapted(3.0, ratio) == 4.5
        assert adapted(MOST, ratio) == MOST  # at an optimum it would grow for ever


def test_directions_of_very_different_length():
    short, long = 1e-9, 1.0
    matrix, b = (
        np.array([[2 * short**2, short * long], [short * long, long**2]]),
        [3 * short, 2 * long],
    )
    np.testing.assert_allclose(kfac._solve(matrix, b) * [short, long], [1, 1], 1e-12)


@methods
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_curve_that_adam_is_slow_at(optimizer, dtype):
    net = dj.Network([1, 12, 1], "tanh", dtype=dtype, rng=3)
    X = np.linspace(-1, 1, 60)[:, None]
    Y, other = np.sin(3 * X), dj.Network([1, 12, 1], "tanh", dtype=dtype, rng=3)
    net.fit(X, Y, 100, 60, optimizer, progress=False)
    other.fit(X, Y, 100, 60, dj.Adam(0.01), progress=False)
    assert net.loss(X, Y) < 0.01 * other.loss(X, Y)


@methods
def test_chunks_streams_and_maps_are_the_whole(optimizer, tmp_path):
    fitted, X, Y, w = case(dtype="float32", batch=96)
    parted, streamed, mapped = (case(dtype="float32")[0] for _ in range(3))
    given = dict(optimizer=optimizer, shuffle=False, rng=np.random.default_rng(1))
    fitted.fit(X, Y, 1, 32, sample_weight=w, progress=False, **given)
    given["rng"] = np.random.default_rng(1)
    for first in (0, 32, 64):
        rows = slice(first, first + 32)
        parted.partial_fit(X[rows], Y[rows], sample_weight=w[rows], **given)
    given["rng"] = np.random.default_rng(1)
    batches = [(X[i : i + 32], Y[i : i + 32], w[i : i + 32]) for i in (0, 32, 64)]
    streamed.fit(batches, epochs=1, progress=False, **given)
    given["rng"] = np.random.default_rng(1)
    np.save(tmp_path / "X.npy", X)
    held = np.load(tmp_path / "X.npy", mmap_mode="r")
    mapped.fit(held, Y, 1, 32, sample_weight=w, progress=False, **given)
    for net in (parted, streamed, mapped):
        np.testing.assert_array_equal(net.theta, fitted.theta)
    assert abs(fitted.theta - case(dtype="float32")[0].theta).max() > 0.01
    twin = pickle.loads(pickle.dumps(parted))
    for net in (parted, twin):
        net.partial_fit(X, Y, optimizer)
    np.testing.assert_array_equal(parted.theta, twin.theta)


@methods
def test_steps_that_help_no_minibatch_are_not_taken(optimizer):
    net, X, Y, _ = case(dtype="float32", activation="tanh")
    history = net.fit(X, Y, 60, len(X), optimizer, progress=False)
    assert sorted(history.loss, reverse=True) == history.loss
    before = net.theta.copy()
    net.fit(X, Y, 3, 10, optimizer, sample_weight=np.repeat([1.0, 0.0], 10), shuffle=False)
    assert np.isfinite(net.theta).all()
    assert (net.theta != before).any()


@methods
def test_rates_of_a_schedule(optimizer):
    net, X, Y, _ = case()
    history = net.fit(
        X, Y, 3, len(X), optimizer, schedule=dj.schedules.StepDecay(1, 0.5), progress=False
    )
    assert history.lr == [0.5, 0.25, 0.25]


@methods
def test_bad_arguments(optimizer):
    net, X, Y, _ = case()
    before, name = net.theta.copy(), type(optimizer).__name__
    drawn = net._rng.bit_generator.state
    for given in ({"clip_norm": 1.0}, {"dropout": 0.5}):
        for fit in (net.fit, net.partial_fit):
            with pytest.raises(ValueError, match=f"means nothing to {name}"):
                fit(X, Y, optimizer=optimizer, **given)
    for argument in ("lr", "damping"):
        with pytest.raises(ValueError, match=argument):
            type(optimizer)(**{argument: 0})
    with pytest.raises(TypeError, match="optimizer must be one such as"):
        dj.Ensemble([3, 5, 2], 2).fit(X, Y, optimizer=optimizer)
    assert net._rng.bit_generator.state == drawn
    np.testing.assert_array_equal(net.theta, before)


def test_bad_numbers():
    for make, argument, value in (
        (dj.GaussNewtonCG, "iterations", 0), (dj.GaussNewtonCG, "tol", -1.0),
        (dj.KFAC, "every", 0), (dj.KFAC, "decay", 1.0),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=argument):
            make(**{argument: value})
    net = dj.Network([3, 2], loss="huber")
    before = net.theta.copy()
    for fit in (net.fit, net.partial_fit):
        with pytest.raises(ValueError, match=r"KFAC needs a loss of .*poisson, got loss='huber'"):
            fit(np.ones((4, 3)), np.ones((4, 2)), optimizer=dj.KFAC())
    np.testing.assert_array_equal(net.theta, before)
