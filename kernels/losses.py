"""Losses of one sample, and BP1: the output layer's delta.

A loss is computed from the logits z where that avoids overflow and cancellation (cross_entropy
goes with softmax, binary_cross_entropy with sigmoid); there ``delta = a - y`` needs no f'.

Targets are a matrix (B, n_out); for cross_entropy a matrix (B, 1) holds class labels instead, and
a label that is no class gives NaN, never an access out of bounds.
"""

import math

from .activations import (
    SOFTMAX,
    largest,
    last_vector,
    times_derivative,
    times_tangent_derivative,
)
from .compiler import inlined, njit
from .elementary import exp, log1p
from .vectors import (
    absolute,
    accumulate,
    broadcast,
    count,
    first_lanes,
    insert,
    lanes,
    load,
    load_masked,
    reduce_add,
    select,
    store_masked,
)
from .views import flat, matrix, row

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
    if code == CROSS_ENTROPY:
        return _cross_entropy_sum(z, Y, weights)
    if weights is None:  # one long row: its vectors are full
        z, a, Y = matrix(z, 0, 1, z.size), matrix(a, 0, 1, a.size), matrix(Y, 0, 1, Y.size)
    total = 0.0
    for b in range(z.shape[0]):
        if code == SQUARED_ERROR:
            loss = _squared_error(row(a, b), row(Y, b))
        else:
            loss = _binary_cross_entropy(row(z, b), row(Y, b))
        total += sample_weight(weights, b) * loss
    return total


@njit
def output_delta(code, activation, slope, a, Y, weights, scale, delta):
    """BP1: ``delta[L] = dLoss/da[L] * f'(z[L])``, and `a - Y` where f' cancels.

    The loss is ``scale * sum(weight * loss)``. a, delta : (B, n_out), delta is overwritten.
    """
    if weights is None and code != CROSS_ENTROPY:
        _difference(flat(a), flat(Y), a.dtype.type(scale), flat(delta))
    else:
        for b in range(a.shape[0]):
            w = a.dtype.type(scale * sample_weight(weights, b))
            if code == CROSS_ENTROPY:
                _cross_entropy_delta(row(a, b), row(Y, b), w, row(delta, b))
            else:
                _difference(row(a, b), row(Y, b), w, row(delta, b))
    if code == SQUARED_ERROR:
        times_derivative(activation, slope, a, delta)


@njit
def output_curvature(code, activation, slope, a, Y, weights, scale, Ra, Rdelta):
    """Gauss-Newton's delta of the output: the loss' second derivative times the outputs' tangent.

    Exact for the matching pairs, where delta is linear in a. a, Ra, Rdelta : (B, n_out).
    """
    for b in range(a.shape[0]):
        mass = sample_weight(weights, b)
        if code == CROSS_ENTROPY and Y.shape[1] > 1:
            y = row(Y, b)
            mass *= sum_of(y)
        _scaled(a.dtype.type(scale * mass), row(Ra, b), row(Rdelta, b))
    if code == SQUARED_ERROR:
        times_derivative(activation, slope, a, Rdelta)


@njit
def output_tangent(code, activation, slope, a, Y, weights, scale, delta, Rz, Ra, Rdelta):
    """The derivative of `output_delta` along the direction in which z moves by Rz and a by Ra."""
    if code != SQUARED_ERROR:
        output_curvature(code, activation, slope, a, Y, weights, scale, Ra, Rdelta)
        return
    for b in range(a.shape[0]):
        w = a.dtype.type(scale * sample_weight(weights, b))
        if activation == SOFTMAX:
            _softmax_tangent(row(a, b), row(Y, b), w, row(Ra, b), row(Rdelta, b))
        else:
            _scaled(w, row(Ra, b), row(Rdelta, b))
    if activation != SOFTMAX:
        times_tangent_derivative(activation, slope, a, delta, Rz, Rdelta)


@inlined
def _scaled(w, x, out):
    """``out = w x``."""
    for j in range(0, x.size, lanes(x)):
        here = min(lanes(x), x.size - j)
        store_masked(out, j, w * load_masked(x, j, here), here)


@inlined
def sum_of(x):
    """Sum of a vector's elements, in float64."""
    total = 0.0
    for j in range(x.size):
        total += x[j]
    return total


@njit
def _softmax_tangent(a, y, w, Ra, Rdelta):
    """Derivative of ``delta = w a (g - sum(a g))`` with ``g = a - y``, along Ra."""
    mean = moved = 0.0
    for j in range(a.size):
        mean += a[j] * (a[j] - y[j])
        moved += Ra[j] * (a[j] - y[j]) + a[j] * Ra[j]
    for j in range(a.size):
        Rdelta[j] = w * (Ra[j] * (a[j] - y[j] - mean) + a[j] * (Ra[j] - moved))


