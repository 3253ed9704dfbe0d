"""Blocks give the sums of all samples, in this process: by Dask's threads."""

import tracemalloc

import dask.array as da
import numpy as np
import pytest

import deltajit as dj
from deltajit import distributed
from deltajit.training.leaves import Gradient, Part, tree
from tests.helpers import shards
from tests.helpers.shards import BLOCK, N_IN, N, bits, fitted, network, samples


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13, 100])
def test_tree_is_fixed(count):
    """Branches of 2^k leaves each give the bits of the whole; and these differ from a plain sum."""
    leaves = [Part(x, 1.0, np.array([x])) for x in np.random.default_rng(count).normal(size=count)]
    whole = tree(leaves)
    for grain in (1, 2, 4, 32):
        branches = [tree(leaves[first : first + grain]) for first in range(0, count, grain)]
        assert tree(branches) == whole
    assert whole.vector[0] == whole.loss == pytest.approx(sum(x.loss for x in leaves), abs=1e-12)
    assert whole.weight == count


def test_tree_is_binary():
    a, b, c = (Part(x, 0.0, np.zeros(1)) for x in (1.0, 2**-53, 2**-53))
    assert tree([a, b, c]).loss == 1.0
    assert tree([b, c, a]).loss > 1.0


@pytest.fixture
def stored(tmp_path):
    """X, Y and weights in files: in three parts, in one, and as a map."""
    X, Y, weights = samples()
    for i, first in enumerate(range(0, N, 1100)):
        np.save(tmp_path / f"X{i}.npy", X[first : first + 1100])
    np.save(tmp_path / "Y.npy", Y)
    np.save(tmp_path / "weights.npy", np.asfortranarray(weights))
    parts = [tmp_path / f"X{i}.npy" for i in range(3)]
    return parts, str(tmp_path / "Y.npy"), np.load(tmp_path / "weights.npy", mmap_mode="r")


def lazy(*chunks):
    given = zip(samples(), chunks, strict=False)
    return [da.from_array(x, chunks=(n, *x.shape[1:])) for x, n in given]


@pytest.mark.parametrize("method", shards.METHODS)
def test_same_bits_for_any_source(method, stored):
    net, history = fitted(method)
    assert history.loss[-1] < history.loss[0]
    for given in (stored, lazy(700, 700, 700), [*lazy(BLOCK)[:1], *samples()[1:]]):
        other, other_history = fitted(method, given=given)
        assert bits(other) == bits(net)
        assert other_history.loss == history.loss


