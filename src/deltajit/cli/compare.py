"""``deltajit compare``: every kernel, and whole networks, against the NumPy reference.

The error is the largest difference from the reference in float64, in ULP of the largest element: 1
means that the last bit of the largest number is uncertain. Errors of a sum of n rounded products
grow as sqrt(n) (Higham & Mary 2019), so that is what is tolerated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deltajit import kernels, reference
from deltajit.cli.timing import medians, one_thread, readable
from deltajit.model.memory import Array, DType
from deltajit.network import Network
from deltajit.training.progress import progress_bar

LAYER = (128, 128, 128)  # samples, inputs and outputs for the layer kernels

# (sizes, activation, output, batch) of whole networks.
NETWORKS = [
    ((2, 16, 1), "tanh", "identity", 32),
    ((64, 128, 10), "relu", "softmax", 128),
    ((784, 128, 10), "sigmoid", "sigmoid", 128),
    ((128, 256, 256, 10), "tanh", "softmax", 256),
]


class Case(NamedTuple):
    """Describe one comparison.

    Attributes
    ----------
    name : str
        What is compared.
    kernel, twin : callable
        Call the kernel, or the reference in the same dtype.
    exact : float or ndarray
        The reference's result in float64.
    depth : int
        Number of products in the longest sum.
    """

    name: str
    kernel: Callable[[], ArrayLike]
    twin: Callable[[], object]
    exact: ArrayLike
    depth: int


class Row(NamedTuple):
    """Hold one line of the table.

    Attributes
    ----------
    name, dtype : str
        What was compared, and in which dtype.
    ulp : float
        Error in ULP of the largest element.
    tolerance : float
        What it may be.
    kernel_time, reference_time : float
        Median seconds of a call.
    """

    name: str
    dtype: str
    ulp: float
    tolerance: float
    kernel_time: float
    reference_time: float

    @property
    def ratio(self) -> float:
        """Return the time of the reference over that of the kernel."""
        return self.reference_time / self.kernel_time

    @property
    def ok(self) -> bool:
        """Return whether the error is tolerated; NaN is not."""
        return self.ulp <= self.tolerance


def run(seconds: float = 0.2) -> list[dict[str, object]]:
    """Print the table row by row, with a progress bar below, and return it.

    Parameters
    ----------
    seconds : float
        How long to time each case.

    Returns
    -------
    list of dict
        The fields of each `Row`, its ratio, and whether it is ok.
    """
    kinds = [np.dtype(name) for name in ("float32", "float64")]
    with one_thread():
        planned = [(kind, case) for kind in kinds for case in cases(kind)]
        with progress_bar(len(planned), unit="row") as bar:
            bar.write(f"{'':57}{'dtype':8} error/ULP  at most   kernel    NumPy   ratio")
            rows = []
            for kind, case in planned:
                rows.append(row := measure(case, kind.name, seconds))
                bar.write(line(row))
                bar.update()
    off = sum(not row.ok for row in rows)
    print(f"{off} of {len(rows)} rows are off" if off else f"all {len(rows)} rows are ok")
    return [{**row._asdict(), "ratio": row.ratio, "ok": row.ok} for row in rows]


def line(row: Row) -> str:
    """Format a row of the table."""
    return (
        f"{row.name:57}{row.dtype:8}{row.ulp:10.2f}{row.tolerance:9.0f}"
        f"{readable(row.kernel_time):>9}{readable(row.reference_time):>9}{row.ratio:7.1f}x"
        f"  {'ok' if row.ok else 'OFF'}"
    )


def measure(case: Case, dtype: str, seconds: float) -> Row:
    """Measure the error and the times of one case."""
    result = np.asarray(case.kernel(), np.float64)
    exact = np.asarray(case.exact, np.float64)
    ulp = np.abs(result - exact).max() / np.spacing(np.abs(exact).max().astype(dtype))
    kernel_time, reference_time = medians(case.kernel, case.twin, seconds=seconds)
    tolerance = 4 + 2 * math.sqrt(case.depth)
    return Row(case.name, dtype, float(ulp), tolerance, kernel_time, reference_time)


def cases(dtype: DType) -> Iterator[Case]:
    """Yield everything that is compared, in one dtype."""
    yield from _layer_cases(dtype)
    for sizes, activation, output, batch in NETWORKS:
        yield from _network_cases(dtype, list(sizes), activation, output, batch)


def _layer_cases(dtype: DType) -> Iterator[Case]:
    batch, n_in, n_out = LAYER
    rng = np.random.default_rng(0)
    a_prev, W, b, delta = (
        rng.normal(size=shape).astype(dtype)
        for shape in ((batch, n_in), (n_out, n_in), (n_out,), (batch, n_out))
    )
    W /= dtype.type(np.sqrt(n_in))
    W_T = np.ascontiguousarray(W.T)
    a_prev64, W64, b64, delta64 = (x.astype(float) for x in (a_prev, W, b, delta))
    for name in kernels.ACTIVATIONS:
        f = kernels.function_of(name, dtype, 0.01)
        a, below = np.empty((batch, n_out), dtype), np.empty((batch, n_in), dtype)
        forward = kernels.linear_activation_forward
        yield Case(
            f"linear_activation_forward {n_in}-{n_out} {name}, batch {batch}",
            partial(_filled, forward, a, a_prev, W_T, b, f, a),
            partial(reference.linear_activation_forward, a_prev, W, b, name),
            reference.linear_activation_forward(a_prev64, W64, b64, name)[1],
            n_in,
        )
        prev = reference.activate(name, a_prev)
        yield Case(
            f"propagate_delta {n_in}-{n_out} {name}, batch {batch}",
            partial(_filled, kernels.propagate_delta, below, delta, W_T, prev, f),
            partial(reference.propagate_delta, delta, W, prev, name),
            reference.propagate_delta(delta64, W64, prev.astype(float), name),
            n_out,
        )
    dW, db = np.empty((n_in, n_out), dtype), np.empty(n_out, dtype)

    def gradient() -> Array:
        dW[:] = 0
        db[:] = 0
        kernels.accumulate_gradient(delta, a_prev, dtype.type(1), dW, db, 1)
        return dW

    yield Case(
        f"accumulate_gradient {n_in}-{n_out}, batch {batch}",
        gradient,
        lambda: reference.accumulate_gradient(delta, a_prev),
        reference.accumulate_gradient(delta64, a_prev64)[0].T,
        batch,
    )


def _filled(kernel: Callable[..., object], out: Array, *arguments: object) -> Array:
    kernel(*arguments, out, 1)
    return out


def _network_cases(
    dtype: DType, sizes: list[int], activation: str, output: str, batch: int
) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    net = Network(sizes, activation, output, dtype=dtype, threads=1)
    double = Network(sizes, activation, output, dtype="float64")
    double.theta = net.theta
    X = rng.normal(size=(batch, sizes[0])).astype(dtype)
    Y = rng.uniform(size=(batch, sizes[-1])).astype(dtype)
    if output == "softmax":
        Y = rng.integers(sizes[-1], size=batch)
    X64, Y64 = X.astype(float), Y.astype(float) if output != "softmax" else Y
    label = f"{'-'.join(map(str, sizes))} {activation}, batch {batch}"
    twin, exact = net.reference, double.reference
    yield Case(
        f"predict        {label}",
        lambda: net.predict(X),
        lambda: reference.predict(twin, X),
        reference.predict(exact, X64),
        max(sizes),
    )
    yield Case(
        f"loss           {label}",
        lambda: net.loss(X, Y),
        lambda: reference.loss(twin, X, Y),
        reference.loss(exact, X64, Y64),
        max(sizes),
    )
    _, dW, db = reference.value_and_grad(exact, X64, Y64)
    yield Case(
        f"value_and_grad {label}",
        lambda: net.value_and_grad(X, Y)[1],
        lambda: reference.value_and_grad(twin, X, Y),
        double.flatten(dW, db),
        max(*sizes, batch),
    )
