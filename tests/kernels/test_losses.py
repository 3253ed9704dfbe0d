"""Every loss beside every output that it goes with: BP1's delta, and how it turns.

The list is made from the registries, so whoever adds a loss or an output has it tested here.
"""

import itertools
import math

import numpy as np
import pytest
from deltajit.kernels import ACTIVATIONS, LOSSES
from deltajit.kernels.mlp.losses import Options

import deltajit as dj
from deltajit import kernels, reference
from tests.helpers.networks import ANY_OUTPUT, DTYPES, make_targets

N_OUT, BATCH = 4, 9


def go_together(output, loss):
    try:
        dj.Network([1, N_OUT], output=output, loss=loss)
    except ValueError:
        return False
    return True


# Those of the user's come later, by name: tests of their own register some.
OURS = [loss for loss in LOSSES if not loss.startswith("circuit ")]
ENDS = [pair for pair in itertools.product(list(ACTIVATIONS), OURS) if go_together(*pair)]
each_end = pytest.mark.parametrize(("output", "loss"), ENDS)


def test_no_loss_and_no_output_is_left_out():
    assert {loss for _, loss in ENDS} == set(OURS)
    assert {"identity", "softmax", "sigmoid", "exp", "gaussian"} <= {output for output, _ in ENDS}


def case(output, loss, dtype, bend=0.3):
    """A layer without inputs, whose biases are its logits; their gradient is delta."""
    parameter = LOSSES[loss].parameter
    options = {} if parameter is None else {parameter: bend}
    net = dj.Network([1, N_OUT], output=output, loss=loss, dtype=dtype, **options)
    rng = np.random.default_rng(0)
    z, v = 2 * rng.normal(size=(2, BATCH, N_OUT)).astype(dtype)
    z[0] = 0
    return net, z, v, make_targets(rng, loss, BATCH, N_OUT).astype(dtype)


def at(net, z):
    """The network whose logits these are."""
    W, b = net.unflatten(net.theta)
    W[0][:], b[0][:] = 0, z
    return net


def losses_at(model, z, Y):
    a = reference.activate(model.activations[-1], z, model.slope)
    return reference.sample_losses(model.loss, z, a, Y, model.bend)


def delta_at(model, z, Y):
    return reference.output_delta(model, reference.activate(model.activations[-1], z), Y)


@each_end
def test_delta_of_the_reference_is_the_derivative_of_its_loss(output, loss):
    net, z, _, Y = case(output, loss, "float64")
    model, step = net.reference, 1e-30
    for j in range(N_OUT):
        moved = z + 1j * step * np.eye(N_OUT)[j]
        slope = losses_at(model, moved, Y).imag / step
        np.testing.assert_allclose(delta_at(model, z, Y)[:, j], slope, 1e-12, 1e-13)


@each_end
@pytest.mark.parametrize("dtype", DTYPES)
def test_delta_of_the_kernels_is_that_of_the_reference(output, loss, dtype):
    net, z, v, Y = case(output, loss, dtype)
    tolerance = {"float32": 2e-5, "float64": 1e-12}[dtype]
    model = net.reference
    wide = [x.astype(float) for x in (z, v, Y)]
    values, delta = losses_at(model, wide[0], wide[2]), delta_at(model, wide[0], wide[2])
    turned = delta_at(model, wide[0] + 1e-30j * wide[1], wide[2]).imag / 1e-30
    x, one = np.zeros((1, 1)), np.ones(1)
    for b in range(BATCH):
        at(net, z[b])
        direction = net.flatten([np.zeros((N_OUT, 1))], [v[b]])
        for weight in (None, one):  # which go different ways
            value, grad = net.value_and_grad(x, Y[b : b + 1], weight)
            product = net.hvp(x, Y[b : b + 1], direction, sample_weight=weight)
            assert value == pytest.approx(values[b], rel=tolerance, abs=tolerance)
            for found, want in ((grad, delta[b]), (product, turned[b])):
                found = net.unflatten(found)[1][0]
                np.testing.assert_allclose(found, want, tolerance, tolerance)


