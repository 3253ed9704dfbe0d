"""Register custom activations and losses: Python functions that Numba compiles, and circuits."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np

from deltajit import reference
from deltajit.circuits import graphs, primitives
from deltajit.circuits.lowering import lower
from deltajit.circuits.primitives import Graph
from deltajit.kernels import ACTIVATIONS, LOSSES
from deltajit.kernels.circuit import Program, largest_workspace
from deltajit.kernels.circuit.loss import loss_of, make_words
from deltajit.kernels.mlp.own import N_FUNCTIONS, own_activation, own_loss
from deltajit.model.memory import Array, DType

Compiled = Any  # Numba's dispatchers and C callbacks, which have no types
Scalar = Callable[[float], float]
OfOutput = Callable[[float, float], float]


class CircuitLoss(NamedTuple):
    """Hold a circuit that is a loss.

    Attributes
    ----------
    graph : Graph
        The function that it computes.
    programs : dict of Program
        The graph lowered for the kernels, by dtype.
    words : dict of ndarray
        Addresses of the programs' arrays, by dtype.
    spare : int
        Size of the scratch memory.
    """

    graph: Graph
    programs: dict[DType, Program]
    words: dict[DType, Array]
    spare: int


# Losses that are circuits, and tables of the addresses of activations and of losses, by name.
CIRCUITS: dict[str, CircuitLoss] = {}
_activations: dict[str, Array] = {}
_losses: dict[str, Array] = {}

_kept: list[list[Compiled]] = []  # compiled functions, whose addresses are in the tables

# Places of difference quotients: z or outputs, and targets.
PLACES, TARGETS, STEP = np.linspace(-1.97, 2.03, 9), (0.31, 1.18), 1e-6


def register_activation(
    name: str, f: Scalar, derivative: Scalar, second_derivative: Scalar | None = None
) -> None:
    """Register a custom activation, for hidden layers of any network.

    The functions are called for one unit at a time, some nanoseconds each. A network with a custom
    activation can be unpickled, or loaded from a file, only where the name has been registered. If
    it is registered again, as by a notebook's cell that runs twice, the new function replaces the
    old one in existing networks too.

    Where a function raises, its result is NaN; division by 0 gives inf or NaN, as in NumPy.

    Parameters
    ----------
    name : str
        Name to pass as ``activation``, which no activation of deltajit has.
    f : function of a float
        The activation f(z), compiled by ``@njit`` or such that it can be.
    derivative : function of a float
        The derivative f'(z), likewise.
    second_derivative : function of a float, optional
        The derivative f''(z), likewise; without it the results of `hvp` and `hessian` are NaN.

    Raises
    ------
    ValueError
        The name is taken, or `derivative` is not the derivative of `f`.
    TypeError
        One of the functions is none.
    numba.TypingError
        One of them can't be compiled.

    Examples
    --------
    >>> import math
    >>> import deltajit as dj
    >>> def bump(z):
    ...     return math.exp(-z * z)
    >>> dj.register_activation("bump", bump, lambda z: -2 * z * math.exp(-z * z))
    >>> net = dj.Network([2, 8, 1], activation="bump")
    """
    _check_name(name, "activation", ACTIVATIONS, _activations)
    value, slope = _compiled(f, "f", 1), _compiled(derivative, "derivative", 1)
    second = _compiled(second_derivative or _nan, "second_derivative", 1)
    _check_derivative("derivative is not that of f", value, slope, [(z,) for z in PLACES])
    table = _filled(_activations, name, (value, slope, second))
    f2 = reference.of_numbers(second)
    f1 = reference.of_numbers(slope, f2)
    f0 = reference.of_numbers(value, f1)
    reference.ACTIVATIONS[name] = reference.of_units(
        lambda z, p: f0(z), lambda z, p: f1(z), lambda z, p: f2(z), of_z=True
    )
    if name not in ACTIVATIONS:
        ACTIVATIONS[name] = own_activation(name, table)


def register_loss(
    name: str, value: OfOutput, slope: OfOutput, curve: OfOutput | None = None
) -> None:
    """Register a custom loss, for any output but gaussian.

    The loss of a sample is the sum over its outputs; for one that mixes outputs use `Circuit`.
    Names, exceptions and division by 0 are treated as `register_activation` says.

    Parameters
    ----------
    name : str
        Name to pass as ``loss``, which no loss of deltajit has.
    value : function of two floats
        The loss of an output a and its target y, compiled by ``@njit`` or such that it can be.
    slope : function of two floats
        The derivative of `value` with respect to a, likewise.
    curve : function of two floats, optional
        The derivative of `slope` with respect to a, likewise; without it the results of `hvp` and
        `gnvp` are NaN.

    Raises
    ------
    ValueError
        The name is taken, or `slope` is not the derivative of `value`, or `curve` of `slope`.
    TypeError
        One of the functions is none.
    numba.TypingError
        One of them can't be compiled.

    Examples
    --------
    >>> import math
    >>> import deltajit as dj
    >>> dj.register_loss(
    ...     "cauchy",
    ...     lambda a, y: math.log1p((a - y) ** 2),
    ...     lambda a, y: 2 * (a - y) / (1 + (a - y) ** 2),
    ... )
    >>> net = dj.Network([2, 8, 1], loss="cauchy")
    """
    _check_name(name, "loss", LOSSES, _losses)
    total, first = _compiled(value, "value", 2), _compiled(slope, "slope", 2)
    second = _compiled(curve or _nan, "curve", 2)
    places = [(a, y) for a in PLACES for y in TARGETS]
    _check_derivative("slope is not the derivative of value", total, first, places)
    if curve is not None:
        _check_derivative("curve is not the derivative of slope", first, second, places)
    table = _filled(_losses, name, (total, first, second))
    f2 = reference.of_numbers(second)
    f1 = reference.of_numbers(first, f2)
    f0 = reference.of_numbers(total, f1)
    reference.LOSSES[name] = reference.of_outputs(
        lambda z, a, y, p: f0(a, y), lambda a, y, p: f1(a, y), lambda a, y, p: f2(a, y)
    )
    if name not in LOSSES:
        LOSSES[name] = own_loss(name, table)


def unknown(activations: Iterable[object], loss: object) -> str:
    """Say what to do about the first name, from a pickle or a file, that is unknown here; or ""."""
    for name in activations:
        if isinstance(name, str) and name not in ACTIVATIONS:
            return (
                f"activation {name[:50]!r} is unknown here; if it is one of your own, call "
                f"dj.register_activation({name[:50]!r}, f, derivative) first"
            )
    if isinstance(loss, str) and loss not in LOSSES:
        return (
            f"loss {loss[:50]!r} is unknown here; if it is one of your own, call "
            f"dj.register_loss({loss[:50]!r}, value, slope, curve) first; if it is a circuit of "
            "yours, make a network with it first, and save that one again: the circuit then goes "
            "along"
        )
    return ""


def _check_name(
    name: object, kind: str, records: Mapping[str, object], custom: Mapping[str, Array]
) -> None:
    """Check that a name is free, or has been registered by the user."""
    taken = ("auto", *records)
    if not isinstance(name, str) or (name in taken and name not in custom):
        raise ValueError(f"name must be a string that no {kind} has, got {name!r}")


def _nan(*numbers: float) -> float:
    return math.nan


def _compiled(function: object, name: str, arity: int) -> Compiled:
    """Return a jitted function of floats that gives a float, and NaN if the user's raises."""
    python = getattr(function, "py_func", function)  # a jitted one may have other options
    if not inspect.isfunction(python):
        numbers = ("one number", "two numbers")[arity - 1]
        raise TypeError(f"{name} must be a Python function of {numbers}, got {function!r}")
    jitted = numba.njit(error_model="numpy")(python)

    def of_one(z):  # type: ignore[no-untyped-def]
        try:
            return jitted(z)
        except Exception:  # which C would turn into a result of 0
            return math.nan

    def of_two(a, y):  # type: ignore[no-untyped-def]
        try:
            return jitted(a, y)
        except Exception:
            return math.nan

    signature = numba.float64(*[numba.float64] * arity)
    return numba.njit(signature, error_model="numpy")((of_one, of_two)[arity - 1])


