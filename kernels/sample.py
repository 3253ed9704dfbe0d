"""The sweeps of one sample: a product with one row waits for itself, not for the multipliers.

So what counts is the length of the chain of multiply-adds, and whatever else is done a layer. The
lanes go along the outputs, four vectors side by side; sums have the order that they have in a
batch, so that one sample's outputs are the bits that it has among others.
"""

from .activations import (
    activate,
    common_derivative,
    common_value,
    is_common,
    times_derivative,
)
from .compiler import inlined, njit
from .model import A_AT, ACTIVATION, B_AT, N_IN, N_OUT, W_AT, layer_at, source
from .narrow import group_of
from .tile import DEPTH, at, row_sums, view
from .vectors import broadcast, fma, lanes, load, load_masked, reduce_add, store_masked
from .views import matrix, row, vector


@njit
def forward_sample(model, x, a, z, out):
    """Activations of the hidden layers for one sample x, side by side in `a`; the outputs in `out`.

    x, a, z, out : flat; z (n_out,) is overwritten by the logits of the output layer.
    """
    slope, depth = model.coef[0], model.layers.shape[0]
    for k in range(depth):
        layer = layer_at(model, k)
        W_and_b = vector(model.theta, layer[W_AT], (layer[N_IN] + 1) * layer[N_OUT])
        kept, there, f = z, out, layer[ACTIVATION]
        if k < depth - 1:
            kept, there = row(source(a, layer, 1), 0), vector(a, layer[A_AT], layer[N_OUT])
        _layer(x, W_and_b, f, slope, kept, there)
        if not is_common(f):
            activate(f, slope, matrix(kept, 0, 1, kept.size), matrix(there, 0, 1, kept.size))
        x = there


@njit
def _layer(x, W, f, slope, z, a):
    """``z = x @ W + b``, and ``a = f(z)`` if f `is_common`; z may be a.

    W holds b behind its rows.
    """
    n, width = z.size, lanes(z)
    if n == 1:
        _put(_dot(x, W, W[x.size]), f, slope, z, a, 0)
        return
    if group_of(n, width) > 1:
        _put(_narrow(x, W, n, group_of(n, width)), f, slope, z, a, 0)
        return
    for j in range(0, n, 4 * width):
        in_p, in_q = n - j, n - j - width
        in_r, in_s = in_q - width, in_q - 2 * width
        b = x.size * n + j
        p, q = load_masked(W, b, in_p), load_masked(W, b + width, in_q)
        r, s = load_masked(W, b + 2 * width, in_r), load_masked(W, b + 3 * width, in_s)
        for first in range(0, x.size, DEPTH):
            t = u = v = w = broadcast(0, x)
            for k in range(first, min(first + DEPTH, x.size)):
                i, xk = k * n + j, x[k]
                t = fma(load_masked(W, i, in_p), xk, t)
                u = fma(load_masked(W, i + width, in_q), xk, u)
                v = fma(load_masked(W, i + 2 * width, in_r), xk, v)
                w = fma(load_masked(W, i + 3 * width, in_s), xk, w)
            p, q, r, s = p + t, q + u, r + v, s + w
        _put(p, f, slope, z, a, j)
        _put(q, f, slope, z, a, j + width)
        _put(r, f, slope, z, a, j + 2 * width)
        _put(s, f, slope, z, a, j + 3 * width)


@inlined
def _put(total, f, slope, z, a, j):
    """A vector of z and of ``a = f(z)``, from place j on, where there is any."""
    if j < z.size:  # even a store of no lane makes later loads from there wait
        store_masked(z, j, total, z.size - j)
        store_masked(a, j, common_value(f, slope, total), z.size - j)


@inlined
def _dot(x, y, start):
    """``sum(x * y) + start`` in each lane, in the order of `matvec`."""
    total, whole = broadcast(0, x), x.size - x.size % lanes(x)
    for k in range(0, whole, lanes(x)):
        total = fma(load(x, k), load(y, k), total)
    rest = x.size - whole
    if rest > 0:
        total = fma(load_masked(x, whole, rest), load_masked(y, whole, rest), total)
    return broadcast(reduce_add(total) + start, x)


