"""Derivatives with respect to inputs to second order: against the reference, complex steps, JAX."""

import numba
import numpy as np
import pytest
from deltajit.kernels import ACTIVATIONS

import deltajit as dj
from deltajit import kernels, reference
from tests.helpers import jax_inputs
from tests.helpers.networks import DTYPES, awkward, grid, make_case, relative_error

STEP = 1e-30

# By `python -m tests.helpers.jax_inputs`, with JAX 0.10 in float64.
HESSIAN = [
    [
        [[1.3415586614400088, 1.20907361830082e-03], [1.20907361830103e-03, 0.28508052354434354]],
        [[0.18657086938831724, 0.11988270619317952], [0.11988270619317958, -0.22000150944684457]],
    ],
    [
        [[0.050257516086635118, -0.11113821392797403], [-0.11113821392797393, 0.27704349205400042]],
        [[0.39493678260808451, 0.28023350334688818], [0.28023350334688796, -0.077219851836745526]],
    ],
]  # fmt: skip
LOSS = 3.4706781506860285
DW = [-4.388913937810182, 1.6050723309632775, 0.9303815562874694]
DB = [-2.9844315012959304, 0.6787626319537131, -1.0863177255106775]


def case(activation, output, loss, dtype="float64", batch=7, sizes=(3, 9, 4, 2)):
    net, X, _ = make_case(list(sizes), activation, output, loss, dtype, batch, slope=0.2)
    return net, X.astype(dtype)


def smooth(net):
    """Whether its activations have a third derivative."""
    return all(f == "identity" or ACTIVATIONS[f].bend for f in net.architecture.activations)


def jets_of(net, X, directions, rows):
    out = np.empty((len(X), rows, net.sizes[-1]), net.dtype)
    work = np.empty(kernels.jets_size(net.model, len(X), rows), net.dtype)
    kernels.jets(net.model, X, directions, out, work)
    return out


def jets_vjp_of(net, X, directions, u):
    grad = np.empty_like(net.theta)
    work = np.empty(kernels.jets_size(net.model, len(X), u.shape[1]), net.dtype)
    kernels.jets_vjp(net.model, X, directions, u, grad, work)
    return grad


@grid
def test_products_against_the_jacobian(activation, output, loss):
    net, X = case(activation, output, loss)
    rng, J = np.random.default_rng(1), net.jacobian(X)
    v, u = rng.normal(size=X.shape), rng.normal(size=(len(X), net.sizes[-1]))
    along, back = net.input_jvp(X, v), net.input_vjp(X, u)
    assert relative_error(along, np.einsum("boi,bi->bo", J, v)) <= 1e-12
    assert relative_error(back, np.einsum("boi,bo->bi", J, u)) <= 1e-12
    assert relative_error(along, reference.input_jvp(net.reference, X, v)) <= 1e-12
    assert relative_error(back, reference.input_vjp(net.reference, X, u)) <= 1e-12
    np.testing.assert_allclose(net.input_jvp(X[0], v[0]), along[0], rtol=1e-12)
    np.testing.assert_allclose(net.input_vjp(X[0], u[0]), back[0], rtol=1e-12)


@grid
def test_second_derivatives(activation, output, loss):
    """The Hessian by complex steps of the reference's Jacobian, the rest by the Hessian."""
    net, X = case(activation, output, loss)
    H, model = net.input_hessian(X), net.reference
    assert relative_error(H, reference.input_hessian(model, X)) <= 1e-12
    for i in range(X.shape[1]):
        moved = X + 1j * STEP * np.eye(X.shape[1])[i]
        expected = reference.jacobian(model, moved).imag / STEP
        np.testing.assert_allclose(H[:, :, i], expected, 1e-8, 1e-11 * abs(H).max())
    trace = np.trace(H, axis1=2, axis2=3)
    np.testing.assert_allclose(net.laplacian(X), trace, 1e-11, 1e-12 * abs(H).max())
    np.testing.assert_allclose(net.laplacian(X[1]), net.laplacian(X)[1], 1e-12)
    V = np.random.default_rng(1).normal(size=(2, X.shape[1]))
    jets = net.jets(X, V)
    second = np.einsum("di,boij,dj->bdo", V, H, V)
    np.testing.assert_allclose(jets[:, 0], net.predict(X), 1e-14)
    np.testing.assert_allclose(
        jets[:, 1:3], np.einsum("boi,di->bdo", net.jacobian(X), V), 1e-9, 1e-12
    )
    np.testing.assert_allclose(jets[:, 3:], second, 1e-9, 1e-11 * abs(second).max())


