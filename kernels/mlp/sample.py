"""The layer of one sample: a product with one row waits for itself, not for the multipliers.

So what counts is the length of the chain of multiply-adds, and whatever else is done a layer. The
lanes go along the outputs, four vectors side by side; sums have the order that they have in a
batch, so that one sample's outputs are the bits that it has among others.
"""

from ..abi import Matrix, Real, Vector
from ..blocks import KC, group_of
from ..compiler import inlined, kernel
from ..gemm.tile import at, row_sums, view
from ..simd.vectors import broadcast, fma, lanes, load, load_masked, reduce_add, store
from ..simd.views import get, put, put_first, row, vector


@kernel
def forward_row(x: Vector, W: Matrix, b: Vector, z: Vector):
    """Compute ``z = x @ W + b``."""
    n, width = z.size, lanes(z)
    if n == 1:
        z[0] = _dot(x, vector(W, 0, x.size)) + b[0]
    elif group_of(n, width) > 1:
        put(z, 0, _narrow(x, vector(W, 0, W.size), b, group_of(n, width)))
    elif n < width:
        put(z, 0, _one_vector(x, vector(W, 0, W.size), b))
    else:
        for j in range(0, n, 4 * width):
            _four_vectors(x, vector(W, 0, W.size), b, z, j)


@inlined
def _one_vector(x, W, b):
    """Return the outputs, fewer than a vector has lanes; others are of what follows in W."""
    total = get(b, 0)
    for first in range(0, x.size, KC):
        t = broadcast(0, x)
        for k in range(first, min(first + KC, x.size)):
            t = fma(get(W, k * b.size), x[k], t)
        total = total + t
    return total


@inlined
def _four_vectors(x, W, b, z, j):
    """Compute four vectors of outputs, from j on; the last lie at the end of z, and overlap."""
    n, width = z.size, lanes(z)
    end = n - width
    j_p, j_q, j_r = min(j, end), min(j + width, end), min(j + 2 * width, end)
    j_s = min(j + 3 * width, end)
    p, q, r, s = load(b, j_p), load(b, j_q), load(b, j_r), load(b, j_s)
    for first in range(0, x.size, KC):
        t = u = v = w = broadcast(0, x)
        for k in range(first, min(first + KC, x.size)):
            i, xk = k * n, x[k]
            t = fma(load(W, i + j_p), xk, t)
            u = fma(load(W, i + j_q), xk, u)
            v = fma(load(W, i + j_r), xk, v)
            w = fma(load(W, i + j_s), xk, w)
        p, q, r, s = p + t, q + u, r + v, s + w
    store(z, j_p, p)
    store(z, j_q, q)
    store(z, j_r, r)
    store(z, j_s, s)


@inlined
def _dot(x, y):
    """``sum(x * y)``, in the order of `matvec`."""
    total, whole = broadcast(0, x), x.size - x.size % lanes(x)
    for k in range(0, whole, lanes(x)):
        total = fma(load(x, k), load(y, k), total)
    rest = x.size - whole
    if rest > 0:
        total = fma(load_masked(x, whole, rest), load_masked(y, whole, rest), total)
    return reduce_add(total)


@inlined
def _narrow(x, W, b, group):
    """``x @ W + b`` of few columns, with 2 or 4 chains down each, as in `make_grouped`."""
    n = b.size
    total = get(b, 0)
    for first in range(0, x.size, KC):
        last = min(first + KC, x.size)
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
        total = fma(get(W, k * n), x[k], total)
    else:
        total = total + broadcast(0, x)
    return total


@kernel
def back_row(delta: Vector, W: Matrix, out: Vector):
    """Compute ``out = W @ delta``: BP2 but for f'."""
    for i in range(0, out.size, lanes(out)):
        if W.shape[1] == 1:  # a column lies in memory like a row
            total = get(vector(W, 0, W.size), i) * delta[0]
        else:
            rows = min(out.size - i, lanes(out))
            total = row_sums(at(view(W), i, 0), view(delta), W.shape[1], rows)
        put(out, i, total)


@kernel
def add_outer(x: Vector, d: Vector, scale: Real, dW: Matrix, db: Vector):
    """Compute ``dW += scale * outer(x, d)``, ``db += scale * d``: BP3 and BP4."""
    if d.size == 1:  # a column lies in memory like a row
        _add_row(x, scale * d[0], vector(dW, 0, dW.size))
    else:
        fours = x.size - x.size % 4
        for i in range(0, fours, 4):
            _add_four(x, i, d, scale, vector(dW, i * d.size, 4 * d.size))
        for i in range(fours, x.size):
            _add_row(d, scale * x[i], row(dW, i))
    _add_row(d, scale, db)


@inlined
def _add_four(x, i, d, scale, c):
    """Add to four rows of c.

    All four are read before one is written: a load that overlaps a store under way waits.
    """
    n, width = d.size, lanes(d)
    p, q, r, s = scale * x[i], scale * x[i + 1], scale * x[i + 2], scale * x[i + 3]
    end = max(n - width, 0)
    last_p, last_q, last_r, last_s = _four_sums(d, c, end, p, q, r, s)
    for j in range(0, end, width):
        row_p, row_q, row_r, row_s = _four_sums(d, c, j, p, q, r, s)
        store(c, j, row_p)
        store(c, n + j, row_q)
        store(c, 2 * n + j, row_r)
        store(c, 3 * n + j, row_s)
    put_first(c, end, last_p, n)
    put_first(c, n + end, last_q, n)
    put_first(c, 2 * n + end, last_r, n)
    put_first(c, 3 * n + end, last_s, n)


@inlined
def _four_sums(d, c, j, p, q, r, s):
    """Return ``c + p * d`` of a vector from column j on, and the same of three more rows."""
    v, n = get(d, j), d.size
    row_p, row_q = fma(v, p, get(c, j)), fma(v, q, get(c, n + j))
    row_r, row_s = fma(v, r, get(c, 2 * n + j)), fma(v, s, get(c, 3 * n + j))
    return row_p, row_q, row_r, row_s


@inlined
def _add_row(d, scale, c):
    """Compute ``c += scale * d``; the last vector, read first, may overlap the one before."""
    n, width = d.size, lanes(d)
    end = max(n - width, 0)
    last = fma(get(d, end), scale, get(c, end))
    for j in range(0, end, width):
        store(c, j, fma(load(d, j), scale, load(c, j)))
    put_first(c, end, last, n)
