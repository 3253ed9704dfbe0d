"""Simulations that a network controls: against the reference, and the reference by complex step."""

import copy
import math
import pickle

import numba
import numpy as np
import pytest

import deltajit as dj
from deltajit import kernels, reference
from tests.helpers.networks import DTYPES, relative_error

DT = 0.1


def step(state, control, out):
    """A pendulum: sine, cosine and speed, of an angle, pushed by two motors."""
    push = control[0] - 0.5 * control[1] * state[2]
    out[2] = state[2] + DT * (state[0] - 0.1 * state[2] + push)
    out[3] = state[3] + DT * out[2]
    out[0], out[1] = np.sin(out[3]), np.cos(out[3])
    return DT * (1 - out[1] + state[2] ** 2 + 0.1 * control[0] ** 2 + 0.2 * control[1] ** 2)


def adjoint(state, control, out_bar, state_bar, control_bar):
    """`step`, line by line, backwards."""
    push = control[0] - 0.5 * control[1] * state[2]
    speed = state[2] + DT * (state[0] - 0.1 * state[2] + push)
    angle = state[3] + DT * speed
    angle_bar = out_bar[3] + np.cos(angle) * out_bar[0] - np.sin(angle) * (out_bar[1] - DT)
    speed_bar = out_bar[2] + DT * angle_bar
    state_bar[0], state_bar[1], state_bar[3] = DT * speed_bar, 0.0, angle_bar
    state_bar[2] = (1 - 0.1 * DT - 0.5 * DT * control[1]) * speed_bar + 2 * DT * state[2]
    control_bar[0] = DT * (speed_bar + 0.2 * control[0])
    control_bar[1] = DT * (0.4 * control[1] - 0.5 * state[2] * speed_bar)


@pytest.fixture(scope="module")
def simulations():
    """The same simulation, traced and compiled, by dtype."""
    given = {"traced": None, "compiled": adjoint}
    return {
        (way, dtype): dj.Dynamics(step, 4, 2, back, dtype)
        for way, back in given.items()
        for dtype in DTYPES
    }


def controller(hidden=(8,), activation="tanh", dtype="float64", **options):
    return dj.Network([3, *hidden, 2], activation, "tanh", dtype=dtype, rng=1, **options)


def starts(batch, dtype="float64"):
    angle, speed = np.random.default_rng(batch).uniform(-2, 2, (2, batch))
    return np.stack([np.sin(angle), np.cos(angle), speed, angle], axis=1).astype(dtype)


def in_numpy(net, start, steps):
    """Cost and gradients of the reference, in float64."""
    model = net.reference._replace(
        weights=tuple(W.astype(float) for W in net.weights),
        biases=tuple(b.astype(float) for b in net.biases),
    )
    cost, dW, db, by_start = reference.rollout_grad(
        model, step, adjoint, start.astype(float), steps
    )
    grad = np.concatenate([np.concatenate([V.T.ravel(), v]) for V, v in zip(dW, db, strict=True)])
    return cost, grad, by_start


