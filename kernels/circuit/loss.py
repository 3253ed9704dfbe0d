"""A circuit as a network's loss of one sample: a function of n_out outputs, then of the targets.

Kernels of networks call `apply_at` by its address, so that nothing is compiled again for it.
"""

import numpy as np

from .interpreter import (
    Program,
    backward,
    backward_tangent,
    clear_inputs,
    forward,
    forward_tangent,
    largest_workspace,
    put_constants,
    put_rows,
    section,
    seed,
    take_rows,
    width_of,
)
from ..compiler import inlined, njit
from ..mlp.own import CURVED, LOSS_SUM, PART, SLOPES
from ..gemm.tile import at, view
from ..simd.views import fill, matrix, row, vector, vector_at


def make_part(address, program):
    """Words (PART,) that say where `apply_at` and a `Program` are; who makes them keeps both alive.

    address : of `apply_at`, compiled for the program's dtype.
    """
    words = [address]
    for array in program[:6]:
        words += [array.ctypes.data, array.size]
    return np.array([*words, *program[6:]], np.int64)


@njit
def apply_at(part, what, n, n_out, a, Y, weights, scale, Ra, out, spare, like):
    """`apply` to arrays at these addresses, of the dtype of `like`; 0 is none at all."""
    words, index = vector_at(part, PART, part), np.int32(0)
    program = Program(
        vector_at(words[1], words[2], index),
        vector_at(words[3], words[4], index),
        vector_at(words[5], words[6], index),
        vector_at(words[7], words[8], index),
        vector_at(words[9], words[10], like),
        vector_at(words[11], words[12], like),
        words[13],
        words[14],
        words[15],
        words[16],
    )
    memory = vector_at(spare, largest_workspace(program), like)
    targets = matrix(vector_at(Y, 0, like), 0, n, program.n_inputs - n_out)
    w = vector_at(weights, n if weights != 0 else 0, like)
    outputs, moved, result = vector_at(a, 0, like), vector_at(Ra, 0, like), vector_at(out, 0, like)
    shaped = matrix(outputs, 0, n, n_out), matrix(moved, 0, n, n_out), matrix(result, 0, n, n_out)
    return apply(program, what, shaped[0], targets, w, scale, shaped[1], shaped[2], memory)


@njit
def apply(program, what, a, Y, weights, scale, Ra, out, spare):
    """The sum over samples of weight times loss, or else overwrites `out` (B, n_out): by `what`,

    SLOPES: ``scale * weight * dloss/da``. CURVED: the derivative of that as a moves by Ra.
    weights : (B,), or (0,) for 1.
    """
    order = 2 if what == CURVED else 1
    width, begin, n_out = width_of(program, a.shape[0], order), program.constants.size, a.shape[1]
    values, adjoints = section(program, spare, width, 0), section(program, spare, width, 1)
    tangents, turned = section(program, spare, width, 2), section(program, spare, width, 3)
    put_constants(program, width, values)
    fill(vector(spare, values.size, (2 * order - 1) * values.size), 0)
    total = 0.0
    for first in range(0, a.shape[0], width):
        count = min(width, a.shape[0] - first)
        put_rows(a, first, count, begin, width, values)
        put_rows(Y, first, count, begin + n_out, width, values)
        target = at(view(out), first, 0)
        clear_inputs(program, width, adjoints)
        if what == CURVED:
            clear_inputs(program, width, turned)
            put_rows(Ra, first, count, begin, width, tangents)
            forward_tangent(program, width, values, tangents)
            seed(program, 0, width, adjoints)
            backward_tangent(program, width, values, adjoints, tangents, turned)
            take_rows(turned, begin, n_out, width, target, count)
        else:
            forward(program, width, values)
            if what == SLOPES:
                seed(program, 0, width, adjoints)
                backward(program, width, values, adjoints)
                take_rows(adjoints, begin, n_out, width, target, count)
            else:
                total += _weighted(program, values, width, weights, first, count)
    if what != LOSS_SUM:
        _scale_rows(out, weights, scale)
    return total


@inlined
def _weighted(program, values, width, weights, first, count):
    """Sum of weight times value over a block of samples."""
    total, place = 0.0, program.outputs[0] * width
    for j in range(count):
        weight = 1.0 if weights.size == 0 else float(weights[first + j])
        total += weight * values[place + j]
    return total


@inlined
def _scale_rows(out, weights, scale):
    """``out *= scale * weights``, row by row."""
    for b in range(out.shape[0]):
        weight = scale if weights.size == 0 else scale * weights[b]
        factor, x = out.dtype.type(weight), row(out, b)
        for j in range(x.size):
            x[j] *= factor
