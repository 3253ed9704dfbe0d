"""What kernels are called with: what does not fit is named, and refused before anything changes."""

import numba
import numpy as np
import pytest
from deltajit.kernels.mlp import sweeps
from deltajit.kernels.simd import views
from deltajit.kernels.status import VERSION

import deltajit as dj
from deltajit import kernels
from tests.helpers import guarded
from tests.helpers.networks import DTYPES


def case():
    """A network, and what `_predict` takes."""
    net = dj.Network([3, 8, 2], "tanh", rng=0)
    X, out = np.ones((4, 3), np.float32), np.zeros((4, 2), np.float32)
    return net, [net.model, X, out, net.workspace(4)]


def read_only(x):
    y = x.copy()
    y.setflags(write=False)
    return y


WRONG = [  # (place, what is made of the argument there, message)
    (1, lambda x: x.astype("float64"), "X: kernels take .* here float32, got array.float64"),
    (1, lambda x: x.astype("float16"), "X: kernels take"),
    (1, lambda x: x.astype("int64"), "X: kernels take"),
    (1, lambda x: x[:, ::-1], "X: kernels take C-contiguous"),
    (1, lambda x: x[None], "X must have 2 axes, or one less for one sample, got"),
    (1, lambda x: x.tolist(), "X: kernels take .* got reflected list"),
    (1, lambda x: 3, "X: kernels take .* got int64"),
    (2, read_only, "out is written, and must not be read-only"),
    (3, lambda x: x[0], "work: kernels take"),
    (0, lambda m: m[:3], "model must be a Model .theta, network, layers, threads., got a tuple of"),
    (0, lambda m: 5, "model must be a Model"),
    (0, lambda m: m._replace(theta=None), "model.theta must not be None"),
    (0, lambda m: m._replace(network=None), "model.network must not be None"),
    (0, lambda m: m._replace(layers=m.theta), "model.layers: kernels take .* got array"),
    (0, lambda m: m._replace(threads=2.5), "model.threads must be of type int64, got float64"),
]


@pytest.mark.parametrize("how", ["python", "jitted", "kernel"])
def test_wrong_arguments_are_named(how):
    """In one sentence; Numba's own has pages of the columns of tables."""
    for place, make, message in WRONG:
        _, given = case()
        given[place] = make(given[place])
        call = {
            "python": kernels.predict,
            "jitted": numba.njit(lambda m, x, o, w: kernels.predict(m, x, o, w)),
            "kernel": lambda *given: sweeps._predict(VERSION, *given),
        }[how]
        with pytest.raises(TypeError, match=f"^deltajit's predict: {message}") as caught:
            call(*given)
        assert len(str(caught.value)) < 250


def test_a_kernel_counts_its_arguments():
    _, given = case()
    for wrong in (given, [VERSION, *given, 1], []):
        with pytest.raises(TypeError, match="it takes version, model, X, out, work; got"):
            sweeps._predict(*wrong)


@pytest.mark.parametrize(
    "make",
    [
        lambda model: None,
        lambda model: model._replace(theta=model.theta[:-1].copy()),
        lambda model: model._replace(theta=np.append(model.theta, np.float32(0))),
        lambda model: model._replace(layers=model.layers[:1].copy()),
        lambda model: model._replace(network=model.network[:0].copy()),
        lambda model: model._replace(theta=model.theta.astype("float64")),
    ],
)
def test_parts_of_a_model_belong_together(make):
    """Else kernels would read what is not theirs, or floats as what they are not."""
    _, (model, X, out, work) = case()
    wrong = make(model)
    kind = "float32" if wrong is None else wrong.theta.dtype
    with pytest.raises(ValueError, match="model must be that of a network"):
        kernels.predict(wrong, X.astype(kind), out.astype(kind), np.zeros(work.size, kind))


def test_numbers_may_be_of_any_type_that_fits():
    for lr in (0.5, np.float32(0.5), np.float64(0.5)):
        net, (model, X, out, work) = case()
        kernels.sgd_step(model, X, out, lr, grad := np.empty_like(net.theta), work)
        twin, (model, X, out, work) = case()
        kernels.sgd_step(model, X, Y=out, work=work, grad=grad, lr=0.5)
        np.testing.assert_array_equal(net.theta, twin.theta)
    for lr in (0, False, np.int32(0)):
        net, (model, X, out, work) = case()
        before = net.theta.copy()
        kernels.sgd_step(model, X, out, lr, grad, work)
        np.testing.assert_array_equal(net.theta, before)
    for lr in (None, 1j, "0.1", np.array(0.1)):
        with pytest.raises(TypeError, match="sgd_step: lr must be of type float64"):
            kernels.sgd_step(model, X, out, lr, grad, work)
    rule, order = dj.Adam().rule(net.n_params, net.dtype), np.arange(4)
    with pytest.raises(TypeError, match="batch_size must be of type int64, got float64"):
        kernels.fit_epoch(model, X, out, order, 2.7, rule, grad, work)


