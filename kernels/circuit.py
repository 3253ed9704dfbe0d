"""Differentiable circuits: one interpreter for straight-line programs of scalar operations.

    v[k] = op[k](v[i], v[j])         i, j < k

A program is data, so nothing is compiled for it. Samples run along the lanes: a value is a row of
`width` samples, and what it costs to find out which operation comes next is shared by them. Steps
of one operation follow each other in runs, as far as their order allows, and share it too.

Baur & Strassen (1983): from the last step to the first, ``adjoint[x] += adjoint[v] * dv/dx`` gives
all derivatives of an output, for a small multiple of what the value costs. That needs all values.
So that they stay in the cache, the steps are cut into segments: a value that no other segment needs
has a row only as long as its segment is at work, and the way back computes it once more.

Public kernels take (program, what is read, what is written, work). X (B, n_inputs) or one sample
(n_inputs,); m is the number of outputs.
"""

from typing import NamedTuple

import numpy as np

from .compiler import inlined, njit
from .entry import as_rows, as_target, check_version, fits
from .operations import (
    ADD,
    MULTIPLY,
    SUBTRACT,
    binary_curvatures,
    binary_partials,
    binary_value,
    common_partials,
    common_value,
    is_selecting,
    is_unary,
    selecting_partials,
    selecting_value,
    unary_curvature,
    unary_partial,
    unary_value,
)
from .tile import at, view
from .transpose import transpose
from .vectors import broadcast, fma, lanes, load, select, store
from .views import borrow_all, fill, matrix, vector


class Program(NamedTuple):
    """A circuit as the kernels take it.

    Rows of values are constants first, then inputs, then values that are kept, among them outputs,
    then the values of one segment.

    steps : (3 N,) int32, for each step the rows of v, x and y; of one operand, x is there twice.
    runs : (3 R,) int32, for each run its operation, its first step, and the one behind its last.
    segments : (S + 1,) int32, where in `runs` each segment begins.
    outputs : (m,) int32, their rows.
    constants : (C,) float. ties : (2,) float, derivatives of max(x, y) and min(x, y) where x = y.
    version : int, of these sources. n_inputs : int. rows : int, how many there are.
    width : int, most samples in a row.
    """

    steps: np.ndarray
    runs: np.ndarray
    segments: np.ndarray
    outputs: np.ndarray
    constants: np.ndarray
    ties: np.ndarray
    version: int
    n_inputs: int
    rows: int
    width: int


# ---------------------------------------------------------------- one run


@inlined
def step_at(program, k, width):
    """Where the rows of v, x and y of step k begin."""
    steps = program.steps
    return steps[3 * k] * width, steps[3 * k + 1] * width, steps[3 * k + 2] * width


@njit
def forward_run(program, code, first, last, width, values):
    """``v = op(x, y)`` of steps of one operation."""
    if code == ADD:
        forward_common(program, ADD, first, last, width, values)
    elif code == SUBTRACT:
        forward_common(program, SUBTRACT, first, last, width, values)
    elif code == MULTIPLY:
        forward_common(program, MULTIPLY, first, last, width, values)
    elif is_selecting(code):
        for k in range(first, last):
            v, x, y = step_at(program, k, width)
            for j in range(0, width, lanes(values)):
                at_x, at_y = load(values, x + j), load(values, y + j)
                store(values, v + j, selecting_value(code, at_x, at_y))
    elif is_unary(code):
        for k in range(first, last):
            v, x, _ = step_at(program, k, width)
            for j in range(0, width, lanes(values)):
                store(values, v + j, unary_value(code, load(values, x + j)))
    else:
        for k in range(first, last):
            v, x, y = step_at(program, k, width)
            for j in range(0, width, lanes(values)):
                store(values, v + j, binary_value(code, load(values, x + j), load(values, y + j)))


@inlined
def forward_common(program, code, first, last, width, values):
    """The same for one of the common operations, whose code is a constant to the compiler."""
    for k in range(first, last):
        v, x, y = step_at(program, k, width)
        for j in range(0, width, lanes(values)):
            store(values, v + j, common_value(code, load(values, x + j), load(values, y + j)))


