"""Networks from ONNX files, as several exporters write them."""

import sys

import numpy as np
import pytest

import deltajit as dj
from tests.helpers.forms import NAMES, case
from tests.helpers.networks import DTYPES
from tests.helpers.onnx_graphs import evaluations, made, random_graph, weights

onnx = pytest.importorskip("onnx")


@pytest.fixture
def load(tmp_path):
    """`from_onnx` of a model in a file."""

    def from_model(model, *arguments, **options):
        path = tmp_path / "net.onnx"
        path.write_bytes(model.SerializeToString())
        return dj.Network.from_onnx(path, *arguments, **options)

    return from_model


def agree(net, model, X, output="y", tolerance=4e-6):
    expected = [*evaluations(model, X, output)]
    for each in expected:
        predicted = net.predict(X.reshape(len(X), -1) if X.ndim > 1 else X)
        np.testing.assert_allclose(
            predicted.ravel(), np.ravel(each), rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_there_and_back(name, dtype, tmp_path):
    net, X = case(name, dtype)
    net.to_onnx(tmp_path / "net.onnx")
    back = dj.Network.from_onnx(tmp_path / "net.onnx", loss=net.architecture.loss)
    assert back.architecture.activations == net.architecture.activations
    assert back.architecture.loss == net.architecture.loss
    assert back.dtype == net.dtype
    if name == "leaky_relu":
        assert np.dtype(dtype).type(back.architecture.slope) == np.dtype(dtype).type(
            net.architecture.slope
        )
    np.testing.assert_array_equal(back.theta, net.theta)
    np.testing.assert_array_equal(back.predict(X), net.predict(X))


NUMBERS = {
    "half": np.float32(0.5), "one": np.float32(1), "root": np.float32(1.4142135),
    "k": np.float32(1.702), "inverse": np.float32(0.70710677), "three": np.float32(3),
    "six": np.float32(6), "tenth": np.float32(0.1), "zero": np.float32(0), "lo": np.float32(0),
    "hi": np.float32(6), "slopes": np.full(7, 0.25, np.float32), "two": np.float32(2),
}  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "name", "opset"),
    [
        (["a = Sigmoid(z)"], "sigmoid", 17),
        (["n = Neg(z)", "e = Exp(n)", "d = Add(e, one)", "a = Reciprocal(d)"], "sigmoid", 17),
        (["a = Tanh(z)"], "tanh", 17),
        (["t = Mul(z, two)", "s = Sigmoid(t)", "u = Mul(s, two)", "a = Sub(u, one)"], "tanh", 17),
        (["a = Relu(z)"], "relu", 17),
        (["a = Max(z, zero)"], "relu", 17),
        (["a = LeakyRelu<alpha=0.2>(z)"], "leaky_relu", 17),
        (["s = Mul(z, tenth)", "a = Max(s, z)"], "leaky_relu", 17),
        (["a = PRelu(z, slopes)"], "leaky_relu", 17),
        (["a = Elu(z)"], "elu", 17),
        (["e = Exp(z)", "m = Sub(e, one)", "p = Greater(z, zero)", "a = Where(p, z, m)"],
         "elu", 17),
        (["a = Celu<alpha=2.0>(z)"], "elu", 17),
        (["a = Selu(z)"], "selu", 17),
        (["a = Softplus(z)"], "softplus", 17),
        (["t = Mul(z, two)", "s = Softplus(t)", "a = Div(s, two)"], "softplus", 17),
        (["e = Exp(z)", "p = Add(one, e)", "a = Log(p)"], "softplus", 17),
        (["s = Sigmoid(z)", "a = Log(s)"], "softplus", 17),
        (["a = Softsign(z)"], "softsign", 17),
        (["m = Abs(z)", "d = Add(m, one)", "a = Div(z, d)"], "softsign", 17),
        (["a = Sin(z)"], "sin", 17),
        (["a = Exp(z)"], "exp", 17),
        (["s = Sigmoid(z)", "a = Mul(z, s)"], "silu", 17),
        (["s = Sigmoid(z)", "a = Mul(s, z)"], "silu", 17),
        (["t = Mul(z, k)", "s = Sigmoid(t)", "a = Mul(z, s)"], "silu", 17),
        (["s = Softplus(z)", "t = Tanh(s)", "a = Mul(z, t)"], "mish", 17),
        (["a = HardSwish(z)"], "hardswish", 17),
        (["p = Add(z, three)", "c = Clip(p, lo, hi)", "m = Mul(z, c)", "a = Div(m, six)"],
         "hardswish", 17),
        (["h = HardSigmoid<alpha=0.16666667, beta=0.5>(z)", "a = Mul(z, h)"], "hardswish", 17),
        (["a = Gelu(z)"], "gelu", 20),
        (["d = Div(z, root)", "e = Erf(d)", "p = Add(e, one)", "m = Mul(z, p)", "a = Mul(m, half)"],
         "gelu", 17),
        (["d = Mul(z, inverse)", "e = Erf(d)", "p = Add(one, e)", "h = Mul(half, z)",
          "a = Mul(h, p)"], "gelu", 17),
        (["a = HardSigmoid(z)"], "hard_tanh", 17),
        (["a = Clip<min=-2.0, max=0.5>(z)"], "hard_tanh", 10),
        (["r = Relu(z)", "a = Min(r, six)"], "hard_tanh", 17),
        (["a = Clip(z, lo, hi)"], "hard_tanh", 17),
        (["a = Clip(z, lo)"], "relu", 17),
    ],
)  # fmt: skip
def test_activations_as_exporters_compose_them(lines, name, opset, load):
    lines = ["z = Gemm(x, W1, b1)", *lines, "y = Gemm(a, W2, b2)"]
    model = made(lines, weights(5, 7, 3) | NUMBERS, 5, opset)
    net = load(model)
    assert net.architecture.activations == (name, "identity")
    assert net.sizes == (5, 7, 3)
    X = 3 * np.random.default_rng(1).normal(size=(40, 5)).astype(np.float32)
    agree(net, model, X)


