"""Threads: the same bits for every number of them, and a child process that goes on alone."""

import hashlib
import os

import numpy as np
import pytest
from deltajit.kernels.gemm.parallel import start

import deltajit as dj
from deltajit import kernels

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


def test_number_of_threads_is_checked(tmp_path):
    """OpenMP would keep so many on the stack, and end the process where it can't begin them."""
    dj.Network([2, 2]).save(tmp_path / "net")
    for make in (
        lambda threads: dj.Network([2, 2], threads=threads),
        lambda threads: dj.Ensemble([2, 2], 5, threads=threads),
        lambda threads: dj.load(tmp_path / "net", threads=threads),
    ):
        make(1024)
        with pytest.raises(ValueError, match="threads must be >= 1, got 0"):
            make(0)
        for threads in (1025, 100_000, 2**31, 2**63, 10**30):
            with pytest.raises(ValueError, match="threads must be <= 1,024, got "):
                make(threads)


@pytest.mark.skipif(not start(), reason="Numba has no OpenMP here")
@pytest.mark.parametrize("threads", [1024, 100_000, 2**31, 2**63 - 1, -5])
def test_kernels_bound_threads_too(threads):
    """Jitted code makes its own `Model`; and threads beyond a result's rows have nothing to do."""
    net = dj.Network(SIZES, threads=2)
    X = np.random.default_rng(0).normal(size=(400, SIZES[0])).astype("float32")
    Y, expected = X[:, : SIZES[-1]].copy(), net.predict(X)
    model, out, grad = net.model._replace(threads=threads), np.empty_like(Y), net.theta.copy()
    kernels.predict(model, X, out, net.workspace(400))
    np.testing.assert_array_equal(out, expected)
    kernels.value_and_grad(model, X, Y, grad, net.workspace(400))
    np.testing.assert_array_equal(grad, net.grad(X, Y))
