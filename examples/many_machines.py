"""Many machines
=============

One network, trained by several processes: the same bits however many there are.

The processes are workers of a Dask cluster. Here all of them are on this machine; the line that
makes the cluster is the only one to change for a real one.
"""

import contextlib
import hashlib
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from distributed import Client, LocalCluster

import deltajit as dj
from deltajit import distributed

FILES, SAMPLES, BLOCK = 4, 20_000, 2_000


# %%
# Data
# ----
# Some files, as other programs may have left them. Workers read them: on a real cluster their
# folder is one that all machines see.
def write(folder):
    """Write the samples of a function, and return the paths of X and Y."""
    rng = np.random.default_rng(0)
    paths = [], []
    for part in range(FILES):
        X = rng.uniform(-1, 1, size=(SAMPLES // FILES, 2)).astype(np.float32)
        Y = np.sin(3 * X[:, 0]) * np.cos(2 * X[:, 1])
        for name, column, found in zip("XY", (X, Y), paths, strict=True):
            path = Path(folder, f"{name}{part}.npy")
            np.save(path, column)
            found.append(path)
    return paths


# %%
# A cluster
# ---------
# On machines of your own, start ``dask scheduler`` on one of them and ``dask worker
# tcp://HOST:8786 --nthreads 1 --nworkers auto`` on each; on Kubernetes, the operator of
# dask-kubernetes makes a ``KubeCluster``; under SLURM, dask-jobqueue a ``SLURMCluster``. Then
# ``yield`` the client of that, or ``Client("tcp://HOST:8786")``: nothing else changes.
# ``client.dashboard_link`` shows what the workers do, and fit has a progress bar.
@contextlib.contextmanager
def connect(workers):
    """Yield the client of a cluster."""
    options = {"threads_per_worker": 1, "dashboard_address": ":0"}
    cluster = LocalCluster(n_workers=workers, **options)  # <- the line to change
    with cluster, Client(cluster) as client:
        yield client


# %%
# Training
# --------
# L-BFGS takes each step on all samples, and Adam on one block of them. Without a client, this
# process computes the same.
METHODS = {
    "L-BFGS": {"optimizer": dj.LBFGS(), "epochs": 30},
    "Adam": {"optimizer": dj.Adam(1e-2), "epochs": 30, "batch_size": BLOCK},
}


def train(paths, client=None, progress=False):
    """Return the losses of each method, and a hash of where theta ends."""
    losses, hashes = {}, {}
    for name, options in METHODS.items():
        net = dj.Network([2, 32, 32, 1], rng=0)
        history = distributed.fit(
            net, *paths, client, block_size=BLOCK, progress=progress, **options
        )
        losses[name] = history.loss
        hashes[name] = hashlib.sha256(net.theta.tobytes()).hexdigest()[:16]
    return losses, hashes


def run(workers=(2,)):
    """Train in this process, then by so many workers."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write(folder)
        losses, hashes = train(paths)
        found = {0: hashes}
        print("no cluster", hashes)
        for count in workers:
            with connect(count) as client:
                print("dashboard at", client.dashboard_link)
                _, found[count] = train(paths, client, progress=True)
            print(count, "workers", found[count])
    return {"losses": losses, "hashes": found}


# %%
# The same bits
# -------------
def draw(losses):
    """Draw how the methods descend."""
    fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, values in losses.items():
        ax.semilogy(values, label=name)
    ax.set(xlabel="epoch", ylabel="loss", title="The same for any number of workers")
    ax.legend()
    return fig


if __name__ == "__main__":
    found = run()
    figure = draw(found["losses"])
    if "--save" in sys.argv:
        figure.savefig("many_machines.png")
