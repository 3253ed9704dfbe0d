"""A controller trained inside its simulation
==========================================

A network learns to swing up a pendulum, by the gradient of its own simulation.

The motor has half the torque that would lift the pendulum, so the network must learn to pump.
Simulation, adjoint and Adam are one jitted loop::

    torque[t] = net(cos angle[t], sin angle[t], speed[t]; theta)             forward in time
    adjoint[t] = d cost / d (angle, speed)[t], from adjoint[t + 1]           back in time
    d cost / d theta = sum over t of delta[t] * d torque[t] / d theta

with delta[t] = d cost / d torque[t]. Forward the network is called for one sample at a time. Then
all its inputs are known, so one `jacobian` serves all steps, and the sum over t is one `vjp`.
"""

import math
import sys
import time

import matplotlib.pyplot as plt
import numba
import numpy as np

import deltajit as dj
from deltajit import kernels

SIZES = [3, 32, 1]
STEPS, DT = 300, 0.05
MOTOR, FRICTION = 0.5, 0.05  # gravity's largest torque is 1
PRICE_OF_SPEED, PRICE_OF_TORQUE = 0.05, 0.01


# %%
# Forward in time, and back
# -------------------------
@numba.njit(cache=True)
def simulate(model, start, episode, work):
    """Run one episode from start (angle, speed); returns its cost, a mean over time."""
    inputs, torque, _, _ = episode
    angle, speed = start[0], start[1]
    cost = 0.0
    for t in range(len(inputs)):
        inputs[t, 0], inputs[t, 1], inputs[t, 2] = math.cos(angle), math.sin(angle), speed
        kernels.predict(model, inputs[t], torque[t], work)
        cost += 1 - inputs[t, 0]
        cost += PRICE_OF_SPEED * speed**2 + PRICE_OF_TORQUE * torque[t, 0] ** 2
        speed += DT * (inputs[t, 1] - FRICTION * speed + MOTOR * torque[t, 0])
        angle += DT * speed
    return cost / len(inputs)


@numba.njit(cache=True)
def gradient(model, episode, grad, work):
    """Gradient of the simulated cost with respect to theta: `simulate`, line by line, backwards."""
    inputs, torque, slope, delta = episode
    steps = len(inputs)
    kernels.jacobian(model, inputs, slope, work)
    by_angle = by_speed = 0.0  # the adjoint; nothing is paid for the state after the last step
    for t in range(steps - 1, -1, -1):
        cos, sin, speed = inputs[t, 0], inputs[t, 1], inputs[t, 2]
        by_speed += DT * by_angle
        delta[t, 0] = DT * MOTOR * by_speed + 2 * PRICE_OF_TORQUE * torque[t, 0] / steps
        # The state acts on the cost, on the next state, and through the network on the torque.
        by_angle += sin / steps + DT * cos * by_speed
        by_angle += delta[t, 0] * (slope[t, 0, 1] * cos - slope[t, 0, 0] * sin)
        by_speed += 2 * PRICE_OF_SPEED * speed / steps - DT * FRICTION * by_speed
        by_speed += delta[t, 0] * slope[t, 0, 2]
    kernels.vjp(model, inputs, delta, grad, work)


# %%
# Training
# --------
@numba.njit(cache=True)
def train(model, starts, episode, rule, grad, work):
    """One episode and one Adam step from each of the starts."""
    for start in starts:
        simulate(model, start, episode, work)
        gradient(model, episode, grad, work)
        # An episode that nearly tips over has a huge gradient, which Adam would long remember.
        grad /= max(1.0, math.sqrt(np.sum(grad**2)))
        kernels.update(rule, model.theta, grad)


# %%
# Memory, and a check by differences
# ----------------------------------
def allocate(steps):
    """What an episode writes, and the way back in time reads."""
    inputs = np.empty((steps, 3))  # cos angle, sin angle, speed; angle 0 is upright
    torque = np.empty((steps, 1))  # in units of the motor's
    slope = np.empty((steps, 1, 3))  # d torque / d inputs
    delta = np.empty((steps, 1))  # d cost / d torque
    return inputs, torque, slope, delta


def central_differences(net, start, episode, work, h=3e-5):
    """The same gradient from two simulations for each element of theta."""
    grad = np.empty(net.n_params)
    for k in range(net.n_params):
        here = net.theta[k]
        net.theta[k] = here + h
        above = simulate(net.model, start, episode, work)
        net.theta[k] = here - h
        grad[k] = (above - simulate(net.model, start, episode, work)) / (2 * h)
        net.theta[k] = here
    return grad


def evaluate(net, starts, episode, work):
    """Mean cost, and the share of episodes that stay upright for the whole last second."""
    cost, upright = [], []
    for start in starts:
        cost.append(simulate(net.model, start, episode, work))
        upright.append(episode[0][-round(1 / DT) :, 0].min() > 0.9)
    return np.mean(cost), np.mean(upright)


# %%
# All of it
# ---------
def run(episodes=16_000, seed=0):
    """Check the gradient, then train from starts around hanging at rest."""
    net = dj.Network(SIZES, output="tanh", dtype="float64", rng=seed)
    work, grad = net.workspace(STEPS, order=2), np.empty(net.n_params)
    episode = allocate(STEPS)
    low, high = [math.pi - 1, -1], [math.pi + 1, 1]
    starts = np.random.default_rng(seed).uniform(low, high, (episodes + 100, 2))
    starts, unseen = starts[:episodes], starts[episodes:]

    simulate(net.model, starts[0], episode, work)
    gradient(net.model, episode, grad, work)
    expected = central_differences(net, starts[0], episode, work)
    gradient_error = np.abs(grad - expected).max() / np.abs(expected).max()
    cost_before, upright_before = evaluate(net, unseen, episode, work)

    rule = dj.Adam(3e-3).rule(net.n_params, net.dtype)
    train(net.model, starts[:0], episode, rule, grad, work)  # compiles
    began = time.perf_counter()
    train(net.model, starts, episode, rule, grad, work)
    seconds = time.perf_counter() - began
    cost_after, upright_after = evaluate(net, unseen, episode, work)
    return {
        "gradient_error": gradient_error,
        "cost_before": cost_before,
        "cost_after": cost_after,
        "upright_before": upright_before,
        "upright_after": upright_after,
        "episodes": episodes,
        "seconds": seconds,
        "episode": episode,  # of the last start
    }


def draw(found):
    """Draw the last episode: how high the pendulum is, and what the motor does."""
    _, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
    inputs, torque, _, _ = found["episode"]
    time = DT * np.arange(STEPS)
    ax.plot(time, inputs[:, 0], color=dj.plot.PALETTE[0], label="height: -1 hanging, 1 upright")
    ax.plot(time, torque[:, 0], color=dj.plot.PALETTE[1], label="torque, in units of the motor's")
    ax.set(xlabel="time", ylim=(-1.1, 1.1))
    ax.legend()


# %%
# Measured
# --------
if __name__ == "__main__":
    found = run()
    each = found["seconds"] / found["episodes"] / STEPS * 1e9
    print(f"gradient, relative error to central differences  {found['gradient_error']:.1e}")
    print("from 100 starts that were not trained on, before -> after")
    print(f"  mean cost            {found['cost_before']:.3f} -> {found['cost_after']:.3f}")
    print(f"  upright at the end   {found['upright_before']:.0%} -> {found['upright_after']:.0%}")
    print(f"{found['episodes']} episodes in {found['seconds']:.2f} s, {each:.0f} ns a time step")
    draw(found)
    if "--show" in sys.argv:
        plt.show()
