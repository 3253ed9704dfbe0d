"""Jets: outputs with their first and second derivatives along directions of the inputs, and back.

Of x + t v, z and a are series in t, whose derivatives z1 and z2, a1 and a2 at t = 0 go through the
layers beside them (forward mode; Griewank, Utke & Walther 2000):

    z1 = a1_prev @ W            a1 = f'(z) z1
    z2 = a2_prev @ W            a2 = f'(z) z2 + f''(z) z1**2

The samples' rows of all directions lie below each other, as a larger batch: first derivatives along
each of D directions, then second derivatives, of each (S = D), or their sum (S = 1): along all
axes that is the Laplacian (Li et al. 2023: the forward Laplacian). Backward, with g for the
adjoint of each,

    g_z2 = f' g_a2     g_z1 = f' g_a1 + 2 f'' z1 g_a2
    g_z = f' g_a + f'' (z1 g_a1 + z2 g_a2) + f''' z1**2 g_a2

and the gradient of W is that of three layers with the same weights. `work` holds at least
``jets_size(model, batch, rows)`` floats of theta's dtype; else as in `sweeps`.
"""

from typing import NamedTuple

from ..abi import Matrix, OutTensor, OutVector, Tensor, Vector, Word
from ..blocks import LARGEST_BLOCK
from ..compiler import inlined, kernel, njit, shared
from ..gemm.matmul import Part, matmul, outer_add
from ..gemm.parallel import over_parts
from ..simd.vectors import lanes
from ..simd.views import copy, cut, fill, flat, floats, get, matrix, put, row, rows, vector
from ..status import (
    BAD_DIRECTIONS,
    BAD_OUT,
    BAD_U_OF_JETS,
    NO_THIRD,
    OK,
    SMALL_WORK_OF_JETS,
    VERSION,
    refuse,
)
from .activations import bend, curve, tangent
from .entry import check_gradient, check_inputs
from .layers import back_layer, gradient_layer, times_derivative
from .model import (
    Model,
    Workspace,
    activation,
    bias,
    carve,
    source,
    top_of,
    weight,
    workspace_sizes,
)
from .sweeps import STRAIGHT, blocks, forward_block, function_at, rows_of


class Jets(NamedTuple):
    """Sections of a workspace of jets, behind those of `Workspace`: rows of derivatives."""

    x: Vector  # inputs: the directions, then 0
    z: Vector  # of all layers
    a: Vector  # of all layers
    g: Vector  # adjoints of this layer's,
    g_prev: Vector  # and of the layer below
    spare: Vector  # of one block of samples


class Rows(NamedTuple):
    """How many rows of derivatives there are: samples, times directions and second derivatives."""

    count: Word
    firsts: Word
    seconds: Word


@njit
def jets(model: Model, X: Matrix, directions: Tensor, out: OutTensor, work: OutVector) -> None:
    """Compute the outputs with first and second derivatives along directions of the inputs.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype.
    directions : array (D, n_in), or (B, D, n_in)
        Directions, for all samples or for each.
    out : array (B, R, n_out)
        Overwritten: the outputs, their derivatives along each direction, and, for R = 1 + 2 D, the
        second ones along each, for R = 2 + D the sum of those; none for R = 1 + D.
    work : array
        Scratch memory: at least ``jets_size(model, B, R)`` floats.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.

    References
    ----------
    Griewank, Utke & Walther (2000), Evaluating higher derivative tensors by forward propagation of
    univariate Taylor series.
    """
    refuse(_jets(VERSION, model, X, directions, out, work))


@njit
def jets_vjp(
    model: Model, X: Matrix, directions: Tensor, u: Tensor, grad: OutVector, work: OutVector
) -> None:
    """Compute the gradient of ``sum(u * jets)`` with respect to theta.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype.
    directions : array (D, n_in), or (B, D, n_in)
        Directions, for all samples or for each.
    u : array (B, R, n_out)
        A cotangent of what `jets` writes.
    grad : array (n_params,)
        The gradient, a plain sum over samples, overwritten.
    work : array
        Scratch memory: at least ``jets_size(model, B, R)`` floats.

    Raises
    ------
    ValueError
        If a shape does not fit, `work` is too small, or an activation has no third derivative.
    """
    refuse(_jets_vjp(VERSION, model, X, directions, u, grad, work))


@shared
def jets_size(model: Model, batch: Word, rows: Word) -> int:
    """Return how much scratch memory `jets` and `jets_vjp` need.

    Parameters
    ----------
    model : Model
        A network, as `net.model`.
    batch : int
        The most samples of a call.
    rows : int
        Rows of a sample's jet: 1, and one for each first and each second derivative.

    Returns
    -------
    int
        Number of floats, of theta's dtype.
    """
    network, m = model.network[0], jets_block(batch, rows)
    return int(floats(workspace_sizes(network, m)) + floats(jets_sizes(network, m, rows)))


