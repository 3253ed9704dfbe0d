"""The sweeps of one list of layers, compiled on request, with every size a constant.

Where a step takes a microsecond, most of it is loops of one turn, masks, and calls by address. Here
a step has the code of all its layers in it, and LLVM drops what their sizes decide. Sums have the
order that they have in `layers`, so that the bits are the same. One thread does it all.
"""

import functools
from typing import Any, NamedTuple

from ..abi import Double, Matrix, OutMatrix, Real, Vector
from ..blocks import (
    ACCUMULATORS,
    INNER,
    KC,
    MOST_SAMPLES,
    MR,
    NR,
    TILED,
    way_forward,
    way_gradient,
)
from ..compiler import inlined, kernel, kernel_at
from ..gemm.matmul import column_sum_add, matmul_bias, matmul_rows, outer_add, whole
from ..gemm.narrow import matvec, narrow_sum_add
from ..gemm.product import ZERO, panel_buffer, unpacked
from ..gemm.tile import SMALL, View, at, make_tile, view, zeros
from ..gemm.transpose import pack_block
from ..simd.vectors import lanes
from ..simd.views import copy, cut, flat, matrix, row, vector
from .losses import Options
from .model import SPECIAL, Model, block_size
from .sample import add_outer, back_row, forward_row

# The text of kernels.
inner_products, few_sums, product = matvec.inlined, narrow_sum_add.inlined, unpacked.inlined
row_forward, row_back, row_gradient = forward_row.inlined, back_row.inlined, add_outer.inlined

# ---------------------------------------------------------------- one layer, of any sizes


def make_transposed(vecs):
    """Make ``product(base, scale, a, b, c, shape, k)`` by tiles of so many vectors.

    b is given as b.T, and packed.
    """
    rows = ACCUMULATORS // vecs
    tile = make_tile(rows, vecs, SMALL)

    @inlined
    def product(base, scale, a, b, c, shape, k):
        panel, (m, n) = panel_buffer(b), shape
        width = panel.row // NR
        for p in range(0, k, KC):
            depth = min(k - p, KC)
            for j in range(0, n, vecs * width):
                _pack(at(b, j, p), panel, n - j, depth, vecs)
                for i in range(0, m, rows):
                    s, x, z = at(base, i, j), at(a, i, p), at(c, i, j)
                    tile(s, scale, x, panel, z, panel, depth, n - j, min(m - i, rows))
            base = c

    return product


@inlined
def _pack(b, panel, n, depth, vecs):
    """Pack n rows of b, `depth` long, as columns of a panel of so many vectors."""
    width = panel.row // NR
    for v in range(vecs):
        for q in range(0, depth, width):
            pack_block(at(b, v * width, q), at(panel, q, v * width), n - v * width, depth - q)


narrow_transposed, wide_transposed = make_transposed(1), make_transposed(NR)


@kernel(is_kept=False)
def forward_block(x: Matrix, W: Matrix, b: Vector, z: Matrix):
    """Compute ``z = x @ W + b``."""
    way = way_forward(z.shape[1], lanes(z))
    if way == TILED:
        one, k = x.dtype.type(1), x.shape[1]
        product(view(b), one, view(x), view(W), view(z), z.shape, k)
    elif way == INNER:
        inner_products(x, flat(W), flat(z), b[0])
    else:
        matmul_bias(x, W, b, z, whole(z))


@kernel(is_kept=False)
def back_block(delta: Matrix, W: Matrix, out: Matrix):
    """Compute ``out = delta @ W.T``: BP2 but for f'."""
    one, width = delta.dtype.type(1), lanes(delta)
    x, y, z, k = view(delta), view(W), view(out), delta.shape[1]
    if out.shape[0] < MR:
        matmul_rows(delta, W, out)
    elif k == 1:  # a column lies in memory like a row
        product(zeros(z), one, x, View(y.data, y.col, y.row), z, out.shape, k)
    elif out.shape[1] <= width:
        narrow_transposed(zeros(z), one, x, y, z, out.shape, k)
    else:
        wide_transposed(zeros(z), one, x, y, z, out.shape, k)


@kernel(is_kept=False)
def gradient_block(x: Matrix, delta: Matrix, scale: Real, dW: Matrix, db: Vector):
    """Compute ``dW += scale * x.T @ delta``, ``db += scale * delta.sum(axis=0)``: BP3 and BP4."""
    count, width, way = x.shape[0], lanes(x), way_gradient(dW.shape, x.shape[0], lanes(x))
    if way == TILED:
        a, c = view(x), view(dW)
        turned = View(a.data, a.col, a.row)
        product(c, scale, turned, view(delta), c, dW.shape, count)
    elif way == INNER and dW.size <= 4 * width:
        few_sums(x, flat(delta), scale, flat(dW), ZERO, dW.size)
    else:
        outer_add(x, delta, scale, dW, whole(dW))
    if db.size <= 4 * width:
        few_sums(delta, vector(db, 0, 0), scale, db, ZERO, db.size)
    else:
        column_sum_add(delta, scale, db, ZERO, db.size)


