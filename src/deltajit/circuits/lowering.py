"""Lowering: the graph of a circuit becomes the program that the kernels run."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from deltajit.circuits.primitives import Graph
from deltajit.kernels import blocks
from deltajit.kernels.circuit import Program, schedule
from deltajit.kernels.circuit.operations import OPERATIONS, slots_of
from deltajit.kernels.simd.vectors import VECTOR_BYTES
from deltajit.model.memory import Array

# Most samples in a row.
WIDEST = 32


def lower(graph: Graph, dtype: np.dtype[Any]) -> Program:
    """Lower a graph to a program for floats of one dtype."""
    graph = _depth_first(graph)
    nodes = np.flatnonzero(graph.codes >= 0).astype(np.int32)
    cuts = _cuts(nodes.size)
    order, runs = _order(graph, nodes, cuts)
    rows, reused = _rows(graph, order, cuts, _is_kept(graph, nodes, cuts)[order])
    steps, again = (
        np.stack([each[order], each[graph.x[order]], each[graph.y[order]]], axis=1)
        for each in (rows, reused)
    )
    n_rows, n_reused = int(rows.max()) + 1, int(reused.max()) + 1
    with np.errstate(all="ignore"):  # constants may overflow or underflow float32
        constants = graph.constants.astype(dtype)
    width = WIDEST
    while width > 2 * VECTOR_BYTES // dtype.itemsize and (n_rows + n_reused) * width > blocks.FLOATS:
        width //= 2
    return Program(
        steps=steps,
        reused=again,
        runs=runs,
        outputs=rows[graph.outputs],
        constants=constants,
        ties=np.array(graph.ties, dtype),
        slots=slots_of(dtype),
        n_inputs=graph.n_inputs,
        rows=n_rows,
        reused_rows=n_reused,
        width=width,
    )


def _depth_first(graph: Graph) -> Graph:
    """Renumber the nodes of a graph: those that are no operations first, then depth first."""
    codes, x, y, placed = *graph[:3], graph.codes < 0
    order = np.flatnonzero(placed)
    n_leaves, order = order.size, np.resize(order, codes.size).astype(np.int32)
    path = np.empty_like(order)
    schedule.depth_first(codes, x, y, graph.outputs, path, placed, order[n_leaves:])
    number = np.empty_like(order)
    number[order] = np.arange(order.size)
    x, y = (np.where(codes < 0, each, number[each])[order] for each in (x, y))
    return graph._replace(codes=codes[order], x=x, y=y, outputs=number[graph.outputs])


def _cuts(n: int) -> list[int]:
    """Return where segments of n operations begin and end: as few as possible, of equal size."""
    count = max(1, -(-n // blocks.SEGMENT))
    return [n * i // count for i in range(count + 1)]


def _order(graph: Graph, nodes: Array, cuts: list[int]) -> tuple[Array, Array]:
    """(nodes in the order of the steps, runs)."""
    users, next_use, waits = (np.full(graph.codes.size * n, -1, np.int32) for n in (1, 2, 1))
    ready = np.full(len(OPERATIONS), -1, np.int32)
    lists = schedule.Lists(users, next_use, waits, ready, np.zeros_like(ready))
    order, runs = np.empty_like(nodes), [np.empty((0, 3), np.int32)]
    for first, last in pairwise(cuts):
        part = np.empty((last - first, 3), np.int32)
        count = schedule.arrange(*graph[:3], nodes[first:last], lists, order[first:last], part)
        part[:count, 1:] += first
        runs.append(part[:count])
    return order, np.concatenate(runs)


def _is_kept(graph: Graph, nodes: Array, cuts: list[int]) -> Array:
    """Mark the nodes that are outputs, or operands in a segment other than their own."""
    segment = np.full(graph.codes.size, -1)
    segment[nodes] = np.repeat(np.arange(len(cuts) - 1), np.diff(cuts))
    is_kept = np.zeros(graph.codes.size, np.bool_)
    is_kept[graph.outputs] = True
    for operands in (graph.x[nodes], graph.y[nodes]):
        is_kept[operands[segment[operands] != segment[nodes]]] = True
    return is_kept & (graph.codes >= 0)


def _rows(graph: Graph, order: Array, cuts: list[int], is_kept: Array) -> tuple[Array, Array]:
    """(row of each node if all stay, and if segments share rows); `is_kept` follows `order`."""
    rows = np.full(graph.codes.size, -1, np.int32)
    n_constants, kept, others = graph.constants.size, order[is_kept], order[~is_kept]
    rows[graph.codes == schedule.CONSTANT] = np.arange(n_constants)
    rows[graph.codes == schedule.INPUT] = n_constants + np.arange(graph.n_inputs)
    shared = n_constants + graph.n_inputs + kept.size
    rows[kept] = np.arange(shared - kept.size, shared)
    reused = rows.copy()
    rows[others] = shared + np.arange(others.size)
    starts = np.repeat(cuts[:-1], np.diff(cuts))
    reused[others] = shared + (np.arange(order.size) - starts)[~is_kept]
    return rows, reused