def test_a_rule_fits_its_network():
    net, (model, X, out, work) = case()
    rule, grad = dj.Adam().rule(net.n_params, net.dtype), np.empty_like(net.theta)

    @numba.njit
    def step(model, X, Y, rule, grad, work):
        kernels.adam_step(model, X, Y, rule, grad, work)

    before = net.theta.copy()
    for wrong, error, message in [
        (rule[:5], TypeError, "rule must be a Rule .* got a tuple of 5"),
        (rule._replace(state=rule.state.astype("float64")), TypeError, "rule.state: kernels take"),
        (rule._replace(count=None), TypeError, "rule.count must not be None"),
        (rule._replace(hyper=None), TypeError, "rule.hyper must not be None"),
        (rule._replace(count=rule.count[:0].copy()), ValueError, "rule was made for another"),
        (dj.Adam().rule(3, net.dtype), ValueError, "rule was made for another"),
        (None, ValueError, "rule was made for another"),
    ]:
        for call in (step, kernels.adam_step):
            with pytest.raises(error, match=message):
                call(model, X, out, wrong, grad, work)
    np.testing.assert_array_equal(net.theta, before)


def test_helpers_are_not_for_python():
    x = np.ones((3, 2))
    for call in (lambda: views.rows(x, 0, 2), lambda: views.fill(x, 0)):
        with pytest.raises(TypeError):
            call()


# ---------------------------------------------------------------- sizes that do not fit

# No two of its numbers are the same, so that none can stand in for another.
SIZES, BATCH = [3, 4, 2], 5
# These may be larger than needed.
ENOUGH = {
    "one_step_work",
    "rollout_work",
    "work",
    "jets_work",
    "work2",
    "step_work",
    "points",
    "kept",
}
USED_JITTED = ["fit_epoch", "hvp_at", "jvp"]


def case_of(output="identity", loss="squared_error", labels=False):
    """Weighted samples, and a rule with momentum."""
    return guarded.make_case(SIZES, np.dtype("float32"), BATCH, (output, loss, labels), 1)


def resized(x):
    """Arrays like x with one axis longer or shorter by one, or empty."""
    for axis, extent in enumerate(x.shape):
        for other in {0, extent - 1, extent + 1}:
            shape = (*x.shape[:axis], other, *x.shape[axis + 1 :])
            yield np.ones(shape, x.dtype)


def wrong_orders(order):
    """Lists of samples with one that does not exist."""
    for index in (-1, BATCH, np.iinfo(np.int64).min, np.iinfo(np.int64).max):
        wrong = order.copy()
        wrong[-1] = index
        yield wrong


def wrong_rules(rule):
    """Rules of other networks, and one whose state has too few slots."""
    n, dtype = rule.state.shape[1], rule.state.dtype
    for optimizer in (dj.Adam(), dj.SGD(momentum=0.9)):
        yield from (optimizer.rule(other, dtype) for other in (1, n - 1, n + 1))
    yield dj.Adam().rule(n, dtype)._replace(state=np.zeros((1, n), dtype))


def wrong_values(name, right):
    """What an argument must not be."""
    if name == "order":
        return wrong_orders(right)
    if name == "rule":
        return wrong_rules(right)
    if name == "dropout":
        return [right._replace(keep=keep) for keep in resized(right.keep)]
    if name == "step":
        others = dict(n_state=(2, 3), n_control=(1, 3), itemsize=(8,))
        return [right._replace(**{x: n}) for x, values in others.items() for n in values]
    if name in ("size", "steps", "every"):
        return [0, -1]
    if name in ("model", "lr") or right is None:
        return []
    return [x for x in resized(right) if name not in ENOUGH or x.size < right.size]


def assert_refused(kernel, named):
    """A ValueError, and not a bit of any argument has changed."""
    before = guarded.bits_of(named)
    with pytest.raises(ValueError, match=r"must|too small|wrong number|another network"):
        kernel(*named.values())
    assert guarded.bits_of(named) == before


def assert_checked(name, kernel):
    """Each wrong value of each argument is refused, and the right ones are not."""
    names = f"model {guarded.KERNELS[name]}"
    refused = 0
    for argument, right in guarded.arguments(names, case_of()).items():
        for wrong in wrong_values(argument, right):
            named = guarded.arguments(names, case_of())
            assert_refused(kernel, {**named, argument: wrong})
            refused += 1
    assert refused >= 10
    kernel(*guarded.arguments(names, case_of()).values())


