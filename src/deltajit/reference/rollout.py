"""A network in a loop with a simulation, and back-propagation through time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deltajit.reference.arrays import Array
from deltajit.reference.inputs import input_vjp
from deltajit.reference.sweeps import Model, predict
from deltajit.reference.tangents import vjp

Step = Callable[[Array, Array, Array], float]
Adjoint = Callable[[Array, Array, Array, Array, Array], None]


def rollout(model: Model, step: Step, start: Array, steps: int) -> tuple[float, Array, Array]:
    """Simulate steps that a network controls.

    Parameters
    ----------
    model : Model
        The controller; it sees the first n_in numbers of a state.
    step : callable
        ``step(state, control, out)`` writes the next state into `out`, and returns what it costs.
    start : ndarray, (B, n_state)
        States to start from.
    steps : int
        Number T of steps.

    Returns
    -------
    cost : float
        Sum over steps, mean over the B trajectories.
    states : ndarray, (T + 1, B, n_state)
        All states.
    controls : ndarray, (T, B, n_out)
        The network's outputs.
    """
    n_in, kind = model.weights[0].shape[1], np.result_type(start, model.weights[0])
    states = np.empty((steps + 1, *start.shape), kind)
    controls = np.empty((steps, len(start), len(model.biases[-1])), kind)
    states[0], cost = start, 0.0
    for t in range(steps):
        controls[t] = predict(model, states[t, :, :n_in])
        for b in range(len(start)):
            cost += step(states[t, b], controls[t, b], states[t + 1, b])
    return cost / len(start), states, controls


def rollout_grad(
    model: Model, step: Step, adjoint: Adjoint, start: Array, steps: int
) -> tuple[float, list[Array], list[Array], Array]:
    """Compute the gradient of the cost of `rollout`, by back-propagation through time.

    Parameters
    ----------
    model : Model
        The controller.
    step : callable
        The simulation, as for `rollout`.
    adjoint : callable
        ``adjoint(state, control, out_bar, state_bar, control_bar)`` writes the gradient of the
        step's ``cost + sum(out_bar * out)`` into the last two.
    start : ndarray, (B, n_state)
        States to start from.
    steps : int
        Number of steps.

    Returns
    -------
    cost : float
        The cost.
    dW : list of ndarray, (n_l, n_{l-1})
        Its gradient with respect to the weights.
    db : list of ndarray, (n_l,)
        That with respect to the biases.
    start_grad : ndarray, (B, n_state)
        That with respect to `start`.
    """
    cost, states, controls = rollout(model, step, start, steps)
    n_in = model.weights[0].shape[1]
    dW, db = ([np.zeros_like(x) for x in each] for each in (model.weights, model.biases))
    out_bar, u_bar = np.zeros_like(states[0]), np.zeros_like(controls[0])
    for t in range(steps - 1, -1, -1):
        state_bar = np.zeros_like(out_bar)
        for b in range(len(start)):
            adjoint(states[t, b], controls[t, b], out_bar[b], state_bar[b], u_bar[b])
        inputs = states[t, :, :n_in]
        for totals, parts in zip((dW, db), vjp(model, inputs, u_bar), strict=True):
            for total, part in zip(totals, parts, strict=True):
                total += part / len(start)
        state_bar[:, :n_in] += input_vjp(model, inputs, u_bar)
        out_bar = state_bar
    return cost, dW, db, out_bar / len(start)
