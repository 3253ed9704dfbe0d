"""Circuits at the ends: infinite derivatives beside selections, and functions at special values."""

import itertools
import math

import numpy as np
import pytest

import deltajit as dj
from deltajit.circuit import relu, sigmoid, softplus, where
from tests.helpers.circuits import expected
from tests.helpers.networks import DTYPES

inf, nan = math.inf, math.nan

# ---------------------------------------------------------------- what is not chosen

# Of f(x, y) a point, the gradient, and the Hessian times (1, 1).
INFINITE_SLOPES = {
    # As JAX 0.10.2 has them in float64, by its own relu and where.
    "root of relu": (lambda x, y: np.sqrt(relu(x)) + y, (-1, 1), (0, 1), (0, 0)),
    "root of relu at 0": (lambda x, y: np.sqrt(relu(x)) + y, (0, 1), (0, 1), (0, 0)),
    "root of where": (lambda x, y: np.sqrt(where(x > 0, y, 0)), (-1, 3), (0, 0), (0, 0)),
    "root of what is": (lambda x, y: np.sqrt(where(x > 0, y, 0)), (1, 4), (0, 0.25), (0, -1 / 32)),
    "log of where": (lambda x, y: np.log(where(x > 0, y, y * y)), (-1, 0.5), (0, 4), (0, -8)),
    "condition": (lambda x, y: (x > 0) * np.log(y), (1, 0), (0, inf), (0, -inf)),
    "condition <=": (lambda x, y: (x <= y) * np.log(y), (-1, 0), (0, inf), (0, -inf)),
    "condition ==": (lambda x, y: (x == y) * np.sqrt(y), (0, 0), (0, inf), (0, -inf)),
    "log of relu": (lambda x, y: y * np.log(relu(x)), (-1, 1), (0, -inf), (0, nan)),
    "power of relu": (lambda x, y: relu(x) ** 0.3 + y, (-1, 1), (0, 1), (0, 0)),
    "relu of relu": (lambda x, y: np.sqrt(relu(relu(x) * y)), (-1, 1), (0, 0), (0, 0)),
    # JAX multiplies by its maximum's and minimum's derivatives; abs has a slope of 1 at 0 there.
    "maximum": (lambda x, y: np.sqrt(np.maximum(x, y)), (-1, 0), (0, inf), (0, -inf)),
    "maximum of 0": (lambda x, y: np.sqrt(np.maximum(x, 0)) + y, (-1, 1), (0, 1), (0, 0)),
    "minimum": (lambda x, y: np.log(np.minimum(x, y)), (1, 0), (0, inf), (0, -inf)),
    "absolute": (lambda x, y: np.sqrt(abs(x)) + y, (0, 1), (0, 1), (0, 0)),
    "NaN": (lambda x, y: where(x > 0, x, 1) * np.log(y), (-1, -2), (0, -0.5), (0, -0.25)),
    # No selection: as IEEE has it, and JAX.
    "square": (lambda x, y: np.sqrt(x * x) + y, (0, 1), (nan, 1), (nan, 0)),
    "product": (lambda x, y: np.log(x * y), (0, 0), (nan, nan), (nan, nan)),
    # The derivatives of sums do not move, nor do constants.
    "sum": (lambda x, y: np.sqrt(x + y), (0, 0), (inf, inf), (-inf, -inf)),
    "difference": (lambda x, y: np.sqrt(x - y), (0, 0), (inf, -inf), (nan, nan)),
    "scaled": (lambda x, y: np.sqrt(2 * x) + y * y, (0, 3), (inf, 6), (-inf, 2)),
    "reciprocal": (lambda x, y: 1 / x + y, (0, 1), (-inf, 1), (inf, 0)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", INFINITE_SLOPES)
def test_what_was_not_chosen_gets_nothing(name, dtype):
    f, point, grad, product = INFINITE_SLOPES[name]
    c = dj.Circuit(f, 2, dtype=dtype)
    np.testing.assert_array_equal(c.grad(point), grad)
    np.testing.assert_array_equal(c.hvp(point, [1, 1]), product)
    np.testing.assert_array_equal([step.adjoint for step in c.trace(point).steps[:2]], grad)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_loss_that_has_not_chosen_leaves_a_gradient(dtype):
    loss = dj.Circuit(lambda o, y: np.sqrt(relu(o - y)), 2)
    net = dj.Network([2, 3, 1], loss=loss, dtype=dtype, rng=0)
    X = np.random.default_rng(0).normal(size=(4, 2))
    Y = net.predict(X) + np.array([[1], [1], [-1], [-1]])  # the first two cost nothing
    value, grad = net.value_and_grad(X, Y)
    assert value == pytest.approx(0.5)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(grad, net.grad(X[2:], Y[2:]) / 2, tolerance, tolerance)
    v = np.ones(net.n_params)
    product = net.hvp(X[2:], Y[2:], v) / 2
    np.testing.assert_allclose(net.hvp(X, Y, v), product, tolerance, tolerance)


# ---------------------------------------------------------------- functions at special values

info = np.finfo(float)
POINTS = [
    0.0, inf, nan, info.smallest_subnormal, 1e-310, info.tiny, info.max, 1e-12, 0.3, 1, 1.5, 40,
    709.5, 710, 745, 1000, 1022.5,
]  # fmt: skip
LN2, LN10 = np.log(np.longdouble(2)), np.log(np.longdouble(10))


def sech2(x):
    return 1 / np.cosh(x) ** 2


def logistic(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def bell(x):
    return logistic(x) * logistic(-x)


# Value, derivative, second derivative: of extended numbers.
FUNCTIONS = {
    "absolute": (np.abs, np.sign, np.zeros_like),
    "cos": (np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x)),
    "cosh": (np.cosh, np.sinh, np.cosh),
    "exp": (np.exp, np.exp, np.exp),
    "exp2": (np.exp2, lambda x: LN2 * np.exp2(x), lambda x: LN2**2 * np.exp2(x)),
    "expm1": (np.expm1, np.exp, np.exp),
    "log": (np.log, lambda x: 1 / x, lambda x: -1 / x**2),
    "log10": (np.log10, lambda x: 1 / (x * LN10), lambda x: -1 / x**2 / LN10),
    "log1p": (np.log1p, lambda x: 1 / (1 + x), lambda x: -1 / (1 + x) ** 2),
    "log2": (np.log2, lambda x: 1 / (x * LN2), lambda x: -1 / x**2 / LN2),
    "negative": (np.negative, lambda x: -np.ones_like(x), np.zeros_like),
    "reciprocal": (
        np.reciprocal, lambda x: -1 / x**2, lambda x: np.copysign(2 / np.abs(x) ** 3, x),
    ),
    "relu": (
        lambda x: np.where(x <= 0, 0, x), lambda x: np.where(x <= 0, 0, 1.0), np.zeros_like,
    ),
    "sigmoid": (logistic, bell, lambda x: bell(x) * -np.tanh(x / 2)),
    "sin": (np.sin, np.cos, lambda x: -np.sin(x)),
    "sinh": (np.sinh, np.cosh, np.sinh),
    "softplus": (lambda x: np.logaddexp(x, 0), logistic, bell),
    "sqrt": (np.sqrt, lambda x: 0.5 / np.sqrt(x), lambda x: -0.25 / (np.abs(x) * np.sqrt(x))),
    "square": (np.square, lambda x: 2 * x, lambda x: np.full_like(x, 2)),
    "tan": (np.tan, lambda x: 1 + np.tan(x) ** 2, lambda x: 2 * np.tan(x) * (1 + np.tan(x) ** 2)),
    "tanh": (np.tanh, sech2, lambda x: -2 * np.tanh(x) * sech2(x)),
}  # fmt: skip


def traced(name):
    return {"relu": relu, "sigmoid": sigmoid, "softplus": softplus}.get(name) or getattr(np, name)


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="no extended precision here")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_one_number(name, dtype):
    with np.errstate(all="ignore"):
        x = np.array([*POINTS, *(-p for p in POINTS)]).astype(dtype)
        wanted = [part(x.astype(np.longdouble)).astype(dtype) for part in FUNCTIONS[name]]
    if name == "sqrt":
        wanted[2][x == 0] = -inf  # from either side
    function = traced(name)
    c = dj.Circuit(lambda x: function(x), 1, dtype=dtype)
    found = [*c.value_and_grad(x[:, None]), c.hvp(x[:, None], [1])]
    # Where derivatives are computed from the value, they are as small as 1 - 1 may be.
    eps = np.finfo(dtype).eps
    by_value = eps if name in ("tanh", "sigmoid", "softplus") else 4 * info.smallest_subnormal
    for part, want, tolerance in zip(found, wanted, [0, by_value, by_value], strict=True):
        tolerance = max(tolerance, 2 * np.finfo(dtype).smallest_subnormal)
        np.testing.assert_allclose(part.ravel(), want, 12 * eps, float(tolerance))
    if dtype == "float64":
        values, slopes = expected(c, x[:, None])
        np.testing.assert_allclose(values.ravel(), wanted[0], 1e-14, 1e-320)
        np.testing.assert_allclose(slopes.ravel(), wanted[1], 1e-14, max(by_value, 1e-320))


TWO = [0.0, -0.0, inf, -inf, nan, 5e-324, 1e-310, -1e-310, info.max, -info.max, 1e-12, -1e-12, 0.5,
       -0.5, 1, -1, 2, 3, -1e30, 700, 710]  # fmt: skip


@pytest.mark.parametrize("name", [
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "logaddexp", "less",
    "less_equal", "equal", "not_equal", "greater", "greater_equal",
])  # fmt: skip
def test_functions_of_two_numbers(name):
    function = getattr(np, name)
    X = np.array(list(itertools.product(TWO, TWO)))
    c = dj.Circuit(lambda x, y: function(x, y), 2)
    with np.errstate(all="ignore"):
        want = function(*X.T)
    np.testing.assert_allclose(c(X), want, 4e-16, 5e-324)
    values, slopes = expected(c, X)
    np.testing.assert_allclose(values[:, 0], want, 4e-16, 5e-324)
    one = dj.Circuit(lambda x: function(x, 2.5), 1)  # beside a constant
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(one(X[:, :1]), function(X[:, 0], 2.5), 4e-16, 5e-324)
    if name not in ("power", "divide"):  # whose slopes multiply what overflows
        np.testing.assert_allclose(c.grad(X), slopes[:, 0], 1e-14, 1e-320)


@pytest.mark.parametrize(
    ("point", "grad", "product"),
    [
        ((-0.5, -1e30), (1, 0), (0, 0)),
        ((-1, -inf), (1, 0), (0, 0)),
        ((-inf, -1), (0, 1), (0, 0)),
        ((inf, -inf), (1, 0), (0, 0)),
        ((inf, 3), (1, 0), (0, 0)),
        ((3, 3), (0.5, 0.5), (0.25, -0.25)),
        ((-inf, -inf), (0.5, 0.5), (0.25, -0.25)),
        ((nan, 1), (nan, nan), (nan, nan)),
        ((0, 40), (4.248354255291589e-18, 1), (4.248354255291589e-18, -4.248354255291589e-18)),
    ],
)
def test_slopes_of_logaddexp(point, grad, product):
    c = dj.Circuit(np.logaddexp, 2)
    np.testing.assert_allclose(c.grad(point), grad, 1e-14)
    np.testing.assert_allclose(c.hvp(point, [1, 0]), product, 1e-14)
    np.testing.assert_allclose([s.adjoint for s in c.trace(point).steps[:2]], grad, 1e-14)


@pytest.mark.parametrize(
    ("point", "grad"),
    [
        ((0, nan), (nan, nan)),
        ((nan, 0), (0, nan)),
        ((0, 0), (0, 0)),
        ((0, 0.5), (inf, 0)),
        ((0, 1), (1, 0)),
        ((0, 2), (0, 0)),
        ((0, -1), (-inf, -inf)),
        ((inf, 2), (inf, inf)),
        ((inf, -1), (0, 0)),
        ((inf, 0), (0, inf)),
        ((1, nan), (nan, 0)),
        ((2, inf), (inf, inf)),
        ((-2, 3), (12, nan)),
        ((-2, 0.5), (nan, nan)),
    ],
)
def test_slopes_of_powers(point, grad):
    """JAX's too, but at (0, -1), (inf, -1) and (nan, 0), where these are the limits."""
    c = dj.Circuit(lambda x, y: x**y, 2)
    np.testing.assert_array_equal(c.grad(point), grad)
    np.testing.assert_array_equal([s.adjoint for s in c.trace(point).steps[:2]], grad)


def test_slopes_of_quotients():
    c = dj.Circuit(lambda x, y: x / y, 2)
    for point, grad in [
        ((1, 0), (inf, -inf)),
        ((0, 5e-324), (inf, 0)),
        ((1, inf), (0, 0)),
        ((0, inf), (0, 0)),
        ((1e-20, 1e-160), (1e160, -1e300)),
    ]:
        np.testing.assert_allclose(c.grad(point), grad, 1e-15)
    c = dj.Circuit(lambda y: 1e-200 / y, 1)
    np.testing.assert_allclose(c.hvp([1e-160], [1]), 2e280, 1e-14)