STATISTICS = {
    "mean": np.array([1, -2, 3, 0, 5], np.float32), "var": np.array([1, 2, 3, 4, 0.25], np.float32),
    "std": np.array([1, 1.5, 2, 3, 0.5], np.float32), "epsilon": np.float32(1e-2),
    "g1": np.array([1.5, -1, 0.5, 2, 1], np.float32), "scalar": np.float32(0.5),
    "zero": np.float32(0), "one": np.float32(1), "low": np.float32(-2), "high": np.float32(2),
    "transposed": weights(5, 7)["W1"].T.copy(),
    "starts": np.array([1]), "ends": np.array([4]), "axes": np.array([1]),
    "picked": np.array([4, 0]), "order": np.array([3, 1, 4, 0, 2]),
    "shape": np.array([-1, 7]), "flat": np.array([0, -1]), "last": np.array([-1]),
    "first": np.array(0), "whole": np.array([2**63 - 1]), "axis0": np.array([0]),
}  # fmt: skip
PLAIN = ["z = Gemm(x, W1, b1)", "a = Relu(z)", "y = Gemm(a, W2, b2)"]
TAIL = ["a = Relu(z)", "y = Gemm(a, W2, b2)"]


@pytest.mark.parametrize(
    ("lines", "activations"),
    [
        # PyTorch, by tracing and by torch.export; Keras by tf2onnx; scikit-learn by skl2onnx
        (["z = Gemm<transB=1, alpha=1.0, beta=1.0>(x, transposed, b1)", *TAIL], "relu identity"),
        (["T = Transpose<perm=[1, 0]>(transposed)", "m = MatMul(x, T)", "z = Add(b1, m)", *TAIL],
         "relu identity"),
        (["m = MatMul(x, W1)", "z = Add(m, b1)", "a = Relu(z)", "n = MatMul(a, W2)",
          "y = Add(n, b2)"], "relu identity"),
        (["c = Cast<to=1>(x)", "m = MatMul(c, W1)", "z = Add(m, b1)", "a = Tanh(z)",
          "n = MatMul(a, W2)", "v = Add(n, b2)", "y = Softmax<axis=1>(v)"], "tanh softmax"),
        (["z = Gemm<alpha=2.0, beta=0.5>(x, W1, b1)", *TAIL], "relu identity"),
        (["z = Gemm(x, W1)", *TAIL], "relu identity"),
        (["z = Identity(x)", "d = Dropout(z)", "f = Flatten(d)", "g = Gemm(f, W1, b1)",
          "a = Relu(g)", "r = Reshape(a, shape)", "y = Gemm(r, W2, b2)"], "relu identity"),
        # A view of the batch's size, which old exporters compute
        ([*PLAIN[:2], "s = Shape(a)", "g = Gather<axis=0>(s, first)", "u = Unsqueeze(g, axis0)",
          "c = Concat<axis=0>(u, last)", "r = Reshape(a, c)", "y = Gemm(r, W2, b2)"],
         "relu identity"),
        # Normalizations in front
        (["c = Sub(x, mean)", "n = Div(c, std)", "z = Gemm(n, W1, b1)", *TAIL], "relu identity"),
        (["c = Sub(x, mean)", "n = Mul(c, std)", "z = Gemm(n, W1, b1)", *TAIL], "relu identity"),
        (["v = Add(var, epsilon)", "s = Sqrt(v)", "c = Sub(x, mean)", "n = Div(c, s)",
          "z = Gemm(n, W1, b1)", *TAIL], "relu identity"),
        (["n = Scaler<offset=[1.0, 0.0, 2.0, 3.0, 4.0], scale=[0.5, 1.0, 2.0, 1.0, 0.1]>(x)",
          "z = Gemm(n, W1, b1)", *TAIL], "relu identity"),
        (["n = BatchNormalization<epsilon=0.01>(x, g1, mean, mean, var)", "z = Gemm(n, W1, b1)",
          *TAIL], "relu identity"),
        (["c = Sub(mean, x)", "n = Neg(c)", "z = Gemm(n, W1, b1)", *TAIL], "relu identity"),
        # Clipped inputs, and scaled outputs, are layers of their own
        (["c = Clip(x, low, high)", "z = Gemm(c, W1, b1)", *TAIL], "hard_tanh relu identity"),
        ([*PLAIN[:2], "v = Gemm(a, W2, b2)", "t = Tanh(v)", "y = Mul(t, scalar)"],
         "relu tanh identity"),
        ([*PLAIN[:2], "v = Gemm(a, W2, b2)", "w = Mul(v, scalar)", "y = Add(w, one)"],
         "relu identity"),
        ([*PLAIN[:2], "v = Gemm(a, W2, b2)", "c = Clip(v, low, high)", "y = Exp(c)"],
         "relu hard_tanh exp"),
        ([*PLAIN[:2], "v = Gemm(a, W2, b2)", "s = Sigmoid(v)", "y = Mul(v, s)"],
         "relu silu identity"),
        (["z = Gemm(x, W1, b1)", "y = Gemm(z, W2, b2)"], "identity identity"),
        # Parts of the outputs
        ([*PLAIN[:2], "v = Gemm(a, W2, b2)", "m, s = Split<axis=-1>(v)", "y = Tanh(m)"],
         "relu tanh"),
        ([*PLAIN[:2], "v = Gemm(a, W2, b2)", "m, s = Split<axis=1>(v)", "y = Exp(s)"], "relu exp"),
        ([*PLAIN[:2], "v = Gemm(a, W2, b2)", "t = Tanh(v)", "y = Slice(t, starts, ends, axes)"],
         "relu tanh"),
        ([*PLAIN[:2], "v = Gemm(a, W2, b2)", "w = Slice(v, axis0, whole, axis0)",
          "y = Gather<axis=1>(w, picked)"], "relu identity"),
        (["p = Gather<axis=1>(x, order)", "z = Gemm(p, W1, b1)", *TAIL], "relu identity"),
        # Heads beside each other
        ([*PLAIN[:2], "p = Gemm(a, W2, b2)", "q = Gemm(a, W3, b3)", "y = Concat<axis=-1>(p, q)"],
         "relu identity"),
        ([*PLAIN[:2], "p = Gemm(a, W2, b2)", "q = Gemm(a, W2, b2)", "e = Exp(q)",
          "y = Concat<axis=-1>(p, e)"], "relu gaussian"),
        # A constant as a node
        (["c = Constant<value_float=2.0>()", "n = Mul(x, c)", "z = Gemm(n, W1, b1)", *TAIL],
         "relu identity"),
    ],
)  # fmt: skip
def test_graphs(lines, activations, load):
    sizes = weights(5, 7, 6) | {"W3": np.ones((7, 2), np.float32), "b3": np.ones(2, np.float32)}
    model = made(lines, sizes | STATISTICS, 5)
    net = load(model)
    assert net.architecture.activations == tuple(activations.split())
    agree(net, model, np.random.default_rng(1).normal(size=(40, 5)).astype(np.float32))


