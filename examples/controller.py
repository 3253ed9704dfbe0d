"""A controller trained inside its simulation
==========================================

A network learns to swing up a pendulum, by the gradient of its own simulation.

The motor has half the torque that would lift the pendulum, so the network must learn to pump.
One step of the simulation is written down, once; `dj.Dynamics` takes it through time, and back::

    torque[t] = net(cos angle[t], sin angle[t], speed[t]; theta)        forward in time
    adjoint[t] = d cost / d state[t], from adjoint[t + 1]               back in time
    d cost / d theta = sum over t of d cost / d torque[t] * d torque[t] / d theta

Simulation, gradient and Adam are one jitted loop, which allocates nothing.
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
# One step
# --------
# The network sees the first three numbers of a state.
def step(state, torque, out):
    """Write the next state, and return the cost, whose sum over the steps is a mean over time."""
    cos, sin, speed, angle = state  # angle 0 is upright
    out[2] = speed + DT * (sin - FRICTION * speed + MOTOR * torque[0])
    out[3] = angle + DT * out[2]
    out[0], out[1] = np.cos(out[3]), np.sin(out[3])
    return (1 - cos + PRICE_OF_SPEED * speed**2 + PRICE_OF_TORQUE * torque[0] ** 2) / STEPS


def starts(rng, count):
    """States around hanging at rest."""
    angle, speed = rng.uniform([math.pi - 1, -1], [math.pi + 1, 1], (count, 2)).T
    return np.stack([np.cos(angle), np.sin(angle), speed, angle], axis=1)


# %%
# Training
# --------
@numba.njit
def train(model, step, starts, rule, grad, start_grad, work):
    """Some episodes and one Adam step from each group of starts."""
    for k in range(len(starts)):
        kernels.rollout_grad(model, step, starts[k], STEPS, STEPS, grad, start_grad, work)
        # An episode that nearly tips over has a huge gradient, which Adam would long remember.
        grad /= max(1.0, math.sqrt(np.sum(grad**2)))
        kernels.update(rule, model.theta, grad)


# %%
# A check by differences
# ----------------------
def central_differences(net, pendulum, start, h=3e-5):
    """The gradient again, from two simulations for each element of theta."""
    grad = np.empty(net.n_params)
    for k in range(net.n_params):
        here, costs = net.theta[k], []
        for moved in (here + h, here - h):
            net.theta[k] = moved
            costs.append(pendulum.rollout(net, start, STEPS).cost)
        net.theta[k], grad[k] = here, (costs[0] - costs[1]) / (2 * h)
    return grad


def evaluate(net, pendulum, unseen):
    """Mean cost, the share of episodes that stay upright for the whole last second, and one."""
    cost, states, torque = pendulum.rollout(net, unseen, STEPS)
    upright = states[-1 - round(1 / DT) : -1, :, 0].min(axis=0) > 0.9
    return cost, upright.mean(), (states[:-1, 0, 0], torque[:, 0, 0])


# %%
# All of it
# ---------
def run(updates=2000, at_once=8, seed=0):
    """Check the gradient, then train from starts around hanging at rest."""
    net = dj.Network(SIZES, output="tanh", dtype="float64", rng=seed)
    pendulum = dj.Dynamics(step, n_state=4, n_control=1)
    rng = np.random.default_rng(seed)
    groups, unseen = starts(rng, updates * at_once).reshape(updates, at_once, 4), starts(rng, 100)

    expected = central_differences(net, pendulum, unseen[0])
    grad = pendulum.value_and_grad(net, unseen[0], STEPS)[1]
    gradient_error = np.abs(grad - expected).max() / np.abs(expected).max()
    cost_before, upright_before, _ = evaluate(net, pendulum, unseen)

    rule = dj.Adam(6e-3).rule(net.n_params, net.dtype)
    memory = grad, np.empty((at_once, 4)), pendulum.workspace(net, STEPS, at_once)
    train(net.model, pendulum.step, groups[:0], rule, *memory)  # compiles
    began = time.perf_counter()
    train(net.model, pendulum.step, groups, rule, *memory)
    seconds = time.perf_counter() - began
    cost_after, upright_after, episode = evaluate(net, pendulum, unseen)
    return {
        "gradient_error": gradient_error,
        "cost_before": cost_before,
        "cost_after": cost_after,
        "upright_before": upright_before,
        "upright_after": upright_after,
        "episodes": updates * at_once,
        "seconds": seconds,
        "episode": episode,
    }


def draw(found):
    """Draw an episode: how high the pendulum is, and what the motor does."""
    _, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
    labels = "height: -1 hanging, 1 upright", "torque, in units of the motor's"
    for curve, color, label in zip(found["episode"], dj.plot.PALETTE, labels, strict=False):
        ax.plot(DT * np.arange(STEPS), curve, color=color, label=label)
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
