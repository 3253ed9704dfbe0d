"""Losses of one sample, and BP1's first factor: a record each, value and derivatives side by side.

A record is a class with three functions of vector registers: logits z, outputs ``a = f(z)``,
targets y, and the parameter p of the network's loss (huber's threshold, the quantile, gamma):

    value(z, a, y, p)   the loss of one output; that of a sample is the sum over its outputs
    slope(a, y, p)      d value / d a, which BP1 multiplies by f'(z). Where the loss belongs to an
                        `output`, f' cancels, and it is delta itself, ``a - y``
    curve(a, y, p)      d slope / d a; where the loss belongs to an output, d delta / d a
    turn(a, y, p)       likewise, where `curve`, of Gauss-Newton, leaves out what may be negative

What belongs to an output is computed from z where that avoids overflow and cancellation. Losses of
a whole row (cross_entropy, focal, gaussian_nll) are kernels, and so are circuits (`circuit.loss`).
To add one, write its record here and the one of the same name in `deltajit.reference`.

Targets are a matrix (B, n_out); for cross_entropy and focal a matrix (B, 1) holds class labels
instead, and a label that is no class gives NaN, never an access out of bounds. For gaussian_nll
they are half as many as the outputs, which are means first, variances then.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ..abi import Double, Matrix, Vector, Word
from ..compiler import Kernel, inlined, kernel, prototype
from ..simd import elementary
from ..simd.vectors import (
    absolute,
    accumulate,
    any_lane,
    broadcast,
    count,
    first_lanes,
    lanes,
    load,
    load_masked,
    maximum,
    minimum,
    reduce_add,
    select,
    store,
)
from ..simd.views import fill, flat, get, matrix, put, row, vectors
from .activations import largest, last_vector
from .by_columns import MOST_COLUMNS, columns_of, rows_by_columns


class Loss(NamedTuple):
    """What there is to know of a loss.

    name : str
    total, slopes, curved, turned : Kernel
        Of `total`, `slopes`, `curved` and `turned` below.
    output : str or None
        The output activation that it belongs to; None: any but gaussian.
    parameter : str or None
        The argument of `Network` that is its p.
    least, most : float
        Between which targets must lie.
    takes_labels : bool
        Whether targets may be class labels.
    outputs_per_target : int
    """

    name: str
    total: Kernel[..., Any]
    slopes: Kernel[..., Any]
    curved: Kernel[..., Any]
    turned: Kernel[..., Any]
    output: str | None = None
    parameter: str | None = None
    least: float = -math.inf
    most: float = math.inf
    takes_labels: bool = False
    outputs_per_target: int = 1


#: Records of losses by name, custom ones and circuits too: what `loss` may be.
LOSSES: dict[str, Loss] = {}


class Options(NamedTuple):
    """What else a loss may need: p, and where its `circuit.loss.Part` is if it is a circuit."""

    parameter: Double
    circuit: Word


# ---------------------------------------------------------------- kernels of any of them


@prototype
def total(
    z: Matrix, a: Matrix, Y: Matrix, weights: Vector, options: Options, spare: Vector
) -> Double:
    """Sum over samples of weight times loss, in float64.

    z, a : (B, n_out). Y : (B, n_targets). weights : (B,), or empty for 1. spare : scratch memory
    for a circuit.
    """


@prototype
def slopes(
    a: Matrix, Y: Matrix, weights: Vector, scale: Double, out: Matrix, options: Options,
    spare: Vector,
):  # fmt: skip
    """Compute BP1, without f' if the loss has no output: ``out = scale * weight * slope``."""


@prototype
def curved(
    a: Matrix, Y: Matrix, weights: Vector, scale: Double, Rz: Matrix, Ra: Matrix,
    out: Matrix, options: Options, spare: Vector,
):  # fmt: skip
    """Compute Gauss-Newton's ``out = scale * weight * curve * Ra`` (B, n_out), for tangents Rz, Ra.

    Exact but for gaussian_nll, where it is the mean over y, the Fisher information, and for focal
    losses, where it is that of a cross entropy: see `focal_factor`.
    """


turned = curved  # the exact derivative of what `slopes` gives, as a moves by Ra


@inlined
def sample_weight(weights, b):
    """Return the weight of sample `b`; 1 where there are none."""
    w = 1.0
    if weights.size > 0:
        w = np.float64(weights[b])
    return w


