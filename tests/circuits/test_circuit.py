"""Circuits: values and derivatives against NumPy and complex step, and how functions are traced."""

import itertools
import os
import pickle
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest
from deltajit.kernels import blocks, compiler, status
from deltajit.kernels import circuit as kernels
from deltajit.kernels.circuit import interpreter
from deltajit.kernels.simd.vectors import LANES_F32, LANES_F64

import deltajit as dj
from deltajit.circuit import dot, relu, sigmoid, softplus, where
from deltajit.circuits import lowering
from tests.helpers.circuits import (
    FORMULAS,
    complex_step,
    expected,
    expected_hvp,
    random_function,
)
from tests.helpers.networks import DTYPES, relative_error

TOLERANCE = {"float32": 3e-5, "float64": 1e-12}
BATCHES = [1, LANES_F64 - 1, LANES_F32, LANES_F32 + 1, 63, 64, 65, 130]


def textbook(x1, x2, x3):
    return (x1 + x2) * np.maximum(x2, x3)


# ---------------------------------------------------------------- what the textbook says


def test_the_textbook_example():
    c = dj.Circuit(textbook, 3)
    value, grad = c.value_and_grad([1, 2, 0])
    assert value == c([1, 2, 0]) == 6
    assert isinstance(value, float)
    assert grad.tolist() == c.grad([1, 2, 0]).tolist() == [2, 5, 0]
    # y = x1 x2 + x2**2 there.
    assert c.hvp([1, 2, 0], [1, 10, 100]).tolist() == [10, 21, 0]
    assert c.hvp([1, 2, 0], np.eye(3)).tolist() == [[0, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert c.hvp([[1, 2, 0], [1, 2, 5]], [1, 0, 0]).tolist() == [[0, 1, 0], [0, 0, 1]]


def test_the_sigmoid_neuron_step_by_step():
    def neuron(w0, x0, w1, x1, w2):
        return 1 / (1 + np.exp(-(w0 * x0 + w1 * x1 + w2)))

    table = dj.Circuit(neuron, 5).trace([2, -1, -3, -2, -3])
    steps = {step.name: step for step in table.steps}
    assert [step.text for step in table.steps[5:]] == [
        "w0 * x0", "w1 * x1", "v1 + v2", "v3 + w2", "-v4", "exp(v5)", "1 + v6", "1 / v7",
    ]  # fmt: skip
    s = 1 / (1 + np.exp(-1))
    values = {"v1": -2, "v2": 6, "v3": 4, "v4": 1, "v5": -1, "v6": np.exp(-1), "v8": s}
    for name, value in values.items():
        assert steps[name].value == pytest.approx(value, rel=1e-15)
    slope = s * (1 - s)
    adjoints = {"v8": 1, "v7": -(s**2), "v4": slope, "w0": -slope, "x0": 2 * slope, "w2": slope}
    for name, adjoint in adjoints.items():
        assert steps[name].adjoint == pytest.approx(adjoint, rel=1e-14)
    assert steps["v8"].derivatives == (pytest.approx(-(s**2)),)  # a constant's is left out
    assert steps["v1"].operands == ("w0", "x0")
    assert str(table).splitlines()[-1].split()[:4] == ["v8", "1", "/", "v7"]
    assert set(table.to_dict()) == {*steps["v1"]._fields}


def test_names_of_nodes():
    c = dj.Circuit(lambda v1, v2, *, k=3: (v1 * v1 + v2) * k, 2)
    steps = c.trace([3, 1]).steps
    assert [step.name for step in steps] == ["v1", "v2", "node1", "node2", "node3"]
    assert steps[2].derivatives == (6,)  # of v1 * v1, both together
    assert [step.name for step in dj.Circuit(lambda *x: x[0] + x[1], 2).trace([1, 2]).steps] == [
        "x1", "x2", "v1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ties", "grad"), [("both", [1, 1]), ("first", [1, 0]), ("split", [0.5, 0.5])]
)
@pytest.mark.parametrize("function", [np.maximum, np.minimum])
def test_ties(ties, grad, function):
    c = dj.Circuit(lambda x, y: function(x, y), 2, ties=ties)
    assert c.grad([3, 3]).tolist() == grad
    assert c.grad([3, 4]).tolist() == [float(function(3, 4) == 3), float(function(3, 4) == 4)]
    assert [s.adjoint for s in c.trace([3, 3]).steps[:2]] == grad
    itself = dj.Circuit(lambda x, y: function(x * y, y * x), 2, ties=ties)
    assert itself.grad([3, 4]).tolist() == [4, 3]  # which is no tie


def test_kinks_and_conditions():
    assert dj.Circuit(relu, 1).grad([[-2], [0], [3]]).ravel().tolist() == [0, 0, 1]
    assert np.isnan(dj.Circuit(relu, 1)([np.nan]))
    assert dj.Circuit(lambda x: abs(x), 1).grad([[-2], [0], [3]]).ravel().tolist() == [-1, 0, 1]
    c = dj.Circuit(lambda x: where(x > 1, x * x, -x), 1)
    assert c([[0], [1], [2]]).tolist() == [0, -1, 4]
    assert c.grad([[0], [1], [2]]).ravel().tolist() == [-1, -1, 4]
    for symbol, test in {
        "<": lambda x, y: x < y, "<=": lambda x, y: x <= y, ">": lambda x, y: x > y,
        ">=": lambda x, y: x >= y, "==": lambda x, y: x == y, "!=": lambda x, y: x != y,
    }.items():  # fmt: skip
        points = [[1, 2], [2, 2], [3, 2], [np.nan, 2]]
        found = dj.Circuit(lambda x, y, test=test: where(test(x, y), 1.0, 0.0), 2)(points)
        assert found.tolist() == [float(test(*p)) for p in points], symbol
    # What is not used may be NaN or infinite, and so may its derivatives.
    for unused in (np.log, np.sqrt, lambda x: 1 / x, lambda x: x * np.log(x), lambda x: x**-0.5):
        c = dj.Circuit(lambda x, f=unused: where(x > 0, f(x), 3 * x), 1)
        assert c([[-1], [0]]).tolist() == [-3, 0]
        assert c.grad([[-1], [0]]).tolist() == [[3], [3]]
        assert c.hvp([[-1], [0]], [1]).tolist() == [[0], [0]]
        assert c.trace([0]).steps[0].adjoint == 3
    in_condition = dj.Circuit(lambda x: where(np.sqrt(x) > 1, x, 2 * x), 1)
    assert in_condition.grad([0]) == 2
    assert in_condition.hvp([0], [1]) == 0


# ---------------------------------------------------------------- against NumPy


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FORMULAS)
def test_each_operation(name, dtype):
    """Value, gradient and Hessian times vector, on awkward batches."""
    c = dj.Circuit(FORMULAS[name], 2, dtype=dtype)
    rng = np.random.default_rng(0)
    for batch in BATCHES:
        X, V = rng.normal(size=(2, batch, 2)).astype(dtype).astype(float)
        values, slopes = expected(c, X)
        found, grad = c.value_and_grad(X)
        tolerance = TOLERANCE[dtype]
        assert np.allclose(found, values[:, 0], tolerance, tolerance)
        assert np.allclose(grad, slopes[:, 0], tolerance, tolerance)
        assert np.allclose((slopes[:, 0] * V).sum(axis=1), complex_step(c, X, V), 1e-13, 1e-13)
        assert np.allclose(c.hvp(X, V), expected_hvp(c, X, V), 10 * tolerance, 10 * tolerance)


