"""A network as data: its parameters, its layer table, and the scratch memory that a sweep needs.

Topology is data, so one compiled set of kernels serves every list of layers.
"""

from typing import NamedTuple

import numpy as np

from .activations import of_z
from .compiler import FINGERPRINT, inlined
from .own import FIRST
from .views import matrix, vector

# Columns of the layer table, one row a layer. STAMP stays the first, whatever else changes.
STAMP, N_IN, N_OUT, ACTIVATION, W_AT, B_AT, A_AT, UNITS, WIDEST, N_TARGETS, SPARE = range(11)
N_COLUMNS = 11

# What these sources put under STAMP. A user's function with cache=True holds kernels, and Numba
# does not see that they have changed since: the kernels do, by this number.
VERSION = np.int64(int(FINGERPRINT[:15], 16))

# Samples that go through all layers together, forward and backward, at most: their activations stay
# in L2 for layers up to a thousand units wide, and the time to read W is spread over so many.
LARGEST_BLOCK = 256

# Samples of a batch that there may be at all: sums of such numbers are int64.
MOST_SAMPLES = 2**62

# Floats in a cache line, if they are float32; of float64 it is two.
LINE = 16


class Model(NamedTuple):
    """What a kernel knows of a network.

    theta : (n_params,) float, all weights and biases; W of a layer is stored (n_in, n_out).
    layers : (L, 11) int64, a row a layer: VERSION, inputs, outputs, code of the activation, where W
        and b begin in theta, how many units the layers below have; and, the same in every row, how
        many units all layers have, and the widest (units of gelu, silu and sin count twice),
        columns of Y, and floats of scratch memory that a circuit as loss needs.
    coef : (4,) in theta's dtype: slope of leaky_relu, l2, l1, and where the loss bends.
    loss : int, code of the loss, or the address of a circuit (`own`).
    threads : int, how many a large batch may use.
    """

    theta: np.ndarray
    layers: np.ndarray
    coef: np.ndarray
    loss: int
    threads: int

    def __reduce__(self):
        """Pickle codes, but no addresses: in another process something else would be there."""
        if max(self.loss, *self.layers[:, ACTIVATION].tolist()) >= FIRST:
            raise TypeError(
                "a model with an activation or a loss of one's own holds addresses of this "
                "process, so it can't be pickled or copied: pickle the Network, and take its model"
            )
        return Model, tuple(self)


class Workspace(NamedTuple):
    """Sections of a flat workspace, for a block of m samples; all flat."""

    a: np.ndarray  # activations of all layers
    z: np.ndarray  # logits of the output layer
    delta: np.ndarray  # of this layer,
    delta_prev: np.ndarray  # and of the one below
    X: np.ndarray  # a gathered block: inputs,
    Y: np.ndarray  # targets,
    w: np.ndarray  # sample weights
    spare: np.ndarray  # the loss', if it is a circuit


SECTIONS = len(Workspace._fields)


class Tangents(NamedTuple):
    """Sections of a workspace of order 2, behind those of `Workspace`; all flat."""

    delta: np.ndarray  # of all layers
    Rz: np.ndarray  # derivatives along a direction of z of all layers,
    Ra: np.ndarray  # of a of all layers,
    Rdelta: np.ndarray  # of this layer's delta,
    Rdelta_prev: np.ndarray  # and of that of the layer below


TANGENT_SECTIONS = len(Tangents._fields)


@inlined
def layer_at(model, k):
    """Row k of the layer table."""
    return vector(model.layers, k * model.layers.shape[1], model.layers.shape[1])


@inlined
def weight(theta, layer):
    """View of W (n_in, n_out) in `theta` or in a gradient; `layer` is a row of the table."""
    return matrix(theta, layer[W_AT], layer[N_IN], layer[N_OUT])


@inlined
def bias(theta, layer):
    """View of b (n_out,) in `theta` or in a gradient."""
    return vector(theta, layer[B_AT], layer[N_OUT])


