"""ONNX graphs written down as exporters write them, in lines such as "z = Gemm(x, W, b)"."""

import numpy as np


def made(lines, constants, n_in, opset=17, inputs=None, outputs=("y",), dtype="float32"):
    """The model of lines, with constants by their names, from x, or inputs, to outputs."""
    from onnx import helper, numpy_helper, parser

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    given = {"x": ["batch", n_in]} if inputs is None else inputs
    nodes = [parser.parse_node(line) for line in lines]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, dims) for name, dims in given.items()],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(constants[x]), x) for x in constants if x in used],
    )
    for node in graph.node:
        node.name = f"the_{node.output[0]}"
        node.domain = "ai.onnx.ml" if node.op_type in ("Scaler", "ZipMap") else ""
    versions = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 2)]
    return helper.make_model(graph, opset_imports=versions, ir_version=8)


def weights(*sizes, dtype="float32", seed=0):
    """W1 (n_0, n_1), b1, W2, ...: as they stand in ``x @ W + b``."""
    draw = np.random.default_rng(seed).normal
    found = {}
    for i in range(1, len(sizes)):
        n_in, n_out = sizes[i - 1 : i + 1]
        found[f"W{i}"] = draw(0, n_in**-0.5, (n_in, n_out)).astype(dtype)
        found[f"b{i}"] = draw(0, 0.5, n_out).astype(dtype)
    return found


def evaluations(model, X, output="y"):
    """What onnx's reference implementation makes of X, and ONNX Runtime if it is there."""
    from onnx.reference import ReferenceEvaluator

    (name,) = [x.name for x in model.graph.input]
    yield ReferenceEvaluator(model).run([output], {name: X})[0]
    try:
        import onnxruntime
    except ImportError:
        return
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    yield session.run([output], {name: X})[0]
