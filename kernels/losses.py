"""Losses of one sample, and BP1: the output layer's delta.

A loss is computed from the logits z where that avoids overflow and cancellation (cross_entropy
goes with softmax, binary_cross_entropy with sigmoid); there ``delta = a - y`` needs no f'.

Targets are a matrix (B, n_out); for cross_entropy a matrix (B, 1) holds class labels instead, and
a label that is no class gives NaN, never an access out of bounds.
"""

import math

from .activations import times_derivative
from .compiler import inlined, njit
from .elementary import exp, log1p
from .views import vector

SQUARED_ERROR, CROSS_ENTROPY, BINARY_CROSS_ENTROPY = range(3)

LOSSES = {
    "squared_error": SQUARED_ERROR,
    "cross_entropy": CROSS_ENTROPY,
    "binary_cross_entropy": BINARY_CROSS_ENTROPY,
}


@inlined
def sample_weight(weights, b):
    """Weight of sample `b`; None means 1 for all."""
    if weights is None:
        return 1.0
    return float(weights[b])


@njit
def loss_sum(code, z, a, Y, weights):
    """Sum over samples of weight times loss, in float64.

    z, a : (B, n_out), the output layer's logits and activations. Y : (B, n_out) or (B, 1) labels.
    """
    n = z.shape[1]
    total = 0.0
    for b in range(z.shape[0]):
        row_z, row_a = vector(z, b * n, n), vector(a, b * n, n)
        row_y = vector(Y, b * Y.shape[1], Y.shape[1])
        if code == SQUARED_ERROR:
            loss = _squared_error(row_a, row_y)
        elif code == CROSS_ENTROPY:
            loss = _cross_entropy(row_z, row_y)
        else:
            loss = _binary_cross_entropy(row_z, row_y)
        total += sample_weight(weights, b) * loss
    return total


@njit
def output_delta(code, activation, slope, a, Y, weights, scale, delta):
    """BP1: ``delta[L] = dLoss/da[L] * f'(z[L])``, and `a - Y` where f' cancels.

    The loss is ``scale * sum(weight * loss)``. a, delta : (B, n_out), delta is overwritten.
    """
    n = a.shape[1]
    for b in range(a.shape[0]):
        w = a.dtype.type(scale * sample_weight(weights, b))
        row_a, row_delta = vector(a, b * n, n), vector(delta, b * n, n)
        row_y = vector(Y, b * Y.shape[1], Y.shape[1])
        if code == CROSS_ENTROPY:
            _cross_entropy_delta(row_a, row_y, w, row_delta)
        else:
            for j in range(n):
                row_delta[j] = w * (row_a[j] - row_y[j])
    if code == SQUARED_ERROR:
        times_derivative(activation, slope, a, delta)


@njit
def _squared_error(a, y):
    """``1/2 ||a - y||^2``."""
    total = 0.0
    for j in range(a.size):
        difference = float(a[j]) - float(y[j])
        total += difference * difference
    return 0.5 * total


@njit
def _cross_entropy(z, y):
    """``-sum(y log softmax(z)) = sum(y (log(sum(exp(z))) - z))``.

    With k the place of the largest logit, ``log(sum(exp(z))) - z_k = log1p(sum over j != k)``,
    which keeps its digits when the loss is small.
    """
    k = 0
    for j in range(1, z.size):
        if z[j] > z[k]:
            k = j
    others = 0.0
    for j in range(z.size):
        if j != k:
            others += exp(float(z[j]) - float(z[k]))
    spread = log1p(others)
    if y.size == 1:
        if not 0 <= y[0] < z.size:
            return math.nan
        return spread + (float(z[k]) - float(z[int(y[0])]))
    total = 0.0
    for j in range(z.size):
        if y[j] != 0:  # 0 * inf: an impossible class that is not asked for costs nothing
            total += float(y[j]) * (spread + (float(z[k]) - float(z[j])))
    return total


@njit
def _cross_entropy_delta(a, y, w, delta):
    """``w (a - y)``; rows of `y` need not sum to 1, hence ``a sum(y) - y``."""
    if y.size == 1:
        if not 0 <= y[0] < a.size:
            w = a.dtype.type(math.nan)
        for j in range(a.size):
            delta[j] = w * a[j]
            if j == y[0]:
                delta[j] -= w
    else:
        mass = y.dtype.type(0)
        for j in range(a.size):
            mass += y[j]
        for j in range(a.size):
            delta[j] = w * (a[j] * mass - y[j])


@njit
def _binary_cross_entropy(z, y):
    """``-sum(y log(a) + (1 - y) log(1 - a))`` with a = sigmoid(z), as ``softplus(z) - y z``.

    Written as ``log1p(exp(-|z|))`` plus a part that is 0 for a sure and right answer.
    """
    total = 0.0
    for j in range(z.size):
        zj, yj = float(z[j]), float(y[j])
        total += log1p(exp(-abs(zj))) + (zj * (1.0 - yj) if zj > 0.0 else -zj * yj)
    return total
