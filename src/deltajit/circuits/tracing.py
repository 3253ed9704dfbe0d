"""Tracing: a Python function of scalars, called once with nodes, becomes a graph of operations.

Equal subexpressions share one node, and nodes that no output needs are left out.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from deltajit.circuits import primitives
from deltajit.circuits.primitives import BY_CODE, Graph
from deltajit.kernels.circuit.operations import CODES
from deltajit.kernels.circuit.schedule import CONSTANT, INPUT, mark_needed
from deltajit.model.memory import Array

Function = Callable[..., object]  # of nodes, numbers and arrays of these; so are its results

# Whole exponents up to this one become products.
LARGEST_EXPONENT = 64

_COMMUTATIVE = {CODES["add"], CODES["multiply"]}

_NO_NUMBER = (
    "a Circuit calls its function once, with values that are not numbers yet, so nothing in it can "
    "depend on what they are: "
)


class Node:
    """Stand for a number while a `Circuit` calls its function: a traced value."""

    __slots__ = ("index", "tracer")

    def __init__(self, tracer: Tracer, index: int) -> None:
        self.tracer = tracer
        self.index = index

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, **options: object
    ) -> object:
        function = FUNCTIONS.get(ufunc.__name__)
        if function is None or method != "__call__" or options:
            asked = f"np.{ufunc.__name__}" + (f".{method}" if method != "__call__" else "")
            known = ", ".join(f"np.{name}" for name in FUNCTIONS)
            raise TypeError(
                f"{asked} of {sorted(options) or 'a traced value'} is not for a Circuit; write it "
                f"with what is: {known}"
            )
        if any(np.ndim(x) > 0 for x in inputs if not isinstance(x, Node)):
            return np.frompyfunc(function, len(inputs), 1)(*map(_as_array, inputs))
        return function(*map(_as_scalar, inputs))

    def __array_function__(
        self, function: Function, types: object, args: tuple[Any, ...], options: object
    ) -> object:
        if function is np.where and len(args) == 3:
            return where(*args)
        if function is np.clip and len(args) == 3:
            return np.minimum(np.maximum(args[0], args[1]), args[2])
        raise TypeError(
            f"np.{function.__name__} is not for traced values; use numpy.array([x1, x2]), whose "
            "elements may be traced, and sums and products of such arrays"
        )

    __hash__ = object.__hash__

    def __bool__(self) -> NoReturn:
        raise TypeError(
            _NO_NUMBER + "for if, while, and, or, not, min and max write "
            "dj.circuit.where(x > 0, a, b), np.maximum(a, b) or np.minimum(a, b)"
        )

    def __float__(self) -> NoReturn:
        raise TypeError(
            _NO_NUMBER + "for math.exp(x) write np.exp(x), and leave out float(x) and round(x)"
        )

    __int__ = __index__ = __round__ = __complex__ = __float__

    def __and__(self, other: object = None) -> NoReturn:
        raise TypeError(
            "conditions are 1 or 0: write a * b for a & b, np.maximum(a, b) for a | b, 1 - a for ~a"
        )

    __rand__ = __or__ = __ror__ = __invert__ = __and__

    def conjugate(self) -> Node:
        """Return the node itself, the conjugate of a real number; np.var calls this."""
        return self

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "the function of a Circuit takes scalars, f(x1, ..., xn), so x1 is no vector; write "
            "f(*x) to have all of them as x"
        )

    def __repr__(self) -> str:
        return f"<traced value {self.index}>"


class Tracer:
    """Grow a graph while a function is traced."""

    def __init__(self, n_inputs: int) -> None:
        self.codes = [INPUT] * n_inputs
        self.x = list(range(n_inputs))
        self.y = list(range(n_inputs))
        self.constants: list[float] = []
        self.known: dict[object, int] = {}  # nodes by (code, x, y), or by the bytes of a constant

    def index_of(self, value: object) -> int:
        """Return the index of an operand's node; a number gets a node when it first occurs."""
        if type(value) is Node:
            if value.tracer is not self:
                raise ValueError(
                    "a traced value was kept from another call: a Circuit's function may use its "
                    "own arguments, and numbers"
                )
            return value.index
        number = _number(value)
        key = struct.pack("d", number)  # 0.0 and -0.0 differ, NaN equals itself
        if key not in self.known:
            self.known[key] = len(self.codes)
            self._append(CONSTANT, len(self.constants), len(self.constants))
            self.constants.append(number)
        return self.known[key]

    def emit(self, code: int, x: object, y: object) -> Node:
        """Return the node of an operation on x and y, an earlier one if it is the same."""
        i, j = self.index_of(x), self.index_of(y)
        key = (code, j, i) if i > j and code in _COMMUTATIVE else (code, i, j)
        index = self.known.get(key)
        if index is None:
            index = self.known[key] = len(self.codes)
            self._append(code, i, j)
        return Node(self, index)

    def _append(self, code: int, x: int, y: int) -> None:
        self.codes.append(code)
        self.x.append(x)
        self.y.append(y)

    def graph(self, outputs: Sequence[object], n_inputs: int, ties: tuple[float, float]) -> Graph:
        """Return the graph that was traced, without nodes that no output needs."""
        ends = np.array([self.index_of(output) for output in outputs], np.int32)
        codes, x, y = (np.array(part, np.int32) for part in (self.codes, self.x, self.y))
        needed = np.zeros(codes.size, np.bool_)
        needed[ends] = True
        mark_needed(codes, x, y, needed)
        needed |= codes == INPUT
        constants = np.array(self.constants, np.float64)[x[needed & (codes == CONSTANT)]]
        number = np.cumsum(needed, dtype=np.int32) - 1  # a node's new index
        codes, x, y = codes[needed], x[needed], y[needed]
        x[codes >= 0], y[codes >= 0] = number[x[codes >= 0]], number[y[codes >= 0]]
        x[codes == CONSTANT] = y[codes == CONSTANT] = np.arange(constants.size)
        return Graph(codes, x, y, constants, number[ends], n_inputs, ties)


