"""dj.Laplace against dense formulas, whose matrices come from other sweeps than its own."""

import copy
import pickle

import numpy as np
import pytest
from scipy.special import expit, softmax

import deltajit as dj
from deltajit import reference
from tests.helpers.networks import make_case, relative_error

LIKELIHOODS = [
    ("identity", "squared_error"),
    ("tanh", "squared_error"),
    ("sigmoid", "binary_cross_entropy"),
    ("softmax", "cross_entropy"),
    ("exp", "poisson"),
]
likelihoods = pytest.mark.parametrize(("output", "loss"), LIKELIHOODS)
KINDS = ["last_layer", "diagonal", "kronecker", "full"]


def case(output, loss, dtype="float64", batch=30, **options):
    return make_case([3, 5, 2], "tanh", output, loss, dtype, batch, **options)


def curvature(net, X, Y, w):
    """The Gauss-Newton matrix of the sum of losses, by the reference's products."""
    net = dj.Network.sharing(net.architecture, net.theta.copy(), np.random.default_rng(0))
    products = []
    for unit in np.eye(net.n_params):
        dW, db = reference.gnvp(net.reference._replace(l2=0.0), X, Y, *net.unflatten(unit), w)
        products.append(net.flatten(dW, db))
    return np.array(products) * w.sum()


def jacobian(net, X, end):
    """d outputs / d theta (B, n_out, n_params), by the reference, for another output."""
    model = net.reference
    model = model._replace(activations=(*model.activations[:-1], end))
    columns = [reference.jvp(model, X, *net.unflatten(unit)) for unit in np.eye(net.n_params)]
    return np.stack(columns, axis=2)


def end_of(net):
    """The output activation of what is Gaussian: outputs, or logits."""
    loss = net.architecture.loss
    return net.architecture.activations[-1] if loss == "squared_error" else "identity"


@likelihoods
def test_full_is_the_dense_formula(output, loss):
    net, X, Y = case(output, loss, l2=0.1)
    w = np.random.default_rng(1).uniform(0.5, 2, len(X))
    posterior = dj.Laplace(net, X, Y, "full", sample_weight=w, prior_precision=0.7)
    beta = 1 / (posterior.noise or 1) ** 2
    precision = beta * curvature(net, X, Y, w) + 0.7 * np.eye(net.n_params)
    J = jacobian(net, X, end_of(net))
    expected = J @ np.linalg.inv(precision) @ J.transpose(0, 2, 1)
    assert relative_error(posterior.covariance(X), expected) < 1e-9


