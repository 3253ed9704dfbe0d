"""What a public kernel says of its arguments: a status, and the error that a caller raises of it.

A kernel can't raise. It checks what it is given, returns one of these before anything is written,
and the jitted function around it raises a ValueError by `refuse`.
"""

import hashlib

import numpy as np

from .backend import LEVEL
from .compiler import SOURCES, njit

# What a caller of these sources, for this level, bears. A user's function with cache=True holds
# calls of kernels, and sizes of buffers; Numba does not see that they have changed since: the
# kernels do, by this number.
VERSION = np.int64(int(hashlib.sha256(f"{SOURCES} {LEVEL}".encode()).hexdigest()[:15], 16))

(
    OK, STALE, BAD_MODEL, BAD_X, BAD_Y, BAD_WEIGHTS, SMALL_WORK, BAD_OUT, BAD_U, BAD_V, BAD_GRAD,
    SMALL_POINTS, BAD_BATCH_SIZE, BAD_DROPOUT, BAD_ORDER, BAD_RULE, NO_RATE, BAD_LAYER,
    BAD_X_OF_CIRCUIT, BAD_V_OF_CIRCUIT, MANY_OUTPUTS, SMALL_WORK_OF_CIRCUIT, SMALL_WORK_OF_ORDER_2,
    BAD_V_OF_INPUTS, BAD_DIRECTIONS, BAD_U_OF_JETS, SMALL_WORK_OF_JETS, NO_THIRD, BAD_STEP,
    BAD_STATES, BAD_CONTROLS, BAD_START, BAD_STEPS, SMALL_WORK_OF_ROLLOUT, BAD_U_OF_CIRCUIT,
) = range(35)  # fmt: skip


@njit
def refuse(status):
    """Raise the ValueError that a status means; nothing if it is OK."""
    if status != OK:
        _raise(status)


@njit
def _raise(status):
    if status == STALE:
        raise ValueError(
            "this function was compiled with another version of deltajit: delete its cache"
        )
    if status == BAD_MODEL:
        raise ValueError("model must be that of a network: theta has its size and dtype")
    if status == BAD_X:
        raise ValueError("X must have a column for each input of the network")
    if status == BAD_Y:
        raise ValueError("Y must have a row for each sample, and a column for each output")
    if status == BAD_WEIGHTS:
        raise ValueError("weights must have an element for each sample")
    if status == SMALL_WORK:
        raise ValueError("work is too small: make it by net.workspace(batch)")
    if status == SMALL_WORK_OF_ORDER_2:
        raise ValueError("work is too small: make it by net.workspace(batch, order=2)")
    if status == BAD_OUT:
        raise ValueError("out must have the shape that the docstring gives")
    if status == BAD_U:
        raise ValueError("u must have a row for each sample, and a column for each output")
    if status == BAD_V:
        raise ValueError("v must have as many elements as theta")
    if status == BAD_GRAD:
        raise ValueError("grad, or out, must have as many elements as theta")
    if status == SMALL_POINTS:
        raise ValueError("points is too small: points_size(model, batch) is needed")
    if status == BAD_BATCH_SIZE:
        raise ValueError("batch_size must be at least 1, and at most 2**62")
    if status == BAD_DROPOUT:
        raise ValueError("dropout must have a share for each hidden layer, and one seed")
    if status == BAD_ORDER:
        raise ValueError("order must list samples: 0 <= order[i] < len(X)")
    if status == BAD_RULE:
        raise ValueError("rule was made for another network: optimizer.rule(n_params, dtype)")
    if status == NO_RATE:
        raise ValueError("rule must have a rate: optimizer.rule(n_params, dtype)")
    if status == BAD_LAYER:
        raise ValueError("the arrays of a layer must have the shapes that the docstring gives")
    if status == BAD_X_OF_CIRCUIT:
        raise ValueError("X must have a column for each input of the circuit")
    if status == BAD_V_OF_CIRCUIT:
        raise ValueError("V must have the shape of X")
    if status == MANY_OUTPUTS:
        raise ValueError("hvp is of a circuit with one output")
    if status == BAD_V_OF_INPUTS:
        raise ValueError("v must have the shape of X")
    if status == BAD_DIRECTIONS:
        raise ValueError("directions must be (1 or B, D, n_in)")
    if status == BAD_U_OF_JETS:
        raise ValueError("u must have the shape of what jets writes")
    if status == SMALL_WORK_OF_JETS:
        raise ValueError("work is too small: jets_size(model, batch, rows) is needed")
    if status == NO_THIRD:
        raise ValueError(
            "jets_vjp needs the third derivative of each activation, which softmax, gaussian and "
            "those of one's own have not"
        )
    if status == BAD_STEP:
        raise ValueError(
            "step must be of the network's dtype, have states of at least n_in numbers, and a "
            "control for each output"
        )
    if status == BAD_STATES:
        raise ValueError("states must be (T + 1, B, n_state), for controls (T, B, n_control)")
    if status == BAD_CONTROLS:
        raise ValueError("controls must be (T, B, n_control)")
    if status == BAD_START:
        raise ValueError("start and start_grad must be (B, n_state)")
    if status == BAD_STEPS:
        raise ValueError(
            "steps and every must be at least 1, and all states fewer than 2**62 numbers"
        )
    if status == SMALL_WORK_OF_ROLLOUT:
        raise ValueError(
            "work is too small: rollout_size(model, step, batch, steps, every) is needed"
        )
    if status == BAD_U_OF_CIRCUIT:
        raise ValueError("u must have a row for each row of X, and a column for each output")
    raise ValueError("work is too small: make it by circuit.workspace(batch, order)")


complain = _raise.py_func  # for Python itself