@pytest.fixture
def short_segments(monkeypatch):
    """Programs of many segments of few steps."""
    monkeypatch.setattr(blocks, "SEGMENT", 16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n_inputs", "n_formulas"), [(1, 1), (3, 40), (20, 300), (5, 2000)])
def test_random_circuits(n_inputs, n_formulas, dtype, request):
    f = random_function(n_formulas, n_formulas)
    # Many a maximum is of a value and of itself, which complex step counts once.
    whole = dj.Circuit(f, n_inputs, ties="first", dtype=dtype)
    request.getfixturevalue("short_segments")
    cut = dj.Circuit(f, n_inputs, ties="first", dtype=dtype)
    assert whole.program.rows >= cut.program.rows
    rng = np.random.default_rng(1)
    X, V = rng.normal(size=(2, 70, n_inputs)).astype(dtype).astype(float)
    values, slopes = expected(whole, X)
    directional = complex_step(whole, X, V)
    assert relative_error((slopes[:, 0] * V).sum(axis=1), directional) < 1e-10
    tolerance = TOLERANCE[dtype] * (1 if n_formulas < 1000 else 10)
    for c in (whole, cut):
        found, grad = c.value_and_grad(X)
        assert relative_error(found, values[:, 0]) <= tolerance
        assert relative_error(grad, slopes[:, 0]) <= 10 * tolerance
        assert relative_error(c.hvp(X, V), expected_hvp(c, X, V)) <= 100 * tolerance
    # How the steps are ordered and cut changes sums of adjoints by rounding, and values not at all.
    assert np.array_equal(whole(X), cut(X))


@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("caches", [(1, 1), (1, 2**30), (2**30, 2**30)])  # narrow to wide rows
def test_a_sample_is_computed_the_same_whatever_others_there_are(dtype, caches, monkeypatch):
    monkeypatch.setattr(blocks, "L2", caches[0])
    monkeypatch.setattr(blocks, "L3", caches[1])
    c = dj.Circuit(random_function(400, 2), 4, dtype=dtype)
    X, V = np.random.default_rng(0).normal(size=(2, 150, 4))
    values, grads = c.value_and_grad(X)
    products = c.hvp(X, V)
    for i in (0, 1, 63, 64, 149):
        value, grad = c.value_and_grad(X[i])
        assert value == values[i] == c(X[i])
        assert np.array_equal(grad, grads[i])
        assert np.array_equal(c.hvp(X[i], V[i]), products[i])
    assert np.array_equal(c(X[7:90]), values[7:90])
    assert np.array_equal(c.grad(X[3:21]), grads[3:21])


def test_nan_and_infinity_go_through():
    c = dj.Circuit(lambda x, y: np.log(x) + np.sqrt(y) + np.maximum(x, y), 2)
    assert np.isnan(c([-1, 1])) == np.isnan(c([1, -1])) == np.isnan(c([np.nan, 1])) == 1
    assert c([0, 1]) == -np.inf
    assert c.grad([0, 1])[0] == np.inf
    assert np.isnan(dj.Circuit(np.maximum, 2).grad([np.nan, 1])).all()
    assert np.isnan(dj.Circuit(lambda x: abs(x), 1).grad([np.nan])).all()
    # The table has the derivatives that the kernels find.
    assert c.trace([0, 1]).steps[0].adjoint == np.inf


def test_the_reference_looks_at_real_parts():
    """A complex step from a tie, or from a condition that is 0, is still there."""
    X, V = np.array([[0.0, 0.0], [2.0, 2.0]]), np.array([[1.0, 3.0], [1.0, 3.0]])
    for f in (np.maximum, np.minimum, lambda x, y: where(x, x * y, x - y)):
        c = dj.Circuit(lambda x, y, f=f: f(x, y), 2)
        assert np.array_equal(c.grad(X), expected(c, X + 1e-30j * V)[1][:, 0].real)


# ---------------------------------------------------------------- vectors


def test_several_outputs():
    c = dj.Circuit(lambda x, y: [x * y, 3.0, y, y, np.sin(x), x * y], 2)
    assert c.n_outputs == 6
    assert c([2, 5]).tolist() == [10, 3, 5, 5, np.sin(2.0), 10]
    jacobian = [[5, 2], [0, 0], [0, 1], [0, 1], [np.cos(2.0), 0], [5, 2]]
    assert np.allclose(c.jacobian([2, 5]), jacobian, 1e-15)
    X = np.random.default_rng(0).normal(size=(70, 2))
    assert c(X).shape == (70, 6)
    assert np.allclose(c.jacobian(X), expected(c, X)[1], 1e-14)
    scalar = dj.Circuit(lambda x, y: x * y, 2)
    assert scalar.jacobian([2, 5]).tolist() == [5, 2]
    assert scalar.jacobian(X).shape == (70, 2)
    one = dj.Circuit(lambda x, y: [x * y], 2)
    assert one([2, 5]).tolist() == [10]
    assert one.jacobian([2, 5]).tolist() == [[5, 2]]


@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize("dtype", DTYPES)
def test_vjp_is_a_combination_of_the_rows_of_the_jacobian(dtype):
    """Of outputs that are operations, one twice, an input, and a constant."""
    c = dj.Circuit(lambda x, y, z: [x * y, np.sin(z) * x, x * y, z, 2.5], 3, dtype=dtype)
    for batch in BATCHES:
        X, u = (np.random.default_rng(0).normal(size=(batch, n)).astype(dtype) for n in (3, 5))
        out = np.full_like(X, np.nan)
        kernels.vjp(c.program, X, u, out, c.workspace(batch))
        np.testing.assert_allclose(
            out, np.einsum("bm,bmn->bn", u, c.jacobian(X)), TOLERANCE[dtype], TOLERANCE[dtype]
        )
    one = dj.Circuit(textbook, 3, dtype=dtype)
    kernels.vjp(one.program, X, u[:, 0].copy(), out, one.workspace(len(X)))
    np.testing.assert_allclose(out, u[:, :1] * one.grad(X), TOLERANCE[dtype])
    for wrong in (u[:-1], u[:, :4].copy()):
        with pytest.raises(ValueError, match="u must have a row for each row of X"):
            kernels.vjp(c.program, X, wrong, out, c.workspace(len(X)))


def test_a_jacobian_over_many_segments():
    f = random_function(200, 3)
    c = dj.Circuit(lambda *x: [f(*x), f(*x[::-1]), x[0]], 3)
    X = np.random.default_rng(0).normal(size=(9, 3))
    assert relative_error(c.jacobian(X), expected(c, X)[1]) < 1e-11

    def shared(x, y):
        """Each output's way back goes through all segments."""
        for k in range(20):
            x = x + 0.1 * np.sin(x * y + k)
        return [x, x * y, x - y]

    c = dj.Circuit(shared, 2)
    assert relative_error(c.jacobian(X[:, :2]), expected(c, X[:, :2])[1]) < 1e-13


def test_arrays_of_arguments():
    """NumPy's own products and sums, of arrays whose elements are traced."""
    W, b = np.random.default_rng(0).normal(size=(3, 4)), np.arange(3.0)

    def layer(*x):
        return np.tanh(W @ np.array(x) + b)

    c = dj.Circuit(layer, 4)
    x = np.linspace(-1, 1, 4)
    a = np.tanh(W @ x + b)
    assert np.allclose(c(x), a, 1e-14)
    assert np.allclose(c.jacobian(x), (1 - a**2)[:, None] * W, 1e-13)
    total = dj.Circuit(lambda *x: (np.array(x) * b[:2] + b[1]).sum() / 2 ** np.array(x).mean(), 2)
    assert total([1, 3]) == pytest.approx((2 + 3) / 4)
    spread = dj.Circuit(lambda *x: np.std(np.array(x)), 3)
    assert spread([1, 2, 4]) == pytest.approx(np.std([1, 2, 4]))
    rectified = dj.Circuit(lambda *x: relu(np.array(x)) + where(np.array(x) == x[0], 1, 0), 3)
    assert rectified([1, -2, 4]).tolist() == [2, 0, 4]
    mixed = dj.Circuit(lambda x, y: np.sum(x * b + sigmoid(np.array([x, y, y]))), 2)
    assert mixed([0, 0]) == 1.5
    product = dj.Circuit(lambda *x: np.tensordot(np.array(x), b, 1), 3)
    assert product([5, 1, 2]) == 5  # from an array without axes
    product = dj.Circuit(lambda x, y: np.squeeze(np.array([x])) * y + y * np.array(x), 2)
    assert product([3, 5]) == 30
    assert dot([1, 2], [3, 4]) == 11
    assert dj.Circuit(lambda x, y: dot([x, y], [y, 2]), 2)([3, 5]) == 25


@pytest.mark.parametrize("name", [
    "square", "reciprocal", "exp2", "log2", "log10", "sinh", "cosh", "fabs", "positive", "tan",
])  # fmt: skip
def test_functions_of_numpy_made_of_others(name):
    function = getattr(np, name)
    x = np.linspace(0.1, 1.4, 14)
    found = dj.Circuit(lambda x: function(x), 1)(x[:, None])
    assert np.allclose(found, function(x), 1e-14)
    if name != "positive":
        c = dj.Circuit(lambda *x: function(np.array(x)), 2)
        assert np.allclose(c([0.5, 1e-9]), function([0.5, 1e-9]), 1e-14)
    if "log" not in name:
        signed = np.array([-40, -1e-9, 1e-9, 40])
        assert np.allclose(dj.Circuit(function, 1)(signed[:, None]), function(signed), 1e-13)


def test_functions_of_two():
    for function in (np.logaddexp, np.float_power, np.true_divide):
        c = dj.Circuit(lambda x, y, function=function: function(x, y), 2)
        assert c([1.2, 0.7]) == pytest.approx(function(1.2, 0.7), rel=1e-14)
    assert dj.Circuit(lambda x, y: np.where(x < y, x, y), 2)([1, 2]) == 1
    assert dj.Circuit(lambda x: np.clip(x, -1, 1), 1)([[-3], [0.5], [3]]).tolist() == [-1, 0.5, 1]


def test_functions_of_numbers():
    """What NumPy lacks, outside of a circuit."""
    assert relu(-1.0) == 0
    assert sigmoid(0.0) == 0.5
    assert softplus(0.0) == np.log(2)
    assert sigmoid(-1000.0) == 0
    assert where(True, 1, 2) == 1
    assert np.array_equal(sigmoid(np.zeros(2)), [0.5, 0.5])
    assert dj.Circuit(lambda x: where(3 > 2, x, 2 * x), 1)([5]) == 5


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 7, 64, -1, -5, 0.5, 1.5, -0.5, 65, 100, -70])
def test_powers(exponent):
    c = dj.Circuit(lambda x: x**exponent, 1)
    x = np.array([0.9, 1.3, 2.0])
    assert np.allclose(c(x[:, None]), x**exponent, 1e-13)
    assert np.allclose(c.grad(x[:, None])[:, 0], exponent * x ** (exponent - 1), 1e-13)
    curve = exponent * (exponent - 1) * x ** (exponent - 2.0)
    assert np.allclose(c.hvp(x[:, None], [1])[:, 0], curve, 1e-12)


