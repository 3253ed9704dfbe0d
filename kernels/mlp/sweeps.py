"""The sweeps over all layers: forward, backward, and what is made of them.

Public kernels take (model, what is read, what is written, work). A batch is cut into blocks of
samples; a block goes through all layers while it is in cache. The caller owns every buffer:
`work` holds at least ``workspace_size(model, batch)`` floats of theta's dtype. X (B, n_in) and Y
are C-contiguous and of theta's dtype; `weights` (B,) are sample weights, or None. What one sample
may look like, and what is raised for wrong arrays, is said in `entry`.
"""

from typing import NamedTuple

from ..abi import Double, Doubles, Matrix, OptionalVector, OutMatrix, OutVector, Real, Vector, Word
from ..compiler import inlined, kernel, njit, prototype
from ..simd.vectors import (
    absolute,
    accumulate,
    broadcast,
    fma,
    lanes,
    reduce_add,
    select,
)
from ..simd.views import doubles, fill, flat, get, matrix, put, rows, vector
from ..status import OK, VERSION, refuse
from .dropout import Dropout, drop, undrop
from .entry import (
    check_gradient,
    check_inputs,
    check_matrix,
    check_samples,
    check_targets,
    check_work,
    targets,
)
from .layers import (
    Function,
    back_layer,
    forward_layer,
    gradient_layer,
    times_derivative,
)
from .losses import slopes, total
from .model import (
    Model,
    activation,
    bias,
    block_size,
    carve,
    options_of,
    source,
    top_of,
    weight,
)


class Block(NamedTuple):
    """Samples that go through the layers together: X, Y and weights (or none) of each."""

    X: Matrix
    Y: Matrix
    weights: OptionalVector


# ---------------------------------------------------------------- for callers


@njit
def predict(model: Model, X: Matrix, out: OutMatrix, work: OutVector) -> None:
    """Compute the outputs of a network.

    The forward sweep: ``a = f(a_prev @ W.T + b)``, layer by layer.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    out : array (B, n_out)
        Outputs, overwritten; of one sample a vector, if X is one.
    work : array
        Scratch memory: at least ``workspace_size(model, B)`` floats.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.
    """
    refuse(_predict(VERSION, model, X, out, work))


@njit
def loss(
    model: Model, X: Matrix, Y: Matrix, work: OutVector, weights: Vector | None = None
) -> float:
    """Compute the loss of a network.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    Y : array (B, n_targets)
        Targets, or (B, 1) class labels, of the same dtype; one sample may be a vector.
    work : array
        Scratch memory: at least ``workspace_size(model, B)`` floats.
    weights : array (B,), optional
        Sample weights, not negative.

    Returns
    -------
    float
        The loss: weighted mean over samples, plus ``l2/2 * sum(W**2) + l1 * sum(|W|)``.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.
    """
    value = doubles(1)
    refuse(_loss(VERSION, model, X, Y, weights, work, value))
    return value[0]


@njit
def value_and_grad(
    model: Model,
    X: Matrix,
    Y: Matrix,
    grad: OutVector,
    work: OutVector,
    weights: Vector | None = None,
) -> float:
    """Compute the loss of a network and its gradient, by BP1 to BP4.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    Y : array (B, n_targets)
        Targets, or (B, 1) class labels, of the same dtype; one sample may be a vector.
    grad : array (n_params,)
        The gradient with respect to theta, overwritten.
    work : array
        Scratch memory: at least ``workspace_size(model, B)`` floats.
    weights : array (B,), optional
        Sample weights, not negative.

    Returns
    -------
    float
        The loss: weighted mean over samples, plus ``l2/2 * sum(W**2) + l1 * sum(|W|)``.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.

    References
    ----------
    Rumelhart, Hinton & Williams (1986), Learning representations by back-propagating errors.
    """
    value = doubles(1)
    refuse(_value_and_grad(VERSION, model, X, Y, weights, grad, work, value))
    return value[0]