@njit
def backward_run(program, code, first, last, width, values, adjoints):
    """``adjoint[x] += adjoint[v] dv/dx``, and of y; adjoint[v] becomes 0 for who comes next."""
    if code == ADD:
        backward_common(program, ADD, first, last, width, values, adjoints)
    elif code == SUBTRACT:
        backward_common(program, SUBTRACT, first, last, width, values, adjoints)
    elif code == MULTIPLY:
        backward_common(program, MULTIPLY, first, last, width, values, adjoints)
    elif is_selecting(code):
        for k in range(last - 1, first - 1, -1):
            v, x, y = step_at(program, k, width)
            for j in range(0, width, lanes(values)):
                at_v, at_x, at_y = load(values, v + j), load(values, x + j), load(values, y + j)
                by_x, by_y = selecting_partials(code, program.ties, at_v, at_x, at_y)
                g = take(adjoints, v + j)
                add_chosen(adjoints, x + j, g, by_x)
                add_chosen(adjoints, y + j, g, by_y)
    elif is_unary(code):
        for k in range(last - 1, first - 1, -1):
            v, x, _ = step_at(program, k, width)
            for j in range(0, width, lanes(values)):
                g = take(adjoints, v + j)
                by_x = unary_partial(code, load(values, v + j), load(values, x + j))
                add_product(adjoints, x + j, g, by_x)
    else:
        for k in range(last - 1, first - 1, -1):
            v, x, y = step_at(program, k, width)
            for j in range(0, width, lanes(values)):
                at_v, at_x, at_y = load(values, v + j), load(values, x + j), load(values, y + j)
                by_x, by_y = binary_partials(code, at_v, at_x, at_y)
                g = take(adjoints, v + j)
                add_product(adjoints, x + j, g, by_x)
                add_product(adjoints, y + j, g, by_y)


@inlined
def backward_common(program, code, first, last, width, values, adjoints):
    """The same for one of the common operations, whose code is a constant to the compiler."""
    for k in range(last - 1, first - 1, -1):
        v, x, y = step_at(program, k, width)
        for j in range(0, width, lanes(values)):
            by_x, by_y = common_partials(code, load(values, x + j), load(values, y + j))
            g = take(adjoints, v + j)
            if code == MULTIPLY:
                add_product(adjoints, x + j, g, by_x)
                add_product(adjoints, y + j, g, by_y)
            else:  # 1 and -1 need no guard
                store(adjoints, x + j, fma(g, by_x, load(adjoints, x + j)))
                store(adjoints, y + j, fma(g, by_y, load(adjoints, y + j)))


@inlined
def take(adjoints, place):
    """One vector, which is 0 afterwards."""
    g = load(adjoints, place)
    store(adjoints, place, broadcast(0, g))
    return g


@inlined
def add_product(adjoints, place, g, p):
    """``adjoints += g p`` of one vector."""
    store(adjoints, place, fma(g, where_not_0(g, p), load(adjoints, place)))


@inlined
def where_not_0(g, p):
    """p, and 0 where g is 0, so that g p is: p may be infinite or NaN in what nobody looks at.

    That is what `where` has not chosen, and what a maximum is larger than.
    """
    zero = broadcast(0, g)
    return select(g == zero, zero, p)


@inlined
def add_chosen(adjoints, place, g, p):
    """``adjoints += g p``, and nothing where p is 0 since the operand was not chosen.

    Then g may be infinite or NaN. All other zeros are numbers, of which 0 inf is NaN.
    """
    add_product(adjoints, place, where_not_0(p, g), p)


@inlined
def of_variable(program, row, width, p):
    """A derivative p by the operand in a row, and 0 if that is a constant, which does not move."""
    if row < program.constants.size * width:
        return broadcast(0, p)
    return p


@inlined
def moved(by_x, Rx, by_y, Ry):
    """How something moves that has these derivatives, when x and y do."""
    return fma(by_x, where_not_0(by_x, Rx), by_y * where_not_0(by_y, Ry))


