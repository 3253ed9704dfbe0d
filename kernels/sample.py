"""The sweeps of one sample: a product with one row waits for itself, not for the multipliers.

So what counts is the length of the chain of multiply-adds, and whatever else is done a layer. The
lanes go along the outputs, four vectors side by side; sums have the order that they have in a
batch, so that one sample's outputs are the bits that it has among others.
"""

from .activations import activate, times_derivative
from .compiler import inlined, njit
from .model import A_AT, ACTIVATION, B_AT, N_IN, N_OUT, W_AT, layer_at
from .product import matvec
from .tile import DEPTH
from .vectors import broadcast, fma, lanes, load, load_masked, reduce_add, store_masked
from .views import matrix, vector


@njit
def forward_sample(model, x, a, z):
    """Activations of every layer for one sample x, side by side in `a`; logits of the last in `z`.

    x, a, z : flat.
    """
    at = 0
    top = model.layers.shape[0] - 1
    for k in range(top + 1):
        layer = layer_at(model, k)
        n = layer[N_OUT]
        W, out = vector(model.theta, layer[W_AT], (layer[N_IN] + 1) * n), vector(a, at, n)
        if k < top:
            _affine(x, W, out)
            _activate(layer, model, out, out)
        else:
            _affine(x, W, z)
            _activate(layer, model, z, out)
        x = out
        at += n


@inlined
def _activate(layer, model, z, a):
    n = z.size
    activate(layer[ACTIVATION], model.coef[0], matrix(z, 0, 1, n), matrix(a, 0, 1, n))


@inlined
def _affine(x, W, z):
    """``z = x @ W + b``; W holds b behind its rows."""
    if z.size == 1:
        z[0] = _dot(x, W) + W[x.size]
    else:
        _combine_rows(x, W, z)


@inlined
def _dot(x, y):
    """``sum(x * y)`` in the order of `matvec`."""
    total, whole = broadcast(0, x), x.size - x.size % lanes(x)
    for k in range(0, whole, lanes(x)):
        total = fma(load(x, k), load(y, k), total)
    rest = x.size - whole
    if rest > 0:
        total = fma(load_masked(x, whole, rest), load_masked(y, whole, rest), total)
    return reduce_add(total)


@inlined
def _combine_rows(x, W, z):
    """``z = x @ W + b`` by chains over the rows of W, each at most DEPTH long."""
    n, width = z.size, lanes(z)
    for j in range(0, n, 4 * width):
        in_p, in_q = min(n - j, width), n - j - width
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
        store_masked(z, j, p, in_p)
        if in_q > 0:  # even a store of no lane makes later loads from there wait
            store_masked(z, j + width, q, in_q)
        if in_r > 0:
            store_masked(z, j + 2 * width, r, in_r)
        if in_s > 0:
            store_masked(z, j + 3 * width, s, in_s)


@njit
def backward_sample(model, x, scale, grad, a, delta, delta_prev):
    """Add `scale` times the gradient of one sample to `grad`, which may be theta itself.

    x, a : as for `forward_sample`. delta : of the output layer; both deltas are scratch.
    """
    for k in range(model.layers.shape[0] - 1, -1, -1):
        layer = layer_at(model, k)
        n_in, n = layer[N_IN], layer[N_OUT]
        here = vector(delta, 0, n)
        a_prev = vector(x, 0, n_in)
        if k > 0:
            lower = layer_at(model, k - 1)
            a_prev = vector(a, lower[A_AT], n_in)
            below = vector(delta_prev, 0, n_in)
            matvec(matrix(model.theta, layer[W_AT], n_in, n), here, below, model.theta.dtype.type(0))
            f, slope = lower[ACTIVATION], model.coef[0]
            times_derivative(f, slope, matrix(a_prev, 0, 1, n_in), matrix(below, 0, 1, n_in))
        _add_outer(a_prev, here, scale, vector(grad, layer[W_AT], n_in * n))
        _add_outer_row(here, scale, vector(grad, layer[B_AT], n))
        delta, delta_prev = delta_prev, delta


@inlined
def _add_outer(x, d, scale, c):
    """``c += scale * outer(x, d)``, four rows at a time.

    All four are read before one is written: a load that overlaps a masked store under way waits.
    """
    n = d.size
    if n == 1:  # a column lies in memory like a row
        _add_outer_row(x, scale * d[0], c)
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
        _add_outer_row(d, scale * x[i], vector(c, i * n, n))


@inlined
def _add_outer_row(d, scale, c):
    """``c += scale * d``."""
    for j in range(0, d.size, lanes(d)):
        here = d.size - j
        store_masked(c, j, fma(load_masked(d, j, here), scale, load_masked(c, j, here)), here)
