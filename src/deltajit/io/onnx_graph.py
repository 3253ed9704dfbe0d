"""The multilayer perceptron that an ONNX graph computes.

The graph is walked forward, node by node. Each tensor is a constant, or a `Signal`: a `Chain` of
layers up to some tensor, its base, and operations of single elements since. A linear map, an
arrangement of features or the graph's end closes those operations, of which `onnx_elements` makes
affine maps and activations.

This module imports onnx, so it may be imported only where onnx is asked for.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper

from deltajit.io import onnx_file
from deltajit.io.chain import Chain, Layer, joined
from deltajit.io.files import FormatError, Path
from deltajit.io.forms import assembled
from deltajit.io.onnx_elements import (
    BY_ELEMENT,
    Map,
    UnknownError,
    described,
    evaluated,
    options_of,
    parts,
)
from deltajit.io.recognition import Recognized
from deltajit.model import checks
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array

# Operators that arrange elements anew, or take some of them.
ARRANGEMENTS = {
    "ArrayFeatureExtractor", "Flatten", "Gather", "GatherND", "Reshape", "Slice", "Split",
    "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
PASSIVE = {"Cast", "CastLike", "Dropout", "Identity", "ZipMap"}  # change nothing here
# What is computed of constants: of weights normalized in training, and of shapes.
FOLDED = (
    BY_ELEMENT | ARRANGEMENTS | {"Cast", "Concat", "Identity", "ReduceL2", "ReduceSum", "Shape"}
)

# Elements that may be computed: copies of each constant in the file, and others.
COPIES, SPARE = 8, 2**21
REAL = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16}
REAL |= {onnx.TensorProto.BFLOAT16}
DOMAINS = ("", "ai.onnx", "ai.onnx.ml")


class Signal(NamedTuple):
    """A tensor that depends on the input.

    Attributes
    ----------
    chain : Chain
        What is computed up to the tensor `base`.
    base : str
        The name of that tensor.
    name : str
        The name of this one.
    shape : tuple of int
        The shape for the number of samples that the graph is walked with.
    """

    chain: Chain
    base: str
    name: str
    shape: tuple[int, ...]


def from_onnx(
    path: Path, output_name: str | None, loss: str, options: Mapping[str, object]
) -> tuple[Architecture, Array]:
    """Return an architecture and theta of an ONNX file's network: see `Network.from_onnx`."""
    name = checks.path(path)
    try:
        model = onnx_file.read(name)
        walk = Walk(model, os.path.dirname(name))
        target = _output(model.graph, output_name)
        with np.errstate(all="ignore"):
            layers = walk.layers(target)
            theirs = np.float64 if walk.is_double else np.float32
            weights = [layer.W.astype(theirs) for layer in layers]
            biases = [layer.b.astype(theirs) for layer in layers]
        if not all(np.isfinite(x).all() for x in (*weights, *biases)):
            raise FormatError(f"its weights must be finite numbers of {np.dtype(theirs)}")
    except FormatError as error:
        raise FormatError(f"{name!r} can't be loaded: {str(error)[:750]}") from None
    except RecursionError:
        raise FormatError(f"{name!r} can't be loaded: it is too nested") from None
    if walk.slopes:
        options = {"slope": walk.slope, **options}
        if options["slope"] != walk.slope:
            raise ValueError(f"slope must be the file's, {walk.slope}, got {options['slope']}")
    *hidden, last = [layer.activation for layer in layers]
    if last == "identity" and loss not in ("auto", "gaussian_nll"):
        last = "auto"
    return assembled(weights, biases, hidden, last, loss, options)


def _output(graph: onnx.GraphProto, name: str | None) -> str:
    """Return the name of the output that is asked for."""
    names = [output.name for output in graph.output]
    if name is not None:
        if name not in names:
            raise ValueError(f"output_name must be one of {names}, got {name!r}")
        return name
    mapped = {x for node in graph.node if node.op_type == "ZipMap" for x in node.output}
    real = [
        output.name
        for output in graph.output
        if output.type.tensor_type.elem_type in REAL or output.name in mapped
    ]
    if len(real) == 1 or len(names) == 1:
        return str((real or names)[0])
    raise ValueError(f"output_name must say which of the outputs {real or names} is the network's")


