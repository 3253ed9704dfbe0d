"""Training: one step on a batch, and the loop over the minibatches of an epoch."""

import math

from ..abi import Double, Doubles, Matrix, OutVector, Vector, Word, Words
from ..blocks import LARGEST_BLOCK, MOST_SAMPLES
from ..compiler import inlined, kernel, njit
from ..simd.vectors import lanes, load, store
from ..simd.views import doubles, get, is_none, matrix, put, row, rows, vector
from ..status import BAD_BATCH_SIZE, BAD_DROPOUT, BAD_ORDER, OK, VERSION, refuse
from .dropout import Dropout, next_block
from .entry import (
    check_gradient,
    check_samples,
    check_targets,
    check_work,
    targets,
)
from .model import Model, block_size, carve
from .rules import Rule, along, check_rule, is_descent, rate_of, step
from .sweeps import (
    Block,
    block_gradient,
    blocks,
    check,
    gradient_of,
    has_penalty,
    penalty,
    start_gradient,
    weight_sum,
)


@njit
def sgd_step(
    model: Model,
    X: Matrix,
    Y: Matrix,
    lr: Double,
    grad: OutVector,
    work: OutVector,
    weights: Vector | None = None,
) -> float:
    """Move theta one step of gradient descent on a batch, ``theta -= lr * grad``.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    Y : array (B, n_targets)
        Targets, or (B, 1) class labels, of the same dtype; one sample may be a vector.
    lr : float
        Learning rate.
    grad : array (n_params,)
        Scratch memory, not used for a batch of one block without penalty.
    work : array
        Scratch memory: at least ``workspace_size(model, B)`` floats.
    weights : array (B,), optional
        Sample weights, not negative.

    Returns
    -------
    float
        The loss before the step.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.
    """
    value = doubles(1)
    refuse(_sgd_step(VERSION, model, X, Y, weights, lr, grad, work, value))
    return value[0]


@njit
def adam_step(
    model: Model,
    X: Matrix,
    Y: Matrix,
    rule: Rule,
    grad: OutVector,
    work: OutVector,
    weights: Vector | None = None,
) -> float:
    """Move theta one step of an optimizer, of Adam or any other, on a batch.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    Y : array (B, n_targets)
        Targets, or (B, 1) class labels, of the same dtype; one sample may be a vector.
    rule : Rule
        An optimizer and its state, as ``dj.Adam().rule(net.n_params, net.dtype)``; updated.
    grad : array (n_params,)
        Scratch memory for the gradient.
    work : array
        Scratch memory: at least ``workspace_size(model, B)`` floats.
    weights : array (B,), optional
        Sample weights, not negative.

    Returns
    -------
    float
        The loss before the step.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.
    """
    value = doubles(1)
    refuse(_adam_step(VERSION, model, X, Y, weights, rule, grad, work, value))
    return value[0]


@njit
def fit_epoch(
    model: Model,
    X: Matrix,
    Y: Matrix,
    order: Words,
    batch_size: Word,
    rule: Rule,
    grad: OutVector,
    work: OutVector,
    weights: Vector | None = None,
    dropout: Dropout | None = None,
) -> tuple[float, float]:
    """Train on minibatches of samples, in a given order.

    theta and the state of the rule are updated in place. A loss that is not finite ends the epoch:
    it is then the sum, and its step is not counted by the rule.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    Y : array (B, n_targets)
        Targets, or (B, 1) class labels, of the same dtype; one sample may be a vector.
    order : array of int64
        Indices of samples; each step takes the next `batch_size`.
    batch_size : int
        Samples of a step.
    rule : Rule
        An optimizer and its state, as ``dj.Adam().rule(net.n_params, net.dtype)``; updated.
    grad : array (n_params,)
        Scratch memory for the gradient.
    work : array
        Scratch memory: ``workspace_size(model, batch_size)`` floats.
    weights : array (B,), optional
        Sample weights, not negative.
    dropout : Dropout, optional
        Which hidden units to leave out.

    Returns
    -------
    total : float
        Sum over minibatches of weight times loss, each taken before its step.
    mass : float
        Sum of the weights.

    Raises
    ------
    ValueError
        If a shape does not fit, `work` is too small, or an index in `order` is none of a sample.
    """
    sums = doubles(2)
    samples = Block(X, Y, weights)
    refuse(_fit_epoch(VERSION, model, samples, order, batch_size, rule, grad, work, dropout, sums))
    return sums[0], sums[1]


@kernel
def _sgd_step(
    version: Word, model: Model, X: Matrix, Y: Matrix, weights: Vector, lr: Double,
    grad: OutVector, work: OutVector, value: Doubles,
) -> Word:  # fmt: skip
    status = check(version, model, X, Y, weights, work, 1) or check_gradient(model, grad)
    if status == OK:
        batch = X.shape[0]
        samples = Block(X, targets(Y, batch), weights)
        if fuses(model, batch):
            parts, mass = carve(model.network[0], work, batch), weight_sum(weights, batch)
            value[0] = block_gradient(model, samples, mass, -lr, model.theta, parts, None) / mass
        else:
            value[0] = gradient_of(model, samples, grad, work)
            along(lr, model.theta, grad)
    return status


@kernel
def _adam_step(
    version: Word, model: Model, X: Matrix, Y: Matrix, weights: Vector, rule: Rule,
    grad: OutVector, work: OutVector, value: Doubles,
) -> Word:  # fmt: skip
    status = (
        check(version, model, X, Y, weights, work, 1)
        or check_gradient(model, grad)
        or check_rule(rule, model.theta)
    )
    if status == OK:
        samples = Block(X, targets(Y, X.shape[0]), weights)
        value[0] = gradient_of(model, samples, grad, work)
        step(rule, model.theta, grad)
    return status