def test_old_operators(load):
    """Splits and slices had attributes instead of inputs, and Softmax another default."""
    for lines in (
        ["v = Gemm(x, W1, b1)", "p, q = Split<axis=1, split=[2, 3]>(v)", "y = Softmax(q)"],
        ["v = Gemm(x, W1, b1)", "y = Slice<axes=[1], starts=[1], ends=[3]>(v)"],
        ["v = Gemm(x, W1, b1)", "u = Unsqueeze<axes=[1]>(v)", "y = Squeeze<axes=[1]>(u)"],
    ):
        model = made(lines, weights(4, 5), 4, opset=9)
        agree(load(model), model, np.ones((3, 4), np.float32))


def test_folding_is_in_float64(load):
    """A normalization far from 0, where float32 would lose what the first layer needs."""
    mean = np.full(3, 1000, np.float32)
    constants = weights(3, 2) | {"mean": mean, "scale": np.full(3, 0.1, np.float32)}
    lines = ["c = Sub(x, mean)", "n = Mul(c, scale)", "y = Gemm(n, W1, b1)"]
    net = load(made(lines, constants, 3))
    W, scale = constants["W1"].T.astype(np.float64), np.float64(constants["scale"])
    exact = constants["b1"] - (W * scale) @ np.float64(mean)
    np.testing.assert_array_equal(net.biases[0], exact.astype(np.float32))