def _filled(tables: dict[str, Array], name: str, functions: Sequence[Compiled]) -> Array:
    """Return the table of that name, filled with C addresses of compiled functions."""
    calls = [_callback(function) for function in functions]
    _kept.append(calls)
    table = tables.setdefault(name, np.empty(N_FUNCTIONS, np.int64))
    table[:] = [call.address for call in calls]
    return table


def _callback(function: Compiled) -> Compiled:
    """Compile a jitted function as a C callback."""
    (signature,) = function.nopython_signatures
    return numba.cfunc(signature, error_model="numpy")(function.py_func)


def _check_derivative(
    problem: str, f: Compiled, derivative: Compiled, places: Sequence[tuple[float, ...]]
) -> None:
    """Check a derivative against difference quotients, by the first argument.

    It may differ at two places, which may be kinks; where f is not finite there is no quotient.
    """
    quotients = np.array([(f(x + STEP, *y) - f(x - STEP, *y)) / (2 * STEP) for x, *y in places])
    given = np.array([derivative(*place) for place in places])
    known = np.isfinite(quotients)
    wrong = ~np.isclose(given, quotients, 1e-4, 1e-6) & (known | ~known.any())
    if wrong.sum() > 2:
        i = int(wrong.argmax())
        raise ValueError(
            f"{problem}: at {', '.join(f'{x:.4g}' for x in places[i])} it gives {given[i]:.6g}, "
            f"where a difference quotient is {quotients[i]:.6g}"
        )


