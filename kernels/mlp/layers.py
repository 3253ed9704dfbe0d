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

import numpy.typing as npt

from ..abi import Double, Matrix, Real, Vector, Word
from ..blocks import CHUNK_OF_COLUMNS, INNER, way_delta
from ..compiler import inlined, kernel, name_of, slot_named
from ..gemm.matmul import (
    Part,
    column_sum_add,
    matmul_bias,
    matmul_rows,
    matmul_transposed,
    outer_add,
)
from ..gemm.parallel import over_parts
from ..simd.views import copy, is_same, matrix, row
from .activations import ACTIVATIONS, activate, tangent
from .sample import add_outer, back_row, forward_row


class Function(NamedTuple):
    """An activation as a layer takes it: slots of its kernels (0: none), and its parameter."""

    activate: Word
    tangent: Word
    of_rows: Word
    parameter: Double

    def __reduce__(self):
        """Pickle kernels by their names: in another process they are elsewhere."""
        names = name_of(self.activate), name_of(self.tangent)
        return _restored, (*names, self.of_rows, self.parameter)


def _restored(activate, tangent, of_rows, parameter):
    """Return the function that was pickled, with the kernels of this process."""
    return Function(slot_named(activate), slot_named(tangent), of_rows, parameter)


def function_of(name: str, dtype: npt.DTypeLike, parameter: float = 0.0) -> Function:
    """Make the `Function` of an activation, for the kernels of one layer.

    Parameters
    ----------
    name : str
        A key of `ACTIVATIONS`.
    dtype : dtype
        float32 or float64, of the arrays.
    parameter : float
        The slope of leaky_relu for z < 0.

    Returns
    -------
    Function
        Slots of the activation's kernels, and its parameter.

    Raises
    ------
    KeyError
        If there is no activation of that name.
    """
    f = ACTIVATIONS[name]
    slots = [0 if k is None else k.slot(dtype) for k in (f.activate, f.tangent)]
    return Function(*slots, int(f.of_rows), float(parameter))


@kernel
def linear_activation_forward(
    a_prev: Matrix, W: Matrix, b: Vector, f: Function, z: Matrix, a: Matrix, threads: Word
) -> None:
    """Compute one layer forward: ``z = a_prev @ W + b``, ``a = f(z)``.

    Parameters
    ----------
    a_prev : array (B, n_in)
        Activations of the layer below.
    W : array (n_in, n_out)
        Weights, transposed: row i holds what input i feeds.
    b : array (n_out,)
        Biases.
    f : Function
        The activation, made by `function_of`.
    z, a : array (B, n_out)
        Pre-activations and activations, overwritten; they may be one array.
    threads : int
        Threads that may help; the bits are the same for any number.
    """
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
    """Compute ``a = f(z)``."""
    if f.activate != 0:
        activate(f.activate, z, a, f.parameter)
    elif not is_same(z, a):
        copy(z, a)


@inlined
def times_derivative(f, x, g):
    """Compute ``g *= f'(z)``, in place; x is what f' is computed from (see `activations`)."""
    if f.tangent != 0:
        tangent(f.tangent, x, g, g, f.parameter)


@kernel
def propagate_delta(
    delta: Matrix, W: Matrix, x_prev: Matrix, f: Function, delta_prev: Matrix, threads: Word
) -> None:
    """Propagate delta one layer down, BP2: ``delta_prev = (delta @ W.T) * f'(z_prev)``.

    Parameters
    ----------
    delta : array (B, n_out)
        The derivative of the loss with respect to z of this layer.
    W : array (n_in, n_out)
        Weights of this layer, transposed.
    x_prev : array (B, n_in)
        What f' is computed from: z_prev if the activation's record is `of_z`, else a_prev.
    f : Function
        The activation of the layer below, made by `function_of`.
    delta_prev : array (B, n_in)
        The derivative with respect to z of the layer below, overwritten.
    threads : int
        Threads that may help; the bits are the same for any number.
    """
    if way_delta(delta.shape[0]) == INNER:
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
) -> None:
    """Add a layer's gradient, BP3 ``dW += scale * a_prev.T @ delta`` and BP4 ``db += scale * sum``.

    With W and b in place of dW and db, and ``scale = -lr``, it is a step of gradient descent that
    writes no gradient.

    Parameters
    ----------
    delta : array (B, n_out)
        The derivative of the loss with respect to z of the layer.
    a_prev : array (B, n_in)
        Activations of the layer below.
    scale : float
        A factor, of the arrays' dtype.
    dW : array (n_in, n_out)
        Added to; transposed, like W.
    db : array (n_out,)
        Added to: ``scale * delta.sum(axis=0)``.
    threads : int
        Threads that may help; the bits are the same for any number.
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
    """Return whether threads share the columns of the result c, or its rows.

    What one of them writes the others fetch from its cache. By rows those are W and its panels; by
    columns each has its own part of W, and fetches a. (Softmax needs whole rows.)
    """
    return W.size >= 2 * a.size and c.shape[1] >= CHUNK_OF_COLUMNS * threads and of_rows == 0


@inlined
def _height(c, part):
    """Return how many rows of a part of c are one piece of memory."""
    return max(part.rows, 1) if part.columns == c.shape[1] else 1


@inlined
def _block(c, part, first):
    """Return the block of c from row `first` on that is one piece of memory."""
    n, at, height, width = c.shape[1], 0, part.rows, part.columns
    if width != n:
        at, height = part.column, 1
    return matrix(c, first * n + at, height, width)


# Their text, which the sweeps inline.
forward_layer, back_layer = linear_activation_forward.inlined, propagate_delta.inlined
gradient_layer = accumulate_gradient.inlined