def test_policy_of_a_walking_robot(load):
    """As tf2onnx writes it: normalization, x * sigmoid(x), half of the outputs, one sample."""
    sizes = [48, 64, 32, 24]
    statistics = {"mean": np.linspace(-1, 1, 48, dtype="f"), "inverse": np.full(48, 0.5, "f")}
    lines = ["c = Sub(x, mean)", "n = Mul(c, inverse)"]
    for i, x in ((1, "n"), (2, "a1")):
        lines += [
            f"z{i} = Gemm({x}, W{i}, b{i})",
            f"s{i} = Sigmoid(z{i})",
            f"a{i} = Mul(z{i}, s{i})",
        ]
    lines += ["z = Gemm(a2, W3, b3)", "m, s = Split<axis=-1>(z)", "y = Tanh(m)"]
    model = made(lines, weights(*sizes) | statistics, 48, 11, inputs={"x": [1, 48]})
    net = load(model)
    assert net.sizes == (48, 64, 32, 12)
    assert net.architecture.activations == ("silu", "silu", "tanh")
    for x in np.random.default_rng(0).normal(size=(20, 1, 48)).astype(np.float32):
        agree(net, model, x)


def test_classifiers_of_scikit_learn(load):
    """Labels beside probabilities, in maps; of two classes 1 - p and p, which are softmax."""
    from onnx import TensorProto, helper

    lines = ["z = MatMul(x, W1)", "h = Add(z, b1)", "p = Sigmoid(h)"]
    lines += ["q = Sub(one, p)", "y = Concat<axis=1>(q, p)", "label = ArgMax<axis=1>(y)"]
    lines += ["maps = ZipMap<classlabels_int64s=[0, 1]>(y)"]
    model = made(lines, weights(4, 1) | {"one": np.ones(1, np.float32)}, 4, outputs=("maps",))
    output = helper.make_tensor_value_info("label", TensorProto.INT64, None)
    model.graph.output.insert(0, output)
    net = load(model)
    assert net.sizes == (4, 2)
    assert net.architecture.activations == ("softmax",)
    assert net.architecture.loss == "cross_entropy"
    plain = made(lines[:-2], weights(4, 1) | {"one": np.ones(1, np.float32)}, 4)
    agree(net, plain, np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32))