@inlined
def weighted_rows(x, a, weights):
    """Return x, of the shape (B, n) of a; without weights as one long row of full vectors."""
    count, width = a.shape
    if weights.size == 0:
        count, width = 1, a.size
    return matrix(x, 0, count, width)


def make_total(name, value, is_kept):
    """Make `total` of a function of one output."""

    @kernel(name=f"total.{name}", is_kept=is_kept)
    def total_of_outputs(
        z: Matrix, a: Matrix, Y: Matrix, weights: Vector, options: Options, spare: Vector
    ) -> Double:
        Z, A = weighted_rows(z, a, weights), weighted_rows(a, a, weights)
        T = weighted_rows(Y, a, weights)
        p, zero, result = broadcast(options.parameter, z), broadcast(0, z), 0.0
        for b in range(Z.shape[0]):
            zb, ab, yb, losses = row(Z, b), row(A, b), row(T, b), broadcast(0.0, 0.0)
            for j in range(0, zb.size, lanes(zb)):
                loss = value(get(zb, j), get(ab, j), get(yb, j), p)
                losses = accumulate(losses, select(first_lanes(zb.size - j, z), loss, zero))
            result += sample_weight(weights, b) * reduce_add(losses)
        return result

    return total_of_outputs


def make_slopes(name, slope, is_kept):
    """Make `slopes` of a function of one output."""

    @kernel(name=f"slopes.{name}", is_kept=is_kept)
    def slopes_of_outputs(
        a: Matrix, Y: Matrix, weights: Vector, scale: Double, out: Matrix, options: Options,
        spare: Vector,
    ):  # fmt: skip
        A, T = weighted_rows(a, a, weights), weighted_rows(Y, a, weights)
        D = weighted_rows(out, a, weights)
        p = broadcast(options.parameter, a)
        for b in range(A.shape[0]):
            ab, yb, db = row(A, b), row(T, b), row(D, b)
            w = broadcast(scale * sample_weight(weights, b), a)
            for j in range(0, ab.size, lanes(ab)):
                put(db, j, w * slope(get(ab, j), get(yb, j), p))

    return slopes_of_outputs


def make_curved(name, curve, is_kept):
    """Make `curved` or `turned`, as `name` says, of a function of one output."""

    @kernel(name=name, is_kept=is_kept)
    def curved_of_outputs(
        a: Matrix, Y: Matrix, weights: Vector, scale: Double, Rz: Matrix, Ra: Matrix,
        out: Matrix, options: Options, spare: Vector,
    ):  # fmt: skip
        p = broadcast(options.parameter, a)
        for b in range(a.shape[0]):
            ab, yb, moved, result = row(a, b), row(Y, b), row(Ra, b), row(out, b)
            w = broadcast(scale * sample_weight(weights, b), a)
            for j in range(0, ab.size, lanes(ab)):
                put(result, j, w * curve(get(ab, j), get(yb, j), p) * get(moved, j))

    return curved_of_outputs


def of_outputs(name, value, slope, curve, turn=None, is_kept=True, **facts):
    """Make the record of a sum over outputs, whose kernels are kept on disk or not."""
    curved_of = make_curved(f"curved.{name}", curve, is_kept)
    made = (
        make_total(name, value, is_kept),
        make_slopes(name, slope, is_kept),
        curved_of,
        curved_of if turn is None else make_curved(f"turned.{name}", turn, is_kept),
    )
    return Loss(name, *made, **facts)


FUNCTIONS = ("value", "slope", "curve", "turn")


def loss(**facts):
    """Register the record that a class is."""

    def register(record):
        name = record.__name__
        functions = {f: inlined(x) for f, x in vars(record).items() if f in FUNCTIONS}
        LOSSES[name] = of_outputs(name, **functions, **facts)
        return record

    return register


# ---------------------------------------------------------------- the records


@loss()
class squared_error:
    """``(a - y)**2 / 2``."""

    def value(z, a, y, p):
        r = a - y
        return broadcast(0.5, r) * r * r

    def slope(a, y, p):
        return a - y

    def curve(a, y, p):
        return broadcast(1, a)