def loss_name(loss: object) -> object:
    """Return the name of a loss; a circuit is registered by the function that it computes."""
    graph = getattr(loss, "graph", None)
    if not isinstance(graph, Graph):
        if callable(loss):
            raise TypeError(
                "loss must be a name or a circuit; of a function of an output and its target "
                f"dj.Circuit(f, 2) makes one, got {loss!r}"
            )
        return loss
    if graph.outputs.size != 1:
        raise ValueError(f"loss must be a circuit with one output, got {loss}")
    return register_circuit(graph)


def name_of(graph: Graph) -> str:
    """Return the name of a graph among the losses, the same in every process."""
    return f"circuit {graphs.digest(graph)}"


def register_circuit(graph: Graph) -> str:
    """Register a graph with one output as a loss, and return its name."""
    name = name_of(graph)
    if name not in CIRCUITS:  # and never again: models hold addresses of these arrays
        programs = {kind: lower(graph, kind) for kind in map(np.dtype, ("float32", "float64"))}
        words = {kind: make_words(program) for kind, program in programs.items()}
        spare = max(int(largest_workspace(program)) for program in programs.values())
        CIRCUITS[name] = CircuitLoss(graph, programs, words, spare)
    reference.LOSSES[name] = _reference_of(graph)
    LOSSES[name] = loss_of(name)
    return name


def options(loss: str, dtype: DType) -> dict[str, int]:
    """Return what a network's record holds of a circuit: its address, its scratch memory's size."""
    if loss not in CIRCUITS:
        return {}
    circuit = CIRCUITS[loss]
    return {"circuit": circuit.words[dtype].ctypes.data, "spare": circuit.spare}


def _reference_of(graph: Graph) -> reference.Loss:
    """Return a circuit's loss as a record of the NumPy reference."""

    def joined(a: Array, Y: Array) -> Array:
        return np.concatenate([a, Y], axis=1).T

    def losses(z: Array, a: Array, Y: Array, p: float) -> Array:
        totals = primitives.values(graph, joined(a, Y))[graph.outputs[0]]
        return np.broadcast_to(totals, a.shape[:1])

    def slopes(a: Array, Y: Array, p: float) -> Array:
        values = primitives.values(graph, joined(a, Y))
        adjoints = primitives.adjoints(graph, values)[: a.shape[1]]
        return np.stack([np.broadcast_to(x, a.shape[:1]) for x in adjoints], axis=1)

    def curved(a: Array, Y: Array, Rz: Array, Ra: Array, p: float) -> Array:
        return np.imag(slopes(a + 1e-30j * Ra, Y, p)) / 1e-30

    return reference.Loss(losses, slopes, curved, curved)