@njit
def forward_tangent_run(program, code, first, last, width, values, tangents):
    """`forward_run`, and ``Rv = dv/dx Rx + dv/dy Ry``: how v moves when the inputs do."""
    if code == ADD:
        forward_tangent_common(program, ADD, first, last, width, values, tangents)
    elif code == SUBTRACT:
        forward_tangent_common(program, SUBTRACT, first, last, width, values, tangents)
    elif code == MULTIPLY:
        forward_tangent_common(program, MULTIPLY, first, last, width, values, tangents)
    elif is_selecting(code):
        for k in range(first, last):
            v, x, y = step_at(program, k, width)
            for j in range(0, width, lanes(values)):
                at_x, at_y = load(values, x + j), load(values, y + j)
                at_v = selecting_value(code, at_x, at_y)
                by_x, by_y = selecting_partials(code, program.ties, at_v, at_x, at_y)
                store(values, v + j, at_v)
                Rx, Ry = load(tangents, x + j), load(tangents, y + j)
                store(tangents, v + j, moved(by_x, Rx, by_y, Ry))
    elif is_unary(code):
        for k in range(first, last):
            v, x, _ = step_at(program, k, width)
            for j in range(0, width, lanes(values)):
                at_x = load(values, x + j)
                at_v = unary_value(code, at_x)
                by_x = unary_partial(code, at_v, at_x)
                store(values, v + j, at_v)
                store(tangents, v + j, by_x * where_not_0(by_x, load(tangents, x + j)))
    else:
        for k in range(first, last):
            v, x, y = step_at(program, k, width)
            for j in range(0, width, lanes(values)):
                at_x, at_y = load(values, x + j), load(values, y + j)
                at_v = binary_value(code, at_x, at_y)
                by_x, by_y = binary_partials(code, at_v, at_x, at_y)
                by_x = of_variable(program, x, width, by_x)
                by_y = of_variable(program, y, width, by_y)
                store(values, v + j, at_v)
                Rx, Ry = load(tangents, x + j), load(tangents, y + j)
                store(tangents, v + j, moved(by_x, Rx, by_y, Ry))


@inlined
def forward_tangent_common(program, code, first, last, width, values, tangents):
    """The same for one of the common operations, whose code is a constant to the compiler."""
    for k in range(first, last):
        v, x, y = step_at(program, k, width)
        for j in range(0, width, lanes(values)):
            at_x, at_y = load(values, x + j), load(values, y + j)
            by_x, by_y = common_partials(code, at_x, at_y)
            store(values, v + j, common_value(code, at_x, at_y))
            Rx, Ry = load(tangents, x + j), load(tangents, y + j)
            store(tangents, v + j, moved(by_x, Rx, by_y, Ry))


@njit
def backward_tangent_run(program, code, first, last, width, values, adjoints, tangents, turned):
    """`backward_run`, and how adjoints turn as values move by their tangents: forward over reverse.

    ``Radjoint[x] += Radjoint[v] dv/dx + adjoint[v] (d2v/dx2 Rx + d2v/dxdy Ry)``, and of y. The
    second product is 0 where the bracket is, as of a sum, whose derivatives never move.
    """
    if code in (ADD, SUBTRACT) or is_selecting(code):  # nothing turns
        backward_run(program, code, first, last, width, values, adjoints)
        backward_run(program, code, first, last, width, values, turned)
    elif is_unary(code):
        for k in range(last - 1, first - 1, -1):
            v, x, _ = step_at(program, k, width)
            for j in range(0, width, lanes(values)):
                at_v, at_x = load(values, v + j), load(values, x + j)
                g, Rg, Rx = take(adjoints, v + j), take(turned, v + j), load(tangents, x + j)
                by_x = unary_partial(code, at_v, at_x)
                xx = unary_curvature(code, at_v, by_x, at_x)
                add_product(adjoints, x + j, g, by_x)
                add_product(turned, x + j, Rg, by_x)
                add_chosen(turned, x + j, g, xx * where_not_0(xx, Rx))
    else:
        for k in range(last - 1, first - 1, -1):
            v, x, y = step_at(program, k, width)
            for j in range(0, width, lanes(values)):
                at_v, at_x, at_y = load(values, v + j), load(values, x + j), load(values, y + j)
                g, Rg = take(adjoints, v + j), take(turned, v + j)
                Rx, Ry = load(tangents, x + j), load(tangents, y + j)
                by_x, by_y = binary_partials(code, at_v, at_x, at_y)
                xx, xy, yy = binary_curvatures(code, at_v, at_x, at_y)
                xy = of_variable(program, x, width, of_variable(program, y, width, xy))
                add_product(adjoints, x + j, g, by_x)
                add_product(adjoints, y + j, g, by_y)
                add_product(turned, x + j, Rg, by_x)
                add_chosen(turned, x + j, g, moved(xx, Rx, xy, Ry))
                add_product(turned, y + j, Rg, by_y)
                add_chosen(turned, y + j, g, moved(xy, Rx, yy, Ry))


# ---------------------------------------------------------------- all of them


@inlined
def run_at(program, r):
    """(operation, first step, the one behind the last) of run r."""
    return program.runs[3 * r], program.runs[3 * r + 1], program.runs[3 * r + 2]


@njit
def forward_segment(program, s, width, values):
    """All runs of segment s."""
    for r in range(program.segments[s], program.segments[s + 1]):
        code, first, last = run_at(program, r)
        forward_run(program, code, first, last, width, values)


