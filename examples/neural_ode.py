"""A neural ODE
============

dx/dt = net(x) is fitted through its Runge-Kutta steps, then given to SciPy.

The data are one trajectory, a spiral that winds up to a circle. From each of its points the network
is integrated for a few steps (multiple shooting: short trajectories have tame gradients), and back
in time::

    adjoint = d loss / d x             goes through the steps,
    slope_bar = d loss / d net(x)      follows from it at each stage of each step,
    d loss / d theta = sum over stages of slope_bar * d net(x) / d theta

which is one `kernels.jacobian` for all stages before, and one `kernels.vjp` for all of them after.

At the end SciPy's stiff solver Radau integrates the network and its exact Jacobian, as C callbacks.
"""

import sys
import time

import matplotlib.pyplot as plt
import numba
import numpy as np
from numba import types

import deltajit as dj
from deltajit import kernels

SIZES = [2, 32, 2]
DT, POINTS = 0.1, 101
START = 0.3  # radius
HORIZON = 5  # steps that are integrated from each point

# The classical Runge-Kutta method: stage i starts REACH[i] steps along the slope of the one before,
# and the step goes SHARE[i] along its own. Nothing starts from the last: REACH[4].
REACH = (0.0, 0.5, 0.5, 1.0, 0.0)
SHARE = (1 / 6, 1 / 3, 1 / 3, 1 / 6)


# %%
# Runge-Kutta, forward and back
# -----------------------------
@numba.njit(cache=True)
def step(model, x, stages, work):
    """Move every row of x (B, 2) one step; stages (4, B, 2) are the x at which net is called."""
    slope, total = np.zeros_like(x), np.zeros_like(x)
    for i in range(4):
        stages[i] = x + DT * REACH[i] * slope
        kernels.predict(model, stages[i], slope, work)
        total += SHARE[i] * slope
    x += DT * total


@numba.njit(cache=True)
def step_back(jacobians, adjoint, slope_bar):
    """The adjoint after a step becomes that before it; slope_bar (4, B, 2) is written.

    jacobians : (4, B, 2, 2), d slope / d x of each stage.
    """
    after = adjoint.copy()
    stage_bar = np.zeros_like(adjoint)
    for i in range(3, -1, -1):
        # A slope moves the step's end, and the stage that starts along it.
        slope_bar[i] = DT * SHARE[i] * after + DT * REACH[i + 1] * stage_bar
        for j in range(2):  # each row's slope_bar @ jacobian
            by_output = jacobians[i, :, :, j] * slope_bar[i]
            stage_bar[:, j] = by_output[:, 0] + by_output[:, 1]
        adjoint += stage_bar


@numba.njit(cache=True)
def loss_and_grad(model, data, memory, grad, work):
    """Mean squared distance to data (N, 2), HORIZON steps from each point; its gradient."""
    stages, jacobians, slope_bar, error = memory
    steps, _, starts, _ = stages.shape
    x = data[:starts].copy()
    for t in range(steps):
        step(model, x, stages[t], work)
        error[t] = x - data[t + 1 : t + 1 + starts]
    kernels.jacobian(model, stages.reshape(-1, 2), jacobians.reshape(-1, 2, 2), work)
    adjoint = np.zeros_like(x)
    for t in range(steps - 1, -1, -1):
        adjoint += 2 * error[t] / error.size
        step_back(jacobians[t], adjoint, slope_bar[t])
    kernels.vjp(model, stages.reshape(-1, 2), slope_bar.reshape(-1, 2), grad, work)
    return np.mean(error**2)


# %%
# Training, and the trajectory
# ----------------------------
@numba.njit(cache=True)
def train(model, data, updates, rule, memory, grad, work):
    """Adam on all points at once."""
    for _ in range(updates):
        loss_and_grad(model, data, memory, grad, work)
        kernels.update(rule, model.theta, grad)


@numba.njit(cache=True)
def trajectory(model, start, points, work):
    """The network's own trajectory (points, 2), all of it from one start."""
    x, stages = start.copy().reshape(1, 2), np.empty((4, 1, 2))
    found = np.empty((points, 2))
    for t in range(points):
        found[t] = x[0]
        step(model, x, stages, work)
    return found


# %%
# Data, memory, and a check by differences
# ----------------------------------------
def spiral(points):
    """What is to be learned: r' = r (1 - r^2) / 2, phi' = 2 has a solution in closed form."""
    t = DT * np.arange(points)
    r = 1 / np.sqrt(1 + (1 / START**2 - 1) * np.exp(-t))
    return np.stack([r * np.cos(2 * t), r * np.sin(2 * t)], axis=1)


def allocate(points, horizon):
    """Memory of `loss_and_grad`; each array has a row for each stage of each step."""
    shape = (horizon, 4, points - horizon, 2)
    stages, slope_bar, jacobians = np.empty(shape), np.empty(shape), np.empty((*shape, 2))
    return stages, jacobians, slope_bar, np.empty((horizon, points - horizon, 2))