@pytest.mark.parametrize("x", [0.01, 50.0])
def test_negative_powers_are_in_range_where_their_derivatives_are(x):
    c = dj.Circuit(lambda x: x**-12, 1, dtype="float32")
    assert c([x]) == pytest.approx(x**-12, rel=1e-5)
    assert c.grad([x]) == pytest.approx(-12 * x**-13, rel=1e-5)
    assert c.hvp([x], [1]) == pytest.approx(156 * x**-14, rel=1e-5)


def test_powers_at_0_and_below():
    c = dj.Circuit(lambda x, y: x**y, 2)
    assert c([0, 2]) == 0
    assert c.grad([0, 2]).tolist() == [0, 0]
    assert c.hvp([[0, 0], [0, 1], [0, 2]], [1, 0]).tolist() == [[0, 0], [0, 0], [2, 0]]
    assert dj.Circuit(lambda x: x**101, 1).hvp([-1], [1]).tolist() == [-101 * 100]
    assert np.isnan(c([-1, 0.5]))
    assert dj.Circuit(lambda x: 2**x, 1).grad([3]) == pytest.approx(8 * np.log(2))


# ---------------------------------------------------------------- how functions are traced


def count(f, n_inputs):
    return dj.Circuit(f, n_inputs).n_operations


def test_equal_constant_and_dead_parts():
    assert count(lambda x, y: np.sin(x * y) + np.sin(y * x), 2) == 3
    assert count(lambda x, y: (x - y) * (y - x), 2) == 3
    assert count(lambda x: x * (np.float64(2) * 3 + np.exp(1.0)), 1) == 1
    assert count(lambda x: x + where(x > 0, 1, 2) * 0, 1) == 6  # it may be 0 times NaN

    def dead(x):
        np.exp(x)
        return x * x

    assert count(dead, 1) == 1
    assert count(lambda x: sum([x, x * 1, x / 1, x - 0, x**1]), 1) == 4
    assert count(lambda x, y: x, 2) == 0
    assert dj.Circuit(lambda x, y: x, 2).grad([1, 2]).tolist() == [1, 0]
    constant = dj.Circuit(lambda x: 3, 1)
    assert constant([1]) == 3
    assert constant.grad([1]).tolist() == [0]
    assert count(lambda x: (x * 0.0, x * -0.0), 1) == 2  # not the same number