@njit
def forward(program, width, values):
    """Values of all steps, from constants and inputs. Those of the last segment stay."""
    for s in range(program.segments.size - 1):
        forward_segment(program, s, width, values)


@njit
def backward(program, width, values, adjoints):
    """Adjoints of the inputs, from the outputs'; the values of the last segment are still there."""
    last_segment = program.segments.size - 2
    for s in range(last_segment, -1, -1):
        if s != last_segment:
            forward_segment(program, s, width, values)
        for r in range(program.segments[s + 1] - 1, program.segments[s] - 1, -1):
            code, first, last = run_at(program, r)
            backward_run(program, code, first, last, width, values, adjoints)


@njit
def forward_tangent_segment(program, s, width, values, tangents):
    """All runs of segment s."""
    for r in range(program.segments[s], program.segments[s + 1]):
        code, first, last = run_at(program, r)
        forward_tangent_run(program, code, first, last, width, values, tangents)


@njit
def forward_tangent(program, width, values, tangents):
    """Values and tangents of all steps, from those of constants and inputs."""
    for s in range(program.segments.size - 1):
        forward_tangent_segment(program, s, width, values, tangents)


@njit
def backward_tangent(program, width, values, adjoints, tangents, turned):
    """Adjoints, and their tangents, of the inputs, after `forward_tangent`."""
    last_segment = program.segments.size - 2
    for s in range(last_segment, -1, -1):
        if s != last_segment:
            forward_tangent_segment(program, s, width, values, tangents)
        for r in range(program.segments[s + 1] - 1, program.segments[s] - 1, -1):
            code, first, last = run_at(program, r)
            backward_tangent_run(
                program, code, first, last, width, values, adjoints, tangents, turned
            )


# ---------------------------------------------------------------- samples in, results out


