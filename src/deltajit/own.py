"""Activations and losses of the user's own."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from deltajit import operations, reference
from deltajit.architecture import CIRCUITS, CircuitLoss
from deltajit.circuit import Circuit
from deltajit.kernels import ACTIVATIONS, LOSSES
from deltajit.kernels.circuit import largest_workspace
from deltajit.kernels.circuit_loss import apply_at, make_part
from deltajit.kernels.operations import OPERATIONS
from deltajit.lowering import lower
from deltajit.operations import Graph

Array = NDArray[Any]
Scalar = Callable[[float], float]

_kept: list[Any] = []  # compiled functions, programs, and tables of their addresses


def register_activation(
    name: str, f: Scalar, derivative: Scalar, second_derivative: Scalar | None = None
) -> None:
    """Make ``activation=name`` mean a function of your own, in hidden layers of any network.

    It is called unit by unit, some nanoseconds each. A file of such a network is loaded only where
    the name has been registered.

    Parameters
    ----------
    name : str
        One that no activation has.
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
    if not isinstance(name, str) or name in ACTIVATIONS:
        raise ValueError(f"name must be a string that no activation has, got {name!r}")
    functions = [_compiled(f, "f"), _compiled(derivative, "derivative")]
    functions.append(_compiled(second_derivative or _nan, "second_derivative"))
    _check_derivative(*functions[:2])
    calls = [_callback(function) for function in functions]
    table = np.array([call.address for call in calls], np.int64)
    _kept.append((calls, table))
    reference.OWN[name] = (functions[0], functions[1], functions[2])
    ACTIVATIONS[name] = table.ctypes.data


def _nan(z: float) -> float:
    return math.nan


def _compiled(function: Any, name: str) -> Any:
    """A jitted function of one float that gives a float."""
    jitted = function
    if not hasattr(function, "py_func"):
        if not inspect.isfunction(function):
            raise TypeError(f"{name} must be a Python function of one number, got {function!r}")
        jitted = numba.njit(function)
    jitted(0.5)
    return jitted


def _callback(function: Any) -> Any:
    """The same as C sees it; what it raises can't be seen from there, so it may not raise."""

    @numba.cfunc("float64(float64)", error_model="numpy")
    def call(z):  # type: ignore[no-untyped-def]
        return function(z)

    return call


def _check_derivative(f: Any, derivative: Any) -> None:
    """At most of some places, a difference quotient must be near: others may be kinks."""
    places, step = np.linspace(-1.97, 2.03, 9), 1e-6
    slopes = np.array([(f(z + step) - f(z - step)) / (2 * step) for z in places])
    found = np.array([derivative(z) for z in places])
    wrong = ~np.isclose(found, slopes, 1e-4, 1e-6)
    if wrong.sum() > 2:
        i = int(wrong.argmax())
        raise ValueError(
            f"derivative is not that of f: at z = {places[i]:.4g} it gives {found[i]:.6g}, where f "
            f"has a slope of {slopes[i]:.6g}"
        )


def loss_name(loss: Any) -> Any:
    """A circuit's name among the losses, by what it computes; anything else as it is.

    A file of a network with such a loss is loaded only where a network has been made with it.
    """
    if not isinstance(loss, Circuit):
        return loss
    if loss.graph.outputs.size != 1:
        raise ValueError(f"loss must be a circuit with one output, got {loss}")
    name = f"circuit {_digest(loss.graph)}"
    if name not in LOSSES:
        programs = [lower(loss.graph, np.dtype(kind)) for kind in ("float32", "float64")]
        parts = [make_part(_address(program.constants.dtype), program) for program in programs]
        table = np.concatenate(parts)
        _kept.append((programs, table))
        spare = max(int(largest_workspace(program)) for program in programs)
        CIRCUITS[name] = CircuitLoss(loss.n_inputs, spare)
        reference.OWN_LOSSES[name] = _reference_of(loss.graph)
        LOSSES[name] = table.ctypes.data
    return name


def _digest(graph: Graph) -> str:
    """What tells one graph from another."""
    names = {code: name for name, code in OPERATIONS.items()}  # numbers may change
    digest = hashlib.sha256("".join(names.get(code, " ") for code in graph.codes.tolist()).encode())
    for part in graph[1:]:
        digest.update(np.asarray(part).tobytes())
    return digest.hexdigest()[:16]


def _address(kind: np.dtype[Any]) -> int:
    """Where `apply_at` for floats of one kind is."""
    word, real = numba.types.int64, numba.from_dtype(kind)
    signature = (*[word] * 7, numba.types.float64, *[word] * 3, real)
    apply_at.compile(signature)
    compiled = apply_at.overloads[signature]
    name = compiled.fndesc.llvm_cfunc_wrapper_name
    return int(compiled.library.get_pointer_to_function(name))


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
