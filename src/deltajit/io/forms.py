"""Networks from and for PyTorch, scikit-learn, ONNX and C.

Activations that have no row in `FORMS` are refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deltajit.io.files import Path, replace
from deltajit.kernels.simd.elementary import _F64
from deltajit.model import memory
from deltajit.model.architecture import Architecture

Array = NDArray[Any]


class Form(NamedTuple):
    """An activation in other languages; `slope` is the network's.

    torch : a class of torch.nn, or of `torch_modules`, and its options.
    onnx : assignments of y, a function of x; numbers are constants of x's type. ONNX Runtime has
        the operators used here in double precision too, which goes for few others (not for Erf),
        and with few ULP of error (not so Sigmoid, Softplus and Elu where they are small).
    c : an expression in x, which is z[i], and n, the size of z, in C99 with <math.h>; {f} is the
        suffix of float's functions and literals. NaN must come out as NaN. Softmax has none.
    onnx_double : what serves in double precision instead of `onnx`.
    """

    torch: tuple[str, dict[str, Any]]
    onnx: str
    c: str = ""
    onnx_double: str = ""


def _polynomial(y: str, x: str, coefficients: Sequence[float]) -> str:
    """Assignments of ``y0 = c[0] + c[1] x + c[2] x**2 + ...``, by Horner's rule."""
    *others, value = [repr(float(c)) for c in coefficients]
    steps = []
    for i, c in reversed(list(enumerate(others))):
        steps += [f"{y}_{i} = Mul({value}, {x})", f"{y}{i} = Add({y}_{i}, {c})"]
        value = f"{y}{i}"
    return "; ".join(steps)


# e = exp(-|x|), which does not overflow; p / d is the sigmoid function.
_DECAY = "m = Abs(x); n = Neg(m); e = Exp(n)"
_SIGMOID = f"{_DECAY}; d = Add(e, 1); low = LessOrEqual(x, 0); p = Where(low, e, 1)"

# log(1 + e), whose rounding error is in u - 1 too (W. Kahan).
_LOG1P = (
    "u = Add(e, 1); l = Log(u); d = Sub(u, 1); q = Div(e, d); c = Mul(l, q);"
    "same = LessOrEqual(u, 1); k = Where(same, e, c)"
)

# exp(x) - 1 without its cancellation.
_EXPM1 = "e = Exp(x); p = Add(e, 1); h = Mul(x, 0.5); t = Tanh(h); m = Mul(p, t)"

# erf(r) by the kernels' polynomials: of r**2 below 1, above of the logarithm of 1 - erf(r).
_ERF = (
    "m = Abs(r); b = Min(m, 6); square = Mul(b, b);"
    f"{_polynomial('P', 'square', _F64.erf)}; w = Mul(b, P0); near = Add(b, w);"
    f"{_polynomial('L', 'b', _F64.log_erfc)}; o = Exp(L0); far = Sub(1, o);"
    "inside = Less(b, 1); f = Where(inside, near, far);"
    "low = Less(r, 0); g = Neg(f); e = Where(low, g, f)"
)