@loss(parameter="threshold")
class huber:
    """Squared error up to a residual of p, linear beyond (Huber 1964)."""

    def value(z, a, y, p):
        size = absolute(a - y)
        near = minimum(p, size)
        return near * (size - broadcast(0.5, size) * near)

    def slope(a, y, p):
        return maximum(-p, minimum(p, a - y))

    def curve(a, y, p):
        return select(absolute(a - y) <= p, broadcast(1, a), broadcast(0, a))


@loss()
class absolute_error:
    """``|a - y|``, whose slope at 0 is 0."""

    def value(z, a, y, p):
        return absolute(a - y)

    def slope(a, y, p):
        r, zero, one = a - y, broadcast(0, a), broadcast(1, a)
        return select(r > zero, one, select(r < zero, -one, r))

    def curve(a, y, p):
        return broadcast(0, a)


@loss(parameter="quantile")
class quantile:
    """``(1 - p) r`` of a residual ``r = a - y`` above 0, else ``-p r`` (Koenker & Bassett 1978)."""

    def value(z, a, y, p):
        r = a - y
        return select(r > broadcast(0, r), (broadcast(1, r) - p) * r, -p * r)

    def slope(a, y, p):
        r, zero = a - y, broadcast(0, a)
        return select(r > zero, broadcast(1, r) - p, select(r < zero, -p, r))

    def curve(a, y, p):
        return broadcast(0, a)


@loss()
class log_cosh:
    """``log(cosh(r))`` of a residual ``r = a - y``: ``r**2 / 2`` near 0, ``|r| - log(2)`` far off.

    Near 0 it is ``-log(1 - tanh(r)**2) / 2``, which keeps its digits there.
    """

    def value(z, a, y, p):
        size, half = absolute(a - y), broadcast(0.5, a)
        t = elementary.tanh(size)
        near = -half * elementary.log1p(-t * t)
        far = elementary.log1p(elementary.exp(broadcast(-2, a) * size))
        return select(size < broadcast(1, a), near, size + (far - broadcast(math.log(2), a)))

    def slope(a, y, p):
        return elementary.tanh(a - y)

    def curve(a, y, p):
        w, one = elementary.exp(broadcast(-2, a) * absolute(a - y)), broadcast(1, a)
        return broadcast(4, a) * w / ((one + w) * (one + w))


@loss(output="sigmoid", least=0, most=1)
class binary_cross_entropy:
    """``-(y log(a) + (1 - y) log(1 - a))`` with a = sigmoid(z), that is ``softplus(z) - y z``.

    Written as ``log1p(exp(-|z|))`` plus a part that is 0 for a sure and right answer.
    """

    def value(z, a, y, p):
        linear = select(z > broadcast(0, z), z * (broadcast(1, z) - y), -z * y)
        return elementary.log1p(elementary.exp(-absolute(z))) + linear

    def slope(a, y, p):
        return a - y

    def curve(a, y, p):
        return broadcast(1, a)


# As a normal float32, for what is 0 and divides, or has its logarithm taken.
SMALLEST = 1e-37


@inlined
def focal_factor(a, rest, p):
    """Return c, by which focal delta is that of a cross entropy of targets y c, and dc / da.

    ``rest = 1 - a`` has its own digits. ``c = rest**p - p a log(a) rest**(p - 1)``, with which
    ``d(-rest**p log(a)) / da = -c / a``; 1 for p = 0. A Gauss-Newton matrix takes it as constant.
    """
    one, rest = broadcast(1, a), maximum(broadcast(SMALLEST, a), rest)
    log_a = focal_log(a, rest)
    q, power = a * log_a / rest, elementary.exp(p * elementary.log(rest))
    return power * (one - p * q), -p * power / rest * (one + one + log_a - (p - one) * q)


@inlined
def focal_log(a, rest):
    """Return log(a), by the smaller one of a and ``rest = 1 - a``."""
    near = elementary.log1p(-rest)
    far = elementary.log(maximum(broadcast(SMALLEST, a), a))
    return select(rest < broadcast(0.5, a), near, far)