@inlined
def activation(a, layer, samples):
    """View of the layer's activations (samples, n_out) in a workspace."""
    return matrix(a, layer[A_AT] * samples, samples, layer[N_OUT])


@inlined
def source(a, layer, samples):
    """What f' is computed from: the layer's activations, or its z, which then lies behind them.

    In a section of deltas: delta, or ``u = delta / f'(z)``, likewise behind it.
    """
    at, n = layer[A_AT], layer[N_OUT]
    if of_z(layer[ACTIVATION]):
        at += n
    return matrix(a, at * samples, samples, n)


@inlined
def _widths(layers):
    """(inputs, outputs, units of all layers, units of the widest one)."""
    last = layers.shape[0] - 1
    return layers[0, N_IN], layers[last, N_OUT], layers[0, UNITS], layers[0, WIDEST]


@inlined
def block_size(batch):
    """Samples in each of the blocks, as equal as can be, that a batch is cut into."""
    if batch <= LARGEST_BLOCK:
        return max(1, batch)
    blocks = (batch + LARGEST_BLOCK - 1) // LARGEST_BLOCK
    return (batch + blocks - 1) // blocks


@inlined
def workspace_size(layers, batch, order=1):
    """Floats of scratch memory that a kernel needs for up to `batch` samples of a network.

    order : 1 for predict, loss, gradient and training; 2 for everything in `tangents`.
    """
    n_in, n_out, units, widest = _widths(layers)
    per_sample = n_in + n_out + layers[0, N_TARGETS] + units + 2 * widest + 1
    # Not block_size(batch): 257 samples go in blocks of 129, but 256 in one.
    samples = min(batch, LARGEST_BLOCK)
    size = samples * per_sample + layers[0, SPARE] + SECTIONS * LINE
    if order == 1:
        return size
    return size + samples * (3 * units + 2 * widest) + TANGENT_SECTIONS * LINE


@inlined
def _on_line(floats):
    """The next place where a cache line begins, if the workspace begins on one."""
    return (floats + LINE - 1) // LINE * LINE


@inlined
def carve(layers, work, m):
    """Cut the flat `work` into the sections for a block of `m` samples."""
    n_in, n_out, units, widest = _widths(layers)
    at_z = _on_line(m * units)
    at_delta = _on_line(at_z + m * n_out)
    at_delta_prev = _on_line(at_delta + m * widest)
    at_X = _on_line(at_delta_prev + m * widest)
    at_Y = _on_line(at_X + m * n_in)
    at_w = at_Y + m * layers[0, N_TARGETS]
    at_spare = _on_line(at_w + m)
    return Workspace(
        vector(work, 0, m * units),
        vector(work, at_z, m * n_out),
        vector(work, at_delta, m * widest),
        vector(work, at_delta_prev, m * widest),
        vector(work, at_X, m * n_in),
        vector(work, at_Y, m * layers[0, N_TARGETS]),
        vector(work, at_w, m),
        vector(work, at_spare, layers[0, SPARE]),
    )


@inlined
def carve_tangents(layers, work, m):
    """Cut the rest of a flat `work` of order 2 into the sections for a block of `m` samples."""
    _, _, units, widest = _widths(layers)
    at_delta = _on_line(workspace_size(layers, m))
    at_Rz = _on_line(at_delta + m * units)
    at_Ra = _on_line(at_Rz + m * units)
    at_Rdelta = _on_line(at_Ra + m * units)
    at_Rdelta_prev = _on_line(at_Rdelta + m * widest)
    return Tangents(
        vector(work, at_delta, m * units),
        vector(work, at_Rz, m * units),
        vector(work, at_Ra, m * units),
        vector(work, at_Rdelta, m * widest),
        vector(work, at_Rdelta_prev, m * widest),
    )


@inlined
def points_size(layers, batch):
    """Floats of memory that `tangents.linearize` fills for `batch` samples."""
    _, n_out, units, _ = _widths(layers)
    return batch * (2 * units + n_out)