SIZES = [0, 1e-20, 1e-6, 1e-3, 0.2, 0.5, 1, 2, 5, 20, 88, 104, 1000, 1e8, 1e15]
RESIDUALS = [*SIZES, *(-x for x in SIZES[1:])]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", ANY_OUTPUT)
def test_residuals_tiny_and_huge(loss, dtype):
    """In float64 the reference has all digits, and so have the kernels."""
    net, x, y = dj.Network([1, 1], loss=loss, dtype=dtype), np.zeros((1, 1)), np.zeros((1, 1))
    tolerance = {"float32": 2e-6, "float64": 1e-14}[dtype]
    for r in RESIDUALS:
        r = float(np.array(r, dtype))
        model = at(net, r).reference
        a = np.array([[r]])
        values = [
            reference.sample_losses(loss, a, a, y, model.bend),
            reference.output_delta(model, a, y),
            reference.LOSSES[loss].curved(a, y, x + 1, x + 1, model.bend),
        ]
        found = [net.loss(x, y), net.grad(x, y)[1], net.hvp(x, y, [0, 1])[1]]
        for want, value in zip(values, found, strict=True):
            np.testing.assert_allclose(value, want.item(), tolerance, np.finfo(dtype).eps ** 2)


# ---------------------------------------------------------------- variances out of range


