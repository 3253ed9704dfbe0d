"""Integers that reach C: however large, they end in an error that names them, or do no harm."""

import re

import numpy as np
import pytest

import deltajit as dj
from deltajit import kernels
from deltajit.model import checks

X, Y = np.ones((6, 2)), np.ones((6, 1))
HUGE = [2**63 - 1, 2**63, 2**64, 10**400]


def circuit():
    return dj.Circuit(lambda x, y: x * y, 2)


@pytest.mark.parametrize("n", HUGE)
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("batch", lambda n: dj.Network([2, 1]).workspace(n)),
        ("threads", lambda n: dj.Network([2, 1]).workspace(1, threads=n)),
        ("batch", lambda n: dj.Network([2, 1]).handle(n)),
        ("batch", lambda n: circuit().workspace(n)),
        ("n_inputs", lambda n: dj.Circuit(lambda *x: x[0], n)),
        ("output", lambda n: circuit().trace([1, 2], n)),
        ("epochs", lambda n: dj.Network([2, 1]).fit(X, Y, n)),
        ("batch_size", lambda n: dj.Network([2, 1]).fit(X, Y, 1, n)),
        ("n_members", lambda n: dj.Ensemble([2, 1], n)),
        ("epochs", lambda n: dj.Ensemble([2, 1], 2).fit(X, Y, n)),
        ("batch_size", lambda n: dj.Ensemble([2, 1], 2).fit(X, Y, 1, n)),
        ("sizes", lambda n: dj.Network([2, n, 1])),
        ("patience", lambda n: dj.EarlyStopping(n)),
        ("history", lambda n: dj.LBFGS(n)),
    ],
)
def test_no_int64(name, call, n):
    with pytest.raises(
        ValueError, match=rf"{re.escape(name)} must (be <=|be less than|make at most) "
    ):
        call(n)


@pytest.mark.parametrize("sizes", [[2**31, 2**31], [2**20, 2**20, 2], [2**62, 1], [2**40, 2, 1]])
def test_products_of_sizes(sizes):
    with pytest.raises(ValueError, match="sizes must make at most 1,099,511,627,776 parameters"):
        dj.Network(sizes)
    with pytest.raises(ValueError, match="sizes must make at most"):
        dj.Ensemble(sizes, 1)


def test_members_and_rows_are_counted_together():
    with pytest.raises(ValueError, match="n_members must be <= "):
        dj.Ensemble([1000, 1000, 1000], 10**6)
    net = dj.Network([1000, 1000, 1])
    with pytest.raises(MemoryError):
        net.workspace(256, threads=2**50)
    with pytest.raises(ValueError, match="n_inputs must be <= 16,777,216"):
        dj.Circuit(lambda *x: x[0], 2**31)


def test_large_ones_that_do_no_harm():
    net, c = dj.Network([2, 1]), circuit()
    assert net.workspace(2**62).size == net.workspace(256).size
    assert c.workspace(2**62).size == c.workspace(10**6).size
    net.fit(X, Y, 1, 2**62, progress=False)
    assert checks.whole(2**62, "n") == 2**62
    with pytest.raises(ValueError, match="l2 must be a finite number"):
        dj.Network([2, 1], l2=10**400)


@pytest.mark.parametrize("size", [-1, 0, 2**62 + 1, 2**63 - 1])
def test_batches_of_jitted_code(size):
    net = dj.Network([2, 1])
    x, y, order = X.astype("f"), Y.astype("f"), np.arange(6)
    rule, grad = dj.SGD(0.1).rule(net.n_params, net.dtype), np.empty_like(net.theta)
    with pytest.raises(ValueError, match="batch_size must be at least 1, and at most"):
        kernels.fit_epoch(net.model, x, y, order, size, rule, grad, net.workspace(256))