def test_steps_are_in_an_order_that_works(monkeypatch):
    monkeypatch.setattr(blocks, "SEGMENT", 10_000)  # one segment, so that no row is used again
    c = dj.Circuit(random_function(3000, 5, pool=100), 6)
    program, graph = c.program, c.graph
    steps, runs = program.steps, program.runs
    assert sorted(graph.codes[graph.codes >= 0]) == sorted(
        np.repeat(runs[:, 0], runs[:, 2] - runs[:, 1])
    )
    assert len(runs) < c.n_operations / 2  # else there would be no use in runs
    assert runs[0, 1] == 0
    assert runs[-1, 2] == len(steps)
    assert (runs[1:, 1] == runs[:-1, 2]).all()
    known = set(range(program.constants.size + program.n_inputs))
    for v, x, y in steps.tolist():
        assert {x, y} <= known
        known.add(v)
    assert known == set(range(program.rows))


def test_segments_share_rows(monkeypatch):
    """A row that is used again is read by none but the segment that wrote it."""
    monkeypatch.setattr(blocks, "SEGMENT", 100)
    program = dj.Circuit(random_function(3000, 5, pool=100), 6).program
    ends = lowering._cuts(len(program.steps))
    assert len(ends) > 10
    table, writers = program.steps, {}
    for s, (begin, end) in enumerate(itertools.pairwise(ends)):
        for v in table[begin:end, 0].tolist():
            writers.setdefault(v, set()).add(s)
    first = min(v for v, segments in writers.items() if len(segments) > 1)
    known = set(range(program.constants.size + program.n_inputs))
    for begin, end in itertools.pairwise(ends):
        here = set()
        for v, x, y in table[begin:end].tolist():
            assert {x, y} <= known | here
            assert v not in known | here
            (known if v < first else here).add(v)
    assert program.rows - first <= 100
    assert program.rows < len(table) / 2


