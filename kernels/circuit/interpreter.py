"""Differentiable circuits: one interpreter for straight-line programs of scalar operations.

    v[k] = op[k](v[i], v[j])         i, j < k

A program is data, so nothing is compiled for it. Steps of one operation follow each other in runs,
as far as their order allows (`runs`).

Baur & Strassen (1983): from the last step to the first, ``adjoint[x] += adjoint[v] * dv/dx`` gives
all derivatives of an output, for a small multiple of what the value costs. That needs all values.
So that they stay in the cache, the steps are cut into segments: a value that no other segment needs
has a row only as long as its segment is at work, and the way back computes it once more.

Public kernels take (program, what is read, what is written, work). X (B, n_inputs) or one sample
(n_inputs,); m is the number of outputs.
"""

from typing import NamedTuple

import numpy as np
from numba import types

from ..abi import Array, Matrix, Vector, Word, written
from ..compiler import inlined, kernel, name_of, njit, shared, slot_named
from ..gemm.tile import View, at, view
from ..gemm.transpose import transpose
from ..simd.vectors import LANES_F32, LANES_F64, broadcast, lanes, load, store
from ..simd.views import fill, matrix, vector
from ..status import (
    BAD_OUT,
    BAD_V_OF_CIRCUIT,
    BAD_X_OF_CIRCUIT,
    MANY_OUTPUTS,
    OK,
    SMALL_WORK_OF_CIRCUIT,
    STALE,
    VERSION,
    refuse,
)
from .runs import Facts, ahead, backward, forward, turn

Indices = Array(types.int32, 1)
Triples = Array(types.int32, 2)

FORWARD, BACKWARD, AHEAD, TURN = range(4)  # columns of `Program.slots`
OPERATION, FIRST, LAST = range(3)  # columns of `Program.runs`


class Program(NamedTuple):
    """A circuit as the kernels take it.

    Rows of values are constants first, then inputs, then values that are kept, among them outputs,
    then the values of one segment.

    steps : (N, 3) int32, for each step the rows of v, x and y; of one operand, x is there twice.
    runs : (R, 3) int32, for each run its operation, its first step, and the one behind its last.
    segments : (S + 1,) int32, where in `runs` each segment begins.
    outputs : (m,) int32, their rows.
    constants : (C,) float. ties : (2,) float, derivatives of max(x, y) and min(x, y) where x = y.
    slots : (operations, 4) int64, slots of the kernels of each operation.
    n_inputs : int. rows : int, how many there are. width : int, most samples in a row.
    """

    steps: Triples
    runs: Triples
    segments: Indices
    outputs: Indices
    constants: Vector
    ties: Vector
    slots: Array(types.int64, 2)
    n_inputs: Word
    rows: Word
    width: Word

    def __reduce__(self):
        """Pickle kernels by their names: in another process they are elsewhere."""
        names = [[name_of(slot) for slot in row] for row in self.slots.tolist()]
        return _restored, (names, self._replace(slots=None)[:])


def _restored(names, parts):
    """The program that was pickled, with the kernels of this process."""
    slots = np.array([[slot_named(name) for name in row] for row in names], np.int64)
    return Program(*parts)._replace(slots=slots)


# ---------------------------------------------------------------- for callers


@njit
def evaluate(program, X, out, work):
    """``out = f(X)`` (B, m)."""
    refuse(_evaluate(VERSION, program, X, out, work))


@njit
def value_and_grad(program, X, value, grad, work):
    """``value = f(X)`` (B, m), and the gradient of each output, (B, m, n_inputs), into `grad`.

    One output: shapes (B,) and (B, n_inputs) will do.
    """
    refuse(_value_and_grad(VERSION, program, X, value, grad, work))


@njit
def hvp(program, X, V, out, work):
    """The Hessian of the one output at each x times v, (B, n_inputs), into `out`; V like X."""
    refuse(_hvp(VERSION, program, X, V, out, work))


@kernel
def _evaluate(
    version: Word, program: Program, X: Matrix, out: written(Matrix), work: written(Vector)
) -> Word:
    status = _check(version, program, X, work, 1) or _check_rows(out, X, program.outputs.size)
    if status == OK:
        width, m = width_of(program, X.shape[0], 1), program.outputs.size
        values, result = section(program, work, width, 0), matrix(out, 0, X.shape[0], m)
        put_constants(program, width, values)
        for first in range(0, X.shape[0], width):
            count = min(width, X.shape[0] - first)
            put_inputs(program, X, first, count, width, values)
            go_forward(program, width, values)
            take_outputs(program, values, width, result, first, count)
    return status


