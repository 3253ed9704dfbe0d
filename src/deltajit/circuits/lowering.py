"""Lower the graph of a circuit to the program that the kernels run."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from deltajit.circuits.primitives import Graph
from deltajit.kernels import blocks
from deltajit.kernels.circuit import Program, schedule
from deltajit.kernels.circuit.operations import OPERATIONS, slots_of
from deltajit.model.memory import Array, DType


def lower(graph: Graph, dtype: DType) -> Program:
    """Lower a graph to a program for floats of one dtype.

    Of the order in which it was traced, and depth first, the one is taken in which fewer values are
    needed in several segments.
    """
    cuts = _cuts(int((graph.codes >= 0).sum()))
    graphs = graph, _depth_first(graph)
    graph, is_kept = min(((g, _is_kept(g, cuts)) for g in graphs), key=lambda pair: pair[1].sum())
    order, runs = _order(graph, cuts)
    rows = _rows(graph, order, cuts, is_kept[order])
    taped = np.array([operation.taped for operation in OPERATIONS.values()])[runs[:, 0]]
    taped = np.append(0, np.cumsum(taped * (runs[:, 2] - runs[:, 1])))
    n_rows, n_taped = int(rows.max()) + 1, int(taped[-1])
    with np.errstate(all="ignore"):  # constants may overflow or underflow float32
        constants = graph.constants.astype(dtype)
    return Program(
        steps=np.stack([rows[order], rows[graph.x[order]], rows[graph.y[order]]], axis=1),
        runs=np.column_stack([runs, taped[:-1]]).astype(np.int32),
        outputs=rows[graph.outputs],
        constants=constants,
        ties=np.array(graph.ties, dtype),
        slots=slots_of(dtype),
        n_inputs=graph.n_inputs,
        rows=n_rows,
        taped=n_taped,
        width=blocks.samples_in_row(n_rows, n_taped, dtype.itemsize),
    )


def _depth_first(graph: Graph) -> Graph:
    """Renumber the nodes of a graph: those that are no operations first, then depth first."""
    codes, x, y, placed = *graph[:3], graph.codes < 0
    leaves = np.flatnonzero(placed)
    order = np.resize(leaves, codes.size).astype(np.int32)
    path = np.empty_like(order)
    schedule.depth_first(codes, x, y, graph.outputs, path, placed, order[leaves.size :])
    number = np.empty_like(order)
    number[order] = np.arange(order.size)
    x, y = (np.where(codes < 0, each, number[each])[order] for each in (x, y))
    return graph._replace(codes=codes[order], x=x, y=y, outputs=number[graph.outputs])


def _cuts(n: int) -> list[int]:
    """Return where segments of n operations begin and end: as few as possible, of equal size."""
    count = max(1, -(-n // blocks.SEGMENT))
    return [n * i // count for i in range(count + 1)]


def _order(graph: Graph, cuts: list[int]) -> tuple[Array, Array]:
    """(nodes in the order of the steps, runs)."""
    nodes = np.flatnonzero(graph.codes >= 0).astype(np.int32)
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


def _is_kept(graph: Graph, cuts: list[int]) -> Array:
    """Mark the nodes that are outputs, or operands in a segment other than their own."""
    nodes = np.flatnonzero(graph.codes >= 0)
    segment = np.full(graph.codes.size, -1)
    segment[nodes] = np.repeat(np.arange(len(cuts) - 1), np.diff(cuts))
    is_kept = np.zeros(graph.codes.size, np.bool_)
    is_kept[graph.outputs] = True
    for operands in (graph.x[nodes], graph.y[nodes]):
        is_kept[operands[segment[operands] != segment[nodes]]] = True
    return is_kept & (graph.codes >= 0)


def _rows(graph: Graph, order: Array, cuts: list[int], is_kept: Array) -> Array:
    """Choose the row of each node; segments share those that aren't kept. Flags follow `order`."""
    rows = np.full(graph.codes.size, -1, np.int32)
    n_constants, n_kept = graph.constants.size, int(is_kept.sum())
    first = n_constants + graph.n_inputs
    rows[graph.codes == schedule.CONSTANT] = np.arange(n_constants)
    rows[graph.codes == schedule.INPUT] = np.arange(n_constants, first)
    rows[order[is_kept]] = np.arange(first, first + n_kept)
    rows[order[~is_kept]] = first + n_kept + _in_segments(~is_kept, cuts)
    return rows


def _in_segments(marked: Array, cuts: list[int]) -> Array:
    """Number the marked places of each segment from 0 on."""
    counts = np.append(0, np.cumsum(marked))
    numbers: Array = counts[:-1] - np.repeat(counts[cuts[:-1]], np.diff(cuts))
    return numbers[marked]
