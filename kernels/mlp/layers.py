"""The three steps that backpropagation is made of, each over one layer and a block of samples.

Arguments: what is read first, what is written then, how many threads may help last. B samples,
n_in -> n_out units. One sample alone goes by the kernels of `sample`.

=========  ========================  ===========================================================
W          (n_in, n_out)             weights, stored transposed: row i holds what input i feeds
b          (n_out,)                  biases
a_prev, a  (B, n_in), (B, n_out)     activations
delta      (B, n_out)                dLoss/dz
=========  ========================  ===========================================================
"""

from typing import NamedTuple

from ..abi import Double, Matrix, Real, Vector, Word
from ..compiler import inlined, kernel, name_of, slot_named
from ..gemm.matmul import (
    Part,
    column_sum_add,
    matmul_bias,
    matmul_rows,
    matmul_transposed,
    outer_add,
)
from ..gemm.parallel import PANEL, over_parts
from ..gemm.product import LOW
from ..simd.views import copy, is_same, matrix, row
from .activations import ACTIVATIONS, activate, tangent
from .sample import add_outer, back_row, forward_row

FEW = LOW  # samples from which on BP2 goes by tiles


class Function(NamedTuple):
    """An activation as a layer takes it: slots of its kernels (0: nothing to do), its parameter."""

    activate: Word
    tangent: Word
    of_rows: Word
    parameter: Double

    def __reduce__(self):
        """Pickle kernels by their names: in another process they are elsewhere."""
        return _restored, (name_of(self.activate), name_of(self.tangent), *self[2:])


def _restored(activate, tangent, *others):
    """The function that was pickled, with the kernels of this process."""
    return Function(slot_named(activate), slot_named(tangent), *others)


def function_of(name, dtype, parameter=0.0):
    """Make the `Function` of an activation's name, for arrays of a dtype."""
    f = ACTIVATIONS[name]
    slots = [0 if k is None else k.slot(dtype) for k in (f.activate, f.tangent)]
    return Function(*slots, int(f.of_rows), float(parameter))


@kernel
def linear_activation_forward(
    a_prev: Matrix, W: Matrix, b: Vector, f: Function, z: Matrix, a: Matrix, threads: Word
):
    """``z = a_prev @ W + b``, ``a = f(z)``; z and a (B, n_out) are overwritten, and may be one."""
    if a_prev.shape[0] == 1:
        forward_row(row(a_prev, 0), W, b, row(z, 0))
        _activate(f, z, a)
    else:
        work, by_columns = a_prev.size * a.shape[1], _by_columns(a, W, a, f.of_rows, threads)
        _forward_part((a_prev, W, b, f, z, a), a.shape, by_columns, work, threads)


@over_parts
@kernel
def _forward_part(
    a_prev: Matrix, W: Matrix, b: Vector, f: Function, z: Matrix, a: Matrix, part: Part
):
    matmul_bias(a_prev, W, b, z, part)
    for first in range(part.row, part.row + part.rows, _height(a, part)):
        _activate(f, _block(z, part, first), _block(a, part, first))


@inlined
def _activate(f, z, a):
    """``a = f(z)``."""
    if f.activate != 0:
        activate(f.activate, z, a, f.parameter)
    elif not is_same(z, a):
        copy(z, a)


@inlined
def times_derivative(f, x, g):
    """``g *= f'(z)``, in place; x is what f' is computed from (see `activations`)."""
    if f.tangent != 0:
        tangent(f.tangent, x, g, g, f.parameter)


@kernel
def propagate_delta(
    delta: Matrix, W: Matrix, x_prev: Matrix, f: Function, delta_prev: Matrix, threads: Word
):
    """BP2: ``delta_prev = (delta @ W.T) * f'(z_prev)``, with f of the layer below.

    x_prev (B, n_in) : what f' is computed from, a_prev (for gelu, silu and sin z_prev). delta_prev
    (B, n_in) is overwritten.
    """
    if delta.shape[0] < FEW:
        if delta.shape[0] == 1:
            back_row(row(delta, 0), W, row(delta_prev, 0))
        else:
            matmul_rows(delta, W, delta_prev)
        times_derivative(f, x_prev, delta_prev)
    else:
        work = delta.size * delta_prev.shape[1]
        by_columns = _by_columns(delta_prev, W, delta, f.of_rows, threads)
        state = (delta, W, x_prev, f, delta_prev)
        _propagate_part(state, delta_prev.shape, by_columns, work, threads)


@over_parts
@kernel
def _propagate_part(
    delta: Matrix, W: Matrix, x_prev: Matrix, f: Function, delta_prev: Matrix, part: Part
):
    matmul_transposed(delta, W, delta_prev, part)
    for first in range(part.row, part.row + part.rows, _height(x_prev, part)):
        times_derivative(f, _block(x_prev, part, first), _block(delta_prev, part, first))


@kernel
def accumulate_gradient(
    delta: Matrix, a_prev: Matrix, scale: Real, dW: Matrix, db: Vector, threads: Word
):
    """BP3 and BP4: ``dW += scale * a_prev.T @ delta``, ``db += scale * delta.sum(axis=0)``.

    dW (n_in, n_out), stored like W: the sum over the block of outer products. With W and b in place
    of dW and db, and ``scale = -lr``, it is a step of gradient descent that writes no gradient.
    """
    if delta.shape[0] == 1:
        add_outer(row(a_prev, 0), row(delta, 0), scale, dW, db)
    else:
        work, by_columns = a_prev.size * delta.shape[1], _by_columns(dW, dW, delta, 0, threads)
        _accumulate_part((delta, a_prev, scale, dW, db), dW.shape, by_columns, work, threads)


@over_parts
@kernel
def _accumulate_part(
    delta: Matrix, a_prev: Matrix, scale: Real, dW: Matrix, db: Vector, part: Part
):
    outer_add(a_prev, delta, scale, dW, part)
    if part.row == 0:
        column_sum_add(delta, scale, db, part.column, part.columns)


@inlined
def _by_columns(c, W, a, of_rows, threads):
    """Do threads share the columns of the result c, or its rows?

    What one of them writes the others fetch from its cache. By rows those are W and its panels; by
    columns each has its own part of W, and fetches a. (Softmax needs whole rows.)
    """
    return W.size >= 2 * a.size and c.shape[1] >= PANEL * threads and of_rows == 0


@inlined
def _height(c, part):
    """Rows of a block of c that is one piece of memory."""
    return max(part.rows, 1) if part.columns == c.shape[1] else 1


@inlined
def _block(c, part, first):
    """That block, from row `first` on."""
    n, at, height, width = c.shape[1], 0, part.rows, part.columns
    if width != n:
        at, height = part.column, 1
    return matrix(c, first * n + at, height, width)


# As the sweeps have them: their text.
forward_layer, back_layer = linear_activation_forward.inlined, propagate_delta.inlined
gradient_layer = accumulate_gradient.inlined
