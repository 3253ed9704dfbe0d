"""``deltajit info --plan 784,128,10 --batch 64``: which tiles the products of a step go through."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from deltajit import checks
from deltajit.kernels.model import block_size
from deltajit.kernels.product import FEW, LOW, NARROW, TALL, tile_of
from deltajit.kernels.tile import DEPTH, ROW_VECS, SMALL_ROWS, VECS
from deltajit.kernels.vectors import LANES_F32, LANES_F64

WIDTHS = (12, 9, 25, 13, 9)  # of the columns that are printed


class Product(NamedTuple):
    """One product of matrices, (m, k) @ (k, n), and how it is done.

    lanes : what a vector's lanes run along. tile : rows x vectors. useful : share of the
    multiply-adds whose result is kept; the others fill up tiles at the edges.
    """

    layer: str
    name: str
    shape: tuple[int, int, int]
    lanes: str
    tile: str
    useful: float


def plan(sizes: tuple[int, ...], batch: int, width: int) -> list[Product]:
    """Every product of a training step, in the order of the sweeps; `width` lanes a vector."""
    block = block_size(batch)
    forward = [
        _product(pair, "forward", (block, *pair), "inputs" if pair[1] == 1 else "outputs", width)
        for pair in pairwise(sizes)
    ]
    backward = []
    for level, pair in reversed(list(enumerate(pairwise(sizes)))):
        n_in, n_out = pair
        if level > 0:
            lanes = "outputs" if block < LOW and n_out > 1 else "inputs"
            backward.append(_product(pair, "BP2", (block, n_out, n_in), lanes, width))
        lanes = "inputs" if n_out == 1 and block > 1 else "outputs"
        backward.append(_product(pair, "BP3", (n_in, block, n_out), lanes, width))
    return forward + backward


def _product(
    pair: tuple[int, int], name: str, shape: tuple[int, int, int], lanes: str, width: int
) -> Product:
    layer = "-".join(map(str, pair))
    m, k, n = shape
    inner = {"forward": n == 1, "BP2": lanes == "outputs", "BP3": False}[name]
    if inner:  # the lanes run along what is summed, of as many rows as there are lanes
        rows = m if name == "forward" else n
        return Product(
            layer, name, shape, lanes, f"{width} sums", _filled(rows, width) * _filled(k, width)
        )
    if name == "BP3" and n == 1:
        return Product(layer, name, shape, lanes, "row sum", _filled(m, width))
    if m == 1 or (name == "BP3" and k == 1):  # one sample
        return Product(layer, name, shape, lanes, f"1 x {ROW_VECS}", _filled(n, width))
    tile = tile_of(m, n, width)
    if tile == FEW:
        return Product(
            layer,
            name,
            shape,
            lanes,
            f"{SMALL_ROWS} x {VECS}",
            _filled(m, SMALL_ROWS) * _filled(n, VECS * width),
        )
    rest = n % (VECS * width)
    last_is_narrow = rest > 0 and tile_of(m, rest, width) == NARROW
    columns = n - rest + (0 if rest == 0 else width if last_is_narrow else VECS * width)
    return Product(
        layer,
        name,
        shape,
        lanes,
        f"{TALL} x 1" if tile == NARROW else f"{LOW} x {VECS}",
        _filled(m, TALL if tile == NARROW else LOW) * n / columns,
    )


def _filled(count: int, step: int) -> float:
    """What share of whole steps `count` fills."""
    return count / (-(-count // step) * step)


def run(sizes: str, batch: int, dtype: str) -> None:
    """Print the plan as a table."""
    units = checks.sizes([int(n) if n.isdigit() else n for n in sizes.split(",")])
    samples = checks.whole(batch, "batch")
    width = LANES_F32 if checks.dtype(dtype).name == "float32" else LANES_F64
    print(
        f"{'-'.join(map(str, units))}, batch {samples}, {dtype}: {width} lanes a vector, panels "
        f"{DEPTH} rows deep, blocks of {block_size(samples)} samples"
    )
    titles = ("layer", "product", "rows x depth x columns", "lanes along", "tile")
    print("".join(f"{t:<{w}}" for t, w in zip(titles, WIDTHS, strict=True)) + "useful")
    for p in plan(units, samples, width):
        shape = " x ".join(map(str, p.shape))
        texts = (p.layer, p.name, shape, p.lanes, p.tile)
        print("".join(f"{t:<{w}}" for t, w in zip(texts, WIDTHS, strict=True)) + f"{p.useful:6.0%}")