@kernel
def _value_and_grad(
    version: Word, program: Program, X: Matrix, value: written(Matrix),
    grad: written(Array(None, 3)), work: written(Vector),
) -> Word:  # fmt: skip
    batch, n, m = X.shape[0], program.n_inputs, program.outputs.size
    status = (
        _check(version, program, X, work, 1)
        or _check_rows(value, X, m)
        or _check_gradients(grad, batch, m, n)
    )
    if status == OK:
        width, last_segment = width_of(program, batch, 1), program.segments.size - 2
        values, adjoints = section(program, work, width, 0), section(program, work, width, 1)
        result, target = matrix(value, 0, batch, m), view(matrix(grad, 0, batch, m * n))
        put_constants(program, width, values)
        fill(adjoints, 0)
        for first in range(0, batch, width):
            count = min(width, batch - first)
            put_inputs(program, X, first, count, width, values)
            go_forward(program, width, values)
            take_outputs(program, values, width, result, first, count)
            for q in range(m):
                if q > 0 and last_segment > 0:  # the way back has put others into its rows
                    forward_segment(program, last_segment, width, values)
                clear_inputs(program, width, adjoints)
                seed(program, q, width, adjoints)
                go_back(program, width, values, adjoints)
                take_inputs(program, adjoints, width, at(target, first, q * n), count)
    return status


@kernel
def _hvp(
    version: Word, program: Program, X: Matrix, V: Matrix, out: written(Matrix),
    work: written(Vector),
) -> Word:  # fmt: skip
    batch, n = X.shape[0], program.n_inputs
    status = (
        _check(version, program, X, work, 2)
        or _check_rows(out, X, n)
        or _check_directions(program, X, V)
    )
    if status == OK:
        width, size = width_of(program, batch, 2), program.rows * width_of(program, batch, 2)
        values, adjoints = section(program, work, width, 0), section(program, work, width, 1)
        tangents, turned = section(program, work, width, 2), section(program, work, width, 3)
        target = view(matrix(out, 0, batch, n))
        put_constants(program, width, values)
        fill(vector(work, size, 3 * size), 0)
        for first in range(0, batch, width):
            count = min(width, batch - first)
            put_inputs(program, X, first, count, width, values)
            put_inputs(program, V, first, count, width, tangents)
            clear_inputs(program, width, adjoints)
            clear_inputs(program, width, turned)
            go_ahead(program, width, values, tangents)
            seed(program, 0, width, adjoints)
            turn_back(program, width, values, adjoints, tangents, turned)
            take_inputs(program, turned, width, at(target, first, 0), count)
    return status


@inlined
def _check(version, program, X, work, order):
    status = OK
    if version != VERSION:
        status = STALE
    elif X.shape[1] != program.n_inputs:
        status = BAD_X_OF_CIRCUIT
    elif work.size < 2 * order * program.rows * width_of(program, X.shape[0], order):
        status = SMALL_WORK_OF_CIRCUIT
    return status


@inlined
def _check_rows(out, X, columns):
    """(B, columns); of one column also (B,)."""
    batch = X.shape[0]
    fits = out.shape[0] == batch and out.shape[1] == columns
    fits = fits or (columns == 1 and out.shape[0] == 1 and out.shape[1] == batch)
    return OK if fits else BAD_OUT


@inlined
def _check_gradients(grad, batch, m, n):
    """(B, m, n); of one output also (B, n)."""
    fits = grad.shape[0] == batch and grad.shape[1] == m
    fits = fits or (m == 1 and grad.shape[0] == 1 and grad.shape[1] == batch)
    return OK if fits and grad.shape[2] == n else BAD_OUT


@inlined
def _check_directions(program, X, V):
    """V like X, of a circuit with one output."""
    status = OK
    if V.shape[1] != program.n_inputs:
        status = BAD_X_OF_CIRCUIT
    elif V.shape[0] != X.shape[0]:
        status = BAD_V_OF_CIRCUIT
    elif program.outputs.size != 1:
        status = MANY_OUTPUTS
    return status


# ---------------------------------------------------------------- all steps


@inlined
def steps_of(program, r):
    """The steps of run r."""
    first, last = program.runs[r, FIRST], program.runs[r, LAST]
    return matrix(program.steps, 3 * first, last - first, 3)


