"""Lower the graph of a circuit to the program that the kernels run."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from deltajit.circuits.primitives import Graph
from deltajit.kernels import blocks
from deltajit.kernels.circuit import Program, schedule
from deltajit.kernels.circuit.operations import OPERATIONS, slots_of
from deltajit.kernels.simd.vectors import VECTOR_BYTES
from deltajit.model.memory import Array, DType

# Most values, as a share of all, that segments may keep: beyond it computing the others a second
# time saves too little memory, and there is one segment.
WORTH = 0.5

# Most samples that a row of values has.
WIDEST = 64

# Most floats in all rows together; more rows are narrower. With one segment they should stay in the
# L2 cache; with several, most of what is kept is written once and read once, in order.
MANY_OF_ONE, MANY = 2**17, 2**20


def lower(graph: Graph, dtype: DType) -> Program:
    """Lower a graph to a program for floats of one dtype."""
    nodes = np.flatnonzero(graph.codes >= 0).astype(np.int32)
    cuts = _cuts(nodes.size)
    is_kept = _is_kept(graph, nodes, cuts)
    if is_kept.sum() > nodes.size * WORTH:
        cuts = [0, nodes.size]
        is_kept = _is_kept(graph, nodes, cuts)
    order, runs, segments = _order(graph, nodes, cuts)
    rows, n_rows = _rows(graph, order, cuts, is_kept[order])
    steps = np.stack([rows[order], rows[graph.x[order]], rows[graph.y[order]]], axis=1)
    with np.errstate(all="ignore"):  # constants may overflow or underflow float32
        constants = graph.constants.astype(dtype)
    limit = MANY if len(cuts) > 2 else MANY_OF_ONE
    width = WIDEST
    while width > 2 * VECTOR_BYTES // dtype.itemsize and n_rows * width > limit:
        width //= 2
    return Program(
        steps=np.ascontiguousarray(steps.astype(np.int32)),
        runs=runs,
        segments=segments,
        outputs=rows[graph.outputs].astype(np.int32),
        constants=constants,
        ties=np.array(graph.ties, dtype),
        slots=slots_of(dtype),
        n_inputs=graph.n_inputs,
        rows=n_rows,
        width=width,
    )


def _cuts(n: int) -> list[int]:
    """Return where segments of n operations begin and end: as few as possible, of equal size."""
    count = max(1, -(-n // blocks.SEGMENT))
    return [n * i // count for i in range(count + 1)]


def _order(graph: Graph, nodes: Array, cuts: list[int]) -> tuple[Array, Array, Array]:
    """Return nodes in the order of the steps, their runs, and where each segment's begin."""
    users, next_use, waits = (np.full(graph.codes.size * n, -1, np.int32) for n in (1, 2, 1))
    ready = np.full(len(OPERATIONS), -1, np.int32)
    lists = schedule.Lists(users, next_use, waits, ready, np.zeros_like(ready))
    order, segments, runs = np.empty_like(nodes), [0], [np.empty((0, 3), np.int32)]
    for first, last in pairwise(cuts):
        part = np.empty((last - first, 3), np.int32)
        count = schedule.arrange(*graph[:3], nodes[first:last], lists, order[first:last], part)
        part[:count, 1:] += first
        runs.append(part[:count])
        segments.append(segments[-1] + count)
    return order, np.concatenate(runs), np.array(segments, np.int32)


def _is_kept(graph: Graph, nodes: Array, cuts: list[int]) -> Array:
    """Mark the nodes that are outputs, or operands in a segment other than their own."""
    segment = np.full(graph.codes.size, -1)
    segment[nodes] = np.repeat(np.arange(len(cuts) - 1), np.diff(cuts))
    is_kept = np.zeros(graph.codes.size, np.bool_)
    is_kept[graph.outputs] = True
    for operands in (graph.x[nodes], graph.y[nodes]):
        is_kept[operands[segment[operands] != segment[nodes]]] = True
    return is_kept & (graph.codes >= 0)


def _rows(graph: Graph, order: Array, cuts: list[int], is_kept: Array) -> tuple[Array, int]:
    """Return the row of each node, and the number of rows; `is_kept` is in the order of `order`."""
    kept = order[is_kept]
    rows = np.full(graph.codes.size, -1)
    n_constants = graph.constants.size
    rows[graph.codes == schedule.CONSTANT] = np.arange(n_constants)
    rows[graph.codes == schedule.INPUT] = n_constants + np.arange(graph.n_inputs)
    first = n_constants + graph.n_inputs
    rows[kept] = first + np.arange(kept.size)
    starts = np.repeat(cuts[:-1], np.diff(cuts))
    rows[order[~is_kept]] = first + kept.size + (np.arange(order.size) - starts)[~is_kept]
    longest = int(np.diff(cuts).max())
    return rows, first + int(kept.size) + longest