def central_differences(net, data, memory, work, h=1e-5):
    """The gradient again, from two losses for each element of theta."""
    grad, unused = np.empty(net.n_params), np.empty(net.n_params)
    for k in range(net.n_params):
        here = net.theta[k]
        net.theta[k] = here + h
        above = loss_and_grad(net.model, data, memory, unused, work)
        net.theta[k] = here - h
        grad[k] = (above - loss_and_grad(net.model, data, memory, unused, work)) / (2 * h)
        net.theta[k] = here
    return grad


# %%
# For solvers in C
# ----------------
def callbacks(net):
    """The network and its Jacobian as C functions (t, address of x, address of the result).

    Any solver in C takes them by their address, as long as net lives. They are not cached on disk:
    the addresses that the handle is made of are compiled in.
    """
    handle = net.handle(batch=1, order=2)
    signature = types.void(types.float64, types.voidptr, types.voidptr)

    @numba.cfunc(signature)
    def slope(t, x_at, out_at):
        x, out = numba.carray(x_at, 2, np.float64), numba.carray(out_at, 2, np.float64)
        model, work = kernels.from_handle(handle, x)
        kernels.predict(model, x, out, work)

    @numba.cfunc(signature)
    def jacobian(t, x_at, out_at):
        x, out = numba.carray(x_at, 2, np.float64), numba.carray(out_at, (2, 2), np.float64)
        model, work = kernels.from_handle(handle, x)
        kernels.jacobian(model, x, out, work)

    return slope, jacobian


def from_python(callback, shape):
    """A C callback as a function of (t, x) that returns an array."""

    def call(t, x):
        x, out = np.ascontiguousarray(x), np.empty(shape)
        callback.ctypes(t, x.ctypes.data, out.ctypes.data)
        return out

    return call


def solve(net, start, seconds):
    """SciPy's solution of dx/dt = net(x) by Radau, with the network's own Jacobian."""
    from scipy.integrate import solve_ivp

    slope, jacobian = callbacks(net)
    return solve_ivp(
        from_python(slope, 2),
        (0, seconds),
        start,
        method="Radau",
        jac=from_python(jacobian, (2, 2)),
        rtol=1e-6,
        atol=1e-6,
    )


# %%
# All of it
# ---------
def run(updates=4000, seed=0):
    """Check the gradient, fit, follow the trajectory past the data, and solve it by SciPy."""
    net = dj.Network(SIZES, dtype="float64", rng=seed)
    future = spiral(2 * POINTS)
    data, memory = future[:POINTS], allocate(POINTS, HORIZON)
    grad, work = np.empty(net.n_params), net.workspace(memory[0].size // 2, order=2)

    loss_and_grad(net.model, data, memory, grad, work)
    expected = central_differences(net, data, memory, work)
    gradient_error = np.abs(grad - expected).max() / np.abs(expected).max()
    before = trajectory(net.model, data[0], POINTS, work)
    rule = dj.Adam(1e-2).rule(net.n_params, net.dtype)
    train(net.model, data, 0, rule, memory, grad, work)  # compiles
    began = time.perf_counter()
    train(net.model, data, updates, rule, memory, grad, work)
    seconds = time.perf_counter() - began
    after = trajectory(net.model, data[0], 2 * POINTS, work)

    solution = solve(net, data[0], DT * (POINTS - 1))
    return {
        "gradient_error": gradient_error,
        "error_before": np.abs(before - data).max(),
        "error_after": np.abs(after[:POINTS] - data).max(),
        "error_beyond": np.abs(after - future).max(),
        "updates": updates,
        "seconds": seconds,
        "radau_difference": np.abs(solution.y[:, -1] - after[POINTS - 1]).max(),
        "radau_evaluations": solution.nfev,
        "radau_jacobians": solution.njev,
        "trajectories": (future, after),
    }


def draw(found):
    """Draw the data, what comes after them, and the network's own trajectory."""
    _, ax = plt.subplots(figsize=(5, 4.5), layout="constrained")
    truth, own = found["trajectories"]
    ax.plot(*truth[:POINTS].T, ".", color="black", markersize=5, label="data")
    ax.plot(*truth[POINTS:].T, ".", color="0.7", markersize=3, label="what comes after them")
    ax.plot(*own.T, color=dj.plot.PALETTE[0], label="the network's")
    ax.set(aspect="equal", xlim=(-1.2, 1.2), ylim=(-1.2, 1.6))
    ax.legend(loc="upper right")


# %%
# Measured
# --------
if __name__ == "__main__":
    found = run()
    each = found["seconds"] / found["updates"] * 1e6
    print(f"gradient, relative error to central differences  {found['gradient_error']:.1e}")
    print("largest distance of the network's trajectory to the data, a spiral of radius 0.3 to 1")
    print(f"  before training           {found['error_before']:.3f}")
    print(f"  after training            {found['error_after']:.3f}")
    print(f"  and twice as far in time  {found['error_beyond']:.3f}")
    print(f"{found['updates']} updates in {found['seconds']:.2f} s, {each:.0f} us each")
    print(
        f"SciPy's Radau: {found['radau_evaluations']} evaluations, {found['radau_jacobians']} "
        f"Jacobians; at the end {found['radau_difference']:.1e} from Runge-Kutta"
    )
    draw(found)
    if "--show" in sys.argv:
        plt.show()