def test_shapes_of_inputs(load):
    """Single samples without a batch, images, batches of one size, and an unknown size."""
    draw = np.random.default_rng(0).normal
    for dims, shape, lines in (
        ([6], (6,), ["z = MatMul(x, W1)", "y = Add(z, b1)"]),
        ([6], (6,), ["z = MatMul(V, x)", "y = Add(z, b1)"]),
        (["b", 1, 2, 3], (5, 1, 2, 3), ["f = Flatten(x)", "y = Gemm(f, W1, b1)"]),
        (["b", 1, 6], (5, 1, 6), ["z = MatMul(x, W1)", "y = Add(z, b1)"]),
        ([5, 6], (5, 6), ["r = Reshape(x, same)", "y = Gemm(r, W1, b1)"]),
        ([1, 6], (1, 6), ["r = Reshape(x, flat)", "z = MatMul(r, W1)", "y = Add(z, b1)"]),
        (["b", "n"], (5, 6), ["y = Gemm(x, W1, b1)"]),
        (["b", 6], (5, 6), ["t = Transpose(x)", "u = Transpose(t)", "y = Gemm(u, W1, b1)"]),
    ):
        constants = weights(6, 4) | {"same": np.array([5, 6]), "flat": np.array([6])}
        constants["V"] = constants["W1"].T.copy()
        model = made(lines, constants, 6, inputs={"x": dims})
        net = load(model)
        assert net.sizes == (6, 4)
        agree(net, model, draw(size=shape).astype(np.float32))


