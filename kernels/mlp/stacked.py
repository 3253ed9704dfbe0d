"""Many networks of one shape at once: each member as it would go alone, members over threads.

Arguments are as for one network, with an axis of members in front where each has its own: theta
(M, n_params), order (M, n), out (M, B, n_out). X, Y and weights are those of all members, or have
that axis too. `work` has a row for each thread. Nothing is checked here, `deltajit.Ensemble` does.
"""

from typing import NamedTuple

import numpy as np

from ..abi import (
    Double,
    DoubleMatrix,
    Doubles,
    Flags,
    Matrix,
    OptionalMatrix,
    Tensor,
    Word,
    WordMatrix,
    Words,
)
from ..compiler import inlined, kernel
from ..gemm.matmul import Part
from ..gemm.parallel import over_parts
from ..simd.views import matrix, row, vector
from .dropout import Dropout
from .model import LayerRecords, Model, NetworkRecord
from .rules import Rule
from .sweeps import Block, gradient_of, loss_of, predict_of
from .training import epoch_of


class Members(NamedTuple):
    """As `Model`, but theta has a row for each member; threads share them out."""

    theta: Matrix
    network: NetworkRecord
    layers: LayerRecords
    threads: Word


class Samples(NamedTuple):
    """X, Y and weights, each with an axis of members in front, which is 1 if they share them."""

    X: Tensor
    Y: Tensor
    weights: OptionalMatrix


class Rules(NamedTuple):
    """As `Rule`, but the state of each member is a row (slots * n_params), its count an element."""

    kernel: Word
    slots: Word
    hyper: Doubles
    rates: Doubles
    clip: Double
    state: Matrix
    count: Words


@kernel(name="fit_epoch_of_members")
def fit_epoch(
    members: Members, samples: Samples, order: WordMatrix, batch_size: Word,
    rules: Rules, alive: Flags, dropout: Dropout, totals: DoubleMatrix, work: Matrix,
):  # fmt: skip
    """Train each member that is `alive` (M,) for one epoch.

    dropout : as for one network, but each member has a seed (M,).
    totals : (M, 2), overwritten by what `training.fit_epoch` returns, NaN where nothing was done.
    work : rows are n_params longer than for one network.
    """
    state = (members, samples, order, batch_size, rules, alive, dropout, totals, work)
    cost = 3 * order.size * members.theta.shape[1]
    _fit_members(state, members.theta.shape, False, cost, members.threads, 1)


@over_parts
@kernel
def _fit_members(
    members: Members, samples: Samples, order: WordMatrix, batch_size: Word,
    rules: Rules, alive: Flags, dropout: Dropout, totals: DoubleMatrix, work: Matrix,
    part: Part,
):  # fmt: skip
    n = members.theta.shape[1]
    slots = rules.state.shape[1] // n
    scratch = _scratch(members, work, part)
    grad, memory = vector(scratch, 0, n), vector(scratch, n, scratch.size - n)
    for k in range(part.row, part.row + part.rows):
        totals[k, 0] = totals[k, 1] = np.nan
        if alive[k]:
            state, count = matrix(rules.state, k * slots * n, slots, n), vector(rules.count, k, 1)
            rule = Rule(rules.kernel, slots, rules.hyper, rules.rates, rules.clip, state, count)
            one, block, sums = _member(members, k), _samples(samples, k), row(totals, k)
            left_out = Dropout(dropout.keep, vector(dropout.seed, k, 1))
            epoch_of(one, block, row(order, k), batch_size, rule, grad, memory, left_out, sums)


@kernel(name="predict_of_members")
def predict(members: Members, X: Tensor, out: Tensor, work: Matrix):
    """``out[k]`` = predictions of member k; out (M, B, n_out)."""
    cost = out.shape[0] * out.shape[1] * members.theta.shape[1]
    _predict_members((members, X, out, work), members.theta.shape, False, cost, members.threads, 1)


@over_parts
@kernel
def _predict_members(members: Members, X: Tensor, out: Tensor, work: Matrix, part: Part):
    memory = _scratch(members, work, part)
    for k in range(part.row, part.row + part.rows):
        predict_of(_member(members, k), _of_member(X, k), _of_member(out, k), memory)


@kernel(name="loss_of_members")
def loss(members: Members, samples: Samples, values: Doubles, work: Matrix):
    """``values[k]`` = loss of member k; values (M,)."""
    cost = members.theta.size * samples.X.shape[1]
    state = (members, samples, values, work)
    _loss_members(state, members.theta.shape, False, cost, members.threads, 1)


@over_parts
@kernel
def _loss_members(members: Members, samples: Samples, values: Doubles, work: Matrix, part: Part):
    memory = _scratch(members, work, part)
    for k in range(part.row, part.row + part.rows):
        values[k] = loss_of(_member(members, k), _samples(samples, k), memory)


@kernel(name="value_and_grad_of_members")
def value_and_grad(
    members: Members, samples: Samples, values: Doubles, grads: Matrix, work: Matrix
):
    """Write losses into `values` (M,) and gradients into `grads` (M, n_params)."""
    cost = 3 * grads.size * samples.X.shape[1]
    state = (members, samples, values, grads, work)
    _gradient_members(state, members.theta.shape, False, cost, members.threads, 1)


@over_parts
@kernel
def _gradient_members(
    members: Members, samples: Samples, values: Doubles, grads: Matrix, work: Matrix, part: Part
):
    memory = _scratch(members, work, part)
    for k in range(part.row, part.row + part.rows):
        one, block = _member(members, k), _samples(samples, k)
        values[k] = gradient_of(one, block, row(grads, k), memory)


@inlined
def _member(members, k):
    """Return the `Model` of member k, which is for one thread."""
    return Model(row(members.theta, k), members.network, members.layers, 1)


@inlined
def _scratch(members, work, part):
    """Return the row of `work` that belongs to the thread that has this part."""
    share = (members.theta.shape[0] + members.threads - 1) // members.threads
    return row(work, part.row // share)


@inlined
def _of_member(X, k):
    """``X[k]``, or what all members share."""
    height, width = X.shape[1], X.shape[2]
    at = k * height * width if X.shape[0] > 1 else 0
    return matrix(X, at, height, width)


@inlined
def _samples(samples, k):
    """Return the samples of member k."""
    weights = samples.weights
    at = k * weights.shape[1] if weights.shape[0] > 1 else 0
    return Block(
        _of_member(samples.X, k), _of_member(samples.Y, k), vector(weights, at, weights.shape[1])
    )