@kernel(is_kept=False)
def forward_one(x: Matrix, W: Matrix, b: Vector, z: Matrix):
    """Compute `forward_block` of one sample."""
    row_forward(row(x, 0), W, b, row(z, 0))


@kernel(is_kept=False)
def back_one(delta: Matrix, W: Matrix, out: Matrix):
    """Compute `back_block` of one sample."""
    row_back(row(delta, 0), W, row(out, 0))


@kernel(is_kept=False)
def gradient_one(x: Matrix, delta: Matrix, scale: Real, dW: Matrix, db: Vector):
    """Compute `gradient_block` of one sample."""
    row_gradient(row(x, 0), row(delta, 0), scale, dW, db)


BLOCK = forward_block.linked, back_block.linked, gradient_block.linked
ONE = forward_one.linked, back_one.linked, gradient_one.linked


# ---------------------------------------------------------------- all layers, of known sizes


class Layer(NamedTuple):
    """A row of the layer table: numbers, and the functions of its activation or None."""

    n_in: int
    n_out: int
    W_at: int
    b_at: int
    a_at: int
    of_z: int
    parameter: float
    activate: Any
    tangent: Any


class Scratch(NamedTuple):
    """The first sections of a `Workspace`."""

    a: Vector
    z: Vector
    delta: Vector
    delta_prev: Vector


def make_forward(layers, forward_layer, is_top=True):
    """Make ``forward(theta, X, scratch, out)``; these layers' outputs may go into the scratch."""
    if not layers:
        return _nothing
    *others, layer = layers
    below = make_forward(others, forward_layer, False)
    n_in, n_out, W_at, b_at, a_at, of_z, parameter, activate, _ = layer
    x_at, is_first = others[-1].a_at if others else 0, not others
    is_alone = is_top and is_first  # its outputs may take the place of the inputs

    @inlined
    def forward(theta, X, scratch, out):
        count = X.shape[0]
        below(theta, X, scratch, out)
        x, a = matrix(scratch.a, x_at * count, count, n_in), out
        z = matrix(scratch.z, 0, count, n_out)
        if is_first:
            x = matrix(X, 0, count, n_in)
        if not is_top:
            a = matrix(scratch.a, a_at * count, count, n_out)
            z = matrix(scratch.a, (a_at + of_z * n_out) * count, count, n_out)
        if activate is None and not is_alone:
            z = a
        forward_layer(x, matrix(theta, W_at, n_in, n_out), vector(theta, b_at, n_out), z)
        if activate is not None:
            activate(z, a, parameter)
        elif is_alone:
            copy(z, a)

    return forward


@inlined
def _nothing(theta, X, scratch, out):
    """Compute no layer."""


def make_backward(layers, back_layer, gradient_layer):
    """Make ``backward(theta, X, scale, grad, scratch)``: from the delta of the topmost layer on."""
    *others, layer = layers
    n_in, n_out, W_at, b_at, *_ = layer
    if not others:

        @inlined
        def last(theta, X, scale, grad, scratch):
            count = X.shape[0]
            delta, x = matrix(scratch.delta, 0, count, n_out), matrix(X, 0, count, n_in)
            dW, db = matrix(grad, W_at, n_in, n_out), vector(grad, b_at, n_out)
            gradient_layer(x, delta, scale, dW, db)

        return last

    rest = make_backward(others, back_layer, gradient_layer)
    a_at, of_z, parameter, _, tangent = others[-1][4:]

    @inlined
    def backward(theta, X, scale, grad, scratch):
        count = X.shape[0]
        delta = matrix(scratch.delta, 0, count, n_out)
        delta_prev = matrix(scratch.delta_prev, 0, count, n_in)
        back_layer(delta, matrix(theta, W_at, n_in, n_out), delta_prev)
        if tangent is not None:
            x = matrix(scratch.a, (a_at + of_z * n_in) * count, count, n_in)
            tangent(x, delta_prev, delta_prev, parameter)
        a_prev = matrix(scratch.a, a_at * count, count, n_in)
        dW, db = matrix(grad, W_at, n_in, n_out), vector(grad, b_at, n_out)
        gradient_layer(a_prev, delta, scale, dW, db)
        swapped = Scratch(scratch.a, scratch.z, scratch.delta_prev, scratch.delta)
        rest(theta, X, scale, grad, swapped)

    return backward


