"""A pass shown step by step: the numbers are those of the gradient, and of the reference."""

import html

import numpy as np
import pytest
from matplotlib.figure import Figure

import deltajit as dj
from deltajit import reference
from deltajit.derivatives.blackboard import NetworkTrace
from tests.helpers.networks import grid, make_case

ARRAYS = ("z", "a", "slopes", "delta", "dW", "db", "W", "b")
W = [3.0, 1.0, 0.0, 2.0, 1.0, 1.0, 5.0]


def classifier(**options):
    return dj.Network([2, 3, 2], "tanh", "softmax", dtype="float64", rng=3, **options)


@grid
def test_equals_the_reference(activation, output, loss):
    net, X, Y = make_case([3, 4, 2, 2], activation, output, loss, "float64", l2=0.1, l1=0.01)
    for weights in (None, np.array(W)):
        trace = net.trace(X, Y, weights)
        expected = reference.trace(net.reference, X, Y, weights)
        assert trace.value == pytest.approx(expected.value, rel=1e-12)
        np.testing.assert_array_equal(trace.Y, expected.Y)
        np.testing.assert_array_equal(trace.w, expected.w)
        for name in ARRAYS:
            for found, wanted in zip(getattr(trace, name), getattr(expected, name), strict=True):
                assert (found is None) == (wanted is None)
                if found is not None:
                    size = max(1, np.abs(wanted).max())
                    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12 * size)


@grid
def test_equations_hold_and_give_the_gradient(activation, output, loss):
    net, X, Y = make_case([3, 4, 2, 2], activation, output, loss, "float64")
    trace = net.trace(X, Y)
    value, grad = net.value_and_grad(X, Y)
    assert trace.value == value
    np.testing.assert_array_equal(net.flatten(trace.dW[1:], trace.db[1:]), grad)
    close = dict(rtol=1e-9, atol=1e-12 * max(1, np.abs(grad).max()))
    for i in (1, 2):  # hidden layers
        bp2 = (trace.delta[i + 1] @ trace.W[i + 1]) * trace.slopes[i]
        np.testing.assert_allclose(trace.delta[i], bp2, **close)
    for i in (1, 2, 3):
        np.testing.assert_allclose(trace.dW[i], trace.delta[i].T @ trace.a[i - 1], **close)
        np.testing.assert_allclose(trace.db[i], trace.delta[i].sum(axis=0), **close)


def test_softmax_has_a_jacobian_in_bp1():
    net = classifier(loss="squared_error")
    trace = net.trace([[0.5, -1.0], [1.0, 2.0]], np.eye(2))
    assert not trace.cancels
    assert trace.bp1 == "(a[2] - Y) / 2 * f'(z[2])"
    slopes = (trace.a[2] - trace.Y) / 2
    bp1 = np.einsum("bij,bj->bi", trace.slopes[2], slopes)
    np.testing.assert_allclose(trace.delta[2], bp1, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "weights", "bp1"),
    [
        ({}, None, "(a[2] - Y) / 2"),
        ({}, [1, 3], "(a[2] - Y) * w"),
        ({"loss": "huber"}, None, "dLoss/da[2] / 2 * f'(z[2])"),
    ],
)
def test_bp1_is_said(options, weights, bp1):
    assert classifier(**options).trace(np.eye(2), np.eye(2), weights).bp1 == bp1


def test_labels_become_rows():
    trace = classifier().trace([[0.5, -1.0], [1.0, 2.0]], [1, 0])
    np.testing.assert_array_equal(trace.Y, [[0, 1], [1, 0]])
    np.testing.assert_allclose(trace.delta[2], (trace.a[2] - trace.Y) / 2, rtol=1e-12)


