"""ONNX files, read without executing anything, and with no more memory than their size warrants.

This module imports onnx, so it may be imported only where onnx is asked for.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from deltajit.io.files import FormatError
from deltajit.model.memory import Array

MOST_NODES = 100_000  # after functions are expanded, which may call each other


def read(path: str) -> onnx.ModelProto:
    """Read a model, with its functions written out as nodes; data beside the file come later."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise FormatError("it is a folder or a device, not a file")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError:
        raise FormatError("it is damaged, or no ONNX file") from None
    if not model.graph.node:
        raise FormatError("it has no graph of nodes; is it an ONNX file?")
    functions = {(x.domain, x.name): x for x in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    if _expanded(model.graph.node, functions, sizes) > MOST_NODES:
        raise FormatError(f"it has more than {MOST_NODES:,} nodes")
    if functions:
        from onnx import inliner

        model = inliner.inline_local_functions(model)
    return model


def _expanded(
    nodes: Iterable[onnx.NodeProto],
    functions: Mapping[tuple[str, str], onnx.FunctionProto],
    sizes: dict[tuple[str, str], int],
) -> int:
    """Return the number of nodes after functions are expanded; `sizes` keeps that of each."""
    total = 0
    for node in nodes:
        key = (node.domain, node.op_type)
        if key in functions and key not in sizes:
            sizes[key] = MOST_NODES + 1  # while it is open: of a function that calls itself
            sizes[key] = _expanded(functions[key].node, functions, sizes)
        total += sizes.get(key, 1)
    return total


def array(tensor: TensorProto, folder: str) -> Array:
    """Return a tensor's values, which may be in a file in `folder`, real ones as float64."""
    if tensor.data_location == TensorProto.EXTERNAL:
        tensor = _with_data(tensor, folder)
    try:
        values = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise FormatError(f"tensor {tensor.name!r} is damaged: {error}") from None
    if values.dtype.kind in "cOSU":
        raise FormatError(f"tensor {tensor.name!r} must have real numbers, got {values.dtype}")
    with np.errstate(invalid="ignore"):  # some NaN are signals
        return values if values.dtype.kind in "biu" else values.astype(np.float64)


def _with_data(tensor: TensorProto, folder: str) -> TensorProto:
    """Return a tensor with the values that a file beside the model's has."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    folder, name = os.path.realpath(folder), entries.get("location", "")
    path = os.path.realpath(os.path.join(folder, name))
    if not os.path.isfile(path) or os.path.commonpath([folder, path]) != folder:
        raise FormatError(
            f"tensor {tensor.name!r} must be in a file in the folder of the ONNX file, got {name!r}"
        )
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    count, begin = math.prod(tensor.dims) * kind.itemsize, int(entries.get("offset", 0))
    if begin < 0 or count < 0 or begin + count > os.path.getsize(path):
        raise FormatError(f"{name!r} is too short for tensor {tensor.name!r}")
    if int(entries.get("length", count)) != count:
        raise FormatError(f"tensor {tensor.name!r} must have {count} bytes in {name!r}")
    with open(path, "rb") as file:
        file.seek(begin)
        content = file.read(count)
    return TensorProto(
        name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=content
    )
