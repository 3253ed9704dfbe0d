"""Every public kernel over arrays at the edge of memory: one element further, the process dies.

`python -m tests.helpers.guarded all` says what it does before it does it, so that the last line
names the call that a stray access has killed. tests/system/test_memory.py starts it.
"""

import ctypes
import functools
import itertools
import math
import mmap
import sys
from typing import Any, NamedTuple

import numpy as np
from deltajit.kernels import circuit
from deltajit.kernels.blocks import KC
from deltajit.kernels.mlp.calls import calls_for
from deltajit.kernels.simd.views import copy_vector

import deltajit as dj
from deltajit import kernels
from tests.helpers.circuits import random_function
from tests.helpers.networks import DTYPES, ENDS, HIDDEN, awkward, make_targets, suits

PAGE, PROT_NONE = mmap.PAGESIZE, 0

# The arguments of each public kernel behind `model`, by the names of `arguments`.
KERNELS = {
    "predict": "X outputs work",
    "predict_with_dropout": "X outputs work dropout",
    "loss": "X Y work no_weights",
    "value_and_grad": "X Y grad work weights",
    "sgd_step": "X Y lr scratch work no_weights",
    "adam_step": "X Y rule scratch work no_weights",
    "fit_epoch": "X Y order size rule scratch step_work weights",
    "hvp": "X Y v grad work2 weights",
    "gnvp": "X Y v grad work2 no_weights",
    "jvp": "X v outputs work2",
    "vjp": "X u grad work",
    "linearize": "X Y grad points work2 no_weights",
    "hvp_at": "X Y kept v grad work2 no_weights",
    "gnvp_at": "X Y kept v grad work2 no_weights",
    "jvp_at": "X kept v outputs work2",
    "vjp_at": "X kept u grad work",
    "per_sample_grads": "X Y of_samples work2",
    "input_grad": "X Y of_inputs work2",
    "jacobian": "X jacobian work2",
    "input_jvp": "X of_X outputs work2",
    "input_vjp": "X u of_inputs work2",
    "input_hessian": "X input_hessian work2",
    "jets": "X directions jets jets_work",
    "jets_vjp": "X directions of_jets grad jets_work",
    "parameter_jacobian": "X of_parameters work2",
    "rollout": "step states controls one_step_work",
    "rollout_grad": "step start steps every grad of_start rollout_work",
}
# Those that take no model.
LAYER_KERNELS = {
    "linear_activation_forward": "X W b function z a threads",
    "propagate_delta": "delta W X function like_X threads",
    "accumulate_gradient": "delta X lr_of_dtype W b threads",
    "update": "rule theta v",
}
# And those that Python calls without a check.
ENTRY_KERNELS = {
    "predict": "model X outputs work",
    "loss": "model X Y no_weights work",
    "value_and_grad": "model X Y no_weights grad work",
}
OVERWRITTEN = {
    "outputs", "grad", "points", "of_samples", "of_inputs", "jacobian", "of_parameters", "a",
    "z", "like_X", "input_hessian", "jets", "controls", "of_start",
}  # fmt: skip
SCRATCH = {"work", "work2", "step_work", "jets_work", "scratch", "one_step_work", "rollout_work"}
CHANGED = OVERWRITTEN | SCRATCH
CHANGED_BY = {
    "predict_with_dropout": {"dropout"},
    "sgd_step": {"model"},
    "adam_step": {"model", "rule"},
    "fit_epoch": {"model", "rule"},
    "accumulate_gradient": {"W", "b"},
    "rollout": {"states"},
    "update": {"rule", "theta"},
}

BATCHES = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 33, 70]
OUTPUTS = [1, 2, 3, 4, 5, 8, 9, 10, 17]
RULES = [dj.SGD(0.1), dj.SGD(0.1, momentum=0.9, nesterov=True), dj.Adam(0.01)]
LARGEST = 1 << 20  # elements of a Jacobian


class Case(NamedTuple):
    """A network, data, and what else a kernel may take; `arguments` makes the arrays of it."""

    net: Any
    X: Any
    Y: Any
    weights: Any
    rule: Any

    def __str__(self):
        form = "labels" if self.Y.shape[1] != self.net.sizes[-1] else "dense"
        weighted = "" if self.weights is None else ", weighted"
        return f"{self.net!r}, {form}, batch {len(self.X)}{weighted}"