def test_reference_by_complex_step():
    net, start, h = controller((4, 5), "gelu"), starts(3), 1e-30
    cost, grad, by_start = in_numpy(net, start, 7)
    model, theta = net.reference, net.theta.astype(complex)
    W, b = net.unflatten(theta)
    moved, expected = model._replace(weights=W, biases=b), np.empty(net.n_params)
    for k in range(net.n_params):
        theta[k] += 1j * h
        expected[k] = reference.rollout(moved, step, start, 7)[0].imag / h
        theta[k] = theta[k].real
    assert relative_error(grad, expected) < 1e-13
    for place in np.ndindex(start.shape):
        there = start.astype(complex)
        there[place] += 1j * h
        slope = reference.rollout(model, step, there, 7)[0].imag / h
        assert by_start[place] == pytest.approx(slope, rel=1e-12, abs=1e-14)
    assert cost == reference.rollout(model, step, start, 7)[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", ["traced", "compiled"])
@pytest.mark.parametrize(
    ("hidden", "activation", "batch", "steps"),
    [((), "tanh", 1, 1), ((9,), "silu", 1, 30), ((5, 8), "gelu", 17, 5), ((33,), "tanh", 300, 2)],
)
def test_gradient_is_that_of_the_reference(
    simulations, way, dtype, hidden, activation, batch, steps
):
    net, start = controller(hidden, activation, dtype, l2=0.3), starts(batch, dtype)
    simulation, tolerance = simulations[way, dtype], {"float32": 3e-5, "float64": 1e-12}[dtype]
    cost, grad, by_start = simulation.value_and_grad(net, start, steps)
    expected = in_numpy(net, start, steps)
    assert cost == pytest.approx(expected[0], rel=tolerance)
    assert relative_error(grad, expected[1]) < tolerance
    assert relative_error(by_start, expected[2]) < tolerance
    for every in (1, 2, math.isqrt(steps), steps - 1 or 1, steps + 1):
        again = simulation.value_and_grad(net, start, steps, every)
        assert again[0] == cost
        np.testing.assert_array_equal(again[1], grad)
        np.testing.assert_array_equal(again[2], by_start)


@pytest.mark.parametrize("way", ["traced", "compiled"])
def test_rollout(simulations, way):
    net, start, simulation = controller(), starts(9), simulations[way, "float64"]
    cost, states, controls = simulation.rollout(net, start, 12)
    expected = reference.rollout(net.reference, step, start, 12)
    assert cost == pytest.approx(expected[0], rel=1e-13)
    np.testing.assert_allclose(states, expected[1], 1e-12, 1e-13)
    np.testing.assert_allclose(controls, expected[2], 1e-12, 1e-13)
    assert cost == simulation.value_and_grad(net, start, 12)[0]
    part = simulation.rollout(net, start[2:5], 12)  # the same bits alone
    np.testing.assert_array_equal(part.states, states[:, 2:5])
    one = simulation.rollout(net, start[3], 12)
    np.testing.assert_array_equal(one.states, states[:, 3])
    assert one.controls.shape == (12, 2)
    assert simulation.value_and_grad(net, start[3], 12)[2].shape == (4,)


def test_fewer_states_are_kept(simulations):
    net, simulation = controller(), simulations["compiled", "float64"]
    sizes = [simulation.workspace(net, 10_000, 1, every).size for every in (None, 100)]
    assert sizes[1] < sizes[0] / 20


def test_it_learns_in_jitted_code(simulations):
    """Segments, jitted functions that are passed as they are, and no compilation of kernels."""
    jitted = dj.Dynamics(numba.njit(step), 4, 2, numba.njit(adjoint))

    @numba.njit
    def train(model, there, start, turns, rule, grad, start_grad, work):
        for _ in range(turns):
            cost = kernels.rollout_grad(model, there, start, 40, 7, grad, start_grad, work)
            kernels.update(rule, model.theta, grad)
        return cost

    start, found = starts(8), []
    for simulation in (jitted, simulations["compiled", "float64"]):
        net = controller((16,))
        before, grad = simulation.rollout(net, start, 40).cost, np.empty(net.n_params)
        rule, work = (
            dj.Adam(0.02).rule(net.n_params, net.dtype),
            simulation.workspace(net, 40, 8, 7),
        )
        given = net.model, simulation.step, start, 60, rule, grad, np.empty_like(start), work
        assert train(*given) < 0.5 * before
        found.append(net.theta)
    np.testing.assert_array_equal(*found)


def test_what_raises_is_nan():
    def failing(state, control, out):
        out[0] = state[0]
        if state[0] > 1:
            raise ValueError
        return state[0]

    def back(state, control, out_bar, state_bar, control_bar):
        state_bar[0], control_bar[0] = 1 + out_bar[0], 0.0
        if state[0] < 0:
            raise ValueError

    simulation, net = dj.Dynamics(failing, 1, 1, back), dj.Network([1, 1], dtype="float64")
    assert simulation.rollout(net, [0.5], 3).cost == 1.5
    assert simulation.value_and_grad(net, [0.5], 3)[2] == 3
    assert np.isnan(simulation.rollout(net, [2.0], 3).cost)
    assert np.isnan(simulation.value_and_grad(net, [-1.0], 3)[2])


def test_copies(simulations):
    net, start = controller(), starts(2)
    copies = {"traced": copy.deepcopy, "compiled": lambda x: pickle.loads(pickle.dumps(x))}
    for way, copied in copies.items():
        simulation = simulations[way, "float64"]
        found = copied(simulation)
        assert found.step != simulation.step
        results = (x.value_and_grad(net, start, 3) for x in (simulation, found))
        for ours, theirs in zip(*results, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        with pytest.raises(TypeError, match="a step holds addresses"):
            pickle.dumps(simulation.step)
    assert repr(simulation) == "Dynamics(state of 4, control of 2, compiled, float64)"
    assert (simulation.n_state, simulation.n_control, simulation.dtype.name) == (4, 2, "float64")


@pytest.mark.parametrize(("steps", "every"), [(2**61, 1), (0, 1), (3, 0)])
def test_sizes_that_no_memory_has(simulations, steps, every):
    d = simulations["traced", "float64"]
    grad, start, work = np.ones(NET.n_params), starts(1), d.workspace(NET, 3)
    with pytest.raises(ValueError, match="steps and every must be"):
        kernels.rollout_grad(NET.model, d.step, start, steps, every, grad, start.copy(), work)
    assert (grad == 1).all()


def test_all_states_are_kept_however_many_that_are(simulations):
    d, found = simulations["traced", "float64"], []
    for every in (3, 2**62):
        grad, by_start = np.empty(NET.n_params), np.empty((1, 4))
        work = d.workspace(NET, 3)
        kernels.rollout_grad(NET.model, d.step, starts(1), 3, every, grad, by_start, work)
        found.append(grad)
    np.testing.assert_array_equal(*found)


def forgetful(state, control, out):
    out[0] = state[0]
    return state[0]


def silent(state, control, out):
    out[:] = state


NET = controller()
WRONG = [
    (lambda d: dj.Dynamics(3, 4, 2), TypeError, "step must be a Python function"),
    (lambda d: dj.Dynamics(step, 4, 2, 3), TypeError, "adjoint must be a Python function"),
    (lambda d: dj.Dynamics(step, 0, 2), ValueError, "n_state must be"),
    (lambda d: dj.Dynamics(step, 4, 1.5), TypeError, "n_control must be"),
    (lambda d: dj.Dynamics(step, 4, 2, dtype="int64"), TypeError, "dtype must be"),
    (lambda d: dj.Dynamics(forgetful, 4, 2), TypeError, "step must write all 4 numbers of out"),
    (lambda d: dj.Dynamics(silent, 4, 2), TypeError, "and return the cost"),
    (lambda d: d.rollout(d, starts(1), 3), TypeError, "net must be a Network, got Dynamics"),
    (lambda d: d.rollout(dj.Network([5, 2]), starts(1), 3), ValueError, "net must have at most 4"),
    (lambda d: d.rollout(dj.Network([4, 3]), starts(1), 3), ValueError, "2 outputs and dtype"),
    (lambda d: d.rollout(controller(dtype="float32"), starts(1), 3), ValueError, "dtype float64"),
    (lambda d: d.rollout(NET, starts(1)[:, :3], 3), ValueError, "start must have shape"),
    (lambda d: d.rollout(NET, starts(1)[:0], 3), ValueError, "start "),
    (lambda d: d.rollout(NET, starts(1), 0), ValueError, "steps must be"),
    (lambda d: d.value_and_grad(NET, starts(1)[:, :3], 3), ValueError, "start must have shape"),
    (lambda d: d.value_and_grad(NET, starts(1), 3, 0), ValueError, "every must be"),
    (lambda d: d.workspace(NET, 3, 0), ValueError, "batch must be"),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG)
def test_what_is_wrong_is_named(simulations, call, error, message):
    with pytest.raises(error, match=message):
        call(simulations["compiled", "float64"])