FORMS = {
    "identity": Form(("Identity", {}), "y = Identity(x)", "x"),
    "sigmoid": Form(
        ("Sigmoid", {}),
        f"{_SIGMOID}; y = Div(p, d)",
        "x < 0 ? exp{f}(x) / (1 + exp{f}(x)) : 1 / (1 + exp{f}(-x))",
    ),
    "tanh": Form(("Tanh", {}), "y = Tanh(x)", "tanh{f}(x)"),
    "relu": Form(("ReLU", {}), "y = Relu(x)", "x <= 0 ? 0 : x"),
    "leaky_relu": Form(
        ("LeakyReLU", {"negative_slope": "slope"}),
        "low = LessOrEqual(x, 0); s = Mul(x, slope); y = Where(low, s, x)",
        "x <= 0 ? {slope} * x : x",
    ),
    "softmax": Form(("Softmax", {"dim": -1}), "y = Softmax(x)"),
    "elu": Form(
        ("ELU", {"alpha": 1.0}),
        f"{_EXPM1}; low = LessOrEqual(x, 0); y = Where(low, m, x)",
        "x <= 0 ? expm1{f}(x) : x",
    ),
    "selu": Form(
        ("SELU", {}),
        f"{_EXPM1}; n = Mul(m, 1.6732632423543772); low = LessOrEqual(x, 0);"
        "s = Where(low, n, x); y = Mul(s, 1.0507009873554805)",
        "1.0507009873554805{f} * (x <= 0 ? 1.6732632423543772{f} * expm1{f}(x) : x)",
    ),
    "gelu": Form(
        ("GELU", {"approximate": "none"}),
        "r = Mul(x, 0.7071067811865476); e = Erf(r); p = Add(e, 1); h = Mul(x, 0.5); y = Mul(h, p)",
        "0.5{f} * x * (1 + erf{f}(x * 0.7071067811865476{f}))",
        f"r = Mul(x, 0.7071067811865476); {_ERF}; p = Add(e, 1); h = Mul(x, 0.5); y = Mul(h, p)",
    ),
    "silu": Form(
        ("SiLU", {}),
        f"{_SIGMOID}; s = Div(p, d); y = Mul(x, s)",
        "x * (x < 0 ? exp{f}(x) / (1 + exp{f}(x)) : 1 / (1 + exp{f}(-x)))",
    ),
    "softplus": Form(
        ("Softplus", {"beta": 1.0, "threshold": 40.0}),  # above which it returns x
        f"{_DECAY}; {_LOG1P}; r = Relu(x); y = Add(r, k)",
        "(x > 0 ? x : 0) + log1p{f}(exp{f}(-fabs{f}(x)))",
    ),
    "softsign": Form(
        ("Softsign", {}), "m = Abs(x); d = Add(m, 1); y = Div(x, d)", "x / (1 + fabs{f}(x))"
    ),
    "hard_tanh": Form(
        ("Hardtanh", {"min_val": -1.0, "max_val": 1.0}),
        "m = Max(x, -1); y = Min(m, 1)",
        "x < -1 ? -1 : x > 1 ? 1 : x",
    ),
    "sin": Form(("Sin", {}), "y = Sin(x)", "sin{f}(x)"),
    "exp": Form(("Exp", {}), "y = Exp(x)", "exp{f}(x)"),
    "step": Form(
        ("Step", {}),
        "p = Max(x, 0); m = Min(p, 1); y = Ceil(m)",
        "x > 0 ? 1 : x <= 0 ? 0 : x",
    ),
    "gaussian": Form(
        ("Gaussian", {}),
        "m, v = Split[axis=1](x); e = Exp(v); y = Concat[axis=1](m, e)",
        "i < n / 2 ? x : exp{f}(x)",
    ),
}

SKLEARN = {"logistic": "sigmoid"}  # scikit-learn's other names are ours
PASSIVE = {"Identity", "Dropout", "AlphaDropout", "Flatten"}  # do nothing to samples in predict


def _expressible(made: Architecture, method: str) -> None:
    """Refuse activations without a form; a loss is no part of `predict`."""
    for name in made.activations:
        if name not in FORMS:
            raise ValueError(
                f"{method} cannot express activation={name!r}; it knows {', '.join(FORMS)}"
            )


def _assembled(
    weights: Sequence[Array],
    biases: Sequence[Array],
    activation: object,
    output: object,
    loss: object,
    options: dict[str, Any],
) -> tuple[Architecture, Array]:
    """An architecture and its theta from W (n_out, n_in) and b (n_out,) of each layer."""
    for i, (W, b) in enumerate(zip(weights, biases, strict=True)):
        n_in = len(weights[i - 1]) if i else W.shape[-1] if W.ndim else 1
        if W.ndim != 2 or W.shape[1] != n_in or b.shape != W.shape[:1]:
            raise ValueError(
                f"layer {i} must have a weight (n_out, {n_in}) and a bias (n_out,), "
                f"got {W.shape} and {b.shape}"
            )
    sizes = [weights[0].shape[1], *(len(W) for W in weights)]
    kind = np.result_type(np.float32, *weights, *biases)
    options = {"l2": 0.0, "slope": 0.01, "dtype": kind, **options}
    made = Architecture.checked(sizes, activation, output, loss, **options)
    theta = memory.empty(made.n_params, made.dtype)
    for views, given in zip(made.unflatten(theta), (weights, biases), strict=True):
        for view, values in zip(views, given, strict=True):
            view[...] = values
    return made, theta


