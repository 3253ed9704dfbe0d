"""Fit takes samples from memory maps, a part at a time, and from streams of batches."""

import tracemalloc

import numpy as np
import pytest

import deltajit as dj
from deltajit.model import checks

N = 5000


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 6))
    return X, np.sin(X[:, :2].sum(axis=1)), rng.integers(0, 3, size=N)


@pytest.fixture
def mapped(samples, tmp_path):
    """Return a function that gives samples as memory maps of a dtype."""

    def of(dtype, order="C", mode="r"):
        maps = []
        for name, column in zip("XY", samples, strict=False):
            np.save(tmp_path / f"{name}.npy", np.asarray(column, dtype, order=order))
            maps.append(np.load(tmp_path / f"{name}.npy", mmap_mode=mode))
        return maps

    return of


def fitted(X, Y=None, loss=None, **options):
    net = dj.Network([6, 8, 1], l2=1e-3, rng=0)
    history = net.fit(X, Y, progress=False, **{"epochs": 3, **options})
    return net.theta, history.loss


FORMS = [("float64", "C"), ("float32", "F"), (">f8", "C"), ("float16", "C")]


@pytest.mark.parametrize(("dtype", "order"), [("float32", "C"), *FORMS])
@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"optimizer": dj.Rprop()}])
def test_maps_give_the_bits_of_memory(mapped, samples, dtype, order, options):
    X, Y = mapped(dtype, order)
    options = {**options, "sample_weight": samples[2], "batch_size": 50}
    theta, losses = fitted(X, Y, **options)
    expected, expected_losses = fitted(np.array(X), np.array(Y), **options)
    np.testing.assert_array_equal(theta, expected)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-12)


@pytest.mark.parametrize("method", [dj.LBFGS(), dj.LevenbergMarquardt()])
def test_full_batch_methods_of_maps(mapped, method):
    X, Y = mapped("float64")
    nets = [dj.Network([6, 8, 1], dtype="float64", rng=0) for _ in range(2)]
    options = {"optimizer": method, "epochs": 5, "progress": False}
    here = nets[0].fit(np.asfortranarray(X), Y, **options)
    X, Y = mapped("float64", "F")
    there = nets[1].fit(X, Y, **options)
    np.testing.assert_allclose(there.loss, here.loss, rtol=1e-9)


@pytest.mark.parametrize(("dtype", "order"), [("float32", "C"), ("float64", "C"), ("float32", "F")])
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_maps_are_not_copied(tmp_path, monkeypatch, dtype, order, mode):
    shape = 2**15, 32
    X = np.lib.format.open_memmap(
        tmp_path / "X.npy", "w+", dtype, shape, fortran_order=order == "F"
    )
    X[:] = np.random.default_rng(0).normal(size=shape)
    Y = np.zeros(len(X), np.float32)
    del X
    net = dj.Network([32, 2, 1])
    given = np.load(tmp_path / "X.npy", mmap_mode=mode)
    net.fit(given[:64], Y[:64], epochs=1, progress=False)  # what is compiled isn't counted
    monkeypatch.setattr("deltajit.training.feeds.READ", 2**18)
    tracemalloc.start()
    net.fit(given, Y, epochs=1, batch_size=256, progress=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < given.nbytes / 3


def test_read_only_arrays_are_not_copied(samples):
    X = samples[0].astype(np.float32)
    X.flags.writeable = False
    taken = checks.array(X, "X", np.dtype(np.float32))
    assert np.shares_memory(taken, X)
    assert not X.flags.writeable
    net = dj.Network([6, 8, 1])
    np.testing.assert_array_equal(net.predict(X), net.predict(X.copy()))


def test_wrong_maps(mapped, samples):
    X, Y = mapped("float64")
    for given, targets, match in [
        (X[:, :5], Y, r"X must have shape \(batch, 6\)"),
        (X, Y[:-1], "Y must have as many samples as X, 5000"),
        (X[:0], Y[:0], "X has no samples"),
    ]:
        with pytest.raises(ValueError, match=match):
            fitted(given, targets)
    X, Y = mapped("float64", mode="c")
    X[4321, 2] = np.inf
    with pytest.raises(ValueError, match="block 0, of samples 0 to 4999: X has NaN or inf"):
        fitted(X, Y)
    with pytest.raises(ValueError, match="sample_weight must not be 0"):
        fitted(X, Y, sample_weight=np.zeros(N))


# ---------------------------------------------------------------- streams


def batches(samples, size=32):
    return [tuple(x[first : first + size] for x in samples) for first in range(0, N, size)]


@pytest.mark.parametrize("size", [50, 500])
def test_batches_are_minibatches(samples, size):
    X, Y, weights = samples
    options = {"schedule": dj.schedules.CosineDecay(), "dropout": 0.2}
    expected = fitted(X, Y, sample_weight=weights, batch_size=size, shuffle=False, **options)
    got = fitted(batches(samples, size), **options)
    np.testing.assert_array_equal(got[0], expected[0])
    assert got[1] == expected[1]


class Again:
    """An iterable that begins anew for each epoch."""

    def __init__(self, given):
        self.given = given

    def __iter__(self):
        yield from self.given


def test_streams(samples):
    given = batches(samples[:2])
    expected, _ = fitted(given)
    np.testing.assert_array_equal(fitted(Again(given))[0], expected)
    once, _ = fitted(given, epochs=1)
    np.testing.assert_array_equal(fitted(iter(given), epochs=1)[0], once)


def test_streams_go_on_from_a_checkpoint(samples, tmp_path):
    given = Again(batches(samples))
    expected, losses = fitted(given, epochs=4)
    options = {"checkpoint": tmp_path / "fit", "resume": True}
    fitted(given, epochs=2, **options)
    theta, resumed = fitted(given, epochs=4, **options)
    np.testing.assert_array_equal(theta, expected)
    assert resumed == losses


def test_wrong_streams(samples):
    good = batches(samples)
    for error, match, given, options in [
        (TypeError, r"X must be an iterable of batches \(X, Y\)", 3, {}),
        (ValueError, "X is an iterator.*epochs must be 1, got 3", iter(good), {}),
        (TypeError, r"batch 1 of X must be \(X, Y\)", [good[0], 3], {}),
        (ValueError, r"batch 0 of X\[0\] must have shape", [(np.ones((2, 5)), [1, 2])], {}),
        (ValueError, r"batch 0 of X\[1\] has NaN", [(np.ones((2, 6)), [1, np.nan])], {}),
        (ValueError, "X has no batches", [], {}),
        (ValueError, "LBFGS takes each step on all samples", good, {"optimizer": dj.LBFGS()}),
        (ValueError, "Rprop takes each step on all samples", good, {"optimizer": dj.Rprop()}),
        (ValueError, "sample_weight belongs into the batches", good, {"sample_weight": [1]}),
        (ValueError, "schedule needs batches with a length", Again(good),
         {"schedule": dj.schedules.CosineDecay()}),
    ]:  # fmt: skip
        net = dj.Network([6, 8, 1], l2=1e-3, rng=0)
        before = net.theta.copy()
        with pytest.raises(error, match=match):
            net.fit(given, progress=False, **{"epochs": 3, **options})
        np.testing.assert_array_equal(net.theta, before)