def inlined(graph: Graph, arguments: Sequence[object]) -> list[Any]:
    """Trace the operations of a graph with these nodes and numbers as its inputs, in their call."""
    tracer: Tracer = next(value.tracer for value in arguments if isinstance(value, Node))
    values: list[Any] = []
    for code, i, j in zip(graph.codes.tolist(), graph.x, graph.y, strict=True):
        if code == INPUT:
            values.append(arguments[i])
        elif code == CONSTANT:
            values.append(graph.constants[i])
        else:
            values.append(tracer.emit(code, values[i], values[j]))
    return [values[i] for i in graph.outputs]


def holds_nodes(value: object) -> bool:
    """Return whether a value is a node, or a list or array with nodes in it."""
    if isinstance(value, np.ndarray):
        return value.dtype == object and any(isinstance(x, Node) for x in value.flat)
    if isinstance(value, (list, tuple)):
        return any(isinstance(x, Node) for x in value)
    return isinstance(value, Node)


def _number(value: object) -> float:
    """Convert a constant operand to a float."""
    if isinstance(value, (int, float, np.integer, np.floating, np.bool_)) or (
        isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iufb"
    ):
        return float(value)
    raise TypeError(f"a traced value goes with numbers and traced values, not with {value!r}")


def _as_array(value: object) -> Any:
    """Wrap a node in an array of shape (), which NumPy broadcasts like any other."""
    if not isinstance(value, Node):
        return value
    array = np.empty((), object)
    array[()] = value
    return array


def _as_scalar(value: object) -> object:
    """Unwrap an array of shape (), as np.tensordot makes them from nodes."""
    return value[()] if isinstance(value, np.ndarray) else value


def _apply(name: str, x: object, y: object) -> Node:
    """Apply an operation to nodes and numbers, at least one of them a node."""
    tracer: Tracer = next(value.tracer for value in (x, y) if isinstance(value, Node))
    return tracer.emit(CODES[name], x, y)


def _is(value: object, number: float) -> bool:
    return not isinstance(value, Node) and value == number


def _is_same(x: object, y: object) -> bool:
    return (
        isinstance(x, Node) and isinstance(y, Node) and x.tracer is y.tracer and x.index == y.index
    )


# NumPy's functions, of nodes and numbers, by NumPy's names.


def add(x: object, y: object) -> object:
    """Trace ``x + y``; adding 0 is no operation, since sum() begins with it."""
    return y if _is(x, 0) else x if _is(y, 0) else _apply("add", x, y)


def subtract(x: object, y: object) -> object:
    """Trace ``x - y``."""
    return x if _is(y, 0) else _apply("subtract", x, y)


