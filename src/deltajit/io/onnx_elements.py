"""Activations and affine maps among an ONNX graph's operations of single elements.

Between the tensors that all paths go through, an operation is an affine map, or some of them are an
activation, which `recognized` knows by its values. Operators are evaluated by onnx's reference
implementation.

This module imports onnx, so it may be imported only where onnx is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from deltajit.io.files import FormatError
from deltajit.io.recognition import Recognized, recognized
from deltajit.model.memory import Array

# Operators of which activations are composed.
BY_ELEMENT = {
    "Abs", "Add", "BatchNormalization", "Ceil", "Celu", "Clip", "Cos", "Div", "Elu", "Erf",
    "Exp", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "LeakyRelu", "Less",
    "LessOrEqual", "Log", "Max", "Min", "Mish", "Mul", "Neg", "Not", "PRelu", "Pow",
    "Reciprocal", "Relu", "Scaler", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign",
    "Sqrt", "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu", "Where",
}  # fmt: skip

LONGEST = 16  # steps of one activation, between tensors that all paths go through
MOST_NODES = 256  # between two linear layers

Map = tuple[Array | float, Array | float]  # factor and term
Opsets = Sequence[onnx.OperatorSetIdProto]


class UnknownError(FormatError):
    """Operations are no activation; the error names the node."""


class Step(NamedTuple):
    """Nodes between two tensors that all paths go through, from `begin` to `end`."""

    nodes: list[onnx.NodeProto]
    begin: str
    end: str


def parts(
    nodes: Sequence[onnx.NodeProto],
    base: str,
    maps: Mapping[str, Map],
    constant: Callable[[str], Array],
    opsets: Opsets,
) -> list[Map | Recognized]:
    """Return the fewest activations, and affine maps between them, that nodes from `base` are.

    The last node's output is the result. Some of `maps` are affine; ``constant(name)`` is the value
    of any other tensor.
    """
    if len(nodes) > MOST_NODES:
        raise FormatError(f"it stands behind {len(nodes)} operations of single elements")
    steps = _steps(nodes, base)
    costs: list[float] = [0.0, *[math.inf] * len(steps)]
    ways: list[list[Map | Recognized]] = [[] for _ in costs]
    reached = 0
    for i in range(len(steps)):
        if costs[i] == math.inf:
            continue
        reached = i
        for j in range(min(i + LONGEST, len(steps)), i, -1):
            part = _part(steps[i:j], maps, constant, opsets)
            cost = costs[i] + (isinstance(part, Recognized) and part.name != "identity")
            if part is not None and cost < costs[j]:
                costs[j], ways[j] = cost, [*ways[i], part]
    if costs[-1] == math.inf:
        node = steps[reached].nodes[-1]
        options = "".join(f", {name}={value}" for name, value in options_of(node).items())
        raise UnknownError(
            f"{described(node)}{options}: what it makes of {steps[reached].begin!r} is none of the "
            "activations that there are"
        )
    return ways[-1]


def _steps(nodes: Sequence[onnx.NodeProto], base: str) -> list[Step]:
    """Cut nodes where a single tensor carries all that the others need."""
    last = {name: i for i, node in enumerate(nodes) for name in node.input}
    steps: list[Step] = []
    begin, first, live = base, 0, {base}
    for i, node in enumerate(nodes):
        live = {name for name in live if last[name] > i} | {node.output[0]}
        if len(live) == 1:
            steps.append(Step(list(nodes[first : i + 1]), begin, node.output[0]))
            begin, first = node.output[0], i + 1
    return steps


def _part(
    steps: Sequence[Step],
    maps: Mapping[str, Map],
    constant: Callable[[str], Array],
    opsets: Opsets,
) -> Map | Recognized | None:
    """Return the affine map of one step, or the activation of some; None if it is neither."""
    begin, end = steps[0].begin, steps[-1].end
    if all(step.end in maps for step in steps):
        return maps[end] if len(steps) == 1 else None
    nodes = [node for step in steps for node in step.nodes]
    made = {begin, *(node.output[0] for node in nodes)}
    numbers: dict[str, Any] = {}
    for name in {name for node in nodes for name in node.input if name} - made:
        value = constant(name)
        if value.size == 0 or np.any(value != value.flat[0]):
            return None  # it differs from feature to feature
        numbers[name] = value.flat[0]
    if any(node.op_type in ("BatchNormalization", "Scaler") for node in nodes):
        return None
    attributes = [x.f for node in nodes for x in node.attribute if x.type == x.FLOAT]

    def f(z: Array) -> Array:
        return evaluated(nodes, {begin: z, **numbers}, opsets)[0]

    return recognized(f, {float(x) for x in [*numbers.values(), *attributes]})


def evaluated(
    nodes: Sequence[onnx.NodeProto], feeds: Mapping[str, Any], opsets: Opsets
) -> list[Array]:
    """Return the outputs of the last node, from `feeds`, by onnx's reference implementation."""
    outputs = list(nodes[-1].output)
    inputs, results = [[onnx.ValueInfoProto(name=x) for x in y] for y in (feeds, outputs)]
    graph = helper.make_graph(nodes, "part", inputs, results)
    model = helper.make_model(graph, opset_imports=opsets)
    try:
        values = {name: np.asarray(value) for name, value in feeds.items()}
        with np.errstate(all="ignore"):
            return list(ReferenceEvaluator(model).run(outputs, values))
    except Exception as error:  # operators raise anything for arguments that they don't take
        raise FormatError(f"it cannot be evaluated: {error}") from None


def options_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes."""
    values = {x.name: helper.get_attribute_value(x) for x in node.attribute}
    return {key: x.decode() if isinstance(x, bytes) else x for key, x in values.items()}


def described(node: onnx.NodeProto) -> str:
    """Name a node in an error."""
    return f"node {node.name!r} ({node.op_type}, output {', '.join(map(repr, node.output))})"