# ------------------------------------------------------------------ PyTorch


def to_torch(made: Architecture, theta: Array) -> Any:
    """A torch.nn.Sequential of Linear layers and activations, identity ones left out."""
    _expressible(made, "to_torch")
    import torch

    modules: list[Any] = []
    for W, b, name in zip(*made.unflatten(theta), made.activations, strict=True):
        n_out, n_in = W.shape
        # It draws nothing from PyTorch's generator.
        linear = torch.nn.utils.skip_init(  # type: ignore[no-untyped-call, unused-ignore]
            torch.nn.Linear, n_in, n_out, dtype=getattr(torch, made.dtype.name)
        )
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(np.array(W)))
            linear.bias.copy_(torch.from_numpy(np.array(b)))
        modules.append(linear)
        if name != "identity":
            modules.append(_torch_module(name, made.slope))
    return torch.nn.Sequential(*modules)


def _torch_module(name: str, slope: float) -> Any:
    kind, options = FORMS[name].torch
    given = {key: slope if value == "slope" else value for key, value in options.items()}
    return _torch_class(kind)(**given)


def _torch_class(name: str) -> Any:
    """A class of ours, or else of torch.nn."""
    import torch

    from deltajit.io import torch_modules

    return getattr(torch_modules, name, None) or getattr(torch.nn, name)


def from_torch(
    source: Any, activation: Any, output: str, loss: str, options: dict[str, Any]
) -> tuple[Architecture, Array]:
    """From a Sequential, or from a state_dict and the names of activations: see `Network`."""
    if isinstance(source, Mapping):
        weights, biases = _of_state_dict(source)
        if activation is None and len(weights) > 1:
            raise TypeError("activation must be given with a state_dict, which has none; got None")
        hidden = () if activation is None else activation
    else:
        weights, biases, names, slopes = _of_sequential(source)
        hidden = names[:-1]
        same = activation in (None, hidden, tuple(hidden)) or hidden == [activation] * len(hidden)
        if not same:
            raise ValueError(f"activation must be the Sequential's, {hidden}; got {activation!r}")
        if names[-1] != "identity":
            if output not in ("auto", names[-1]):
                raise ValueError(f"output must be the Sequential's, {names[-1]!r}; got {output!r}")
            output = names[-1]
        if slopes:
            options = {"slope": slopes[0], **options}
            if {*slopes} != {options["slope"]}:
                raise ValueError(
                    f"slope must be one for all layers, got {slopes} and slope={options['slope']}"
                )
    return _assembled(weights, biases, hidden, output, loss, options)


def _of_state_dict(source: Mapping[str, Any]) -> tuple[list[Array], list[Array]]:
    """Weights and biases, in order; a missing bias is 0."""
    weights, biases, used = [], [], set()
    for name in _in_order([name for name in source if name.split(".")[-1] == "weight"]):
        W, bias = _numpy(source[name]), name.removesuffix("weight") + "bias"
        weights.append(W)
        biases.append(_numpy(source[bias]) if bias in source else np.zeros(W.shape[:1], W.dtype))
        used |= {name, bias}
    rest = [name for name in source if name not in used]
    if rest or not weights:
        raise ValueError(
            'source must be a state_dict of Linear layers, with names such as "0.weight" and '
            f'"0.bias"; got {rest or "an empty one"}'
        )
    return weights, biases


def _in_order(names: list[str]) -> list[str]:
    """By number, if that is all that tells them apart (files are sorted otherwise); else as given.

    A state_dict of PyTorch's has the order in which the layers were made.
    """
    found = [re.fullmatch(r"(|.*\D)(\d+)\.weight", name) for name in names]
    numbers = {name: int(match[2]) for name, match in zip(names, found, strict=True) if match}
    if len(numbers) == len(names) and len({match[1] for match in found if match}) == 1:
        return sorted(names, key=numbers.__getitem__)
    return names


