"""Products with few columns, which a tile's lanes along columns would leave half empty.

A single column is an inner product, the lanes along what is summed. A few columns share a vector
with as many rows of b as fit; each then has several chains, which are added up at the end. Where c
is small and the sums are long, c.T is computed, the lanes along the rows of c. (Lanes along the
samples of a forward product would have to transpose a, which takes as long as they would save.)
"""

import numpy as np

from ..abi import Matrix, Real, Vector, Word
from ..blocks import KC, MR_FEW, MR_NARROW, NR
from ..compiler import inlined, kernel
from ..simd.vectors import VECTOR_BYTES, broadcast, fma, lanes, load, reduce_add
from ..simd.views import flat, get, put, put_first
from .product import ZERO, Shape, few_rows, panel_buffer, product, unit
from .tile import BODY, SMALL, View, at, make_buffer, make_tile, row_sums, view, zeros
from .transpose import make_interleave, transpose_add

strip_buffer = make_buffer(NR, 3 * VECTOR_BYTES // 8)


@kernel
def matvec(a: Matrix, x: Vector, y: Vector, bias: Real):
    """``y = a @ x + bias`` by inner products: the lanes go along the rows of a, then along y.

    Each row's sum has one order: a chain in each lane, and then as `reduce_add` has it.
    """
    m, width = a.shape[0], lanes(y)
    for i in range(0, m, width):
        rows = min(m - i, width)
        sums = row_sums(at(view(a), i, 0), view(x), a.shape[1], rows)
        put(y, i, sums + bias)


def make_grouped(group):
    """Make `product` of a narrow c, of n <= lanes / group columns; a has contiguous rows."""
    rows, few = make_tile(int(MR_NARROW), 1, BODY, group), make_tile(MR_FEW, 1, SMALL, group)
    interleave = make_interleave(group)

    @kernel(name=f"product_by_{group}")
    def grouped_product(base: View, scale: Real, a: View, b: View, c: View, shape: Shape, k: Word):
        m, n = shape
        panel = panel_buffer(b)
        panel = View(panel.data, panel.row // NR, panel.col)
        still = View(panel.data, ZERO, ZERO)  # nothing to be prefetched
        for p in range(0, k, KC):
            depth = min(k - p, KC)
            for q in range(0, depth, group):
                interleave(at(b, p + q, 0), at(panel, q // group, 0), depth - q, n)
            x = at(a, 0, p)
            if m < MR_NARROW:
                for i in range(0, m, MR_FEW):
                    here = min(m - i, MR_FEW)
                    s, y, z = at(base, i, 0), at(x, i, 0), at(c, i, 0)
                    few(s, scale, y, panel, z, still, depth, n, here)
            else:
                for i in range(0, m, MR_NARROW):
                    h = min(i, m - MR_NARROW)
                    s, y, z = at(base, h, 0), at(x, h, 0), at(c, h, 0)
                    rows(s, scale, y, panel, z, still, depth, n, i - h)
            base = c

    return grouped_product


product_by_2, product_by_4 = make_grouped(2), make_grouped(4)


@kernel
def narrow_outer_add(a: View, b: View, scale: Real, c: View, shape: Shape, k: Word):
    """``c += scale * a.T @ b`` of a c of few columns: c.T is computed, a strip at a time."""
    m, n = shape
    strip, one = strip_buffer(b), unit(c)
    width = strip.row // NR
    transposed = View(b.data, b.col, b.row)
    for i in range(0, m, NR * width):
        here = min(m - i, NR * width)
        product(zeros(b), one, transposed, at(a, 0, i), strip, (n, here), k)
        for h in range(0, here, width):
            for j in range(0, n, width):
                transpose_add(scale, at(strip, j, h), at(c, i + h, j), n - j, here - h)


@inlined
def sum_add(a, weights, row_of_weights, scale, c, first, count):
    """``c += scale * weights @ a``, columns `first` to ``first + count``; None is weights of 1."""
    if c.size > 4 * lanes(a):  # not `count`, which depends on the number of threads
        x, shape = view(c), (np.intp(1), count)
        target = at(x, 0, first)
        few_rows(target, scale, row_of_weights, at(view(a), 0, first), target, shape, a.shape[0])
    else:
        narrow_sum_add(a, weights, scale, c, first, count)


@kernel
def narrow_sum_add(a: Matrix, weights: Vector, scale: Real, c: Vector, first: Word, count: Word):
    """Compute `sum_add` of few columns, by four chains each: one would wait for itself."""
    x, (m, n), width = flat(a), a.shape, lanes(a)
    if n == 1:  # lanes go along the rows
        c[0] += scale * reduce_add(_column_sum(x, weights))
        return
    fours = max(m - (width + n - 1) // n, 0) // 4 * 4  # from the others on vectors may be masked
    for j in range(first, first + count, width):
        here = min(width, first + count - j)
        s = t = u = v = broadcast(0, x)
        for i in range(0, fours, 4):
            k = i * n + j
            s = _term(s, weights, i, load(x, k))  # and of other columns, which are not stored
            t = _term(t, weights, i + 1, load(x, k + n))
            u = _term(u, weights, i + 2, load(x, k + 2 * n))
            v = _term(v, weights, i + 3, load(x, k + 3 * n))
        for i in range(fours, m):
            s = _term(s, weights, i, get(x, i * n + j))
        put_first(c, j, fma((s + t) + (u + v), scale, get(c, j)), here)


@inlined
def _column_sum(x, weights):
    """Return vectors of x, times those of `weights` if there are some, added up."""
    total = broadcast(0, x)
    for i in range(0, x.size, lanes(x)):
        v = get(x, i)
        total = total + v if weights.size == 0 else fma(v, get(weights, i), total)
    return total


@inlined
def _term(total, weights, i, x):
    """``total + weights[i] * x``."""
    if weights.size == 0:
        return total + x
    return fma(x, weights[i], total)
