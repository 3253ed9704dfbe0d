"""Differentiable circuits: a traced function of scalars, its gradient, Jacobian and HVP.

`Circuit` traces and delegates to `deltajit.kernels.circuit`; relu, sigmoid, softplus, where and dot
are functions for traced values that NumPy does not have.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from deltajit.circuits import graphs
from deltajit.circuits.lowering import lower
from deltajit.circuits.primitives import TIES, Graph
from deltajit.circuits.trace import Trace, argument_names, tabulate
from deltajit.circuits.tracing import (
    Node,
    Tracer,
    dot,
    holds_nodes,
    inlined,
    relu,
    sigmoid,
    softplus,
    where,
)
from deltajit.kernels import circuit as compiled
from deltajit.kernels.circuit.entries import calls_for
from deltajit.model import checks, memory
from deltajit.model.described import Described
from deltajit.model.memory import Array, DType
from deltajit.plot import nodes, notebook

if TYPE_CHECKING:
    from deltajit.plot.axes import Axes

__all__ = ["Circuit", "dot", "relu", "sigmoid", "softplus", "where"]

# Most inputs: each is a Python object while f is traced.
MOST_INPUTS = 2**24

# Most inputs and operations that a notebook draws.
MOST_DRAWN = 24


class Circuit(Described):
    """Compute a traced function of scalars and its derivatives: a differentiable circuit.

    The function is called once, with traced values, and never again. Nothing is compiled for it.

    Parameters
    ----------
    f : callable
        ``f(x1, ..., xn)`` returns a scalar, or a list or vector of scalars. It may use + - * / **
        abs, comparisons, NumPy's functions (exp, expm1, log, log1p, sqrt, sin, cos, tan, tanh,
        maximum, minimum, ...), and relu, sigmoid, softplus, where and dot of `deltajit.circuit`.
        Arguments may be put into arrays, which can be added, multiplied, summed and passed to these
        functions; comparisons, and NumPy's maximum and minimum, of such an array need a traced
        scalar as the other operand.
    n_inputs : int, >= 1
        Number n of arguments that f takes.
    ties : {"both", "first", "split"}
        Derivatives of ``np.maximum(x, y)`` and ``np.minimum(x, y)`` where x = y: 1 with respect to
        each of them, 1 for x and 0 for y, or 1/2 for each. relu and abs have derivative 0 at 0.
    dtype : {"float64", "float32"}
        Dtype of all values and derivatives.

    Raises
    ------
    TypeError
        f is no function of n_inputs scalars, it depends on what a traced value is (as ``if x > 0``
        does), or it uses a function that cannot be traced; the error says what to write instead.
    ValueError, TypeError
        n_inputs, ties or dtype is not as above.

    Notes
    -----
    Reverse mode gives all derivatives of one output for a small multiple of the cost of computing
    it (Baur & Strassen 1983, "The complexity of partial derivatives"). `hvp` applies it to a
    directional derivative (Pearlmutter 1994). The result for a sample does not depend on the rest
    of its batch, and NaN is never swallowed.

    Examples
    --------
    >>> import numpy as np
    >>> import deltajit as dj
    >>> c = dj.Circuit(lambda x1, x2, x3: (x1 + x2) * np.maximum(x2, x3), 3)
    >>> c.value_and_grad([1, 2, 0])
    (6.0, array([2., 5., 0.]))
    """

    __slots__ = (
        "__dict__", "__weakref__", "_graph", "_is_scalar", "_names", "_program", "_scratch"
    )  # fmt: skip

    def __init__(
        self,
        f: Callable[..., object],
        n_inputs: int,
        *,
        ties: str = "both",
        dtype: DTypeLike = "float64",
    ) -> None:
        if not callable(f):
            raise TypeError(f"f must be a function of n_inputs scalars, got {f!r}")
        n_inputs = checks.whole(n_inputs, "n_inputs", most=MOST_INPUTS)
        tracer = Tracer(n_inputs)
        weights = TIES[checks.choice(ties, "ties", TIES)]
        kind = checks.dtype(dtype)
        arguments = [Node(tracer, i) for i in range(n_inputs)]
        _check_arguments(f, arguments)
        outputs, is_scalar = _outputs(f(*arguments))
        graph = tracer.graph(outputs, n_inputs, weights)
        self._bind(graph, argument_names(f, n_inputs), is_scalar, kind)

    def _bind(
        self, graph: Graph | dict[str, Any], names: list[str], is_scalar: bool, dtype: DTypeLike
    ) -> None:
        """Lower the graph, or the data that it was pickled as, to a program that runs here."""
        graph = graphs.from_data(graph) if isinstance(graph, dict) else graph
        self._graph = graph
        self._names = names
        self._is_scalar = is_scalar
        self._program = lower(graph, checks.dtype(dtype))
        self._scratch = threading.local()

    def _describe(self) -> dict[str, Any]:
        return {
            "graph": graphs.to_data(self._graph),
            "names": self._names,
            "is_scalar": self._is_scalar,
            "dtype": self.dtype,
        }

    # ---------------------------------------------------------------- what it is

    @property
    def n_inputs(self) -> int:
        """Return n, the number of arguments that the function takes."""
        return self._graph.n_inputs

    @property
    def n_outputs(self) -> int:
        """Return m, the number of values that the function returns; 1 for a scalar."""
        return int(self._graph.outputs.size)

    @property
    def n_operations(self) -> int:
        """Return N, the number of operations, without repeated and unused ones."""
        return len(self._program.steps)

    @property
    def dtype(self) -> DType:
        """Return the dtype of values and derivatives, float64 or float32."""
        kind: DType = self._program.constants.dtype
        return kind

    @property
    def graph(self) -> Graph:
        """Return the graph of operations as it was traced: K nodes, as arrays (K,) of a `Graph`."""
        return self._graph

    @property
    def program(self) -> compiled.Program:
        """Return the arrays that `deltajit.kernels.circuit` takes, for your own jitted code."""
        return self._program

    def workspace(self, batch: int = 1, order: int = 1) -> Array:
        """Return scratch memory for the kernels, enough for batches of up to `batch` samples.

        Parameters
        ----------
        batch : int, >= 1
            Number B of samples.
        order : {1, 2}
            Order of the derivatives: 1 for values and first derivatives, 2 for `hvp`.

        Returns
        -------
        ndarray
            A vector of the circuit's dtype; its contents do not matter.

        Raises
        ------
        ValueError, TypeError
            order is neither 1 nor 2, or batch is not a whole number >= 1.
        """
        if order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {order!r}")
        samples = checks.whole(batch, "batch")
        return memory.empty(compiled.workspace_size(self._program, samples, order), self.dtype)

    def __repr__(self) -> str:
        return (
            f"Circuit({self.n_inputs} inputs, {self.n_operations:,} operations, "
            f"{self.n_outputs} output{'s' * (self.n_outputs > 1)}, {self.dtype.name})"
        )

    def _repr_html_(self) -> str:
        rows = [
            ("arguments", ", ".join(self._names[:8]) + ", ..." * (self.n_inputs > 8)),
            ("operations", f"{self.n_operations:,}"),
            ("outputs", "one scalar" if self._is_scalar else f"{self.n_outputs:,}"),
            ("dtype", self.dtype.name),
        ]
        draw = self._draw if self.n_inputs + self.n_operations <= MOST_DRAWN else None
        return notebook.face(repr(self), [("", ""), *rows], draw)

    def _draw(self, ax: Any) -> None:
        steps = tabulate(self._graph, np.zeros(self.n_inputs), self._names, 0).steps
        nodes.draw(steps, numbers=False, ax=ax)

    # ---------------------------------------------------------------- what it computes

    def __call__(self, x: ArrayLike) -> Any:
        """Compute the value of the function.

        In the function of another circuit, of traced values, it becomes a part of that one, whose
        `ties` then hold.

        Parameters
        ----------
        x : array_like, (n_inputs,) or (B, n_inputs)
            One point, or a batch of them; or a list or vector of traced values and numbers.

        Returns
        -------
        float or ndarray
            For a function that returns a scalar: a float, or (B,) for a batch. For one that returns
            m values: (m,) or (B, m). Of traced values a traced value, or (m,) of them.

        Raises
        ------
        ValueError, TypeError
            x does not hold real numbers, or has another shape.

        Examples
        --------
        >>> import deltajit as dj
        >>> product = dj.Circuit(lambda x, y: x * y, 2)
        >>> dj.Circuit(lambda x: product([x, x]) + 1, 1).value_and_grad([3.0])
        (10.0, array([6.]))
        """
        if holds_nodes(x):
            return self._part(np.atleast_1d(np.asarray(x, object)))
        X, single = self._samples(x, "x")
        value = np.empty((X.shape[0], self.n_outputs), self.dtype)
        calls_for(self.dtype).evaluate(self._program, X, value, self._work())
        return self._value(value, single)

    def value_and_grad(self, x: ArrayLike) -> tuple[float | Array, Array]:
        """Compute a scalar function and its gradient, at a small multiple of its own cost.

        Parameters
        ----------
        x : array_like, (n_inputs,) or (B, n_inputs)
            One point, or a batch of them.

        Returns
        -------
        value : float or ndarray (B,)
            Value at each point.
        grad : ndarray, (n_inputs,) or (B, n_inputs)
            Derivative of the value at each point with respect to each input.

        Raises
        ------
        ValueError, TypeError
            The function returns more than a scalar, or x is not as above.
        """
        self._check_scalar("value_and_grad")
        X, single = self._samples(x, "x")
        value, jacobian = self._value_and_jacobian(X)
        return self._value(value, single), self._of_samples(jacobian[:, 0], single)

    def grad(self, x: ArrayLike) -> Array:
        """Compute the gradient of a scalar function, as `value_and_grad` does.

        Parameters
        ----------
        x : array_like, (n_inputs,) or (B, n_inputs)
            One point, or a batch of them.

        Returns
        -------
        ndarray, (n_inputs,) or (B, n_inputs)
            Derivative of the value at each point with respect to each input.

        Raises
        ------
        ValueError, TypeError
            The function returns more than a scalar, or x is not as above.
        """
        self._check_scalar("grad")
        return self.value_and_grad(x)[1]

    def jacobian(self, x: ArrayLike) -> Array:
        """Compute the derivatives of all outputs by all inputs, one reverse sweep per output.

        Parameters
        ----------
        x : array_like, (n_inputs,) or (B, n_inputs)
            One point, or a batch of them.

        Returns
        -------
        ndarray, (m, n_inputs) or (B, m, n_inputs)
            Jacobian at each point; without the axis of m if the function returns a scalar.

        Raises
        ------
        ValueError, TypeError
            x does not hold real numbers, or has another shape.
        """
        X, single = self._samples(x, "x")
        _, jacobian = self._value_and_jacobian(X)
        return self._of_samples(jacobian[:, 0] if self._is_scalar else jacobian, single)

    def hvp(self, x: ArrayLike, v: ArrayLike) -> Array:
        """Compute the Hessian of a scalar function times v, without forming the Hessian.

        Forward mode over reverse mode (Pearlmutter 1994).

        Parameters
        ----------
        x : array_like, (n_inputs,) or (B, n_inputs)
            One point, or a batch of them.
        v : array_like, (n_inputs,) or (B, n_inputs)
            One direction per point. A single x is used with every v and a single v at every x, so
            ``hvp(x, np.eye(n))`` is the whole Hessian at x.

        Returns
        -------
        ndarray, (n_inputs,) or (B, n_inputs)
            H v at each point.

        Raises
        ------
        ValueError, TypeError
            The function returns more than a scalar, or x or v is not as above.

        Examples
        --------
        >>> import deltajit as dj
        >>> dj.Circuit(lambda x, y: x**2 * y, 2).hvp([1, 3], [[1, 0], [0, 1]])
        array([[6., 2.],
               [2., 0.]])
        """
        self._check_scalar("hvp")
        (X, one_x), (V, one_v) = self._samples(x, "x"), self._samples(v, "v")
        if X.shape[0] != V.shape[0] and not (one_x or one_v):
            raise ValueError(f"v must have shape ({self.n_inputs},) or {X.shape}, got {V.shape}")
        X, V = map(np.ascontiguousarray, np.broadcast_arrays(X, V))
        out = np.empty_like(X)
        calls_for(self.dtype).hvp(self._program, X, V, out, self._work())
        return self._of_samples(out, one_x and one_v)

    # ---------------------------------------------------------------- step by step

    def trace(self, x: ArrayLike, output: int = 0) -> Trace:
        """Tabulate every node at one point: its value, local derivatives and adjoint.

        It is computed by the NumPy reference in float64, node by node, to be read.

        Parameters
        ----------
        x : array_like, (n_inputs,)
            The point.
        output : int, >= 0
            Index of the output that is differentiated.

        Returns
        -------
        Trace
            A table: ``print`` it, or look at its ``steps``.

        Raises
        ------
        ValueError, TypeError
            x is not one point, or there is no such output.

        Examples
        --------
        >>> import deltajit as dj
        >>> product = dj.Circuit(lambda x, y: x * y + x, 2).trace([2, 3]).steps[2]
        >>> product.text, product.value, product.derivatives, product.adjoint
        ('x * y', 6.0, (3.0, 2.0), 1.0)
        """
        X, single = checks.matrix(x, "x", self.n_inputs, np.dtype(np.float64))
        if not single:
            raise ValueError(f"x must be one point ({self.n_inputs},), got shape {X.shape}")
        index = checks.whole(output, "output", least=0)
        if index >= self.n_outputs:
            raise ValueError(f"output must be less than {self.n_outputs}, got {index}")
        return tabulate(self._graph, X[0], self._names, index)

    def plot(self, x: ArrayLike, *, output: int = 0, ax: Axes | None = None) -> Axes:
        """Draw the table of `trace` as a graph, as `deltajit.plot.circuit` does.

        Parameters
        ----------
        x : array_like, (n_inputs,)
            The point.
        output : int, >= 0
            Index of the output that is differentiated.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default on a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            The Axes with the graph.

        Raises
        ------
        ValueError, TypeError
            x is not one point, there is no such output, ax is no Axes, or the graph has more than
            80 nodes.
        """
        return nodes.circuit(self.trace(x, output), ax=ax)

    # ---------------------------------------------------------------- helpers

    def _part(self, x: Array) -> Any:
        """Return the outputs of traced values, in the circuit that they are of."""
        if x.shape != (self.n_inputs,):
            raise ValueError(f"x must have shape ({self.n_inputs},), got {x.shape}")
        outputs = inlined(self._graph, x.tolist())
        return outputs[0] if self._is_scalar else np.array(outputs, object)

    def _value_and_jacobian(self, X: Array) -> tuple[Array, Array]:
        value = np.empty((X.shape[0], self.n_outputs), self.dtype)
        jacobian = np.empty((*value.shape, self.n_inputs), self.dtype)
        work = self._work()
        calls_for(self.dtype).value_and_grad(self._program, X, value, jacobian, work)
        return value, jacobian

    def _samples(self, x: ArrayLike, name: str) -> tuple[Array, bool]:
        return checks.matrix(x, name, self.n_inputs, self.dtype)

    def _work(self) -> Array:
        """Return this thread's scratch memory, enough for any batch."""
        work: Array | None = getattr(self._scratch, "work", None)
        if work is None:
            size = compiled.largest_workspace(self._program)
            work = self._scratch.work = memory.empty(size, self.dtype)
        return work

    def _value(self, value: Array, single: bool) -> float | Array:
        if self._is_scalar:
            return float(value[0, 0]) if single else value[:, 0]
        return self._of_samples(value, single)

    @staticmethod
    def _of_samples(result: Array, single: bool) -> Array:
        return result[0] if single else result

    def _check_scalar(self, method: str) -> None:
        if not self._is_scalar:
            raise ValueError(
                f"{method} is of a function that returns one scalar; this one returns a vector of "
                f"{self.n_outputs}: use jacobian, or return a single one"
            )


def _check_arguments(f: Callable[..., object], arguments: list[Node]) -> None:
    """Raise TypeError unless f can be called with these arguments."""
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):  # a callable without a signature
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise TypeError(
            f"f{signature} does not take n_inputs={len(arguments)} scalars ({error}); "
            "write f(*x) for any number of them"
        ) from None


def _outputs(result: object) -> tuple[list[object], bool]:
    """Return what f returned as a list, and whether it was a scalar."""
    if isinstance(result, np.ndarray) and result.ndim == 0:
        result = result[()]
    is_scalar = isinstance(result, (Node, int, float, np.generic))
    outputs = [result] if is_scalar else result
    if (
        not isinstance(outputs, (list, tuple, np.ndarray))
        or len(outputs) == 0
        or any(not isinstance(x, Node) and np.ndim(x) > 0 for x in outputs)
        or any(x is None for x in outputs)
    ):
        raise TypeError(f"f must return a scalar, or a list or vector of scalars, got {result!r}")
    return list(outputs), is_scalar
