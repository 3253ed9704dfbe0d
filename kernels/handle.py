"""Entries for callers in Python, for whom arguments cost: 40 ns an array, a tuple of arrays 760.

A handle is one int64 array that says where a model and a workspace are; who makes it keeps both
alive. Everything else is as in `sweeps`.
"""

import numpy as np

from . import entry
from .compiler import inlined, njit
from .model import N_COLUMNS, Model
from .sweeps import enter, enter_predict, gradient_of, loss_of, predict_of
from .views import matrix, vector_at


def make_handle(model, work):
    """Handle (11,) of a `Model` and a workspace."""
    places = [(x.ctypes.data, x.size) for x in (model.theta, model.layers, model.coef, work)]
    flat = (x for place in places for x in place)
    return np.array([*flat, model.loss, model.threads, model.theta.itemsize])


@inlined
def from_handle(handle, X):
    """(model, work) behind a handle, for any kernel; `X` is an array of theta's dtype."""
    if handle[10] != X.itemsize:
        raise ValueError("X must have the dtype of the network that the handle is of")
    theta, layers = vector_at(handle[0], handle[1], X), vector_at(handle[2], handle[3], handle)
    coef, work = vector_at(handle[4], handle[5], X), vector_at(handle[6], handle[7], X)
    table = matrix(layers, 0, layers.size // N_COLUMNS, N_COLUMNS)
    return Model(theta, table, coef, handle[8], handle[9]), work


@njit
def predict(handle, X, out):
    """``out = predict(X)``; X (B, n_in) or one sample (n_in,), out likewise."""
    model, work = from_handle(handle, X)
    x, y, memory = enter_predict(model, X, out, work)
    predict_of(model, x, y, memory)


@njit
def loss(handle, X, Y, weights):
    """Weighted mean over samples of the loss, plus the penalty."""
    model, work = from_handle(handle, X)
    x, y, memory = enter(model, X, Y, weights, work, 1)
    return loss_of(model, x, y, weights, memory)


@njit
def value_and_grad(handle, X, Y, grad, weights):
    """The loss; its gradient overwrites `grad`."""
    model, work = from_handle(handle, X)
    x, y, memory = enter(model, X, Y, weights, work, 1)
    return gradient_of(model, x, y, weights, entry.gradient(model, grad), memory)