@grid
@pytest.mark.parametrize("rows", [3, 4, 5])
def test_theta_gradient_of_jets(activation, output, loss, rows):
    """Against the reference, and complex steps of the reference's jets."""
    net, X = case(activation, output, loss)
    rng = np.random.default_rng(1)
    V, v = rng.normal(size=(2, X.shape[1])), rng.normal(size=net.n_params)
    u = rng.normal(size=(len(X), rows, net.sizes[-1]))
    model = net.reference
    assert relative_error(jets_of(net, X, V, rows), reference.jets(model, X, V, rows)) <= 1e-12
    if not smooth(net):
        with pytest.raises(ValueError, match="needs the third derivative of each activation"):
            jets_vjp_of(net, X, V, u)
        with pytest.raises(ValueError, match="must have a third derivative"):
            reference.jets_vjp(model, X, V, u)
        return
    grad = jets_vjp_of(net, X, V, u)
    expected = net.flatten(*reference.jets_vjp(model, X, V, u))
    assert relative_error(grad, expected) <= 1e-12
    W, b = net.unflatten(net.theta + 1j * STEP * v)
    moved = reference.jets(model._replace(weights=W, biases=b), X, V, rows).imag / STEP
    assert grad @ v == pytest.approx((u * moved).sum(), rel=1e-9, abs=1e-9 * abs(grad).max())


def test_directions_of_each_sample():
    net, X = case("tanh", "identity", "squared_error")
    V = np.random.default_rng(1).normal(size=(len(X), 2, 3))
    jets = jets_of(net, X, V, 5)
    for b in range(len(X)):
        np.testing.assert_allclose(jets[b], jets_of(net, X[b : b + 1], V[b], 5)[0], rtol=1e-12)
    u = np.random.default_rng(2).normal(size=jets.shape)
    expected = net.flatten(*reference.jets_vjp(net.reference, X, V, u))
    assert relative_error(jets_vjp_of(net, X, V, u), expected) <= 1e-12


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 2, 31, 257])
def test_awkward_sizes(dtype, batch):
    tolerance = {"float32": 3e-5, "float64": 1e-12}[dtype]
    for n_in, n_hidden, n_out in [
        (n, m, k) for n in (1, 9) for m in awkward(dtype) for k in (1, 17)
    ]:
        sizes = (n_in, n_hidden, n_hidden, n_out)
        net, X = case("tanh", "identity", "squared_error", dtype, batch, sizes)
        wide = dj.Network(sizes, "tanh", dtype="float64")
        wide.theta = net.theta
        rng, X64 = np.random.default_rng(1), X.astype(float)
        V = rng.normal(size=(2, n_in)).astype(dtype)
        u = rng.normal(size=(batch, 5, n_out)).astype(dtype)
        jets = reference.jets(wide.reference, X64, V.astype(float), 5)
        assert relative_error(jets_of(net, X, V, 5), jets) <= tolerance, sizes
        expected = reference.jets_vjp(wide.reference, X64, V.astype(float), u.astype(float))
        grad = wide.flatten(*expected)
        assert relative_error(jets_vjp_of(net, X, V, u), grad) <= tolerance, sizes
        few = slice(0, 33)
        H = reference.input_hessian(wide.reference, X64[few])
        assert relative_error(net.input_hessian(X[few]), H) <= tolerance, sizes


