"""Threads: the same bits for every number of them, and a child process that goes on alone."""

import hashlib
import os

import numpy as np
import pytest
from deltajit.kernels.parallel import start

import deltajit as dj

SIZES = [300, 256, 101, 7]


def trained(threads):
    """Bytes of theta and of a gradient after some training; large enough to open regions."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(400, SIZES[0])), rng.normal(size=(400, SIZES[-1]))
    net = dj.Network(SIZES, "tanh", threads=threads)
    for optimizer, batch_size in ((dj.SGD(0.01), 130), (dj.Adam(), 300)):
        net.fit(X, Y, epochs=2, batch_size=batch_size, optimizer=optimizer, rng=0)
    value, grad = net.value_and_grad(X, Y)
    parts = (net.theta, grad, net.predict(X), np.array([value, net.loss(X, Y)]))
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


@pytest.mark.skipif(not start(), reason="Numba has no OpenMP here")
def test_bits_do_not_depend_on_threads():
    alone = trained(1)
    assert dj.Network(SIZES, threads=3).threads == 3
    for threads in (2, 3, 4, 8):
        assert trained(threads) == alone


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_child_goes_on():
    expected = trained(2)
    child = os.fork()
    if child == 0:
        os._exit(0 if trained(2) == expected else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_number_of_threads_is_checked():
    with pytest.raises(ValueError, match="threads must be >= 1, got 0"):
        dj.Network([2, 2], threads=0)
