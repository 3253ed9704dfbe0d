"""Workers give the bits that this process gives, however many there are, and if one dies."""

import os
import signal
import threading
import time

import joblib
import numpy as np
import pytest
from distributed import Client
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

import deltajit as dj
from deltajit import distributed
from deltajit.sklearn import MLPRegressor
from deltajit.sklearn.base import _threads
from tests.helpers import processes, shards
from tests.helpers.shards import BLOCK, bits, fitted, network, samples


@pytest.fixture(scope="module")
def client():
    with shards.cluster(workers=2) as client:
        yield client


@pytest.fixture
def spoilt():
    """A cluster of a test's own, whose workers it may spoil."""
    with shards.cluster(workers=2) as client:
        yield client


@pytest.mark.parametrize("method", shards.METHODS)
def test_same_bits_of_two_workers(method, client):
    net, history = fitted(method)
    other, other_history = fitted(method, client)
    assert bits(other) == bits(net)
    assert other_history.loss == history.loss


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_same_bits_of_any_number_of_workers(workers):
    expected = {method: bits(fitted(method)[0]) for method in ("lbfgs", "adam")}
    with shards.cluster(workers) as client:
        assert {method: bits(fitted(method, client)[0]) for method in expected} == expected


class Slow:
    """Give a test time to kill: one epoch takes at least this long."""

    def __init__(self, after=1):
        self.after, self.reached = after, threading.Event()

    def on_epoch_end(self, state):
        if state.epoch == self.after:
            self.reached.set()
        time.sleep(0.05)


@pytest.mark.parametrize("method", ["lbfgs", "adam"])
def test_a_killed_worker(method, client, tmp_path):
    """It dies by SIGKILL between two epochs, with what it holds: X in memory is sent again."""
    net, _ = fitted(method, epochs=8)
    slow = Slow()

    def kill():
        assert slow.reached.wait(60)
        os.kill(next(iter(before.values())), signal.SIGKILL)

    before = client.run(os.getpid)
    killer = threading.Thread(target=kill)
    killer.start()
    other, _ = fitted(method, client, epochs=8, callbacks=[slow])
    killer.join()
    client.wait_for_workers(2)
    assert set(client.run(os.getpid).values()) != set(before.values())
    assert bits(other) == bits(net)


def test_files_are_read_by_workers(client, tmp_path):
    given = []
    for name, column in zip("XYw", samples(), strict=True):
        np.save(tmp_path / f"{name}.npy", column)
        given.append(tmp_path / f"{name}.npy")
    assert bits(fitted("adam", client, given=given)[0]) == bits(fitted("adam")[0])


def test_a_wrong_block_is_named(client):
    X, Y, weights = samples()
    X[BLOCK + 3, 1] = np.nan
    with pytest.raises(ValueError, match=rf"block 1, of samples {BLOCK} to .*: X has NaN or inf"):
        fitted("adam", client, given=(X, Y, weights))


def test_ensemble(client):
    X, Y, weights = samples(200)
    nets = [dj.Ensemble([6, 4, 1], 11) for _ in range(2)]
    options = {"epochs": 3, "sample_weight": weights, "validation_data": (X, Y)}
    here = nets[0].fit(X, Y, progress=False, **options)
    there = distributed.fit_ensemble(nets[1], X, Y, client, progress=False, **options)
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)
    np.testing.assert_array_equal(here.loss, there.loss)
    np.testing.assert_array_equal(here.val_loss, there.val_loss)
    assert len(there.time) == 3
    alone = dj.Network([6, 4, 1], rng=7)
    alone.fit(X, Y, epochs=3, sample_weight=weights, progress=False)
    np.testing.assert_array_equal(nets[1].theta[7], alone.theta)
    for net in nets:  # the generators have gone on, too
        net.fit(X, Y, epochs=1, progress=False)
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)


def test_ensemble_with_samples_for_each_member(client):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5, 40, 6)).astype(np.float32)
    Y, weights = X.sum(axis=2, keepdims=True), rng.random((5, 40))
    nets = [dj.Ensemble([6, 4, 1], 5) for _ in range(2)]
    nets[0].fit(X, Y, epochs=2, sample_weight=weights, progress=False)
    distributed.fit_ensemble(nets[1], X, Y, client, epochs=2, sample_weight=weights, progress=False)
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)


def test_ensemble_with_members_that_diverge(client):
    X, Y, _ = samples(100)
    nets = dj.Ensemble([6, 4, 1], 6)
    nets.theta[4] = 1e30
    before = nets.theta[4].copy()
    with pytest.warns(RuntimeWarning, match=r"1 of 6 members diverged \(first: 4\)"):
        history = distributed.fit_ensemble(nets, X, Y, client, epochs=2, progress=False)
    np.testing.assert_array_equal(np.isnan(history.loss[-1]), np.arange(6) == 4)
    np.testing.assert_array_equal(nets.theta[4], before)
    nets.theta[:] = 1e30
    with pytest.raises(dj.DivergedError):
        distributed.fit_ensemble(nets, X, Y, client, epochs=2, progress=False)


