"""A typed function of x as a `Circuit`: its syntax tree is checked and traced, never executed."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from deltajit.circuit import Circuit, relu, sigmoid, softplus

MOST_CHARACTERS = 500

NUMBERS = (int, float)
NAMES = {"pi": np.pi, "e": np.e}
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    **{name: getattr(np, name) for name in ("sin", "cos", "tan", "tanh", "exp", "log", "sqrt")},
    "abs": abs,
    "relu": relu,
    "sigmoid": sigmoid,
    "softplus": softplus,
}
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


def parse(text: str) -> Circuit:
    """Trace a function of x, such as ``sin(3*x) + 0.3*x``; ValueError says what it may not have."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"the function may have {MOST_CHARACTERS} characters, not {len(text):,}")
    try:
        tree = ast.parse(text.strip().replace("^", "**"), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError(f"{text!r} is no formula; write one such as sin(3*x) + 0.3*x") from None
    try:
        with np.errstate(all="ignore"):
            return Circuit(lambda x: _value(tree, x) + 0 * x, 1)
    except (ArithmeticError, RecursionError, TypeError) as error:
        raise ValueError(f"{text!r} can't be computed: {error}") from None


def _value(node: ast.AST, x: Any) -> Any:
    """Compute what one node of the tree stands for."""
    if isinstance(node, ast.Constant) and type(node.value) in NUMBERS:
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return _known({"x": x, **NAMES}, node.id, "number")
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.operand, x))
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.left, x), _value(node.right, x))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        f = _known(FUNCTIONS, node.func.id, "function")
        if len(node.args) == 1:
            return f(_value(node.args[0], x))
    raise ValueError(
        f"{ast.unparse(node)!r} means nothing here; there are x, numbers, + - * / ** and "
        f"{', '.join(FUNCTIONS)} of one argument"
    )


def _known(table: dict[str, Any], name: str, kind: str) -> Any:
    """Look a name up."""
    if name not in table:
        raise ValueError(f"{name!r} is no {kind} here; there are {', '.join(table)}")
    return table[name]
