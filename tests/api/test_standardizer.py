"""Scales of samples, and networks that they are folded into."""

import pickle

import numpy as np
import pytest

import deltajit as dj
from deltajit import kernels
from tests.helpers.networks import DTYPES

RNG = np.random.default_rng(0)
X = RNG.normal([3, -1000, 0.1], [2, 300, 1e-4], size=(50, 3))
Y = RNG.normal([5, 1e6], [1e-3, 1e5], size=(50, 2))


@pytest.mark.parametrize("weights", [None, RNG.integers(0, 3, 50)])
def test_scaled_samples_have_mean_0_and_variance_1(weights):
    scaler = dj.Standardizer().fit(X, Y, weights)
    for scaled in scaler.transform(X, Y):
        rows = scaled if weights is None else np.repeat(scaled, weights, axis=0)
        np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(rows.std(axis=0), 1, rtol=1e-9)
    assert scaler.transform(X.astype("float32")).dtype == np.float32
    np.testing.assert_array_equal(scaler.transform(X[3]), scaler.transform(X)[3])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(scaler)).scale, scaler.scale)


def test_a_constant_column_stays_at_0():
    scaler = dj.Standardizer().fit(np.full((7, 2), 0.1), np.arange(7))
    scaled, targets = scaler.transform(np.full((7, 2), 0.1), np.arange(7))
    np.testing.assert_allclose(scaled, 0, atol=1e-15)
    assert scaler.scale.tolist() == [1, 1]
    assert targets.shape == (7,)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_folded_network_is_one_of_samples_as_they_are(dtype, tmp_path):
    net = dj.Network([3, 8, 2], dtype=dtype, rng=1)
    before = net.theta.copy()
    scaler = dj.Standardizer().fit(X, Y)
    expected = net.predict(scaler.transform(X)) * scaler.target_scale + scaler.target_mean
    folded = scaler.fold(net)
    units = (
        1
        + max(abs(scaler.mean / scaler.scale))
        + max(abs(scaler.target_mean / scaler.target_scale))
    )
    errors = abs(folded.predict(X) - expected) / scaler.target_scale
    assert errors.max() < 2 * np.finfo(dtype).eps * units
    np.testing.assert_array_equal(net.theta, before)
    folded.save(tmp_path / "net")
    np.testing.assert_array_equal(dj.load(tmp_path / "net").predict(X), folded.predict(X))
    out, work = np.empty((50, 2), dtype), folded.workspace(50)
    kernels.predict(folded.model, X.astype(dtype), out, work)
    np.testing.assert_array_equal(out, folded.predict(X))


def test_it_is_fitted_anew():
    scaler = dj.Standardizer().fit(X, Y).fit(X)
    assert scaler.target_mean is None
    scaler.fold(dj.Network([3, 2], output="softmax"))
    with pytest.raises(ValueError, match="Y must be given to fit too"):
        scaler.transform(X, Y)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: dj.Standardizer().transform(X), ValueError, "Standardizer must be fitted"),
        (lambda s: s.fit(X[0]), ValueError, r"X must have shape \(batch, columns\), got \(3,\)"),
        (lambda s: s.fit(X, Y[1:]), ValueError, r"Y must have shape \(50, columns\)"),
        (lambda s: s.fit(X * np.inf), ValueError, "X has NaN or inf"),
        (lambda s: s.fit(X, Y, np.zeros(50)), ValueError, "sample_weight must not be 0"),
        (lambda s: s.transform(X[:, :2]), ValueError, "X must have 3 columns"),
        (lambda s: s.fold(dj.Network([2, 2])), ValueError, "net must have 3 inputs, got 2"),
        (lambda s: s.fold(dj.Network([3, 1])), ValueError, "net must have 2 linear outputs"),
        (lambda s: s.fold(dj.Network([3, 2], output="sigmoid")), ValueError, "2 x sigmoid"),
        (lambda s: s.fold(X), TypeError, "net must be a Network"),
    ],
)
def test_what_is_wrong_is_named(call, error, message):
    scaler = dj.Standardizer().fit(X, Y)
    with pytest.raises(error, match=message):
        call(scaler)
    assert scaler.target_mean.shape == (2,)
