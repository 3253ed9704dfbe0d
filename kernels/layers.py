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
from .compiler import njit
from .product import matmul, matmul_add, matmul_bias


@njit
def linear_forward(a_prev, W, b, z):
    """``z = a_prev @ W + b``; z (B, n_out) is overwritten."""
    matmul_bias(a_prev, W, b, z)


@njit
def linear_activation_forward(a_prev, W, b, activation, slope, a):
    """``a = f(a_prev @ W + b)``; a (B, n_out) is overwritten, and is all that BP2 needs of z."""
    linear_forward(a_prev, W, b, a)
    activate(activation, slope, a)


@njit
def propagate_delta(delta, W_T, a_prev, activation, slope, delta_prev):
    """BP2: ``delta_prev = (delta @ W.T) * f'(z_prev)``, with f' of the layer below.

    W_T (n_out, n_in) is W transposed; delta_prev (B, n_in) is overwritten.
    """
    matmul(delta, W_T, delta_prev)
    times_derivative(activation, slope, a_prev, delta_prev)


@njit
def accumulate_gradient(delta, a_prev, dW, db):
    """BP3 and BP4: add ``a_prev.T @ delta`` to dW and ``delta.sum(axis=0)`` to db.

    dW (n_in, n_out), stored like W: the sum over the block of outer products.
    """
    matmul_add(a_prev.T, delta, dW.dtype.type(1), dW)
    for row in range(delta.shape[0]):
        for j in range(delta.shape[1]):
            db[j] += delta[row, j]