@inlined
def width_of(program, batch, order):
    """Samples in a row, whole vectors; of order 2 half as many, since it has twice as many rows."""
    whole = (batch + lanes(program.constants) - 1) // lanes(program.constants)
    return min(program.width // order, max(1, whole) * lanes(program.constants))


@inlined
def workspace_size(program, batch, order=1):
    """Floats of scratch memory for a batch; order 2 is for `hvp`."""
    return 2 * order * program.rows * width_of(program, batch, order)


@inlined
def largest_workspace(program):
    """The same for any batch and order: of order 2 there are twice as many rows, half as wide."""
    return 2 * program.rows * program.width


@inlined
def section(program, work, width, i):
    """Rows of values, adjoints, tangents, or tangents of adjoints: i = 0, 1, 2, 3."""
    return vector(work, i * program.rows * width, program.rows * width)


@njit
def put_constants(program, width, values):
    """Their rows, once a call."""
    for c in range(program.constants.size):
        for j in range(0, width, lanes(values)):
            store(values, c * width + j, broadcast(program.constants[c], values))


@njit
def put_rows(X, first, count, row, width, values):
    """Columns of X as rows, from `row` on, of `count` samples; other lanes go with the first."""
    if count < width:
        for i in range(X.shape[1]):
            x = broadcast(X[first, i], values)
            for j in range(0, width, lanes(values)):
                store(values, (row + i) * width + j, x)
    target = view(matrix(values, row * width, X.shape[1], width))
    transpose(at(view(X), first, 0), target, count, X.shape[1], values)


@njit
def take_rows(values, row, n, width, target, count):
    """n rows, from `row` on, as columns of a View of `count` samples."""
    transpose(view(matrix(values, row * width, n, width)), target, n, count, values)


@inlined
def put_inputs(program, X, first, count, width, values):
    """Rows of inputs."""
    put_rows(X, first, count, program.constants.size, width, values)


@inlined
def take_inputs(program, adjoints, width, target, count):
    """The adjoints of inputs as rows of a View, a row a sample."""
    take_rows(adjoints, program.constants.size, program.n_inputs, width, target, count)


@inlined
def clear_inputs(program, width, adjoints):
    """Adjoints of the inputs begin at 0; those of all steps are 0 after each way back."""
    fill(vector(adjoints, program.constants.size * width, program.n_inputs * width), 0)


@inlined
def take_outputs(program, values, width, out, first, count):
    """``out[first : first + count]`` (B, m)."""
    for q in range(program.outputs.size):
        row = program.outputs[q] * width
        for j in range(count):
            out[first + j, q] = values[row + j]


@inlined
def seed(program, q, width, adjoints):
    """The adjoint of output q is 1."""
    row = program.outputs[q] * width
    for j in range(0, width, lanes(adjoints)):
        one = broadcast(1, adjoints)
        store(adjoints, row + j, load(adjoints, row + j) + one)


# ---------------------------------------------------------------- for callers


@inlined
def inputs(program, X):
    """X as a matrix (B, n_inputs)."""
    x = as_rows(X, program.constants)
    check_version(program.version)
    if x.shape[1] != program.n_inputs:
        raise ValueError("X must have a column for each input of the circuit")
    return x


@inlined
def enter(program, X, out, work, order, columns):
    """X, out (B, columns) and work as views, once all are checked."""
    x, o, w = (
        inputs(program, X),
        as_target(out, program.constants),
        as_target(work, program.constants),
    )
    batch = x.shape[0]
    if not (fits(out, (batch, columns)) or (columns == 1 and fits(out, (1, batch)))):
        raise ValueError("what is written must have the shape that the docstring gives")
    if w.size < workspace_size(program, batch, order):
        raise ValueError("work is too small: make it by circuit.workspace(batch, order)")
    return x, matrix(o, 0, batch, columns), w


@inlined
def enter_grad(program, grad, batch):
    """`grad` as a vector of B * m * n_inputs elements."""
    g, n, m = as_target(grad, program.constants), program.n_inputs, program.outputs.size
    if not (fits(grad, (batch, m, n)) or (m == 1 and fits(grad, (1, batch, n)))):
        raise ValueError("grad must have the shape that the docstring gives")
    return g


@njit
def evaluate(program, X, out, work):
    """``out = f(X)`` (B, m)."""
    program = borrow_all(program)
    x, out, work = enter(program, X, out, work, 1, program.outputs.size)
    width = width_of(program, x.shape[0], 1)
    values = section(program, work, width, 0)
    put_constants(program, width, values)
    for first in range(0, x.shape[0], width):
        count = min(width, x.shape[0] - first)
        put_inputs(program, x, first, count, width, values)
        forward(program, width, values)
        take_outputs(program, values, width, out, first, count)


@njit
def value_and_grad(program, X, value, grad, work):
    """``value = f(X)`` (B, m), and the gradient of each output, (B, m, n_inputs), into `grad`.

    One output: shapes (B,) and (B, n_inputs) will do.
    """
    program = borrow_all(program)
    x, value, work = enter(program, X, value, work, 1, program.outputs.size)
    batch, n, m = x.shape[0], program.n_inputs, program.outputs.size
    grad = enter_grad(program, grad, batch)
    width, last_segment = width_of(program, batch, 1), program.segments.size - 2
    values, adjoints = section(program, work, width, 0), section(program, work, width, 1)
    put_constants(program, width, values)
    fill(adjoints, 0)
    for first in range(0, batch, width):
        count = min(width, batch - first)
        put_inputs(program, x, first, count, width, values)
        forward(program, width, values)
        take_outputs(program, values, width, value, first, count)
        for q in range(m):
            if q > 0 and last_segment > 0:  # the way back has put others into its rows
                forward_segment(program, last_segment, width, values)
            clear_inputs(program, width, adjoints)
            seed(program, q, width, adjoints)
            backward(program, width, values, adjoints)
            target = view(matrix(grad, q * n, batch, m * n))
            take_inputs(program, adjoints, width, at(target, first, 0), count)


@njit
def hvp(program, X, V, out, work):
    """The Hessian of the one output at each x times v, (B, n_inputs), into `out`; V like X."""
    program = borrow_all(program)
    x, out, work = enter(program, X, out, work, 2, program.n_inputs)
    v, batch = inputs(program, V), x.shape[0]
    if v.shape[0] != batch:
        raise ValueError("V must have a row for each row of X")
    if program.outputs.size != 1:
        raise ValueError("hvp is of a circuit with one output")
    width = width_of(program, batch, 2)
    values, adjoints = section(program, work, width, 0), section(program, work, width, 1)
    tangents, turned = section(program, work, width, 2), section(program, work, width, 3)
    put_constants(program, width, values)
    fill(vector(work, program.rows * width, 3 * program.rows * width), 0)
    for first in range(0, batch, width):
        count = min(width, batch - first)
        put_inputs(program, x, first, count, width, values)
        put_inputs(program, v, first, count, width, tangents)
        clear_inputs(program, width, adjoints)
        clear_inputs(program, width, turned)
        forward_tangent(program, width, values, tangents)
        seed(program, 0, width, adjoints)
        backward_tangent(program, width, values, adjoints, tangents, turned)
        take_inputs(program, turned, width, at(view(out), first, 0), count)
