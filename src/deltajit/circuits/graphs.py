"""Graphs of circuits as plain data, for pickles and files."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from deltajit.circuits.primitives import TIES, UNARY, Graph
from deltajit.kernels.circuit import operations
from deltajit.kernels.circuit.schedule import CONSTANT, INPUT
from deltajit.model.memory import Array

CODES = {"input": INPUT, "constant": CONSTANT, **operations.CODES}
NAMES = {code: name for name, code in CODES.items()}


def to_data(graph: Graph) -> dict[str, Any]:
    """Convert a graph to lists of numbers and strings.

    Operations are stored by name, since their codes may change from version to version.
    """
    used, index = np.unique(graph.codes, return_inverse=True)
    return {
        "operations": [NAMES[code] for code in used.tolist()],
        "codes": index.tolist(),  # indices of operations
        "x": graph.x.tolist(),
        "y": graph.y.tolist(),
        "constants": [constant.hex() for constant in graph.constants.tolist()],
        "outputs": graph.outputs.tolist(),
        "n_inputs": graph.n_inputs,
        "ties": list(graph.ties),
    }


def from_data(data: object) -> Graph:
    """Rebuild a graph from the data of `to_data`; refuse any other data with a ValueError."""
    if not isinstance(data, dict) or set(data) != {"operations", "codes", *Graph._fields}:
        raise ValueError("a circuit must have operations, codes, x, y, constants, outputs, ...")
    if not all(isinstance(data[name], list) for name in data if name != "n_inputs"):
        raise ValueError("a circuit must consist of lists")
    unknown = [name for name in data["operations"] if name not in list(CODES)]
    if unknown:
        raise ValueError(f"a circuit has the operation {unknown[0]!r}, which is unknown here")
    count = len(data["codes"])
    codes = np.array([CODES[name] for name in data["operations"]], np.int32)
    try:
        constants = np.array([float.fromhex(text) for text in data["constants"]], np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("a circuit's constants must be hexadecimal strings") from None
    if type(data["n_inputs"]) is not int or not 1 <= data["n_inputs"] <= count:
        raise ValueError(f"a circuit's n_inputs must be from 1 to its {count} nodes")
    if tuple(data["ties"]) not in TIES.values():
        raise ValueError(f"a circuit's ties must be among {list(TIES.values())}")
    graph = Graph(
        codes[_indices(data["codes"], "codes", len(codes))],
        _indices(data["x"], "x", count),
        _indices(data["y"], "y", count),
        constants,
        _indices(data["outputs"], "outputs", count),
        data["n_inputs"],
        (float(data["ties"][0]), float(data["ties"][1])),
    )
    _check(graph)
    return graph


def digest(graph: Graph) -> str:
    """Return a hash of a graph, the same in every process and on every machine."""
    names = {code: name for name, code in operations.CODES.items()}  # codes may change
    sha256 = hashlib.sha256("".join(names.get(code, " ") for code in graph.codes.tolist()).encode())
    # One NaN for all, since they have many bit patterns.
    constants = np.where(np.isnan(graph.constants), np.nan, graph.constants)
    for part in graph._replace(constants=constants)[1:]:
        sha256.update(np.asarray(part).tobytes())
    return sha256.hexdigest()[:16]


def _indices(values: list[object], name: str, end: int) -> Array:
    """Convert a list of indices less than `end` to an array."""
    if not values or not all(type(i) is int and 0 <= i < end for i in values):
        raise ValueError(f"a circuit's {name} must be whole numbers from 0 to {end - 1}")
    return np.array(values, np.int32)


def _check(graph: Graph) -> None:
    """Refuse a graph unless inputs come first, and operands before what needs them."""
    codes, x, y = graph[:3]
    if not codes.size == x.size == y.size:
        raise ValueError("a circuit must have as many codes as x and y")
    numbers, inputs = np.arange(codes.size), np.flatnonzero(codes == INPUT)
    is_operation, is_binary = codes >= 0, (codes >= 0) & ~np.isin(codes, list(UNARY))
    if not (
        np.array_equal(inputs, np.arange(graph.n_inputs))
        and np.array_equal(x[inputs], inputs)
        and np.array_equal(x[codes == CONSTANT], np.arange(graph.constants.size))
        and (np.maximum(x, y) < numbers)[is_operation].all()
        and (x == y)[~is_binary].all()
    ):
        raise ValueError("a circuit must have inputs first, and operands before what needs them")
