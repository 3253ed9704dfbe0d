"""Networks whose weights are written down compute what they are said to, all of it."""

import copy
import itertools
import math
import pickle
import re

import numpy as np
import pytest
from matplotlib.path import Path

import deltajit as dj
from deltajit import constructions
from tests.helpers.networks import DTYPES, relative_error

SQUARE = [[0, 0], [4, 0], [4, 4], [0, 4]]


def rows(n):
    """Every input of n bits, in the order of a truth table."""
    return np.array(list(itertools.product((0, 1), repeat=n)), float)


def outputs(net, X):
    return net.predict(X)[:, 0]


def convex(rng, m):
    """m corners of a convex polygon, in order around it: points of an ellipse, at random."""
    angles = 2 * np.pi * np.cumsum(rng.uniform(0.5, 1.5, m)) / (1.5 * m)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    return circle @ rng.normal(size=(2, 2)) + rng.normal(size=2)


# -------------------------------------------------------------------- logic


@pytest.mark.parametrize("n", range(1, 8))
def test_gates(n):
    X = rows(n)
    np.testing.assert_array_equal(outputs(constructions.and_gate(n), X), X.all(axis=1))
    np.testing.assert_array_equal(outputs(constructions.or_gate(n), X), X.any(axis=1))


def test_not_and_xor():
    np.testing.assert_array_equal(outputs(constructions.not_gate(), rows(1)), [1, 0])
    np.testing.assert_array_equal(outputs(constructions.xor(), rows(2)), [0, 1, 1, 0])
    assert constructions.xor().sizes == (2, 2, 1)


def test_threshold_gate_is_off_at_its_threshold():
    net = constructions.threshold_gate([2, -3, 1], 1)
    X = np.array(list(itertools.product(range(-3, 4), repeat=3)))
    sums = X @ [2, -3, 1]
    assert (sums == 1).any()
    np.testing.assert_array_equal(outputs(net, X), sums > 1)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_every_boolean_function(n):
    for table in itertools.product((0, 1), repeat=2**n):
        net = constructions.boolean(table)
        assert net.sizes == (n, max(sum(table), 1), 1)
        np.testing.assert_array_equal(outputs(net, rows(n)), table)


@pytest.mark.parametrize("n", range(4, 11))
def test_random_boolean_functions(n):
    rng = np.random.default_rng(n)
    for share in (0.1, 0.5, 0.9):
        table = rng.uniform(size=2**n) < share
        np.testing.assert_array_equal(outputs(constructions.boolean(table), rows(n)), table)


@pytest.mark.parametrize("n", [4, 10])
def test_boolean_constants_and_parity(n):
    for table in (np.zeros(2**n, bool), np.ones(2**n, bool), rows(n).sum(axis=1) % 2):
        np.testing.assert_array_equal(outputs(constructions.boolean(table), rows(n)), table)


# -------------------------------------------------------------------- regions of the plane


@pytest.mark.parametrize("m", [3, 4, 5, 8, 13])
def test_convex_polygon(m):
    rng = np.random.default_rng(m)
    for _ in range(10):
        corners = convex(rng, m)
        X = rng.uniform(corners.min(axis=0) - 0.2, corners.max(axis=0) + 0.2, (2000, 2))
        inside = Path(corners).contains_points(X)
        assert inside.any()
        assert not inside.all()
        for vertices in (corners, corners[::-1], np.roll(corners, 1, axis=0).tolist()):
            net = constructions.convex_polygon(vertices)
            assert net.sizes == (2, m, 1)
            np.testing.assert_array_equal(outputs(net, X), inside)


def test_sides_are_outside():
    X = np.array(list(itertools.product(np.arange(-2, 13) / 2, repeat=2)))
    for vertices in (SQUARE, SQUARE[::-1]):
        found = outputs(constructions.convex_polygon(vertices), X)
        np.testing.assert_array_equal(found, ((X > 0) & (X < 4)).all(axis=1))


