"""Activations in other languages. Exporters refuse those that have no row in `FORMS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from deltajit.kernels.simd.elementary import _F64
from deltajit.model import memory
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array


class Form(NamedTuple):
    """Describe an activation in other languages; `slope` stands for the network's.

    Attributes
    ----------
    torch : tuple
        A class of torch.nn or of `torch_modules`, and its options.
    onnx : str
        Assignments that compute y from x; numbers are constants of x's type. ONNX Runtime has these
        operators in double precision too, unlike many others (Erf, for one), and accurate to a few
        ULP (unlike Sigmoid, Softplus and Elu near 0).
    c : str
        An expression in C99 with <math.h>, of x, which is z[i], and n, the size of z. {f} is the
        suffix of functions and literals of type float. It must be NaN where x is NaN. Empty for
        softmax.
    onnx_double : str
        Replaces `onnx` in double precision, if not empty.
    """

    torch: tuple[str, dict[str, float | str]]
    onnx: str
    c: str = ""
    onnx_double: str = ""


def _polynomial(y: str, x: str, coefficients: Sequence[float]) -> str:
    """Write assignments of ``y0 = c[0] + c[1] x + c[2] x**2 + ...``, by Horner's rule."""
    *others, value = [repr(float(c)) for c in coefficients]
    steps = []
    for i, c in reversed(list(enumerate(others))):
        steps += [f"{y}_{i} = Mul({value}, {x})", f"{y}{i} = Add({y}_{i}, {c})"]
        value = f"{y}{i}"
    return "; ".join(steps)


# e = exp(-|x|), which does not overflow; p / d is the sigmoid function.
_DECAY = "m = Abs(x); n = Neg(m); e = Exp(n)"
_SIGMOID = f"{_DECAY}; d = Add(e, 1); low = LessOrEqual(x, 0); p = Where(low, e, 1)"

# log(1 + e), corrected by the rounding error of u = 1 + e, which u - 1 has too (W. Kahan).
_LOG1P = (
    "u = Add(e, 1); l = Log(u); d = Sub(u, 1); q = Div(e, d); c = Mul(l, q);"
    "same = LessOrEqual(u, 1); k = Where(same, e, c)"
)

# exp(x) - 1 = (exp(x) + 1) tanh(x / 2), which does not cancel.
_EXPM1 = "e = Exp(x); p = Add(e, 1); h = Mul(x, 0.5); t = Tanh(h); m = Mul(p, t)"

# erf(r) by the kernels' polynomials: in r**2 where |r| < 1, else for the logarithm of 1 - erf(|r|).
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
        ("Softplus", {"beta": 1.0, "threshold": 40.0}),  # it returns x above 40
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
        ("Step", {}), "p = Max(x, 0); m = Min(p, 1); y = Ceil(m)", "x > 0 ? 1 : x <= 0 ? 0 : x"
    ),
    "gaussian": Form(
        ("Gaussian", {}),
        "m, v = Split[axis=1](x); e = Exp(v); y = Concat[axis=1](m, e)",
        "i < n / 2 ? x : exp{f}(x)",
    ),
}


def check_forms(architecture: Architecture, method: str) -> None:
    """Refuse activations without a form; the loss does not matter to `predict`."""
    for name in architecture.activations:
        if name not in FORMS:
            raise ValueError(
                f"{method} cannot express activation={name!r}; it knows {', '.join(FORMS)}"
            )


def assembled(
    weights: Sequence[Array],
    biases: Sequence[Array],
    activation: object,
    output: object,
    loss: object,
    options: Mapping[str, object],
) -> tuple[Architecture, Array]:
    """Return an architecture and its theta from W (n_out, n_in) and b (n_out,) of each layer.

    The dtype is float64 if one of the arrays is, unless `options`, further arguments of
    `Architecture.checked`, say otherwise; they are all checked here.
    """
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
    architecture = Architecture.checked(sizes, activation, output, loss, **options)
    theta = memory.empty(architecture.n_params, architecture.dtype)
    for views, given in zip(architecture.unflatten(theta), (weights, biases), strict=True):
        for view, values in zip(views, given, strict=True):
            view[...] = values
    return architecture, theta
