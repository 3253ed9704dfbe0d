"""Memory: kernels touch what they are given and nothing else."""

import ast
import signal
import sys
from pathlib import Path

import pytest

from deltajit import kernels
from tests.helpers import guarded, processes
from tests.helpers.processes import answer

STRAY = {-signal.SIGSEGV, -getattr(signal, "SIGBUS", signal.SIGSEGV)}  # macOS: the latter
unix = pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="no mprotect here")


def guarded_child(*arguments):
    """`tests.helpers.guarded` run with these arguments: (exit code, what it printed, errors)."""
    return processes.end(processes.begin("-m", "tests.helpers.guarded", *arguments), limit=None)


def calls_of(what):
    """How many calls of kernels a child has made to a good end."""
    code, printed, errors = guarded_child(what)
    lines = printed.splitlines() or ["nothing was run"]
    assert code == 0, f"died in {lines[-1]}\n{errors}"
    assert lines[-1].startswith("done: ")
    return int(lines[-1].split()[1])


# ---------------------------------------------------------------- at the edge of memory


@unix
@pytest.mark.parametrize(
    ("what", "alive"), [("inside", True), ("after", False), ("before", False), ("kernel", False)]
)
def test_a_guard_kills(what, alive):
    """One element further, by ctypes or by a kernel that is lied to, is the end of the process."""
    code, printed, errors = guarded_child(what)
    assert code in ({0} if alive else STRAY), errors
    assert printed == ("alive\n" if alive else "")


@unix
@pytest.mark.parametrize("what", ["few", pytest.param("all", marks=pytest.mark.slow)])
def test_no_kernel_touches_what_is_not_its_own(what):
    """Public kernels, with every array at a guard; and their bits are those of elsewhere."""
    assert calls_of(what) > {"few": 1_000, "all": 10_000}[what]


@unix
def test_no_circuit_touches_what_is_not_its_own():
    assert calls_of("circuits") > 500


def test_every_public_kernel_is_run():
    """Who adds a kernel adds it to tests/helpers/guarded.py."""
    public = {name for name in kernels.__all__ if callable(getattr(kernels, name))}
    others = {
        "Dropout",
        "Model",
        "Rule",
        "from_handle",
        "function_of",
        "jets_size",
        "Step",
        "kernel",
        "points_size",
        "rollout_size",
        "specialize",
        "workspace_size",
    }
    assert public - others == guarded.KERNELS.keys() | guarded.LAYER_KERNELS.keys()


