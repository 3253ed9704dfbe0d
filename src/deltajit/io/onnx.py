"""Networks to and from ONNX files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from deltajit.io.files import Path, replace
from deltajit.io.forms import FORMS, check_forms
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array

OPSET, IR_VERSION = 17, 8  # old enough for runtimes of 2022


def to_onnx(architecture: Architecture, theta: Array, path: Path) -> None:
    """Write `predict` as an ONNX model that passes onnx.checker: see `Network.to_onnx`."""
    check_forms(architecture, "to_onnx")
    _check_onnx("to_onnx")
    import onnx
    from onnx import helper, numpy_helper

    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Array] = {"slope": np.array(architecture.slope, architecture.dtype)}
    x = "X"
    weights, biases = architecture.unflatten(theta)
    for i, (W, b, name) in enumerate(zip(weights, biases, architecture.activations, strict=True)):
        layer = f"layers.{i}"
        constants |= {f"{layer}.weight": np.ascontiguousarray(W), f"{layer}.bias": b}
        z, a = f"{layer}.z", "Y" if i == len(architecture.sizes) - 2 else f"{layer}.a"
        inputs = [x, f"{layer}.weight", f"{layer}.bias"]
        nodes.append(helper.make_node("Gemm", inputs, [z], transB=1))
        form = FORMS[name]
        text = (architecture.dtype == np.float64 and form.onnx_double) or form.onnx
        for targets, operator, options, arguments in _statements(text):
            here = {"x": z, "y": a, "slope": "slope"}
            for argument in arguments:
                if re.match(r"-?\d", argument):
                    constants[argument] = np.array(float(argument), architecture.dtype)
                    here[argument] = argument
            operands = [here.get(other, f"{layer}.{other}") for other in arguments]
            results = [here.get(target, f"{layer}.{target}") for target in targets]
            nodes.append(helper.make_node(operator, operands, results, **options))
        x = a
    kind = helper.np_dtype_to_tensor_dtype(architecture.dtype)
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "deltajit",
        [helper.make_tensor_value_info("X", kind, ["batch", architecture.sizes[0]])],
        [helper.make_tensor_value_info("Y", kind, ["batch", architecture.sizes[-1]])],
        [numpy_helper.from_array(value, key) for key, value in constants.items() if key in used],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    names = {"class_names": architecture.class_names, "input_names": architecture.input_names}
    helper.set_model_props(model, {k: json.dumps(v) for k, v in names.items() if v is not None})
    onnx.checker.check_model(model)
    replace(path, model.SerializeToString())


def _statements(text: str) -> Iterator[tuple[list[str], str, dict[str, Any], list[str]]]:
    """Yield (targets, operator, options, arguments) of assignments ``m, v = Split[axis=1](x)``."""
    pattern = r"(\w+(?:, \w+)*) = (\w+)(?:\[(\w+)=(\d+)\])?\(([^)]*)\)"
    for targets, operator, option, value, arguments in re.findall(pattern, text):
        options: dict[str, Any] = {option: int(value)} if option else {}
        yield targets.split(", "), operator, options, arguments.split(", ")


def from_onnx(
    path: Path, output_name: str | None, loss: str, options: Mapping[str, object]
) -> tuple[Architecture, Array]:
    """Return an architecture and theta of an ONNX file's network: see `Network.from_onnx`."""
    _check_onnx("from_onnx")
    from deltajit.io import onnx_graph

    return onnx_graph.from_onnx(path, output_name, loss, options)


def _check_onnx(method: str) -> None:
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise ImportError(f"{method} needs onnx: pip install 'deltajit[onnx]'") from None