@kernel
def _predict(version: Word, model: Model, X: Matrix, out: OutMatrix, work: OutVector) -> Word:
    batch = X.shape[0]
    status = (
        check_inputs(version, model, X)
        or check_matrix(out, batch, model.network[0].n_out)
        or check_work(model, work, batch, 1)
    )
    if status == OK:
        predict_of(model, X, out, work)
    return status


@kernel
def _loss(
    version: Word, model: Model, X: Matrix, Y: Matrix, weights: Vector, work: OutVector,
    value: Doubles,
) -> Word:  # fmt: skip
    status = check(version, model, X, Y, weights, work, 1)
    if status == OK:
        value[0] = loss_of(model, Block(X, targets(Y, X.shape[0]), weights), work)
    return status


@kernel
def _value_and_grad(
    version: Word, model: Model, X: Matrix, Y: Matrix, weights: Vector, grad: OutVector,
    work: OutVector, value: Doubles,
) -> Word:  # fmt: skip
    status = check(version, model, X, Y, weights, work, 1) or check_gradient(model, grad)
    if status == OK:
        value[0] = gradient_of(model, Block(X, targets(Y, X.shape[0]), weights), grad, work)
    return status


@inlined
def check(version, model, X, Y, weights, work, order):
    """Return the status of what most kernels take."""
    batch = X.shape[0]
    return (
        check_samples(version, model, X, weights)
        or check_targets(model, Y, batch)
        or check_work(model, work, batch, order)
    )


# ---------------------------------------------------------------- a batch: arguments are checked


class Here(NamedTuple):
    """Which samples of a batch a block has, and for how many scratch memory is cut."""

    first: Word
    count: Word
    m: Word


@inlined
def blocks(batch, m):
    """Yield where each of the blocks of m samples is that a batch is cut into."""
    first = 0
    while first < batch:
        yield Here(first, min(m, batch - first), m)
        first += m


@inlined
def predict_of(model, X, out, work):
    """Compute `predict` block by block."""
    for here in blocks(X.shape[0], block_size(X.shape[0])):
        parts = carve(model.network[0], work, here.m)
        x, y = rows_of(X, here), rows_of(out, here)
        slot, _ = special(model, here.count)
        if slot != 0:
            own_forward(slot, model.theta, x, y, parts.a)
        else:
            z = logits(model, parts, y, model.layers.size > 1)
            forward(model, x, parts.a, z, y, None)


@inlined
def loss_of(model, samples, work):
    """Compute `loss` block by block."""
    batch, result = samples.X.shape[0], 0.0
    for here in blocks(batch, block_size(batch)):
        block, parts = cut_block(samples, here), carve(model.network[0], work, here.m)
        z, a = forward_block(model, block.X, parts, None)
        result += total_of(model, z, a, block, parts.spare)
    return result / weight_sum(samples.weights, batch) + penalty(model)


@inlined
def gradient_of(model, samples, grad, work):
    """Compute `value_and_grad` block by block."""
    batch, result = samples.X.shape[0], 0.0
    mass = weight_sum(samples.weights, batch)
    start_gradient(model, grad)
    for here in blocks(batch, block_size(batch)):
        block, parts = cut_block(samples, here), carve(model.network[0], work, here.m)
        result += block_gradient(model, block, mass, 1.0, grad, parts, None)
    return result / mass + penalty(model)


@inlined
def block_gradient(model, block, mass, scale, grad, parts, dropout):
    """Add ``scale * gradient`` of one block's part of the mean to `grad`: forward, BP1, backward.

    `mass` is the weight of all blocks. Returns the block's ``sum(weight * loss)``.
    """
    X, Y, weights = block
    factor, (_, slot) = model.theta.dtype.type(scale), special(model, X.shape[0])
    if slot != 0 and not drops(dropout):
        value = own_step(slot, model.theta, X, Y, weights, mass, factor, grad, parts.a, parts.spare)
    else:
        z, a = forward_block(model, X, parts, dropout)
        value = total_of(model, z, a, block, parts.spare)
        delta = matrix(parts.delta, 0, a.shape[0], a.shape[1])
        output_delta(model, a, block, 1.0 / mass, delta, parts.spare)
        backward(model, X, factor, grad, parts.a, parts.delta, parts.delta_prev, dropout)
    return value