def test_operations_go_depth_first_if_so_fewer_rows_are_kept(monkeypatch):
    """All products first, then all sums: traced like this, no product is near its sum."""
    monkeypatch.setattr(blocks, "SEGMENT", 16)

    def f(*x):
        return sum([np.sin(a * k) for a in x for k in range(2, 22)])

    program = dj.Circuit(f, 20).program
    assert len(program.steps) == 3 * 400 - 1
    assert program.rows < 200  # 400 sines are needed far away in the traced order


def test_nothing_is_compiled_for_a_circuit():
    X = np.ones((3, 2))
    dj.Circuit(lambda x, y: x + y, 2).hvp(X, X)
    dj.Circuit(lambda x, y: x + y, 2).value_and_grad(X)
    before = compiler.in_use()
    other = dj.Circuit(random_function(50, 0), 7)
    other.value_and_grad(np.ones((99, 7)))
    other.hvp(np.ones(7), np.ones(7))
    added = compiler.in_use() - before
    assert all(name.startswith("runs.") for name in added)  # of operations that it has alone


def test_a_circuit_can_be_pickled():
    c = dj.Circuit(textbook, 3, ties="first", dtype="float32")
    same = pickle.loads(pickle.dumps(c))
    assert repr(same) == repr(c) == "Circuit(3 inputs, 3 operations, 1 output, float32)"
    assert same.value_and_grad([1, 2, 2])[1].tolist() == c.grad([1, 2, 2]).tolist() == [2, 5, 0]
    assert str(same.trace([1, 2, 2])) == str(c.trace([1, 2, 2]))


