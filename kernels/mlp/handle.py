"""Entries for callers in Python, who pay for arguments: 40 ns an array, 760 a tuple of arrays.

A handle is one int64 array that says where a model and a workspace are; who makes it keeps both
alive. Everything else is as in `sweeps`.
"""

from functools import cache, cached_property

import numba
import numpy as np
from numba import types

from ..abi import Floats, Matrix, Words
from ..compiler import inlined, njit
from ..simd.views import array_of, doubles, vector_at
from ..status import VERSION, refuse
from .model import LAYER, NETWORK, Model
from .sweeps import _loss, _predict, _value_and_grad

# What the words of a handle are.
THETA, N_PARAMS, NETWORK_AT, LAYERS_AT, N_LAYERS, WORK, WORK_SIZE, THREADS, ITEMSIZE = range(9)
N_WORDS = 9

NETWORK_TYPE, LAYER_TYPE = numba.from_dtype(NETWORK), numba.from_dtype(LAYER)


def make_handle(model, work):
    """Make the handle (N_WORDS,) of a `Model` and a workspace."""
    handle = np.empty(N_WORDS, np.int64)
    handle[THETA], handle[N_PARAMS] = model.theta.ctypes.data, model.theta.size
    handle[NETWORK_AT] = model.network.ctypes.data
    handle[LAYERS_AT], handle[N_LAYERS] = model.layers.ctypes.data, model.layers.size
    handle[WORK], handle[WORK_SIZE] = work.ctypes.data, work.size
    handle[THREADS], handle[ITEMSIZE] = model.threads, model.theta.itemsize
    return handle


@inlined
def from_handle(handle: Words, X: Matrix) -> tuple[Model, Floats]:
    """Return the model and the workspace behind a handle, for any kernel; from jitted code only.

    Parameters
    ----------
    handle : array of int64
        Addresses and sizes, as ``net.handle(batch)`` makes them; valid as long as the network is.
    X : array
        Any array of theta's dtype.

    Returns
    -------
    model : Model
        What kernels take first.
    work : array
        Their scratch memory.

    Raises
    ------
    ValueError
        If X is of another dtype than the network.
    """
    if handle[ITEMSIZE] != X.itemsize:
        raise ValueError("X must have the dtype of the network that the handle is of")
    network = array_of(NETWORK_TYPE, handle[NETWORK_AT], 1)
    layers = array_of(LAYER_TYPE, handle[LAYERS_AT], handle[N_LAYERS])
    theta = vector_at(handle[THETA], handle[N_PARAMS], X)
    model = Model(theta, network, layers, handle[THREADS])
    return model, vector_at(handle[WORK], handle[WORK_SIZE], X)


@njit
def predict(handle, X, out):
    """Write the outputs of X (B, n_in), or of one sample (n_in,), into `out`."""
    model, work = from_handle(handle, X)
    refuse(_predict(VERSION, model, X, out, work))


@njit
def loss(handle, X, Y, weights):
    """Return the loss: the weighted mean over samples, plus the penalty."""
    model, work = from_handle(handle, X)
    value = doubles(1)
    refuse(_loss(VERSION, model, X, Y, weights, work, value))
    return value[0]


@njit
def value_and_grad(handle, X, Y, grad, weights):
    """Return the loss, and write its gradient into `grad`."""
    model, work = from_handle(handle, X)
    value = doubles(1)
    refuse(_value_and_grad(VERSION, model, X, Y, weights, grad, work, value))
    return value[0]


@cache
def entries_for(dtype):
    """Return the `Entries` for a NumPy dtype."""
    return Entries(numba.from_dtype(dtype))


class Entries:
    """Entries as compiled code for arrays of one dtype, without the 0.1 us of Numba's dispatcher.

    Nothing looks at the types of the arguments: arrays must be writable and C-contiguous, and have
    so many axes; weights are None.
    """

    def __init__(self, real):
        self._real = real

    def _compiled(self, dispatcher, *axes):
        """Return an entry for arrays of so many axes after the handle; for None it is None."""
        arrays = [types.none if n is None else types.Array(self._real, n, "C") for n in axes]
        return dispatcher.compile((types.Array(types.int64, 1, "C"), *arrays))

    @cached_property
    def predict_one(self):
        """Return `predict` of one sample (n_in,)."""
        return self._compiled(predict, 1, 1)

    @cached_property
    def loss(self):
        """Return `loss` of samples (B, n_in)."""
        return self._compiled(loss, 2, 2, None)

    @cached_property
    def value_and_grad(self):
        """Return `value_and_grad` of samples (B, n_in)."""
        return self._compiled(value_and_grad, 2, 2, 1, None)
