"""Networks solve Poisson's and the heat equation
===============================================

By the exact gradient of losses that contain second derivatives.

A network u = net(x) is to obey a differential equation inside of a square, and boundary values::

    Poisson   u_xx + u_yy = f(x, y)      u = g on all four sides
    heat      u_t = u_xx                 u = g at t = 0, and at both ends

Each is the mean of a squared residual at some points, plus that of u - g at others. A residual is
written once, as a circuit of u, its derivatives, and the point. `dj.DifferentialLoss` then gives
the loss and its gradient with respect to theta: one sweep forward of all derivatives at once, one
back. BFGS does the rest.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import deltajit as dj

SIZES = [2, 16, 16, 1]
BOUNDARY = 300.0  # weight of the boundary's loss


# %%
# The equations, and what solves them
# -----------------------------------
def poisson(u, u_x, u_y, laplacian, x, y):
    """Squared residual, with f = -2 pi^2 sin(pi x) sin(pi y)."""
    return (laplacian + 2 * np.pi**2 * np.sin(np.pi * x) * np.sin(np.pi * y)) ** 2


def heat(u, u_x, u_t, u_xx, u_tt, x, t):
    """Squared residual."""
    return (u_t - u_xx) ** 2


def solution_of_poisson(x, y):
    """What u is to become; g on the boundary."""
    return np.sin(np.pi * x) * np.sin(np.pi * y)


def solution_of_heat(x, t):
    """What u is to become; g at the beginning and the ends."""
    return np.exp(-(np.pi**2) * t) * np.sin(np.pi * x)


# %%
# Points
# ------
def square(count, ends):
    """A grid over the unit square (second coordinate up to `ends`), and points on its sides."""
    line = np.linspace(0, 1, count)
    inside = np.stack(np.meshgrid(line, ends * line), axis=-1).reshape(-1, 2)
    zeros, ones = np.zeros(count), np.ones(count)
    sides = [(line, zeros), (zeros, ends * line), (ones, ends * line), (line, ends * ones)]
    return inside, [np.stack(side, axis=-1) for side in sides]


# %%
# A solver
# --------
def solve(f, n_arguments, solution, inside, boundary, iterations, seed=0):
    """Minimize both losses by BFGS; returns the network."""
    from scipy.optimize import minimize

    net = dj.Network(SIZES, "tanh", dtype="float64", rng=seed)
    loss = dj.DifferentialLoss(dj.Circuit(f, n_arguments))
    at_boundary = net.objective(boundary, solution(*boundary.T))

    def value_and_grad(theta):
        value, grad = loss.value_and_grad(net, inside, theta=theta)
        value_there, grad_there = at_boundary.fun_and_jac(theta)
        return value + BOUNDARY * value_there, grad + BOUNDARY * grad_there

    options = dict(maxiter=iterations, gtol=1e-9)
    net.theta = minimize(value_and_grad, net.theta, jac=True, method="BFGS", options=options).x
    return net


# %%
# All of it
# ---------
def run(points=12, iterations=3000):
    """Solve both, and compare them to their solutions between the points."""
    inside, sides = square(points, 1.0)
    flat = solve(poisson, 6, solution_of_poisson, inside, np.concatenate(sides), iterations)
    inside, sides = square(points, 0.2)
    warm = solve(heat, 7, solution_of_heat, inside, np.concatenate(sides[:3]), iterations)
    fine, _ = square(61, 1.0)
    early = fine * [1.0, 0.2]
    return {
        "error_of_poisson": np.abs(flat.predict(fine)[:, 0] - solution_of_poisson(*fine.T)).max(),
        "error_of_heat": np.abs(warm.predict(early)[:, 0] - solution_of_heat(*early.T)).max(),
        "residual_of_heat": np.abs(residual(warm, early)).max(),
        "networks": (flat, warm),
    }


def residual(net, points):
    """``u_t - u_xx`` at points, by `jets`: u, u_x, u_t, u_xx, u_tt."""
    _, _, u_t, u_xx, _ = net.jets(points)[:, :, 0].T
    return u_t - u_xx


def draw(found):
    """Draw both, and how far they are off."""
    _, axes = plt.subplots(2, 2, figsize=(8, 6), layout="constrained")
    solutions = solution_of_poisson, solution_of_heat
    for net, solution, ends, (left, right) in zip(
        found["networks"], solutions, (1.0, 0.2), axes, strict=True
    ):
        points, _ = square(61, ends)
        u = net.predict(points)[:, 0]
        box = dict(extent=(0, 1, 0, ends), origin="lower", aspect="auto")
        for ax, numbers in ((left, u), (right, u - solution(*points.T))):
            image = ax.imshow(numbers.reshape(61, 61), cmap="viridis", **box)
            plt.colorbar(image, ax=ax)
        left.set(xlabel="x", ylabel="y" if ends == 1 else "t", title="u = net(x)")
        right.set(xlabel="x", title="less the solution")


# %%
# Measured
# --------
if __name__ == "__main__":
    found = run()
    print(f"Poisson, largest error of u       {found['error_of_poisson']:.1e}")
    print(f"heat, largest error of u          {found['error_of_heat']:.1e}")
    print(f"heat, largest residual u_t - u_xx {found['residual_of_heat']:.1e}")
    draw(found)
    if "--show" in sys.argv:
        plt.show()