def guarded(shape, dtype, *, at_end):
    """Zeros that end where memory ends that may be touched, or begin where it begins."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    room = -(-size // PAGE) * PAGE
    memory = mmap.mmap(-1, room + 2 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANON)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (start, start + PAGE + room):
        _forbid(page)
    # The array keeps `memory` alive, and nobody else does: with the array, the mapping goes.
    return np.ndarray(shape, kind, memory, PAGE + (room - size if at_end else 0))


def _forbid(address):
    if _mprotect()(address, PAGE, PROT_NONE) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")


@functools.cache
def _mprotect():
    function = ctypes.CDLL(None, use_errno=True).mprotect
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function


# ---------------------------------------------------------------- what kernels are called with


def make_case(sizes, dtype, batch, end, i):
    """A case of `Case`; `i` chooses among its variations. end : (output, loss, kind of targets)."""
    rng = np.random.default_rng(i)
    output, loss, labels = end
    hidden = [HIDDEN[(i + k) % len(HIDDEN)] for k in range(len(sizes) - 2)]
    l2, threads = (0.0, 0.1)[i // 2 % 2], 1 if max(sizes) < 100 else 2
    net = dj.Network(sizes, hidden, output, loss, l2, dtype, threads=threads)
    net.theta = net.theta + rng.normal(size=net.n_params) / 4
    X = rng.normal(size=(batch, sizes[0]))
    Y = make_targets(rng, loss, batch, sizes[-1], labels=labels)
    if labels == "wrong":
        Y = rng.choice([-1, -1e30, sizes[-1], 1e30, np.nan, np.inf], size=batch)
    weights = rng.uniform(0.5, 2, batch).astype(dtype) if i % 2 else None
    rule = RULES[i % 3].rule(net.n_params, net.dtype)
    return Case(net, X.astype(dtype), Y.astype(dtype).reshape(batch, -1), weights, rule)


def arguments(names, case):
    """Values of the listed arguments of a kernel, by name; those to be written hold zeros."""
    net, (batch, n_in), dtype = case.net, case.X.shape, case.net.dtype
    n_out, n, width, model = net.sizes[-1], net.n_params, net.sizes[1], net.model
    rng, step = np.random.default_rng(batch), max(1, batch - 2)

    def work(samples, order=1):
        return np.zeros(kernels.workspace_size(model, samples, order), dtype)

    def rollout_work(steps, every):
        there = simulation(n_in + 1, n_out, dtype).step
        return np.zeros(kernels.rollout_size(model, there, batch, steps, every), dtype)

    makers = {
        "model": lambda: net.model,
        "X": lambda: case.X,
        "Y": lambda: case.Y,
        "weights": lambda: case.weights,
        "no_weights": lambda: None,
        "theta": lambda: net.theta.copy(),
        "v": lambda: rng.normal(size=n).astype(dtype),
        "u": lambda: rng.normal(size=(batch, n_out)).astype(dtype),
        "kept": lambda: _points(case),
        "order": lambda: np.append(rng.permutation(batch), [0, batch - 1, batch - 1]),
        "size": lambda: step,
        "lr": lambda: 0.1,
        "rule": lambda: case.rule,
        "dropout": lambda: kernels.Dropout(
            np.full(len(net.sizes) - 2, 0.7), np.array([7], np.uint64)
        ),
        "outputs": lambda: np.zeros((batch, n_out), dtype),
        "grad": lambda: np.zeros(n, dtype),
        "scratch": lambda: np.zeros(n, dtype),
        "points": lambda: np.zeros(kernels.points_size(model, batch), dtype),
        "of_samples": lambda: np.zeros((batch, n), dtype),
        "of_inputs": lambda: np.zeros((batch, n_in), dtype),
        "jacobian": lambda: np.zeros((batch, n_out, n_in), dtype),
        "of_parameters": lambda: np.zeros((batch, n_out, n), dtype),
        "input_hessian": lambda: np.zeros((batch, n_out, n_in, n_in), dtype),
        "of_X": lambda: rng.normal(size=(batch, n_in)).astype(dtype),
        "of_jets": lambda: rng.normal(size=(batch, 7, n_out)).astype(dtype),
        "directions": lambda: rng.normal(size=(3, n_in)).astype(dtype),
        "jets": lambda: np.zeros((batch, 7, n_out), dtype),
        "jets_work": lambda: np.zeros(kernels.jets_size(model, batch, 7), dtype),
        "step": lambda: simulation(n_in + 1, n_out, dtype).step,
        "states": lambda: rng.normal(size=(6, batch, n_in + 1)).astype(dtype),
        "controls": lambda: np.zeros((5, batch, n_out), dtype),
        "start": lambda: rng.normal(size=(batch, n_in + 1)).astype(dtype),
        "of_start": lambda: np.zeros((batch, n_in + 1), dtype),
        "steps": lambda: 5,
        "every": lambda: 2,
        "one_step_work": lambda: rollout_work(1, 1),
        "rollout_work": lambda: rollout_work(5, 2),
        "work": lambda: work(batch),
        "work2": lambda: work(batch, 2),
        "step_work": lambda: work(step),
        # of one layer
        "W": lambda: rng.normal(size=(n_in, width)).astype(dtype),
        "b": lambda: rng.normal(size=width).astype(dtype),
        "delta": lambda: rng.normal(size=(batch, width)).astype(dtype),
        "function": lambda: kernels.function_of(net.architecture.activations[0], dtype, 0.2),
        "lr_of_dtype": lambda: dtype.type(0.5),
        "z": lambda: np.zeros((batch, width), dtype),
        "a": lambda: np.zeros((batch, width), dtype),
        "like_X": lambda: np.zeros((batch, n_in), dtype),
        "threads": lambda: net.threads,
    }
    return {name: makers[name]() for name in names.split()}


@functools.cache
def simulation(n_state, n_control, dtype):
    """A simulation of so many numbers, which lives as long as the process."""

    def step(state, control, out):
        out[:] = 0.5 * state
        out[0] = np.tanh(state[-1] + control[-1])
        return out[0] ** 2 + 0.1 * (control @ control)

    return dj.Dynamics(step, n_state, n_control, dtype=dtype)


def _points(case):
    found = arguments("model X Y grad points work2 no_weights", case)
    kernels.linearize(*found.values())
    return found["points"]


def arrays_of(value):
    """All arrays in an argument."""
    if isinstance(value, tuple):
        return [array for part in value for array in arrays_of(part)]
    return [value] if isinstance(value, np.ndarray) else []


def bits_of(named):
    """Bytes of all arrays of all arguments."""
    return {name: [x.tobytes() for x in arrays_of(value)] for name, value in named.items()}


# ---------------------------------------------------------------- the run


def ordinary(shape, dtype):
    """Zeros as everybody else has them."""
    return np.zeros(shape, dtype)


def ends(shape, dtype):
    """Zeros that end at forbidden memory."""
    return guarded(shape, dtype, at_end=True)


def begins(shape, dtype):
    """Zeros that begin behind forbidden memory."""
    return guarded(shape, dtype, at_end=False)


def placed(value, place):
    """An argument with every array copied to where `place` puts it."""
    if isinstance(value, tuple):
        return type(value)(*(placed(part, place) for part in value))
    if not isinstance(value, np.ndarray):
        return value
    array = place(value.shape, value.dtype)
    array[...] = value
    return array


def call(kernel, named, place, garbage):
    """Bits of what a kernel returns and of what it leaves in its arguments, scratch excepted."""
    there = {name: placed(value, place) for name, value in named.items()}
    for name in CHANGED & there.keys():  # what was there before must not matter
        there[name].fill(garbage)
    value = kernel(*there.values())
    bits = bits_of({name: x for name, x in there.items() if name not in SCRATCH})
    return np.array(value, float).tobytes() if value is not None else b"", bits


def by_entry(name):
    """A function of Python objects alone that calls an entry for their dtype."""

    def through(model, *rest):
        return getattr(calls_for(model.theta.dtype), name)(model, *rest)

    return through


def every_kernel():
    """(name, function, names of its arguments) of all that is public."""
    for name, names in KERNELS.items():
        yield name, getattr(kernels, name), f"model {names}"
    for name, names in LAYER_KERNELS.items():
        yield name, getattr(kernels, name), names
    for name, names in ENTRY_KERNELS.items():
        yield f"calls.{name}", by_entry(name), names


def is_run(name, net, batch):
    """Whether a kernel's result is of moderate size, and its activations are smooth enough."""
    widths = {"parameter_jacobian": net.n_params, "input_hessian": net.sizes[0] ** 2}
    if name == "jets_vjp" and kernels.ACTIVATIONS[net.architecture.activations[-1]].of_rows:
        return False
    return batch * net.sizes[-1] * widths.get(name, 0) <= LARGEST


