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

from .activations import IDENTITY, activate, times_derivative
from .compiler import inlined
from .parallel import over_rows
from .product import (
    LOW,
    column_sum_add,
    matmul_bias,
    matmul_rows,
    matmul_transposed,
    outer_add,
)
from .views import rows

FEW = LOW  # samples from which on BP2 goes by tiles


@inlined
def linear_activation_forward(a_prev, W, b, activation, slope, a, threads):
    """``a = f(a_prev @ W + b)``; a (B, n_out) is overwritten, and is all that BP2 needs of z."""
    work = a_prev.size * a.shape[1]
    _forward_rows((a_prev, W, b, activation, slope, a), a.shape[0], work, threads)


@over_rows
def _forward_rows(state, first, count):
    a_prev, W, b, activation, slope, a = state
    a = rows(a, first, count)
    matmul_bias(rows(a_prev, first, count), W, b, a)
    if activation != IDENTITY:
        activate(activation, slope, a, a)


@inlined
def propagate_delta(delta, W, a_prev, activation, slope, delta_prev, threads):
    """BP2: ``delta_prev = (delta @ W.T) * f'(z_prev)``, with f' of the layer below.

    delta_prev (B, n_in) is overwritten.
    """
    if delta.shape[0] < FEW:
        matmul_rows(delta, W, delta_prev)
        times_derivative(activation, slope, a_prev, delta_prev)
    else:
        work = delta.size * delta_prev.shape[1]
        state = (delta, W, a_prev, activation, slope, delta_prev)
        _propagate_rows(state, delta.shape[0], work, threads)


@over_rows
def _propagate_rows(state, first, count):
    delta, W, a_prev, activation, slope, delta_prev = state
    delta_prev = rows(delta_prev, first, count)
    matmul_transposed(rows(delta, first, count), W, delta_prev)
    times_derivative(activation, slope, rows(a_prev, first, count), delta_prev)


@inlined
def accumulate_gradient(delta, a_prev, scale, dW, db, threads):
    """BP3 and BP4: ``dW += scale * a_prev.T @ delta``, ``db += scale * delta.sum(axis=0)``.

    dW (n_in, n_out), stored like W: the sum over the block of outer products. With W and b in place
    of dW and db, and ``scale = -lr``, it is a step of gradient descent that writes no gradient.
    """
    work = a_prev.size * delta.shape[1]
    _accumulate_rows((delta, a_prev, scale, dW), dW.shape[0], work, threads)
    column_sum_add(delta, scale, db)


@over_rows
def _accumulate_rows(state, first, count):
    delta, a_prev, scale, dW = state
    outer_add(a_prev, delta, scale, dW, first, count)
