"""The Network API: shapes, views, conversions, and what bad input says."""

import copy
import pickle
import re

import numpy as np
import pytest

import deltajit as dj
from tests.helpers.networks import DTYPES, make_case


@pytest.fixture
def net():
    return dj.Network([3, 4, 2], output="softmax", rng=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_theta_is_one_vector_and_the_rest_are_views(dtype):
    net = dj.Network([3, 4, 2], dtype=dtype)
    assert net.theta.shape == (net.n_params,) == (26,)
    assert net.theta.dtype == dtype
    assert [W.shape for W in net.weights] == [(4, 3), (2, 4)]
    assert [b.shape for b in net.biases] == [(4,), (2,)]
    net.weights[0][1, 2] = 7
    net.biases[1][0] = 8
    assert {7, 8} <= set(net.theta)
    assert net.model.theta is net.theta
    net.theta = np.arange(26)
    assert sorted(np.concatenate([x.ravel() for x in net.weights + net.biases])) == list(range(26))


def test_unflatten_and_flatten_are_inverse(net):
    grad = np.arange(26, dtype=np.float32)
    dW, db = net.unflatten(grad)
    assert np.shares_memory(dW[0], grad)
    np.testing.assert_array_equal(net.flatten(dW, db), grad)
    with pytest.raises(ValueError, match=r"dW must have 2 arrays, got 1"):
        net.flatten(dW[:1], db)
    with pytest.raises(ValueError, match=r"db\[1\] must have shape \(2,\), got \(4,\)"):
        net.flatten(dW, [db[0], db[0]])


def test_repr(net):
    expected = "Network(3-4-2, tanh -> softmax, cross_entropy, float32, 26 parameters)"
    assert repr(net) == expected
    mixed = dj.Network([1000, 3, 4, 1], ["relu", "tanh"])
    assert repr(mixed).startswith("Network(1000-3-4-1, relu -> tanh -> identity, squared_error")
    assert "3,024 parameters" in repr(mixed)


def test_auto_output_and_loss():
    pairs = {
        ("auto", "auto"): ("identity", "squared_error"),
        ("softmax", "auto"): ("softmax", "cross_entropy"),
        ("auto", "cross_entropy"): ("softmax", "cross_entropy"),
        ("sigmoid", "auto"): ("sigmoid", "binary_cross_entropy"),
        ("auto", "binary_cross_entropy"): ("sigmoid", "binary_cross_entropy"),
        ("tanh", "auto"): ("tanh", "squared_error"),
    }
    for (output, loss), expected in pairs.items():
        made_of = dj.Network([2, 2], output=output, loss=loss).architecture
        assert (made_of.activations[-1], made_of.loss) == expected


def test_initial_weights():
    sizes = [400, 300, 200]
    spread = {"he": np.sqrt(2 / 400), "lecun": np.sqrt(1 / 400), "normal": 0.25}
    spread["glorot"] = np.sqrt(2 / 700)
    for init, sigma in spread.items():
        W = dj.Network(sizes, init=init, sigma=0.25).weights[0]
        assert W.std() == pytest.approx(sigma, rel=0.01)
        assert abs(W.mean()) < 0.01 * sigma
    assert np.abs(dj.Network(sizes, init="glorot").weights[0]).max() <= np.sqrt(6 / 700)
    relu = dj.Network(sizes, "relu")
    assert relu.weights[0].std() == pytest.approx(spread["he"], rel=0.01)
    assert relu.weights[1].std() == pytest.approx(np.sqrt(2 / 500), rel=0.01)
    assert not dj.Network(sizes, init="zeros").theta.any()
    assert not any(b.any() for b in relu.biases)


def test_seed_makes_the_same_network():
    first, second = dj.Network([3, 4, 2], rng=5), dj.Network([3, 4, 2], rng=5)
    np.testing.assert_array_equal(first.theta, second.theta)
    assert (dj.Network([3, 4, 2], rng=6).theta != first.theta).any()
    generator = np.random.default_rng(5)
    np.testing.assert_array_equal(dj.Network([3, 4, 2], rng=generator).theta, first.theta)


def test_one_sample(net):
    x = np.array([0.1, 0.2, 0.3], np.float32)
    out = net.predict(x)
    assert out.shape == (2,)
    np.testing.assert_array_equal(out, net.predict(x[None])[0])
    assert net.loss(x, 1) == net.loss(x[None], [1]) == net.loss(x, [0.0, 1.0])
    regression = dj.Network([3, 1])
    assert regression.loss(x, 2.0) == regression.loss(x, [2.0]) == regression.loss([x], [[2.0]])


def test_column_targets_may_be_flat():
    net = dj.Network([3, 1])
    X, y = np.ones((5, 3)), np.arange(5.0)
    assert net.loss(X, y) == net.loss(X, y[:, None])


def test_empty_batch_predicts_nothing(net):
    assert net.predict(np.empty((0, 3))).shape == (0, 2)


def test_out_is_written_and_returned(net):
    X, Y = np.ones((5, 3)), np.arange(5) % 2
    buffer = np.full(26, np.nan, np.float32)
    _, grad = net.value_and_grad(X, Y, out=buffer)
    assert grad is buffer
    np.testing.assert_array_equal(grad, net.grad(X, Y))


def test_gradients_are_the_callers_own(net):
    X, Y = np.ones((5, 3)), np.arange(5) % 2
    first = net.grad(X, Y)
    before = first.copy()
    net.grad(-X, Y)
    np.testing.assert_array_equal(first, before)
    kept = net.predict(X)
    before = kept.copy()
    net.predict(-X)
    np.testing.assert_array_equal(kept, before)


def test_copies_are_independent(net):
    X, Y = np.ones((5, 3)), np.arange(5) % 2
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(twin.theta, net.theta)
        assert twin.loss(X, Y) == net.loss(X, Y)
        twin.theta += 1
        twin.weights[0][0, 0] = 5
        assert twin.loss(X, Y) != net.loss(X, Y)
        # The generator came along too: both shuffle alike.
    a, b = copy.deepcopy(net), copy.deepcopy(net)
    a.fit(X, Y, epochs=2, batch_size=2)
    b.fit(X, Y, epochs=2, batch_size=2)
    np.testing.assert_array_equal(a.theta, b.theta)


def misaligned(X):
    raw = np.zeros(X.nbytes + 1, np.uint8)
    view = raw[1:].view(X.dtype).reshape(X.shape)
    view[:] = X
    assert not view.flags.aligned
    return view


def read_only(X):
    X = X.copy()
    X.setflags(write=False)
    return X


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_real_array_is_taken(dtype):
    net = dj.Network([3, 4, 2], dtype=dtype)
    X = np.arange(12).reshape(4, 3) % 5
    Y = np.arange(8).reshape(4, 2) % 3
    expected = net.grad(X.astype(dtype), Y.astype(dtype))
    f = X.astype(dtype)
    forms = [
        X.tolist(),
        X.astype(np.int8),
        X.astype(np.uint16),
        X.astype(np.float16),
        X.astype(np.float32),
        X.astype(np.float64),
        np.asfortranarray(f),
        np.repeat(f, 2, axis=0)[::2],
        np.repeat(f, 2, axis=1)[:, ::2],
        f[::-1][::-1],
        read_only(f),
        f.astype(f.dtype.newbyteorder()),
        misaligned(f),
        np.ma.masked_array(f),
    ]
    for form in forms:
        np.testing.assert_array_equal(net.grad(form, Y), expected)
    for form in (Y.tolist(), np.asfortranarray(Y), read_only(Y), misaligned(Y.astype(dtype))):
        np.testing.assert_array_equal(net.grad(X, form), expected)
    np.testing.assert_array_equal(net.predict(X > 2), net.predict((X > 2).astype(dtype)))


CONSTRUCTOR = [
    (dict(sizes=[3]), ValueError, "sizes needs at least inputs and outputs, got [3]"),
    (dict(sizes=[3, 0, 2]), ValueError, "sizes[1] must be >= 1, got 0"),
    (dict(sizes=[3, 2.5]), TypeError, "sizes[1] must be a whole number >= 1, got 2.5"),
    (dict(sizes=[3, True]), TypeError, "sizes[1] must be a whole number >= 1, got True"),
    (dict(sizes=7), TypeError, "sizes must be a list such as [64, 128, 10]"),
    (dict(sizes="3-2"), TypeError, "sizes must be a list"),
    (dict(activation="tahn"), ValueError, "activation='tahn' is unknown; did you mean 'tanh'?"),
    (dict(activation="softmax"), ValueError, "activation='softmax' is unknown"),
    (dict(activation=3), TypeError, "activation must be a name, or a list"),
    (dict(activation=["relu"] * 2), ValueError, "activation must name 1 hidden layers"),
    (dict(activation=["rleu"]), ValueError, "activation[0]='rleu' is unknown; did you mean 'relu'"),
    (dict(output="sofmax"), ValueError, "output='sofmax' is unknown; did you mean 'softmax'?"),
    (
        dict(loss="mse"),
        ValueError,
        "loss='mse' is unknown; did you mean 'squared_error'",
    ),
    (dict(loss=None), TypeError, "loss must be a string"),
    (
        dict(loss="cross_entropy", output="sigmoid"),
        ValueError,
        "loss='cross_entropy' needs output='softmax', got output='sigmoid'",
    ),
    (dict(sizes=[3, 1], output="softmax"), ValueError, "needs at least 2 outputs, got 1"),
    (dict(l2=-1), ValueError, "l2 must be a finite number from 0"),
    (dict(l2=np.nan), ValueError, "l2 must be a finite number"),
    (dict(l2="0.1"), TypeError, "l2 must be a number, got '0.1'"),
    (dict(dtype="float16"), TypeError, "dtype must be float32 or float64, got float16"),
    (dict(dtype="flaot"), TypeError, "dtype must be float32 or float64, got 'flaot'"),
    (dict(dtype=complex), TypeError, "dtype must be float32 or float64, got complex128"),
    (dict(init="xavier"), ValueError, "init='xavier' is unknown"),
    (dict(rng=-1), ValueError, "rng must be None, a seed"),
    (dict(rng="a"), TypeError, "rng must be None, a seed"),
    (dict(slope=-0.1), ValueError, "slope must be a finite number from 0"),
    (dict(init="normal", sigma=-1), ValueError, "sigma must be a finite number from 0"),
]


@pytest.mark.parametrize(("options", "error", "message"), CONSTRUCTOR)
def test_bad_constructor(options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        dj.Network(**{"sizes": [3, 4, 2], **options})


X, Y = np.ones((5, 3)), np.array([0, 1, 0, 1, 1])
NAN, INF = X * np.nan, X * np.inf
DATA = [
    (X[:, :2], Y, {}, ValueError, "X must have shape (batch, 3) or (3,), got (5, 2)"),
    (X[None], Y, {}, ValueError, "X must have shape (batch, 3) or (3,), got (1, 5, 3)"),
    (np.ones(4), 0, {}, ValueError, "X must have shape (batch, 3) or (3,), got (4,)"),
    (X.astype(complex), Y, {}, TypeError, "got dtype complex128"),
    (X.astype(object), Y, {}, TypeError, "got dtype object"),
    (X.astype(np.longdouble), Y, {}, TypeError, "X must hold real numbers"),
    ([["a"] * 3], [0], {}, TypeError, "X must hold real numbers"),
    ([[1, 2, 3], [1, 2]], Y, {}, ValueError, "X is ragged"),
    (np.ma.masked_array(X, X == 1), Y, {}, TypeError, "X has masked entries"),
    (X[:0], Y[:0], {}, ValueError, "X has no samples"),
    (X, Y[:4], {}, ValueError, "Y must have one label a sample, shape (5,), got (4,)"),
    (X, Y + 0.0, {}, TypeError, "Y of shape (5,) must be integer class labels 0..1"),
    (X, Y + 1, {}, ValueError, "Y has the label 2; labels must be 0..1"),
    (X, Y - 1, {}, ValueError, "Y has the label -1; labels must be 0..1"),
    (X, np.ones((5, 3)), {}, ValueError, "Y must have shape (5, 2) or (5,) class labels"),
    (X, np.full((5, 2), 1.5), {}, ValueError, "Y must lie in [0, 1] for loss='cross_entropy'"),
    (X, Y, dict(sample_weight=[1, 2]), ValueError, "sample_weight must have shape (5,), got (2,)"),
    (X, Y, dict(sample_weight=-X[:, 0]), ValueError, "sample_weight must be >= 0, got -1.0"),
    (X, Y, dict(sample_weight=0 * X[:, 0]), ValueError, "sample_weight must not be 0 for every"),
    (X, Y, dict(sample_weight=NAN[:, 0]), ValueError, "sample_weight has NaN or inf"),
]
FIT = [
    (NAN, Y, {}, ValueError, "X has NaN or inf (as float32), first at [0, 0]"),
    (INF, Y, {}, ValueError, "X has NaN or inf"),
    (X * 1e300, Y, {}, ValueError, "X has NaN or inf (as float32)"),
    (X, Y, dict(epochs=-1), ValueError, "epochs must be >= 0, got -1"),
    (X, Y, dict(epochs=1.5), TypeError, "epochs must be a whole number"),
    (X, Y, dict(batch_size=0), ValueError, "batch_size must be >= 1, got 0"),
    (X, Y, dict(optimizer="sgd"), TypeError, "optimizer must be one such as dj.SGD(0.1)"),
    (X, Y, dict(optimizer=dj.SGD), TypeError, "optimizer must be one such as dj.SGD(0.1)"),
    (X, Y, dict(validation_data=(X,)), ValueError, "validation_data must be a tuple (X, Y)"),
    (X, Y, dict(validation_data=X), ValueError, "validation_data must be a tuple (X, Y)"),
    (X, Y, dict(validation_data=(X, Y + 1)), ValueError, "validation_data[1] has the label 2"),
    (X, Y, dict(validation_data=(NAN, Y)), ValueError, "validation_data[0] has NaN"),
    (X, Y, dict(rng="a"), TypeError, "rng must be None, a seed"),
]


@pytest.mark.parametrize(("X", "Y", "options", "error", "message"), DATA)
@pytest.mark.parametrize("method", ["loss", "value_and_grad", "grad", "fit"])
def test_bad_data(net, method, X, Y, options, error, message):
    before = net.theta.copy()
    with pytest.raises(error, match=re.escape(message)):
        getattr(net, method)(X, Y, **options)
    np.testing.assert_array_equal(net.theta, before)


@pytest.mark.parametrize(("X", "Y", "options", "error", "message"), FIT)
def test_bad_fit(net, X, Y, options, error, message):
    before = net.theta.copy()
    with pytest.raises(error, match=re.escape(message)):
        net.fit(X, Y, **options)
    np.testing.assert_array_equal(net.theta, before)


def test_bad_targets_of_other_losses():
    net = dj.Network([3, 2], output="sigmoid")
    with pytest.raises(ValueError, match=r"Y must lie in \[0, 1\].* got values from -1"):
        net.loss(X, -np.ones((5, 2)))
    with pytest.raises(ValueError, match=r"Y must have shape \(5, 2\), got \(5,\)"):
        net.loss(X, np.ones(5))
    bad = np.zeros((5, 2))
    bad[3, 1] = np.inf
    with pytest.raises(ValueError, match=r"Y has NaN or inf \(as float32\), first at \[3, 1\]"):
        dj.Network([3, 2]).fit(X, bad)


def test_bad_predict(net):
    with pytest.raises(ValueError, match=r"X must have shape \(batch, 3\) or \(3,\), got \(5, 4\)"):
        net.predict(np.ones((5, 4)))
    with pytest.raises(ValueError, match=r"for 5 samples of one feature pass X.reshape\(-1, 1\)"):
        dj.Network([1, 2]).predict(np.ones(5))


def test_nan_in_data_is_not_swallowed():
    net, X, Y = make_case([3, 4, 2], "relu", "identity", "squared_error", "float64")
    X[2, 1] = np.nan
    assert np.isnan(net.predict(X)[2]).all()
    assert np.isfinite(net.predict(X)[[0, 1, 3]]).all()
    assert np.isnan(net.loss(X, Y))
    value, grad = net.value_and_grad(X, Y)
    assert np.isnan(value)
    assert np.isnan(grad).any()


@pytest.mark.parametrize(
    "out",
    [
        np.empty(25, np.float32),
        np.empty(26),
        np.empty(52, np.float32)[::2],
        read_only(np.empty(26, np.float32)),
        [0.0] * 26,
    ],
)
def test_bad_out(net, out):
    with pytest.raises(ValueError, match="out must be a writable, contiguous float32 array"):
        net.value_and_grad(X, Y, out=out)


def test_workspace_suffices_for_every_smaller_batch(net):
    sizes = [net.workspace(batch).size for batch in (*range(1, 260), 511, 512, 513, 10_000)]
    assert sizes == sorted(sizes)


def test_bad_theta(net):
    before = net.theta.copy()
    with pytest.raises(ValueError, match=r"theta must have shape \(26,\), got \(3,\)"):
        net.theta = [1, 2, 3]
    with pytest.raises(ValueError, match=r"grad must have shape \(26,\), got \(3,\)"):
        net.unflatten([1, 2, 3])
    with pytest.raises(ValueError, match="batch must be >= 1, got 0"):
        net.workspace(0)
    np.testing.assert_array_equal(net.theta, before)


def test_a_pickle_holds_nothing_of_this_process():
    """The layer table has the kernels' stamp, and addresses of one's own activations."""
    net = dj.Network([2, 3, 1], "relu")
    assert b"layers" not in pickle.dumps(net)
    twin = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(twin.predict(np.ones(2)), net.predict(np.ones(2)))
