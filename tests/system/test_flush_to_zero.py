"""The CPU told to take subnormal numbers for 0, as code made for speed tells it: nothing breaks."""

import math
import platform
import sys

import numba
import numpy as np
import pytest
from deltajit.kernels.simd import ulp
from deltajit.kernels.simd.vectors import HAS_FMA
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

import deltajit as dj
from tests.helpers import processes
from tests.helpers.networks import DTYPES, ENDS, make_case
from tests.kernels.test_elementary import INTEGERS, inputs

FLUSH_TO_ZERO, DENORMALS_ARE_ZERO = 0x8000, 0x0040  # bits of MXCSR: of results, and of operands

pytestmark = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="no MXCSR here"
)


def checked(part):
    """How much a process of its own, this module run with a part, has checked."""
    return int(processes.run("-m", "tests.system.test_flush_to_zero", part))


@pytest.mark.slow
def test_networks_of_ordinary_numbers():
    """Where no number is subnormal: the very same bits, of outputs, gradients and training."""
    assert checked("networks") >= 100


def test_elementary_functions():
    """Off by at most the smallest normal number; but log is -inf below that, down to 0.

    (By 2 / sqrt(pi) of that number where erf, whose slope at 0 this is, takes its x for 0.) With
    FMA, to the bit: either f(x), or the f(x) of subnormals taken for 0 before it and after it.
    """
    assert checked("elementary") >= 18 * 60_000


# ---------------------------------------------------------------- what the child does


def _mxcsr(instruction):
    """Emit the instruction that stores or loads MXCSR at a pointer."""

    def emit(builder, word):
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer])
        name = f"llvm.x86.sse.{instruction}"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        builder.call(function, [builder.bitcast(word, pointer)])

    return emit


@intrinsic
def _load_mode(typingctx, mode):
    def codegen(context, builder, signature, args):
        _mxcsr("ldmxcsr")(builder, cgutils.alloca_once_value(builder, args[0]))
        return context.get_dummy_value()

    return types.void(types.uint32), codegen


@intrinsic
def _store_mode(typingctx):
    def codegen(context, builder, signature, args):
        word = cgutils.alloca_once(builder, ir.IntType(32))
        _mxcsr("stmxcsr")(builder, word)
        return builder.load(word)

    return types.uint32(), codegen


@numba.njit
def get_mode():
    return _store_mode()


@numba.njit
def set_mode(mode):
    _load_mode(np.uint32(mode))


@numba.njit
def multiply(x, y):
    return x * y


def flushing(function, *arguments):
    """The function's value where subnormals are 0; what it needs is compiled before."""
    usual = get_mode()
    set_mode(usual)
    set_mode(usual | FLUSH_TO_ZERO | DENORMALS_ARE_ZERO)
    try:
        return function(*arguments)
    finally:
        set_mode(usual)


def check_the_mode_itself():
    """It is on while it should be: a product that is subnormal, or one of subnormals, is 0."""
    tiny = float(np.finfo(float).smallest_normal)
    for x, y in [(tiny, 0.5), (tiny / 2, 4.0)]:
        assert multiply(x, y) > 0
        assert flushing(multiply, x, y) == 0
        assert multiply(x, y) > 0


def flushed(x):
    """x with signed zeros in place of subnormals."""
    zeros = np.copysign(np.zeros_like(x), x)
    return np.where(np.abs(x) < np.finfo(x.dtype).smallest_normal, zeros, x)


def samples(dtype):
    """Inputs of test_elementary.py, and as many again around the smallest normal number."""
    info, rng = np.finfo(dtype), np.random.default_rng(0)
    subnormal = rng.integers(1, 2**info.nmant, 2**14).astype(INTEGERS[dtype]).view(dtype)
    near = (np.geomspace(1e-3, 1e3, 2**14) * info.smallest_normal).astype(dtype)
    return np.concatenate([inputs(dtype, 2**16), subnormal, -subnormal, near, -near])


def same_bits(x, y):
    """Where x and y have the same bits, or are both NaN."""
    integer = INTEGERS[x.dtype.name]
    return (x.view(integer) == y.view(integer)) | (np.isnan(x) & np.isnan(y))


def check_function(name, dtype):
    """Returns how many inputs that were."""
    evaluate, x = ulp.evaluator(name), samples(dtype)

    def values(x):
        y = np.empty_like(x)
        evaluate(x, y)
        return y

    usual, of_zeros = values(x), flushed(values(flushed(x)))
    found = flushing(values, x)
    right = same_bits(found, usual) | same_bits(found, of_zeros)
    # Two roundings lose what is subnormal between them: erf(x) = x + 0.128 x is then x.
    assert right.all() or not HAS_FMA, (name, dtype, x[~right][0], found[~right][0])
    # But for expm1, which hands small x through, and cos, which is 1 there, it makes a difference.
    assert (~same_bits(found, usual)).any() or name in ("expm1", "cos")
    normal = np.finfo(dtype).smallest_normal
    here = same_bits(found, usual)  # among them infinities and NaN, whose difference is NaN
    if name == "log":
        here |= np.abs(x) < normal
        assert (found[(x > 0) & (x < normal)] == -np.inf).all()
    most = 2 / math.sqrt(math.pi) if name == "erf" else 1.0
    assert np.abs(found[~here] / normal - usual[~here] / normal).max(initial=0) <= most
    return x.size


def results(case):
    """Bits of what a network computes, and of what it becomes by training."""
    output, loss, activation, dtype, optimizer = case
    net, X, Y = make_case([5, 17, 9, 3], activation, output, loss, dtype, batch=20, threads=1)
    value, grad = net.value_and_grad(X, Y)
    history = net.fit(X, Y, 5, 8, optimizer, rng=0, progress=False)
    parts = (net.predict(X), net.predict(X[0]), value, grad, net.theta, history.loss)
    return b"".join(np.asarray(part).tobytes() for part in parts)


def check_networks():
    """All outputs and losses, hidden layers and optimizers in turn."""
    rules = [dj.SGD(1e-3), dj.SGD(1e-3, momentum=0.9), dj.Adam(0.01)]
    count, net = 0, dj.Network([1, 1], dtype="float64")
    x = [[1e-310]]
    assert flushing(net.predict, x) == 0 != net.predict(x)  # the mode reaches the kernels
    for dtype in DTYPES:
        for output, loss in ENDS:
            for activation in ("sigmoid", "tanh", "relu", "leaky_relu"):
                for rule in rules:
                    case = (output, loss, activation, dtype, rule)
                    assert flushing(results, case) == results(case), case
                    count += 1
    return count


def main(part):
    """Print how much was checked."""
    check_the_mode_itself()
    if part == "networks":
        # Compiling may compute with constants; that is not what is looked at here.
        for dtype in DTYPES:
            results(("identity", "squared_error", "tanh", dtype, dj.SGD()))
        print(check_networks())
    else:
        print(sum(check_function(name, dtype) for name in ulp.BOUNDS for dtype in DTYPES))


if __name__ == "__main__":
    main(sys.argv[1])