def check(case, name, kernel, names):
    """One kernel in both places; returns how many calls that were."""
    if not is_run(name, case.net, len(case.X)):
        return 0
    named = arguments(names, case)
    print(f"{name}: {case}: ordinary memory", flush=True)
    value, bits = call(kernel, named, ordinary, 0)
    before = bits_of(named)
    for argument in bits.keys() - CHANGED - CHANGED_BY.get(name, set()):
        assert bits[argument] == before[argument], f"{argument} is changed"
    for place in (ends, begins):
        print(f"{name}: {case}: every array {place.__name__} at a guard", flush=True)
        found, found_bits = call(kernel, named, place, np.nan)
        assert found == value, "another value"
        for argument in bits:
            assert found_bits[argument] == bits[argument], f"other bits in {argument}"
    return 3


def cases(dtype):
    """Each number of outputs with each batch, behind layers of awkward sizes."""
    rng, i = np.random.default_rng(0), itertools.count()
    forms = [(*end, False) for end in ENDS] + [("softmax", "cross_entropy", True)]
    wrong = ("softmax", "cross_entropy", "wrong")
    endings = itertools.cycle([*forms, wrong])
    for depth, n_out, batch in itertools.product((1, 2, 3), OUTPUTS, BATCHES):
        sizes = [*rng.choice(awkward(dtype), depth).tolist(), n_out]
        end = next(end for end in endings if suits(end[0], n_out))
        yield make_case(sizes, dtype, batch, end, next(i))
    # Sums of more than a panel's rows, batches of more than a block, and threads.
    for sizes, batch in [
        ([KC + 3, 40, 17], 70), ([2 * KC + 1, 1], 33), ([5, KC + 3, 3], 257),
        ([3, 2 * KC + 70, 2], 1), ([100, 130, 101, 10], 300), ([300, 80, 2], 60),
    ]:  # fmt: skip
        end = next(end for end in endings if suits(end[0], sizes[-1]))
        yield make_case(sizes, dtype, batch, end, next(i))