def _of_sequential(source: Any) -> tuple[list[Array], list[Array], list[str], list[float]]:
    """(weights, biases, name of each layer's activation, slopes of leaky_relu)."""
    weights, biases, names, slopes = [], [], [], []
    for module in _leaves(source):
        kind = type(module).__name__
        if kind == "Linear":
            W = _numpy(module.weight)
            weights.append(W)
            biases.append(np.zeros(len(W), W.dtype) if module.bias is None else _numpy(module.bias))
            names.append("identity")
        elif kind not in PASSIVE:
            if not names or names[-1] != "identity":
                raise ValueError(f"{module!r} must come right behind a Linear layer")
            names[-1] = _name_of(module)
            if names[-1] == "leaky_relu":
                slopes.append(float(module.negative_slope))
    if not weights:
        raise ValueError(f"source must have Linear layers, got {source!r}")
    return weights, biases, names, slopes


def _leaves(source: Any) -> Iterator[Any]:
    """Modules of a Sequential and of those in it, in order."""
    import torch

    if not isinstance(source, torch.nn.Sequential):
        raise TypeError(
            f"source must be a torch.nn.Sequential or a state_dict, got {type(source).__name__}; "
            "for another Module pass its state_dict() and say activation=..."
        )
    for module in source:
        if isinstance(module, torch.nn.Sequential):
            yield from _leaves(module)
        else:
            yield module


def _name_of(module: Any) -> str:
    """Our name of a module's activation, options included."""
    for name, (kind, options) in ((name, form.torch) for name, form in FORMS.items()):
        if type(module) is not _torch_class(kind):
            continue
        wrong = [
            f"{key}={getattr(module, key)}"
            for key, value in options.items()
            if not _is_alike(key, getattr(module, key), value)
        ]
        if wrong:
            raise ValueError(f"{module!r} has {', '.join(wrong)}, which {name} cannot be given")
        return name
    raise ValueError(f"{module!r} must be Linear or one of our activations, {', '.join(FORMS)}")


def _is_alike(option: str, given: Any, ours: Any) -> bool:
    """Whether a module's option means what ours does."""
    if option == "dim":
        return given in (1, -1)  # of (B, n_out) both are the last
    if option == "threshold":
        return float(given) >= 20  # PyTorch's own: 2e-9 too little, at most
    return bool(ours == "slope" or given == ours)


