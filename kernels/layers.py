"""The three kernels that backpropagation is made of, each over one layer and a block of samples.

Arguments: what is read first, what is written last. B samples, n_in -> n_out units.

==========  ================  ==========================================================
W           (n_in, n_out)     weights, stored transposed: row i holds what input i feeds
b           (n_out,)          biases
a_prev, a   (B, n_in), (B, n_out)   activations
delta       (B, n_out)        dLoss/dz
==========  ================  ==========================================================
"""

from .activations import activate, times_derivative
from .compiler import inlined
from .product import column_sum_add, matmul, matmul_add, matmul_bias, matmul_rows
from .transpose import transpose

# Samples from which on it pays to transpose W for BP2.
FEW = 8


@inlined
def linear_forward(a_prev, W, b, z):
    """``z = a_prev @ W + b``; z (B, n_out) is overwritten."""
    matmul_bias(a_prev, W, b, z)


@inlined
def linear_activation_forward(a_prev, W, b, activation, slope, a):
    """``a = f(a_prev @ W + b)``; a (B, n_out) is overwritten, and is all that BP2 needs of z."""
    linear_forward(a_prev, W, b, a)
    activate(activation, slope, a)


@inlined
def propagate_delta(delta, W, W_T, a_prev, activation, slope, delta_prev):
    """BP2: ``delta_prev = (delta @ W.T) * f'(z_prev)``, with f' of the layer below.

    delta_prev (B, n_in) is overwritten; W_T (n_out, n_in) is scratch for W transposed.
    """
    if delta.shape[0] < FEW:
        matmul_rows(delta, W, delta_prev)
    else:
        transpose(W, W_T)
        matmul(delta, W_T, delta_prev)
    times_derivative(activation, slope, a_prev, delta_prev)


@inlined
def accumulate_gradient(delta, a_prev, scale, dW, db):
    """BP3 and BP4: ``dW += scale * a_prev.T @ delta``, ``db += scale * delta.sum(axis=0)``.

    dW (n_in, n_out), stored like W: the sum over the block of outer products. With W and b in place
    of dW and db, and ``scale = -lr``, it is a step of gradient descent that writes no gradient.
    """
    matmul_add(a_prev.T, delta, scale, dW)
    column_sum_add(delta, scale, db)