# What is run where time is short: the rest needs minutes to compile.
FEW = {"predict", "value_and_grad", "fit_epoch"}


def main(few):
    """All kernels, or FEW in float32, over all cases."""
    calls = number = 0
    for dtype in DTYPES[: 1 if few else None]:
        for case in cases(dtype):
            number += 1
            chosen = (k for k in every_kernel() if not few or k[0] in FEW)
            calls += sum(check(case, *kernel) for kernel in chosen)
    print(f"done: {calls} calls, {number} cases")


def circuits():
    """Kernels of circuits, of both dtypes, over awkward batches, in each place."""
    calls = 0
    for dtype, n_inputs, batch in itertools.product(DTYPES, (1, 5, 17), BATCHES):
        f = random_function(30 * n_inputs, batch)
        for c in (
            dj.Circuit(f, n_inputs, dtype=dtype),
            dj.Circuit(_pair(f), n_inputs, dtype=dtype),
        ):
            X, V = np.random.default_rng(0).normal(size=(2, batch, n_inputs)).astype(dtype)
            value = np.zeros((batch, c.n_outputs), dtype)
            named = {"program": c.program, "X": X, "outputs": value}
            grad = np.zeros((*value.shape, n_inputs), dtype)
            first, second = (np.zeros_like(c.workspace(batch, order)) for order in (1, 2))
            runs = [
                (circuit.evaluate, named | {"work": first}),
                (circuit.value_and_grad, named | {"grad": grad, "work": first}),
            ]
            u = np.random.default_rng(1).normal(size=value.shape).astype(dtype)
            back = {"program": c.program, "X": X, "u": u, "grad": np.zeros_like(X)}
            runs.append((circuit.vjp, back | {"work": first}))
            if c.n_outputs == 1:
                product = {"program": c.program, "X": X, "V": V, "grad": np.zeros_like(X)}
                runs.append((circuit.hvp, product | {"work": second}))
            for kernel, arguments_ in runs:
                print(f"{kernel.__name__}: {c}, batch {batch}", flush=True)
                expected = call(kernel, arguments_, ordinary, 0)
                for place in (ends, begins):
                    assert call(kernel, arguments_, place, np.nan) == expected
                    calls += 1
    print(f"done: {calls} calls")


def _pair(f):
    """Two outputs, one of them an input."""
    return lambda *x: [f(*x), x[0]]


def touch(what):
    """Touch an element inside or outside of a guarded array."""
    x = guarded((5,), np.float32, at_end=what in ("inside", "after", "kernel"))
    address, size = x.ctypes.data, x.itemsize
    if what == "inside":
        for i in range(x.size):
            ctypes.c_float.from_address(address + i * size).value = 1.0
    elif what == "after":
        ctypes.c_float.from_address(address + x.nbytes).value  # noqa: B018
    elif what == "before":
        ctypes.c_float.from_address(address - size).value = 1.0
    else:  # a kernel that is lied to: one element more than there is room for
        lie = np.lib.stride_tricks.as_strided(x, (x.size + 1,))
        copy_vector(np.ones(lie.size, np.float32), lie)
    print("alive")


if __name__ == "__main__":
    import resource  # not everywhere, as this module is

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a death that is expected leaves no file
    if sys.argv[1] == "circuits":
        circuits()
    elif sys.argv[1] in ("few", "all"):
        main(sys.argv[1] == "few")
    else:
        touch(sys.argv[1])