def test_reads_like_a_blackboard():
    net = classifier(l2=0.5)
    text = str(net.trace([0.5, -1.0], 1))
    head, *lines = text.splitlines()
    assert head == "2-3-2, tanh -> softmax, cross_entropy, 1 sample"
    equations = [line.split("    (")[0] for line in lines if " = " in line and line[0] != " "]
    assert equations == [
        "a[0] = X",
        "W[1] = weights",
        "b[1] = biases",
        "z[1] = a[0] @ W[1].T + b[1]",
        "a[1] = tanh(z[1])",
        "W[2] = weights",
        "b[2] = biases",
        "z[2] = a[1] @ W[2].T + b[2]",
        "a[2] = softmax(z[2])",
        "Y = targets",
        "Loss = cross_entropy(a[2], Y) + 0.5/2 * sum(W**2)",
        "delta[2] = a[2] - Y",
        "dW[2] = delta[2].T @ a[1] + 0.5 * W[2]",
        "db[2] = delta[2].sum(axis=0)",
        "f'(z[1]) = tanh'(z[1])",
        "delta[1] = (delta[2] @ W[2]) * f'(z[1])",
        "dW[1] = delta[1].T @ a[0] + 0.5 * W[1]",
        "db[1] = delta[1].sum(axis=0)",
    ]
    assert "(BP1, f' cancels: softmax with cross_entropy)" in text
    assert f"{net.loss([0.5, -1.0], 1):.6g}" in text


def test_html_has_every_equation():
    trace = classifier().trace([0.5, -1.0], 1)
    page = trace._repr_html_()
    assert page == trace.to_html()
    for line in trace.equations:
        assert html.escape(f"{line.name} = {line.equation}") in page


def test_picture_has_the_numbers():
    ax = Figure().subplots()
    trace = classifier().trace([[0.5, -1.0], [1.0, 2.0]], [1, 0])
    assert trace.plot(1, ax=ax) is ax
    texts = [text.get_text() for text in ax.texts]
    for i in (1, 2):
        for unit in range(trace.a[i].shape[1]):
            z, a, delta = (getattr(trace, name)[i][1, unit] for name in ("z", "a", "delta"))
            assert f"b 0   z {z:.3g}   a {a:.3g}" in texts
            assert f"δ {delta:.3g}   db {trace.db[i][unit]:.3g}" in texts
        for name in ("W", "dW"):
            assert {f"{x:.3g}" for x in getattr(trace, name)[i].ravel()} <= {*texts}
    assert "sample 1 of 2" in ax.get_title()


def test_stays_as_it_was():
    net, X = classifier(), np.array([[0.5, -1.0]])
    trace = net.trace(X, [1])
    before = str(trace)
    net.theta += 1
    X[:] = 0
    assert str(trace) == before


def test_reference_is_shown_too():
    net = classifier()
    X, Y = np.array([[0.5, -1.0]]), np.array([1])
    assert str(NetworkTrace(*reference.trace(net.reference, X, Y))) == str(net.trace(X, Y))


def test_wrong_input_is_named():
    net = classifier()
    with pytest.raises(ValueError, match="X must have"):
        net.trace([1.0], 0)
    with pytest.raises(ValueError, match="Y has the label 2"):
        net.trace([1.0, 2.0], 2)
    with pytest.raises(ValueError, match="sample must be <= 0"):
        net.trace([1.0, 2.0], 1).plot(1)
    with pytest.raises(TypeError, match=r"trace must be what net\.trace returns, got Network"):
        dj.plot.steps(net)
    large = dj.Network([2, 50, 2], output="softmax").trace([1.0, 2.0], 1)
    with pytest.raises(ValueError, match=r"2-50-2 can't be read.*print\(trace\)"):
        large.plot()


@pytest.mark.parametrize("delta", [np.array([1, 0]), np.zeros((2, 3)), np.array([[1], [0]])])
def test_reference_backward_refuses_what_is_no_delta(delta):
    model = classifier().reference
    sweep = reference.forward(model, np.eye(2))
    with pytest.raises(ValueError, match=r"delta must be dLoss/dz .* shape \(2, 2\), got shape"):
        reference.backward(model, sweep, delta)