@loss(output="sigmoid", parameter="gamma", least=0, most=1)
class binary_focal:
    """binary_cross_entropy whose two terms are times ``(1 - a)**p``, ``a**p`` (Lin et al. 2017).

    With ``-log(a) = softplus(-z)`` and ``-log(1 - a) = softplus(z)`` powers are exponentials.
    """

    def value(z, a, y, p):
        zero = broadcast(0, z)
        both = elementary.log1p(elementary.exp(-absolute(z)))
        up, down = both + maximum(zero, z), both + maximum(zero, -z)
        right = elementary.exp(-p * up) * down
        return y * right + (broadcast(1, z) - y) * (elementary.exp(-p * down) * up)

    def slope(a, y, p):
        rest = broadcast(1, a) - a
        (right, _), (wrong, _) = focal_factor(a, rest, p), focal_factor(rest, a, p)
        return (broadcast(1, a) - y) * wrong * a - y * right * rest

    def curve(a, y, p):
        rest = broadcast(1, a) - a
        (right, _), (wrong, _) = focal_factor(a, rest, p), focal_factor(rest, a, p)
        return y * right + (broadcast(1, a) - y) * wrong

    def turn(a, y, p):
        rest = broadcast(1, a) - a
        right, right_slope = focal_factor(a, rest, p)
        wrong, wrong_slope = focal_factor(rest, a, p)
        of_0 = (broadcast(1, a) - y) * (wrong - wrong_slope * a)
        return y * (right - right_slope * rest) + of_0


@loss(output="exp", least=0)
class poisson:
    """``a - y log(a)`` with a = exp(z), that is ``a - y z``; without the part of y alone."""

    def value(z, a, y, p):
        return a - y * z

    def slope(a, y, p):
        return a - y

    def curve(a, y, p):
        return broadcast(1, a)


# ---------------------------------------------------------------- cross_entropy, of a row

MOST_ODDS = 2.0**60  # far above, a probability may be subnormal, and lack digits


@kernel(name="total.cross_entropy")
def cross_entropy_total(
    z: Matrix, a: Matrix, Y: Matrix, weights: Vector, options: Options, spare: Vector
) -> Double:
    """Sum of ``-w sum(y log softmax(z)) = w sum(y (log(sum(exp(z))) - z))`` over samples.

    With k the place of the largest logit, ``log(sum(exp(z))) - z_k = log1p(sum over j != k)``,
    which keeps its digits when the loss is small. Logarithms wait until a vector is full of them.
    """
    logs, linear, x, w = broadcast(0.0, 0.0), 0.0, vectors(1, z), vectors(1, z)
    by_columns = rows_by_columns(a, 4) if Y.shape[1] == 1 else 0
    for first in range(0, z.shape[0], lanes(z)):
        if first >= by_columns or not _odds_of_labels(a, Y, weights, first, x, w):
            linear += _others_of_rows(z, Y, weights, first, x, w)
        logs = accumulate(logs, load(w, 0) * elementary.log1p(load(x, 0)))
    return reduce_add(logs) + linear


@inlined
def _odds_of_labels(a, Y, weights, first, x, w):
    """Compute the odds against the labels of as many rows as there are lanes, and their weights.

    The loss is ``-log(a_y) = log1p(sum of all a but a_y / a_y)``. Returns whether the odds are good
    to all digits, which they aren't if a_y underflows; a label that is no class has infinite ones.
    """
    columns, y, zero = vectors(MOST_COLUMNS, a), load(flat(Y), first), broadcast(0, a)
    columns_of(a, first, columns)
    label = others = zero
    for j in range(a.shape[1]):
        v, is_label = load(columns, j * lanes(a)), y == broadcast(j, a)
        label, others = select(is_label, v, label), others + select(is_label, zero, v)
    odds = others / label
    store(x, 0, odds)
    store(w, 0, load(weights, first) if weights.size > 0 else broadcast(1, a))
    return not any_lane(odds >= broadcast(MOST_ODDS, a))


@inlined
def _others_of_rows(z, Y, weights, first, x, w):
    """Compute `_others` of up to a vector of rows, and their weights; returns the linear part."""
    linear = 0.0
    fill(x, 0)
    fill(w, 0)
    for b in range(first, min(first + lanes(z), z.shape[0])):
        top, x[b - first] = _others(row(z, b))
        mass, rest = _linear_part(row(z, b), row(Y, b), top)
        weight = sample_weight(weights, b)
        linear += weight * rest
        w[b - first] = weight * mass
    return linear


@inlined
def _others(z):
    """Return (largest logit, sum of exp of the others less the largest)."""
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
def _exp_below(x, zero):
    """``exp(x)``, and 0 where x is 0, the largest logit's own."""
    return select(x == zero, zero, elementary.exp(x))


