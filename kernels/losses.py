"""Losses of one sample, and BP1: the output layer's delta.

A loss is computed from the logits z where that avoids overflow and cancellation (cross_entropy
goes with softmax, binary_cross_entropy with sigmoid, poisson with exp, gaussian_nll with gaussian);
there ``delta = a - y`` needs no f'. All others are sums over outputs of a function phi of the
residual ``r = a - y``. `bend` is where phi bends: huber's threshold, or the quantile.

A loss may be a circuit (`own`), then Y has what the circuit asks for. Else targets are a matrix
(B, n_out); for cross_entropy a matrix (B, 1) holds class labels instead, and a label that is no
class gives NaN, never an access out of bounds. For gaussian_nll they are half as many as the
outputs, which are means first, variances then.
"""

import math

import numpy as np
from numba.extending import register_jitable

from .activations import (
    SOFTMAX,
    largest,
    last_vector,
    times_derivative,
    times_tangent_derivative,
)
from .compiler import OPTIONS, inlined, njit
from .elementary import exp, log1p
from .own import CURVED, FIRST, LOSS_SUM, SLOPES, own_loss
from .vectors import (
    absolute,
    accumulate,
    broadcast,
    count,
    first_lanes,
    fma,
    insert,
    lanes,
    load,
    load_masked,
    maximum,
    minimum,
    reduce_add,
    select,
    store_masked,
)
from .views import flat, matrix, row

(
    SQUARED_ERROR, HUBER, ABSOLUTE_ERROR, QUANTILE, CROSS_ENTROPY, BINARY_CROSS_ENTROPY, POISSON,
    GAUSSIAN_NLL,
) = range(8)  # fmt: skip

LOSSES = {
    "squared_error": SQUARED_ERROR,
    "huber": HUBER,
    "absolute_error": ABSOLUTE_ERROR,
    "quantile": QUANTILE,
    "cross_entropy": CROSS_ENTROPY,
    "binary_cross_entropy": BINARY_CROSS_ENTROPY,
    "poisson": POISSON,
    "gaussian_nll": GAUSSIAN_NLL,
}


@register_jitable(**OPTIONS)
def of_residual(code):
    """Whether the loss is a sum of phi(a - y)."""
    return code <= QUANTILE


@register_jitable(**OPTIONS)
def is_own(code):
    """Whether the loss is a circuit: code is where it is."""
    return code >= FIRST


@register_jitable(**OPTIONS)
def needs_derivative(code):
    """Whether delta needs f'; else the loss matches the output, and delta is linear in a."""
    return of_residual(code) or is_own(code)


@njit
def phi(code, bend, r):
    """The loss of a residual, a vector register; not of SQUARED_ERROR."""
    if code == HUBER:
        near = minimum(broadcast(bend, r), absolute(r))
        return near * (absolute(r) - broadcast(0.5, r) * near)
    return r * slope_of_phi(code, bend, r)


@njit
def slope_of_phi(code, bend, r):
    """phi'(r), 0 at a kink; the residual itself where delta is a - y."""
    zero, one = broadcast(0, r), broadcast(1, r)
    if code == HUBER:
        most = broadcast(bend, r)
        return maximum(-most, minimum(most, r))
    if code == ABSOLUTE_ERROR:
        return select(r > zero, one, select(r < zero, -one, r))
    if code == QUANTILE:
        above = one - broadcast(bend, r)
        return select(r > zero, above, select(r < zero, -broadcast(bend, r), r))
    return r


@register_jitable(**OPTIONS)
def curve_of_phi(code, bend, r):
    """phi''(r)."""
    zero, one = broadcast(0, r), broadcast(1, r)
    if code == HUBER:
        return select(absolute(r) <= broadcast(bend, r), one, zero)
    if code in (ABSOLUTE_ERROR, QUANTILE):
        return zero
    return one


@inlined
def sample_weight(weights, b):
    """Weight of sample `b`; None means 1 for all."""
    if weights is None:
        return 1.0
    return float(weights[b])