def _numpy(tensor: Any) -> Array:
    """A tensor, or an array, as float32, or float64 where it is that."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu().double() if "float64" in str(tensor.dtype) else (
            tensor.detach().cpu().float()
        )  # fmt: skip
        return np.asarray(tensor.numpy())
    found = np.asarray(tensor)
    return found if found.dtype == np.float64 else found.astype(np.float32)


# ------------------------------------------------------------------ scikit-learn


def from_sklearn(mlp: Any, options: dict[str, Any]) -> tuple[Architecture, Array]:
    """From a fitted MLPClassifier or MLPRegressor: see `Network`."""
    missing = [
        name
        for name in ("coefs_", "intercepts_", "activation", "out_activation_")
        if not hasattr(mlp, name)
    ]
    if missing:
        raise TypeError(
            "mlp must be a fitted MLPClassifier or MLPRegressor, "
            f"got {mlp!r} without {', '.join(missing)}"
        )
    if hasattr(mlp, "_architecture"):  # ours: what fit has made, whatever the parameters are now
        hidden = list(mlp._architecture.activations[:-1])
    else:
        hidden = [SKLEARN.get(mlp.activation, mlp.activation)] * (len(mlp.coefs_) - 1)
    output = SKLEARN.get(mlp.out_activation_, mlp.out_activation_)
    weights, biases = [W.T for W in mlp.coefs_], list(mlp.intercepts_)
    scaler = getattr(mlp, "standardizer_", None)
    if scaler is not None:  # ours again: W (x - mean) / scale + b
        weights[0] = (weights[0] / scaler.scale_).astype(weights[0].dtype)
        if scaler.with_mean:
            biases[0] = (biases[0] - weights[0] @ scaler.mean_).astype(biases[0].dtype)
    return _assembled(weights, biases, hidden, output, "auto", options)


# ------------------------------------------------------------------ ONNX

OPSET, IR_VERSION = 17, 8  # old enough for runtimes of 2022


def to_onnx(made: Architecture, theta: Array, path: Path) -> None:
    """Write `predict` as an ONNX model, which onnx.checker has checked."""
    _expressible(made, "to_onnx")
    import onnx
    from onnx import helper, numpy_helper

    nodes: list[Any] = []
    constants: dict[str, Array] = {"slope": np.array(made.slope, made.dtype)}
    x = "X"
    for i, (W, b, name) in enumerate(zip(*made.unflatten(theta), made.activations, strict=True)):
        layer = f"layers.{i}"
        constants |= {f"{layer}.weight": np.ascontiguousarray(W), f"{layer}.bias": b}
        z, a = f"{layer}.z", "Y" if i == len(made.sizes) - 2 else f"{layer}.a"
        inputs = [x, f"{layer}.weight", f"{layer}.bias"]
        nodes.append(helper.make_node("Gemm", inputs, [z], transB=1))
        form = FORMS[name]
        text = (made.dtype == np.float64 and form.onnx_double) or form.onnx
        for targets, operator, options, arguments in _statements(text):
            here = {"x": z, "y": a, "slope": "slope"}
            for argument in arguments:
                if re.match(r"-?\d", argument):
                    constants[argument] = np.array(float(argument), made.dtype)
                    here[argument] = argument
            operands = [here.get(other, f"{layer}.{other}") for other in arguments]
            results = [here.get(target, f"{layer}.{target}") for target in targets]
            nodes.append(helper.make_node(operator, operands, results, **options))
        x = a
    kind = helper.np_dtype_to_tensor_dtype(made.dtype)
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "deltajit",
        [helper.make_tensor_value_info("X", kind, ["batch", made.sizes[0]])],
        [helper.make_tensor_value_info("Y", kind, ["batch", made.sizes[-1]])],
        [numpy_helper.from_array(value, key) for key, value in constants.items() if key in used],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(model)
    replace(path, model.SerializeToString())


def _statements(text: str) -> Iterator[tuple[list[str], str, dict[str, Any], list[str]]]:
    """(targets, operator, options, arguments) of each assignment ``m, v = Split[axis=1](x)``."""
    pattern = r"(\w+(?:, \w+)*) = (\w+)(?:\[(\w+)=(\d+)\])?\(([^)]*)\)"
    for targets, operator, option, value, arguments in re.findall(pattern, text):
        options: dict[str, Any] = {option: int(value)} if option else {}
        yield targets.split(", "), operator, options, arguments.split(", ")


# ------------------------------------------------------------------ C

LINEAR = """\
/* z = W x + b, with W (n_out, n_in) in rows. */
static inline void {name}_linear(
    const {T} *W, const {T} *b, int n_in, int n_out, const {T} *x, {T} *z)
{{
    for (int i = 0; i < n_out; i++) {{
        {T} sum = b[i];
        for (int j = 0; j < n_in; j++)
            sum += W[i * (long)n_in + j] * x[j];
        z[i] = sum;
    }}
}}
"""

ELEMENTWISE = """\
static inline void {name}_{activation}({T} *z, int n)
{{
    for (int i = 0; i < n; i++) {{
        const {T} x = z[i];
        z[i] = {c};
    }}
}}
"""

SOFTMAX = """\
static inline void {name}_softmax({T} *z, int n)
{{
    {T} top = z[0], sum = 0;
    for (int i = 1; i < n; i++)
        top = z[i] > top ? z[i] : top;
    for (int i = 0; i < n; i++)
        sum += z[i] = exp{f}(z[i] - top);
    for (int i = 0; i < n; i++)
        z[i] /= sum;
}}
"""

HEADER = """\
/* {about}, written by deltajit.
 *
 *     #include "{file}"
 *
 *     {T} x[{n_in}] = {{...}}, out[{n_out}];
 *     {name}_predict(x, out);
 *
 * C99, of one sample; x and out must not overlap. It allocates nothing, takes {stack:,} bytes of
 * stack, and may be called by many threads at once. Link with -lm.
 */
