"""Operations of circuits in NumPy, as the formulas read: the twin of the kernels' operations.

Values and derivatives are of floats, complex numbers and arrays of them, so that complex-step
differentiation checks them. They also fold constants, and fill the table of `Circuit.trace`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deltajit.kernels.circuit.operations import CODES
from deltajit.kernels.circuit.schedule import CONSTANT, INPUT
from deltajit.model.memory import Array

# Derivatives of max(x, y) and min(x, y) where x = y.
TIES = {"both": (1.0, 1.0), "first": (1.0, 0.0), "split": (0.5, 0.5)}


class Operation(NamedTuple):
    """What there is to know of ``v = op(x, y)``.

    text : how it is written. value : of x and y. partials : dv/dx, and dv/dy if there is a y, of
    v, x and y. selects : whether a derivative of 0 says that the operand was not chosen.
    """

    text: str
    value: Callable[..., Any]
    partials: Callable[..., tuple[Any, ...]]
    selects: bool = False


def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))`` of numbers and arrays, without overflow."""
    e = np.exp(np.where(np.real(x) < 0, x, -x))
    return np.where(np.real(x) < 0, e, 1) / (1 + e)


def softplus(x: Any) -> Any:
    """``log(1 + exp(x))`` of numbers and arrays, without overflow."""
    positive = np.real(x) > 0
    return np.where(positive, x, 0) + np.log1p(np.exp(np.where(positive, -x, x)))


def exp2(x: Any) -> Any:
    """``2**x`` of numbers and arrays."""
    return np.exp(x * math.log(2)) if np.iscomplexobj(x) else np.exp2(x)


def logaddexp(x: Any, y: Any) -> Any:
    """``log(exp(x) + exp(y))`` of numbers and arrays, without overflow."""
    larger = np.real(x) > np.real(y)
    difference = np.where(larger, y - x, x - y)
    apart = np.where(larger, x, y) + np.log1p(np.exp(difference))
    return np.where(x == y, x + math.log(2), apart)  # inf - inf is no difference


def _share(x: Any, y: Any) -> Any:
    """d/dx of ``logaddexp(x, y)``."""
    return np.where(x == y, 0.5, sigmoid(x - y))


def _larger(x: Any, y: Any) -> Any:
    """Of complex numbers, the one with the larger real part."""
    undefined = np.isnan(x) | np.isnan(y)
    return np.where(undefined, x + y, np.where(np.real(x) > np.real(y), x, y))


def _log(x: Any) -> Any:
    """Of a complex number that stands for a real one: NaN where that is negative."""
    return np.log(np.where(np.real(x) < 0, np.nan, x)) if np.iscomplexobj(x) else np.log(x)


def _sqrt(x: Any) -> Any:
    return np.sqrt(np.where(np.real(x) < 0, np.nan, x)) if np.iscomplexobj(x) else np.sqrt(x)


def _by_base(x: Any, y: Any) -> Any:
    """d/dx of ``x**y``."""
    return np.where(y == 0, 0, y * x ** (y - 1))


def _by_exponent(v: Any, x: Any, y: Any) -> Any:
    """d/dy of ``v = x**y``: 0 at x = 0, y >= 0, and where v is 0 and log(x) infinite."""
    logarithm = _log(x)
    is_0 = ((x == 0) & (np.real(y) >= 0)) | ((v == 0) & np.isinf(logarithm))
    return np.where(is_0, 0, v * logarithm)


def _comparison(sign: str, holds: Callable[[Any, Any], Any]) -> Operation:
    """1 where it holds, else 0: nothing goes back through it."""
    return Operation(
        f"{{}} {sign} {{}}",
        lambda x, y: 1.0 * holds(np.real(x), np.real(y)),
        lambda v, x, y: (0.0, 0.0),
        selects=True,
    )


