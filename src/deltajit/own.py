"""Activations and losses of the user's own."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from deltajit import graphs, operations, reference
from deltajit.kernels import ACTIVATIONS, LOSSES
from deltajit.kernels.circuit import Program, largest_workspace
from deltajit.kernels.circuit.loss import loss_of, make_words
from deltajit.kernels.mlp.own import own_activation
from deltajit.lowering import lower
from deltajit.operations import Graph

Array = NDArray[Any]
Scalar = Callable[[float], float]


class CircuitLoss(NamedTuple):
    """What there is to know of a circuit that is a loss.

    What it computes, its programs and where they are, by dtype, and scratch memory.
    """

    graph: Graph
    programs: dict[Any, Program]
    words: dict[Any, Array]
    spare: int


# Losses of the user's own, and tables of the addresses of activations, by name.
CIRCUITS: dict[str, CircuitLoss] = {}
_tables: dict[str, Array] = {}

_kept: list[Any] = []  # compiled functions


def register_activation(
    name: str, f: Scalar, derivative: Scalar, second_derivative: Scalar | None = None
) -> None:
    """Make ``activation=name`` mean a function of your own, in hidden layers of any network.

    It is called unit by unit, some nanoseconds each. A network that has it is unpickled, or loaded
    from a file, only where the name has been registered. Registered once more, as by a notebook's
    cell that runs twice, the name means the new function, to networks that exist already as well.

    Where a function raises, its result is NaN; division by 0 gives inf or NaN, as in NumPy.

    Parameters
    ----------
    name : str
        One that no activation of deltajit has.
    f, derivative : function of a float that ``@njit`` compiles, or that it has compiled
        The value, and the derivative, both of z.
    second_derivative : likewise, optional
        For `hvp` and what is made of it, which else are NaN.

    Raises
    ------
    ValueError
        The name is taken, or `derivative` is not that of `f`.

    Examples
    --------
    >>> import math
    >>> import deltajit as dj
    >>> def bump(z):
    ...     return math.exp(-z * z)
    >>> dj.register_activation("bump", bump, lambda z: -2 * z * math.exp(-z * z))
    >>> net = dj.Network([2, 8, 1], activation="bump")
    """
    if not isinstance(name, str) or (name in ACTIVATIONS and name not in _tables):
        raise ValueError(f"name must be a string that no activation has, got {name!r}")
    value, slope = _compiled(f, "f"), _compiled(derivative, "derivative")
    curvature = _compiled(second_derivative or _nan, "second_derivative")
    _check_derivative(value, slope)
    calls = [_callback(function) for function in (value, slope, curvature)]
    _kept.append(calls)
    table = _tables.setdefault(name, np.empty(len(calls), np.int64))
    table[:] = [call.address for call in calls]
    reference.OWN[name] = value, slope, curvature
    if name not in ACTIVATIONS:
        ACTIVATIONS[name] = own_activation(name, table)


def unknown(activations: Iterable[Any], loss: Any) -> str:
    """What to do about a name, from a pickle or a file, that this process does not know."""
    for name in activations:
        if isinstance(name, str) and name not in ACTIVATIONS:
            return (
                f"activation {name[:50]!r} is unknown here; if it is one of your own, call "
                f"dj.register_activation({name[:50]!r}, f, derivative) first"
            )
    if isinstance(loss, str) and loss not in LOSSES:
        return (
            f"loss {loss[:50]!r} is unknown here; if it is a circuit of yours, make a network with "
            "it first, and save that one again: the circuit then goes along"
        )
    return ""


def _nan(z: float) -> float:
    return math.nan


def _compiled(function: Any, name: str) -> Any:
    """A jitted function of one float that gives a float, and NaN where the user's own raises."""
    python = getattr(function, "py_func", function)  # of what is jitted, with other options
    if not inspect.isfunction(python):
        raise TypeError(f"{name} must be a Python function of one number, got {function!r}")
    jitted = numba.njit(error_model="numpy")(python)

    @numba.njit("float64(float64)", error_model="numpy")
    def total(z):  # type: ignore[no-untyped-def]
        try:
            return jitted(z)
        except Exception:  # kernels can't see it, and C would take the result for 0
            return math.nan

    return total


def _callback(function: Any) -> Any:
    """The same as C sees it."""

    @numba.cfunc("float64(float64)", error_model="numpy")
    def call(z):  # type: ignore[no-untyped-def]
        return function(z)

    return call


def _check_derivative(f: Any, derivative: Any) -> None:
    """At most of some places, a difference quotient must be near: others may be kinks."""
    places, step = np.linspace(-1.97, 2.03, 9), 1e-6
    slopes = np.array([(f(z + step) - f(z - step)) / (2 * step) for z in places])
    found = np.array([derivative(z) for z in places])
    wrong = ~np.isclose(found, slopes, 1e-4, 1e-6, equal_nan=True)
    if wrong.sum() > 2:
        i = int(wrong.argmax())
        raise ValueError(
            f"derivative is not that of f: at z = {places[i]:.4g} it gives {found[i]:.6g}, where f "
            f"has a slope of {slopes[i]:.6g}"
        )


def loss_name(loss: Any) -> Any:
    """A circuit's name among the losses, by what it computes; anything else as it is."""
    graph = getattr(loss, "graph", None)
    if not isinstance(graph, Graph):
        return loss
    if graph.outputs.size != 1:
        raise ValueError(f"loss must be a circuit with one output, got {loss}")
    return register_circuit(graph)


def name_of(graph: Graph) -> str:
    """What a graph is called among the losses."""
    return f"circuit {graphs.digest(graph)}"


def register_circuit(graph: Graph) -> str:
    """Make a graph with one output one of the losses; returns its name."""
    name = name_of(graph)
    if name not in CIRCUITS:  # once for ever: models hold addresses of these
        programs = {kind: lower(graph, kind) for kind in map(np.dtype, ("float32", "float64"))}
        words = {kind: make_words(program) for kind, program in programs.items()}
        spare = max(int(largest_workspace(program)) for program in programs.values())
        CIRCUITS[name] = CircuitLoss(graph, programs, words, spare)
    reference.OWN_LOSSES[name] = _reference_of(graph)
    LOSSES[name] = loss_of(name)
    return name


def options(loss: str, dtype: np.dtype[Any]) -> dict[str, int]:
    """What the kernels need to know of a loss that is a circuit: where it is, scratch memory."""
    if loss not in CIRCUITS:
        return {}
    found = CIRCUITS[loss]
    return {"circuit": found.words[dtype].ctypes.data, "spare": found.spare}


def _reference_of(graph: Graph) -> tuple[Any, Any, Any]:
    """The same in NumPy: for `reference.OWN_LOSSES`."""

    def joined(a: Array, Y: Array) -> Array:
        return np.concatenate([a, Y], axis=1).T

    def losses(a: Array, Y: Array) -> Array:
        found = operations.values(graph, joined(a, Y))[graph.outputs[0]]
        return np.broadcast_to(found, a.shape[:1])

    def slopes(a: Array, Y: Array) -> Array:
        found = operations.values(graph, joined(a, Y))
        adjoints = operations.adjoints(graph, found)[: a.shape[1]]
        return np.stack([np.broadcast_to(x, a.shape[:1]) for x in adjoints], axis=1)

    def curved(a: Array, Y: Array, Ra: Array) -> Array:
        return np.imag(slopes(a + 1e-30j * Ra, Y)) / 1e-30

    return losses, slopes, curved