@inlined
def _linear_part(z, y, top):
    """Return (sum of y, sum of y (top - z)); y of one element is a label."""
    mass, total = 1.0, 0.0
    if y.size == 1:
        if 0 <= y[0] < z.size:
            total = np.float64(top) - np.float64(z[int(y[0])])
        else:
            total = math.nan
    else:
        mass = sum_of(y)
        for j in range(z.size):
            if y[j] != 0:  # 0 * inf: an impossible class that is not asked for costs nothing
                total += np.float64(y[j]) * (np.float64(top) - np.float64(z[j]))
    return mass, total


@inlined
def sum_of(x):
    """Sum of a vector's elements, in float64."""
    total = 0.0
    for j in range(x.size):
        total += x[j]
    return total


@kernel(name="slopes.cross_entropy")
def cross_entropy_slopes(
    a: Matrix, Y: Matrix, weights: Vector, scale: Double, out: Matrix, options: Options,
    spare: Vector,
):  # fmt: skip
    """``a - y``; rows of Y need not sum to 1, hence ``a sum(y) - y``."""
    if Y.shape[1] == 1:
        _label_slopes(a, Y, weights, scale, out)
        return
    for b in range(a.shape[0]):
        w = a.dtype.type(scale * sample_weight(weights, b))
        mass = a.dtype.type(sum_of(row(Y, b)))
        for j in range(a.shape[1]):
            out[b, j] = w * (a[b, j] * mass - Y[b, j])


@inlined
def _label_slopes(a, Y, weights, scale, out):
    """``w (a - y)`` where each y is 1 for a label, else 0."""
    A, D = weighted_rows(a, a, weights), weighted_rows(out, a, weights)
    for b in range(A.shape[0]):
        x, result = row(A, b), row(D, b)
        w = broadcast(scale * sample_weight(weights, b), a)
        for j in range(0, x.size, lanes(x)):
            put(result, j, w * get(x, j))
    for b in range(a.shape[0]):
        w, y = a.dtype.type(scale * sample_weight(weights, b)), Y[b, 0]
        if 0 <= y < a.shape[1]:
            k = int(y)
            out[b, k] = w * (a[b, k] - a.dtype.type(1))
        else:
            fill(row(out, b), math.nan)


@inlined
def _one_hot(place, like):
    """Return the vector that is 1 at a place, which may be outside of it, and 0 elsewhere."""
    zero, one = broadcast(0, like), broadcast(1, like)
    return select(first_lanes(place, like), zero, select(first_lanes(place + 1, like), one, zero))


@kernel(name="curved.cross_entropy")
def cross_entropy_curved(
    a: Matrix, Y: Matrix, weights: Vector, scale: Double, Rz: Matrix, Ra: Matrix,
    out: Matrix, options: Options, spare: Vector,
):  # fmt: skip
    """``sum(y) Ra``."""
    for b in range(a.shape[0]):
        mass = sample_weight(weights, b)
        if Y.shape[1] > 1:
            mass *= sum_of(row(Y, b))
        w, x, y = broadcast(scale * mass, a), row(Ra, b), row(out, b)
        for j in range(0, x.size, lanes(x)):
            put(y, j, w * get(x, j))


LOSSES["cross_entropy"] = Loss(
    "cross_entropy",
    cross_entropy_total,
    cross_entropy_slopes,
    cross_entropy_curved,
    cross_entropy_curved,
    output="softmax",
    least=0,
    most=1,
    takes_labels=True,
)


# ---------------------------------------------------------------- focal, of a row


@kernel(name="total.focal")
def focal_total(
    z: Matrix, a: Matrix, Y: Matrix, weights: Vector, options: Options, spare: Vector
) -> Double:
    """Sum of ``-w sum(y (1 - a)**p log(a))`` over samples (Lin et al. 2017)."""
    p, zero, result = broadcast(options.parameter, z), broadcast(0, z), 0.0
    for b in range(z.shape[0]):
        zb, ab, yb, losses = row(z, b), row(a, b), row(Y, b), broadcast(0.0, 0.0)
        less, (top, others) = _below_half(ab), _others(zb)
        top, log_sum = broadcast(top, z), elementary.log1p(broadcast(others, z))
        for j in range(0, zb.size, lanes(zb)):
            y, rest = _targets(yb, j, ab), _rest(get(ab, j), less)
            rest = maximum(broadcast(SMALLEST, z), rest)
            loss = elementary.exp(p * elementary.log(rest)) * (log_sum + (top - get(zb, j)))
            losses = accumulate(losses, select(y == zero, zero, y * loss))
        result += _checked_weight(weights, b, yb, ab) * reduce_add(losses)
    return result


