"""Differentiable circuits: one interpreter for straight-line programs of scalar operations.

    v[k] = op[k](v[i], v[j])         i, j < k

A program is data, so nothing is compiled for it. Steps of one operation follow each other in runs,
as far as their order allows (`runs`).

Baur & Strassen (1983): from the last step to the first, ``adjoint[x] += adjoint[v] * dv/dx`` gives
all derivatives of an output, for a small multiple of what the value costs. All dv/dx are computed
with the values, and put on a tape, which is written and read in order. What is read in any order
should stay in the cache: so the steps are cut into segments, and a value that no other segment
needs shares its row with those of other segments, as does its adjoint.

Public kernels take (program, what is read, what is written, work). X (B, n_inputs) or one sample
(n_inputs,); m is the number of outputs.
"""

from typing import NamedTuple

from ..abi import (
    Indices,
    Matrix,
    OutMatrix,
    OutTensor,
    OutVector,
    Triples,
    Vector,
    Word,
    WordMatrix,
)
from ..blocks import LINE
from ..compiler import inlined, kernel, njit, shared
from ..gemm.tile import View, at, view
from ..gemm.transpose import transpose
from ..simd.vectors import VECTOR_BYTES, broadcast, lanes, load, store
from ..simd.views import fill, matrix, vector
from ..status import (
    BAD_OUT,
    BAD_U_OF_CIRCUIT,
    BAD_V_OF_CIRCUIT,
    BAD_X_OF_CIRCUIT,
    MANY_OUTPUTS,
    OK,
    SMALL_WORK_OF_CIRCUIT,
    STALE,
    VERSION,
    refuse,
)
from .operations import slots_of
from .runs import Facts, Tables, ahead, backward, forward, record, turn

FORWARD, RECORD, BACKWARD, AHEAD, TURN = range(5)  # columns of `Program.slots`
OPERATION, FIRST, LAST, TAPE = range(4)  # columns of `Program.runs`


class Program(NamedTuple):
    """Hold a circuit as the kernels take it; `circuit.program` is one.

    Its memory is tables, a column a sample. Of values, and of adjoints, first come the rows of
    constants, then those of inputs, and of what several segments need (the outputs among it), then
    those of one segment. The tape has up to two rows a step, for its derivatives.

    Attributes
    ----------
    steps : array (N, 3) of int32
        Rows of v, x and y of each step; a step of one operand has x twice.
    runs : array (R, 4) of int32
        Operation, first step, end and first row of the tape of each run.
    outputs : array (m,) of int32
        Rows of the outputs.
    constants : array (C,)
        Their values, in the dtype of the circuit.
    ties : array (2,)
        Derivatives of max(x, y) and min(x, y) where x = y.
    slots : array (operations, 5) of int64
        Slots of the kernels of each operation.
    n_inputs, rows, taped, width : int
        Number of inputs, of rows of values, of rows of the tape, and most samples in a row.
    """

    steps: Triples
    runs: Triples
    outputs: Indices
    constants: Vector
    ties: Vector
    slots: WordMatrix
    n_inputs: Word
    rows: Word
    taped: Word
    width: Word

    def __reduce__(self):
        """Pickle all but the slots: in another process kernels are elsewhere."""
        return _restored, tuple(self._replace(slots=None))


def _restored(*fields):
    """Return the program that was pickled, with the kernels of this process."""
    program = Program(*fields)
    return program._replace(slots=slots_of(program.constants.dtype))


# ---------------------------------------------------------------- for callers


@njit
def evaluate(program: Program, X: Matrix, out: OutMatrix, work: OutVector) -> None:
    """Evaluate a circuit.

    Parameters
    ----------
    program : Program
        What `deltajit.Circuit` has traced: its `program`.
    X : array (B, n_inputs)
        Samples, of the dtype of the program.
    out : array (B, m)
        The m outputs of each sample, overwritten; of one output also (B,).
    work : array
        Scratch memory: ``workspace_size(program, B)`` floats.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.
    """
    refuse(_evaluate(VERSION, program, X, out, work))


