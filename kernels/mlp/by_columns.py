"""Functions of rows of a few columns, such as softmax: a vector for each column, a lane a row.

Such rows leave lanes empty, and a maximum or a sum over lanes takes longer than an exp. So as many
rows as a vector has lanes are transposed in registers. Sums have the order that `reduce_add` has
in a row: results are the same bits whichever way a row goes.
"""

from ..compiler import inlined
from ..gemm.tile import at, view
from ..gemm.transpose import columns_to_rows, rows_to_columns
from ..simd.vectors import lanes, load, select, store
from ..simd.views import matrix, vectors

MOST_COLUMNS = 64  # four vectors of the longest there are


@inlined
def rows_by_columns(z, most):
    """Return how many rows of z to transpose: whole vectors of them, of at most `most` a row."""
    count, n = z.shape
    whole = 0
    if n <= most * lanes(z):
        whole = count - count % lanes(z)
    return whole


@inlined
def columns_of(z, first, x):
    """Write a vector of each column, of rows of z from `first` on, into the vectors x."""
    n = z.shape[1]
    for j in range(0, n, lanes(z)):
        k = _place(j, n, lanes(z))
        rows_to_columns(at(view(z), first, k), at(view(_matrix(x)), k, 0), n - k)


@inlined
def columns_back(x, a, first):
    """Write vectors x of columns into the rows of a from `first` on."""
    n = a.shape[1]
    for j in range(0, n, lanes(a)):
        k = _place(j, n, lanes(a))
        columns_to_rows(at(view(_matrix(x)), k, 0), at(view(a), first, k), n - k)


@inlined
def _place(j, n, width):
    """Return where a block of columns begins: the last ends with the row, so that it is whole."""
    return max(min(j, n - width), 0)


@inlined
def _matrix(x):
    return matrix(x, 0, x.size // lanes(x), lanes(x))


@inlined
def largest_column(x, n):
    """Return the maximum of each row that has no NaN; some element if it has one."""
    top = load(x, 0)
    for j in range(1, n):
        v = load(x, j * lanes(x))
        top = select(v > top, v, top)
    return top


@inlined
def sum_of_columns(x, n):
    """Return the sum of each row: the right half of the columns is added to the left, and again."""
    sums, width, half = vectors(16, x), lanes(x), 1
    while 2 * half < n:
        half *= 2
    for j in range(half):
        v = load(x, j * width)
        if j + half < n:
            v = v + load(x, (j + half) * width)
        store(sums, j * width, v)
    while half > 1:
        half //= 2
        for j in range(half):
            store(sums, j * width, load(sums, j * width) + load(sums, (j + half) * width))
    return load(sums, 0)