def test_outputs_and_losses(load):
    lines = [*PLAIN[:2], "y = Gemm(a, W2, b2)", "value = Gemm(a, W3, b3)"]
    model = made(lines, weights(5, 7, 3, 2) | {"W3": np.ones((7, 1), "f"), "b3": np.ones(1, "f")},
                 5, outputs=("y", "value"))  # fmt: skip
    with pytest.raises(ValueError, match=r"output_name must say which of .*'y', 'value'"):
        load(model)
    with pytest.raises(ValueError, match=r"output_name must be one of .*'y', 'value'.*got 'z'"):
        load(model, "z")
    X = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    agree(load(model, "value"), model, X, "value")
    net = load(model, "y", "cross_entropy", l2=0.5, rng=1)
    assert net.architecture.activations == ("relu", "softmax")
    assert net.architecture.l2 == 0.5
    logits = load(model, "y").predict(X)
    e = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(net.predict(X), e / e.sum(1, keepdims=True), rtol=1e-5)
    with pytest.raises(ValueError, match="loss must be one of"):
        load(model, "y", "nonsense")


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_types(dtype, load):
    constants = weights(5, 7, 3, dtype=dtype)
    model = made(PLAIN, constants, 5, dtype=dtype)
    net = load(model)
    assert net.dtype == ("float64" if dtype == "float64" else "float32")
    np.testing.assert_array_equal(net.weights[0], constants["W1"].T)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["y = Conv(x, W1)"], r"node 'the_y' \(Conv, output 'y'\): .* no such operator"),
        (["z = Gemm(x, W1, b1)", "y = LayerNormalization(z, b1)"],
         r"'the_y' \(LayerNormalization, output 'y'\)"),
        (["z = Gemm(x, W1, b1)", "h = Elu<alpha=2.0>(z)", "y = Gemm(h, W2)"],
         r"node 'the_h' \(Elu, output 'h'\), alpha=2.0: .*'z' is none of the activations"),
        (["z = Gemm(x, W1, b1)", "s = Mul(z, z)", "y = Gemm(s, W2)"], r"'the_s' \(Mul"),
        (["z = Gemm(x, W1, b1)", "y = Clip(z, low)"], r"'the_y' \(Clip"),
        (["z = Gemm(x, W1, b1)", "y = PRelu(z, b1)"], r"'the_y' \(PRelu"),
        (["z = Gemm(x, W1, b1)", "a = LeakyRelu<alpha=0.1>(z)", "v = Gemm(a, W2)",
          "y = LeakyRelu<alpha=0.2>(v)"], "slopes of leaky_relu must be one"),
        (["z = Gemm(x, square)", "t = Tanh(z)", "y = Add(t, x)"], r"'the_y' .*joins two branches"),
        (["z = Gemm(x, W1, b1)", "s = Softmax(z)", "y = Gemm(s, W2)"],
         r"'the_y' .*softmax can only come last"),
        (["z = Gemm(x, W1, b1)", "y = Softmax<axis=0>(z)"], "must go along the features"),
        (["z = Gemm(x, W1, b1)", "y = Gather<axis=1>(z, twice)"], "it repeats features"),
        (["t = Transpose(x)", "y = Relu(t)"], r"'the_y' .*one sample after the other"),
        (["y = Relu(x)"], "no linear layer"),
        (["y = Gemm<transA=1>(x, W1)"], "transposes the samples"),
        (["z = Gemm(x, W1, b1)", "y = Div(z, none)"], r"'the_y' .*it divides by 0"),
        (["y = Gemm(x, W2)"], r"weights \(7, 3\) do not fit 5 features"),
        (["z = Gemm(x, W1, b1)", "y = Add(z, W3)"], r"'the_y' \(Add"),
        (["z = Gemm(x, W1, b1)", "y = Cast<to=7>(z)"], "rounds to integers"),
        (["z = Gemm(x, W1, b1)", "y = Dropout(z, low, yes)"], "in training mode"),
        (["z = Gemm(x, W1, b1)", "t = Tanh(z)", "y = Concat<axis=1>(t, x)"], "same layer"),
        (["z = Gemm(x, W1, b1)", "y = Gemm(z, W2, z)"], r"'the_y' .*'z' must be a constant"),
        (["z = Gemm(x, W1, b1)", "y = Concat<axis=1>(z, row)"], "constants beside features"),
        (["r = RandomNormal<shape=[1]>()", "z = Gemm(x, W1, r)", "y = Relu(z)"],
         r"'the_r' \(RandomNormal.*not computed here"),
        (["z = Gemm(x, W1, b1)", "y = Add(z, nobody)"], "'nobody' is computed by no node before"),
    ],
)  # fmt: skip
def test_what_is_no_network_names_the_node(lines, message, load):
    constants = weights(5, 7, 3) | {
        "square": np.ones((5, 5), "f"), "W3": np.ones((7, 7), "f"), "low": np.float32(0.5),
        "none": np.float32(0), "twice": np.array([1, 1]), "yes": np.array(True),
        "row": np.ones((1, 2), "f"),
    }  # fmt: skip
    with pytest.raises(dj.FormatError, match=message):
        load(made(lines, constants, 5))


