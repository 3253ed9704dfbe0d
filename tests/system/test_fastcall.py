"""Calls of kernels from Python: arguments that C reads itself, and what comes back."""

import gc
import sys
import threading
import time
from typing import NamedTuple

import numpy as np
import pytest
from deltajit.kernels.abi import Double, Doubles, Matrix, OptionalVector, Real, Tensor, Vector, Word
from deltajit.kernels.compiler import kernel
from deltajit.kernels.fastcall import Entry
from deltajit.kernels.mlp.calls import calls_for
from deltajit.kernels.simd.views import is_none
from deltajit.kernels.status import BAD_X, OK

import deltajit as dj
from tests.helpers.networks import DTYPES


class Pair(NamedTuple):
    x: Vector
    weights: OptionalVector
    n: Word


@kernel
def shapes(version: Word, a: Vector, b: Matrix, c: Tensor, pair: Pair, out: Doubles) -> Word:
    """Write all extents, n, and whether there are weights."""
    sizes = (a.size, *b.shape, *c.shape, pair.x.size, pair.weights.size, pair.n)
    for i in range(len(sizes)):
        out[i] = sizes[i]
    out[9] = is_none(pair.weights)
    return OK


@kernel
def sums(version: Word, x: Vector, y: Real, z: Double, n: Word, results: Doubles) -> Word:
    """Compute ``sum(x) + y`` and ``z + n``; no x is refused."""
    if x.size == 0:
        return BAD_X
    total = y
    for i in range(x.size):
        total += x[i]
    results[0] = total
    results[1] = z + n
    return OK


@kernel
def nothing(version: Word, x: Vector) -> Word:
    """Write 1 into x."""
    x[0] = 1
    return OK


@pytest.mark.parametrize("dtype", DTYPES)
def test_shapes(dtype):
    """Of arrays with fewer axes than the kernel has, and of those that are None."""
    function, out = Entry(shapes, 0).unchecked(np.dtype(dtype)), np.empty(10)
    x, y = np.ones(3, dtype), np.ones((4, 5), dtype)
    # results None: `out` is an argument like any other
    assert function(x, x, y, Pair(x, x[:2], 7), out) is None
    assert out.tolist() == [3, 1, 3, 1, 4, 5, 3, 2, 7, 0]
    function(x, y, np.ones((2, 0, 6), dtype), (x, None, 2**62), out)
    assert out.tolist() == [3, 4, 5, 2, 0, 6, 3, 0, 2**62, 1]
    function(None, None, None, None, out)
    assert out.tolist() == [0] * 9 + [1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers(dtype):
    function, x = Entry(sums, 2).unchecked(np.dtype(dtype)), np.ones(3, dtype)
    assert function(x, 0.5, 2, 3) == (3.5, 5.0)
    assert function(x, np.float32(0.5), np.float64(2.25), np.int64(-3)) == (3.5, -0.75)
    assert function(x, 0.1, 0, True) == (np.dtype(dtype).type(0.1) + x.sum(), 1.0)


def test_what_a_kernel_refuses_is_raised():
    function = Entry(sums, 2).unchecked(np.dtype("f4"))
    with pytest.raises(ValueError, match="X must have a column for each input"):
        function(np.empty(0, "f4"), 0, 0, 0)
    with pytest.raises(OverflowError):
        function(np.ones(1, "f4"), 0, 0, 2**64)


def test_types_are_checked_where_that_is_asked_for():
    entry, x = Entry(sums, 2), np.ones(3, "f4")
    for _ in range(2):
        entry.check(x.dtype, x, 0.5, 2, 3)
        for wrong in (x[::2], x.astype("f8"), [1.0], 3):
            with pytest.raises(TypeError, match="x: kernels take"):
                entry.check(x.dtype, wrong, 0.5, 2, 3)
        with pytest.raises(TypeError, match="n must be of type int64"):
            entry.check(x.dtype, x, 0.5, 2, 3.5)


def test_nothing_is_kept_alive():
    """Nor given up: every reference that is taken is given back, also where something is raised."""
    x, empty = np.ones(1, "f4"), np.empty(0, "f4")
    two, none = (Entry(*pair).unchecked(x.dtype) for pair in ((sums, 2), (nothing, 0)))
    things = x, empty, Ellipsis, (x, x)
    before = [sys.getrefcount(thing) for thing in things]
    for _ in range(100):
        two(x, 0, 0, 1)
        assert none(x) is None
        with pytest.raises(ValueError, match="X must"):
            two(empty, 0, 0, 1)
    gc.collect()
    assert [sys.getrefcount(thing) for thing in things] == before


def test_python_goes_on_meanwhile():
    """Its lock is given up: another thread counts while a kernel runs."""
    net = dj.Network([400, 400, 400], threads=1)
    X = np.ones((2000, 400), "f4")
    out, work, predict = np.empty_like(X), net.workspace(2000), calls_for(net.dtype).predict
    predict(net.model, X, out, work)
    counts, done = [0], threading.Event()

    def count():
        while not done.is_set():
            counts[0] += 1
            time.sleep(0)  # gives the lock up

    interval = sys.getswitchinterval()
    sys.setswitchinterval(100)  # who holds the lock keeps it, until it is given up
    thread = threading.Thread(target=count)
    try:
        thread.start()
        before = counts[0]
        predict(net.model, X, out, work)
        assert counts[0] > before
    finally:
        done.set()
        sys.setswitchinterval(interval)
        thread.join()


def test_no_other_attributes():
    """What is no entry is none, as `copy` and others ask."""
    with pytest.raises(AttributeError, match="gradient"):
        calls_for(np.dtype("f4")).gradient  # noqa: B018