@njit
def value_and_grad(
    program: Program, X: Matrix, value: OutMatrix, grad: OutTensor, work: OutVector
) -> None:
    """Compute the outputs of a circuit, and the gradient of each with respect to the inputs.

    Parameters
    ----------
    program : Program
        What `deltajit.Circuit` has traced: its `program`.
    X : array (B, n_inputs)
        Samples, of the dtype of the program.
    value : array (B, m)
        The outputs, overwritten; of one output also (B,).
    grad : array (B, m, n_inputs)
        The gradients, overwritten; of one output also (B, n_inputs).
    work : array
        Scratch memory: ``workspace_size(program, B)`` floats.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.

    References
    ----------
    Baur & Strassen (1983), The complexity of partial derivatives.
    """
    refuse(_value_and_grad(VERSION, program, X, value, grad, work))


@njit
def hvp(program: Program, X: Matrix, V: Matrix, out: OutMatrix, work: OutVector) -> None:
    """Multiply the Hessian of a circuit's one output, at each sample, by a vector.

    Parameters
    ----------
    program : Program
        What `deltajit.Circuit` has traced: its `program`.
    X : array (B, n_inputs)
        Samples, of the dtype of the program.
    V : array (B, n_inputs)
        A direction for each sample.
    out : array (B, n_inputs)
        The products, overwritten.
    work : array
        Scratch memory: ``workspace_size(program, B, 2)`` floats.

    Raises
    ------
    ValueError
        If a shape does not fit, `work` is too small, or the circuit has several outputs.
    """
    refuse(_hvp(VERSION, program, X, V, out, work))


@njit
def vjp(program: Program, X: Matrix, u: Matrix, out: OutMatrix, work: OutVector) -> None:
    """Compute the gradient of ``sum(u * outputs)`` with respect to the inputs, by one sweep back.

    Parameters
    ----------
    program : Program
        What `deltajit.Circuit` has traced: its `program`.
    X : array (B, n_inputs)
        Samples, of the dtype of the program.
    u : array (B, m)
        A cotangent of the outputs; of one output also (B,).
    out : array (B, n_inputs)
        The gradients, overwritten.
    work : array
        Scratch memory: ``workspace_size(program, B)`` floats.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.
    """
    refuse(_vjp(VERSION, program, X, u, out, work))


@kernel
def _evaluate(version: Word, program: Program, X: Matrix, out: OutMatrix, work: OutVector) -> Word:
    status = _check(version, program, X, work, 1) or _check_rows(out, X, program.outputs.size)
    if status == OK:
        evaluate_all(program, X, matrix(out, 0, X.shape[0], program.outputs.size), work)
    return status


@kernel
def evaluate_all(program: Program, X: Matrix, out: Matrix, work: Vector):
    """Compute `evaluate` of arguments that are checked."""
    width = width_of(program, X.shape[0], 1)
    values = tables_of(program, work, width, 0).values
    put_constants(program, width, values)
    for first in range(0, X.shape[0], width):
        count = min(width, X.shape[0] - first)
        put_inputs(program, X, first, count, width, values)
        go_forward(program, width, values)
        take_outputs(program, values, width, out, first, count)


@kernel
def _vjp(
    version: Word, program: Program, X: Matrix, u: Matrix, out: OutMatrix, work: OutVector
) -> Word:
    batch, m = X.shape[0], program.outputs.size
    status = _check(version, program, X, work, 1)
    if status == OK and _check_rows(u, X, m) != OK:
        status = BAD_U_OF_CIRCUIT
    status = status or _check_rows(out, X, program.n_inputs)
    if status == OK:
        vjp_all(program, X, matrix(u, 0, batch, m), matrix(out, 0, batch, X.shape[1]), work)
    return status