def multiply(x: object, y: object) -> object:
    """Trace ``x * y``; x times itself is a square."""
    if _is_same(x, y):
        return _apply("square", x, x)
    return y if _is(x, 1) else x if _is(y, 1) else _apply("multiply", x, y)


def divide(x: object, y: object) -> object:
    """Trace ``x / y``."""
    return x if _is(y, 1) else _apply("divide", x, y)


def power(x: object, y: object) -> object:
    """Trace ``x ** y``; a whole exponent becomes products, and 1/2 a square root."""
    if isinstance(y, Node):
        return _apply("power", x, y)
    exponent = _number(y)
    if exponent == 0.5:
        return sqrt(x)
    if not (exponent.is_integer() and abs(exponent) <= LARGEST_EXPONENT):
        return _apply("constant_power", x, exponent)
    # Not 1 / x**n, whose derivative overflows earlier.
    base = divide(1.0, x) if exponent < 0 else x
    result: object = 1.0
    for bit in f"{abs(int(exponent)):b}":
        result = multiply(result, result)
        if bit == "1":
            result = multiply(result, base)
    return result


def _binary(name: str) -> Function:
    return lambda x, y: _apply(name, x, y)


def _unary(name: str) -> Function:
    return lambda x: _apply(name, x, x)


negative, absolute, sqrt, log = map(_unary, ["negative", "absolute", "sqrt", "log"])
equal, less, less_equal = map(_binary, ["equal", "less", "less_equal"])


def maximum(x: object, y: object) -> object:
    """Trace the larger of x and y; x and itself are not a tie."""
    return x if _is_same(x, y) else _apply("maximum", x, y)


def minimum(x: object, y: object) -> object:
    """Trace the smaller of x and y; x and itself are not a tie."""
    return x if _is_same(x, y) else _apply("minimum", x, y)


# Functions that NumPy does not have.


def relu(x: object) -> Any:
    """Compute ``max(0, x)``, whose derivative at 0 is 0, as in a network.

    Parameters
    ----------
    x : traced value, float, or array_like of either
        Argument; an array element by element.

    Returns
    -------
    traced value, float or ndarray
        Like x; a number for a number, so that a function also runs without a `Circuit`.

    Raises
    ------
    TypeError
        x is none of these.
    """
    return _anywhere("relu", BY_CODE[CODES["relu"]].value, x)


def sigmoid(x: object) -> Any:
    """Compute ``1 / (1 + exp(-x))``, without overflow.

    Parameters
    ----------
    x : traced value, float, or array_like of either
        Argument; an array element by element.

    Returns
    -------
    traced value, float or ndarray
        Like x; a number for a number, so that a function also runs without a `Circuit`.

    Raises
    ------
    TypeError
        x is none of these.
    """
    return _anywhere("sigmoid", primitives.sigmoid, x)


def softplus(x: object) -> Any:
    """Compute ``log(1 + exp(x))``, without overflow.

    Parameters
    ----------
    x : traced value, float, or array_like of either
        Argument; an array element by element.

    Returns
    -------
    traced value, float or ndarray
        Like x; a number for a number, so that a function also runs without a `Circuit`.

    Raises
    ------
    TypeError
        x is none of these.
    """
    return _anywhere("softplus", primitives.softplus, x)


def where(condition: Any, x: Any, y: Any) -> Any:
    """Choose x where the condition holds, and y elsewhere; both are computed.

    The derivative goes to the one that is chosen. The other one and the condition get 0, even where
    their own derivatives are infinite.

    Parameters
    ----------
    condition : traced value, bool, float, or array_like of these
        Such as ``x > 0``; holds where it is not 0.
    x, y : traced value, float, or array_like of either
        What to choose from.

    Returns
    -------
    traced value, float or ndarray
        x or y, element by element.

    Raises
    ------
    TypeError
        The condition is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> import deltajit as dj
    >>> f = lambda x: dj.circuit.where(x > 0, np.sqrt(x), 0)
    >>> dj.Circuit(f, 1).value_and_grad([0.0])
    (0.0, array([0.]))
    """
    if any(np.ndim(each) > 0 for each in (condition, x, y) if not isinstance(each, Node)):
        return np.frompyfunc(where, 3, 1)(*map(_as_array, (condition, x, y)))
    if not isinstance(condition, Node):
        if np.asarray(condition).dtype.kind not in "biuf":
            raise TypeError(f"condition must be traced, a bool or a number, got {condition!r}")
        return x if condition else y
    kept = 0.0 if _is(x, 0) else _apply("keep", condition, x)
    return add(kept, 0.0 if _is(y, 0) else _apply("drop", condition, y))