@njit
def loss_sum(code, bend, z, a, Y, weights, spare):
    """Sum over samples of weight times loss, in float64.

    z, a : (B, n_out), the output layer's logits and activations. Y : (B, n_out) or (B, 1) labels.
    spare : scratch memory for a circuit.
    """
    if is_own(code):
        return own_loss(code, LOSS_SUM, a, Y, weights, 1.0, None, a, spare)
    if code == CROSS_ENTROPY:
        return _cross_entropy_sum(z, Y, weights)
    if weights is None and code != GAUSSIAN_NLL:  # one long row: its vectors are full
        z, a, Y = matrix(z, 0, 1, z.size), matrix(a, 0, 1, a.size), matrix(Y, 0, 1, Y.size)
    total = 0.0
    for b in range(z.shape[0]):
        if of_residual(code):
            loss = _phi_sum(code, bend, row(a, b), row(Y, b))
        elif code == BINARY_CROSS_ENTROPY:
            loss = _binary_cross_entropy(row(z, b), row(Y, b))
        elif code == POISSON:
            loss = _poisson(row(z, b), row(a, b), row(Y, b))
        else:
            loss = _gaussian_nll(row(z, b), row(Y, b))
        total += sample_weight(weights, b) * loss
    return total


@njit
def output_delta(code, bend, activation, slope, a, Y, weights, scale, delta, spare):
    """BP1: ``delta[L] = dLoss/da[L] * f'(z[L])``, and `a - Y` where f' cancels.

    The loss is ``scale * sum(weight * loss)``. a, delta : (B, n_out), delta is overwritten.
    """
    if is_own(code):
        own_loss(code, SLOPES, a, Y, weights, scale, None, delta, spare)
    elif weights is None and code not in (CROSS_ENTROPY, GAUSSIAN_NLL):
        _slopes(code, bend, flat(a), flat(Y), a.dtype.type(scale), flat(delta))
    else:
        for b in range(a.shape[0]):
            w = a.dtype.type(scale * sample_weight(weights, b))
            if code == CROSS_ENTROPY:
                _cross_entropy_delta(row(a, b), row(Y, b), w, row(delta, b))
            elif code == GAUSSIAN_NLL:
                _gaussian_delta(row(a, b), row(Y, b), w, row(delta, b))
            else:
                _slopes(code, bend, row(a, b), row(Y, b), w, row(delta, b))
    if needs_derivative(code):
        times_derivative(activation, slope, a, delta)


@njit
def output_curvature(code, bend, activation, slope, a, Y, weights, scale, Rz, Ra, Rdelta, spare):
    """Gauss-Newton's delta of the output: the loss' second derivative times the outputs' tangent.

    Exact for the matching pairs, where delta is linear in a; for gaussian_nll its mean over y, the
    Fisher information. a, Rz, Ra, Rdelta : (B, n_out).
    """
    if is_own(code):
        own_loss(code, CURVED, a, Y, weights, scale, Ra, Rdelta, spare)
    else:
        _curvatures(code, bend, a, Y, weights, scale, Rz, Ra, Rdelta)
    if needs_derivative(code):
        times_derivative(activation, slope, a, Rdelta)


@inlined
def _curvatures(code, bend, a, Y, weights, scale, Rz, Ra, Rdelta):
    """The same before f', of all losses but circuits."""
    for b in range(a.shape[0]):
        mass = sample_weight(weights, b)
        if code == CROSS_ENTROPY and Y.shape[1] > 1:
            mass *= sum_of(row(Y, b))
        w = a.dtype.type(scale * mass)
        if of_residual(code):
            _curved(code, bend, row(a, b), row(Y, b), w, row(Ra, b), row(Rdelta, b))
        elif code == GAUSSIAN_NLL:
            _gaussian_fisher(row(a, b), w, row(Rz, b), row(Rdelta, b))
        else:
            _scaled(w, row(Ra, b), row(Rdelta, b))


