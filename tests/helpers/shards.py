"""Samples, networks and clusters for tests of deltajit.distributed."""

import contextlib
import hashlib

import numpy as np
from distributed import Client, LocalCluster

import deltajit as dj
from deltajit import distributed

N, N_IN = 3000, 6
BLOCK = 200


def samples(n=N):
    """X, Y and weights, of which some are 0."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, N_IN)).astype(np.float32)
    weights = rng.integers(0, 3, size=n).astype(np.float32)
    return X, np.sin(X[:, :2].sum(axis=1)), weights


def network(**options):
    return dj.Network([N_IN, 8, 1], **{"l2": 1e-3, "l1": 1e-4, "rng": 0, **options})


def bits(net):
    return hashlib.sha256(net.theta.tobytes()).hexdigest()


METHODS = {  # which take a few steps each
    "lbfgs": {"optimizer": dj.LBFGS(), "epochs": 6},
    "adam": {"optimizer": dj.Adam(1e-2), "epochs": 3, "batch_size": 3 * BLOCK},
    "rprop": {"optimizer": dj.Rprop(), "epochs": 4},
    "local": {"optimizer": dj.SGD(0.1), "epochs": 2, "batch_size": 50, "local_epochs": 2},
}


def fitted(method, client=None, given=None, **options):
    """A network after a fit, and its history."""
    X, Y, weights = samples() if given is None else given
    net = network()
    options = {"block_size": BLOCK, "progress": False, **METHODS[method], **options}
    history = distributed.fit(net, X, Y, client, sample_weight=weights, **options)
    return net, history


@contextlib.contextmanager
def cluster(workers):
    """A client of so many processes of one thread each."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",  # None would mean the one port that all clusters want
            scheduler_kwargs={"dashboard": False},
        ) as machines,
        Client(machines) as client,
    ):
        yield client