TEMPORARIES = """
@numba.njit
def temporary(model, X, Y, v, rule, order, f, W, b, program, work, points):
    a, grad, J = np.empty((40, 2)), np.zeros(v.size), np.empty((40, 2, 3))
    kernels.predict(model, X.T.copy(), a, work + 0)
    value = kernels.value_and_grad(model, X.T.copy(), Y + 0, grad, work + 0, np.ones(40))
    p = a.copy(), grad.copy()
    kernels.hvp(model, X.T.copy(), Y + 0, v + 0, grad, work + 0)
    q = grad.copy()
    kernels.vjp(model, X.T.copy(), Y + 0, grad, work + 0)
    kernels.jacobian(model, X.T.copy(), J, work + 0)
    kernels.linearize(model, X.T.copy(), Y + 0, grad + 0, points, work + 0)
    kernels.hvp_at(model, X.T.copy(), Y + 0, points + 0, v + 0, grad, work + 0)
    r = grad.copy()
    kernels.fit_epoch(model, X.T.copy(), Y + 0, order + 0, 7, rule, grad + 0, work + 0)
    kernels.update(rule, model.theta, v + 0)
    z, delta = np.empty((40, 4)), np.empty((40, 3))
    kernels.linear_activation_forward(X.T.copy(), W + 0, b + 0, f, z, z, 1)
    kernels.propagate_delta(z + 0, W + 0, X.T.copy(), f, delta, 1)
    dW, db = np.zeros((3, 4)), np.zeros(4)
    kernels.accumulate_gradient(z + 0, X.T.copy(), 1.0, dW, db, 1)
    out = np.empty((40, 1))
    kernels.circuit.evaluate(program, X.T.copy(), out, np.empty(program.rows * 2 * 64))
    return value, p, q, J, r, z, delta, dW, db, out

@numba.njit
def kept(model, X, Y, v, rule, order, f, W, b, program, work, points):
    x, ones, spare = X.T.copy(), np.ones(40), np.empty(v.size)
    a, grad, J = np.empty((40, 2)), np.zeros(v.size), np.empty((40, 2, 3))
    kernels.predict(model, x, a, work)
    value = kernels.value_and_grad(model, x, Y, grad, work, ones)
    p = a.copy(), grad.copy()
    kernels.hvp(model, x, Y, v, grad, work)
    q = grad.copy()
    kernels.vjp(model, x, Y, grad, work)
    kernels.jacobian(model, x, J, work)
    kernels.linearize(model, x, Y, spare, points, work)
    kernels.hvp_at(model, x, Y, points, v, grad, work)
    r = grad.copy()
    kernels.fit_epoch(model, x, Y, order, 7, rule, spare, work)
    spare[:] = v
    kernels.update(rule, model.theta, spare)
    z, delta = np.empty((40, 4)), np.empty((40, 3))
    kernels.linear_activation_forward(x, W, b, f, z, z, 1)
    kernels.propagate_delta(z, W, x, f, delta, 1)
    dW, db = np.zeros((3, 4)), np.zeros(4)
    kernels.accumulate_gradient(z, x, 1.0, dW, db, 1)
    out, memory = np.empty((40, 1)), np.empty(program.rows * 2 * 64)
    kernels.circuit.evaluate(program, x, out, memory)
    return value, p, q, J, r, z, delta, dW, db, out, x.size + ones.size + spare.size + memory.size

rng, circuit = np.random.default_rng(0), dj.Circuit(lambda x, y, z: x * y + np.sin(z), 3)
W, b, order = rng.normal(size=(3, 4)), rng.normal(size=4), rng.permutation(40)
f, found = kernels.function_of("tanh", "float64"), []
for function in (temporary, kept):
    net = dj.Network([3, 8, 2], "tanh", dtype="float64", rng=0)
    X, Y = data(net, 40)
    rule, v = dj.Adam().rule(net.n_params, net.dtype), np.linspace(-1, 1, net.n_params)
    points = np.empty(kernels.points_size(net.model, 40))
    work = net.workspace(40, order=2)
    value, p, *others = function(
        net.model, X.T.copy(), Y, v, rule, order, f, W, b, circuit.program, work, points
    )
    found.append([value, bits(*p, *others[:8], net.theta, rule.state)])
print(json.dumps(found))
"""


def test_temporaries_live_until_a_kernel_returns():
    """What the C library frees it fills with other bytes."""
    temporary, kept = answer(TEMPORARIES, MALLOC_PERTURB_="165")
    assert temporary == kept


ROOM = {"vectors", "doubles", "panel_buffer", "block_buffer", "strip_buffer"}


def returns_room(function):
    """Return whether a function returns memory on its own stack, which ends with it."""

    def is_room(value):
        return isinstance(value, ast.Call) and getattr(value.func, "id", "") in ROOM

    rooms = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = zip(target.elts, value.elts, strict=True)
            rooms |= {name.id for name, x in pairs if is_room(x)}
    returned = [n.value for n in ast.walk(function) if isinstance(n, ast.Return)]
    parts = [part for value in returned for part in getattr(value, "elts", [value])]
    return any(is_room(part) or getattr(part, "id", None) in rooms for part in parts)


def test_no_function_returns_room_on_its_stack():
    """Inlined ones neither: LLVM gives their room to others once their text has ended."""
    wrong = "def columns_of(z):\n    x, n = vectors(64, z), z.size\n    return x"
    assert returns_room(ast.parse(wrong))
    for path in sorted(Path(kernels.__path__[0]).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert not returns_room(node), f"{path.name}: {node.name}"