@kernel
def vjp_all(program: Program, X: Matrix, u: Matrix, out: Matrix, work: Vector):
    """Compute `vjp` of arguments that are checked."""
    width = width_of(program, X.shape[0], 1)
    at_x = tables_of(program, work, width, 0)
    put_constants(program, width, at_x.values)
    fill(at_x.adjoints, 0)
    for first in range(0, X.shape[0], width):
        count = min(width, X.shape[0] - first)
        put_inputs(program, X, first, count, width, at_x.values)
        go_recording(program, width, at_x)
        clear_inputs(program, width, at_x.adjoints)
        add_outputs(program, u, first, count, width, at_x.adjoints)
        go_back(program, width, at_x)
        take_inputs(program, at_x.adjoints, width, at(view(out), first, 0), count)


@kernel
def _value_and_grad(
    version: Word, program: Program, X: Matrix, value: OutMatrix,
    grad: OutTensor, work: OutVector,
) -> Word:  # fmt: skip
    batch, n, m = X.shape[0], program.n_inputs, program.outputs.size
    status = (
        _check(version, program, X, work, 1)
        or _check_rows(value, X, m)
        or _check_gradients(grad, batch, m, n)
    )
    if status == OK:
        width = width_of(program, batch, 1)
        at_x = tables_of(program, work, width, 0)
        result, target = matrix(value, 0, batch, m), view(matrix(grad, 0, batch, m * n))
        put_constants(program, width, at_x.values)
        fill(at_x.adjoints, 0)
        for first in range(0, batch, width):
            count = min(width, batch - first)
            put_inputs(program, X, first, count, width, at_x.values)
            go_recording(program, width, at_x)
            take_outputs(program, at_x.values, width, result, first, count)
            for q in range(m):
                clear_inputs(program, width, at_x.adjoints)
                seed(program, q, width, at_x.adjoints)
                go_back(program, width, at_x)
                take_inputs(program, at_x.adjoints, width, at(target, first, q * n), count)
    return status


@kernel
def _hvp(
    version: Word, program: Program, X: Matrix, V: Matrix, out: OutMatrix,
    work: OutVector,
) -> Word:  # fmt: skip
    batch, n = X.shape[0], program.n_inputs
    status = (
        _check(version, program, X, work, 2)
        or _check_rows(out, X, n)
        or _check_directions(program, X, V)
    )
    if status == OK:
        width = width_of(program, batch, 2)
        at_x, R = tables_of_both(program, work, width)
        target = view(matrix(out, 0, batch, n))
        for first in range(0, batch, width):
            count = min(width, batch - first)
            put_inputs(program, X, first, count, width, at_x.values)
            put_inputs(program, V, first, count, width, R.values)
            go_ahead_and_turn(program, width, at_x, R)
            take_inputs(program, R.adjoints, width, at(target, first, 0), count)
    return status


@inlined
def _check(version, program, X, work, order):
    status = OK
    if version != VERSION:
        status = STALE
    elif X.shape[1] != program.n_inputs:
        status = BAD_X_OF_CIRCUIT
    elif work.size < order * size_of(program) * width_of(program, X.shape[0], order):
        status = SMALL_WORK_OF_CIRCUIT
    return status


@inlined
def _check_rows(out, X, columns):
    """Check the shape (B, columns); for one column also (B,)."""
    batch = X.shape[0]
    fits = out.shape[0] == batch and out.shape[1] == columns
    fits = fits or (columns == 1 and out.shape[0] == 1 and out.shape[1] == batch)
    return OK if fits else BAD_OUT


@inlined
def _check_gradients(grad, batch, m, n):
    """Check the shape (B, m, n); for one output also (B, n)."""
    fits = grad.shape[0] == batch and grad.shape[1] == m
    fits = fits or (m == 1 and grad.shape[0] == 1 and grad.shape[1] == batch)
    return OK if fits and grad.shape[2] == n else BAD_OUT


