"""Properties that hold for every network, searched by Hypothesis."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import deltajit as dj
from tests.helpers.networks import ENDS, HIDDEN, make_targets, suits

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def cases(draw):
    sizes = draw(st.lists(st.integers(1, 20), min_size=2, max_size=5))
    output, loss = draw(st.sampled_from(ENDS))
    if not suits(output, sizes[-1]):
        sizes[-1] += 1
    activations = [draw(st.sampled_from(HIDDEN)) for _ in sizes[1:-1]]
    net = dj.Network(sizes, activations, output, loss, dtype="float64", rng=draw(st.integers(0, 9)))
    batch = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    X = rng.normal(size=(batch, sizes[0]))
    return net, X, make_targets(rng, loss, batch, sizes[-1])


@SETTINGS
@given(cases())
def test_batch_is_the_mean_of_its_samples(case):
    net, X, Y = case
    value, grad = net.value_and_grad(X, Y)
    single = [net.value_and_grad(X[i], Y[i]) for i in range(len(X))]
    scale = np.abs([g for _, g in single]).max()
    np.testing.assert_allclose(value, np.mean([v for v, _ in single]), rtol=1e-12)
    np.testing.assert_allclose(grad, np.mean([g for _, g in single], axis=0), atol=1e-13 * scale)


@SETTINGS
@given(cases(), st.randoms(use_true_random=False))
def test_order_of_samples_does_not_matter(case, random):
    net, X, Y = case
    order = list(range(len(X)))
    random.shuffle(order)
    value, grad = net.value_and_grad(X, Y)
    value2, grad2 = net.value_and_grad(X[order], Y[order])
    np.testing.assert_allclose(value, value2, rtol=1e-12)
    np.testing.assert_allclose(grad, grad2, atol=1e-13 * len(X) * max(1, np.abs(grad).max()))
    np.testing.assert_array_equal(net.predict(X)[order], net.predict(X[order]))


@SETTINGS
@given(cases())
def test_gradient_points_uphill(case):
    net, X, Y = case
    value, grad = net.value_and_grad(X, Y)
    slope = np.abs(grad).max()
    if slope > 1e-6:
        net.theta -= 1e-7 * grad / slope
        assert net.loss(X, Y) < value


@SETTINGS
@given(cases(), st.integers(0, 40), st.integers(0, 40))
def test_predict_of_a_part_is_the_part_of_predict(case, i, j):
    net, X, _ = case
    np.testing.assert_array_equal(net.predict(X)[i:j], net.predict(X[i:j]))
