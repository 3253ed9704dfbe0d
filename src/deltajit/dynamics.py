"""Simulations that a network controls, and their gradients by back-propagation through time."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import carray, types  # type: ignore[attr-defined]
from numpy.typing import ArrayLike, DTypeLike

from deltajit import kernels
from deltajit.circuit import Circuit
from deltajit.kernels.backend import jit_is_on
from deltajit.kernels.circuit.interpreter import largest_workspace
from deltajit.kernels.circuit.loss import make_words
from deltajit.kernels.circuit.step import advance_circuit, pull_circuit
from deltajit.kernels.mlp.calls import calls_for
from deltajit.kernels.mlp.simulation import advance_own, pull_own
from deltajit.model import checks, memory
from deltajit.model.memory import Array, DType
from deltajit.network import Network

Step = Callable[[Any, Any, Any], Any]
Adjoint = Callable[[Any, Any, Any, Any, Any], None]


class Rollout(NamedTuple):
    """Hold a simulation that a network has controlled.

    Attributes
    ----------
    cost : float
        Cost of a trajectory, summed over its steps; of several trajectories the mean.
    states : ndarray, (T + 1, B, n_state)
        States, those at the start first.
    controls : ndarray, (T, B, n_control)
        What the network has given at each step.
    """

    cost: float
    states: Array
    controls: Array


class Dynamics:
    """Simulate what a network controls, and compute the gradient through all steps of time.

    At each step the network sees the first n_in numbers of the state, and its outputs are the
    control. What is constant or given, such as a mass or the time, may be a number of the state.

    Parameters
    ----------
    step : function
        ``step(state, control, out)`` writes the next state into `out`, and returns what the step
        costs. It takes vectors (n_state,), (n_control,), (n_state,), one trajectory at a time. The
        first two are only read, and every number of `out` must be written: else it is NaN.
    n_state, n_control : int
        How many numbers a state has, and a control.
    adjoint : function, optional
        ``adjoint(state, control, out_bar, state_bar, control_bar)`` writes the gradient of ``cost +
        sum(out_bar * out)`` into the last two, which hold anything before. With it both functions
        are compiled by Numba, or are jitted already. Without it `step` is traced as a `Circuit`,
        which has the rules for what it may do; then nothing is compiled.
    dtype : "float64" or "float32"
        Type of states and controls, the network's.

    Raises
    ------
    TypeError
        step or adjoint is no function, or step can't be traced.
    ValueError, TypeError
        n_state or n_control is no whole number >= 1, or dtype is another one.
    numba.TypingError
        A function can't be compiled.

    Notes
    -----
    An exception in a compiled function makes all that it writes NaN.

    Examples
    --------
    >>> import numpy as np
    >>> import deltajit as dj
    >>> def step(state, control, out):  # a mass that is to come to rest at 0
    ...     out[1] = state[1] + 0.1 * control[0]
    ...     out[0] = state[0] + 0.1 * out[1]
    ...     return 0.1 * (out[0] ** 2 + out[1] ** 2 + 0.1 * control[0] ** 2)
    >>> mass = dj.Dynamics(step, n_state=2, n_control=1)
    >>> net = dj.Network([2, 8, 1], dtype="float64")
    >>> before = mass.rollout(net, [1.0, 0.0], steps=50).cost
    >>> for _ in range(100):
    ...     cost, grad, _ = mass.value_and_grad(net, [1.0, 0.0], steps=50)
    ...     net.theta -= 0.03 * grad
    >>> cost < before / 2
    True
    """

    __slots__ = ("__dict__", "__weakref__", "_functions", "_kept", "_kind", "_step")

    def __init__(
        self,
        step: Step,
        n_state: int,
        n_control: int,
        adjoint: Adjoint | None = None,
        dtype: DTypeLike = "float64",
    ) -> None:
        python = _function(step, "step")
        shape = checks.whole(n_state, "n_state"), checks.whole(n_control, "n_control")
        self._functions, self._kind = (step, adjoint), checks.dtype(dtype)
        kept: Any
        if adjoint is None:
            kept = Circuit(_row_function(python, *shape), sum(shape), dtype=self._kind)
            context, spare = make_words(kept.program), int(largest_workspace(kept.program))
            advance, pull = advance_circuit, pull_circuit
        else:
            kept = _callbacks(python, _function(adjoint, "adjoint"), shape, self._kind)
            context, spare = np.array([call.address for call in kept], np.int64), 0
            advance, pull = advance_own, pull_own
        self._kept = kept, context
        slots = advance.slot(self._kind), pull.slot(self._kind)
        self._step = kernels.Step(*slots, context.ctypes.data, *shape, spare, self._kind.itemsize)

    def __reduce__(self) -> tuple[Any, ...]:
        step, adjoint = self._functions
        return Dynamics, (step, self.n_state, self.n_control, adjoint, self._kind.name)

    def __repr__(self) -> str:
        way = "traced" if self._functions[1] is None else "compiled"
        return (
            f"Dynamics(state of {self.n_state}, control of {self.n_control}, {way}, "
            f"{self._kind.name})"
        )

    @property
    def n_state(self) -> int:
        """Return how many numbers a state has."""
        return int(self._step.n_state)

    @property
    def n_control(self) -> int:
        """Return how many numbers a control has."""
        return int(self._step.n_control)

    @property
    def dtype(self) -> DType:
        """Return the type of states and controls."""
        return self._kind

    @property
    def step(self) -> kernels.Step:
        """Return the addresses that `kernels.rollout` takes, valid as long as this object lives."""
        return self._step

    def workspace(
        self, net: Network, steps: int = 1, batch: int = 1, every: int | None = None
    ) -> Array:
        """Allocate the scratch memory of `kernels.rollout_grad`; 1 step is enough for `rollout`.

        Parameters
        ----------
        net : Network
            The controller.
        steps : int
            Number of steps.
        batch : int
            Number of trajectories at most.
        every : int, optional
            Steps from one state that is kept to the next, as for `value_and_grad`.

        Returns
        -------
        ndarray
            A vector of the dtype; its contents do not matter.

        Raises
        ------
        ValueError, TypeError
            net is no network for this simulation, or a number is no whole number >= 1.
        """
        self._check(net)
        steps, batch = checks.whole(steps, "steps"), checks.whole(batch, "batch")
        kept = _every(every, steps)
        size = kernels.rollout_size(net.model, self._step, batch, steps, kept)
        return memory.empty(size, self._kind)

    def rollout(self, net: Network, start: ArrayLike, steps: int) -> Rollout:
        """Simulate, with a network as the controller.

        Parameters
        ----------
        net : Network
            The controller, with at most n_state inputs, and n_control outputs.
        start : array_like, (B, n_state) or (n_state,)
            States to start from.
        steps : int
            Number T of steps.

        Returns
        -------
        Rollout
            The tuple (cost, states, controls); of one state (n_state,) without the axis of B.

        Raises
        ------
        ValueError, TypeError
            net is no network for this simulation, or another argument is wrong.
        """
        self._check(net)
        first, single = checks.matrix(start, "start", self.n_state, self._kind)
        checks.not_empty(first, "start")
        T = checks.whole(steps, "steps")
        states = np.empty((T + 1, *first.shape), self._kind)
        controls = np.empty((T, len(first), self.n_control), self._kind)
        states[0] = first
        work = self.workspace(net, 1, len(first))
        cost = calls_for(self._kind).rollout(net.model, self._step, states, controls, work)
        if single:
            return Rollout(cost, states[:, 0], controls[:, 0])
        return Rollout(cost, states, controls)

    def value_and_grad(
        self, net: Network, start: ArrayLike, steps: int, every: int | None = None
    ) -> tuple[float, Array, Array]:
        """Compute the cost of a simulation and its gradient, by back-propagation through time [1]_.

        Parameters
        ----------
        net : Network
            The controller, with at most n_state inputs, and n_control outputs.
        start : array_like, (B, n_state) or (n_state,)
            States to start from.
        steps : int
            Number T of steps.
        every : int, optional
            Steps from one state that is kept to the next; all are kept by default. About the root
            of T needs the least memory, 2 sqrt(T) states for one more simulation; the result is
            the same, bit for bit.

        Returns
        -------
        cost : float
            The cost, as in `rollout`.
        grad : ndarray, (n_params,)
            Its gradient with respect to theta, without penalties.
        start_grad : ndarray, like start
            Its gradient with respect to the states at the start.

        Raises
        ------
        ValueError, TypeError
            net is no network for this simulation, or another argument is wrong.

        References
        ----------
        .. [1] Werbos (1990), Backpropagation through time: what it does and how to do it.
        """
        self._check(net)
        first, single = checks.matrix(start, "start", self.n_state, self._kind)
        checks.not_empty(first, "start")
        T = checks.whole(steps, "steps")
        grad, start_grad = np.empty_like(net.theta), np.empty_like(first)
        cost = calls_for(self._kind).rollout_grad(
            net.model, self._step, first, T, _every(every, T), grad, start_grad,
            self.workspace(net, T, len(first), every),
        )  # fmt: skip
        return cost, grad, start_grad[0] if single else start_grad

    def _check(self, net: object) -> None:
        """Check that a network can be the controller."""
        if not isinstance(net, Network):
            raise TypeError(f"net must be a Network, got {type(net).__name__}")
        n_in, n_out = net.sizes[0], net.sizes[-1]
        if n_in > self.n_state or n_out != self.n_control or net.dtype != self._kind:
            raise ValueError(
                f"net must have at most {self.n_state} inputs, {self.n_control} outputs and dtype "
                f"{self._kind.name}, got {net!r}"
            )


def _every(every: int | None, steps: int) -> int:
    """Return after how many steps a state is kept."""
    return steps if every is None else checks.whole(every, "every")


def _function(given: object, name: str) -> Callable[..., Any]:
    """Return the Python function that is given, or that was jitted."""
    python = getattr(given, "py_func", given)
    if not inspect.isfunction(python):
        raise TypeError(f"{name} must be a Python function, jitted or not, got {given!r}")
    return python


def _row_function(step: Step, n_state: int, n_control: int) -> Callable[..., list[Any]]:
    """Return the function of a point's numbers: those of the next state, then the cost."""

    def row(*x: Any) -> list[Any]:
        point, out = np.empty(n_state + n_control, object), np.empty(n_state, object)
        point[:] = x
        cost = step(point[:n_state], point[n_state:], out)
        if cost is None or any(number is None for number in out):
            raise TypeError(f"step must write all {n_state} numbers of out, and return the cost")
        return [*out, cost]

    return row