@inlined
def _narrow(x, W, n, group):
    """``x @ W + b`` of few columns, with 2 or 4 chains down each, as in `make_grouped`."""
    total = load_masked(W, x.size * n, n)
    for first in range(0, x.size, DEPTH):
        last = min(first + DEPTH, x.size)
        t = u = v = w = broadcast(0, x)
        for k in range(first, last, group):
            t = _term(x, W, n, k, last, t)
            u = _term(x, W, n, k + 1, last, u)
            if group == 4:
                v = _term(x, W, n, k + 2, last, v)
                w = _term(x, W, n, k + 3, last, w)
        if group == 4:
            t, u = t + v, u + w
        total = total + (t + u)
    return total


@inlined
def _term(x, W, n, k, last, total):
    """``total + x[k] * W[k]``, and 0 from `last` on."""
    if k < last:
        return fma(load_masked(W, k * n, n), x[k], total)
    return total + broadcast(0, x)


@njit
def backward_sample(model, x, scale, grad, a, delta, delta_prev):
    """Add `scale` times the gradient of one sample to `grad`, which may be theta itself.

    x, a : as for `forward_sample`. delta : of the output layer; both deltas are scratch.
    """
    for k in range(model.layers.shape[0] - 1, -1, -1):
        layer = layer_at(model, k)
        n_in, n = layer[N_IN], layer[N_OUT]
        here, a_prev = vector(delta, 0, n), vector(x, 0, n_in)
        if k > 0:
            lower = layer_at(model, k - 1)
            a_prev, below = vector(a, lower[A_AT], n_in), vector(delta_prev, 0, n_in)
            W, x_prev = matrix(model.theta, layer[W_AT], n_in, n), row(source(a, lower, 1), 0)
            _propagate(here, W, x_prev, lower[ACTIVATION], model.coef[0], below)
        _add_outer(a_prev, here, scale, vector(grad, layer[W_AT], n_in * n))
        _add_row(here, scale, vector(grad, layer[B_AT], n))
        delta, delta_prev = delta_prev, delta


@inlined
def _propagate(delta, W, x_prev, f, slope, delta_prev):
    """BP2: ``delta_prev = (W @ delta) * f'(z_prev)``."""
    width, column = lanes(delta), vector(W, 0, W.size)
    for i in range(0, x_prev.size, width):
        here = x_prev.size - i
        if W.shape[1] == 1:  # a column lies in memory like a row
            total = load_masked(column, i, here) * delta[0]
        else:
            total = row_sums(at(view(W), i, 0), view(delta), W.shape[1], min(here, width))
        factor = common_derivative(f, slope, load_masked(x_prev, i, here))
        store_masked(delta_prev, i, total * factor, here)
    if not is_common(f):
        x, g = matrix(x_prev, 0, 1, x_prev.size), matrix(delta_prev, 0, 1, x_prev.size)
        times_derivative(f, slope, x, g)


@inlined
def _add_outer(x, d, scale, c):
    """``c += scale * outer(x, d)``, four rows at a time.

    All four are read before one is written: a load that overlaps a masked store under way waits.
    """
    n = d.size
    if n == 1:  # a column lies in memory like a row
        _add_row(x, scale * d[0], c)
        return
    fours = x.size - x.size % 4
    for i in range(0, fours, 4):
        p, q, r, s = scale * x[i], scale * x[i + 1], scale * x[i + 2], scale * x[i + 3]
        for j in range(0, n, lanes(d)):
            here, k = n - j, i * n + j
            v = load_masked(d, j, here)
            row_p = fma(v, p, load_masked(c, k, here))
            row_q = fma(v, q, load_masked(c, k + n, here))
            row_r = fma(v, r, load_masked(c, k + 2 * n, here))
            row_s = fma(v, s, load_masked(c, k + 3 * n, here))
            store_masked(c, k, row_p, here)
            store_masked(c, k + n, row_q, here)
            store_masked(c, k + 2 * n, row_r, here)
            store_masked(c, k + 3 * n, row_s, here)
    for i in range(fours, x.size):
        _add_row(d, scale * x[i], vector(c, i * n, n))


@inlined
def _add_row(d, scale, c):
    """``c += scale * d``."""
    for j in range(0, d.size, lanes(d)):
        here = d.size - j
        store_masked(c, j, fma(load_masked(d, j, here), scale, load_masked(c, j, here)), here)
