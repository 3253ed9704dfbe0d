"""Operations of circuits in NumPy, as the formulas read: the reference for the kernels' operations.

Values and derivatives take floats, complex numbers and arrays of these, so that complex-step
differentiation can check them. They also fill the table of `Circuit.trace`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from deltajit.kernels.circuit.operations import CODES
from deltajit.kernels.circuit.schedule import CONSTANT, INPUT
from deltajit.model.memory import Array

# A float, a complex number, or an array of either: NumPy's types have no name for what ufuncs take.
Number: TypeAlias = Any

# Derivatives of max(x, y) and min(x, y) where x = y.
TIES = {"both": (1.0, 1.0), "first": (1.0, 0.0), "split": (0.5, 0.5)}


class Operation(NamedTuple):
    """Define an operation ``v = op(x, y)``, or ``v = op(x)``.

    Attributes
    ----------
    text : str
        Format string of how it is written.
    value : callable
        v as a function of x and y.
    partials : callable
        ``(dv/dx, dv/dy)``, or ``(dv/dx,)`` without a y, as a function of v, x and y.
    selects : bool
        Whether a derivative of 0 means that the operand was not chosen.
    """

    text: str
    value: Callable[..., Number]
    partials: Callable[..., tuple[Number, ...]]
    selects: bool = False


def sigmoid(x: Number) -> Number:
    """Compute ``1 / (1 + exp(-x))`` of numbers or arrays, without overflow."""
    e = np.exp(np.where(np.real(x) < 0, x, -x))
    return np.where(np.real(x) < 0, e, 1) / (1 + e)


def softplus(x: Number) -> Number:
    """Compute ``log(1 + exp(x))`` of numbers or arrays, without overflow."""
    positive = np.real(x) > 0
    return np.where(positive, x, 0) + np.log1p(np.exp(np.where(positive, -x, x)))


def exp2(x: Number) -> Number:
    """Compute ``2**x`` of numbers or arrays."""
    return np.exp(x * math.log(2)) if np.iscomplexobj(x) else np.exp2(x)


def logaddexp(x: Number, y: Number) -> Number:
    """Compute ``log(exp(x) + exp(y))`` of numbers or arrays, without overflow."""
    larger = np.real(x) > np.real(y)
    difference = np.where(larger, y - x, x - y)
    apart = np.where(larger, x, y) + np.log1p(np.exp(difference))
    return np.where(x == y, x + math.log(2), apart)  # inf - inf would be NaN


def _share(x: Number, y: Number) -> Number:
    """Compute the derivative of ``logaddexp(x, y)`` with respect to x."""
    return np.where(x == y, 0.5, sigmoid(x - y))


def _larger(x: Number, y: Number) -> Number:
    """Return the number with the larger real part."""
    undefined = np.isnan(x) | np.isnan(y)
    return np.where(undefined, x + y, np.where(np.real(x) > np.real(y), x, y))


def _log(x: Number) -> Number:
    """Compute log(x), which is NaN for a complex number that stands for a negative real one."""
    return np.log(np.where(np.real(x) < 0, np.nan, x)) if np.iscomplexobj(x) else np.log(x)


def _sqrt(x: Number) -> Number:
    """Compute sqrt(x), which is NaN for a complex number that stands for a negative real one."""
    return np.sqrt(np.where(np.real(x) < 0, np.nan, x)) if np.iscomplexobj(x) else np.sqrt(x)


def _by_base(x: Number, y: Number) -> Number:
    """Compute the derivative of ``x**y`` with respect to x."""
    return np.where(y == 0, 0, y * x ** (y - 1))


def _by_exponent(v: Number, x: Number, y: Number) -> Number:
    """Compute the derivative of ``v = x**y`` with respect to y.

    It is 0 at x = 0, y >= 0, and where v is 0 and log(x) is infinite.
    """
    logarithm = _log(x)
    is_0 = ((x == 0) & (np.real(y) >= 0)) | ((v == 0) & np.isinf(logarithm))
    return np.where(is_0, 0, v * logarithm)


def _comparison(sign: str, holds: Callable[[Number, Number], Number]) -> Operation:
    """Make the operation that is 1 where `holds` is true, else 0, and has derivative 0."""
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
        "{} ** {}", lambda x, y: x**y, lambda v, x, y: (_by_base(x, y), _by_exponent(v, x, y))
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
    "square": Operation("{} ** 2", lambda x: x * x, lambda v, x: (2 * x,)),
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
    """Hold a traced circuit of K nodes: inputs, constants, and operations on earlier nodes.

    Attributes
    ----------
    codes : ndarray of int32, (K,)
        Operation of each node, as the kernels number them, or INPUT or CONSTANT.
    x, y : ndarray of int32, (K,)
        Indices of the operands; y = x if there is only one. For an input or a constant, its index
        among the inputs or in `constants`.
    constants : ndarray of float64, (C,)
        Values of the constants.
    outputs : ndarray of int32, (m,)
        Indices of the output nodes.
    n_inputs : int
        Number of inputs, which are the first nodes.
    ties : tuple of float
        Derivatives of max(x, y) and min(x, y) with respect to x and y where x = y.
    """

    codes: Array
    x: Array
    y: Array
    constants: Array
    outputs: Array
    n_inputs: int
    ties: tuple[float, float]


def operands(graph: Graph, k: int) -> tuple[int, ...]:
    """Return the indices of the nodes that node k is computed from."""
    code = int(graph.codes[k])
    if code < 0:
        return ()
    return (int(graph.x[k]),) if code in UNARY else (int(graph.x[k]), int(graph.y[k]))


def values(graph: Graph, X: ArrayLike) -> list[Number]:
    """Compute every node at one point X (n_inputs,), or at several, along further axes of X."""
    inputs, result = np.asarray(X), list[Number]()
    with np.errstate(all="ignore"):
        for k, code in enumerate(graph.codes.tolist()):
            if code == INPUT:
                result.append(inputs[graph.x[k]])
            elif code == CONSTANT:
                result.append(graph.constants[graph.x[k]])
            else:
                result.append(BY_CODE[code].value(*(result[i] for i in operands(graph, k))))
    return result


def partials(graph: Graph, k: int, node_values: list[Number]) -> tuple[Number, ...]:
    """Compute the derivatives of node k by its operands, given the values of all nodes."""
    at = [node_values[i] for i in operands(graph, k)]
    code = int(graph.codes[k])
    with np.errstate(all="ignore"):
        slopes = BY_CODE[code].partials(node_values[k], *at)
    if code in (CODES["maximum"], CODES["minimum"]):
        tied, undefined = np.real(at[0]) == np.real(at[1]), np.isnan(node_values[k])
        return tuple(
            np.where(undefined, np.nan, np.where(tied, tie, slope))
            for tie, slope in zip(graph.ties, slopes, strict=True)
        )
    return slopes


def adjoints(graph: Graph, node_values: list[Number], output: int = 0) -> list[Number]:
    """Compute the derivative of an output by every node, from the last node to the first.

    A node whose adjoint is 0 passes nothing on, even if its local derivative is infinite. Nothing
    goes to an operand that was not chosen, even if the node's adjoint is infinite.
    """
    result: list[Number] = [np.zeros_like(value) for value in node_values]
    result[graph.outputs[output]] = result[graph.outputs[output]] + 1.0
    for k in range(graph.codes.size - 1, -1, -1):
        if graph.codes[k] >= 0:
            selects = BY_CODE[int(graph.codes[k])].selects
            for i, slope in zip(operands(graph, k), partials(graph, k, node_values), strict=True):
                with np.errstate(all="ignore"):
                    is_0 = (result[k] == 0) | (selects & (np.asarray(slope) == 0))
                    result[i] = result[i] + np.where(is_0, 0, result[k] * slope)
    return result