class Walk:
    """Walk a graph forward.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.
    folder : str
        Where its file is.

    Attributes
    ----------
    is_double : bool
        Whether a weight is of type double.
    slopes : list of float
        Slopes of leaky_relu.
    """

    def __init__(self, model: onnx.ModelProto, folder: str) -> None:
        self.model, self.folder, self.budget = model, folder, SPARE
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self.constants: dict[str, Array] = {}
        self.signals: dict[str, Signal] = {}
        self.nodes: dict[str, tuple[int, onnx.NodeProto]] = {}  # numbered, of single elements
        self.maps: dict[str, Map] = {}  # factor and term, if such a node is affine
        self.closed: dict[str, Chain] = {}
        self.moved: dict[str, tuple[Chain, Array]] = {}  # places of elements, not sample by sample
        self.slopes: list[float] = []
        self.is_double = False

    @property
    def slope(self) -> float:
        """Return the slope of leaky_relu, with no more digits than it has in the weights' type."""
        slope = self.slopes[0]
        return slope if self.is_double else float(str(np.float32(slope)))

    def layers(self, target: str) -> tuple[Layer, ...]:
        """Return the layers that compute a tensor from the only input that it depends on."""
        nodes = self._needed(target)
        inputs = {name for node in nodes for name in node.input}
        given = [x for x in self.model.graph.input if x.name in inputs - set(self.tensors)]
        if len(given) != 1:
            names = [x.name for x in given]
            raise FormatError(f"output {target!r} must depend on one input, got {names}")
        self._start(given[0], nodes)
        for node in nodes:
            with _named(node):
                self._walk(node)
        if target not in self.signals:
            raise FormatError(f"output {target!r} does not depend on the input")
        if not any(node.op_type in ("Gemm", "MatMul") for node in nodes):
            raise FormatError("it has no linear layer, Gemm or MatMul")
        with _named(nodes[-1]):
            return self._closed(self.signals[target]).finished()

    def _needed(self, target: str) -> list[onnx.NodeProto]:
        """Return the nodes that a tensor depends on, in the graph's order."""
        made = {name: i for i, node in enumerate(self.model.graph.node) for name in node.output}
        pending, needed = [target], set()
        while pending:
            i = made.get(pending.pop(), -1)
            if i >= 0 and i not in needed:
                needed.add(i)
                pending += self.model.graph.node[i].input
        return [self.model.graph.node[i] for i in sorted(needed)]

    def _start(self, given: onnx.ValueInfoProto, nodes: Sequence[onnx.NodeProto]) -> None:
        """Make the input's signal."""
        kind = given.type.tensor_type
        if kind.elem_type not in REAL:
            raise FormatError(f"input {given.name!r} must be a tensor of real numbers")
        dims = [x.dim_value for x in kind.shape.dim] if kind.HasField("shape") else [0, 0]
        # Unknown sizes are 0. The number of samples is no matter, unless a Reshape repeats it.
        self.samples = 1 if len(dims) < 2 else dims[0] if 0 < dims[0] <= 1024 else 3
        inner = dims if len(dims) < 2 else dims[1:]
        if 0 in inner[:1] and len(inner) == 1:
            inner = [self._n_inputs(nodes)]
        if 0 in inner:
            raise FormatError(f"input {given.name!r} must have a known size, got {dims}")
        shape = tuple(inner) if len(dims) < 2 else (self.samples, *inner)
        self._spend(math.prod(inner))
        chain = Chain.of_inputs(math.prod(inner))
        self.signals[given.name] = Signal(chain, given.name, given.name, shape)

    def _n_inputs(self, nodes: Sequence[onnx.NodeProto]) -> int:
        """Return the number of inputs by the first weights, where the file does not say it."""
        for node in nodes:
            if node.op_type in ("Gemm", "MatMul"):
                W = self._constant(node.input[1])
                if W is not None and W.ndim == 2:
                    return int(W.shape[bool(options_of(node).get("transB"))])
        return 0

    def _spend(self, elements: int) -> None:
        """Count elements that are computed; a small file cannot ask for much memory."""
        self.budget -= elements
        if self.budget < 0:
            raise FormatError("it makes more numbers than its size warrants")

    # ------------------------------------------------------------------ nodes

    def _walk(self, node: onnx.NodeProto) -> None:
        """Make the signals or constants that are a node's outputs."""
        operator = node.op_type
        if node.domain not in DOMAINS:
            raise FormatError(f"its domain {node.domain!r} is unknown here")
        if operator in ARRANGEMENTS and node.input[0] in self.moved:
            return self._arrange(node)
        if any(name in self.moved for name in node.input):
            raise FormatError("its input does not hold one sample after the other")
        given = [name for name in node.input if name in self.signals]
        unknown = [x for x in node.input if x and x not in given and self._constant(x) is None]
        if unknown:
            raise FormatError(f"its input {unknown[0]!r} is computed by no node before")
        if operator == "Constant":
            self._keep(node)
        elif not given or operator == "Shape":
            self._fold(node)
        elif operator in PASSIVE:
            self._pass(node)
        elif operator in ("Gemm", "MatMul"):
            self._multiply(node)
        elif operator in ("Concat", "Softmax"):
            self._of_rows(node)
        elif operator in BY_ELEMENT:
            self._operate(node, given)
        elif operator in ARRANGEMENTS and given == [node.input[0]]:
            self._arrange(node)
        else:
            raise FormatError("a multilayer perceptron has no such operator")

    def _constant(self, name: str) -> Array | None:
        """Return a constant's values, and None if the tensor is none."""
        if name not in self.constants and name in self.tensors:
            tensor = self.tensors[name]
            self.constants[name] = onnx_file.array(tensor, self.folder)
            self.budget += COPIES * self.constants[name].size
        return self.constants.get(name)

    def _keep(self, node: onnx.NodeProto) -> None:
        """Keep what a Constant holds."""
        (attribute,) = node.attribute
        if attribute.name == "value":
            self.tensors[node.output[0]] = attribute.t
        elif attribute.name in ("value_float", "value_floats", "value_int", "value_ints"):
            self.constants[node.output[0]] = np.array(helper.get_attribute_value(attribute))
        else:
            raise FormatError(f"its {attribute.name} is no number")

    def _fold(self, node: onnx.NodeProto) -> None:
        """Compute a node of constants."""
        if node.op_type not in FOLDED:
            raise FormatError("it is not computed here, even of constants")
        feeds = {name: self._known(name) for name in node.input if name not in ("", *self.signals)}
        if node.op_type == "Shape":
            feeds = {x: np.empty(self._shape(x), bool) for x in node.input}
        sizes = [value.size for value in feeds.values()]
        if node.op_type in BY_ELEMENT:
            shapes = [value.shape for value in feeds.values()]
            self._spend(math.prod(np.broadcast_shapes(*shapes)))
        elif node.op_type in ("ArrayFeatureExtractor", "Gather", "GatherND"):
            self._spend(math.prod(sizes))
        else:
            self._spend(sum(sizes))
        self.constants.update(
            zip(node.output, evaluated([node], feeds, self.model.opset_import), strict=True)
        )
        for name in node.output:  # a transposed weight has the type of the weight
            if node.input and node.input[0] in self.tensors:
                self.tensors[name] = self.tensors[node.input[0]]

    def _known(self, name: str) -> Array:
        """Return a constant's values."""
        value = self._constant(name)
        if value is None:
            raise FormatError(f"{name!r} must be a constant")
        return value

    def _shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a signal or a constant."""
        return self.signals[name].shape if name in self.signals else self._known(name).shape

    def _pass(self, node: onnx.NodeProto) -> None:
        """Make an output the same as the input."""
        options = options_of(node)
        if node.op_type == "Cast" and options["to"] not in REAL:
            raise FormatError("it rounds to integers, or compares with 0")
        if node.op_type == "Dropout" and len(node.input) > 2 and self._known(node.input[2]).any():
            raise FormatError("it is in training mode")
        self.signals[node.output[0]] = self.signals[node.input[0]]

    def _multiply(self, node: onnx.NodeProto) -> None:
        """Multiply by weights, as a new base."""
        options = options_of(node)
        name, other = node.input[:2]
        is_left = name not in self.signals  # W @ x
        if is_left:
            name, other = other, name
        signal, W, shape = self.signals[name], self._known(other), self.signals[name].shape
        if W.ndim not in (1, 2) or (is_left and (len(shape) > 1 or node.op_type == "Gemm")):
            raise FormatError(f"its factors have shapes {shape} and {W.shape}")
        if options.get("transA"):
            raise FormatError("it transposes the samples")
        is_transposed = is_left or options.get("transB")
        matrix = W.reshape(len(W), -1) if is_transposed else W.reshape(len(W), -1).T
        n = len(signal.chain.shift)
        if shape[-1] != n or matrix.shape[1] != n:
            raise FormatError(f"weights {W.shape} do not fit {n} features in a tensor {shape}")
        self.is_double |= other in self.tensors and (
            self.tensors[other].data_type == onnx.TensorProto.DOUBLE
        )
        self._spend(matrix.size)
        chain = self._closed(signal).linear(options.get("alpha", 1.0) * matrix)
        inner = (len(matrix),) if W.ndim == 2 else ()
        if len(node.input) > 2 and node.input[2]:
            bias = self._vector(node.input[2], (*shape[:-1], *inner))
            chain = chain.affine(1.0, options.get("beta", 1.0) * bias)
        self._set(node.output[0], chain, (*shape[:-1], *inner))

    def _set(self, name: str, chain: Chain, shape: tuple[int, ...]) -> None:
        """Make a tensor the base of what follows."""
        self.signals[name] = Signal(chain, name, name, shape)

    def _vector(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return a constant as one number for each feature of a signal of this shape."""
        rows = np.broadcast_to(self._known(name), shape).reshape(self.samples, -1)
        if np.any(rows != rows[:1]):
            raise FormatError(f"{name!r} is not the same for all samples")
        return np.asarray(rows[0], np.float64)

    def _of_rows(self, node: onnx.NodeProto) -> None:
        """Apply softmax, or put features side by side."""
        signals = [self.signals[name] for name in node.input if name in self.signals]
        chains = [self._closed(signal) for signal in signals]
        shape, sizes = signals[0].shape, [len(chain.shift) for chain in chains]
        axis = options_of(node).get("axis", 1 if self._opset < 13 else -1)
        if axis not in (-1, len(shape) - 1) or [x.shape[-1] for x in signals] != sizes:
            raise FormatError("it must go along the features")
        if len(signals) < len(node.input):
            raise FormatError("it puts constants beside features")
        self._spend(sum(len(x.shift) * x.scale.size // len(x.scale) for x in chains))
        chain = joined(chains) if node.op_type == "Concat" else chains[0].activated("softmax")
        self._set(node.output[0], chain, (*shape[:-1], sum(sizes)))

    def _arrange(self, node: onnx.NodeProto) -> None:
        """Follow the features through a node: each sample's must be some of its own."""
        name = node.input[0]
        if name in self.moved:
            chain, numbered = self.moved[name]
        else:
            signal = self.signals[name]
            chain = self._closed(signal)
            numbered = np.arange(math.prod(signal.shape)).reshape(signal.shape)
        self._spend(numbered.size)
        feeds = {x: numbered if x == name else self._known(x) for x in node.input if x}
        for output, places in zip(
            node.output, evaluated([node], feeds, self.model.opset_import), strict=True
        ):
            rows = places.reshape(self.samples, -1)
            index, n = rows[0], len(chain.shift)
            if np.array_equal(rows, index % n + n * np.arange(self.samples)[:, None]):
                self._set(output, self._chosen(chain, index), places.shape)
            else:
                self.moved[output] = chain, places

    def _chosen(self, chain: Chain, index: Array) -> Chain:
        """Return a chain's features of an index."""
        if np.array_equal(index, np.arange(len(chain.shift))):
            return chain
        if len({*index}) < len(index):
            raise FormatError("it repeats features")
        self._spend(len(index) * chain.scale.shape[-1])
        return chain.chosen(index)

    def _operate(self, node: onnx.NodeProto, given: Sequence[str]) -> None:
        """Keep a node of single elements for `_closed`; note the factor and term of affine maps."""
        signals = [self.signals[name] for name in given]
        if len({signal.base for signal in signals}) > 1:
            raise FormatError("it joins two branches")
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for i, name in enumerate(node.input):
            copy.input[i] = self.signals[name].name if name in given else name
        shapes = [self._shape(name) for name in node.input if name]
        if node.op_type in ("BatchNormalization", "Scaler"):
            shapes = shapes[:1]
        shape = np.broadcast_shapes(*shapes)
        if math.prod(shape) != math.prod(signals[0].shape):
            raise FormatError(f"it makes a tensor {shape} of {[x.shape for x in signals]}")
        name = node.output[0]
        self.nodes[name] = len(self.nodes), copy
        affine = self._affine(node, shape) if len(given) == 1 else None
        if affine:
            self.maps[name] = affine
        self.signals[name] = Signal(signals[0].chain, signals[0].base, name, shape)

    def _affine(self, node: onnx.NodeProto, shape: tuple[int, ...]) -> Map | None:
        """Return a node's factor and term, one for each feature; None if it is not affine."""
        options, operator = options_of(node), node.op_type
        if operator == "Neg":
            return -1.0, 0.0
        if operator == "Scaler":
            scale = np.array(options.get("scale", [1.0]))
            return scale, -scale * np.array(options.get("offset", [0.0]))
        if operator == "BatchNormalization":
            if len(shape) != 2 or options.get("training_mode"):
                raise FormatError("it must have one feature a unit, and not be in training mode")
            gamma, beta, mean, variance = [self._known(name) for name in node.input[1:5]]
            factor = gamma / np.sqrt(variance + options.get("epsilon", 1e-5))
            return factor, beta - mean * factor
        if operator not in ("Add", "Sub", "Mul", "Div"):
            return None
        is_first = node.input[0] in self.signals
        value = self._vector(node.input[is_first], shape)
        if operator == "Mul":
            return value, 0.0
        if operator == "Div" and not value.all():
            raise FormatError("it divides by 0")
        if operator == "Div":
            return (1 / value, 0.0) if is_first else None
        if operator == "Add":
            return 1.0, value
        return (1.0, -value) if is_first else (-1.0, value)

    # ------------------------------------------------------------------ operations of elements

    def _closed(self, signal: Signal) -> Chain:
        """Return the chain up to a signal, with the operations since its base made layers."""
        if signal.name not in self.closed:
            chain, nodes = signal.chain, self._since(signal)
            for part in parts(nodes, signal.base, self.maps, self._known, self.model.opset_import):
                self._spend(chain.scale.size)
                if isinstance(part, Recognized):
                    chain = self._activated(chain, part)
                else:
                    chain = chain.affine(*part)
            self.closed[signal.name] = chain
        return self.closed[signal.name]

    def _activated(self, chain: Chain, found: Recognized) -> Chain:
        """Return a chain with an activation; networks have one slope of leaky_relu."""
        if found.name == "leaky_relu":
            self.slopes.append(found.slope)
            if found.slope != self.slopes[0]:
                raise FormatError(f"slopes of leaky_relu must be one, got {self.slopes}")
        chain = chain.affine(found.scale, found.shift)
        if found.name != "identity":
            chain = chain.activated(found.name)
            self._spend(chain.layers[-1].W.size)
        return chain.affine(found.factor, found.term)

    def _since(self, signal: Signal) -> list[onnx.NodeProto]:
        """Return the nodes between a signal's base and it, in the graph's order."""
        pending, needed = [signal.name], set()
        while pending:
            name = pending.pop()
            if name in self.nodes and name != signal.base and name not in needed:
                needed.add(name)
                pending += self.nodes[name][1].input
        return [node for _, node in sorted((self.nodes[x] for x in needed), key=lambda x: x[0])]

    @property
    def _opset(self) -> int:
        """Return the version of the operators."""
        versions = {x.domain: x.version for x in self.model.opset_import}
        return int(versions.get("", versions.get("ai.onnx", 1)))


@contextmanager
def _named(node: onnx.NodeProto) -> Iterator[None]:
    """Name a node in errors."""
    try:
        yield
    except UnknownError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise FormatError(f"{described(node)}: {error}") from None