@njit
def output_tangent(
    code, bend, activation, slope, a, Y, weights, scale, delta, Rz, Ra, Rdelta, spare
):
    """The derivative of `output_delta` along the direction in which z moves by Rz and a by Ra."""
    if not needs_derivative(code) and code != GAUSSIAN_NLL:
        output_curvature(code, bend, activation, slope, a, Y, weights, scale, Rz, Ra, Rdelta, spare)
        return
    if is_own(code):
        own_loss(code, CURVED, a, Y, weights, scale, Ra, Rdelta, spare)
        if activation == SOFTMAX:
            _softmax_of_own(a, delta, Ra, Rdelta)
    else:
        _tangents(code, bend, activation, a, Y, weights, scale, Rz, Ra, Rdelta)
    if needs_derivative(code) and activation != SOFTMAX:
        times_tangent_derivative(activation, slope, a, delta, Rz, Rdelta)


@inlined
def _tangents(code, bend, activation, a, Y, weights, scale, Rz, Ra, Rdelta):
    """The same before f' of a single unit, of all losses but circuits."""
    for b in range(a.shape[0]):
        w = a.dtype.type(scale * sample_weight(weights, b))
        x, y, moved, out = row(a, b), row(Y, b), row(Ra, b), row(Rdelta, b)
        if code == GAUSSIAN_NLL:
            _gaussian_tangent(x, y, w, row(Rz, b), out)
        elif activation == SOFTMAX:
            _softmax_tangent(code, bend, x, y, w, moved, out)
        else:
            _curved(code, bend, x, y, w, moved, out)


@njit
def _softmax_of_own(a, delta, Ra, Rdelta):
    """Derivative of ``delta = a (g - sum(a g))`` along Ra, from that of g, which is in Rdelta.

    ``g - sum(a g)`` is delta / a, and ``sum(Ra) = 0``. Where a is 0 nothing moves.
    """
    zero = a.dtype.type(0)
    for b in range(a.shape[0]):
        mean = zero
        for j in range(a.shape[1]):
            part = zero if a[b, j] == 0 else Ra[b, j] * (delta[b, j] / a[b, j])
            mean += part + a[b, j] * Rdelta[b, j]
        for j in range(a.shape[1]):
            part = zero if a[b, j] == 0 else Ra[b, j] * (delta[b, j] / a[b, j])
            Rdelta[b, j] = part + a[b, j] * (Rdelta[b, j] - mean)


@inlined
def _scaled(w, x, out):
    """``out = w x``."""
    for j in range(0, x.size, lanes(x)):
        here = min(lanes(x), x.size - j)
        store_masked(out, j, w * load_masked(x, j, here), here)


@njit
def _curved(code, bend, a, y, w, Ra, out):
    """``out = w phi''(a - y) Ra``."""
    for j in range(0, a.size, lanes(a)):
        here = min(lanes(a), a.size - j)
        r = load_masked(a, j, here) - load_masked(y, j, here)
        store_masked(out, j, w * curve_of_phi(code, bend, r) * load_masked(Ra, j, here), here)


@inlined
def sum_of(x):
    """Sum of a vector's elements, in float64."""
    total = 0.0
    for j in range(x.size):
        total += x[j]
    return total


@njit
def _softmax_tangent(code, bend, a, y, w, Ra, Rdelta):
    """Derivative of ``delta = w a (g - sum(a g))`` with ``g = phi'(a - y)``, along Ra."""
    mean = moved = broadcast(0.0, 0.0)
    for j in range(0, a.size, lanes(a)):
        x, g, Rx, Rg = _softmax_terms(code, bend, a, y, Ra, j)
        mean = accumulate(mean, x * g)
        moved = accumulate(moved, fma(Rx, g, x * Rg))
    m, Rm = a.dtype.type(reduce_add(mean)), a.dtype.type(reduce_add(moved))
    for j in range(0, a.size, lanes(a)):
        x, g, Rx, Rg = _softmax_terms(code, bend, a, y, Ra, j)
        store_masked(Rdelta, j, w * fma(Rx, g - m, x * (Rg - Rm)), a.size - j)