@kernel
def _fit_epoch(
    version: Word, model: Model, samples: Block, order: Words, batch_size: Word, rule: Rule,
    grad: OutVector, work: OutVector, dropout: Dropout, sums: Doubles,
) -> Word:  # fmt: skip
    X, Y, weights = samples
    status = (
        check_samples(version, model, X, weights)
        or check_targets(model, Y, X.shape[0])
        or _check_batch_size(batch_size)
        or check_work(model, work, batch_size, 1)
        or check_gradient(model, grad)
        or check_rule(rule, model.theta)
        or _check_order(order, X.shape[0])
        or check_dropout(model, dropout)
    )
    if status == OK:
        block = Block(X, targets(Y, X.shape[0]), weights)
        epoch_of(model, block, order, batch_size, rule, grad, work, dropout, sums)
    return status


@inlined
def _check_batch_size(batch_size):
    return OK if 1 <= batch_size <= MOST_SAMPLES else BAD_BATCH_SIZE


@inlined
def check_dropout(model, dropout):
    """Check that there is a share for each hidden layer."""
    status = OK
    fits = dropout.keep.size == model.layers.size - 1 and dropout.seed.size == 1
    if not (fits or is_none(dropout.seed)):
        status = BAD_DROPOUT
    return status


@inlined
def _check_order(order, count):
    """Check that there is an `order`, and that every index in it is that of a sample."""
    signs, last = 0, -1  # no branch: LLVM makes vectors of it
    for i in range(order.size):
        signs, last = signs | order[i], max(last, order[i])
    return BAD_ORDER if is_none(order) or signs < 0 or last >= count else OK


# ---------------------------------------------------------------- arguments are checked


@inlined
def fuses(model, batch):
    """Return whether plain descent may go straight into theta: if nobody reads theta after it."""
    return batch <= LARGEST_BLOCK and not has_penalty(model)


@kernel
def epoch_of(
    model: Model, samples: Block, order: Words, batch_size: Word, rule: Rule, grad: Vector,
    work: Vector, dropout: Dropout, sums: Doubles,
):  # fmt: skip
    """Run `fit_epoch` of checked arguments; its two results overwrite `sums`."""
    m = block_size(batch_size)
    parts = carve(model.network[0], work, m)
    plain = (
        is_descent(rule)
        and rule.clip == 0.0
        and dropout.keep.size == 0
        and fuses(model, batch_size)
    )
    sums[0] = sums[1] = 0.0
    for first in range(0, order.size, batch_size):
        batch = vector(order, first, min(batch_size, order.size - first))
        mass = _mass(samples.weights, batch)
        if mass == 0.0:
            continue
        if plain:
            block = _gather(samples, batch, parts)
            total = block_gradient(model, block, mass, -rate_of(rule), model.theta, parts, dropout)
            rule.count[0] += math.isfinite(total)
        else:
            total = mass * penalty(model)
            start_gradient(model, grad)
            for here in blocks(batch.size, m):
                block = _gather(samples, vector(batch, here.first, here.count), parts)
                total += block_gradient(model, block, mass, 1.0, grad, parts, dropout)
                if dropout.keep.size > 0:
                    next_block(dropout)
            if math.isfinite(total):
                step(rule, model.theta, grad)
        sums[0] += total
        sums[1] += mass
        if not math.isfinite(total):
            break


@inlined
def _mass(weights, batch):
    """Sum of the weights of the samples listed in `batch`."""
    total = float(batch.size)
    if weights.size > 0:
        total = 0.0
        for i in range(batch.size):
            total += weights[batch[i]]
    return total


@inlined
def _gather(samples, indices, parts):
    """Return the samples that `indices` lists, side by side: copied, unless they already are."""
    X, Y, count = samples.X, samples.Y, indices.size
    w = _gather_weights(samples.weights, indices, parts.w)
    x, y = matrix(parts.X, 0, count, X.shape[1]), matrix(parts.Y, 0, count, Y.shape[1])
    if _consecutive(indices):
        x, y = rows(X, indices[0], count), rows(Y, indices[0], count)
    else:
        _take_rows(X, indices, x)
        _take_rows(Y, indices, y)
    return Block(x, y, w)


@kernel
def _take_rows(X: Matrix, indices: Words, x: Matrix):
    """Compute ``x[i] = X[indices[i]]``."""
    n, width = X.shape[1], lanes(X)
    whole = n - n % width
    if n == 1:
        for i in range(indices.size):
            x[i, 0] = X[indices[i], 0]
    else:
        for i in range(indices.size):
            source, target = row(X, indices[i]), row(x, i)
            for j in range(0, whole, width):
                store(target, j, load(source, j))
            if whole < n:
                put(target, whole, get(source, whole))


@inlined
def _consecutive(indices):
    """Return whether each index is one more than the one before."""
    first, others = indices[0], 0
    if indices[indices.size - 1] - first == indices.size - 1:  # rarely, if shuffled
        for i in range(indices.size):
            others |= indices[i] - first - i
        return others == 0
    return False


@inlined
def _gather_weights(weights, indices, buffer):
    """Return ``weights[indices]`` in `buffer`, or nothing if there are no weights."""
    out = vector(buffer, 0, indices.size if weights.size > 0 else 0)
    for i in range(out.size):
        out[i] = weights[indices[i]]
    return out