@pytest.mark.parametrize("p", [1, 2, 5])
def test_union_of_polygons(p):
    rng = np.random.default_rng(p)
    for _ in range(10):
        polygons = [convex(rng, m) for m in rng.integers(3, 9, p)]
        net = constructions.union_of_polygons(polygons)
        assert net.sizes == (2, sum(map(len, polygons)), p, 1)
        X = rng.uniform(-3, 3, (2000, 2))
        inside = np.any([Path(corners).contains_points(X) for corners in polygons], axis=0)
        np.testing.assert_array_equal(outputs(net, X), inside)


def test_union_is_without_the_side_that_two_have_in_common():
    left, right = np.array(SQUARE), np.add(SQUARE, [4, 0])
    net = constructions.union_of_polygons([left, right])
    np.testing.assert_array_equal(outputs(net, [[3, 2], [4, 2], [5, 2], [9, 2]]), [1, 0, 1, 0])


# -------------------------------------------------------------------- functions of one variable


def test_pulse():
    net = constructions.pulse(-0.3, 0.7, height=-2.5)
    x = np.linspace(-2, 2, 4001)
    x = np.concatenate([x, *(np.nextafter(x0, [-9, x0, 9]) for x0 in (-0.3, 0.7))])
    np.testing.assert_array_equal(outputs(net, x[:, None]), -2.5 * ((x > -0.3) & (x <= 0.7)))


def test_smooth_pulse():
    x = np.linspace(-2, 2, 401)
    square = 3.0 * ((x > -0.3) & (x <= 0.7))
    away = np.minimum(abs(x + 0.3), abs(x - 0.7))
    for steepness in (1.0, 10.0, 1000.0):
        net = constructions.pulse(-0.3, 0.7, height=3, steepness=steepness)
        up, down = (1 / (1 + np.exp(np.minimum(-steepness * (x - x0), 700))) for x0 in (-0.3, 0.7))
        found = outputs(net, x[:, None])
        np.testing.assert_allclose(found, 3 * (up - down), rtol=0, atol=1e-12)
        assert (abs(found - square) <= 6 * np.exp(-steepness * away) + 1e-12).all()


@pytest.mark.parametrize(("f", "lipschitz"), [(math.sin, 1.0), (math.exp, math.exp(3))])
def test_error_of_a_staircase_halves_when_n_doubles(f, lipschitz):
    counts = 2 ** np.arange(2, 11)
    x = np.linspace(-2, 3, 200_001)
    expected = np.array([f(value) for value in x])
    errors = []
    for n in counts.tolist():
        net = constructions.staircase(f, -2, 3, n)
        assert net.sizes == (1, n - 1, 1)
        errors.append(abs(outputs(net, x[:, None]) - expected).max())
        assert errors[-1] <= lipschitz * 5 / (2 * n) * (1 + 1e-9)
    slope, _ = np.polyfit(np.log(counts), np.log(errors), 1)
    assert slope == pytest.approx(-1, abs=0.1)


def test_stairs_have_the_heights_of_their_midpoints():
    net = constructions.staircase(lambda x: x * x, 0, 4, 4)
    x = [-5, 0, 0.5, 1, 1.1, 2, 2.1, 3, 3.1, 4, 9]
    heights = [0.25, 0.25, 0.25, 0.25, 2.25, 2.25, 6.25, 6.25, 12.25, 12.25, 12.25]
    np.testing.assert_array_equal(outputs(net, np.reshape(x, (-1, 1))), heights)


def test_staircase_of_pulses_is_the_same():
    heights, edges = [1.0, -2.0, 0.5], [0, 1, 2, 3]
    x = np.linspace(0.01, 3, 300)[:, None]
    parts = [
        constructions.pulse(edges[i], edges[i + 1], height=heights[i]).predict(x) for i in range(3)
    ]
    stairs = constructions.staircase(lambda x: heights[int(x)], 0, 3, 3)
    np.testing.assert_array_equal(stairs.predict(x), sum(parts))


# -------------------------------------------------------------------- what all have in common


