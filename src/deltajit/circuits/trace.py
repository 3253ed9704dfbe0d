"""The table of a circuit at one point: value, local derivatives and adjoint of each node."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from deltajit.circuits import primitives
from deltajit.circuits.primitives import Graph, Number
from deltajit.kernels.circuit.schedule import CONSTANT, INPUT


class Step(NamedTuple):
    """Hold one row of the table: a node ``v = op(x, y)``.

    Attributes
    ----------
    name : str
        Name of the node.
    text : str
        Formula that it is computed by; empty for an input.
    value : float
        The value v.
    operands : tuple of str
        Names of the operands, constants left out.
    derivatives : tuple of float
        dv/dx of each of these operands.
    adjoint : float
        Derivative of the output with respect to v.
    """

    name: str
    text: str
    value: float
    operands: tuple[str, ...]
    derivatives: tuple[float, ...]
    adjoint: float


@dataclass(frozen=True)
class Trace:
    """Hold the table of a circuit at one point.

    ``print`` shows it, and ``pandas.DataFrame(trace.to_dict())`` makes a data frame of it.

    Attributes
    ----------
    steps : list of Step
        Inputs first, then every node after its operands.
    output : str
        Name of the output that is differentiated.
    """

    steps: list[Step]
    output: str

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the columns of the table by name.

        Returns
        -------
        dict of list
            One list per field of `Step`, with one entry per node.
        """
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


def argument_names(f: Callable[..., object], n: int) -> list[str]:
    """Return the names of the first n arguments of f if it names as many, else x1 to xn."""
    parameters: Iterable[inspect.Parameter]
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):  # a callable without a signature
        parameters = ()
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = [parameter.name for parameter in parameters if parameter.kind in kinds]
    return names[:n] if len(names) >= n else [f"x{i + 1}" for i in range(n)]


def tabulate(graph: Graph, x: ArrayLike, inputs: list[str], output: int) -> Trace:
    """Compute the `Trace` of a graph at x (n_inputs,) by the NumPy reference."""
    values = primitives.values(graph, x)
    adjoints = primitives.adjoints(graph, values, output)
    names = _names(graph, inputs)
    steps = []
    for k, code in enumerate(graph.codes.tolist()):
        if code == CONSTANT:
            continue
        operands, text = primitives.operands(graph, k), ""
        slopes: tuple[Number, ...] = ()
        if code != INPUT:
            text = primitives.BY_CODE[code].text.format(*(names[i] for i in operands))
            slopes = primitives.partials(graph, k, values)
        total: dict[str, float] = {}
        for i, slope in zip(operands, slopes, strict=True):
            if graph.codes[i] != CONSTANT:
                total[names[i]] = total.get(names[i], 0.0) + float(slope)  # 2 x for x * x
        derivatives = tuple(total.values())
        value, adjoint = float(values[k]), float(adjoints[k])
        steps.append(Step(names[k], text, value, tuple(total), derivatives, adjoint))
    return Trace(steps, names[graph.outputs[output]])


def _names(graph: Graph, inputs: list[str]) -> list[str]:
    """Name all nodes: inputs by their arguments, constants by value, operations by number."""
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
