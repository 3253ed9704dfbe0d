"""The three kernels that backpropagation is made of, each over one layer and a block of samples.

Arguments: what is read first, what is written then, how many threads may help last. B samples,
n_in -> n_out units.

=========  ========================  ===========================================================
W          (n_in, n_out)             weights, stored transposed: row i holds what input i feeds
b          (n_out,)                  biases
a_prev, a  (B, n_in), (B, n_out)     activations
delta      (B, n_out)                dLoss/dz
=========  ========================  ===========================================================
"""

from .activations import IDENTITY, activate, of_rows, times_derivative
from .compiler import inlined
from .matmul import column_sum_add, matmul_bias, matmul_rows, matmul_transposed, outer_add
from .parallel import PANEL, over_parts
from .product import LOW
from .views import matrix, rows

FEW = LOW  # samples from which on BP2 goes by tiles


@inlined
def linear_activation_forward(a_prev, W, b, activation, slope, a, threads):
    """``a = f(a_prev @ W + b)``; a (B, n_out) is overwritten, and is all that BP2 needs of z."""
    work = a_prev.size * a.shape[1]
    state = a_prev, W, b, activation, slope, a
    by_columns = _by_columns(a, W, a, activation, threads)
    _forward_part(state, a.shape, by_columns, work, threads)


@over_parts
def _forward_part(state, part):
    a_prev, W, b, activation, slope, a = state
    matmul_bias(a_prev, W, b, a, part)
    if activation != IDENTITY:
        for first in range(part.row, part.row + part.rows, _height(a, part)):
            x = _block(a, part, first)
            activate(activation, slope, x, x)


@inlined
def propagate_delta(delta, W, x_prev, activation, slope, delta_prev, threads):
    """BP2: ``delta_prev = (delta @ W.T) * f'(z_prev)``, with f' of the layer below.

    x_prev (B, n_in) : what f' is computed from, a_prev (for gelu, silu and sin z_prev). delta_prev
    (B, n_in) is overwritten.
    """
    if delta.shape[0] < FEW:
        matmul_rows(delta, W, delta_prev)
        times_derivative(activation, slope, x_prev, delta_prev)
    else:
        work = delta.size * delta_prev.shape[1]
        state = (delta, W, x_prev, activation, slope, delta_prev)
        by_columns = _by_columns(delta_prev, W, delta, activation, threads)
        _propagate_part(state, delta_prev.shape, by_columns, work, threads)


@over_parts
def _propagate_part(state, part):
    delta, W, x_prev, activation, slope, delta_prev = state
    matmul_transposed(delta, W, delta_prev, part)
    for first in range(part.row, part.row + part.rows, _height(x_prev, part)):
        x, y = _block(x_prev, part, first), _block(delta_prev, part, first)
        times_derivative(activation, slope, x, y)


@inlined
def accumulate_gradient(delta, a_prev, scale, dW, db, threads):
    """BP3 and BP4: ``dW += scale * a_prev.T @ delta``, ``db += scale * delta.sum(axis=0)``.

    dW (n_in, n_out), stored like W: the sum over the block of outer products. With W and b in place
    of dW and db, and ``scale = -lr``, it is a step of gradient descent that writes no gradient.
    """
    work = a_prev.size * delta.shape[1]
    by_columns = _by_columns(dW, dW, delta, IDENTITY, threads)
    _accumulate_part((delta, a_prev, scale, dW, db), dW.shape, by_columns, work, threads)


@over_parts
def _accumulate_part(state, part):
    delta, a_prev, scale, dW, db = state
    outer_add(a_prev, delta, scale, dW, part)
    if part.row == 0:
        column_sum_add(delta, scale, db, part.column, part.columns)


@inlined
def _by_columns(c, W, a, activation, threads):
    """Do threads share the columns of the result c, or its rows?

    What one of them writes the others fetch from its cache. By rows those are W and its panels; by
    columns each has its own part of W, and fetches a. (Softmax needs whole rows.)
    """
    return W.size >= 2 * a.size and c.shape[1] >= PANEL * threads and not of_rows(activation)


@inlined
def _height(c, part):
    """Rows of a block of c that is one piece of memory."""
    return max(part.rows, 1) if part.columns == c.shape[1] else 1


@inlined
def _block(c, part, first):
    """That block, from row `first` on."""
    if part.columns == c.shape[1]:
        return rows(c, first, part.rows)
    return matrix(c, first * c.shape[1] + part.column, 1, part.columns)