@inlined
def _below_half(a):
    """Return the sum of the outputs up to 1/2: of all but one, if that is above."""
    total, zero, half = broadcast(0, a), broadcast(0, a), broadcast(0.5, a)
    for j in range(0, a.size, lanes(a)):
        x = get(a, j)
        total = total + select(x > half, zero, x)
    return broadcast(reduce_add(total), a)


@inlined
def _rest(a, less):
    """Return ``1 - a``, without cancellation."""
    return select(a > broadcast(0.5, a), less, broadcast(1, a) - a)


@inlined
def _targets(y, j, a):
    """Return the vector of targets from place j on; y of one element is a label."""
    targets = _one_hot(_label(y, a) - j, a)
    if y.size > 1:
        targets = get(y, j)
    return targets


@inlined
def _label(y, a):
    """Return the label that y is, or -1 if it is none."""
    return int(y[0]) if y.size == 1 and 0 <= y[0] < a.size else -1


@inlined
def _checked_weight(weights, b, y, a):
    """Return the weight of sample b, NaN for a label that is no class."""
    return math.nan if y.size == 1 and _label(y, a) < 0 else sample_weight(weights, b)


@kernel(name="slopes.focal")
def focal_slopes(
    a: Matrix, Y: Matrix, weights: Vector, scale: Double, out: Matrix, options: Options,
    spare: Vector,
):  # fmt: skip
    """``a sum(y c) - y c``, with c of `focal_factor`."""
    for b in range(a.shape[0]):
        x, result = row(a, b), row(out, b)
        w = broadcast(scale * _checked_weight(weights, b, row(Y, b), x), a)
        mass = broadcast(_focal_targets(x, row(Y, b), options, result), a)
        for j in range(0, x.size, lanes(x)):
            put(result, j, w * (get(x, j) * mass - get(result, j)))


@inlined
def _focal_targets(a, y, options, out):
    """Compute ``y c`` of a sample, and return its sum."""
    p, less, mass = broadcast(options.parameter, a), _below_half(a), broadcast(0, a)
    for j in range(0, a.size, lanes(a)):
        c, _ = focal_factor(get(a, j), _rest(get(a, j), less), p)
        c = _targets(y, j, a) * c
        mass = mass + c
        put(out, j, c)
    return reduce_add(mass)


@kernel(name="curved.focal")
def focal_curved(
    a: Matrix, Y: Matrix, weights: Vector, scale: Double, Rz: Matrix, Ra: Matrix,
    out: Matrix, options: Options, spare: Vector,
):  # fmt: skip
    """``sum(y c) Ra``: that of cross_entropy, whose targets y c do not move."""
    for b in range(a.shape[0]):
        x, moved, result = row(a, b), row(Ra, b), row(out, b)
        w = broadcast(scale * _checked_weight(weights, b, row(Y, b), x), a)
        mass = broadcast(_focal_targets(x, row(Y, b), options, result), a)
        for j in range(0, x.size, lanes(x)):
            put(result, j, w * (mass * get(moved, j)))


@kernel(name="turned.focal")
def focal_turned(
    a: Matrix, Y: Matrix, weights: Vector, scale: Double, Rz: Matrix, Ra: Matrix,
    out: Matrix, options: Options, spare: Vector,
):  # fmt: skip
    """Differentiate `focal_slopes`: ``sum(y c) Ra + a sum(y Rc) - y Rc`` with ``Rc = dc/da Ra``."""
    for b in range(a.shape[0]):
        x, moved, result = row(a, b), row(Ra, b), row(out, b)
        w = broadcast(scale * _checked_weight(weights, b, row(Y, b), x), a)
        p, less = broadcast(options.parameter, a), _below_half(x)
        mass = turned_mass = broadcast(0, a)
        for j in range(0, x.size, lanes(x)):
            y, here = _targets(row(Y, b), j, x), get(x, j)
            c, slope = focal_factor(here, _rest(here, less), p)
            Rc = y * slope * get(moved, j)
            mass, turned_mass = mass + y * c, turned_mass + Rc
            put(result, j, Rc)
        mass, turned_mass = broadcast(reduce_add(mass), a), broadcast(reduce_add(turned_mass), a)
        for j in range(0, x.size, lanes(x)):
            moves = mass * get(moved, j) + get(x, j) * turned_mass
            put(result, j, w * (moves - get(result, j)))


