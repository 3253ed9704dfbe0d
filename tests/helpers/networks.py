"""Networks for tests: awkward sizes, random ones with data, and what they should give."""

import numpy as np
import pytest
from deltajit.kernels import ACTIVATIONS, LOSSES
from deltajit.kernels.simd.vectors import LANES_F32, LANES_F64

import deltajit as dj
from deltajit import reference

DTYPES = ["float32", "float64"]
HIDDEN = [name for name, f in ACTIVATIONS.items() if not f.of_rows]
OF_Z = [name for name, f in ACTIVATIONS.items() if f.of_z]  # not for outputs
ANY_OUTPUT = [name for name, loss in LOSSES.items() if loss.output is None]

# (output, loss) pairs that a network may have: each output, and each loss.
ENDS = [
    *((output, ANY_OUTPUT[0]) for output in ACTIVATIONS if output not in [*OF_Z, "gaussian"]),
    *((output, loss) for output in ["identity", "tanh", "softmax"] for loss in ANY_OUTPUT[1:]),
    *((loss.output, name) for name, loss in LOSSES.items() if loss.output is not None),
]

# Each end with four activations, each activation with some ends; exp(exp(exp(x))) is too large for
# anybody.
GRID = [(HIDDEN[(i + 4 * k) % len(HIDDEN)], *end) for i, end in enumerate(ENDS) for k in range(4)]
GRID = [(f, *end) for f, *end in GRID if f != "exp" or end[0] not in ("exp", "gaussian")]


def grid(test):
    """Parametrize a test of (activation, output, loss)."""
    return pytest.mark.parametrize(("activation", "output", "loss"), GRID)(test)


def awkward(dtype):
    """Sizes around the ends of a vector register, and 65."""
    lanes = LANES_F32 if dtype == "float32" else LANES_F64
    return sorted({1, 2, 3, lanes - 1, lanes, lanes + 1, 65} - {0})


def suits(output, n_out):
    """Whether an output may have so many units."""
    return {"softmax": n_out > 1, "gaussian": n_out % 2 == 0}.get(output, True)


def make_targets(rng, loss, batch, n_out, *, labels=False):
    """Targets of the kind that `loss` takes."""
    kind = LOSSES[loss]
    shape = batch, n_out // kind.outputs_per_target
    if labels:
        return rng.integers(n_out, size=batch)
    if kind.takes_labels:
        return rng.dirichlet(np.ones(n_out), size=batch)
    if kind.most == 1:
        return rng.uniform(size=shape)
    if kind.least == 0:
        return rng.poisson(3, size=shape).astype(float)
    return rng.normal(size=shape)


def make_case(sizes, activation, output, loss, dtype, batch=7, seed=0, **options):
    """A network with random biases, and data for it (as float64)."""
    rng = np.random.default_rng(seed)
    if output == "gaussian":
        sizes = [*sizes[:-1], sizes[-1] + sizes[-1] % 2]
    net = dj.Network(sizes, activation, output, loss, dtype=dtype, rng=seed, **options)
    for b in net.biases:
        b[:] = rng.normal(size=b.shape) / 2
    X = rng.normal(size=(batch, sizes[0]))
    return net, X, make_targets(rng, net.architecture.loss, batch, sizes[-1])


def reference_grad(net, X, Y, weights=None):
    """Loss and flat gradient by the NumPy reference."""
    value, dW, db = reference.value_and_grad(net.reference, X, Y, weights)
    return value, net.flatten(dW, db)


def complex_step_grad(net, X, Y, weights=None):
    """Flat gradient of a float64 network by complex step."""
    theta = net.theta.astype(complex)
    W, b = net.unflatten(theta)
    model = net.reference._replace(weights=W, biases=b)
    grad = np.empty(net.n_params)
    for k in range(net.n_params):
        theta[k] += 1e-30j
        grad[k] = reference.loss(model, X, Y, weights).imag / 1e-30
        theta[k] = theta[k].real
    return grad


def relative_error(found, expected):
    """Largest difference over largest element."""
    return np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-300)