def test_threads_have_memory_of_their_own():
    c = dj.Circuit(random_function(300, 1), 4)
    X = np.random.default_rng(0).normal(size=(8, 200, 4))
    expected_grads, found = [c.grad(x) for x in X], [None] * 8

    def work(i):
        for _ in range(20):
            found[i] = c.grad(X[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(found, expected_grads, strict=True))


# ---------------------------------------------------------------- in a user's jitted code


@numba.njit
def newton(program, x, steps, value, grad, product, v, work):
    """Minimize a function of one variable."""
    for _ in range(steps):
        kernels.value_and_grad(program, x, value, grad, work)
        kernels.hvp(program, x, v, product, work)
        x[0] -= grad[0] / product[0]
    kernels.evaluate(program, x, value, work)
    return value[0]


def test_in_jitted_code():
    c = dj.Circuit(lambda x: np.exp(x) - 3 * x, 1)
    x, (value, grad, product), v = np.array([0.5]), np.empty((3, 1)), np.ones(1)
    smallest = newton(c.program, x, 8, value, grad, product, v, c.workspace(1, 2))
    assert x[0] == pytest.approx(np.log(3), rel=1e-15)
    assert smallest == pytest.approx(3 - 3 * np.log(3), rel=1e-14)


def arguments(c, batch):
    """Of each kernel, arrays that fit."""
    shape = (batch, c.n_inputs)
    X, out = np.ones(shape), np.zeros((batch, c.n_outputs))
    return {
        kernels.evaluate: (X, out, c.workspace(batch)),
        kernels.value_and_grad: (X, out, np.zeros((*out.shape, c.n_inputs)), c.workspace(batch)),
        kernels.hvp: (X, np.ones(shape), np.zeros(shape), c.workspace(batch, 2)),
    }


@pytest.mark.parametrize("batch", [1, 5])
def test_arrays_that_do_not_fit_are_refused(batch):
    c = dj.Circuit(textbook, 3)
    for kernel, right in arguments(c, batch).items():
        kernel(c.program, *right)
        for i, array in enumerate(right):
            changed = [array[..., :-1], array[:-1], array.repeat(2, axis=-1)]
            if array.shape != (batch, 1) and batch > 1:  # a column may be a vector
                changed.append(array.T)
            if i == len(right) - 1:
                changed = [array[:-1]]  # it may be larger
            for wrong in map(np.ascontiguousarray, changed):
                if wrong.shape == array.shape:
                    continue
                given = list(right)
                given[i] = wrong
                before = [x.copy() for x in given[:-1]]
                with pytest.raises(ValueError, match=r"must have|too small"):
                    kernel(c.program, *given)
                assert all(map(np.array_equal, before, given[:-1]))
    two, x = dj.Circuit(lambda x: [x, x], 1), np.ones(1)
    with pytest.raises(ValueError, match="one output"):
        kernels.hvp(two.program, x, x, x.copy(), two.workspace(1, 2))
    found = interpreter._evaluate(status.VERSION + 1, c.program, *arguments(c, 1)[kernels.evaluate])
    assert found == status.STALE
    with pytest.raises(TypeError, match="one dtype, here float64"):
        kernels.evaluate(c.program, np.ones((1, 3), "float32"), np.ones(1), c.workspace(1))


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x, y: x if x > 0 else y, r"write dj.circuit.where\(x > 0, a, b\)"),
        (lambda x, y: max(x, y), r"np.maximum\(a, b\)"),
        (lambda x, y: x and y, r"dj.circuit.where"),
        (lambda x, y: sorted([x, y])[0], r"dj.circuit.where"),
        (lambda x, y: float(x), r"write np.exp\(x\)"),
        (lambda x, y: __import__("math").exp(x), r"write np.exp\(x\)"),
        (lambda x, y: [1, 2][x], r"not numbers yet"),
        (lambda x, y: round(x), r"leave out float\(x\) and round\(x\)"),
        (lambda x, y: np.arctan(x), r"np.arctan of a traced value is not for a Circuit.*np.tanh"),
        (lambda x, y: np.add.reduce(x), r"np.add.reduce"),
        (lambda x, y: np.add(x, y, out=np.zeros(1)), r"np.add of \['out'\]"),
        (lambda x, y: np.median([x, y]), r"dj.circuit.where"),
        (lambda x, y: np.dot(x, y), r"np.dot is not for traced values"),
        (lambda x, y: (x > 0) & (y > 0), r"write a \* b for a & b"),
        (lambda x, y: ~(x > 0), r"1 - a for ~a"),
        (lambda x, y: None, "f must return a scalar, or a list or vector of scalars, got None"),
        (lambda x, y: [[x]], "f must return a scalar, or a list"),
        (lambda x, y: [], "f must return a scalar, or a list"),
        (lambda x, y: sum(x), r"f\(x1, ..., xn\).*write f\(\*x\)"),
        (lambda x, y: x + "1", r"goes with numbers and traced values, not with '1'"),
        (lambda x, y: x + 1j, r"not with 1j"),
        (lambda x, y: "x", "got 'x'"),
        (lambda x: x, r"f\(x\) does not take n_inputs=2 scalars \(too many.*write f\(\*x\)"),
    ],
)
def test_functions_that_can_not_be_traced(f, message):
    with pytest.raises(TypeError, match=message):
        dj.Circuit(f, 2)


