"""Networks for tests of what expresses activations in another language."""

import numpy as np
from deltajit.kernels import ACTIVATIONS

import deltajit as dj
from deltajit.io.forms import FORMS
from tests.helpers.networks import HIDDEN, OF_Z, make_case

NAMES = [name for name in ACTIVATIONS if name in FORMS]
INSIDE = [name for name in HIDDEN if name in NAMES]
TOLERANCE = {"float32": 3e-6, "float64": 1e-14}

# Large and tiny, and where exponential functions end; some are 0 or inf in float32.
SIZES = [
    1e-300, 1e-40, 1e-20, 1e-8, 1e-5, 1e-3, 0.1, 0.3, 0.5, 1, 2, 3, 5, 7, 10, 12.5, 17, 19, 20.5,
    25, 33, 40, 60, 88, 95, 104, 200, 708, 730, 746, 1e4, 1e10, 1e30, 1e38, 1e300, np.inf,
]  # fmt: skip
SPECIAL = np.array([np.nan, 0.0, *SIZES, *(-x for x in SIZES)])


def close(found, expected, dtype):
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def case(name, dtype):
    """A network with this activation inside and at its end, where it may be; and inputs."""
    hidden = ["tanh", name if name in INSIDE else "relu"]
    output = "identity" if name in OF_Z else name
    net, X, _ = make_case(
        [3, 5, 7, 4], hidden, output, "auto", dtype, batch=50, slope=0.123456789012345
    )
    return net, (2 * X).astype(dtype)


def units(name, dtype):
    """A network whose outputs are this activation of its inputs, and special inputs for it."""
    with np.errstate(over="ignore"):
        z = SPECIAL.astype(dtype)
    if name in ("softmax", "gaussian"):  # of two units; infinite ones have no place in W @ z
        net, z = dj.Network([2, 2], output=name, dtype=dtype), z[abs(z) < 1e37]
        X = np.stack(np.meshgrid(z, z), axis=-1).reshape(-1, 2)
        X[:2, 0] = np.nan
    else:
        net, X = dj.Network([1, 1, 1], name, dtype=dtype, slope=0.123456789012345), z[:, None]
    for W, b in zip(net.weights, net.biases, strict=True):
        W[:], b[:] = np.eye(len(W)), 0
    return net, X


def check_units(name, dtype, compute, relative=0.0):
    """`compute(net, X)` is predict(X), to some ULP or a subnormal; errors `relative` to X pass."""
    net, X = units(name, dtype)
    found, expected = compute(net, X), net.predict(X)
    info = np.finfo(dtype)
    with np.errstate(invalid="ignore"):
        wrong = abs(found - expected) > 40 * info.eps * abs(expected) + info.tiny + relative * abs(
            X
        )
    wrong |= (np.isnan(found) != np.isnan(expected)) | (np.isinf(found) != np.isinf(expected))
    assert not wrong.any(), [*zip(X[wrong], found[wrong], expected[wrong], strict=True)][:5]
