"""A network solves a differential equation
========================================

By the exact gradient of a loss that contains du/dx.

The network u = net(x) is to obey du/dx = g(u) = -RATE * u^2, a reaction of second order, from
u(0) = 1 on, whose solution is 1 / (1 + RATE * x)::

    residual r = du/dx - g(u) at points x            loss = mean(r^2) / 2 + (u(0) - 1)^2 / 2

Its gradient needs d/dtheta of du/dx. It could be had from central differences in x, with a step
size to choose; here it is exact, and takes nothing but products with second derivatives. Moving x
by dx is the same as moving the first layer's biases b by W dx, with W its weights. So du/dx is the
derivative of u along a direction v in the space of theta: v is W in the place of b, and else 0.
Let phi(theta) = sum(c * u) over B points, with c fixed, and let H be its Hessian. Then::

    sum(c * du/dx) = v . dphi/dtheta
    d/dtheta of it = H v, plus dphi/db in the place of W, since v depends on W

The Hessian of a squared error with residuals c is its Gauss-Newton matrix plus H / B, so that
H v = B (hvp(v) - gnvp(v)).
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import deltajit as dj

SIZES = [1, 16, 1]
RATE, END = 3.0, 2.0


# %%
# The equation
# ------------
def reaction(u):
    """g(u), and its derivative."""
    return -RATE * u**2, -2 * RATE * u


def solution(x):
    """What u is to become."""
    return 1 / (1 + RATE * x)


# %%
# The loss and its gradient
# -------------------------
def loss_and_grad(theta, net, X):
    """The loss at theta, with X[0] = 0 the point of the initial value, and its gradient."""
    net.theta = theta
    u, u_x = net.predict(X), net.jacobian(X)[:, :, 0]
    g, dg_du = reaction(u)
    r, r_start = u_x - g, u[0] - 1
    value = np.mean(r**2) / 2 + r_start[0] ** 2 / 2

    by_u_x = r / len(X)  # (B, 1), d loss / d (du/dx)
    by_u = -by_u_x * dg_du  # (B, 1), d loss / du
    by_u[0] += r_start
    at_theta = net.linearize(X, u - by_u_x)  # a squared error with by_u_x as its residuals
    return value, at_theta.vjp(by_u) + slope_gradient(net, at_theta, by_u_x)


def slope_gradient(net, at_theta, c):
    """``d/dtheta sum(c * du/dx)``, from the linearization of a squared error with residuals c."""
    v = np.zeros(net.n_params)
    _, v_biases = net.unflatten(v)
    v_biases[0][:] = net.weights[0][:, 0]
    grad = len(c) * (at_theta.hvp(v) - at_theta.gnvp(v))
    grad_weights, _ = net.unflatten(grad)
    _, phi_biases = net.unflatten(at_theta.vjp(c))
    grad_weights[0][:, 0] += phi_biases[0]
    return grad


# %%
# A check by differences
# ----------------------
def central_differences(net, X, h=1e-6):
    """The gradient at net.theta again, from two losses for each of its elements."""
    theta = net.theta.copy()
    grad = np.empty_like(theta)
    for k in range(theta.size):
        step = h * (np.arange(theta.size) == k)
        above, below = (loss_and_grad(theta + s, net, X)[0] for s in (step, -step))
        grad[k] = (above - below) / (2 * h)
    net.theta = theta
    return grad


# %%
# All of it
# ---------
def run(points=41, iterations=2000, seed=0):
    """Check the gradient, minimize the loss by BFGS, and compare u and du/dx to the solution."""
    from scipy.optimize import minimize

    net = dj.Network(SIZES, dtype="float64", rng=seed)
    X = np.linspace(0, END, points)[:, None]
    before, grad = loss_and_grad(net.theta, net, X)
    expected = central_differences(net, X)
    gradient_error = np.abs(grad - expected).max() / np.abs(expected).max()
    found = minimize(
        loss_and_grad,
        net.theta.copy(),
        (net, X),
        jac=True,
        method="BFGS",
        options=dict(maxiter=iterations, gtol=1e-8),
    )
    net.theta = found.x

    x = np.linspace(0, END, 1001)[:, None]  # mostly between the points of the fit
    u, u_x = net.predict(x), net.jacobian(x)[:, :, 0]
    return {
        "gradient_error": gradient_error,
        "loss_before": before,
        "loss_after": found.fun,
        "iterations": found.nit,
        "error": np.abs(u - solution(x)).max(),
        "slope_error": np.abs(u_x - reaction(solution(x))[0]).max(),
        "curves": (x, u, u_x),
    }


def draw(found):
    """Draw u and du/dx, and the solution's."""
    _, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
    x, u, u_x = found["curves"]
    ax.plot(x, u, color=dj.plot.PALETTE[0], linewidth=4, alpha=0.5, label="u = net(x)")
    ax.plot(x, u_x, color=dj.plot.PALETTE[1], linewidth=4, alpha=0.5, label="du/dx")
    ax.plot(x, solution(x), color="black", linewidth=1, label="the solution's")
    ax.plot(x, reaction(solution(x))[0], color="black", linewidth=1)
    ax.set(xlabel="x")
    ax.legend()


# %%
# Measured
# --------
if __name__ == "__main__":
    found = run()
    print(f"gradient, relative error to central differences  {found['gradient_error']:.1e}")
    print(f"loss, before and after {found['iterations']} iterations of BFGS")
    print(f"  {found['loss_before']:.3f} -> {found['loss_after']:.1e}")
    print(f"largest error of u      {found['error']:.1e}")
    print(f"largest error of du/dx  {found['slope_error']:.1e}")
    draw(found)
    if "--show" in sys.argv:
        plt.show()
