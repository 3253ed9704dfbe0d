"""Each activation's record against that of the same name in the reference, at special values."""

import numpy as np
import pytest
from deltajit.kernels import ACTIVATIONS, LOSSES

from deltajit import reference
from tests.helpers.networks import DTYPES, HIDDEN, OF_Z

SLOPE = 0.3
SIZES = [
    1e-30, 1e-10, 1e-5, 1e-3, 0.1, 0.5, 1, 1.19, 2, 2.9, 3, 3.1, 5, 6, 10, 18, 40, 87, 100, 1e4,
]  # fmt: skip
Z = np.array([[0.0, *SIZES, *(-x for x in SIZES)]])

each = pytest.mark.parametrize("name", HIDDEN)


def test_both_have_the_same_records():
    assert reference.ACTIVATIONS.keys() == ACTIVATIONS.keys()
    assert reference.LOSSES.keys() == LOSSES.keys()
    for name, f in ACTIVATIONS.items():
        assert f.of_z == reference.ACTIVATIONS[name].of_z
    for name, loss in LOSSES.items():
        assert loss.output == reference.LOSSES[name].output


def source(name, z):
    """What f' is computed from."""
    return z if name in OF_Z else reference.activate(name, z, SLOPE)


@each
def test_derivatives_of_the_reference(name):
    """By complex steps."""
    moved = Z + 1e-30j
    x = source(name, Z)
    first = reference.activate(name, moved, SLOPE).imag / 1e-30
    x_moved = source(name, moved)
    second = reference.derivative(name, x_moved, SLOPE).imag / 1e-30
    third = reference.second_derivative(name, x_moved, SLOPE).imag / 1e-30
    eps = np.finfo(float).eps
    all_of_them = (
        reference.derivative(name, x, SLOPE),
        reference.second_derivative(name, x, SLOPE),
        reference.ACTIVATIONS[name].third(x, SLOPE),
    )
    for found, want in zip(all_of_them, (first, second, third), strict=True):
        known = np.isfinite(want)  # exp of 1e4 is not
        np.testing.assert_allclose(found[known], want[known], 1e-13, 4 * eps)


@each
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernels_are_the_reference(name, dtype):
    f, z = ACTIVATIONS[name], Z.astype(dtype)
    wide = z.astype(float)
    expected = reference.activate(name, wide, SLOPE)
    a, Ra, g, bent = z.copy(), np.ones_like(z), np.zeros_like(z), np.zeros_like(z)
    x = z if f.of_z else a
    if f.activate is not None:
        f.activate(z, a, SLOPE)
        f.tangent(x, np.ones_like(z), Ra, SLOPE)
        f.curve(x, np.ones_like(z) if f.of_z else Ra, np.ones_like(z), g, SLOPE)
        f.bend(x, np.ones_like(z), np.zeros_like(z), np.ones_like(z), bent, SLOPE)
    of = x.astype(float)  # the last bit of a counts where 1 - a^2 cancels
    first = reference.derivative(name, of, SLOPE)
    second = reference.second_derivative(name, of, SLOPE)
    third = reference.ACTIVATIONS[name].third(of, SLOPE)
    info = np.finfo(dtype)
    lost = info.eps * abs(wide) if name == "gelu" else info.tiny  # where 1 + erf cancels
    with np.errstate(over="ignore"):
        wanted = [x.astype(dtype) for x in (expected, first, second, third)]
    known = np.isfinite(wanted[0])  # exp of 1e4 is not
    limits = (lost, info.eps, info.eps, info.eps)
    for found, want, absolute in zip((a, Ra, g, bent), wanted, limits, strict=True):
        error = abs(np.where(known, found, 0) - np.where(known, want, 0))
        wrong = ~(error <= 16 * info.eps * abs(want) + 4 * absolute)
        assert not wrong.any(), (z[wrong], found[wrong], want[wrong])


@each
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity(name, dtype):
    z = np.array([[np.nan, np.inf, -np.inf]], dtype)
    a = z.copy()
    if ACTIVATIONS[name].activate is not None:
        ACTIVATIONS[name].activate(z, a, SLOPE)
    np.testing.assert_array_equal(a, reference.activate(name, z, SLOPE))