@shared
def jets_sizes(network, m, rows):
    """Return how many floats each section has."""
    units, widest, height = network["units"], network["widest"], m * (rows - 1)
    return Jets(
        height * network["n_in"],
        height * units,
        height * units,
        height * widest,
        height * widest,
        m * widest,
    )


@shared
def jets_block(batch, rows):
    """Return how many samples a block has, so that products have as many rows as others do."""
    return max(1, min(batch, LARGEST_BLOCK // max(rows, 1)))


# ---------------------------------------------------------------- all blocks


@kernel
def _jets(
    version: Word, model: Model, X: Matrix, directions: Tensor, out: OutTensor, work: OutVector
) -> Word:
    status = check_inputs(version, model, X) or _check(model, X, directions, out, work, BAD_OUT)
    if status == OK:
        height, n_out = out.shape[1], out.shape[2]
        for here in blocks(X.shape[0], jets_block(X.shape[0], height)):
            parts, j = _carve(model, work, here.m, height)
            shape = _rows(directions, here, height)
            put_directions(directions, here.first, shape, j)
            jets_forward(model, rows_of(X, here), shape, parts, j)
            y = activation(j.a, top_of(model), here.count * (height - 1))
            target = matrix(out, here.first * height * n_out, here.count * height, n_out)
            values = activation(parts.a, top_of(model), here.count)
            for b in range(here.count):
                copy(row(values, b), row(target, b * height))
                for r in range(1, height):
                    copy(row(y, (r - 1) * here.count + b), row(target, b * height + r))
    return status


@kernel
def _jets_vjp(
    version: Word, model: Model, X: Matrix, directions: Tensor, u: Tensor, grad: OutVector,
    work: OutVector,
) -> Word:  # fmt: skip
    status = (
        check_inputs(version, model, X)
        or check_gradient(model, grad)
        or _check(model, X, directions, u, work, BAD_U_OF_JETS)
        or _check_third(model)
    )
    if status == OK:
        fill(grad, 0)
        height, n_out = u.shape[1], u.shape[2]
        for here in blocks(X.shape[0], jets_block(X.shape[0], height)):
            parts, j = _carve(model, work, here.m, height)
            shape, x = _rows(directions, here, height), rows_of(X, here)
            put_directions(directions, here.first, shape, j)
            jets_forward(model, x, shape, parts, j)
            given = matrix(u, here.first * height * n_out, here.count * height, n_out)
            delta = matrix(parts.delta, 0, here.count, n_out)
            g = matrix(j.g, 0, here.count * (height - 1), n_out)
            for b in range(here.count):
                copy(row(given, b * height), row(delta, b))
                for r in range(1, height):
                    copy(row(given, b * height + r), row(g, (r - 1) * here.count + b))
            jets_backward(model, x, shape, parts, j, grad)
    return status


@inlined
def _check(model, X, directions, jets, work, bad):
    """Return the status of directions, of the jets or their cotangent, and of `work`."""
    batch, network, D = X.shape[0], model.network[0], directions.shape[1]
    shared_or_each = directions.shape[0] == 1 or directions.shape[0] == batch
    height = jets.shape[1]
    has_rows = height == 1 + 2 * D or height == 2 + D or height == 1 + D
    status = OK
    if not shared_or_each or D == 0 or directions.shape[2] != network.n_in:
        status = BAD_DIRECTIONS
    elif jets.shape[0] != batch or not has_rows or jets.shape[2] != network.n_out:
        status = bad
    elif work.size < jets_size(model, batch, height):
        status = SMALL_WORK_OF_JETS
    return status


@inlined
def _check_third(model):
    """Return the status of activations: each that has an f' needs an f'''."""
    status = OK
    for k in range(model.layers.size):
        if model.layers[k].tangent != 0 and model.layers[k].bend == 0:
            status = NO_THIRD
    return status


@inlined
def _carve(model, work, m, rows):
    """Return the sections for values, and those for derivatives, of a block of m samples."""
    network = model.network[0]
    begin = floats(workspace_sizes(network, m))
    rest = vector(work, begin, work.size - begin)
    return carve(network, work, m), cut(rest, jets_sizes(network, m, rows))


@inlined
def _rows(directions, here, height):
    """Return how many rows of derivatives a block has."""
    return Rows(here.count, directions.shape[1], height - 1 - directions.shape[1])


# ---------------------------------------------------------------- one block of samples


@kernel
def put_directions(directions: Tensor, first: Word, shape: Rows, j: Jets):
    """Write the directions of a block of samples, and 0 for second derivatives, into `j.x`."""
    D, n_in = directions.shape[1], directions.shape[2]
    given = matrix(directions, 0, directions.shape[0] * D, n_in)
    x = matrix(j.x, 0, shape.count * (D + shape.seconds), n_in)
    fill(x, 0)
    for b in range(shape.count):
        begin = (first + b) * D if directions.shape[0] > 1 else 0
        for d in range(D):
            copy(row(given, begin + d), row(x, d * shape.count + b))


@inlined
def _below(model, j, k, height):
    """Return the derivatives that layer k reads."""
    below = matrix(j.x, 0, height, model.layers[0].n_in)
    if k > 0:
        below = activation(j.a, model.layers[k - 1], height)
    return below


@kernel
def jets_forward(model: Model, X: Matrix, shape: Rows, parts: Workspace, j: Jets):
    """Compute values and derivatives of all layers."""
    count, height = shape.count, shape.count * (shape.firsts + shape.seconds)
    forward_block(model, X, parts, None)
    for k in range(model.layers.size):
        layer = model.layers[k]
        below, W = _below(model, j, k, height), weight(model.theta, layer)
        z, a = activation(j.z, layer, height), activation(j.a, layer, height)
        _forward_rows((below, W, z), z.shape, False, below.size * layer.n_out, model.threads)
        if layer.tangent == 0:
            copy(z, a)
        else:
            spare = matrix(j.spare, 0, count, layer.n_out)
            _lift(layer, shape, source(parts.a, layer, count), z, a, spare)


@over_parts
@kernel(name="jets_forward_rows")
def _forward_rows(below: Matrix, W: Matrix, z: Matrix, part: Part):
    first, count = part.row, part.rows
    matmul(rows(below, first, count), W, rows(z, first, count))


@inlined
def _lift(layer, shape, x, z, a, spare):
    """Compute ``a1 = f'(z) z1`` and ``a2 = f'(z) z2 + f''(z) z1**2`` of a layer."""
    count, firsts, seconds = shape
    for d in range(firsts):
        tangent(layer.tangent, x, at(z, d, count), at(a, d, count), layer.parameter)
    for s in range(firsts, firsts + seconds):
        copy(at(z, s, count), at(a, s, count))
    for d in range(firsts if seconds > 0 else 0):
        z1, u = at(z, d, count), at(a, d, count)
        if layer.of_z != 0:
            u = at(z, d, count)
        if d < seconds:
            curve(layer.curve, x, u, z1, at(a, firsts + d, count), layer.parameter)
        else:
            fill(spare, 0)
            curve(layer.curve, x, u, z1, spare, layer.parameter)
            add(spare, at(a, firsts, count))


@inlined
def at(z, r, count):
    """Return the rows that all samples of a block have of derivative r."""
    return rows(z, r * count, count)


@inlined
def add(source, target):
    """Compute ``target += source``."""
    x, y = flat(source), flat(target)
    for i in range(0, x.size, lanes(x)):
        put(y, i, get(y, i) + get(x, i))


@kernel
def jets_backward(model: Model, X: Matrix, shape: Rows, parts: Workspace, j: Jets, grad: Vector):
    """Add a block's gradient to `grad`, of adjoints of the outputs in parts.delta and j.g."""
    count, height = shape.count, shape.count * (shape.firsts + shape.seconds)
    here, below, g_here, g_below = parts.delta, parts.delta_prev, j.g, j.g_prev
    one = model.theta.dtype.type(1)
    for k in range(model.layers.size - 1, -1, -1):
        layer = model.layers[k]
        W, dW, db = weight(model.theta, layer), weight(grad, layer), bias(grad, layer)
        delta, g = matrix(here, 0, count, layer.n_out), matrix(g_here, 0, height, layer.n_out)
        if layer.tangent != 0:
            x, z = source(parts.a, layer, count), activation(j.z, layer, height)
            _lower(layer, shape, x, z, g, delta, matrix(j.spare, 0, count, layer.n_out))
        moved = _below(model, j, k, height)
        _gradient_rows((g, moved, dW), dW.shape, False, moved.size * layer.n_out, model.threads)
        if k == 0:
            gradient_layer(delta, X, one, dW, db, model.threads)
        else:
            a_prev = activation(parts.a, model.layers[k - 1], count)
            gradient_layer(delta, a_prev, one, dW, db, model.threads)
            delta_prev = matrix(below, 0, count, layer.n_in)
            g_prev = matrix(g_below, 0, height, layer.n_in)
            back_layer(delta, W, delta_prev, STRAIGHT, delta_prev, model.threads)
            back_layer(g, W, g_prev, STRAIGHT, g_prev, model.threads)
        here, below, g_here, g_below = below, here, g_below, g_here


@over_parts
@kernel(name="jets_gradient_rows")
def _gradient_rows(g: Matrix, below: Matrix, dW: Matrix, part: Part):
    outer_add(below, g, dW.dtype.type(1), dW, part)


@inlined
def _lower(layer, shape, x, z, g, delta, zero):
    """Replace the adjoints of a layer's activations by those of its z."""
    count, firsts, seconds = shape
    fill(zero, 0)
    times_derivative(function_at(layer), x, delta)
    for d in range(firsts + seconds):
        second = zero
        if d < firsts and seconds > 0:
            second = at(g, firsts + min(d, seconds - 1), count)
        bend(layer.bend, x, at(z, d, count), at(g, d, count), second, delta, layer.parameter)