def test_numbers_that_are_refused(load):
    constants = weights(5, 7, 3) | {"huge": np.float32(3e38)}
    lines = ["n = Mul(x, huge)", "m = Mul(n, huge)", "z = Gemm(m, W1, b1)", *TAIL]
    with pytest.raises(dj.FormatError, match="must be finite numbers of float32"):
        load(made(lines, constants, 5))
    model = made(["z = Gemm(x, W1, b1)", "a = LeakyRelu<alpha=0.25>(z)", TAIL[1]], constants, 5)
    assert load(model, slope=0.25).architecture.slope == 0.25
    with pytest.raises(ValueError, match=r"slope must be the file's, 0\.25, got 0\.5"):
        load(model, slope=0.5)


def test_inputs_that_are_refused(load):
    lines = ["s = Add(x, u)", "y = Gemm(s, W1, b1)"]
    with pytest.raises(ValueError, match=r"must depend on one input, got \['x', 'u'\]"):
        load(made(lines, weights(5, 2), 5, inputs={"x": ["b", 5], "u": ["b", 5]}))
    with pytest.raises(ValueError, match="must have a known size"):
        load(made(["y = Gemm(x, W1)"], weights(5, 2), 5, inputs={"x": ["b", "c", "d"]}))
    with pytest.raises(ValueError, match="must be a tensor of real numbers"):
        load(made(["y = Gemm(x, W1)"], weights(5, 2), 5, dtype="int64"))


def test_without_onnx_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"from_onnx needs .*pip install 'deltajit\[onnx\]'"):
        dj.Network.from_onnx("net.onnx")


def test_random_graphs(load):
    """Whatever is accepted is computed; most graphs of random operators are no networks."""
    rng, accepted = np.random.default_rng(0), 0
    with np.errstate(all="ignore"):
        for _ in range(300):
            model = random_graph(rng)
            try:
                net = load(model)
            except ValueError:
                continue
            accepted += 1
            X = 2 * rng.normal(size=(30, 5)).astype(np.float32)
            expected = next(evaluations(model, X))
            assert expected.shape == (30, net.sizes[-1])
            is_finite = np.isfinite(expected)  # log(1 + exp(x)) overflows, say
            np.testing.assert_allclose(
                net.predict(X)[is_finite], expected[is_finite], rtol=3e-4, atol=3e-4
            )
    assert accepted > 50


# ------------------------------------------------------------------ files


def test_weights_in_a_second_file(tmp_path):
    """As newer exporters of PyTorch write them; never from outside of the folder."""
    model = made(PLAIN, weights(5, 300, 3), 5)
    path = tmp_path / "net.onnx"
    plain = tmp_path / "plain.onnx"
    plain.write_bytes(model.SerializeToString())
    onnx.save(model, path, save_as_external_data=True, location="net.data", size_threshold=0)
    net = dj.Network.from_onnx(path)
    np.testing.assert_array_equal(net.theta, dj.Network.from_onnx(plain).theta)
    data = (tmp_path / "net.data").read_bytes()
    (tmp_path / "net.data").write_bytes(data[:-1])
    with pytest.raises(dj.FormatError, match=r"'net\.data' is too short for tensor"):
        dj.Network.from_onnx(path)
    (tmp_path / "net.data").unlink()
    with pytest.raises(dj.FormatError, match="must be in a file in the folder of the ONNX file"):
        dj.Network.from_onnx(path)
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "secret").write_bytes(data)
    stolen = onnx.load(path, load_external_data=False)
    (inner / "link").symlink_to(tmp_path / "secret")
    for location in ("../secret", str(tmp_path / "secret"), "link"):
        for tensor in stolen.graph.initializer:
            tensor.external_data[0].value = location
        (inner / "net.onnx").write_bytes(stolen.SerializeToString())
        with pytest.raises(dj.FormatError, match="must be in a file in the folder"):
            dj.Network.from_onnx(inner / "net.onnx")


