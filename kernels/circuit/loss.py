"""A circuit as a network's loss of one sample: a function of n_out outputs, then of the targets.

Its kernels are those of any loss (`mlp.losses`); which circuit it is they find at the address in
the network's options.
"""

import numpy as np

from ..abi import Double, Matrix, Vector
from ..compiler import inlined, kernel
from ..gemm.tile import at, view
from ..mlp.losses import Loss, Options, sample_weight
from ..simd.views import fill, matrix, row, vector_at
from .interpreter import (
    Program,
    clear_inputs,
    go_ahead_and_turn,
    go_back,
    go_forward,
    go_recording,
    put_constants,
    put_rows,
    seed,
    tables_of,
    tables_of_both,
    take_rows,
    width_of,
)

# What the words of a program at an address are: places and extents, then numbers.
(
    STEPS, N_STEPS, RUNS, N_RUNS, OUTPUTS, N_OUTPUTS, CONSTANTS, N_CONSTANTS,
    TIES, SLOTS, N_SLOTS, N_INPUTS, ROWS, TAPED, WIDTH, N_WORDS,
) = range(16)  # fmt: skip


def make_words(program):
    """Return the words (N_WORDS,) that say where a `Program` is; the caller keeps both alive."""
    words = np.zeros(N_WORDS, np.int64)
    for place, size, array in (
        (STEPS, N_STEPS, program.steps),
        (RUNS, N_RUNS, program.runs),
        (OUTPUTS, N_OUTPUTS, program.outputs),
        (CONSTANTS, N_CONSTANTS, program.constants),
        (SLOTS, N_SLOTS, program.slots),
    ):
        words[place], words[size] = array.ctypes.data, len(array)
    words[TIES], words[N_INPUTS] = program.ties.ctypes.data, program.n_inputs
    words[ROWS], words[TAPED], words[WIDTH] = program.rows, program.taped, program.width
    return words


@inlined
def program_at(address, like):
    """Return the `Program` whose words are at an address, of the dtype of `like`."""
    words, index = vector_at(address, N_WORDS, np.int64(0)), np.int32(0)
    n_steps, n_runs, n_slots = words[N_STEPS], words[N_RUNS], words[N_SLOTS]
    return Program(
        matrix(vector_at(words[STEPS], 3 * n_steps, index), 0, n_steps, 3),
        matrix(vector_at(words[RUNS], 4 * n_runs, index), 0, n_runs, 4),
        vector_at(words[OUTPUTS], words[N_OUTPUTS], index),
        vector_at(words[CONSTANTS], words[N_CONSTANTS], like),
        vector_at(words[TIES], 2, like),
        matrix(vector_at(words[SLOTS], 5 * n_slots, words[0]), 0, n_slots, 5),
        words[N_INPUTS],
        words[ROWS],
        words[TAPED],
        words[WIDTH],
    )


@kernel(name="total.circuit")
def total(
    z: Matrix, a: Matrix, Y: Matrix, weights: Vector, options: Options, spare: Vector
) -> Double:
    """Compute `losses.total` of a circuit."""
    program = program_at(options.circuit, a)
    width, result = width_of(program, a.shape[0], 1), 0.0
    values = tables_of(program, spare, width, 0).values
    put_constants(program, width, values)
    for first in range(0, a.shape[0], width):
        count = min(width, a.shape[0] - first)
        _put(program, a, Y, first, count, width, values)
        go_forward(program, width, values)
        place = program.outputs[0] * width
        for j in range(count):
            result += sample_weight(weights, first + j) * values[place + j]
    return result


@kernel(name="slopes.circuit")
def slopes(
    a: Matrix, Y: Matrix, weights: Vector, scale: Double, out: Matrix, options: Options,
    spare: Vector,
):  # fmt: skip
    """Compute `losses.slopes` of a circuit."""
    program = program_at(options.circuit, a)
    width, begin, n_out = width_of(program, a.shape[0], 1), program.constants.size, a.shape[1]
    at_a = tables_of(program, spare, width, 0)
    put_constants(program, width, at_a.values)
    fill(at_a.adjoints, 0)
    for first in range(0, a.shape[0], width):
        count = min(width, a.shape[0] - first)
        _put(program, a, Y, first, count, width, at_a.values)
        clear_inputs(program, width, at_a.adjoints)
        go_recording(program, width, at_a)
        seed(program, 0, width, at_a.adjoints)
        go_back(program, width, at_a)
        take_rows(at_a.adjoints, begin, n_out, width, at(view(out), first, 0), count)
    _scale_rows(out, weights, scale)


@kernel(name="curved.circuit")
def curved(
    a: Matrix, Y: Matrix, weights: Vector, scale: Double, Rz: Matrix, Ra: Matrix,
    out: Matrix, options: Options, spare: Vector,
):  # fmt: skip
    """Compute `losses.curved` of a circuit."""
    program = program_at(options.circuit, a)
    width, begin, n_out = width_of(program, a.shape[0], 2), program.constants.size, a.shape[1]
    at_a, R = tables_of_both(program, spare, width)
    for first in range(0, a.shape[0], width):
        count = min(width, a.shape[0] - first)
        _put(program, a, Y, first, count, width, at_a.values)
        put_rows(Ra, first, count, begin, width, R.values)
        go_ahead_and_turn(program, width, at_a, R)
        take_rows(R.adjoints, begin, n_out, width, at(view(out), first, 0), count)
    _scale_rows(out, weights, scale)


@inlined
def _put(program, a, Y, first, count, width, values):
    """Write outputs and targets into the rows of inputs."""
    begin = program.constants.size
    put_rows(a, first, count, begin, width, values)
    put_rows(Y, first, count, begin + a.shape[1], width, values)


@inlined
def _scale_rows(out, weights, scale):
    """Compute ``out *= scale * weights``, row by row."""
    for b in range(out.shape[0]):
        factor, x = out.dtype.type(scale * sample_weight(weights, b)), row(out, b)
        for j in range(x.size):
            x[j] *= factor


def loss_of(name):
    """Return the record of a circuit as a loss, of any output."""
    return Loss(name, total, slopes, curved, curved)
