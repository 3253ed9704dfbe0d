"""A network as data: its parameters, its layer table, and the scratch memory that a sweep needs.

Topology is data, so one set of kernels serves every list of layers. What differs from network to
network in what is computed (activations, loss) is in the table too, as slots of kernels.
"""

from typing import Annotated, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from ..abi import Array, Vector, Word
from ..blocks import LARGEST_BLOCK
from ..compiler import inlined, name_of, shared, slot_named
from ..simd.views import cut, floats, matrix, vector
from .activations import ACTIVATIONS
from .losses import LOSSES, Options


def _record(words, doubles):
    names = [*words.split(), *doubles.split()]
    return np.dtype([(n, "f8" if n in doubles.split() else "i8") for n in names], align=True)


# n_in, n_out: inputs and outputs. W_at, b_at: where W and b begin in theta. a_at: how many units
# the layers below keep (those of z count twice). activate, tangent, curve, bend: slots of its
# activation; 0 where there is nothing to do. of_z, of_rows: see `activations`. parameter:
# leaky_relu's slope.
LAYER = _record("n_in n_out W_at b_at a_at activate tangent curve bend of_z of_rows", "parameter")

# n_in, n_out, n_targets: columns of X, of outputs, of Y. n_layers, n_params, itemsize: of the layer
# table, and of theta. units: how many units all layers keep.
# widest: units of the widest layer. spare: floats that a circuit as loss needs. total, slopes,
# curved, turned: slots of the loss. needs_derivative: whether BP1 needs f'. takes_labels: whether Y
# may be class labels. circuit: address of its `circuit.loss.Part`. parameter: of the loss. l2, l1:
# of the penalty. forward, step, and those for one sample and for `batch`: slots of `special`, or 0.
SPECIAL = ("forward", "step"), ("forward_one", "step_one"), ("forward_batch", "step_batch")
NETWORK = _record(
    "n_in n_out n_targets n_layers n_params itemsize units widest spare total slopes curved turned "
    "needs_derivative takes_labels circuit batch forward step forward_one step_one forward_batch "
    "step_batch",
    "parameter l2 l1",
)

NetworkRecord = Annotated[npt.NDArray[np.void], Array(numba.from_dtype(NETWORK), 1)]
LayerRecords = Annotated[npt.NDArray[np.void], Array(numba.from_dtype(LAYER), 1)]


class Model(NamedTuple):
    """Hold what a kernel knows of a network; `net.model` is one.

    Attributes
    ----------
    theta : array (n_params,)
        All weights and biases; W of a layer is stored (n_in, n_out).
    network : record array (1,)
        What is true of all layers.
    layers : record array (L,)
        A row a layer.
    threads : int
        How many threads a large batch may use.
    """

    theta: Vector
    network: NetworkRecord
    layers: LayerRecords
    threads: Word

    def __reduce__(self):
        """Pickle kernels by their names: in another process they are elsewhere."""
        if self.network["circuit"].any():
            raise TypeError(
                "a model whose loss is a circuit holds addresses of this process, so it can't be "
                "pickled or copied: pickle the Network, and take its model"
            )
        tables = [_named(table) for table in (self.network, self.layers)]
        return _restored, (self.theta, *tables, self.threads)


SLOTS = ("activate", "tangent", "curve", "bend", "total", "slopes", "curved", "turned")


def _named(table):
    """Return (a copy of a table without slots, names of the kernels by (row, column)).

    Slots of `special` stay behind: without them a model computes the same.
    """
    plain, names = table.copy(), {}
    for column in set(sum(SPECIAL, ())).intersection(table.dtype.names):
        plain[column] = 0
    for column in set(SLOTS).intersection(table.dtype.names):
        for row, slot in enumerate(table[column].tolist()):
            names[row, column] = name_of(slot)
            plain[column][row] = 0
    return plain, names


def _restored(theta, network, layers, threads):
    """Return the model that was pickled, with the kernels of this process."""
    for table, names in (network, layers):
        for (row, column), name in names.items():
            table[column][row] = slot_named(name)
    return Model(theta, network[0], layers[0], threads)


def layer_table(sizes, activations, slope, dtype):
    """Make `Model.layers` of a network with these units and activations (names), for a dtype."""
    table = np.zeros(len(sizes) - 1, LAYER)
    at = units = 0
    for row, n_in, n_out, name in zip(table, sizes[:-1], sizes[1:], activations, strict=True):
        f = ACTIVATIONS[name]
        row["n_in"], row["n_out"], row["W_at"], row["b_at"] = n_in, n_out, at, at + n_in * n_out
        row["a_at"], row["of_z"], row["of_rows"], row["parameter"] = units, f.of_z, f.of_rows, slope
        for kind in ("activate", "tangent", "curve", "bend"):
            kernel = getattr(f, kind)
            row[kind] = 0 if kernel is None else kernel.slot(dtype)
        at += (n_in + 1) * n_out
        units += n_out * (2 if f.of_z else 1)
    return table


