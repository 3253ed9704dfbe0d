"""The three layer kernels against their NumPy twins, over awkward sizes."""

import itertools

import numpy as np
import pytest

from deltajit import kernels, reference
from tests.helpers.networks import DTYPES, HIDDEN, awkward

ALL = [*HIDDEN, "softmax"]


def operands(rng, dtype, *shapes):
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def shapes_of(dtype):
    return itertools.product(awkward(dtype), repeat=3)


def assert_close(found, expected, summands, case):
    """Within a few roundings of what was summed up, which may have cancelled.

    `summands` holds the sums of absolute values; no activation here has a slope above 1, and
    softmax mixes a row, so each row is judged by its largest.
    """
    size = 1 + summands.max(axis=-1, keepdims=True)
    error = np.abs(found - expected) / size
    assert error.max(initial=0) <= 8 * np.finfo(found.dtype).eps, case


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ALL)
def test_linear_activation_forward(dtype, activation):
    rng = np.random.default_rng(0)
    for batch, n_in, n_out in shapes_of(dtype):
        X, W, b = operands(rng, dtype, (batch, n_in), (n_out, n_in), (n_out,))
        a = np.full((batch, n_out), np.nan, dtype)
        f = kernels.function_of(activation, dtype, 0.2)
        W_T = np.ascontiguousarray(W.T)
        kernels.linear_activation_forward(X, W_T, b, f, a, a, 1)
        X64, W64, b64 = X.astype(float), W.astype(float), b.astype(float)
        z, expected = reference.linear_activation_forward(X64, W64, b64, activation, 0.2)
        summands = abs(X64) @ abs(W64.T) + abs(b64)
        if activation == "exp":  # an error of z counts that much in a
            summands *= np.maximum(1, np.exp(z))
        assert_close(a, expected, summands, (batch, n_in, n_out))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ALL)
def test_propagate_delta(dtype, activation):
    rng = np.random.default_rng(1)
    for batch, n_in, n_out in shapes_of(dtype):
        delta, W, z = operands(rng, dtype, (batch, n_out), (n_out, n_in), (batch, n_in))
        a_prev = reference.activate(activation, z, 0.2).astype(dtype)
        found = np.full((batch, n_in), np.nan, dtype)
        f = kernels.function_of(activation, dtype, 0.2)
        W_T = np.ascontiguousarray(W.T)
        kernels.propagate_delta(delta, W_T, a_prev, f, found, 1)
        expected = reference.propagate_delta(
            delta.astype(float), W.astype(float), a_prev.astype(float), activation, 0.2
        )
        summands = abs(delta.astype(float)) @ abs(W.astype(float))
        if activation == "exp":  # f' is as large as a
            summands *= np.maximum(1, abs(a_prev))
        assert_close(found, expected, summands, (batch, n_in, n_out))


@pytest.mark.parametrize("dtype", DTYPES)
def test_accumulate_gradient(dtype):
    rng = np.random.default_rng(2)
    for batch, n_in, n_out in [(0, 3, 5), *shapes_of(dtype)]:
        delta, a_prev, dW, db = operands(
            rng, dtype, (batch, n_out), (batch, n_in), (n_in, n_out), (n_out,)
        )
        delta64, a64 = delta.astype(float), a_prev.astype(float)
        more_W, more_b = reference.accumulate_gradient(delta64, a64)
        expected_W, expected_b = dW + more_W.T / 2, db + more_b / 2
        size_W = abs(dW) + abs(a64.T) @ abs(delta64)
        size_b = abs(db) + abs(delta64).sum(axis=0)
        kernels.accumulate_gradient(delta, a_prev, dW.dtype.type(0.5), dW, db, 1)
        assert_close(dW, expected_W, size_W, (batch, n_in, n_out))
        assert_close(db, expected_b, size_b, (batch, n_in, n_out))


@pytest.mark.parametrize("activation", ALL)
def test_nan_comes_through(activation):
    a = np.array([[np.nan, 1.0]])
    W_T, b = np.eye(2), np.zeros(2)
    out = np.empty((1, 2))
    f = kernels.function_of(activation, "float64", 0.1)
    kernels.linear_activation_forward(a, W_T, b, f, out, out, 1)
    assert np.isnan(out[0, 0])
    back = np.empty((1, 2))
    kernels.propagate_delta(a, np.eye(2), out, f, back, 1)
    assert np.isnan(back[0, 0])


def test_score_of_one_hidden_layer():
    """s = u^T f(W x + b) has ds/dW = delta x^T with delta = f'(z) * u, as in the lecture notes."""
    rng = np.random.default_rng(3)
    x, W, b, u = operands(rng, "float64", (1, 4), (3, 4), (3,), (3,))
    W /= 4  # away from where 1 - tanh(z)^2 cancels
    tanh = kernels.function_of("tanh", "float64")
    a = np.empty((1, 3))
    kernels.linear_activation_forward(x, np.ascontiguousarray(W.T), b, tanh, a, a, 1)
    delta = np.empty((1, 3))
    kernels.propagate_delta(np.ones((1, 1)), u[:, None].copy(), a, tanh, delta, 1)
    z = W @ x[0] + b
    np.testing.assert_allclose(delta[0], u * (1 - np.tanh(z) ** 2), rtol=1e-13)
    dW, db = np.zeros((4, 3)), np.zeros(3)
    kernels.accumulate_gradient(delta, x, 1.0, dW, db, 1)
    np.testing.assert_allclose(dW.T, np.outer(delta[0], x[0]), rtol=1e-14)
    step = 1e-30
    for i, j in np.ndindex(3, 4):
        moved = W.astype(complex)
        moved[i, j] += 1j * step
        score = u @ np.tanh(moved @ x[0] + b)
        assert dW[j, i] == pytest.approx(score.imag / step, rel=1e-13)
