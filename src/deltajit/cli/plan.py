"""``deltajit info --plan 784,128,10 --batch 64``: the tiles that compute each product of a step."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from deltajit.kernels import blocks
from deltajit.kernels.mlp.model import block_size
from deltajit.kernels.simd.vectors import LANES_F32, LANES_F64

WIDTHS = (12, 9, 25, 19, 9)  # of the printed columns


class Product(NamedTuple):
    """Describe a product of matrices, (m, k) @ (k, n), and how it is computed.

    Attributes
    ----------
    layer, name : str
        Sizes of the layer; forward, BP2 or BP3.
    shape : tuple of int
        (m, k, n).
    lanes : str
        What the lanes of a vector run along.
    tile : str
        Rows x vectors.
    useful : float
        Share of the multiply-adds whose result is kept; the others fill up tiles at the edges.
    """

    layer: str
    name: str
    shape: tuple[int, int, int]
    lanes: str
    tile: str
    useful: float


def plan(sizes: tuple[int, ...], batch: int, width: int) -> list[Product]:
    """Return every product of a training step in order, for vectors of `width` lanes."""
    block = block_size(batch)
    forward = [_forward(pair, block, width) for pair in pairwise(sizes)]
    backward = []
    for level, pair in reversed(list(enumerate(pairwise(sizes)))):
        if level > 0:
            backward.append(_delta(pair, block, width))
        backward.append(_gradient(pair, block, width))
    return forward + backward


def _forward(pair: tuple[int, int], m: int, width: int) -> Product:
    k, n = pair
    what = "-".join(map(str, pair)), "forward", (m, k, n)
    way, group = blocks.way_forward(n, width), blocks.group_of(n, width)
    if way == blocks.INNER:
        return Product(*what, "inputs", f"{width} sums", _filled(m, width) * _filled(k, width))
    if way == blocks.TILED:
        return Product(*what, "outputs", *_product(m, k, n, width))
    if m == 1:  # as many chains, but a vector each
        return Product(*what, "outputs", f"1 x {group}", n / width * _filled(k, group))
    few, rows = blocks.MR_FEW, int(blocks.MR_NARROW)
    rows = few if m < rows else rows
    useful = _filled(m, rows) * _filled(k, group) * n * group / width
    return Product(*what, f"outputs, {group} inputs", f"{rows} x 1", useful)


def _delta(pair: tuple[int, int], m: int, width: int) -> Product:
    n, k = pair
    what = "-".join(map(str, pair)), "BP2", (m, k, n)
    if blocks.way_delta(m) == blocks.INNER:  # lanes along what is summed, as many rows at a time
        return Product(*what, "outputs", f"{width} sums", _filled(n, width) * _filled(k, width))
    return Product(*what, "inputs", *_product(m, k, n, width))


def _gradient(pair: tuple[int, int], k: int, width: int) -> Product:
    m, n = pair
    what = "-".join(map(str, pair)), "BP3", (m, k, n)
    way = blocks.way_gradient(pair, k, width)
    if k == 1:
        return Product(*what, "outputs", f"1 x {blocks.NR_ONE}", _filled(n, width))
    if way == blocks.INNER:
        return Product(*what, "inputs", "row sum", _filled(m, width))
    if way == blocks.TRANSPOSED:
        return Product(*what, "inputs", *_tile(n, min(m, blocks.NR * width), width))  # a strip
    return Product(*what, "outputs", *_product(m, k, n, width))


def _product(m: int, k: int, n: int, width: int) -> tuple[str, float]:
    """Return `_tile`, or that of a product that goes by strips."""
    if m > 1 and blocks.is_shallow(n, k, width):
        return f"{blocks.ROWS_SHALLOW} x {min(blocks.NR, -(-n // width))}", _filled(n, width)
    return _tile(m, n, width)


def _tile(m: int, n: int, width: int) -> tuple[str, float]:
    """Return rows x vectors of a product's tiles, and the share of their work that is useful."""
    if m == 1:
        return f"1 x {blocks.NR_ONE}", _filled(n, width)
    kind = blocks.tile_of(m, n, width)
    rows, vecs = blocks.TILES[kind]
    if kind == blocks.FEW and m > rows:
        rows = blocks.MR_TALL
    elif kind == blocks.FEW and n <= width:
        vecs = 1
    last, columns = n % (vecs * width), n
    if last:  # its tile may be a narrower one
        columns += blocks.TILES[blocks.tile_of(m, last, width)][1] * width - last
    last, computed = m % rows, m + -m % rows
    if vecs == blocks.NR and 0 < last <= blocks.MR_FEW:  # the last tile has fewer rows
        computed += blocks.MR_FEW - rows
    return f"{rows} x {vecs}", m / computed * n / columns


def _filled(count: int, step: int) -> float:
    """Return `count` as a share of the whole steps that hold it."""
    return count / (-(-count // step) * step)


def run(sizes: tuple[int, ...], batch: int, dtype: str) -> list[dict[str, object]]:
    """Print the plan as a table, and return its rows."""
    width = LANES_F32 if dtype == "float32" else LANES_F64
    print(
        f"{'-'.join(map(str, sizes))}, batch {batch}, {dtype}: {width} lanes a vector, panels "
        f"{blocks.KC} rows deep, blocks of {block_size(batch)} samples"
    )
    titles = ("layer", "product", "rows x depth x columns", "lanes along", "tile")
    print("".join(f"{t:<{w}}" for t, w in zip(titles, WIDTHS, strict=True)) + "useful")
    products = plan(sizes, batch, width)
    for p in products:
        shape = " x ".join(map(str, p.shape))
        texts = (p.layer, p.name, shape, p.lanes, p.tile)
        print("".join(f"{t:<{w}}" for t, w in zip(texts, WIDTHS, strict=True)) + f"{p.useful:6.0%}")
    return [p._asdict() for p in products]