@inlined
def slot_of(program, r, kind):
    """Where the kernel of this kind of run r is."""
    return program.slots[program.runs[r, OPERATION], kind]


@inlined
def facts_of(program):
    """What a run needs to know."""
    return Facts(program.ties, program.constants.size)


@inlined
def forward_segment(program, s, width, values):
    """All runs of segment s."""
    for r in range(program.segments[s], program.segments[s + 1]):
        forward(slot_of(program, r, FORWARD), steps_of(program, r), width, values)


@kernel
def go_forward(program: Program, width: Word, values: Vector):
    """Values of all steps, from constants and inputs. Those of the last segment stay."""
    for s in range(program.segments.size - 1):
        forward_segment(program, s, width, values)


@kernel
def go_back(program: Program, width: Word, values: Vector, adjoints: Vector):
    """Adjoints of the inputs, from the outputs'; the values of the last segment are still there."""
    last_segment, facts = program.segments.size - 2, facts_of(program)
    for s in range(last_segment, -1, -1):
        if s != last_segment:
            forward_segment(program, s, width, values)
        for r in range(program.segments[s + 1] - 1, program.segments[s] - 1, -1):
            steps = steps_of(program, r)
            backward(slot_of(program, r, BACKWARD), steps, facts, width, values, adjoints)


@inlined
def ahead_segment(program, s, width, values, tangents):
    """All runs of segment s."""
    facts = facts_of(program)
    for r in range(program.segments[s], program.segments[s + 1]):
        ahead(slot_of(program, r, AHEAD), steps_of(program, r), facts, width, values, tangents)


@kernel
def go_ahead(program: Program, width: Word, values: Vector, tangents: Vector):
    """Values and tangents of all steps, from those of constants and inputs."""
    for s in range(program.segments.size - 1):
        ahead_segment(program, s, width, values, tangents)


@kernel
def turn_back(
    program: Program, width: Word, values: Vector, adjoints: Vector, tangents: Vector,
    turned: Vector,
):  # fmt: skip
    """Adjoints, and their tangents, of the inputs, after `go_ahead`."""
    last_segment, facts = program.segments.size - 2, facts_of(program)
    for s in range(last_segment, -1, -1):
        if s != last_segment:
            ahead_segment(program, s, width, values, tangents)
        for r in range(program.segments[s + 1] - 1, program.segments[s] - 1, -1):
            slot, steps = slot_of(program, r, TURN), steps_of(program, r)
            turn(slot, steps, facts, width, values, adjoints, tangents, turned)


# ---------------------------------------------------------------- samples in, results out


@inlined
def width_of(program, batch, order):
    """Samples in a row, whole vectors; of order 2 half as many, since it has twice as many rows."""
    whole = (batch + lanes(program.constants) - 1) // lanes(program.constants)
    return min(program.width // order, max(1, whole) * lanes(program.constants))


def workspace_size(program, batch, order=1):
    """Floats of scratch memory for a batch; order 2 is for `hvp`."""
    lanes = LANES_F32 if program.constants.itemsize == 4 else LANES_F64
    width = min(program.width // order, max(1, -(-batch // lanes)) * lanes)
    return 2 * order * program.rows * width


@shared
def largest_workspace(program):
    """The same for any batch and order: of order 2 there are twice as many rows, half as wide."""
    return 2 * program.rows * program.width


@inlined
def section(program, work, width, i):
    """Rows of values, adjoints, tangents, or tangents of adjoints: i = 0, 1, 2, 3."""
    return vector(work, i * program.rows * width, program.rows * width)


@inlined
def put_constants(program, width, values):
    """Their rows, once a call."""
    for c in range(program.constants.size):
        for j in range(0, width, lanes(values)):
            store(values, c * width + j, broadcast(program.constants[c], values))


@kernel
def put_rows(X: Matrix, first: Word, count: Word, row: Word, width: Word, values: Vector):
    """Columns of X as rows, from `row` on, of `count` samples; other lanes go with the first."""
    if count < width:
        for i in range(X.shape[1]):
            x = broadcast(X[first, i], values)
            for j in range(0, width, lanes(values)):
                store(values, (row + i) * width + j, x)
    target = view(matrix(values, row * width, X.shape[1], width))
    transpose(at(view(X), first, 0), target, count, X.shape[1], values)


@kernel
def take_rows(values: Vector, row: Word, n: Word, width: Word, target: View, count: Word):
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