@pytest.mark.parametrize("name", guarded.KERNELS)
def test_what_does_not_fit_is_refused(name):
    assert_checked(name, getattr(kernels, name))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in USED_JITTED else pytest.mark.slow)
        for name in guarded.KERNELS
    ],
)
def test_what_does_not_fit_is_refused_in_jitted_code(name):
    kernel = getattr(kernels, name)

    @numba.njit
    def use(*arguments):
        return kernel(*arguments)

    assert_checked(name, use)


def test_labels_that_do_not_fit_are_refused():
    names = f"model {guarded.KERNELS['value_and_grad']}"
    named = guarded.arguments(names, case_of("softmax", "cross_entropy", True))
    kernels.value_and_grad(*named.values())
    for shape in [(BATCH - 1, 1), (BATCH + 1, 1), (BATCH, 3), (0, 1)]:
        assert_refused(kernels.value_and_grad, {**named, "Y": np.ones(shape, np.float32)})


@pytest.mark.parametrize("name", guarded.KERNELS)
def test_none_in_place_of_an_array_is_refused(name):
    """All but weights are needed; without a kept point a product takes the sweeps itself."""
    names = f"model {guarded.KERNELS[name]}"
    for argument, right in guarded.arguments(names, case_of()).items():
        if isinstance(right, np.ndarray) and argument not in ("weights", "kept"):
            named = {**guarded.arguments(names, case_of()), argument: None}
            before = guarded.bits_of(named)
            with pytest.raises((ValueError, TypeError), match=r"must|too small"):
                getattr(kernels, name)(*named.values())
            assert guarded.bits_of(named) == before


@pytest.mark.parametrize(
    ("name", "argument"),
    [("predict", "outputs"), ("value_and_grad", "Y"), ("vjp", "u"), ("jacobian", "jacobian")],
)
def test_a_transposed_array_is_refused(name, argument):
    """It has the right number of elements, all of them in the wrong place."""
    named = guarded.arguments(f"model {guarded.KERNELS[name]}", case_of())
    wrong = np.ascontiguousarray(np.swapaxes(named[argument], 0, 1))
    assert_refused(getattr(kernels, name), {**named, argument: wrong})


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("X", lambda x: x.astype("float64")),
        ("X", np.asfortranarray),
        ("outputs", lambda x: np.zeros(x.shape, "float64")),
        ("work", lambda x: np.zeros(2 * x.size, x.dtype)[::2]),
    ],
)
def test_another_dtype_or_layout_is_a_type_error(argument, make):
    named = guarded.arguments(f"model {guarded.KERNELS['predict']}", case_of())
    named[argument] = make(named[argument])
    before = guarded.bits_of(named)
    with pytest.raises(TypeError, match="C-contiguous arrays of one dtype, here float32"):
        kernels.predict(*named.values())
    assert guarded.bits_of(named) == before


def test_read_only_arrays_are_not_written():
    named = guarded.arguments(f"model {guarded.KERNELS['predict']}", case_of())
    named["outputs"].setflags(write=False)
    before = guarded.bits_of(named)
    with pytest.raises(TypeError, match="out is written, and must not be read-only"):
        kernels.predict(*named.values())
    assert guarded.bits_of(named) == before


def test_a_handle_is_for_one_dtype():
    """NumPy's own is float64, so a caller easily hands that to a network of float32."""
    net = dj.Network(SIZES, dtype="float32")
    places, x, y = net.handle(), np.ones(3), np.zeros(2)

    @numba.njit
    def use(x, y):
        model, work = kernels.from_handle(places, x)
        kernels.predict(model, x, y, work)

    with pytest.raises(ValueError, match="X must have the dtype of the network"):
        use(x, y)
    np.testing.assert_array_equal(y, 0)


# ---------------------------------------------------------------- ends of what there is


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_thousand_layers(dtype):
    net = dj.Network([1, *[2] * 999, 1], "identity", dtype=dtype, rng=0)
    for W in net.weights[1:-1]:
        W[:] = np.eye(2)
    X = np.linspace(-1, 1, 9).reshape(-1, 1)
    W, V = net.weights[0], net.weights[-1]
    np.testing.assert_allclose(net.predict(X), X @ (V @ W).T, rtol=1e-4)
    value, grad = net.value_and_grad(X, X)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


def test_no_samples():
    """Nothing is written but what has no samples either; the mean of no losses is NaN."""
    net, (model, X, out, work) = case()
    X, Y, grad = X[:0].copy(), out[:0].copy(), np.ones_like(net.theta)
    kernels.predict(model, X, Y, work)
    assert np.isnan(kernels.loss(model, X, Y, work))
    assert np.isnan(kernels.value_and_grad(model, X, Y, grad, work))
    before, rule = net.theta.copy(), dj.SGD(0.1).rule(net.n_params, net.dtype)
    order = np.arange(0)
    assert kernels.fit_epoch(model, X, Y, order, 3, rule, grad, net.workspace(3)) == (0, 0)
    np.testing.assert_array_equal(net.theta, before)