@inlined
def forward_block(model, X, parts, dropout):
    """Run `forward`, and return the `outputs`."""
    z, a = outputs(model, parts, X.shape[0])
    forward(model, X, parts.a, z, a, dropout)
    return z, a


@inlined
def outputs(model, parts, count):
    """Return (logits z, activations a) of the output layer, (B, n_out)."""
    top = top_of(model)
    a = activation(parts.a, top, count)
    return logits(model, parts, a, True), a


@inlined
def logits(model, parts, a, is_apart):
    """Return where the logits of outputs a go: they are one for an identity, if a `is_apart`.

    It is not where a caller wants outputs, of one layer alone, in place of the inputs.
    """
    z = matrix(parts.z, 0, a.shape[0], a.shape[1])
    if top_of(model).activate == 0 and is_apart:
        z = a
    return z


# ---------------------------------------------------------------- kernels of one list of layers


@prototype
def own_forward(theta: Vector, X: Matrix, out: OutMatrix, work: Vector):
    """Compute `predict` of a block, by a kernel of `special`."""


@prototype
def own_step(
    theta: Vector, X: Matrix, Y: Matrix, weights: Vector, mass: Double, scale: Real, grad: Vector,
    work: Vector, spare: Vector,
) -> Double:  # fmt: skip
    """Compute `block_gradient`, by a kernel of `special`."""


@inlined
def special(model, count):
    """Return the slots of `own_forward` and `own_step` for so many samples; 0 if there is none."""
    network = model.network[0]
    slots = network.forward, network.step
    if count == 1:
        slots = network.forward_one, network.step_one
    elif count == network.batch:
        slots = network.forward_batch, network.step_batch
    return slots


@inlined
def drops(dropout):
    """Return whether units are left out."""
    if dropout is None:
        return False
    return dropout.keep.size > 0


# ---------------------------------------------------------------- one block of samples


@kernel
def forward(model: Model, X: Matrix, a: Vector, z: Matrix, out: Matrix, dropout: Dropout):
    """Write activations of hidden layers into `a`, logits into z and outputs into `out`.

    a : section of `Workspace`. z, out : (B, n_out).
    """
    count, last, a_prev = X.shape[0], model.layers.size - 1, rows(X, 0, X.shape[0])
    for k in range(last + 1):
        layer = model.layers[k]
        W, b = weight(model.theta, layer), bias(model.theta, layer)
        if k == last:
            forward_layer(a_prev, W, b, function_at(layer), z, out, model.threads)
        else:
            zk, ak = source(a, layer, count), activation(a, layer, count)
            forward_layer(a_prev, W, b, function_at(layer), zk, ak, model.threads)
            if dropout.keep.size > 0:
                drop(dropout, k, ak)
            a_prev = ak


@inlined
def function_at(layer):
    """Return the activation of a layer."""
    return Function(layer.activate, layer.tangent, layer.of_rows, layer.parameter)


@kernel
def backward(
    model: Model, X: Matrix, scale: Real, grad: Vector, a: Vector, delta: Vector,
    delta_prev: Vector, dropout: Dropout,
):  # fmt: skip
    """Add to `grad` `scale` times what one block of samples contributes.

    a, delta, delta_prev : sections of `Workspace`: the activations that `forward` left, delta of
    the output layer, and scratch. `grad` may be theta itself: W is read before it is written.
    """
    count, here, below = X.shape[0], delta, delta_prev
    for k in range(model.layers.size - 1, -1, -1):
        layer = model.layers[k]
        dk = matrix(here, 0, count, layer.n_out)
        W, dW, db = weight(model.theta, layer), weight(grad, layer), bias(grad, layer)
        if k == 0:
            gradient_layer(dk, X, scale, dW, db, model.threads)
        else:
            lower = model.layers[k - 1]
            f, x_prev = function_at(lower), source(a, lower, count)
            a_prev, dk_prev = activation(a, lower, count), matrix(below, 0, count, layer.n_in)
            if dropout.keep.size == 0:
                back_layer(dk, W, x_prev, f, dk_prev, model.threads)
                gradient_layer(dk, a_prev, scale, dW, db, model.threads)
            else:  # f' of what was kept, once a_prev is again what it was before
                back_layer(dk, W, x_prev, STRAIGHT, dk_prev, model.threads)
                gradient_layer(dk, a_prev, scale, dW, db, model.threads)
                undrop(dropout, k - 1, a_prev, dk_prev)
                times_derivative(f, x_prev, dk_prev)
        here, below = below, here