def test_functions_are_written_out(load):
    """PyTorch 2.1 to 2.4 exported modules as functions."""
    from onnx import helper, parser

    nodes = [parser.parse_node("s = Sigmoid(z)"), parser.parse_node("a = Mul(z, s)")]
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model = made(["z = Gemm(x, W1, b1)", "y = Swish(z)"], weights(5, 4), 5)
    model.graph.node[1].domain = "own"
    model.functions.append(helper.make_function("own", "Swish", ["z"], ["a"], nodes, versions[:1]))
    model.opset_import.append(versions[1])
    assert load(model).architecture.activations == ("silu", "identity")
    for inner in ("Swish", "Other"):  # calls itself, or 2**20 nodes
        del model.functions[:]
        for i in range(20):
            name = "Swish" if i == 0 else f"{inner}{i}"
            called = "Swish" if inner == "Swish" else f"Other{i + 1}"
            nodes = [helper.make_node(called, ["z"], [x], domain="own") for x in ("u", "a")]
            model.functions.append(helper.make_function("own", name, ["z"], ["a"], nodes, versions))
        with pytest.raises(dj.FormatError, match="more than 100,000 nodes"):
            load(model)


def test_weights_in_nodes_of_constants(load, monkeypatch):
    """As old exporters write them; large ones are no suspicious amount of memory."""
    from onnx import helper, numpy_helper

    from deltajit.io import onnx_graph

    monkeypatch.setattr(onnx_graph, "SPARE", 10)
    constants = weights(5, 7, 3)
    model = made(PLAIN, constants, 5)
    expected = load(model).theta
    for i, (name, value) in enumerate(constants.items()):
        node = helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
        model.graph.node.insert(i, node)
    del model.graph.initializer[:]
    np.testing.assert_array_equal(load(model).theta, expected)


def test_small_files_cannot_ask_for_much_memory(load):
    doubled = [f"h{i + 1} = Concat<axis=1>(h{i}, h{i})" for i in range(40)]
    for lines in (
        ["h0 = Gemm(x, W1, b1)", *doubled, "y = Relu(h40)"],
        ["h0 = Identity(W1)", *doubled, "y = Gemm(x, h40)"],
        ["o = Mul(row, column)", "y = Gemm(x, o)"],
        ["s = Add(x, row)", "y = Gemm(s, W1)"],
        ["z = Gemm(x, wide)", "a = Tanh(z)", "y = Tanh(a)"],
    ):
        constants = weights(5, 4) | {
            "row": np.ones((1, 50_000), "f"), "column": np.ones((50_000, 1), "f"),
            "wide": np.ones((5, 50_000), "f"),
        }  # fmt: skip
        with pytest.raises(dj.FormatError, match=r"size warrants|1,024 units|mismatch"):
            load(made(lines, constants, 5))


def test_damaged_files(tmp_path):
    """Whatever the bytes, it is a network or a ValueError."""
    path = tmp_path / "net.onnx"
    lines = ["m = Sub(x, mean)", "z = Gemm(m, W1, b1)", "a = Tanh(z)", "y = Gemm(a, W2, b2)"]
    good = made(lines, weights(3, 4, 2) | {"mean": np.ones(3, "f")}, 3).SerializeToString()
    rng = np.random.default_rng(0)
    loaded = 0
    for _ in range(400):
        content = bytearray(good)
        for place in rng.integers(len(good), size=rng.integers(1, 4)):
            content[place] = rng.integers(256)
        path.write_bytes(content if rng.random() < 0.9 else content[: rng.integers(len(good))])
        try:
            dj.Network.from_onnx(path)
            loaded += 1
        except ValueError:
            pass
    assert 0 < loaded < 400
    for content in (b"", b"no ONNX file", b"\x00" * 100):
        path.write_bytes(content)
        with pytest.raises(dj.FormatError, match="ONNX file"):
            dj.Network.from_onnx(path)
    with pytest.raises(dj.FormatError, match="a folder or a device"):
        dj.Network.from_onnx(tmp_path)
    with pytest.raises(FileNotFoundError):
        dj.Network.from_onnx(tmp_path / "nothing")
