"""Scores of a network, and a fit's samples: those held out, and those that weigh more."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.class_weight import compute_class_weight

import deltajit as dj

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
LABELS = RNG.integers(0, 3, 60)
WEIGHTS = RNG.uniform(size=60)
QUICK = {"epochs": 3, "progress": False, "shuffle": False}


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_scores_are_scikit_learns(weights):
    net = dj.Network([3, 4, 3], output="softmax")
    predicted = net.predict(X).argmax(axis=1)
    expected = accuracy_score(LABELS, predicted, sample_weight=weights)
    assert net.score(X, LABELS, weights) == pytest.approx(expected)
    assert net.score(X, np.eye(3)[LABELS], weights) == pytest.approx(expected)
    net = dj.Network([3, 4, 1], output="sigmoid")
    expected = accuracy_score(LABELS > 0, net.predict(X)[:, 0] > 0.5, sample_weight=weights)
    assert net.score(X, LABELS > 0, weights) == pytest.approx(expected)
    net, Y = dj.Network([3, 4, 2], output="sigmoid"), RNG.integers(0, 2, (60, 2))
    expected = accuracy_score(Y, (net.predict(X) > 0.5).astype(int), sample_weight=weights)
    assert net.score(X, Y, weights) == pytest.approx(expected)
    net, Y = dj.Network([3, 4, 2]), RNG.normal(size=(60, 2))
    expected = r2_score(Y, net.predict(X), sample_weight=weights)
    assert net.score(X, Y, weights) == pytest.approx(expected)
    net = dj.Network([3, 4, 4], loss="gaussian_nll")
    expected = r2_score(Y, net.predict(X)[:, :2], sample_weight=weights)
    assert net.score(X, Y, weights) == pytest.approx(expected)


def test_a_circuit_of_other_targets_has_no_score():
    net = dj.Network([3, 1], loss=dj.Circuit(lambda o, y, z: (o - y) ** 2 * z, 3))
    with pytest.raises(ValueError, match="a target for each output"):
        net.score(X, RNG.normal(size=(60, 2)))


def test_validation_split_takes_the_last_samples():
    seen = {"n": lambda y, outputs: float((y == LABELS[45:]).all() and len(outputs) == 15)}
    split, given = (dj.Network([3, 4, 3], output="softmax") for _ in range(2))
    one = split.fit(X, LABELS, validation_split=0.25, sample_weight=WEIGHTS, metrics=seen, **QUICK)
    two = given.fit(
        X[:45], LABELS[:45], validation_data=(X[45:], LABELS[45:], WEIGHTS[45:]),
        sample_weight=WEIGHTS[:45], **QUICK,
    )  # fmt: skip
    assert one.val_loss == two.val_loss
    assert one.metrics["n"] == [1, 1, 1]
    np.testing.assert_array_equal(split.theta, given.theta)


@pytest.mark.parametrize("optimizer", [dj.Adam(), dj.LBFGS()])
def test_class_weight_is_a_sample_weight(optimizer):
    of_classes = [1.0, 2.5, 0.5]
    named = {"b": 2.5, 2: 0.5}
    balanced = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)

    def theta(Y=LABELS, **options):
        net = dj.Network([3, 4, 3], output="softmax", class_names=["a", "b", "c"])
        net.fit(X, Y, optimizer=optimizer, **QUICK, **options)
        return net.theta

    expected = theta(sample_weight=WEIGHTS * np.take(of_classes, LABELS))
    for given in (of_classes, np.array(of_classes), named, {1: 2.5, np.int64(2): 0.5}):
        found = theta(sample_weight=WEIGHTS, class_weight=given)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    found = theta(np.eye(3)[LABELS], class_weight="balanced")
    expected = theta(sample_weight=balanced[LABELS])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_class_weight_of_two_classes_in_one_output():
    def theta(**options):
        net = dj.Network([3, 4, 1], output="sigmoid")
        net.fit(X, LABELS > 0, **QUICK, **options)
        return net.theta

    expected = theta(sample_weight=np.where(LABELS > 0, 3.0, 1.0))
    np.testing.assert_allclose(theta(class_weight={1: 3}), expected, rtol=1e-5)


def test_label_smoothing_spreads_targets():
    def theta(Y, n_out, output, **options):
        net = dj.Network([3, 4, n_out], output=output)
        history = net.fit(X, Y, validation_data=(X, Y), **QUICK, **options)
        return net.theta, net.loss(X, Y) == pytest.approx(history.val_loss[-1], rel=1e-5)

    rows = 0.8 * np.eye(3)[LABELS] + 0.2 / 3
    expected, _ = theta(rows, 3, "softmax")
    for Y in (LABELS, np.eye(3)[LABELS]):
        found, validated_as_they_are = theta(Y, 3, "softmax", label_smoothing=0.2)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert validated_as_they_are
    expected, _ = theta(np.where(LABELS > 0, 0.9, 0.1), 1, "sigmoid")
    found, _ = theta(LABELS > 0, 1, "sigmoid", label_smoothing=0.2)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


CLASSES = dj.Network([3, 4, 3], output="softmax")


@pytest.mark.parametrize(
    ("net", "options", "error", "message"),
    [
        (CLASSES, {"class_weight": "even"}, ValueError, "class_weight must be 'balanced'"),
        (CLASSES, {"class_weight": [1, 2]}, ValueError, "class_weight must be .* 3 weights"),
        (CLASSES, {"class_weight": {"a": 1}}, ValueError, "class_weight has 'a', which is no"),
        (CLASSES, {"class_weight": {3: 1}}, ValueError, "a label of class_weight"),
        (CLASSES, {"class_weight": {1: -1}}, ValueError, r"class_weight\[1\]"),
        (CLASSES, {"class_weight": [0, 0, 0]}, ValueError, "times class_weight must not be 0"),
        (dj.Network([3, 1]), {"class_weight": [1, 2]}, ValueError, "class_weight needs loss="),
        (CLASSES, {"label_smoothing": 1.0}, ValueError, "label_smoothing"),
        (CLASSES, {"label_smoothing": -0.1}, ValueError, "label_smoothing"),
        (dj.Network([3, 1]), {"label_smoothing": 0.1}, ValueError, "label_smoothing needs loss="),
        (CLASSES, {"validation_split": 1.0}, ValueError, "validation_split"),
        (CLASSES, {"validation_split": 0}, ValueError, "validation_split"),
        (CLASSES, {"validation_split": 0.001}, ValueError, "must leave samples on both sides"),
        (CLASSES, {"validation_split": 0.1, "validation_data": (X, LABELS)}, ValueError,
         "can't both be given"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_before_anything_changes(net, options, error, message):
    before = net.theta.copy()
    with pytest.raises(error, match=message):
        net.fit(X, LABELS, **QUICK, **options)
    np.testing.assert_array_equal(net.theta, before)


OPTIONS = [{"validation_split": 0.5}, {"class_weight": "balanced"}, {"label_smoothing": 0.1}]


@pytest.mark.parametrize("option", OPTIONS)
def test_batches_are_not_split_or_weighed(option):
    with pytest.raises(ValueError, match="needs all samples in memory"):
        CLASSES.fit([(X, LABELS)], epochs=1, progress=False, **option)
