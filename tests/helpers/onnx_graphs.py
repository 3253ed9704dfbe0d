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


UNARY = [
    "Abs", "Celu<alpha=0.5>", "Ceil", "Clip", "Cos", "Dropout", "Elu", "Elu<alpha=2.0>", "Erf",
    "Exp", "Flatten", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu<alpha=0.1>", "Log",
    "Mish", "Neg", "Reciprocal", "Relu", "Selu", "Sigmoid", "Sign", "Sin", "Softmax<axis=-1>",
    "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu<alpha=0.5>",
]  # fmt: skip


def random_graph(rng):
    """A graph of random operators from x (batch, 5) to y (batch, n)."""
    constants, lines, pool = {}, [], [("x", 5)]

    def constant(shape):
        name = f"c{len(constants)}"
        drawn = rng.normal(size=shape) if rng.random() < 0.7 else rng.choice([0.5, 1, 2, -1, 6])
        constants[name] = np.array(np.broadcast_to(drawn, shape), np.float32)
        return name

    depth = rng.integers(2, 8)
    for d in range(depth):
        (x, n), y = pool[-1 if rng.random() < 0.85 else rng.integers(len(pool))], f"t{d}"
        kind = rng.integers(15)
        if kind < 4:
            m = int(rng.integers(1, 7))
            lines.append(
                [
                    f"{y} = Gemm({x}, {constant((n, m))}, {constant((m,))})",
                    f"{y} = Gemm<transB=1, beta=2.0>({x}, {constant((m, n))}, {constant((1, m))})",
                    f"{y} = MatMul({x}, {constant((n, m))})",
                    f"{y} = Gemm<alpha=0.5>({x}, {constant((n, m))}, {constant(())})",
                ][kind]
            )
            n = m
        elif kind < 8:
            lines.append(f"{y} = {rng.choice(UNARY)}({x})")
        elif kind < 11:
            operator = rng.choice(["Add", "Sub", "Mul", "Div", "Max", "Min"])
            operands = [x, constant([(1,), (n,), (), (1, n)][rng.integers(4)])]
            rng.shuffle(operands)
            lines.append(f"{y} = {operator}({', '.join(operands)})")
        elif kind == 11:
            other = rng.choice([name for name, size in pool if size == n])
            lines.append(f"{y} = {rng.choice(['Add', 'Mul', 'Max'])}({x}, {other})")
        elif kind == 12:
            constants[f"i{d}"] = rng.permutation(n)[: rng.integers(1, n + 1)]
            lines.append(f"{y} = Gather<axis=1>({x}, i{d})")
            n = len(constants[f"i{d}"])
        elif kind == 13 and n > 1:
            m = int(rng.integers(1, n))
            constants[f"i{d}"] = np.array([m, n - m])
            lines.append(f"{y}, u{d} = Split<axis=1>({x}, i{d})")
            pool.append((f"u{d}", n - m))
            n = m
        else:
            other, m = pool[rng.integers(len(pool))]
            lines.append(f"{y} = Concat<axis=1>({x}, {other})")
            n += m
        pool.append((y, n))
    lines.append(f"y = Identity({pool[-1][0]})")
    return made(lines, constants, 5, opset=18)