@inlined
def _check_directions(program, X, V):
    """Check that V has the shape of X, and the circuit one output."""
    status = OK
    if V.shape != X.shape:
        status = BAD_V_OF_CIRCUIT
    elif program.outputs.size != 1:
        status = MANY_OUTPUTS
    return status


# ---------------------------------------------------------------- all steps


@inlined
def steps_of(program, r):
    """Return the steps of run r."""
    first, last = program.runs[r, FIRST], program.runs[r, LAST]
    return matrix(program.steps, 3 * first, last - first, 3)


@inlined
def slot_of(program, r, kind):
    """Return where the kernel of this kind of run r is."""
    return program.slots[program.runs[r, OPERATION], kind]


@inlined
def facts_of(program):
    """Return what a run needs to know."""
    return Facts(program.ties, program.constants.size)


@inlined
def tape_of(program, r, width, tape):
    """Return the tape from its first row of run r on."""
    first = program.runs[r, TAPE] * width
    return vector(tape, first, tape.size - first)


@inlined
def tables_from(program, r, width, tables):
    """Return tables whose tape begins at its first row of run r."""
    return Tables(tables.values, tables.adjoints, tape_of(program, r, width, tables.tape))


@kernel
def go_forward(program: Program, width: Word, values: Vector):
    """Compute the values of all steps from constants and inputs; those of outputs stay."""
    for r in range(len(program.runs)):
        forward(slot_of(program, r, FORWARD), steps_of(program, r), width, values)


@kernel
def go_recording(program: Program, width: Word, at_x: Tables):
    """Compute `go_forward`, and the tape."""
    facts = facts_of(program)
    for r in range(len(program.runs)):
        tape = tape_of(program, r, width, at_x.tape)
        slot = slot_of(program, r, RECORD)
        record(slot, steps_of(program, r), facts, width, at_x.values, tape)


@kernel
def go_back(program: Program, width: Word, at_x: Tables):
    """Compute the adjoints of the inputs from those of the outputs, after `go_recording`."""
    facts = facts_of(program)
    for r in range(len(program.runs) - 1, -1, -1):
        tape = tape_of(program, r, width, at_x.tape)
        slot = slot_of(program, r, BACKWARD)
        backward(slot, steps_of(program, r), facts, width, tape, at_x.adjoints)


@kernel
def go_ahead_and_turn(program: Program, width: Word, at_x: Tables, R: Tables):
    """Compute the tangents of the adjoints of the inputs, from the inputs and their tangents."""
    facts = facts_of(program)
    clear_inputs(program, width, at_x.adjoints)
    clear_inputs(program, width, R.adjoints)
    for r in range(len(program.runs)):
        slot, steps = slot_of(program, r, AHEAD), steps_of(program, r)
        here, moves = tables_from(program, r, width, at_x), tables_from(program, r, width, R)
        ahead(slot, steps, facts, width, here, moves)
    seed(program, 0, width, at_x.adjoints)
    for r in range(len(program.runs) - 1, -1, -1):
        slot, steps = slot_of(program, r, TURN), steps_of(program, r)
        here, moves = tables_from(program, r, width, at_x), tables_from(program, r, width, R)
        turn(slot, steps, facts, width, here, moves)


# ---------------------------------------------------------------- samples in, results out