@pytest.mark.parametrize(
    ("dtype", "log_variance", "r", "value", "grad", "turned", "fisher"),
    [
        # exp(-110) is 0 in float32, exp(-800) in float64: exact where there is no residual.
        ("float32", -110, 0, -55, (0, 0.5), (0, 0), (0, 0.5)),
        ("float64", -800, 0, -400, (0, 0.5), (0, 0), (0, 0.5)),
        ("float32", -110, 1, 0.5 * math.exp(110) - 55, (math.inf, -math.inf), None, (0, 0.5)),
        ("float32", 110, 3, 55, (0, 0.5), (0, 0), (0, 0.5)),  # exp(110) is infinite there
        ("float64", 800, 3, 400, (0, 0.5), (0, 0), (0, 0.5)),
        ("float32", 0, 1e25, 0.5e50, (1e25, -math.inf), None, (0, 0.5)),
        ("float64", 700, 1e200, 0.5e200 * (1e200 / math.exp(700)), None, None, (0, 0.5)),
    ],
)
def test_variances_out_of_range(dtype, log_variance, r, value, grad, turned, fisher):
    net = at(dj.Network([1, 2], output="gaussian", dtype=dtype), [r, log_variance])
    x, y = np.zeros((1, 1)), np.zeros((1, 1))
    direction = net.flatten([np.zeros((2, 1))], [[0, 1]])  # of log(variance)
    assert net.loss(x, y) == pytest.approx(value, rel=1e-6)
    assert reference.loss(net.reference, x, y) == pytest.approx(value, rel=1e-6) or r > 0
    for want, found in [
        (grad, net.grad(x, y)),
        (turned, net.hvp(x, y, direction)),
        (fisher, net.gnvp(x, y, direction)),
    ]:
        if want is not None:
            np.testing.assert_allclose(net.unflatten(found)[1][0], want, 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_variance_that_is_nan_is_not_swallowed(dtype):
    net = at(dj.Network([1, 2], output="gaussian", dtype=dtype), [0, math.nan])
    value, grad = net.value_and_grad(np.zeros((1, 1)), np.zeros((1, 1)))
    assert np.isnan(value)
    assert np.isnan(net.unflatten(grad)[1][0]).all()


# ---------------------------------------------------------------- focal

FOCAL = [("focal", "cross_entropy"), ("binary_focal", "binary_cross_entropy")]


def focal_pair(dtype, **options):
    """A network of each focal loss, and the cross entropy it is made of."""
    for pair in FOCAL:
        yield [
            dj.Network([1, 3], loss=name, dtype=dtype, **given)
            for name, given in zip(pair, (options, {}), strict=True)
        ]


def test_focal_of_gamma_0_is_a_cross_entropy():
    rng = np.random.default_rng(0)
    for focal, plain in focal_pair("float64", gamma=0):
        X, Y, v = rng.normal(size=(5, 1)), rng.uniform(size=(5, 3)), rng.normal(size=plain.n_params)
        assert focal.loss(X, Y) == pytest.approx(plain.loss(X, Y), rel=1e-14)
        for name in ("hvp", "gnvp"):
            want = getattr(plain, name)(X, Y, v)
            np.testing.assert_allclose(getattr(focal, name)(X, Y, v), want, 1e-12, 1e-14)
        np.testing.assert_allclose(focal.grad(X, Y), plain.grad(X, Y), 1e-12, 1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", [0.5, 2])
def test_focal_of_sure_outputs(dtype, gamma):
    """What is sure and right costs nothing, what is sure and wrong as much as a cross entropy."""
    x, z, v = np.zeros((1, 1)), [1000, -1000, -1000], np.arange(6.0)
    for focal, plain in focal_pair(dtype, gamma=gamma):
        for y, factor in (([1, 0, 0], 0), ([0, 1, 1], 1)):
            found, want = at(focal, z), at(plain, z)
            assert found.loss(x, [y]) == factor * want.loss(x, [y])
            np.testing.assert_array_equal(found.grad(x, [y]), factor * want.grad(x, [y]))
            assert np.isfinite([found.hvp(x, [y], v), found.gnvp(x, [y], v)]).all()


def test_focal_of_labels_is_that_of_rows_and_no_class_gives_nan():
    net = dj.Network([1, 3], loss="focal", gamma=1.5, rng=1)
    X, labels, v = np.ones((3, 1), "float32"), np.array([2, 0, 1]), np.ones(6)
    rows = np.eye(3)[labels]
    assert net.loss(X, labels) == net.loss(X, rows)
    nets = dj.Ensemble([1, 3], 2, loss="focal", gamma=1.5, rng=1)
    assert nets.loss(X, labels)[0] == net.loss(X, labels)
    for name, more in (("grad", ()), ("hvp", (v,)), ("gnvp", (v,))):
        found = getattr(net, name)(X, labels, *more)
        np.testing.assert_array_equal(found, getattr(net, name)(X, rows, *more))
    probability = net.predict(X)[range(3), labels].astype(float)
    assert net.loss(X, labels) == pytest.approx(
        np.mean(-((1 - probability) ** 1.5) * np.log(probability)), rel=1e-6
    )
    for wrong in (-1, 3, math.nan):
        y, grad = np.full((1, 1), wrong, "float32"), np.empty_like(net.theta)
        assert math.isnan(kernels.value_and_grad(net.model, X[:1], y, grad, net.workspace(1)))
        assert np.isnan(grad).all()


@pytest.mark.parametrize("gamma", [-1, math.nan, "2"])
def test_a_gamma_that_is_none(gamma):
    with pytest.raises((ValueError, TypeError), match="gamma must be"):
        dj.Network([1, 3], loss="focal", gamma=gamma)


@pytest.mark.parametrize("dtype", DTYPES)
def test_short_rows_of_softmax_and_labels(dtype):
    """A vector of rows is transposed: their bits are those of each row, and labels are weighted."""
    rng, empty = np.random.default_rng(3), np.empty(0, dtype)
    softmax, total = ACTIVATIONS["softmax"].activate, LOSSES["cross_entropy"].total
    tolerance = {"float32": 1e-6, "float64": 1e-14}[dtype]
    for n, gap in itertools.product([2, 3, 5, 8, 9, 16, 17, 33, 65], (0, 800)):
        z = 3 * rng.normal(size=(37, n)).astype(dtype)
        labels, weights = rng.integers(n, size=37), rng.uniform(0.5, 2, 37).astype(dtype)
        z[3, labels[3]] -= gap  # of 800, the label's probability underflows
        a, in_place = np.empty_like(z), z.copy()
        softmax(z, a, 0.0)
        softmax(in_place, in_place, 0.0)
        np.testing.assert_array_equal(in_place, a)
        for b in (0, 20, 36):
            alone = np.empty((1, n), dtype)
            softmax(z[b : b + 1], alone, 0.0)
            np.testing.assert_array_equal(a[b], alone[0])
        losses = reference.sample_losses("cross_entropy", z.astype(float), a, np.eye(n)[labels])
        Y = labels.astype(dtype)[:, None]
        for w, expected in ((empty, losses.sum()), (weights, weights @ losses)):
            value = total(z, a, Y, w, Options(0.0, 0), empty)
            assert value == pytest.approx(expected, rel=tolerance)
        Y[5] = n
        assert math.isnan(total(z, a, Y, empty, Options(0.0, 0), empty))