def test_other_bad_input():
    c, two = dj.Circuit(textbook, 3), dj.Circuit(lambda x: [x, x], 1)
    kept = []
    dj.Circuit(lambda x: kept.append(x) or x, 1)
    for call, error, message in [
        (lambda: dj.Circuit(3, 2), TypeError, "f must be a function"),
        (lambda: dj.Circuit(textbook, 0), ValueError, "n_inputs must be >= 1"),
        (lambda: dj.Circuit(textbook, 3, ties="none"), ValueError, "ties='none' is unknown"),
        (lambda: dj.Circuit(textbook, 3, dtype="int8"), TypeError, "dtype must be float32"),
        (lambda: dj.Circuit(lambda x: x + kept[0], 1), ValueError, "kept from another call"),
        (lambda: c([1, 2]), ValueError, r"x must have shape \(batch, 3\) or \(3,\), got \(2,\)"),
        (lambda: c.grad(["a", "b", "c"]), TypeError, "x must hold real numbers"),
        (lambda: c.hvp([1, 2, 3], [1, 2]), ValueError, "v must have shape"),
        (lambda: c.hvp(np.ones((4, 3)), np.ones((2, 3))), ValueError, "v must have shape"),
        (lambda: two.grad([1]), ValueError, "grad is of a function that returns one scalar"),
        (lambda: two.value_and_grad([1]), ValueError, "use jacobian"),
        (lambda: two.hvp([1], [1]), ValueError, "hvp is of a function"),
        (lambda: two.trace([1], output=2), ValueError, "output must be less than 2"),
        (lambda: c.trace(np.ones((2, 3))), ValueError, "x must be one point"),
        (lambda: c.workspace(0), ValueError, "batch must be >= 1"),
        (lambda: c.workspace(1, 3), ValueError, "order must be 1 or 2"),
        (lambda: dot([1], [1, 2]), ValueError, "x and y must have one length"),
    ]:
        with pytest.raises(error, match=message):
            call()
    assert c(np.empty((0, 3))).shape == (0,)
    assert c.grad(np.empty((0, 3))).shape == (0, 3)


def test_the_picture_of_a_circuit():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    c = dj.Circuit(textbook, 3)
    ax = c.plot([1, 2, 0])
    texts = [text.get_text() for text in ax.texts]
    assert "v3 = v1 * v2\n6" in texts
    assert {"2", "5", "0", "1", "3"} <= set(texts)
    assert c.plot([1, 2, 0], ax=ax) is ax
    with pytest.raises(ValueError, match="nodes can't be read"):
        dj.Circuit(random_function(100, 0), 3).plot([1, 2, 3])
    pyplot.close("all")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cpu", "features"),
    [
        ("generic", ""),
        ("haswell", "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma"),
    ],
)
def test_other_instruction_sets(cpu, features):
    """All of the above, for CPUs that have less."""
    env = os.environ | {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    subprocess.run([sys.executable, "-m", "pytest", "-q", __file__], check=True, env=env)