def test_networks_like_any_other():
    net = constructions.xor()
    assert net.dtype == np.float64
    assert net.architecture.activations == ("step", "step")
    square, smooth = constructions.pulse(0, 1), constructions.pulse(0, 1, steepness=9)
    assert square.architecture.activations == ("step", "identity")
    assert smooth.architecture.activations == ("sigmoid", "identity")
    assert net.predict([1, 0]) == [1]
    np.testing.assert_array_equal(outputs(pickle.loads(pickle.dumps(net)), rows(2)), [0, 1, 1, 0])


PENTAGRAM = [[np.cos(0.8 * np.pi * i), np.sin(0.8 * np.pi * i)] for i in range(5)]
BAD = [
    (lambda c: c.threshold_gate(1.0, 0), ValueError, "weights must have shape (n,)"),
    (lambda c: c.threshold_gate([], 0), ValueError, "got (0,)"),
    (lambda c: c.threshold_gate(["a"], 0), TypeError, "weights must hold real numbers"),
    (lambda c: c.threshold_gate([np.nan], 0), ValueError, "weights has NaN or inf"),
    (lambda c: c.threshold_gate([1], np.inf), ValueError, "threshold must be a finite number"),
    (lambda c: c.threshold_gate([1], "x"), TypeError, "threshold must be a number"),
    (lambda c: c.and_gate(0), ValueError, "n must be >= 1, got 0"),
    (lambda c: c.or_gate(2.0), TypeError, "n must be a whole number"),
    (lambda c: c.boolean([]), ValueError, "table must have shape (2**n,), n >= 1; got (0,)"),
    (lambda c: c.boolean([1]), ValueError, "got (1,)"),
    (lambda c: c.boolean(1), ValueError, "got ()"),
    (lambda c: c.boolean([0, 1, 1]), ValueError, "got (3,)"),
    (lambda c: c.boolean([[0, 1], [1, 0]]), ValueError, "got (2, 2)"),
    (lambda c: c.boolean([0, 2]), ValueError, "table must hold 0 and 1 only, got 2.0"),
    (lambda c: c.boolean([0, np.nan]), ValueError, "table must hold 0 and 1 only, got nan"),
    (lambda c: c.boolean("01"), TypeError, "table must hold real numbers"),
    (lambda c: c.convex_polygon(SQUARE[:2]), ValueError, "(m, 2), m >= 3; got (2, 2)"),
    (lambda c: c.convex_polygon(np.ones((4, 3))), ValueError, "got (4, 3)"),
    (lambda c: c.convex_polygon(1), ValueError, "got ()"),
    (lambda c: c.convex_polygon([[0, 0], [1, np.inf], [2, 0]]), ValueError, "first at [1, 1]"),
    (lambda c: c.convex_polygon([[0, 0], [1], [2, 0]]), ValueError, "vertices is ragged"),
    (lambda c: c.convex_polygon([[0, 0], [4, 0], [1, 1], [0, 4]]), ValueError, "no three on one"),
    (lambda c: c.convex_polygon([[0, 0], [1, 1], [2, 2]]), ValueError, "but [2] is not at"),
    (lambda c: c.convex_polygon([[0, 0], [2, 0], [4, 0], [4, 4]]), ValueError, "[0] and [1]"),
    (lambda c: c.convex_polygon([*SQUARE, SQUARE[0]]), ValueError, "vertices must go around"),
    (lambda c: c.convex_polygon(SQUARE * 2), ValueError, "vertices must go around"),
    (lambda c: c.convex_polygon([[1, 2]] * 3), ValueError, "vertices must go around"),
    (lambda c: c.convex_polygon([SQUARE[i] for i in (0, 2, 1, 3)]), ValueError, "go around"),
    (lambda c: c.convex_polygon(PENTAGRAM), ValueError, "vertices must go around"),
    (lambda c: c.union_of_polygons([]), ValueError, "polygons has none; at least 1 is needed"),
    (lambda c: c.union_of_polygons(3), TypeError, "polygons must be a list of polygons"),
    (lambda c: c.union_of_polygons(SQUARE), ValueError, "polygons[0] must have shape (m, 2)"),
    (lambda c: c.union_of_polygons([SQUARE, PENTAGRAM]), ValueError, "polygons[1] must go around"),
    (lambda c: c.pulse(1, 1), ValueError, "end must be greater than begin=1.0, got 1.0"),
    (lambda c: c.pulse("a", 1), TypeError, "begin must be a number"),
    (lambda c: c.pulse(0, np.nan), ValueError, "end must be a finite number"),
    (lambda c: c.pulse(0, 1, height=np.inf), ValueError, "height must be a finite number"),
    (lambda c: c.pulse(0, 1, steepness=0), ValueError, "steepness must be greater than 0"),
    (lambda c: c.staircase(3, 0, 1, 4), TypeError, "f must be a function of one number"),
    (lambda c: c.staircase(math.sin, 1, 0, 4), ValueError, "end must be greater than begin"),
    (lambda c: c.staircase(math.sin, 0, 1, 1), ValueError, "n must be >= 2, got 1"),
    (lambda c: c.staircase(lambda x: math.nan, 0, 1, 2), ValueError, "f(0.25) must be a finite"),
    (lambda c: c.staircase(lambda x: None, 0, 1, 2), TypeError, "f(0.25) must be a number"),
]