@inlined
def _softmax_terms(code, bend, a, y, Ra, j):
    """a and g, and their derivatives, from place j on."""
    here = a.size - j
    x, Rx = load_masked(a, j, here), load_masked(Ra, j, here)
    r = x - load_masked(y, j, here)
    return x, slope_of_phi(code, bend, r), Rx, curve_of_phi(code, bend, r) * Rx


@njit
def _phi_sum(code, bend, a, y):
    """Sum of phi(a - y)."""
    total = broadcast(0.0, 0.0)
    for j in range(0, a.size, lanes(a)):
        here = min(lanes(a), a.size - j)
        r = load_masked(a, j, here) - load_masked(y, j, here)
        if code == SQUARED_ERROR:
            total = accumulate(total, r * r)
        else:
            total = accumulate(total, phi(code, bend, r))
    if code == SQUARED_ERROR:
        return 0.5 * reduce_add(total)
    return reduce_add(total)


@njit
def _slopes(code, bend, a, y, w, delta):
    """``delta = w phi'(a - y)``."""
    for j in range(0, a.size, lanes(a)):
        here = min(lanes(a), a.size - j)
        r = load_masked(a, j, here) - load_masked(y, j, here)
        store_masked(delta, j, w * slope_of_phi(code, bend, r), here)


@njit
def _poisson(z, a, y):
    """``sum(a - y log(a))`` with a = exp(z), that is ``a - y z``; without the part of y alone."""
    total = broadcast(0.0, 0.0)
    for j in range(0, z.size, lanes(z)):
        here = min(lanes(z), z.size - j)
        x, target = load_masked(z, j, here), load_masked(y, j, here)
        total = accumulate(total, load_masked(a, j, here) - target * x)
    return reduce_add(total)


# gaussian_nll: few outputs, so one at a time. The second half of z is log(variance).


@njit
def _gaussian_nll(z, y):
    """``1/2 sum(log(variance) + (y - mean)**2 / variance)``; without the constant."""
    total, m = 0.0, y.size
    for j in range(m):
        r, log_variance = np.float64(z[j]) - np.float64(y[j]), np.float64(z[m + j])
        total += 0.5 * (log_variance + r * _ratio(r, exp(log_variance)))
    return total


@inlined
def _ratio(r, variance):
    """``r / variance``; 0 where both are, as the variance then is only too small for a float."""
    if r == 0 and variance == 0:
        return r
    return r / variance


@njit
def _gaussian_delta(a, y, w, delta):
    """``w r / variance`` and ``w (1 - r**2 / variance) / 2`` with ``r = mean - y``."""
    half, one = a.dtype.type(0.5), a.dtype.type(1)
    m = y.size
    for j in range(m):
        r = a[j] - y[j]
        ratio = _ratio(r, a[m + j])
        delta[j], delta[m + j] = w * ratio, w * (half * (one - r * ratio))


@njit
def _gaussian_fisher(a, w, Rz, Rdelta):
    """The mean over y of what `_gaussian_tangent` gives."""
    half, m = a.dtype.type(0.5), a.size // 2
    for j in range(m):
        Rdelta[j] = w * _ratio(Rz[j], a[m + j])
        Rdelta[m + j] = w * (half * Rz[m + j])


@njit
def _gaussian_tangent(a, y, w, Rz, Rdelta):
    """Derivative of `_gaussian_delta` along Rz, of means and of log(variance)."""
    half, m = a.dtype.type(0.5), y.size
    for j in range(m):
        r = a[j] - y[j]
        ratio = _ratio(r, a[m + j])
        Rdelta[j] = w * (_ratio(Rz[j], a[m + j]) - ratio * Rz[m + j])
        Rdelta[m + j] = w * (half * r * ratio * Rz[m + j] - ratio * Rz[j])


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