def _callbacks(step: Step, adjoint: Adjoint, shape: tuple[int, int], kind: DType) -> list[Any]:
    """Compile both functions as C callbacks of pointers to rows."""
    n_state, width = shape[0], sum(shape)
    with jit_is_on():
        advance, pull = (numba.njit(error_model="numpy")(f) for f in (step, adjoint))
    pointer = types.CPointer(numba.from_dtype(kind))  # type: ignore[no-untyped-call]

    def ahead(x_at, out_at):  # type: ignore[no-untyped-def]
        x, out = carray(x_at, width), carray(out_at, n_state + 1)
        try:
            out[n_state] = advance(x[:n_state], x[n_state:], out[:n_state])
        except Exception:  # which C would not notice
            out[:] = math.nan

    def back(x_at, out_bar_at, bar_at):  # type: ignore[no-untyped-def]
        x, bar = carray(x_at, width), carray(bar_at, width)
        out_bar = carray(out_bar_at, n_state)
        try:
            pull(x[:n_state], x[n_state:], out_bar, bar[:n_state], bar[n_state:])
        except Exception:
            bar[:] = math.nan

    with jit_is_on():
        return [
            numba.cfunc(types.void(*[pointer] * count), error_model="numpy")(f)
            for count, f in ((2, ahead), (3, back))
        ]