@pytest.mark.parametrize(("make", "error", "says"), BAD, ids=[says for _, _, says in BAD])
def test_bad_input(make, error, says):
    with pytest.raises(error, match=re.escape(says)):
        make(constructions)


# -------------------------------------------------------------------- what depth alone can't


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", [[], [7], [5, 9], [16, 1, 16, 8, 4]])
def test_collapse(dtype, hidden):
    rng = np.random.default_rng(len(hidden))
    net = dj.Network([6, *hidden, 3], "identity", "softmax", dtype=dtype, l2=0.1, threads=1)
    for b in net.biases:
        b[:] = rng.normal(size=b.shape)
    before = net.theta.copy()
    one = net.collapse()
    assert one.sizes == (6, 3)
    assert one.threads == 1
    np.testing.assert_array_equal(net.theta, before)
    assert not np.shares_memory(one.theta, net.theta)

    # The product from the other end, in extended precision.
    W, b = np.eye(3, dtype=np.longdouble), np.zeros(3, np.longdouble)
    for own_W, own_b in zip(net.weights[::-1], net.biases[::-1], strict=True):
        W, b = W @ own_W, W @ own_b + b
    eps = np.finfo(dtype).eps
    rounding = eps + 16 * np.finfo(float).eps  # of the result, and of the sums
    assert relative_error(one.weights[0], W) <= rounding
    assert relative_error(one.biases[0], b) <= rounding
    X = rng.normal(size=(100, 6))
    assert relative_error(one.predict(X), net.predict(X)) <= 16 * eps


def test_collapse_carries_everything_over():
    options = dict(l2=0.2, l1=0.3, slope=0.5, threshold=2.0)
    net = dj.Network([3, 4, 2], "identity", "leaky_relu", "huber", dtype="float64", **options)
    one = net.collapse().architecture
    plain = dj.Network([3, 2], "identity", "leaky_relu", "huber", dtype="float64", **options)
    assert one == plain.architecture


def test_collapse_leaves_the_generator_alone():
    net = dj.Network([3, 4, 2], "identity", rng=5)
    twin = copy.deepcopy(net)
    X, Y = np.ones((20, 3)) * np.arange(20)[:, None] / 20, np.ones((20, 2))
    one = net.collapse()
    one.fit(X, Y, epochs=1, progress=False)
    for each in (net, twin):
        each.fit(X, Y, epochs=1, batch_size=4, progress=False)
    np.testing.assert_array_equal(net.theta, twin.theta)


@pytest.mark.parametrize("activation", ["tanh", "relu", "step"])
def test_only_identity_layers_collapse(activation):
    net = dj.Network([3, 4, 5, 2], ["identity", activation])
    says = f"'identity' in every hidden layer, but that of hidden layer 2 is '{activation}'"
    with pytest.raises(ValueError, match=says):
        net.collapse()
