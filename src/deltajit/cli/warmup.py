"""``deltajit warmup``: compile every kernel now, so that nobody waits for one later."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from deltajit import kernels
from deltajit.circuit import Circuit
from deltajit.differential import DifferentialLoss
from deltajit.dynamics import Dynamics
from deltajit.kernels import cache, compiler
from deltajit.network import Network
from deltajit.training.progress import progress_bar

DTYPES = ("float32", "float64")


def run(dtype: str) -> dict[str, object]:
    """Compile the kernels that are not in the cache yet, and print where it is.

    Parameters
    ----------
    dtype : {"float32", "float64", "all"}
        Which kernels to compile.

    Returns
    -------
    dict
        How many kernels there are, where, and how many seconds it took.

    Raises
    ------
    SystemExit
        No folder for the cache can be written.
    """
    if not cache.is_on():
        raise SystemExit("deltajit warmup: no folder for the cache can be written")
    dtypes = DTYPES if dtype == "all" else (dtype,)
    start = time.perf_counter()
    needed = [(kernel, real) for kernel, real in compiler.all_kernels() if str(real) in dtypes]
    with progress_bar(len(needed), unit="kernel") as bar:
        for kernel, real in needed:
            kernel.address(real)
            bar.update()
    for each in dtypes:
        call_from_python(each)
    seconds = time.perf_counter() - start
    print(f"{len(needed)} kernels are in {cache.folder()}, after {seconds:.1f} s")
    return {"kernels": len(needed), "folder": str(cache.folder()), "seconds": seconds}


def call_from_python(dtype: str) -> None:
    """Compile the wrappers for Python by calling everything once with each argument type.

    The kernels themselves must be in the cache already.
    """
    net = Network([2, 3, 1], dtype=dtype)
    X, Y, weights = np.ones((2, 2), dtype), np.ones((2, 1), dtype), np.ones(2, dtype)
    theta, out = net.theta.copy(), np.empty((2, 1), dtype)
    net.predict(X), net.predict(X[0]), net.predict(X, dropout=0.5)
    for w in (None, weights):
        net.value_and_grad(X, Y, w), net.loss(X, Y, w)
        net.hvp(X, Y, theta, w), net.gnvp(X, Y, theta, w)
        at_theta = net.linearize(X, Y, w)
        at_theta.hvp(theta), at_theta.gnvp(theta), at_theta.jvp(theta), at_theta.vjp(out)
        for dropout in (0, 0.5):
            net.fit(X, Y, epochs=1, sample_weight=w, dropout=dropout, progress=False)
    net.fit(X, Y, epochs=1, validation_data=(X, Y), progress=False)
    net.per_sample_grads(X, Y), net.input_grad(X, Y), net.jacobian(X)
    net.input_jvp(X, X), net.input_vjp(X, out), net.input_hessian(X), net.laplacian(X)
    slope = Circuit(lambda u, u_x, u_y, x, y: u_x, 5, dtype=dtype)
    DifferentialLoss(slope).value_and_grad(net, X)
    net.objective(X, Y).residuals(theta), net.objective(X, Y).residuals_jac(theta)
    circuit = Circuit(lambda x, y: x * y, 2, dtype=dtype)
    circuit(X[0]), circuit.value_and_grad(X[0]), circuit.hvp(X[0], X[0])
    kernels.circuit.vjp(circuit.program, X, Y, np.empty_like(X), circuit.workspace(2))
    still = Dynamics(_still, 2, 1, dtype=dtype)
    still.rollout(net, X, 1), still.value_and_grad(net, X, 1)
    grad, work = np.empty_like(theta), net.workspace(2)
    kernels.predict(net.model, X, out, work)
    kernels.value_and_grad(net.model, X, Y, grad, work)
    kernels.sgd_step(net.model, X, Y, 0.1, grad, work)


def _still(state: Any, control: Any, out: Any) -> Any:
    """Take a step of a simulation in which nothing moves."""
    out[:] = state
    return control[0]
