"""A network in a loop: it controls a simulation, and learns by back-propagation through time.

    u[t] = net(first n_in numbers of s[t])
    (s[t + 1], cost[t]) = step(s[t], u[t])                              t = 0 .. T - 1

and back in time, of the adjoint s_bar[t + 1] = d (costs from t + 1 on) / d s[t + 1],

    (s_bar[t], u_bar) = d (cost[t] + s_bar[t + 1] @ s[t + 1]) / d (s[t], u[t])      by `pull`
    (theta_bar, x_bar) += u_bar @ d net / d (theta, inputs)
    s_bar[t, :n_in] += x_bar

What goes back needs the states of all steps. They are kept at the beginning of each segment of so
many steps, and within one segment: from its beginning its steps are taken again. With segments of
sqrt(T) steps that makes 2 sqrt(T) states (Griewank & Walther 2000 go on to log(T)). The order of
all sums is that of time, so that segments don't change the bits.
"""

import math
from typing import NamedTuple

from ..abi import Doubles, Matrix, OutMatrix, OutTensor, OutVector, Vector, Word
from ..blocks import MOST_SAMPLES
from ..compiler import inlined, kernel, njit, shared
from ..simd.views import copy, cut, doubles, fill, floats, matrix, row, vector
from ..status import (
    BAD_CONTROLS,
    BAD_MODEL,
    BAD_START,
    BAD_STATES,
    BAD_STEP,
    BAD_STEPS,
    OK,
    SMALL_WORK_OF_ROLLOUT,
    STALE,
    VERSION,
    refuse,
)
from .entry import check_gradient, is_whole
from .model import Model, block_size, carve, weight, workspace_sizes
from .simulation import Step, advance, pull
from .sweeps import blocks, forward_block, predict_of, rows_of
from .tangents import to_inputs, vjp_block


@njit
def rollout(
    model: Model, step: Step, states: OutTensor, controls: OutTensor, work: OutVector
) -> float:
    """Simulate T steps that a network controls.

    Parameters
    ----------
    model : Model
        The controller, as `net.model`. It sees the first n_in numbers of a state.
    step : Step
        The simulation, as `dynamics.step`.
    states : array (T + 1, B, n_state)
        B states to start from, of theta's dtype, in ``states[0]``; all others are overwritten.
    controls : array (T, B, n_out)
        The network's outputs, overwritten.
    work : array
        Scratch memory: at least ``rollout_size(model, step, B, 1, 1)`` floats.

    Returns
    -------
    float
        The cost of a trajectory, summed over its steps; of B trajectories the mean.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.
    """
    value = doubles(1)
    refuse(_rollout(VERSION, model, step, states, controls, work, value))
    return value[0]


@njit
def rollout_grad(
    model: Model,
    step: Step,
    start: Matrix,
    steps: Word,
    every: Word,
    grad: OutVector,
    start_grad: OutMatrix,
    work: OutVector,
) -> float:
    """Compute the cost of a simulation that a network controls, and its gradient, back in time.

    Parameters
    ----------
    model : Model
        The controller, as `net.model`. It sees the first n_in numbers of a state.
    step : Step
        The simulation, as `dynamics.step`.
    start : array (B, n_state)
        States to start from, of theta's dtype; one may be a vector.
    steps : int
        Number T of steps.
    every : int
        Steps from one state that is kept to the next: T keeps all. Fewer need less memory, sqrt(T)
        the least, and all but the last `every` steps are then taken twice; the bits stay the same.
    grad : array (n_params,)
        The gradient with respect to theta, overwritten; the penalties l2 and l1 are not part of it.
    start_grad : array (B, n_state)
        The gradient with respect to `start`, overwritten.
    work : array
        Scratch memory: at least ``rollout_size(model, step, B, T, every)`` floats.

    Returns
    -------
    float
        The cost, as `rollout` returns it.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.

    References
    ----------
    Werbos (1990), Backpropagation through time: what it does and how to do it. Griewank & Walther
    (2000), Algorithm 799: revolve.
    """
    value = doubles(1)
    refuse(_rollout_grad(VERSION, model, step, start, steps, every, grad, start_grad, work, value))
    return value[0]


@shared
def rollout_size(model: Model, step: Step, batch: Word, steps: Word, every: Word) -> int:
    """Return how much scratch memory `rollout_grad` needs; for `rollout` steps and every are 1.

    Parameters
    ----------
    model : Model
        The controller, as `net.model`.
    step : Step
        The simulation, as `dynamics.step`.
    batch : int
        The most trajectories of a call.
    steps : int
        Number of steps.
    every : int
        Steps from one state that is kept to the next.

    Returns
    -------
    int
        Number of floats, of theta's dtype.
    """
    network = model.network[0]
    size = floats(workspace_sizes(network, block_size(batch)))
    return int(size + floats(memory_sizes(network, step, batch, steps, every)))


