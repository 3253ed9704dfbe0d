"""A circuit at one point, node by node: values, local derivatives and adjoints, as a table."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from deltajit.circuits import primitives
from deltajit.circuits.primitives import Graph
from deltajit.kernels.circuit.schedule import CONSTANT, INPUT


class Step(NamedTuple):
    """One row of the table: a node ``v = op(x, y)``.

    name : of the node. text : what it is computed from. value : v. operands : their names, of those
    that are no constants. derivatives : dv/dx and dv/dy, of the same. adjoint : of the output by v.
    """

    name: str
    text: str
    value: float
    operands: tuple[str, ...]
    derivatives: tuple[float, ...]
    adjoint: float


@dataclass(frozen=True)
class Trace:
    """The table; ``print`` shows it, and ``to_dict`` is what a pandas.DataFrame takes.

    Attributes
    ----------
    steps : list of Step
        Inputs first, then every node after those that it is computed from.
    output : str
        The name of the output that the adjoints are of.
    """

    steps: list[Step]
    output: str

    def to_dict(self) -> dict[str, list[Any]]:
        """Columns by name."""
        return {field: [getattr(step, field) for step in self.steps] for field in Step._fields}

    def __str__(self) -> str:
        head = ("node", "=", "value", "local derivatives", f"adjoint, d{self.output}/dnode")
        rows = [head, *(_cells(step) for step in self.steps)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])

    __repr__ = __str__


def _cells(step: Step) -> tuple[str, ...]:
    slopes = (
        f"d{step.name}/d{name} = {slope:.6g}"
        for name, slope in zip(step.operands, step.derivatives, strict=True)
    )
    return step.name, step.text, f"{step.value:.6g}", ", ".join(slopes), f"{step.adjoint:.6g}"


def argument_names(f: Callable[..., Any], n: int) -> list[str]:
    """Those of f if it names so many, else x1 to xn."""
    parameters: Iterable[inspect.Parameter]
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):  # a callable without a signature
        parameters = ()
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = [parameter.name for parameter in parameters if parameter.kind in kinds]
    return names[:n] if len(names) >= n else [f"x{i + 1}" for i in range(n)]


def tabulate(graph: Graph, x: ArrayLike, inputs: list[str], output: int) -> Trace:
    """The `Trace` of a graph at x (n_inputs,), from the NumPy reference."""
    values = primitives.values(graph, x)
    adjoints = primitives.adjoints(graph, values, output)
    names = _names(graph, inputs)
    steps = []
    for k, code in enumerate(graph.codes.tolist()):
        if code == CONSTANT:
            continue
        at, text = primitives.operands(graph, k), ""
        slopes: tuple[Any, ...] = ()
        if code != INPUT:
            text = primitives.BY_CODE[code].text.format(*(names[i] for i in at))
            slopes = primitives.partials(graph, k, values)
        total: dict[str, float] = {}
        for i, slope in zip(at, slopes, strict=True):
            if graph.codes[i] != CONSTANT:
                total[names[i]] = total.get(names[i], 0.0) + float(slope)  # of x * x it is 2 x
        derivatives = tuple(total.values())
        value, adjoint = float(values[k]), float(adjoints[k])
        steps.append(Step(names[k], text, value, tuple(total), derivatives, adjoint))
    return Trace(steps, names[graph.outputs[output]])


def _names(graph: Graph, inputs: list[str]) -> list[str]:
    """Of all nodes: inputs by theirs, constants by their values, operations by numbers."""
    names, count = [], 0
    letter = "v" if not any(re.fullmatch(r"v\d+", name) for name in inputs) else "node"
    for code, x in zip(graph.codes.tolist(), graph.x.tolist(), strict=True):
        if code == INPUT:
            names.append(inputs[x])
        elif code == CONSTANT:
            names.append(f"{graph.constants[x]:.6g}")
        else:
            count += 1
            names.append(f"{letter}{count}")
    return names
