"""A circuit as the loss of a network: everything that a loss does, against NumPy and our own."""

import pickle
import warnings

import numpy as np
import pytest

import deltajit as dj
from deltajit import kernels, reference
from tests.helpers.networks import (
    DTYPES,
    complex_step_grad,
    reference_grad,
    relative_error,
)

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def squared(o1, o2, y1, y2):
    return 0.5 * ((o1 - y1) ** 2 + (o2 - y2) ** 2)


def curved(o1, o2, y):
    """Neither convex, nor a sum over outputs, and one target for two outputs."""
    return dj.circuit.softplus(o1 * y) + 0.5 * np.sqrt(1 + (o2 - y) ** 2) + 0.1 * o1 * o2


def of_many_targets(o1, o2, *y):
    return sum(np.log1p((o1 * t - o2) ** 2) for t in y)


LOSSES = {squared: 4, curved: 3, of_many_targets: 9}


def make_case(f, output, dtype, batch=70, **options):
    rng = np.random.default_rng(0)
    c = dj.Circuit(f, LOSSES[f])
    net = dj.Network([3, 9, 2], "tanh", output, c, dtype=dtype, **options)
    net.theta = net.theta + 0.3 * rng.normal(size=net.n_params)
    X, Y = rng.normal(size=(batch, 3)), rng.normal(size=(batch, LOSSES[f] - 2))
    return net, X.astype(dtype), Y.astype(dtype), rng.uniform(0.5, 2, batch).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("output", ["identity", "tanh", "softmax"])
@pytest.mark.parametrize("f", LOSSES, ids=lambda f: f.__name__)
def test_against_the_reference(f, output, weighted, dtype):
    net, X, Y, weights = make_case(f, output, dtype, l2=0.01)
    w = weights if weighted else None
    value, grad = net.value_and_grad(X, Y, w)
    expected, expected_grad = reference_grad(net, X, Y, w)
    tolerance = TOLERANCE[dtype]
    assert value == pytest.approx(expected, rel=tolerance)
    assert net.loss(X, Y, w) == pytest.approx(expected, rel=tolerance)
    assert relative_error(grad, expected_grad) <= tolerance
    if dtype == "float64":
        assert relative_error(grad, complex_step_grad(net, X, Y, w)) <= tolerance
    v = np.random.default_rng(1).normal(size=net.n_params).astype(dtype)
    at_theta = net.linearize(X, Y, w)
    for name in ("hvp", "gnvp"):
        product = net.flatten(*getattr(reference, name)(net.reference, X, Y, *net.unflatten(v), w))
        assert relative_error(getattr(net, name)(X, Y, v, w), product) <= 10 * tolerance
        assert relative_error(getattr(at_theta, name)(v), product) <= 10 * tolerance
    each = net.per_sample_grads(X[:5], Y[:5])
    alone = [reference_grad(net, x[None], y[None])[1] for x, y in zip(X[:5], Y[:5], strict=True)]
    penalty = [net.flatten([0.01 * W for W in net.weights], [0 * b for b in net.biases])]
    assert relative_error(each + penalty, np.array(alone)) <= tolerance
    inputs = reference.input_grad(net.reference, X, Y)
    assert relative_error(net.input_grad(X, Y), inputs) <= tolerance


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 7, 64, 65, 300])
def test_the_same_as_our_own_loss(batch, dtype):
    net, X, Y, weights = make_case(squared, "tanh", dtype, batch)
    twin = dj.Network([3, 9, 2], "tanh", "tanh", "squared_error", dtype=dtype)
    twin.theta = net.theta
    tolerance = TOLERANCE[dtype]
    assert net.loss(X, Y, weights) == pytest.approx(twin.loss(X, Y, weights), rel=tolerance)
    assert relative_error(net.grad(X, Y), twin.grad(X, Y)) <= tolerance
    options = dict(epochs=3, batch_size=16, optimizer=dj.SGD(0.1), rng=0, progress=False)
    for other in (net, twin):
        other.fit(X, Y, sample_weight=weights, **options)
    assert relative_error(net.theta, twin.theta) <= 100 * tolerance


def test_in_an_ensemble_and_in_jitted_code():
    net, X, Y, _ = make_case(curved, "identity", "float32")
    nets = dj.Ensemble([3, 9, 2], 3, "tanh", "identity", dj.Circuit(curved, 3))
    nets.fit(X, Y, epochs=2, batch_size=16, progress=False)
    alone = dj.Network([3, 9, 2], "tanh", "identity", dj.Circuit(curved, 3), rng=1)
    assert nets[1].architecture == alone.architecture == net.architecture
    assert nets.loss(X, Y).tolist() == [each.loss(X, Y) for each in nets]
    grad, work = np.empty_like(net.theta), net.workspace(len(X))
    value = kernels.value_and_grad(net.model, X, Y, grad, work)
    assert value == net.loss(X, Y)
    assert np.array_equal(grad, net.grad(X, Y))


def test_equal_circuits_are_one_loss(tmp_path):
    net, X, Y, _ = make_case(curved, "identity", "float64")
    same = dj.Network([3, 9, 2], "tanh", "identity", dj.Circuit(curved, 3), dtype="float64")
    assert same.architecture.loss == net.architecture.loss
    other = dj.Circuit(lambda a, b, y: curved(a, b, y) + 1, 3)
    assert dj.Network([3, 2], loss=other).architecture.loss != net.architecture.loss
    net.save(tmp_path / "net.safetensors")
    loaded = dj.load(tmp_path / "net.safetensors")
    assert loaded.loss(X, Y) == net.loss(X, Y)
    assert pickle.loads(pickle.dumps(net)).loss(X, Y) == net.loss(X, Y)


def test_nan_and_large_circuits_go_through():
    """A loss of many segments, whose scratch memory is larger than the network's."""

    def long(o, y):
        for k in range(1500):
            o = o + 0.001 * np.sin(k * o * y)
        return (o - y) ** 2

    net = dj.Network([2, 4, 1], loss=dj.Circuit(long, 2), dtype="float64")
    X, Y = np.random.default_rng(0).normal(size=(90, 2)), np.linspace(-1, 1, 90)
    assert relative_error(net.grad(X, Y), reference_grad(net, X, Y[:, None])[1]) < 1e-11
    assert np.isnan(net.loss(X * [1, np.nan], Y))


def test_constants_too_large_for_float32():
    c = dj.Circuit(lambda o, y: (1e300 * (o - y)) ** 2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = dj.Network([2, 1], loss=c, dtype="float64")
    X = np.ones((3, 2))
    assert net.loss(X, net.predict(X)) == 0


def test_what_is_refused():
    c, two = dj.Circuit(curved, 3), dj.Circuit(lambda x, y: [x, y], 2)
    for loss, sizes, output, error, message in [
        (c, [2, 3], "auto", ValueError, "more inputs than the 3 outputs, got 3"),
        (two, [2, 1], "auto", ValueError, "a circuit with one output"),
        (c, [2, 2], "gaussian", ValueError, "output='gaussian' needs loss='gaussian_nll'"),
        (squared, [2, 2], "auto", TypeError, "loss must be a name or a circuit"),
    ]:
        with pytest.raises(error, match=message):
            dj.Network(sizes, output=output, loss=loss)
    net = dj.Network([2, 2], loss=c)
    X = np.ones((4, 2))
    assert net.loss(X, np.ones(4)) == net.loss(X, np.ones((4, 1)))
    with pytest.raises(ValueError, match=r"Y must have shape \(4, 1\)"):
        net.loss(X, np.ones((4, 2)))