@likelihoods
def test_evidence_is_the_dense_formula(output, loss):
    net, X, Y = case(output, loss)
    w = np.ones(len(X))
    posterior = dj.Laplace(net, X, Y, "full", prior_precision=0.7)
    beta, n = 1 / (posterior.noise or 1) ** 2, net.n_params
    precision = beta * curvature(net, X, Y, w) + 0.7 * np.eye(n)
    log_prior = n / 2 * np.log(0.7 / (2 * np.pi)) - 0.7 / 2 * net.theta @ net.theta
    log_fit = -beta * len(X) * float(reference.loss(net.reference, X, Y))
    if posterior.noise:
        log_fit += Y.size / 2 * np.log(beta / (2 * np.pi))
    volume = n / 2 * np.log(2 * np.pi) - np.linalg.slogdet(precision)[1] / 2
    assert posterior.log_evidence == pytest.approx(log_fit + log_prior + volume, rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@likelihoods
def test_evidence_is_greatest(output, loss, kind):
    net, X, Y = case(output, loss)
    best = dj.Laplace(net, X, Y, kind)
    given = [{}, {"prior_precision": best.prior_precision}]
    if best.noise:
        given += [{"noise": best.noise}]
    for options in given:
        same = dj.Laplace(net, X, Y, kind, **options)
        assert same.log_evidence == pytest.approx(best.log_evidence, rel=1e-9)
        assert same.prior_precision == pytest.approx(best.prior_precision, rel=1e-3)
    for factor in (0.9, 1.1):
        tau = best.prior_precision * factor
        assert dj.Laplace(net, X, Y, kind, prior_precision=tau).log_evidence < best.log_evidence


def test_evidence_finds_the_noise():
    """And the prior of a linear model: those that the data were drawn from."""
    rng = np.random.default_rng(0)
    net = dj.Network([200, 1], dtype="float64")
    X, truth = rng.normal(size=(2000, 200)), rng.normal(0, 0.5, 200)
    Y = X @ truth + rng.normal(0, 0.3, 2000)
    net.theta[:-1] = np.linalg.lstsq(X, Y, rcond=None)[0]
    net.theta[-1] = 0
    posterior = dj.Laplace(net, X, Y, "full")
    assert posterior.noise == pytest.approx(0.3, rel=0.05)
    assert posterior.prior_precision**-0.5 == pytest.approx(0.5, rel=0.1)


@likelihoods
def test_diagonal_is_that_of_the_full_matrix(output, loss):
    net, X, Y = case(output, loss)
    posterior = dj.Laplace(net, X, Y, "diagonal", prior_precision=0.7)
    beta = 1 / (posterior.noise or 1) ** 2
    diagonal = np.diag(beta * curvature(net, X, Y, np.ones(len(X)))) + 0.7
    J = jacobian(net, X, end_of(net))
    expected = J / diagonal @ J.transpose(0, 2, 1)
    assert relative_error(posterior.covariance(X), expected) < 1e-9


@likelihoods
def test_last_layer_is_a_block_of_the_full_matrix(output, loss):
    net, X, Y = case(output, loss)
    posterior = dj.Laplace(net, X, Y, prior_precision=0.7)
    beta, n = 1 / (posterior.noise or 1) ** 2, 6 * 2
    precision = beta * curvature(net, X, Y, np.ones(len(X)))[-n:, -n:] + 0.7 * np.eye(n)
    J = jacobian(net, X, end_of(net))[:, :, -n:]
    expected = J @ np.linalg.inv(precision) @ J.transpose(0, 2, 1)
    assert relative_error(posterior.covariance(X), expected) < 1e-9


@likelihoods
def test_kronecker_is_the_product_of_both_factors(output, loss):
    """Dense, from the reference's sweeps; for one sample it is the full matrix of each layer."""
    net, X, Y = case(output, loss)
    w = np.random.default_rng(1).uniform(0.5, 2, len(X))
    posterior = dj.Laplace(net, X, Y, "kronecker", sample_weight=w, prior_precision=0.7)
    one = [curvature(net, X[i : i + 1], Y[i : i + 1], np.ones(1)) for i in range(len(X))]
    inputs = reference.forward(net.reference, X).a
    beta = 1 / (posterior.noise or 1) ** 2
    blocks, first = np.zeros((net.n_params, net.n_params)), 0
    for a, b in zip(inputs[:-1], net.biases, strict=True):
        last = first + (a.shape[1] + 1) * len(b)
        part = slice(last - len(b), last)
        S = sum(w_i * G[part, part] for w_i, G in zip(w, one, strict=True))
        ones = np.column_stack([a, np.ones(len(a))])
        A = (w[:, None] * ones).T @ ones / w.sum()
        blocks[first:last, first:last] = np.kron(A, S)
        first = last
    precision = beta * blocks + 0.7 * np.eye(net.n_params)
    J = jacobian(net, X, end_of(net))
    expected = J @ np.linalg.inv(precision) @ J.transpose(0, 2, 1)
    assert relative_error(posterior.covariance(X), expected) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
@likelihoods
def test_float32_is_close(output, loss, kind):
    results = []
    for dtype in ("float32", "float64"):
        net, X, Y = case(output, loss, dtype)
        posterior = dj.Laplace(net, X, Y, kind, prior_precision=0.7)
        results.append(posterior.predict(X, return_std=True))
    for single, double in zip(*results, strict=True):
        assert relative_error(single, double) < 1e-4


@likelihoods
def test_means_and_deviations(output, loss):
    """Against many draws of the Gaussian logits; deviations to first order, so for small ones."""
    net, X, Y = case(output, loss)
    for prior, tolerance in ((3.0, 0.03), (1e5, 0.02)):
        posterior = dj.Laplace(net, X, Y, "full", prior_precision=prior)
        mean, std = posterior.predict(X[:5], return_std=True)
        model = net.reference
        model = model._replace(activations=(*model.activations[:-1], end_of(net)))
        z, cov = reference.predict(model, X[:5]), posterior.covariance(X[:5])
        rng = np.random.default_rng(0)
        draws = [rng.multivariate_normal(m, c, 20_000) for m, c in zip(z, cov, strict=True)]
        draws = np.stack(draws)
        if loss != "squared_error":
            draws = {
                "sigmoid": expit,
                "exp": np.exp,
                "softmax": lambda x: softmax(x, axis=-1),
            }[output](draws)
        assert np.abs(draws.mean(axis=1) / mean - 1).max() < tolerance
        if prior > 1e3:
            assert np.abs(draws.std(axis=1) / std - 1).max() < tolerance


def test_means_for_squared_error_are_predictions():
    net, X, Y = case("identity", "squared_error")
    for kind in KINDS:
        posterior = dj.Laplace(net, X, Y, kind)
        np.testing.assert_array_equal(posterior.predict(X), net.predict(X))
        assert posterior.predict(X[0]).shape == (2,)
        assert posterior.covariance(X[0]).shape == (2, 2)


def test_labels_and_probabilities_are_the_same():
    net, X, _ = case("softmax", "cross_entropy")
    labels = np.arange(len(X)) % 2
    one, other = (dj.Laplace(net, X, Y, prior_precision=2.0) for Y in (labels, np.eye(2)[labels]))
    np.testing.assert_array_equal(one.predict(X), other.predict(X))
    assert one.log_evidence == pytest.approx(other.log_evidence, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_one_layer_and_any_activation(kind):
    """Hidden layers of gelu could not be outputs; a network may have no hidden layer."""
    for sizes in ([3, 2], [3, 4, 4, 2]):
        net, X, Y = make_case(sizes, "gelu", "identity", "squared_error", "float64", 20)
        mean, std = dj.Laplace(net, X, Y, kind).predict(X, return_std=True)
        assert (std > 0).all()
        np.testing.assert_array_equal(mean, net.predict(X))


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_samples_are_one(kind, monkeypatch):
    net, X, Y = case("softmax", "cross_entropy")
    whole = dj.Laplace(net, X, Y, kind).predict(X, return_std=True)
    monkeypatch.setattr("deltajit.uncertainty.laplace.BLOCK", 7 * 2 * net.n_params)
    parts = dj.Laplace(net, X, Y, kind).predict(X, return_std=True)
    for one, other in zip(whole, parts, strict=True):
        assert relative_error(one, other) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_what_it_knows(kind):
    net, X, Y = case("identity", "squared_error")
    posterior = dj.Laplace(net, X, Y, kind)
    before = posterior.predict(X, return_std=True)
    copies = copy.deepcopy(posterior), pickle.loads(pickle.dumps(posterior))
    net.theta += 1
    for each in (posterior, *copies):
        for one, expected in zip(each.predict(X, return_std=True), before, strict=True):
            np.testing.assert_array_equal(one, expected)


def test_intervals_hold_their_share():
    """Of new targets, of a function that the network can be."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(4200, 2))
    Y = np.sin(X.sum(axis=1)) + rng.normal(0, 0.2, len(X))
    net = dj.Network([2, 8, 1], dtype="float64", l2=1e-4)
    net.fit(X[:200], Y[:200], 60, optimizer=dj.LevenbergMarquardt(), progress=False)
    for kind in KINDS:
        posterior = dj.Laplace(net, X[:200], Y[:200], kind)
        for coverage in (0.5, 0.9):
            lower, upper = posterior.interval(X[200:], coverage)
            inside = (lower[:, 0] < Y[200:]) & (Y[200:] < upper[:, 0])
            assert inside.mean() == pytest.approx(coverage, abs=0.05), (kind, coverage)


def test_bad_arguments():
    net, X, Y = case("identity", "squared_error")
    classes, _, P = case("softmax", "cross_entropy")
    wrong = [
        (TypeError, "net must be a Network", (3, X, Y), {}),
        (ValueError, "kind", (net, X, Y, "half"), {}),
        (ValueError, "X", (net, X[:, :2], Y), {}),
        (ValueError, "Y has NaN", (net, X, Y * np.nan), {}),
        (ValueError, "sample_weight", (net, X, Y), {"sample_weight": -np.ones(len(X))}),
        (ValueError, "prior_precision", (net, X, Y), {"prior_precision": 0}),
        (ValueError, "noise", (net, X, Y), {"noise": -1.0}),
        (ValueError, "noise is for loss", (classes, X, P), {"noise": 1.0}),
        (ValueError, "huber", (dj.Network([3, 2], loss="huber"), X, Y), {}),
        (ValueError, "kronecker", (dj.Network([3, 4000, 2]), X, Y, "full"), {}),
    ]
    for kind, words, arguments, options in wrong:
        with pytest.raises(kind, match=words):
            dj.Laplace(*arguments, **options)
    posterior = dj.Laplace(net, X, Y)
    for coverage in (0, 1, 1.5):
        with pytest.raises(ValueError, match="coverage"):
            posterior.interval(X, coverage)
    with pytest.raises(ValueError, match="squared_error"):
        dj.Laplace(classes, X, P).interval(X)
    with pytest.raises(ValueError, match="X has NaN"):
        posterior.predict(X * np.nan)