LOSSES["focal"] = Loss(
    "focal",
    focal_total,
    focal_slopes,
    focal_curved,
    focal_turned,
    output="softmax",
    parameter="gamma",
    least=0,
    most=1,
    takes_labels=True,
)


# ---------------------------------------------------------------- gaussian_nll, of a row

# Few outputs, so one at a time. The second half of z is log(variance), of a the variance.


@kernel(name="total.gaussian_nll")
def gaussian_nll_total(
    z: Matrix, a: Matrix, Y: Matrix, weights: Vector, options: Options, spare: Vector
) -> Double:
    """``1/2 sum(log(variance) + (y - mean)**2 / variance)``; without the constant."""
    m, result = Y.shape[1], 0.0
    for b in range(Y.shape[0]):
        loss = 0.0
        for j in range(m):
            r, log_variance = np.float64(z[b, j]) - np.float64(Y[b, j]), np.float64(z[b, m + j])
            loss += 0.5 * (log_variance + r * ratio(r, elementary.exp(log_variance)))
        result += sample_weight(weights, b) * loss
    return result


@inlined
def ratio(r, variance):
    """``r / variance``; 0 where both are, as the variance then is only too small for a float."""
    return r if r == 0 and variance == 0 else r / variance


@kernel(name="slopes.gaussian_nll")
def gaussian_nll_slopes(
    a: Matrix, Y: Matrix, weights: Vector, scale: Double, out: Matrix, options: Options,
    spare: Vector,
):  # fmt: skip
    """``r / variance`` and ``(1 - r**2 / variance) / 2`` with ``r = mean - y``."""
    half, one, m = a.dtype.type(0.5), a.dtype.type(1), Y.shape[1]
    for b in range(Y.shape[0]):
        w = a.dtype.type(scale * sample_weight(weights, b))
        for j in range(m):
            r = a[b, j] - Y[b, j]
            q = ratio(r, a[b, m + j])
            out[b, j], out[b, m + j] = w * q, w * (half * (one - r * q))


@kernel(name="curved.gaussian_nll")
def gaussian_nll_curved(
    a: Matrix, Y: Matrix, weights: Vector, scale: Double, Rz: Matrix, Ra: Matrix,
    out: Matrix, options: Options, spare: Vector,
):  # fmt: skip
    """Compute the mean over y of `gaussian_nll_turned`."""
    half, m = a.dtype.type(0.5), Y.shape[1]
    for b in range(Y.shape[0]):
        w = a.dtype.type(scale * sample_weight(weights, b))
        for j in range(m):
            out[b, j] = w * ratio(Rz[b, j], a[b, m + j])
            out[b, m + j] = w * (half * Rz[b, m + j])


@kernel(name="turned.gaussian_nll")
def gaussian_nll_turned(
    a: Matrix, Y: Matrix, weights: Vector, scale: Double, Rz: Matrix, Ra: Matrix,
    out: Matrix, options: Options, spare: Vector,
):  # fmt: skip
    """Differentiate `gaussian_nll_slopes` along the tangents Rz of z and Ra of a."""
    half, m = a.dtype.type(0.5), Y.shape[1]
    for b in range(Y.shape[0]):
        w = a.dtype.type(scale * sample_weight(weights, b))
        for j in range(m):
            r = a[b, j] - Y[b, j]
            q = ratio(r, a[b, m + j])
            out[b, j] = w * (ratio(Rz[b, j], a[b, m + j]) - q * Rz[b, m + j])
            out[b, m + j] = w * (half * r * q * Rz[b, m + j] - q * Rz[b, j])


LOSSES["gaussian_nll"] = Loss(
    "gaussian_nll",
    gaussian_nll_total,
    gaussian_nll_slopes,
    gaussian_nll_curved,
    gaussian_nll_turned,
    output="gaussian",
    outputs_per_target=2,
)