def network_record(layers, loss, dtype, **options):
    """Make `Model.network`; `loss` is a name, `options` are its other fields."""
    record, found = np.zeros(1, NETWORK), LOSSES[loss]
    last = layers[-1]
    record["n_in"], record["n_out"] = layers[0]["n_in"], last["n_out"]
    record["n_targets"] = last["n_out"] // found.outputs_per_target
    record["n_layers"], record["n_params"] = len(layers), last["b_at"] + last["n_out"]
    record["itemsize"] = np.dtype(dtype).itemsize
    record["units"] = last["a_at"] + last["n_out"] * (1 + last["of_z"])
    record["widest"] = layers["n_out"].max()
    for kind in ("total", "slopes", "curved", "turned"):
        record[kind] = getattr(found, kind).slot(dtype)
    record["needs_derivative"] = found.output is None
    record["takes_labels"] = found.takes_labels
    for name, value in options.items():
        record[name] = value
    return record


# ---------------------------------------------------------------- parts of theta, and of a layer


@inlined
def weight(theta, layer):
    """Return the view of W (n_in, n_out) in `theta` or in a gradient."""
    return matrix(theta, layer.W_at, layer.n_in, layer.n_out)


@inlined
def bias(theta, layer):
    """Return the view of b (n_out,) in `theta` or in a gradient."""
    return vector(theta, layer.b_at, layer.n_out)


@inlined
def activation(a, layer, samples):
    """Return the view of the layer's activations (samples, n_out) in a workspace."""
    return matrix(a, layer.a_at * samples, samples, layer.n_out)


@inlined
def source(a, layer, samples):
    """Return what f' is computed from: the layer's activations, or z, which then lies behind them.

    In a section of deltas: delta, or ``u = delta / f'(z)``, likewise behind it.
    """
    return matrix(a, (layer.a_at + layer.of_z * layer.n_out) * samples, samples, layer.n_out)


@inlined
def top_of(model):
    """Return the output layer."""
    return model.layers[model.layers.size - 1]


@inlined
def options_of(network):
    """Return what a network's loss needs to know."""
    return Options(network.parameter, network.circuit)


# ---------------------------------------------------------------- scratch memory


class Workspace(NamedTuple):
    """Sections of scratch memory, for a block of m samples; all flat."""

    a: Vector  # activations of all layers
    z: Vector  # logits of the output layer
    delta: Vector  # of this layer,
    delta_prev: Vector  # and of the one below
    X: Vector  # a gathered block: inputs,
    Y: Vector  # targets,
    w: Vector  # sample weights
    spare: Vector  # the loss', if it is a circuit


class Tangents(NamedTuple):
    """Sections of a workspace of order 2, behind those of `Workspace`; all flat."""

    delta: Vector  # of all layers
    Rz: Vector  # derivatives along a direction of z of all layers,
    Ra: Vector  # of a of all layers,
    Rdelta: Vector  # of this layer's delta,
    Rdelta_prev: Vector  # and of that of the layer below


@shared
def workspace_sizes(network, m):
    """Return how many floats each section has."""
    n_out, widest = network["n_out"], m * network["widest"]
    return Workspace(
        m * network["units"],
        m * n_out,
        widest,
        widest,
        m * network["n_in"],
        m * max(network["n_targets"], 1),
        m,
        network["spare"],
    )


@shared
def tangent_sizes(network, m):
    """Return how many floats each section has."""
    units, widest = m * network["units"], m * network["widest"]
    return Tangents(units, units, units, widest, widest)


@shared
def block_size(batch):
    """Return how many samples the blocks have that a batch is cut into, as equal as can be."""
    blocks = max(1, (batch + LARGEST_BLOCK - 1) // LARGEST_BLOCK)
    return max(1, (batch + blocks - 1) // blocks)


@shared
def workspace_size(model: Model, batch: Word, order: Word = 1) -> int:
    """Return how much scratch memory a kernel needs.

    Parameters
    ----------
    model : Model
        A network, as `net.model`.
    batch : int
        The most samples of a call.
    order : {1, 2}
        1 for `predict`, `loss`, `value_and_grad`, `vjp` and training; 2 for all other derivatives.

    Returns
    -------
    int
        Number of floats, of theta's dtype.
    """
    network = model.network[0]
    # Not block_size(batch): 257 samples go in blocks of 129, but 256 in one.
    m = min(batch, LARGEST_BLOCK)
    size = floats(workspace_sizes(network, m))
    if order == 2:
        size += floats(tangent_sizes(network, m))
    return int(size)


@inlined
def carve(network, work, m):
    """Cut the flat `work` into the sections for a block of `m` samples."""
    return cut(work, workspace_sizes(network, m))


@inlined
def carve_tangents(network, work, m):
    """Cut the rest of a flat `work` of order 2 into the sections for a block of `m` samples."""
    begin = floats(workspace_sizes(network, m))
    return cut(vector(work, begin, work.size - begin), tangent_sizes(network, m))


@shared
def points_size(model: Model, batch: Word) -> int:
    """Return how much memory `linearize` fills to keep a point.

    Parameters
    ----------
    model : Model
        A network, as `net.model`.
    batch : int
        Samples of the call.

    Returns
    -------
    int
        Number of floats, of theta's dtype.
    """
    return int(2 * batch * model.network[0]["units"])