class Memory(NamedTuple):
    """Sections of scratch memory behind those of `Workspace`; all flat."""

    kept: Vector  # a state (B, n_state) for each segment
    points: Vector  # states and controls (B, n_state + n_control) of each step of one
    state: Vector  # what `advance` writes, (B, n_state + 1)
    adjoint: Vector  # what `pull` reads, likewise
    back: Vector  # what `pull` writes, (B, n_state + n_control)
    inputs: Vector  # of the network, (B, n_in)
    controls: Vector  # its outputs, (B, n_control)
    spare: Vector  # of the step


@shared
def memory_sizes(network, step, batch, steps, every):
    """Return how many floats each section has."""
    point = batch * (step.n_state + step.n_control)
    return Memory(
        batch * step.n_state * segments(steps, every),
        point * min(steps, every),
        batch * (step.n_state + 1),
        batch * (step.n_state + 1),
        point,
        batch * network["n_in"],
        batch * step.n_control,
        step.spare,
    )


@shared
def segments(steps, every):
    """Return how many segments there are; the last may be shorter."""
    return (steps - 1) // every + 1


@inlined
def most_steps(step, batch):
    """Return for how many steps the sizes of `Memory` are numbers of 63 bits."""
    return MOST_SAMPLES // max(1, batch * (step.n_state + step.n_control))


# ---------------------------------------------------------------- arguments are checked


@kernel
def _rollout(
    version: Word, model: Model, step: Step, states: OutTensor, controls: OutTensor,
    work: OutVector, value: Doubles,
) -> Word:  # fmt: skip
    steps, batch = controls.shape[0], controls.shape[1]
    status = _check(version, model, step)
    if status == OK:
        if controls.shape[2] != step.n_control:
            status = BAD_CONTROLS
        elif not _fits(states, steps + 1, batch, step.n_state):
            status = BAD_STATES
        elif work.size < rollout_size(model, step, batch, 1, 1):
            status = SMALL_WORK_OF_ROLLOUT
    if status == OK:
        parts = _carve(model, step, batch, 1, 1, work)
        begin(_at(states, 0), parts, step)
        value[0] = 0.0
        for t in range(steps):
            point = matrix(parts.points, 0, batch, step.n_state + step.n_control)
            take_step(model, step, point, parts, work, value)
            leave(_at(states, t + 1), parts, step)
            copy(parts.controls, _at(controls, t))
        value[0] /= max(batch, 1)
    return status


@kernel
def _rollout_grad(
    version: Word, model: Model, step: Step, start: Matrix, steps: Word, every: Word,
    grad: OutVector, start_grad: OutMatrix, work: OutVector, value: Doubles,
) -> Word:  # fmt: skip
    batch = start.shape[0]
    status = _check(version, model, step) or check_gradient(model, grad)
    if status == OK:
        if start.shape[1] != step.n_state or start_grad.shape != start.shape:
            status = BAD_START
        elif every < 1 or not 1 <= steps <= most_steps(step, batch):
            status = BAD_STEPS
        elif work.size < rollout_size(model, step, batch, steps, every):
            status = SMALL_WORK_OF_ROLLOUT
    if status == OK:
        parts = _carve(model, step, batch, steps, every, work)
        rollout_gradient(model, step, start, steps, every, grad, start_grad, parts, work, value)
    return status


@inlined
def _check(version, model, step):
    """Check that a simulation is one for this network."""
    status, network = OK, model.network[0]
    if version != VERSION:
        status = STALE
    elif not is_whole(model):
        status = BAD_MODEL
    elif (
        step.itemsize != network.itemsize
        or step.n_state < network.n_in
        or step.n_control != network.n_out
    ):
        status = BAD_STEP
    return status


@inlined
def _fits(x, first, second, third):
    """Return whether a tensor has this shape."""
    return x.shape[0] == first and x.shape[1] == second and x.shape[2] == third


@inlined
def _at(x, t):
    """Return the view of ``x[t]`` of a tensor."""
    return matrix(x, t * x.shape[1] * x.shape[2], x.shape[1], x.shape[2])


@inlined
def _carve(model, step, batch, steps, every, work):
    """Cut what is behind the network's workspace into the sections of `Memory`."""
    network = model.network[0]
    first = floats(workspace_sizes(network, block_size(batch)))
    rest = vector(work, first, work.size - first)
    return cut(rest, memory_sizes(network, step, batch, steps, every))


# ---------------------------------------------------------------- forward in time


@inlined
def begin(states, parts, step):
    """Write states (B, n_state) to where a step reads them."""
    rows = matrix(parts.state, 0, states.shape[0], step.n_state + 1)
    for b in range(states.shape[0]):
        copy(row(states, b), vector(rows, b * (step.n_state + 1), step.n_state))


@inlined
def leave(states, parts, step):
    """Read states (B, n_state) from where a step has written them."""
    for b in range(states.shape[0]):
        copy(vector(parts.state, b * (step.n_state + 1), step.n_state), row(states, b))