def test_frames():
    frames = pytest.importorskip("dask.dataframe")
    import pandas as pd

    X, Y, weights = samples()
    table = pd.DataFrame({**{f"x{i}": X[:, i] for i in range(N_IN)}, "y": Y, "w": weights})
    frame = frames.from_pandas(table, npartitions=4)
    given = frame[[f"x{i}" for i in range(N_IN)]], frame["y"], frame["w"]
    assert bits(fitted("adam", given=given)[0]) == bits(fitted("adam")[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_is_that_of_all_samples(dtype):
    """One step of gradient descent shows it, with penalties and weights."""
    X, Y, weights = samples()
    net = network(dtype=dtype)
    loss, grad = net.value_and_grad(X, Y, weights)
    expected = net.theta - 0.1 * grad
    history = distributed.fit(
        net, X, Y, optimizer=dj.SGD(0.1), epochs=1, sample_weight=weights, block_size=BLOCK,
        progress=False,
    )  # fmt: skip
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    assert history.loss[0] == pytest.approx(loss, rel=tolerance)
    np.testing.assert_allclose(net.theta, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", [dj.LBFGS(), dj.LevenbergMarquardt(), dj.Rprop()])
def test_full_batch_methods_go_where_they_go_in_memory(method):
    X, Y, weights = samples()
    nets = [network(dtype="float64", l1=0.0) for _ in range(2)]
    options = {"optimizer": method, "epochs": 5, "sample_weight": weights, "progress": False}
    there = nets[0].fit(X, Y, **options)
    here = distributed.fit(nets[1], X, Y, block_size=700, **options)
    np.testing.assert_allclose(here.loss, there.loss, rtol=1e-9)
    np.testing.assert_allclose(nets[1].theta, nets[0].theta, rtol=1e-6, atol=1e-8)


def test_product_solver(monkeypatch):
    """Levenberg-Marquardt of many parameters needs products of G with vectors alone."""
    monkeypatch.setattr("deltajit.training.full_batch.DENSE", 0)
    X, Y, _ = samples()
    nets = [network(dtype="float64", l1=0.0) for _ in range(2)]
    optimizer = dj.LevenbergMarquardt(damping=1.0)  # residuals of 1e-8 are then steps of 1e-8
    options = {"optimizer": optimizer, "epochs": 2, "progress": False}
    there = nets[0].fit(X, Y, **options)
    here = distributed.fit(nets[1], X, Y, block_size=1500, **options)
    np.testing.assert_allclose(here.loss, there.loss, rtol=1e-7)


def test_one_block_is_a_minibatch():
    """With one block a step and none shuffled, it is plain training, up to roundings."""
    X, Y, _ = samples()
    nets = [network(dtype="float64") for _ in range(2)]
    options = {"epochs": 2, "batch_size": BLOCK, "shuffle": False, "progress": False}
    nets[0].fit(X, Y, schedule=dj.schedules.CosineDecay(), clip_norm=0.5, **options)
    distributed.fit(
        nets[1], X, Y, block_size=BLOCK, schedule=dj.schedules.CosineDecay(), clip_norm=0.5,
        **options,
    )  # fmt: skip
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=1e-10, atol=1e-12)


def test_memory_is_that_of_blocks_under_way(tmp_path):
    n = 2**18
    np.save(tmp_path / "X.npy", np.random.default_rng(0).normal(size=(n, 16)).astype(np.float32))
    np.save(tmp_path / "Y.npy", np.zeros(n, np.float32))
    given = tmp_path / "X.npy", tmp_path / "Y.npy"
    options = {"epochs": 1, "block_size": 2**12, "batch_size": 2**15, "progress": False}
    distributed.fit(dj.Network([16, 2, 1]), *given, **options)  # what is imported isn't counted
    tracemalloc.start()
    distributed.fit(dj.Network([16, 2, 1]), *given, **options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < n * 16 * 4 / 4


def test_local_epochs_of_one_block_are_plain_training():
    X, Y, _ = samples()
    nets = [network() for _ in range(2)]
    options = {"optimizer": dj.SGD(0.1), "shuffle": False, "progress": False}
    nets[0].fit(X, Y, epochs=3, batch_size=32, **options)
    distributed.fit(nets[1], X, Y, epochs=1, local_epochs=3, block_size=N, **options)
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)


def test_local_epochs_average_by_weight():
    X, Y, weights = samples()
    weights[:BLOCK] = 0  # so that this block doesn't count
    nets = [network() for _ in range(2)]
    options = {"epochs": 2, "local_epochs": 1, "shuffle": False, "progress": False}
    options |= {"block_size": BLOCK}
    distributed.fit(nets[0], X, Y, sample_weight=weights, **options)
    distributed.fit(nets[1], X[BLOCK:], Y[BLOCK:], sample_weight=weights[BLOCK:], **options)
    np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=1e-5, atol=1e-6)


def test_predictions_are_lazy(stored):
    X, _, _ = samples()
    net = network()
    expected = net.predict(X)
    lazily = [distributed.predict(net, given) for given in (X, stored[0], lazy(700)[0])]
    net.theta[:] = 0  # it was copied
    for array in lazily:
        assert isinstance(array, da.Array)
        assert array.shape == (N, 1)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array.compute(), expected)
    with pytest.raises(ValueError, match=r"X must have shape \(batch, 6\)"):
        distributed.predict(net, X[:, :2])


# ---------------------------------------------------------------- going on


class Interrupt:
    def __init__(self, epoch):
        self.at = epoch

    def on_epoch_end(self, state):
        if state.epoch == self.at:
            raise RuntimeError("killed")


@pytest.mark.parametrize("method", ["lbfgs", "adam", "rprop", "local"])
def test_resume(method, tmp_path):
    whole, history = fitted(method, epochs=4)
    options = {"epochs": 4, "checkpoint": tmp_path / "fit", "resume": True}
    with pytest.raises(RuntimeError, match="killed"):
        fitted(method, callbacks=[Interrupt(3)], **options)
    net, resumed = fitted(method, **options)
    assert bits(net) == bits(whole)
    assert resumed.loss == history.loss
    with pytest.raises(ValueError, match=r"is of another fit.*block_size"):
        fitted(method, **options, block_size=BLOCK + 1)


def test_resumed_lbfgs_computes_nothing_anew(tmp_path, monkeypatch):
    path = tmp_path / "fit"
    fitted("lbfgs", checkpoint=path)
    calls = []
    plain = Gradient.__call__
    monkeypatch.setattr(Gradient, "__call__", lambda *given: calls.append(1) or plain(*given))
    _, history = fitted("lbfgs", checkpoint=path, resume=True)
    assert len(history.loss) == 6
    assert calls == []
    path.write_bytes(b"anything")
    with pytest.raises(dj.FormatError, match="is not a checkpoint"):
        fitted("lbfgs", checkpoint=path, resume=True)