def test_bits_depend_neither_on_the_batch_nor_on_threads():
    sizes = [3, 70, 50, 2]
    nets = [dj.Network(sizes, dtype="float32", rng=0, threads=n) for n in (1, 2)]
    X = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)
    for f in ("laplacian", "jets", "input_hessian"):
        one, two = (getattr(net, f)(X) for net in nets)
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one[37:90], getattr(nets[0], f)(X[37:90]))
    np.testing.assert_array_equal(nets[0].jets(X)[:, 0], nets[0].predict(X))
    u = np.random.default_rng(1).normal(size=(600, 7, 2)).astype(np.float32)
    axes = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(*(jets_vjp_of(net, X, axes, u) for net in nets))


def test_jitted_code():
    net, X = case("tanh", "identity", "squared_error")

    @numba.njit
    def all_of_them(model, X, directions, jets, u, grad, H, along, back, work, jets_work):
        kernels.jets(model, X, directions, jets, jets_work)
        kernels.jets_vjp(model, X, directions, u, grad, jets_work)
        kernels.input_hessian(model, X, H, work)
        kernels.input_jvp(model, X, X, along, work)
        kernels.input_vjp(model, X, along, back, work)
        return kernels.jets_size(model, len(X), 7)

    B, axes = len(X), np.eye(3)
    jets, H, along, back = (np.empty((B, *s)) for s in ((7, 2), (2, 3, 3), (2,), (3,)))
    u, grad = np.random.default_rng(1).normal(size=jets.shape), np.empty(net.n_params)
    jets_work = np.empty(kernels.jets_size(net.model, B, 7))
    found = all_of_them(
        net.model, X, axes, jets, u, grad, H, along, back, net.workspace(B, 2), jets_work
    )
    assert found == jets_work.size
    np.testing.assert_array_equal(jets, net.jets(X))
    np.testing.assert_array_equal(grad, jets_vjp_of(net, X, axes, u))
    np.testing.assert_array_equal(H, net.input_hessian(X))
    np.testing.assert_array_equal(along, net.input_jvp(X, X))
    np.testing.assert_array_equal(back, net.input_vjp(X, along))


def jax_case():
    net = dj.Network(jax_inputs.SIZES, "tanh", dtype="float64")
    weights, biases, X = jax_inputs.case()
    net.theta = net.flatten(weights, biases)
    return net, X


def test_agrees_with_numbers_of_jax():
    net, X = jax_case()
    np.testing.assert_allclose(net.input_hessian(X), HESSIAN, rtol=1e-9, atol=1e-15)
    loss = dj.DifferentialLoss(dj.Circuit(jax_inputs.residual, 12))
    value, grad = loss.value_and_grad(net, X)
    assert value == pytest.approx(LOSS, rel=1e-12)
    assert loss.value(net, X) == value
    dW, db = net.unflatten(grad)
    for found, expected, parts in ((dW, DW, net.weights), (db, DB, net.biases)):
        sums = [np.vdot(d, np.cos(x)) for d, x in zip(found, parts, strict=True)]
        np.testing.assert_allclose(sums, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("f", "n"),
    [
        (lambda u, u_x, u_y, x, y: (u_x - u_y + x * u) ** 2, 5),
        (lambda u, u_x, u_y, laplacian, x, y: (laplacian - u * u_x) ** 2 + u_y, 6),
        (lambda u, u_x, u_y, u_xx, u_yy, x, y: (u_xx - u_yy) ** 2 + u_x * u * y + u_y, 7),
    ],
)
def test_differential_loss_by_differences(f, n):
    net = dj.Network([2, 6, 5, 1], ["gelu", "tanh"], dtype="float64", rng=3)
    X = np.random.default_rng(0).normal(size=(60, 2))
    loss = dj.DifferentialLoss(dj.Circuit(f, n))
    v = np.random.default_rng(1).normal(size=net.n_params)
    _, grad = loss.value_and_grad(net, X)
    theta = net.theta.copy()
    values = [loss.value(net, X, theta=theta + h * v) for h in (1e-5, -1e-5)]
    assert np.array_equal(net.theta, theta)
    there = loss.value_and_grad(net, X, theta=theta + v)
    net.theta = theta + v
    assert there[0] == loss.value(net, X)
    assert np.array_equal(there[1], loss.value_and_grad(net, X)[1])
    assert grad @ v == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-7)


