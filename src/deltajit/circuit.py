"""The `Circuit`: any function of scalars, traced once, with its gradient and more at cost O(N).

A face over `kernels.circuit`, as `Network` is over the sweeps. Beside it stand the functions that
NumPy does not have: relu, sigmoid, softplus, where, dot.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deltajit.circuits import graphs
from deltajit.circuits.lowering import lower
from deltajit.circuits.primitives import TIES, Graph
from deltajit.circuits.trace import Trace, argument_names, tabulate
from deltajit.circuits.tracing import Node, Tracer, dot, relu, sigmoid, softplus, where
from deltajit.kernels import circuit as compiled
from deltajit.model import checks, memory
from deltajit.model.described import Described
from deltajit.model.memory import Array
from deltajit.plot import nodes, notebook

__all__ = ["Circuit", "dot", "relu", "sigmoid", "softplus", "where"]

# Inputs at most: each is an object while f is traced.
MOST_INPUTS = 2**24

# Inputs and operations at most that a notebook draws.
MOST_DRAWN = 24


class Circuit(Described):
    """A differentiable circuit: the operations that a Python function of scalars is made of.

    The function is called once, with traced values, and never again. Nothing is compiled for it.

    Parameters
    ----------
    f : callable
        ``f(x1, ..., xn)`` returns a scalar, or a list or vector of them. It may use + - * / ** abs,
        comparisons, NumPy's functions (exp, expm1, log, log1p, sqrt, sin, cos, tan, tanh, maximum,
        minimum, ...), and relu, sigmoid, softplus, where and dot of `deltajit.circuit`. Arrays of
        arguments may be added, multiplied and summed, and all these functions take them, but
        comparisons and NumPy's maximum and minimum only beside a traced value.
    n_inputs : int
        How many arguments f takes.
    ties : "both", "first" or "split"
        The derivatives of ``np.maximum(x, y)`` and ``np.minimum(x, y)`` where x = y: 1 by each of
        them, 1 by x and 0 by y, or 1/2 by each. relu and abs have derivative 0 at 0.
    dtype : "float64" or "float32"
        Of everything that is computed.

    Raises
    ------
    TypeError
        f asks what a traced value is, or uses a function that is not known here; the error says
        what to write instead.

    Notes
    -----
    Cost and memory are those of Baur & Strassen (1983), "The complexity of partial derivatives":
    all derivatives of an output for a small multiple of its own cost; `hvp` applies the same to a
    directional derivative (Pearlmutter 1994). Like kernels of a network, those of a circuit compute
    a sample the same whatever others there are, and NaN is never swallowed.

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
        self, f: Callable[..., Any], n_inputs: int, *, ties: str = "both", dtype: Any = "float64"
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
        self, graph: Graph | dict[str, Any], names: list[str], is_scalar: bool, dtype: Any
    ) -> None:
        """Make what the graph, or the data that it was pickled as, needs to run here."""
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
        """How many arguments the function takes."""
        return self._graph.n_inputs

    @property
    def n_outputs(self) -> int:
        """How many values it returns; 1 if it is a scalar."""
        return int(self._graph.outputs.size)

    @property
    def n_operations(self) -> int:
        """N: operations that are left, after equal ones, constant ones and dead ones are gone."""
        return len(self._program.steps)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float64 or float32."""
        kind: np.dtype[Any] = self._program.constants.dtype
        return kind

    @property
    def graph(self) -> Graph:
        """The operations as they were traced."""
        return self._graph

    @property
    def program(self) -> compiled.Program:
        """The circuit as `deltajit.kernels.circuit` takes it, for a user's jitted code."""
        return self._program

    def workspace(self, batch: int = 1, order: int = 1) -> Array:
        """Scratch memory that the kernels need for batches of up to `batch` samples.

        Parameters
        ----------
        batch : int
        order : 1 or 2
            2 is for `hvp`.
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
        """The value.

        Parameters
        ----------
        x : array_like, (n_inputs,) or a batch (B, n_inputs)

        Returns
        -------
        float or ndarray
            A float, or (B,), of a function that returns a scalar; else (m,) or (B, m).
        """
        X, single = self._samples(x, "x")
        value = np.empty((X.shape[0], self.n_outputs), self.dtype)
        compiled.evaluate(self._program, X, value, self._work())
        return self._value(value, single)

    def value_and_grad(self, x: ArrayLike) -> tuple[Any, Array]:
        """The value of a scalar function, and its gradient, for a small multiple of its cost.

        Parameters
        ----------
        x : array_like, (n_inputs,) or (B, n_inputs)

        Returns
        -------
        value : float or ndarray (B,)
        grad : ndarray, like x
        """
        self._check_scalar("value_and_grad")
        X, single = self._samples(x, "x")
        value, jacobian = self._value_and_jacobian(X)
        return self._value(value, single), self._of_samples(jacobian[:, 0], single)

    def grad(self, x: ArrayLike) -> Array:
        """The gradient of a scalar function; see `value_and_grad`."""
        self._check_scalar("grad")
        return self.value_and_grad(x)[1]

    def jacobian(self, x: ArrayLike) -> Array:
        """Derivatives of all outputs by all inputs, each output for the cost of a gradient.

        Returns
        -------
        ndarray, (m, n_inputs) or (B, m, n_inputs)
            Without the axis of m for a function that returns a scalar.
        """
        X, single = self._samples(x, "x")
        _, jacobian = self._value_and_jacobian(X)
        return self._of_samples(jacobian[:, 0] if self._is_scalar else jacobian, single)

    def hvp(self, x: ArrayLike, v: ArrayLike) -> Array:
        """The Hessian of a scalar function times v, forward over reverse, without the Hessian.

        Parameters
        ----------
        x, v : array_like, (n_inputs,) or (B, n_inputs)
            One x goes with all v, and one v with all x: ``hvp(x, np.eye(n))`` is the Hessian.

        Returns
        -------
        ndarray, (n_inputs,) or (B, n_inputs)
        """
        self._check_scalar("hvp")
        (X, one_x), (V, one_v) = self._samples(x, "x"), self._samples(v, "v")
        if X.shape[0] != V.shape[0] and not (one_x or one_v):
            raise ValueError(f"v must have shape ({self.n_inputs},) or {X.shape}, got {V.shape}")
        X, V = map(np.ascontiguousarray, np.broadcast_arrays(X, V))
        out = np.empty_like(X)
        compiled.hvp(self._program, X, V, out, self._work())
        return self._of_samples(out, one_x and one_v)

    # ---------------------------------------------------------------- step by step

    def trace(self, x: ArrayLike, output: int = 0) -> Trace:
        """Every node at one point: its value, local derivatives, and adjoint.

        Computed by the NumPy reference in float64, one node after the other, to be read.

        Parameters
        ----------
        x : array_like, (n_inputs,)
        output : int
            Which output the adjoints are of.

        Returns
        -------
        Trace
            ``print`` it, or look at its ``steps``.
        """
        X, single = checks.matrix(x, "x", self.n_inputs, np.dtype(np.float64))
        if not single:
            raise ValueError(f"x must be one point ({self.n_inputs},), got shape {X.shape}")
        which = checks.whole(output, "output", least=0)
        if which >= self.n_outputs:
            raise ValueError(f"output must be less than {self.n_outputs}, got {which}")
        return tabulate(self._graph, X[0], self._names, which)

    def plot(self, x: ArrayLike, *, output: int = 0, ax: Any = None) -> Any:
        """Draw what `trace` tells as a graph; see `deltajit.plot.circuit`."""
        return nodes.circuit(self.trace(x, output), ax=ax)

    # ---------------------------------------------------------------- helpers

    def _value_and_jacobian(self, X: Array) -> tuple[Array, Array]:
        value = np.empty((X.shape[0], self.n_outputs), self.dtype)
        jacobian = np.empty((*value.shape, self.n_inputs), self.dtype)
        work = self._work()
        compiled.value_and_grad(self._program, X, value, jacobian, work)
        return value, jacobian

    def _samples(self, x: ArrayLike, name: str) -> tuple[Array, bool]:
        return checks.matrix(x, name, self.n_inputs, self.dtype)

    def _work(self) -> Array:
        """This thread's scratch memory, enough for any batch."""
        work: Array | None = getattr(self._scratch, "work", None)
        if work is None:
            size = compiled.largest_workspace(self._program)
            work = self._scratch.work = memory.empty(size, self.dtype)
        return work

    def _value(self, value: Array, single: bool) -> Any:
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


def _check_arguments(f: Callable[..., Any], arguments: list[Node]) -> None:
    """f must take so many."""
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):  # a callable without one
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise TypeError(
            f"f{signature} does not take n_inputs={len(arguments)} scalars ({error}); "
            "write f(*x) for any number of them"
        ) from None


def _outputs(result: Any) -> tuple[list[Any], bool]:
    """(what f returned as a list, whether it was a scalar)."""
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