# ---------------------------------------------------------------- what is wrong


def wrong(match, X=None, Y=None, weights=None, error=ValueError, **options):
    """Expect an error, and a network that is as it was."""
    good = samples()
    given = [x if x is not None else y for x, y in zip((X, Y, weights), good, strict=True)]
    net = network()
    before, rng = bits(net), net._rng.bit_generator.state
    options = {"block_size": BLOCK, "progress": False, **options}
    with pytest.raises(error, match=match):
        distributed.fit(net, *given[:2], sample_weight=given[2], **options)
    assert bits(net) == before
    assert net._rng.bit_generator.state == rng


def test_wrong_chunks():
    X = samples()[0]
    array = da.from_array(X, chunks=(700, 3))
    wrong(r"X is cut along its features, in chunks of \(3, 3\)", array)
    unknown = da.from_array(X, chunks=(700, 6))[da.from_array(X[:, 0] < 9, chunks=700)]
    wrong(r"X has chunks of unknown sizes; X.compute_chunk_sizes\(\)", unknown)
    empty = da.from_array(X, chunks=((0, 1000, 2000), 6))
    wrong("X has partitions without samples, number 0", empty)


def test_wrong_shapes(tmp_path):
    X, Y, weights = samples()
    wrong(r"X must have shape \(batch, 6\), got \(3000, 5\)", X[:, :5])
    wrong(r"Y must have as many samples as X, 3000, got shape \(2999,\)", Y=Y[:-1])
    wrong(r"sample_weight must have shape \(3000,\)", weights=weights[:-1])
    wrong("X has no samples", X[:0], Y[:0], weights[:0])
    np.save(tmp_path / "a.npy", X[:, :5])
    np.save(tmp_path / "b.npy", X)
    np.save(tmp_path / "c.npy", X[:0])
    wrong("X has files of different columns", [tmp_path / "a.npy", tmp_path / "b.npy"])
    wrong(r"X\[1\] has no samples", [tmp_path / "b.npy", tmp_path / "c.npy"])
    wrong("none.npy", tmp_path / "none.npy", error=FileNotFoundError)


def test_wrong_options():
    wrong("client must be a distributed.Client", client="here", error=TypeError)
    wrong("block_size must be >= 1", block_size=0)
    wrong("batch_size must be >= 1", batch_size=0)
    wrong("local_epochs must be >= 1", local_epochs=0)
    wrong("optimizer must be one that gradients are enough for, got KFAC", optimizer=dj.KFAC())
    wrong("local_epochs means nothing to LBFGS", local_epochs=1, optimizer=dj.LBFGS())
    wrong("sample_weight must not be 0", weights=np.zeros(N), optimizer=dj.LBFGS())
    wrong("sample_weight must not be 0", weights=np.zeros(N))
    with pytest.raises(TypeError, match="net must be a Network"):
        distributed.fit(None, *samples()[:2])


def test_different_chunks_are_noted():
    X, Y, weights = lazy(700, 800, 700)
    with pytest.warns(UserWarning, match="chunked differently; .* blocks of 200 samples"):
        net, _ = fitted("adam", given=(X, Y, weights))
    assert bits(net) == bits(fitted("adam")[0])


@pytest.mark.parametrize("kind", ["array", "lazy"])
def test_a_wrong_block_is_named(kind):
    """Theta is that of the last finished step: here the first, which the block isn't in."""
    X, Y, _ = samples()
    X[BLOCK + 3, 1] = np.nan
    where = rf"block 1, of samples {BLOCK} to {2 * BLOCK - 1}: X has NaN or inf .* at \[3, 1\]"
    options = {"optimizer": dj.SGD(0.1), "batch_size": BLOCK, "shuffle": False, "progress": False}
    net = network()
    given = X if kind == "array" else da.from_array(X, chunks=(700, 6))
    with pytest.raises(ValueError, match=where):
        distributed.fit(net, given, Y, block_size=BLOCK, **options)
    other = network()
    distributed.fit(other, X[:BLOCK], Y[:BLOCK], epochs=1, block_size=BLOCK, **options)
    assert bits(net) == bits(other)


def test_divergence():
    net = network()
    before = bits(net)
    with pytest.raises(dj.DivergedError, match="epoch 1"):
        distributed.fit(
            net, *samples()[:2], optimizer=dj.SGD(1e30), epochs=3, batch_size=BLOCK,
            block_size=BLOCK, progress=False,
        )  # fmt: skip
    assert bits(net) == before