@inlined
def width_of(program, batch, order):
    """Return how many samples a row holds, in whole vectors; fewer for order 2."""
    line = LINE // program.constants.itemsize
    whole = (batch + lanes(program.constants) - 1) // lanes(program.constants)
    return min(max(program.width // order, line), max(1, whole) * lanes(program.constants))


def workspace_size(program: Program, batch: int, order: int = 1) -> int:
    """Return how much scratch memory a circuit's kernel needs.

    Parameters
    ----------
    program : Program
        What `deltajit.Circuit` has traced.
    batch : int
        Samples of a call.
    order : {1, 2}
        2 for `hvp`, 1 for the others.

    Returns
    -------
    int
        Number of floats, of the program's dtype.
    """
    itemsize = program.constants.itemsize
    lanes = VECTOR_BYTES // itemsize
    width = min(max(program.width // order, LINE // itemsize), max(1, -(-batch // lanes)) * lanes)
    return order * size_of(program) * width


@shared
def largest_workspace(program: Program) -> int:
    """Return how much scratch memory suffices for any batch, of either order.

    Parameters
    ----------
    program : Program
        What `deltajit.Circuit` has traced.

    Returns
    -------
    int
        Number of floats: for `hvp` there are twice as many rows, at least half as wide.
    """
    widest = max(program.width // 2, LINE // program.constants.itemsize)
    return 2 * size_of(program) * widest


@shared
def size_of(program):
    """Return how many rows values, adjoints and the tape have."""
    return 2 * program.rows + program.taped


@inlined
def tables_of(program, work, width, i):
    """Return the tables at a point, 0, or of their tangents, 1."""
    first, rows = i * size_of(program) * width, program.rows * width
    return Tables(
        vector(work, first, rows),
        vector(work, first + rows, rows),
        vector(work, first + 2 * rows, program.taped * width),
    )


@inlined
def tables_of_both(program, work, width):
    """Return the tables at a point and of their tangents, with the constants in place."""
    at_x, R = tables_of(program, work, width, 0), tables_of(program, work, width, 1)
    put_constants(program, width, at_x.values)
    fill(at_x.adjoints, 0)
    fill(R.values, 0)
    fill(R.adjoints, 0)
    return at_x, R


@inlined
def put_constants(program, width, values):
    """Write the rows of constants, once a call."""
    for c in range(program.constants.size):
        for j in range(0, width, lanes(values)):
            store(values, c * width + j, broadcast(program.constants[c], values))


@kernel
def put_rows(X: Matrix, first: Word, count: Word, row: Word, width: Word, values: Vector):
    """Write columns of X as rows, from `row` on; lanes beyond `count` samples repeat the first."""
    if count < width:
        for i in range(X.shape[1]):
            x = broadcast(X[first, i], values)
            for j in range(0, width, lanes(values)):
                store(values, (row + i) * width + j, x)
    target = view(matrix(values, row * width, X.shape[1], width))
    transpose(at(view(X), first, 0), target, count, X.shape[1], values)


@kernel
def take_rows(values: Vector, row: Word, n: Word, width: Word, target: View, count: Word):
    """Write n rows, from `row` on, as columns of a View of `count` samples."""
    transpose(view(matrix(values, row * width, n, width)), target, n, count, values)


@inlined
def put_inputs(program, X, first, count, width, values):
    """Write the rows of inputs."""
    put_rows(X, first, count, program.constants.size, width, values)


@inlined
def take_inputs(program, adjoints, width, target, count):
    """Write the adjoints of the inputs into a View, a row a sample."""
    take_rows(adjoints, program.constants.size, program.n_inputs, width, target, count)


@inlined
def clear_inputs(program, width, adjoints):
    """Set the adjoints of the inputs to 0; the backward sweep leaves those of all steps at 0."""
    fill(vector(adjoints, program.constants.size * width, program.n_inputs * width), 0)


@inlined
def take_outputs(program, values, width, out, first, count):
    """Copy the outputs into ``out[first : first + count]``."""
    for q in range(program.outputs.size):
        row = program.outputs[q] * width
        for j in range(count):
            out[first + j, q] = values[row + j]


@inlined
def add_outputs(program, u, first, count, width, adjoints):
    """Add ``u[first : first + count]`` to the adjoints of the outputs; 0 beyond them."""
    for q in range(program.outputs.size):
        row = program.outputs[q] * width
        for j in range(count):
            adjoints[row + j] += u[first + j, q]


@inlined
def seed(program, q, width, adjoints):
    """Add 1 to the adjoint of output q."""
    row = program.outputs[q] * width
    for j in range(0, width, lanes(adjoints)):
        one = broadcast(1, adjoints)
        store(adjoints, row + j, load(adjoints, row + j) + one)
