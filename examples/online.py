"""An online learner
=================

One sample in, one prediction out, one step of gradient descent.

The stream drifts: what is to be predicted depends on four inputs in a way that turns as time goes
by. A network that learns from the first samples and then stops is right for a while only; one that
goes on learning stays right.
"""

import copy
import sys
import time

import matplotlib.pyplot as plt
import numba
import numpy as np

import deltajit as dj
from deltajit import kernels

SIZES = [4, 16, 1]
NOISE = 0.05
LEARNING_RATE = 0.05


# %%
# One jitted loop
# ---------------
@numba.njit(cache=True)
def follow(model, X, Y, lr, predicted, grad, work):
    """Predict each sample before its target is seen, then learn from it; lr 0 does not learn."""
    for i in range(len(X)):
        kernels.predict(model, X[i], predicted[i], work)
        kernels.sgd_step(model, X[i], Y[i], lr, grad, work)


# %%
# A stream that drifts
# --------------------
def stream(samples, turns, rng):
    """X (n, 4) and Y (n, 1), in which the direction that matters turns so many times."""
    X = rng.normal(size=(samples, 4))
    phase = 2 * np.pi * turns * np.linspace(0, 1, samples)
    y = np.tanh(X[:, 0] * np.cos(phase) + X[:, 1] * np.sin(phase)) + 0.5 * X[:, 2] * X[:, 3]
    y += NOISE * rng.normal(size=samples)
    return X.astype(np.float32), y.astype(np.float32)[:, None]


# %%
# All of it
# ---------
def run(samples=1_000_000, turns=4, seed=0):
    """Learn from the first tenth; then one network goes on learning, and its copy does not."""
    X, Y = stream(samples, turns, np.random.default_rng(seed))
    learner = dj.Network(SIZES, rng=seed)
    grad, work = np.empty_like(learner.theta), learner.workspace(1)
    first, rest = slice(0, samples // 10), slice(samples // 10, samples)

    def errors_of(net, part, lr):
        """Squared errors on a part of the stream, and seconds."""
        predicted = np.empty_like(Y[part])
        began = time.perf_counter()
        follow(net.model, X[part], Y[part], lr, predicted, grad, work)
        return (predicted - Y[part]) ** 2, time.perf_counter() - began

    errors_of(learner, first, LEARNING_RATE)  # compiles, too
    frozen = copy.deepcopy(learner)
    learned, seconds = errors_of(learner, rest, LEARNING_RATE)
    not_learned, _ = errors_of(frozen, rest, 0.0)
    return {
        "learner": learned.mean(),
        "frozen": not_learned.mean(),
        "constant": Y[rest].var(),
        "steps": len(learned),
        "ns_a_step": seconds / len(learned) * 1e9,
        "errors": {"learns all the time": learned, "stopped after a tenth": not_learned},
    }


def draw(found, window=5_000):
    """Draw how the errors go as the stream turns, means over a window of samples."""
    _, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for (label, errors), color in zip(found["errors"].items(), dj.plot.PALETTE, strict=False):
        means = errors[: len(errors) // window * window].reshape(-1, window).mean(axis=1)
        ax.semilogy(window * np.arange(1, len(means) + 1), means, color=color, label=label)
    ax.axhline(NOISE**2, color="black", linewidth=1, label="noise of the stream")
    ax.set(xlabel="samples", ylabel="mean squared error")
    ax.legend()


# %%
# Measured
# --------
if __name__ == "__main__":
    found = run()
    print("mean squared error of predictions on a drifting stream")
    print(f"  learns all the time       {found['learner']:.4f}")
    print(f"  stopped after a tenth     {found['frozen']:.4f}")
    print(f"  constant, the mean        {found['constant']:.4f}")
    print(f"  noise of the stream       {NOISE**2:.4f}")
    print(f"{found['ns_a_step']:.0f} ns to predict and learn, over {found['steps']} samples")
    draw(found)
    if "--show" in sys.argv:
        plt.show()
