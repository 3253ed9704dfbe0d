"""Memory: kernels touch what they are given and nothing else; what does not fit is refused."""

import signal
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

import deltajit as dj
from deltajit import kernels
from tests.helpers import guarded

ROOT = Path(__file__).parents[2]
STRAY = {-signal.SIGSEGV, -getattr(signal, "SIGBUS", signal.SIGSEGV)}  # macOS: the latter
unix = pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="no mprotect here")


def guarded_child(*arguments):
    """`python -m tests.helpers.guarded` with these arguments, finished."""
    command = [sys.executable, "-m", "tests.helpers.guarded", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


# ---------------------------------------------------------------- at the edge of memory


@unix
@pytest.mark.parametrize(
    ("what", "alive"), [("inside", True), ("after", False), ("before", False), ("kernel", False)]
)
def test_a_guard_kills(what, alive):
    """One element further, by ctypes or by a kernel that is lied to, is the end of the process."""
    child = guarded_child(what)
    assert child.returncode in ({0} if alive else STRAY), child.stderr
    assert child.stdout == ("alive\n" if alive else "")


@unix
@pytest.mark.parametrize("what", ["few", pytest.param("all", marks=pytest.mark.slow)])
def test_no_kernel_touches_what_is_not_its_own(what):
    """Public kernels, with every array at a guard; and their bits are those of elsewhere."""
    child = guarded_child(what)
    lines = child.stdout.splitlines() or ["nothing was run"]
    assert child.returncode == 0, f"died in {lines[-1]}\n{child.stderr}"
    assert lines[-1].startswith("done: ")
    assert int(lines[-1].split()[1]) > {"few": 1_000, "all": 10_000}[what]


@unix
def test_no_circuit_touches_what_is_not_its_own():
    child = guarded_child("circuits")
    lines = child.stdout.splitlines() or ["nothing was run"]
    assert child.returncode == 0, f"died in {lines[-1]}\n{child.stderr}"
    assert int(lines[-1].removeprefix("done: ").split()[0]) > 500


def test_every_public_kernel_is_run():
    """Who adds a kernel adds it to tests/helpers/guarded.py."""
    public = {name for name in kernels.__all__ if callable(getattr(kernels, name))}
    others = {
        "Dropout",
        "Model",
        "Rule",
        "from_handle",
        "function_of",
        "kernel",
        "points_size",
        "workspace_size",
    }
    assert public - others == guarded.KERNELS.keys() | guarded.LAYER_KERNELS.keys()


# ---------------------------------------------------------------- at the door

# No two of its numbers are the same, so that none can stand in for another.
SIZES, BATCH = [3, 4, 2], 5
ENOUGH = {"work", "work2", "step_work", "points", "kept"}  # these may be larger than needed
USED_JITTED = ["fit_epoch", "hvp_at", "jvp"]


def case_of(output="identity", loss="squared_error", labels=False):
    """Weighted samples, and a rule with momentum."""
    return guarded.make_case(SIZES, np.dtype("float32"), BATCH, (output, loss, labels), 1)


def resized(x):
    """Arrays like x with one axis longer or shorter by one, or empty."""
    for axis, extent in enumerate(x.shape):
        for other in {0, extent - 1, extent + 1}:
            shape = (*x.shape[:axis], other, *x.shape[axis + 1 :])
            yield np.ones(shape, x.dtype)


def wrong_orders(order):
    """Lists of samples with one that does not exist."""
    for index in (-1, BATCH, np.iinfo(np.int64).min, np.iinfo(np.int64).max):
        wrong = order.copy()
        wrong[-1] = index
        yield wrong


def wrong_rules(rule):
    """Rules of other networks, and one whose state has too few slots."""
    n, dtype = rule.state.shape[1], rule.state.dtype
    for optimizer in (dj.Adam(), dj.SGD(momentum=0.9)):
        yield from (optimizer.rule(other, dtype) for other in (1, n - 1, n + 1))
    yield dj.Adam().rule(n, dtype)._replace(state=np.zeros((1, n), dtype))


def wrong_values(name, right):
    """What an argument must not be."""
    if name == "order":
        return wrong_orders(right)
    if name == "rule":
        return wrong_rules(right)
    if name == "size":
        return [0, -1]
    if name in ("model", "lr") or right is None:
        return []
    return [x for x in resized(right) if name not in ENOUGH or x.size < right.size]


def assert_refused(kernel, named):
    """A ValueError, and not a bit of any argument has changed."""
    before = guarded.bits_of(named)
    with pytest.raises(ValueError, match=r"must|too small|wrong number|another network"):
        kernel(*named.values())
    assert guarded.bits_of(named) == before


def assert_checked(name, kernel):
    """Each wrong value of each argument is refused, and the right ones are not."""
    names = f"model {guarded.KERNELS[name]}"
    refused = 0
    for argument, right in guarded.arguments(names, case_of()).items():
        for wrong in wrong_values(argument, right):
            named = guarded.arguments(names, case_of())
            assert_refused(kernel, {**named, argument: wrong})
            refused += 1
    assert refused >= 10
    kernel(*guarded.arguments(names, case_of()).values())


@pytest.mark.parametrize("name", guarded.KERNELS)
def test_what_does_not_fit_is_refused(name):
    assert_checked(name, getattr(kernels, name))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in USED_JITTED else pytest.mark.slow)
        for name in guarded.KERNELS
    ],
)
def test_what_does_not_fit_is_refused_in_jitted_code(name):
    kernel = getattr(kernels, name)

    @numba.njit
    def use(*arguments):
        return kernel(*arguments)

    assert_checked(name, use)


