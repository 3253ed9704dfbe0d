"""``deltajit compare``: every kernel, and whole networks, against the NumPy reference.

The error is the largest difference from the reference in float64, in ULP of the largest element: 1
means that the last bit of the largest number is uncertain.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deltajit import kernels, reference
from deltajit.cli.timing import medians, one_thread, readable
from deltajit.model.memory import Array, DType
from deltajit.network import Network

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
    """

    name: str
    kernel: Callable[[], ArrayLike]
    twin: Callable[[], object]
    exact: ArrayLike


class Row(NamedTuple):
    """Hold one line of the table.

    Attributes
    ----------
    name, dtype : str
        What was compared, and in which dtype.
    ulp : float
        Error in ULP of the largest element.
    kernel_time, reference_time : float
        Median seconds of a call.
    """

    name: str
    dtype: str
    ulp: float
    kernel_time: float
    reference_time: float

    @property
    def ratio(self) -> float:
        """Return the time of the reference over that of the kernel."""
        return self.reference_time / self.kernel_time


def run(as_json: bool = False, seconds: float = 0.2) -> None:
    """Print the table, or its rows as JSON.

    Parameters
    ----------
    as_json : bool
        Print JSON instead of a table.
    seconds : float
        How long to time each case.
    """
    rows = []
    with one_thread():
        if not as_json:
            print(f"{'':48}{'dtype':9}{'error/ULP':>10}{'kernel':>10}{'NumPy':>10}{'ratio':>8}")
        for dtype in ("float32", "float64"):
            for case in cases(np.dtype(dtype)):
                rows.append(row := measure(case, dtype, seconds))
                if not as_json:
                    print(
                        f"{row.name:48}{row.dtype:9}{row.ulp:10.2f}{readable(row.kernel_time):>10}"
                        f"{readable(row.reference_time):>10}{row.ratio:7.1f}x"
                    )
    if as_json:
        print(json.dumps([{**row._asdict(), "ratio": row.ratio} for row in rows], indent=1))


def measure(case: Case, dtype: str, seconds: float) -> Row:
    """Measure the error and the times of one case."""
    result = np.asarray(case.kernel(), np.float64)
    exact = np.asarray(case.exact, np.float64)
    ulp = np.abs(result - exact).max() / np.spacing(np.abs(exact).max().astype(dtype))
    kernel_time, reference_time = medians(case.kernel, case.twin, seconds=seconds)
    return Row(case.name, dtype, float(ulp), kernel_time, reference_time)


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
            f"linear_activation_forward {name}",
            partial(_filled, forward, a, a_prev, W_T, b, f, a),
            partial(reference.linear_activation_forward, a_prev, W, b, name),
            reference.linear_activation_forward(a_prev64, W64, b64, name)[1],
        )
        prev = reference.activate(name, a_prev)
        yield Case(
            f"propagate_delta {name}",
            partial(_filled, kernels.propagate_delta, below, delta, W_T, prev, f),
            partial(reference.propagate_delta, delta, W, prev, name),
            reference.propagate_delta(delta64, W64, prev.astype(float), name),
        )
    dW, db = np.empty((n_in, n_out), dtype), np.empty(n_out, dtype)

    def gradient() -> Array:
        dW[:] = 0
        db[:] = 0
        kernels.accumulate_gradient(delta, a_prev, dtype.type(1), dW, db, 1)
        return dW

    yield Case(
        "accumulate_gradient",
        gradient,
        lambda: reference.accumulate_gradient(delta, a_prev),
        reference.accumulate_gradient(delta64, a_prev64)[0].T,
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
    )
    yield Case(
        f"loss           {label}",
        lambda: net.loss(X, Y),
        lambda: reference.loss(twin, X, Y),
        reference.loss(exact, X64, Y64),
    )
    _, dW, db = reference.value_and_grad(exact, X64, Y64)
    yield Case(
        f"value_and_grad {label}",
        lambda: net.value_and_grad(X, Y)[1],
        lambda: reference.value_and_grad(twin, X, Y),
        double.flatten(dW, db),
    )