STRAIGHT = Function(0, 0, 0, 0.0)  # f' = 1


@inlined
def total_of(model, z, a, block, spare):
    """Sum over a block's samples of weight times loss."""
    network = model.network[0]
    return total(network.total, z, a, block.Y, block.weights, options_of(network), spare)


@inlined
def output_delta(model, a, block, scale, delta, spare):
    """Compute BP1: ``delta[L] = dLoss/da[L] * f'(z[L])``, or ``a - y`` where f' cancels.

    The loss is ``scale * sum(weight * loss)``. a, delta : (B, n_out), delta is overwritten.
    """
    network = model.network[0]
    slopes(network.slopes, a, block.Y, block.weights, scale, delta, options_of(network), spare)
    if network.needs_derivative != 0:
        times_derivative(function_at(top_of(model)), a, delta)


# ---------------------------------------------------------------- the penalty


@inlined
def start_gradient(model, grad):
    """Set `grad` to the penalty's: ``l2 * W + l1 * sign(W)``, 0 for biases."""
    fill(grad, 0)
    if has_penalty(model):
        _penalty_gradient(model, model.theta, model.network[0].l1, grad)


@inlined
def start_product(model, v, out):
    """Set `out` to the penalty's part of a product with v: ``l2 * V``, 0 for biases."""
    fill(out, 0)
    if model.network[0].l2 != 0:
        _penalty_gradient(model, v, 0.0, out)


@inlined
def has_penalty(model):
    """Return whether there is a penalty."""
    return model.network[0].l2 != 0 or model.network[0].l1 != 0


@inlined
def penalty(model):
    """Return ``l2/2 * sum(W**2) + l1 * sum(|W|)`` over weights, not biases."""
    value = 0.0
    if has_penalty(model):
        value = _penalty(model)
    return value


@kernel
def _penalty_gradient(model: Model, theta: Vector, l1: Double, grad: Vector):
    """Compute ``dW = l2 * W + l1 * sign(W)``."""
    zero, l2, up = broadcast(0, theta), broadcast(model.network[0].l2, theta), broadcast(l1, theta)
    for k in range(model.layers.size):
        layer = model.layers[k]
        W, dW = flat(weight(theta, layer)), flat(weight(grad, layer))
        for i in range(0, W.size, lanes(W)):
            x = get(W, i)
            sign = select(x > zero, up, zero) - select(x < zero, up, zero)
            put(dW, i, fma(l2, x, sign))


@kernel
def _penalty(model: Model) -> Double:
    """Return the penalty, summed over all layers in float64."""
    squares = sizes = broadcast(0.0, 0.0)
    for k in range(model.layers.size):
        W = flat(weight(model.theta, model.layers[k]))
        for i in range(0, W.size, lanes(W)):
            x = get(W, i)
            squares, sizes = accumulate(squares, x * x), accumulate(sizes, absolute(x))
    network = model.network[0]
    return 0.5 * network.l2 * reduce_add(squares) + network.l1 * reduce_add(sizes)


# ---------------------------------------------------------------- samples


@inlined
def weight_sum(weights, batch):
    """Sum of the sample weights; `batch` where there are none."""
    result = float(batch)
    if weights.size > 0:
        result = 0.0
        for b in range(batch):
            result += weights[b]
    return result


@inlined
def cut_block(samples, here):
    """Return the samples of a block."""
    weights = vector(samples.weights, here.first, here.count if samples.weights.size > 0 else 0)
    return Block(rows_of(samples.X, here), rows_of(samples.Y, here), weights)


@inlined
def rows_of(X, here):
    """Return the rows of a block's samples."""
    return rows(X, here.first, here.count)
