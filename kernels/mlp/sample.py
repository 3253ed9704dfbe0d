"""The layer of one sample: a product with one row waits for itself, not for the multipliers.

So what counts is the length of the chain of multiply-adds, and whatever else is done a layer. The
lanes go along the outputs, four vectors side by side; sums have the order that they have in a
batch, so that one sample's outputs are the bits that it has among others.
"""

from ..abi import Matrix, Real, Vector
from ..blocks import KC, group_of
from ..compiler import inlined, kernel
from ..gemm.tile import at, row_sums, view
from ..simd.vectors import broadcast, fma, lanes, load, load_masked, reduce_add
from ..simd.views import get, put, row, vector


@kernel
def forward_row(x: Vector, W: Matrix, b: Vector, z: Vector):
    """Compute ``z = x @ W + b``."""
    n, width = z.size, lanes(z)
    if n == 1:
        z[0] = _dot(x, vector(W, 0, x.size)) + b[0]
    elif group_of(n, width) > 1:
        put(z, 0, _narrow(x, vector(W, 0, W.size), b, group_of(n, width)))
    else:
        for j in range(0, n, 4 * width):
            _four_vectors(x, vector(W, j, W.size - j), vector(b, j, n - j), n, vector(z, j, n - j))


@inlined
def _four_vectors(x, W, b, n, z):
    """Return four vectors of outputs, or as many as there are; rows of W are n apart."""
    width = lanes(z)
    in_p, in_q, in_r, in_s = z.size, z.size - width, z.size - 2 * width, z.size - 3 * width
    p, q = load_masked(b, 0, in_p), load_masked(b, width, in_q)
    r, s = load_masked(b, 2 * width, in_r), load_masked(b, 3 * width, in_s)
    for first in range(0, x.size, KC):
        t = u = v = w = broadcast(0, x)
        for k in range(first, min(first + KC, x.size)):
            i, xk = k * n, x[k]
            t = fma(load_masked(W, i, in_p), xk, t)
            u = fma(load_masked(W, i + width, in_q), xk, u)
            v = fma(load_masked(W, i + 2 * width, in_r), xk, v)
            w = fma(load_masked(W, i + 3 * width, in_s), xk, w)
        p, q, r, s = p + t, q + u, r + v, s + w
    put(z, 0, p)
    if in_q > 0:  # even a store of no lane makes later loads from there wait
        put(z, width, q)
    if in_r > 0:
        put(z, 2 * width, r)
    if in_s > 0:
        put(z, 3 * width, s)


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
    total = load_masked(b, 0, n)
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
        total = fma(load_masked(W, k * n, n), x[k], total)
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

    All four are read before one is written: a load that overlaps a masked store under way waits.
    """
    n = d.size
    p, q, r, s = scale * x[i], scale * x[i + 1], scale * x[i + 2], scale * x[i + 3]
    for j in range(0, n, lanes(d)):
        v = get(d, j)
        row_p = fma(v, p, get(vector(c, 0, n), j))
        row_q = fma(v, q, get(vector(c, n, n), j))
        row_r = fma(v, r, get(vector(c, 2 * n, n), j))
        row_s = fma(v, s, get(vector(c, 3 * n, n), j))
        put(vector(c, 0, n), j, row_p)
        put(vector(c, n, n), j, row_q)
        put(vector(c, 2 * n, n), j, row_r)
        put(vector(c, 3 * n, n), j, row_s)


@inlined
def _add_row(d, scale, c):
    """Compute ``c += scale * d``."""
    for j in range(0, d.size, lanes(d)):
        put(c, j, fma(get(d, j), scale, get(c, j)))