def test_ensemble_without_a_client():
    X, Y, _ = samples(100)
    nets = [dj.Ensemble([6, 4, 1], 3) for _ in range(2)]
    nets[0].fit(X, Y, epochs=2, progress=False)
    distributed.fit_ensemble(nets[1], X, Y, epochs=2, progress=False)
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_search(client):
    X, Y, _ = samples(200)
    grid = {"alpha": [1e-4, 1e-1], "hidden_layer_sizes": [(4,), (8,)]}
    estimator = MLPRegressor(max_iter=20, random_state=0, tol=0.0, n_iter_no_change=100)
    here = GridSearchCV(estimator, grid, cv=2).fit(X, Y)
    with joblib.parallel_config("dask", client=client):
        there = GridSearchCV(estimator, grid, cv=2).fit(X, Y)
        some = RandomizedSearchCV(estimator, grid, n_iter=2, cv=2, random_state=0).fit(X, Y)
    np.testing.assert_array_equal(
        there.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"]
    )
    assert there.best_params_ == here.best_params_
    assert set(some.cv_results_["mean_test_score"]) <= set(here.cv_results_["mean_test_score"])
    assert client.submit(_threads, pure=False).result() == 1  # nothing is oversubscribed


def test_a_large_theta_travels_without_a_warning(client):
    X, Y, _ = samples(4)
    net = dj.Network([6, 1_500, 2_000, 1], rng=0)
    distributed.fit(net, X, Y, client, dj.Rprop(), epochs=1, block_size=2, progress=False)
    assert net.theta.nbytes > 10_000_000


# ---------------------------------------------------------------- what is wrong


def test_a_worker_without_deltajit(spoilt):
    def forbid():
        import sys

        for name in [x for x in sys.modules if x.split(".")[0] == "deltajit"] or ["deltajit"]:
            sys.modules[name] = None  # as if it weren't installed

    worker = next(iter(spoilt.nthreads()))
    spoilt.run(forbid, workers=[worker])
    with pytest.raises(ImportError, match=rf"the worker {worker} can't import deltajit"):
        fitted("adam", spoilt)


@pytest.mark.slow
def test_a_mixed_cluster(spoilt):
    """A worker of another kind is refused by name, unless any will do; so is a later one."""

    def become(cpu):
        from deltajit.distributed import cluster

        kind = {**cluster.identity(), "CPU": cpu}
        cluster.identity = lambda: kind

    class Change:
        def on_epoch_end(self, state):
            spoilt.run(become, "another CPU", workers=[worker])

    worker, *_ = spoilt.nthreads()
    refused = r"the worker tcp.* would give other bits: its CPU is "
    with pytest.raises(distributed.MixedClusterError, match="a worker that came later would"):
        fitted("lbfgs", spoilt, callbacks=[Change()])
    net = network()
    before = bits(net)
    with pytest.raises(distributed.MixedClusterError, match=refused):
        distributed.fit(net, *samples()[:2], spoilt, progress=False)
    assert bits(net) == before
    distributed.fit(net, *samples()[:2], spoilt, reproducible=False, epochs=1, progress=False)
    assert bits(net) != before


class Closing:
    def __init__(self, client):
        self.client = client

    def on_epoch_end(self, state):
        self.client.close()


def test_a_closed_client(client):
    mine = Client(client.scheduler.address, set_as_default=False)
    with pytest.raises(ValueError, match="client is closed"):
        fitted("lbfgs", mine, callbacks=[Closing(mine)])
    with pytest.raises(ValueError, match="client is closed"):
        fitted("lbfgs", mine)


KILLED = """
import sys
from tests.helpers import shards

class Ready:
    def on_epoch_end(self, state):
        print(state.epoch, flush=True)

if __name__ == "__main__":
    method, path = sys.argv[1:]
    with shards.cluster(workers=2) as client:
        shards.fitted(method, client, epochs=1000, checkpoint=path, callbacks=[Ready()])
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lbfgs", "adam"])
def test_a_killed_client(method, client, tmp_path):
    """Its file goes on to the same bits, on another cluster."""
    script, path = tmp_path / "killed.py", tmp_path / "fit"
    script.write_text(KILLED)
    child = processes.begin(script, method, path, PYTHONPATH=processes.ROOT)
    while child.stdout.readline().strip() != "5":
        assert child.poll() is None
    child.kill()
    processes.end(child)
    net, _ = fitted(method, client, epochs=30, checkpoint=path, resume=True)
    assert bits(net) == bits(fitted(method, epochs=30)[0])


@pytest.mark.slow
def test_four_workers(client):
    expected = {method: bits(fitted(method)[0]) for method in shards.METHODS}
    with shards.cluster(workers=4) as client:
        assert {method: bits(fitted(method, client)[0]) for method in expected} == expected