@kernel
def take_step(model: Model, step: Step, point: Matrix, parts: Memory, work: Vector, value: Doubles):
    """Take one step from `parts.state` to it, add its costs to `value`, and keep its point."""
    batch, n_state, n_in = point.shape[0], step.n_state, model.network[0].n_in
    state = matrix(parts.state, 0, batch, n_state + 1)
    inputs = matrix(parts.inputs, 0, batch, n_in)
    controls = matrix(parts.controls, 0, batch, step.n_control)
    for b in range(batch):
        copy(vector(state, b * (n_state + 1), n_in), row(inputs, b))
    predict_of(model, inputs, controls, work)
    for b in range(batch):
        x = row(point, b)
        copy(vector(state, b * (n_state + 1), n_state), vector(x, 0, n_state))
        copy(row(controls, b), vector(x, n_state, step.n_control))
    fill(state, math.nan)  # so that what a step of a user's forgets shows
    advance(step.advance, point, state, step.context, parts.spare)
    for b in range(batch):
        value[0] += state[b, n_state]


@kernel
def take_steps(
    model: Model, step: Step, count: Word, batch: Word, parts: Memory, work: Vector, value: Doubles
):
    """Take the steps of one segment, and keep their points."""
    width = step.n_state + step.n_control
    for t in range(count):
        point = matrix(parts.points, t * batch * width, batch, width)
        take_step(model, step, point, parts, work, value)


# ---------------------------------------------------------------- back in time


@inlined
def rollout_gradient(model, step, start, steps, every, grad, start_grad, parts, work, value):
    """Compute `rollout_grad` of arguments that are checked."""
    batch, n_state, unused = start.shape[0], step.n_state, doubles(1)
    last = segments(steps, every) - 1
    value[0] = 0.0
    begin(start, parts, step)
    for s in range(last + 1):
        leave(matrix(parts.kept, s * batch * n_state, batch, n_state), parts, step)
        take_steps(model, step, min(every, steps - s * every), batch, parts, work, value)
    value[0] /= max(batch, 1)
    fill(grad, 0)
    begin_back(batch, step, parts)
    for s in range(last, -1, -1):
        count = min(every, steps - s * every)
        if s < last:
            begin(matrix(parts.kept, s * batch * n_state, batch, n_state), parts, step)
            take_steps(model, step, count, batch, parts, work, unused)
        steps_back(model, step, count, batch, grad, parts, work)
    end_back(batch, step, grad, start_grad, parts)


@inlined
def begin_back(batch, step, parts):
    """Write what `pull` reads after the last step: 0 for its state, 1 for the cost."""
    adjoint = matrix(parts.adjoint, 0, batch, step.n_state + 1)
    fill(adjoint, 0)
    for b in range(batch):
        adjoint[b, step.n_state] = 1


@inlined
def end_back(batch, step, grad, start_grad, parts):
    """Make means over trajectories of what has been added up."""
    adjoint, share = matrix(parts.adjoint, 0, batch, step.n_state + 1), 1.0 / max(batch, 1)
    factor = grad.dtype.type(share)
    for i in range(grad.size):
        grad[i] *= factor
    for b in range(batch):
        for i in range(step.n_state):
            start_grad[b, i] = factor * adjoint[b, i]


@kernel
def steps_back(
    model: Model, step: Step, count: Word, batch: Word, grad: Vector, parts: Memory, work: Vector
):
    """Go back through the steps of one segment, whose points are kept."""
    n_state, width, n_in = step.n_state, step.n_state + step.n_control, model.network[0].n_in
    adjoint = matrix(parts.adjoint, 0, batch, n_state + 1)
    back = matrix(parts.back, 0, batch, width)
    inputs = matrix(parts.inputs, 0, batch, n_in)
    controls = matrix(parts.controls, 0, batch, step.n_control)
    for t in range(count - 1, -1, -1):
        point = matrix(parts.points, t * batch * width, batch, width)
        pull(step.pull, point, adjoint, back, step.context, parts.spare)
        for b in range(batch):
            copy(vector(point, b * width, n_in), row(inputs, b))
            copy(vector(back, b * width + n_state, step.n_control), row(controls, b))
        network_back(model, inputs, controls, grad, work)
        for b in range(batch):
            for i in range(n_state):
                adjoint[b, i] = back[b, i]
            for i in range(n_in):
                adjoint[b, i] += inputs[b, i]


@kernel
def network_back(model: Model, X: Matrix, u: Matrix, grad: Vector, work: Vector):
    """Add the cotangent u of the outputs, times their Jacobian by theta, to `grad`.

    That times their Jacobian by the inputs overwrites X.
    """
    batch, bottom = X.shape[0], model.layers[0]
    for here in blocks(batch, block_size(batch)):
        parts, x = carve(model.network[0], work, here.m), rows_of(X, here)
        forward_block(model, x, parts, None)
        vjp_block(model, x, rows_of(u, here), parts, grad)
        # `backward` goes to and fro between the two, a layer a turn.
        delta = parts.delta if model.layers.size % 2 == 1 else parts.delta_prev
        to_inputs(matrix(delta, 0, here.count, bottom.n_out), weight(model.theta, bottom), x)