#ifndef {guard}
#define {guard}

#include <math.h>
"""


def to_c(made: Architecture, theta: Array, path: Path, name: str | None) -> None:
    """Write `predict` of one sample as a C99 header."""
    _expressible(made, "to_c")
    file = os.path.basename(os.fspath(path))
    if name is None:
        name = re.sub(r"\W", "_", os.path.splitext(file)[0], flags=re.ASCII)
        name = f"_{name}" if name[:1].isdigit() else name
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"name must be a name in C, of letters, digits and _; got {name!r}")
    single = made.dtype == np.float32
    words = {"name": name, "T": "float" if single else "double", "f": "f" if single else ""}
    buffers = _c_buffers(made)
    parts = [
        HEADER.format(
            about=f"{'-'.join(map(str, made.sizes))}, {' -> '.join(made.activations)}",
            file=re.sub(r"[^\w.\- ]", "_", file),
            n_in=made.sizes[0],
            n_out=made.sizes[-1],
            stack=sum(buffers.values()) * made.dtype.itemsize,
            guard=f"{name.upper()}_H",
            **words,
        )
    ]
    for i, (W, b) in enumerate(zip(*made.unflatten(theta), strict=True)):
        parts += [_c_array(f"{name}_W{i}", W, words), _c_array(f"{name}_b{i}", b, words)]
    parts.append(LINEAR.format(**words))
    for activation in sorted({*made.activations} - {"identity"}):
        expression = FORMS[activation].c.format(slope=_c_number(made.slope, words), **words)
        text = ELEMENTWISE if expression else SOFTMAX
        parts.append(text.format(activation=activation, c=expression, **words))
    parts += [_c_predict(made, buffers, words), "#endif\n"]
    replace(path, "\n".join(parts).encode())


def _c_buffers(made: Architecture) -> dict[str, int]:
    """Sizes of the two between which layers go to and fro, by name: those that are needed."""
    hidden = made.sizes[1:-1]
    pairs = {"even": hidden[::2], "odd": hidden[1::2]}
    return {name: max(sizes) for name, sizes in pairs.items() if sizes}


def _c_predict(made: Architecture, buffers: dict[str, int], words: dict[str, str]) -> str:
    """The function that calls a layer after the other."""
    name, T, last = words["name"], words["T"], len(made.sizes) - 2
    lines = [f"static inline void {name}_predict(const {T} *x, {T} *out)", "{"]
    lines += [f"    {T} {buffer}[{size}];" for buffer, size in buffers.items()]
    x = "x"
    for i, activation in enumerate(made.activations):
        z = "out" if i == last else ("even", "odd")[i % 2]
        n_in, n_out = made.sizes[i : i + 2]
        lines.append(f"    {name}_linear({name}_W{i}, {name}_b{i}, {n_in}, {n_out}, {x}, {z});")
        if activation != "identity":
            lines.append(f"    {name}_{activation}({z}, {n_out});")
        x = z
    return "\n".join([*lines, "}", ""])


def _c_array(name: str, values: Array, words: dict[str, str]) -> str:
    numbers = [_c_number(value, words) for value in values.ravel().tolist()]
    rows = [", ".join(numbers[i : i + 4]) for i in range(0, len(numbers), 4)]
    body = ",\n    ".join(rows)
    return f"static const {words['T']} {name}[{len(numbers)}] = {{\n    {body}\n}};\n"


def _c_number(value: float, words: dict[str, str]) -> str:
    """A literal with all digits that the type has."""
    if not np.isfinite(value):
        return "NAN" if np.isnan(value) else "INFINITY" if value > 0 else "-INFINITY"
    return f"{value:.8e}f" if words["f"] else f"{value:.16e}"