def test_mixed_derivatives_are_differences():
    net, X = jax_case()
    jets = net.jets(X, [[1, 0], [0, 1], [1, 1]])[:, 4:]
    mixed = (jets[:, 2] - jets[:, 0] - jets[:, 1]) / 2
    np.testing.assert_allclose(mixed, net.input_hessian(X)[:, :, 0, 1], atol=1e-14)


def test_wrong_arguments():
    net, X = jax_case()
    circuit = dj.Circuit(lambda u, v: u * v, 2)
    for wrong, error, message in [
        (lambda: net.input_jvp(X, X[0]), ValueError, r"v must have shape \(2, 2\)"),
        (lambda: net.input_vjp(X, X * np.nan), ValueError, "u has NaN or inf"),
        (lambda: net.jets(X, [[1, 2, 3]]), ValueError, "directions must"),
        (lambda: net.jets(X, np.empty((0, 2))), ValueError, "directions "),
        (lambda: net.laplacian("x"), TypeError, "X "),
        (lambda: dj.DifferentialLoss(max), TypeError, "circuit must be a deltajit.Circuit"),
        (lambda: dj.DifferentialLoss(dj.Circuit(lambda x: [x, x], 1)), ValueError, "one output"),
        (lambda: dj.DifferentialLoss(circuit).value(net, X), ValueError, "8 or 10 or 12 arguments"),
        (lambda: dj.DifferentialLoss(circuit).value(5, X), TypeError, "net must be a Network"),
        (lambda: dj.DifferentialLoss(circuit).value(net, X, theta=X), ValueError, "theta must"),
        (
            lambda: dj.DifferentialLoss(circuit).value(dj.Network([2, 1]), X),
            ValueError,
            "dtype float64, got float32",
        ),
    ]:
        with pytest.raises(error, match=message):
            wrong()


def test_kernels_refuse_what_does_not_fit():
    net, X = jax_case()
    jets, u, axes = np.zeros((2, 5, 2)), np.ones((2, 5, 2)), np.eye(2)
    grad, H = np.zeros(net.n_params), np.zeros((2, 2, 2, 2))
    work, jets_work = net.workspace(2, 2), np.empty(kernels.jets_size(net.model, 2, 5))
    model = net.model
    for kernel, given, message in [
        (kernels.jets, (X, np.eye(3), jets, jets_work), "directions must be"),
        (kernels.jets, (X, np.ones((3, 2, 2)), jets, jets_work), "directions must be"),
        (kernels.jets, (X, axes, jets[:, :2].copy(), jets_work), "out must have the shape"),
        (kernels.jets, (X, axes, jets, jets_work[:-1]), "jets_size"),
        (kernels.jets_vjp, (X, axes, u[:1], grad, jets_work), "u must have the shape of what"),
        (kernels.jets_vjp, (X, axes, u, grad[1:], jets_work), "grad, or out"),
        (kernels.input_hessian, (X, H[:1], work), "out must have the shape"),
        (kernels.input_hessian, (X, H, work[:10]), "work is too small"),
        (kernels.input_jvp, (X, X[:1], jets[:, 0].copy(), work), "v must have the shape of X"),
        (kernels.input_vjp, (X, X[:1], H[:, 0, 0].copy(), work), "u must have a row"),
    ]:
        with pytest.raises(ValueError, match=message):
            kernel(model, *given)
    assert not jets.any()
    assert not grad.any()
    assert not H.any()
