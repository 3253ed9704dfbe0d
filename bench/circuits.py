"""Circuits of N random operations, library by library: what is timed, and what making it takes.

A subject is ``(seconds of tracing, seconds of compiling, {what: call})``, for one batch of samples,
other libraries' of the gradient alone; N is what is left when equal and dead operations are gone.
"""

import time
from functools import cache
from types import SimpleNamespace

import numpy as np
from deltajit.kernels.simd.vectors import lanes, load, store
from numba import njit

from deltajit.model import memory

VALUE, GRADIENT, HVP = "value", "gradient", "hvp"
N_INPUTS, BATCH = 16, 64
SIZES = [100, 1_000, 3_000, 10_000, 100_000, 1_000_000]
LENGTH = 100  # operations of a formula

# How operands are chosen: of a sum of formulas, each of the inputs and of its own values; and of
# one formula, of all values there are.
FORMULAS, ANYWHERE = "sum of formulas", "operands anywhere"


def apply(xp, code, a, b):
    """(value, operations that it takes) of one of eight random operations; no value explodes."""
    choices = [
        lambda: a + b, lambda: a - b, lambda: a * b, lambda: xp.maximum(a, b), lambda: xp.sin(a),
        lambda: xp.tanh(a), lambda: xp.exp(-(a * a)), lambda: a / (b * b + 1),
    ]  # fmt: skip
    return choices[code](), 1 if code < 6 else 3


def random_function(n, kind, xp=np, seed=0):
    """A function of N_INPUTS scalars, or arrays, of about n operations, by functions of `xp`."""

    def formulas(*x):
        rng, total, count = np.random.default_rng(seed), 0.0, 0
        while count < n:
            values, begin = list(x), count
            while count < min(n, begin + LENGTH):
                code, i, j = rng.integers(8), *rng.integers(N_INPUTS, size=2)
                values[i], cost = apply(xp, code, values[i], values[j])
                count += cost
            for value in values:
                total = total + value
            count += N_INPUTS
        return total

    def anywhere(*x):
        rng, values, used, count = np.random.default_rng(seed), list(x), set(), 0
        while count + len(values) - len(used) < n:
            code, i, j = rng.integers(8), *rng.integers(len(values), size=2).tolist()
            value, cost = apply(xp, code, values[i], values[j])
            values.append(value)
            used |= {i, j}
            count += cost
        total = 0.0
        for i in sorted(set(range(len(values))) - used):
            total = total + values[i]
        return total

    return {FORMULAS: formulas, ANYWHERE: anywhere}[kind]


def samples(seed=1):
    """Points and directions, (BATCH, N_INPUTS) each."""
    return np.random.default_rng(seed).normal(size=(2, BATCH, N_INPUTS))


def timed(make):
    """(seconds, result) of a call."""
    start = time.perf_counter()
    result = make()
    return time.perf_counter() - start, result


@cache
def circuit(n, kind):
    """(seconds of tracing, circuit); at a tie both operands depend on x alike, so they share."""
    import deltajit as dj

    return timed(lambda: dj.Circuit(random_function(n, kind), N_INPUTS, ties="split"))


def check(library, found, right):
    """Raise AssertionError unless another library's value and gradient are ours."""
    (value, grad), (other_value, other_grad) = right, found
    np.testing.assert_allclose(np.ravel(other_value), value, 1e-9, 1e-9)
    other_grad = np.asarray(other_grad).reshape(-1)
    if library == "casadi":  # column by column
        other_grad = other_grad.reshape(N_INPUTS, BATCH).T.reshape(-1)
    scale = np.abs(grad).max()
    np.testing.assert_allclose(other_grad / scale, grad.reshape(-1) / scale, 1e-8, 1e-8)


def deltajit(n, kind):
    """The interpreter; nothing is compiled."""
    traced, c = circuit(n, kind)
    X, V = samples()
    value, gradient, hvp = lambda: c(X), lambda: c.value_and_grad(X), lambda: c.hvp(X, V)
    return traced, 0.0, {VALUE: value, GRADIENT: gradient, HVP: hvp}


@njit(error_model="numpy")
def move(steps, width, tape, values, adjoints):
    """Read and write, for one block of samples, what a gradient does, and only add it up."""
    n, taped, row = len(steps), tape.size // width, 0
    for k in range(n):
        v, x, y = steps[k, 0] * width, steps[k, 1] * width, steps[k, 2] * width
        for j in range(0, width, lanes(values)):
            store(values, v + j, load(values, x + j) + load(values, y + j))
        while row * n < (k + 1) * taped:  # rows of the tape are spread evenly over the steps
            for j in range(0, width, lanes(values)):
                store(tape, row * width + j, load(values, v + j))
            row += 1
    for k in range(n - 1, -1, -1):
        v, x, y = steps[k, 0] * width, steps[k, 1] * width, steps[k, 2] * width
        while row * n > k * taped:
            row -= 1
            for j in range(0, width, lanes(values)):
                g = load(adjoints, v + j) + load(tape, row * width + j)
                store(adjoints, v + j, g)
        for j in range(0, width, lanes(values)):
            g = load(adjoints, v + j)
            store(adjoints, v + j, g - g)
            store(adjoints, x + j, load(adjoints, x + j) + g)
            store(adjoints, y + j, load(adjoints, y + j) + g)


def traffic(n, kind):
    """Only the memory that a gradient reads and writes, in its order."""
    program = circuit(n, kind)[1].program
    sizes = [rows * program.width for rows in (program.taped, program.rows, program.rows)]
    tables = [memory.empty(size, program.constants.dtype) for size in sizes]
    for table in tables:
        table[:] = 0

    def gradient():
        for _ in range(0, BATCH, program.width):
            move(program.steps, program.width, *tables)

    return 0.0, 0.0, {GRADIENT: gradient}


def casadi(n, kind):
    """An SX function in CasADi's virtual machine, mapped over the batch."""
    import casadi

    names = {"maximum": casadi.fmax, "sin": casadi.sin, "tanh": casadi.tanh, "exp": casadi.exp}
    function, x = random_function(n, kind, SimpleNamespace(**names)), casadi.SX.sym("x", N_INPUTS)
    traced, y = timed(lambda: function(*casadi.vertsplit(x)))
    outputs = [y, casadi.gradient(y, x)]
    compiled, ready = timed(lambda: casadi.Function("f", [x], outputs).map(BATCH))
    X = np.asfortranarray(samples()[0].T)
    return traced, compiled, {GRADIENT: lambda: [np.array(part) for part in ready(X)]}


def jax(n, kind):
    """Jitted value and gradient, by vmap."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    function, X = random_function(n, kind, jnp), jnp.asarray(samples()[0])
    batched = jax.jit(jax.vmap(jax.value_and_grad(lambda x: function(*x))))
    traced, lowered = timed(lambda: batched.lower(X))
    compiled, ready = timed(lowered.compile)
    return traced, compiled, {GRADIENT: lambda: jax.block_until_ready(ready(X))}


def autograd(n, kind):
    """HIPS autograd: NumPy over the batch, traced anew in every call."""
    import autograd.numpy as anp
    from autograd import grad

    function, X = random_function(n, kind, anp), samples()[0]
    ones = anp.ones(BATCH)

    def total(X):
        return anp.sum(function(*(X[:, i] for i in range(N_INPUTS))) * ones)

    return 0.0, 0.0, {GRADIENT: lambda: (function(*X.T), grad(total)(X))}