def dot(x: Sequence[Any], y: Sequence[Any]) -> Any:
    """Sum the products of corresponding elements of two lists.

    Parameters
    ----------
    x, y : sequence of traced values or floats
        Two lists of one length.

    Returns
    -------
    traced value or float
        ``x[0] * y[0] + x[1] * y[1] + ...``.

    Raises
    ------
    ValueError, TypeError
        x and y differ in length, or one of them is no list.
    """
    for name, values in (("x", x), ("y", y)):
        if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
            raise TypeError(f"{name} must be a list or vector of values, got {values!r}")
    if len(x) != len(y):
        raise ValueError(f"x and y must have one length, got {len(x)} and {len(y)} elements")
    return sum(a * b for a, b in zip(x, y, strict=True))


def _anywhere(name: str, function: Callable[[Array], Array], x: object) -> Any:
    """Apply a function to a node, to an array that holds nodes, or to numbers."""
    if isinstance(x, Node):
        return _apply(name, x, x)
    array = np.asarray(x)
    if array.dtype.kind not in "biufO" or (array.dtype == object and array.ndim == 0):
        raise TypeError(f"x must be a traced value, a number, or an array of these, got {x!r}")
    if array.dtype == object:
        return np.frompyfunc(lambda each: _anywhere(name, function, each), 1, 1)(array)
    with np.errstate(all="ignore"):
        return function(array)[()]


ELEMENTARY = ("exp", "exp2", "expm1", "log1p", "sin", "cos", "tan", "sinh", "cosh", "tanh")

FUNCTIONS: dict[str, Function] = {
    "add": add,
    "subtract": subtract,
    "multiply": multiply,
    "divide": divide,
    "power": power,
    "float_power": power,
    "maximum": maximum,
    "minimum": minimum,
    "less": less,
    "less_equal": less_equal,
    "greater": lambda x, y: less(y, x),
    "greater_equal": lambda x, y: less_equal(y, x),
    "equal": equal,
    "not_equal": lambda x, y: subtract(1, equal(x, y)),
    "logaddexp": _binary("logaddexp"),
    "negative": negative,
    "positive": lambda x: x,
    "absolute": absolute,
    "fabs": absolute,
    "square": lambda x: multiply(x, x),
    "reciprocal": lambda x: divide(1.0, x),
    "sqrt": sqrt,
    "log": log,
    "log2": lambda x: divide(log(x), math.log(2)),
    "log10": lambda x: divide(log(x), math.log(10)),
    **{name: _unary(name) for name in ELEMENTARY},
}


def _operator(function: Function, reflected: bool = False) -> Function:
    """Make a method of `Node` for an operator; an array operand takes over, element by element."""

    def operator(self: Node, other: object) -> object:
        if isinstance(other, np.ndarray) and other.ndim > 0:
            return NotImplemented
        other = _as_scalar(other)
        return function(other, self) if reflected else function(self, other)

    return operator


def _add_methods() -> None:
    """Give `Node` its operators, and the methods that NumPy calls on elements of arrays."""
    for name, ufunc in [
        ("add", "add"), ("sub", "subtract"), ("mul", "multiply"), ("truediv", "divide"),
        ("pow", "power"),
    ]:  # fmt: skip
        setattr(Node, f"__{name}__", _operator(FUNCTIONS[ufunc]))
        setattr(Node, f"__r{name}__", _operator(FUNCTIONS[ufunc], reflected=True))
    for name, ufunc in [
        ("lt", "less"), ("le", "less_equal"), ("gt", "greater"), ("ge", "greater_equal"),
        ("eq", "equal"), ("ne", "not_equal"),
    ]:  # fmt: skip
        setattr(Node, f"__{name}__", _operator(FUNCTIONS[ufunc]))
    for name, ufunc in [("neg", "negative"), ("pos", "positive"), ("abs", "absolute")]:
        setattr(Node, f"__{name}__", FUNCTIONS[ufunc])
    for name in ("square", "reciprocal", "sqrt", "log", "log2", "log10", "fabs", *ELEMENTARY):
        setattr(Node, name, FUNCTIONS[name])


_add_methods()
