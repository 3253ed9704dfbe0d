"""Many networks of one shape at once: each member as it would go alone, members over threads.

Arguments are as for one network, with an axis of members in front where each has its own: theta
(M, n_params), order (M, n), out (M, B, n_out). X, Y and weights are those of all members, or have
that axis too. `work` has a row for each thread. Nothing is checked here, `deltajit.Ensemble` does.
"""

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from .compiler import inlined, njit
from .model import Model
from .parallel import over_rows
from .rules import Rule
from .sweeps import gradient_of, loss_of, predict_of
from .training import epoch_of
from .abi import Borrowed, array_at
from .views import matrix, row, vector


@njit
def fit_epoch(model, X, Y, order, batch_size, rule, alive, totals, work, weights=None):
    """One epoch of each member that is `alive` (M,).

    rule : its state is (M, slots * n_params), its count (M,). totals : (M, 2), overwritten by what
    `training.fit_epoch` returns, NaN where nothing was done. work : n_params longer than for one.
    """
    state = (model, X, Y, order, batch_size, rule, alive, totals, work, weights)
    cost = 3 * order.size * model.theta.shape[1]
    _fit_members(state, model.theta.shape[0], cost, model.threads, 1)


@over_rows
def _fit_members(state, first, count):
    model, X, Y, order, batch_size, rule, alive, totals, work, weights = state
    n = model.theta.shape[1]
    slots = rule.state.shape[1] // n
    scratch = _scratch(model, work, first)
    grad, memory = vector(scratch, 0, n), vector(scratch, n, scratch.size - n)
    for k in range(first, first + count):
        totals[k, 0] = totals[k, 1] = np.nan
        if alive[k]:
            moments = matrix(rule.state, k * slots * n, slots, n)
            count_of_k = vector(rule.count, k, 1)
            own = Rule(rule.code, rule.hyper, rule.rates, rule.clip, moments, count_of_k)
            x, y, w = member_of_2(X, k), member_of_2(Y, k), member_of_1(weights, k)
            one, batches = _member(model, k), row(order, k)
            totals[k, 0], totals[k, 1] = _epoch(
                one, x, y, w, batches, batch_size, own, grad, memory
            )


@njit
def predict(model, X, out, work):
    """``out[k]`` = predictions of member k; out (M, B, n_out)."""
    cost = out.shape[0] * out.shape[1] * model.theta.shape[1]
    _predict_members((model, X, out, work), out.shape[0], cost, model.threads, 1)


@over_rows
def _predict_members(state, first, count):
    model, X, out, work = state
    memory = _scratch(model, work, first)
    for k in range(first, first + count):
        predict_of(_member(model, k), member_of_2(X, k), member_of_2(out, k), memory)


@njit
def loss(model, X, Y, values, work, weights=None):
    """``values[k]`` = loss of member k; values (M,) float64."""
    cost = values.size * X.shape[X.ndim - 2] * model.theta.shape[1]
    _loss_members((model, X, Y, values, work, weights), values.size, cost, model.threads, 1)


@over_rows
def _loss_members(state, first, count):
    model, X, Y, values, work, weights = state
    memory = _scratch(model, work, first)
    for k in range(first, first + count):
        x, y, w = member_of_2(X, k), member_of_2(Y, k), member_of_1(weights, k)
        values[k] = _loss(_member(model, k), x, y, w, memory)


@njit
def value_and_grad(model, X, Y, values, grads, work, weights=None):
    """Losses into `values` (M,) float64, gradients into `grads` (M, n_params)."""
    cost = 3 * grads.size * X.shape[X.ndim - 2]
    state = (model, X, Y, values, grads, work, weights)
    _gradient_members(state, values.size, cost, model.threads, 1)


@over_rows
def _gradient_members(state, first, count):
    model, X, Y, values, grads, work, weights = state
    memory = _scratch(model, work, first)
    for k in range(first, first + count):
        x, y, w = member_of_2(X, k), member_of_2(Y, k), member_of_1(weights, k)
        values[k] = _gradient(_member(model, k), x, y, w, row(grads, k), memory)


# Functions of their own, because where weights are None must be seen from an argument's type.


@njit
def _epoch(model, X, Y, weights, order, batch_size, rule, grad, work):
    return epoch_of(model, X, Y, weights, order, batch_size, rule, grad, work)


@njit
def _loss(model, X, Y, weights, work):
    return loss_of(model, X, Y, weights, work)


@njit
def _gradient(model, X, Y, weights, grad, work):
    return gradient_of(model, X, Y, weights, grad, work)


@inlined
def _member(model, k):
    """The `Model` of member k, which is for one thread."""
    return Model(row(model.theta, k), model.layers, model.coef, model.loss, 1)


@inlined
def _scratch(model, work, first):
    """The row of `work` that belongs to the thread whose members begin with `first`."""
    share = (model.theta.shape[0] + model.threads - 1) // model.threads
    return row(work, first // share)


def make_member_of(ndim):
    """Make ``member_of(x, k)``: x[k] if x has more than `ndim` axes; else x, shared by all."""

    @intrinsic
    def member_of(typingctx, x, k):
        if x == types.none:
            return types.none(x, k), lambda context, *_: context.get_dummy_value()
        view = Borrowed(x.dtype, ndim)

        def codegen(context, builder, signature, args):
            array = make_array(x)(context, builder, args[0])
            shape, data = cgutils.unpack_tuple(builder, array.shape), array.data
            if x.ndim > ndim:
                stride = cgutils.unpack_tuple(builder, array.strides)[0]
                data = cgutils.pointer_add(builder, data, builder.mul(args[1], stride))
                shape = shape[1:]
            return array_at(context, builder, view, data, shape)

        return view(x, types.intp), codegen

    return member_of


member_of_1, member_of_2 = make_member_of(1), make_member_of(2)
