"""A handle: one int64 array that says where a model and a workspace are, for C callbacks.

Who makes it keeps both alive.
"""

import numba
import numpy as np

from ..abi import Floats, Matrix, Words
from ..compiler import inlined
from ..simd.views import array_of, vector_at
from .model import LAYER, NETWORK, Model

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