class Facts(NamedTuple):
    """What a step takes from the record of the network."""

    n_in: int
    n_out: int
    units: int
    widest: int
    needs_derivative: int
    parameter: float
    circuit: int
    total: Any
    slopes: Any


@functools.cache
def sweeps_of(layers, facts, batch):
    """Make the kernels ``forward`` and ``step`` of a list of layers, for `batch` samples.

    The arguments of ``step`` are those of `sweeps.block_gradient`. A batch of 0 is one of any size.
    """
    n_in, n_out, units, widest, needs_derivative, *options, total, slopes = facts
    forward_layer, back_layer, gradient_layer = ONE if batch == 1 else BLOCK
    sweep_forward = make_forward(layers, forward_layer)
    sweep_backward = make_backward(layers, back_layer, gradient_layer)
    top, (parameter, circuit) = layers[-1], options
    top_at, tangent = top.a_at, top.tangent if needs_derivative else None
    top_parameter, is_straight = top.parameter, top.activate is None

    @inlined
    def scratch_of(work, count):
        return cut(work, Scratch(units * count, n_out * count, widest * count, widest * count))

    @inlined
    def samples(X):
        return batch or X.shape[0]

    @kernel(name="special_forward", is_kept=False)
    def forward(theta: Vector, X: Matrix, out: OutMatrix, work: Vector):
        count = samples(X)
        x, y = matrix(X, 0, count, n_in), matrix(out, 0, count, n_out)
        sweep_forward(theta, x, scratch_of(work, count), y)

    @kernel(name="special_step", is_kept=False)
    def step(
        theta: Vector, X: Matrix, Y: Matrix, weights: Vector, mass: Double, scale: Real,
        grad: Vector, work: Vector, spare: Vector,
    ) -> Double:  # fmt: skip
        count = samples(X)
        x, y = matrix(X, 0, count, n_in), matrix(Y, 0, count, Y.shape[1])
        scratch, options = scratch_of(work, count), Options(parameter, circuit)
        a = matrix(scratch.a, top_at * count, count, n_out)
        z, delta = matrix(scratch.z, 0, count, n_out), matrix(scratch.delta, 0, count, n_out)
        if is_straight:
            z = a
        sweep_forward(theta, x, scratch, a)
        value = total(z, a, y, weights, options, spare)
        slopes(a, y, weights, 1.0 / mass, delta, options, spare)
        if tangent is not None:
            tangent(a, delta, delta, top_parameter)
        sweep_backward(theta, x, scale, grad, scratch)
        return value

    return forward, step


# ---------------------------------------------------------------- for callers


def specialize(model: Model, batch: int = 0) -> None:
    """Give a small network kernels of its own, compiled for its list of layers.

    All that predicts or trains by this model uses them from then on, from Python and from jitted
    code, as do copies of the tuple. Results keep their bits. Kernels are compiled when they are
    first needed, one set for single samples, one for batches, and one for those of `batch` samples,
    whose loops have no rest; they are shared by networks of the same layers, and nothing of them is
    kept on disk. They use one thread.

    Parameters
    ----------
    model : Model
        A network, as `net.model`; its table is changed.
    batch : int
        How many samples most batches have; 0 if there is no such number. Of more than 256 the
        blocks that a batch is cut into count.

    Raises
    ------
    TypeError
        If batch is not a whole number.
    ValueError
        If batch is negative, or larger than any batch.
    """
    if isinstance(batch, bool) or not hasattr(batch, "__index__"):
        raise TypeError(f"batch must be a whole number, got {batch!r}")
    if not 0 <= batch <= MOST_SAMPLES:
        raise ValueError(f"batch must be the samples of a batch, or 0, got {batch}")
    size = int(block_size(int(batch))) if batch else 0
    network = model.network[0]
    layers = tuple(_constants(Layer, record) for record in model.layers)
    facts = _constants(Facts, network)
    dtype = model.theta.dtype
    sets = [sweeps_of(layers, facts, count) for count in (0, 1, size)]
    network["batch"] = 0  # until its kernels are there
    for names, made in zip(SPECIAL, sets, strict=True):
        for name, each in zip(names, made, strict=True):
            network[name] = each.slot(dtype)
    network["batch"] = size


def _constants(kind, record):
    """Return fields of a record as numbers, and the kernels in its slots."""
    values = {name: record[name].item() for name in kind._fields}
    for name in {"activate", "tangent", "total", "slopes"} & values.keys():
        found = kernel_at(values[name])
        values[name] = None if found is None else found.linked
    return kind(**values)