@njit
def _squared_error(a, y):
    """``1/2 ||a - y||^2``."""
    total = broadcast(0.0, 0.0)
    for j in range(0, a.size, lanes(a)):
        here = min(lanes(a), a.size - j)
        difference = load_masked(a, j, here) - load_masked(y, j, here)
        total = accumulate(total, difference * difference)
    return 0.5 * reduce_add(total)


@njit
def _difference(a, y, w, delta):
    """``delta = w (a - y)``."""
    for j in range(0, a.size, lanes(a)):
        here = min(lanes(a), a.size - j)
        store_masked(delta, j, w * (load_masked(a, j, here) - load_masked(y, j, here)), here)


@njit
def _cross_entropy_sum(z, Y, weights):
    """Sum of ``-w sum(y log softmax(z)) = w sum(y (log(sum(exp(z))) - z))`` over samples.

    With k the place of the largest logit, ``log(sum(exp(z))) - z_k = log1p(sum over j != k)``,
    which keeps its digits when the loss is small. Logarithms wait until a vector is full of them.
    """
    width = lanes(z)
    logs, linear = broadcast(0.0, 0.0), 0.0
    for first in range(0, z.shape[0], width):
        others = masses = broadcast(0, z)
        for b in range(first, min(first + width, z.shape[0])):
            top, other = _others(row(z, b))
            mass, rest = _linear_part(row(z, b), row(Y, b), top)
            w = sample_weight(weights, b)
            linear += w * rest
            others = insert(others, b - first, other)
            masses = insert(masses, b - first, z.dtype.type(w * mass))
        logs = accumulate(logs, masses * log1p(others))
    return reduce_add(logs) + linear


@inlined
def _others(z):
    """(largest logit, sum of exp of the others less the largest)."""
    top, last = largest(z), last_vector(z)
    rest = z.size - last
    zero, there = broadcast(0, z), first_lanes(rest, z)
    x = load_masked(z, last, rest) - top
    below = select(there, _exp_below(x, zero), zero)
    ties = count(select(there, x, zero - z.dtype.type(1)) == zero)
    for j in range(0, last, lanes(z)):
        x = load(z, j) - top
        below = below + _exp_below(x, zero)
        ties += count(x == zero)
    return top, reduce_add(below) + z.dtype.type(ties - 1)


@inlined
def _linear_part(z, y, top):
    """(sum of y, sum of y (top - z)); y of one element is a label."""
    mass, total = 1.0, 0.0
    if y.size == 1:
        if 0 <= y[0] < z.size:
            total = float(top) - float(z[int(y[0])])
        else:
            total = math.nan
    else:
        mass = sum_of(y)
        for j in range(z.size):
            if y[j] != 0:  # 0 * inf: an impossible class that is not asked for costs nothing
                total += float(y[j]) * (float(top) - float(z[j]))
    return mass, total


@inlined
def _exp_below(x, zero):
    """``exp(x)``, and 0 where x is 0, the largest logit's own."""
    return select(x == zero, zero, exp(x))


@njit
def _cross_entropy_delta(a, y, w, delta):
    """``w (a - y)``; rows of `y` need not sum to 1, hence ``a sum(y) - y``."""
    if y.size == 1:
        label, zero = -1, broadcast(0, a)
        if 0 <= y[0] < a.size:
            label = int(y[0])
        else:
            w = a.dtype.type(math.nan)
        for j in range(0, a.size, lanes(a)):
            here = min(lanes(a), a.size - j)
            upto = select(first_lanes(label + 1 - j, a), broadcast(1, a), zero)
            target = select(first_lanes(label - j, a), zero, upto)
            store_masked(delta, j, w * (load_masked(a, j, here) - target), here)
    else:
        mass = y.dtype.type(sum_of(y))
        for j in range(a.size):
            delta[j] = w * (a[j] * mass - y[j])


@njit
def _binary_cross_entropy(z, y):
    """``-sum(y log(a) + (1 - y) log(1 - a))`` with a = sigmoid(z), as ``softplus(z) - y z``.

    Written as ``log1p(exp(-|z|))`` plus a part that is 0 for a sure and right answer.
    """
    total, zero, one = broadcast(0.0, 0.0), broadcast(0, z), broadcast(1, z)
    for j in range(0, z.size, lanes(z)):
        here = min(lanes(z), z.size - j)
        x, target = load_masked(z, j, here), load_masked(y, j, here)
        linear = select(x > zero, x * (one - target), -x * target)
        loss = log1p(exp(-absolute(x))) + linear
        total = accumulate(total, select(first_lanes(here, z), loss, zero))
    return reduce_add(total)