def test_labels_that_do_not_fit_are_refused():
    names = f"model {guarded.KERNELS['value_and_grad']}"
    named = guarded.arguments(names, case_of("softmax", "cross_entropy", True))
    kernels.value_and_grad(*named.values())
    for shape in [(BATCH - 1, 1), (BATCH + 1, 1), (BATCH, 3), (0, 1)]:
        assert_refused(kernels.value_and_grad, {**named, "Y": np.ones(shape, np.float32)})


@pytest.mark.parametrize(
    ("name", "argument"),
    [("predict", "outputs"), ("value_and_grad", "Y"), ("vjp", "u"), ("jacobian", "jacobian")],
)
def test_a_transposed_array_is_refused(name, argument):
    """It has the right number of elements, all of them in the wrong place."""
    named = guarded.arguments(f"model {guarded.KERNELS[name]}", case_of())
    wrong = np.ascontiguousarray(np.swapaxes(named[argument], 0, 1))
    assert_refused(getattr(kernels, name), {**named, argument: wrong})


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("X", lambda x: x.astype("float64")),
        ("X", np.asfortranarray),
        ("outputs", lambda x: np.zeros(x.shape, "float64")),
        ("work", lambda x: np.zeros(2 * x.size, x.dtype)[::2]),
    ],
)
def test_another_dtype_or_layout_is_a_type_error(argument, make):
    named = guarded.arguments(f"model {guarded.KERNELS['predict']}", case_of())
    named[argument] = make(named[argument])
    before = guarded.bits_of(named)
    with pytest.raises(TypeError, match="C-contiguous arrays of one dtype, here float32"):
        kernels.predict(*named.values())
    assert guarded.bits_of(named) == before


def test_read_only_arrays_are_not_written():
    named = guarded.arguments(f"model {guarded.KERNELS['predict']}", case_of())
    named["outputs"].setflags(write=False)
    before = guarded.bits_of(named)
    with pytest.raises(TypeError, match="out is written, and must not be read-only"):
        kernels.predict(*named.values())
    assert guarded.bits_of(named) == before


def test_a_handle_is_for_one_dtype():
    """NumPy's own is float64, so a caller easily hands that to a network of float32."""
    net = dj.Network(SIZES, dtype="float32")
    places, x, y = net.handle(), np.ones(3), np.zeros(2)

    @numba.njit
    def use(x, y):
        model, work = kernels.from_handle(places, x)
        kernels.predict(model, x, y, work)

    with pytest.raises(ValueError, match="X must have the dtype of the network"):
        use(x, y)
    np.testing.assert_array_equal(y, 0)