_TABLE = {
    "add": Operation("{} + {}", lambda x, y: x + y, lambda v, x, y: (1.0, 1.0)),
    "subtract": Operation("{} - {}", lambda x, y: x - y, lambda v, x, y: (1.0, -1.0)),
    "multiply": Operation("{} * {}", lambda x, y: x * y, lambda v, x, y: (y, x)),
    "divide": Operation("{} / {}", lambda x, y: x / y, lambda v, x, y: (1 / y, -v / y)),
    "maximum": Operation(
        "max({}, {})",
        _larger,
        lambda v, x, y: (np.real(x) > np.real(y), np.real(y) > np.real(x)),
        selects=True,
    ),
    "minimum": Operation(
        "min({}, {})",
        lambda x, y: -_larger(-x, -y),
        lambda v, x, y: (np.real(x) < np.real(y), np.real(y) < np.real(x)),
        selects=True,
    ),
    "power": Operation(
        "{} ** {}",
        lambda x, y: x**y,
        lambda v, x, y: (_by_base(x, y), _by_exponent(v, x, y)),
    ),
    "constant_power": Operation(
        "{} ** {}", lambda x, y: x**y, lambda v, x, y: (_by_base(x, y), 0.0)
    ),
    "logaddexp": Operation(
        "logaddexp({}, {})", logaddexp, lambda v, x, y: (_share(x, y), _share(y, x))
    ),
    "less": _comparison("<", operator.lt),
    "less_equal": _comparison("<=", operator.le),
    "equal": _comparison("==", operator.eq),
    "keep": Operation(
        "where({}, {}, 0)",
        lambda x, y: np.where(np.real(x) != 0, y, 0),
        lambda v, x, y: (0.0, 1.0 * (np.real(x) != 0)),
        selects=True,
    ),
    "drop": Operation(
        "where({}, 0, {})",
        lambda x, y: np.where(np.real(x) != 0, 0, y),
        lambda v, x, y: (0.0, 1.0 * (np.real(x) == 0)),
        selects=True,
    ),
    "negative": Operation("-{}", lambda x: -x, lambda v, x: (-1.0,)),
    "absolute": Operation(
        "abs({})",
        lambda x: np.where(np.real(x) < 0, -x, x),
        lambda v, x: (np.sign(np.real(x)),),
        selects=True,
    ),
    "relu": Operation(
        "relu({})",
        lambda x: np.where(np.real(x) <= 0, 0, x),
        lambda v, x: (np.where(np.real(x) <= 0, 0.0, 1.0),),
        selects=True,
    ),
    "sqrt": Operation("sqrt({})", _sqrt, lambda v, x: (0.5 / v,)),
    "exp": Operation("exp({})", np.exp, lambda v, x: (v,)),
    "exp2": Operation("exp2({})", exp2, lambda v, x: (math.log(2) * v,)),
    "expm1": Operation("expm1({})", np.expm1, lambda v, x: (np.exp(x),)),
    "log": Operation("log({})", _log, lambda v, x: (1 / x,)),
    "log1p": Operation("log1p({})", lambda x: np.log1p(x), lambda v, x: (1 / (1 + x),)),
    "sin": Operation("sin({})", np.sin, lambda v, x: (np.cos(x),)),
    "cos": Operation("cos({})", np.cos, lambda v, x: (-np.sin(x),)),
    "tan": Operation("tan({})", np.tan, lambda v, x: (1 + v * v,)),
    "sinh": Operation("sinh({})", np.sinh, lambda v, x: (np.cosh(x),)),
    "cosh": Operation("cosh({})", np.cosh, lambda v, x: (np.sinh(x),)),
    "tanh": Operation("tanh({})", np.tanh, lambda v, x: (1 - v * v,)),
    "sigmoid": Operation("sigmoid({})", sigmoid, lambda v, x: (v * (1 - v),)),
    "softplus": Operation("softplus({})", softplus, lambda v, x: (sigmoid(x),)),
}
BY_CODE = {code: _TABLE[name] for name, code in CODES.items()}
UNARY = frozenset(code for code, op in BY_CODE.items() if op.text.count("{}") == 1)


class Graph(NamedTuple):
    """A circuit as it was traced: nodes, each an input, a constant, or an operation on others.

    codes : (K,) int32, operations as the kernels number them, or INPUT or CONSTANT.
    x, y : (K,) int32, numbers of the operands, y = x where there is one; for an input or constant
        its number among those.
    constants : (C,) float64. outputs : (m,) int32, their nodes. n_inputs : int.
    ties : derivatives of max(x, y) and min(x, y) where x = y.
    """

    codes: Array
    x: Array
    y: Array
    constants: Array
    outputs: Array
    n_inputs: int
    ties: tuple[float, float]


def operands(graph: Graph, k: int) -> tuple[int, ...]:
    """Nodes that node k is computed from."""
    code = int(graph.codes[k])
    if code < 0:
        return ()
    return (int(graph.x[k]),) if code in UNARY else (int(graph.x[k]), int(graph.y[k]))


def values(graph: Graph, X: ArrayLike) -> list[Any]:
    """Value of every node at one point (n_inputs,), or at points along later axes."""
    inputs, found = np.asarray(X), list[Any]()
    with np.errstate(all="ignore"):
        for k, code in enumerate(graph.codes.tolist()):
            if code == INPUT:
                found.append(inputs[graph.x[k]])
            elif code == CONSTANT:
                found.append(graph.constants[graph.x[k]])
            else:
                found.append(BY_CODE[code].value(*(found[i] for i in operands(graph, k))))
    return found


def partials(graph: Graph, k: int, found: list[Any]) -> tuple[Any, ...]:
    """Derivatives of node k by its operands, given the values of all nodes."""
    at = [found[i] for i in operands(graph, k)]
    code = int(graph.codes[k])
    with np.errstate(all="ignore"):
        slopes = BY_CODE[code].partials(found[k], *at)
    if code in (CODES["maximum"], CODES["minimum"]):
        tied, undefined = np.real(at[0]) == np.real(at[1]), np.isnan(found[k])
        return tuple(
            np.where(undefined, np.nan, np.where(tied, tie, slope))
            for tie, slope in zip(graph.ties, slopes, strict=True)
        )
    return slopes


def adjoints(graph: Graph, found: list[Any], output: int = 0) -> list[Any]:
    """Derivative of an output by every node, from the last one back to the first.

    A node whose own is 0 passes nothing on, even if it depends infinitely steeply on others; and
    nothing goes to what was not chosen, even if the output depends infinitely steeply on the node.
    """
    result: list[Any] = [np.zeros_like(value) for value in found]
    result[graph.outputs[output]] = result[graph.outputs[output]] + 1.0
    for k in range(graph.codes.size - 1, -1, -1):
        if graph.codes[k] >= 0:
            selects = BY_CODE[int(graph.codes[k])].selects
            for i, slope in zip(operands(graph, k), partials(graph, k, found), strict=True):
                with np.errstate(all="ignore"):
                    is_0 = (result[k] == 0) | (selects & (np.asarray(slope) == 0))
                    result[i] = result[i] + np.where(is_0, 0, result[k] * slope)
    return result
