"""Networks in files, in the safetensors format.

Tensors have the names and shapes that PyTorch gives them. The architecture is JSON in the file's
metadata, with the graph of the circuit if the loss is one. Nothing in a file is ever executed, and
loading a file, however wrong, takes little more memory than its size.
"""

from __future__ import annotations

import inspect
import json
import os
import reprlib
import stat
from dataclasses import fields
from itertools import pairwise, product
from operator import add
from typing import Any, NoReturn

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from deltajit.circuits import graphs
from deltajit.io.files import FormatError, Path, replace
from deltajit.model import custom, memory
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array

FORMAT = 1
DTYPES = {"float32": "F32", "float64": "F64"}
KEY = "deltajit"  # the description's, in __metadata__

# Python objects take up to 45 times the memory of their JSON: 12 MiB for a header of this size,
# which is enough for 1,400 layers.
LARGEST_HEADER = 2**18

PIECE = 2**18  # elements read at a time
UPDATE = "if a newer deltajit wrote it, update this one: pip install --upgrade deltajit"


def save(path: Path, architecture: Architecture, theta: Array) -> None:
    """Write a network to a file, which replaces an existing one completely or not at all.

    The description holds every field of `Architecture`.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    architecture : Architecture
        The network's architecture.
    theta : ndarray, (n_params,)
        Its parameters.

    Raises
    ------
    ValueError
        There are so many layers, or so large a loss, that `load` would refuse the header.
    OSError
        The file cannot be written.
    """
    tensors = {}
    for i, (W, b) in enumerate(zip(*architecture.unflatten(theta), strict=True)):
        tensors[f"layers.{i}.weight"] = np.ascontiguousarray(W)
        tensors[f"layers.{i}.bias"] = b
    description = {"format": FORMAT, "architecture": json.loads(_text(architecture))}
    circuit = architecture.circuit
    if circuit is not None:
        description["circuit"] = circuit
    content = safetensors.numpy.save(tensors, {KEY: json.dumps(description)})
    length = int.from_bytes(content[:8], "little")
    if length > LARGEST_HEADER:
        of = "" if circuit is None else f", and a loss of {len(circuit['codes']):,} nodes,"
        raise ValueError(
            f"a network of {len(architecture.sizes) - 1:,} layers{of} cannot be saved: its header "
            f"would have {length:,} bytes, and at most {LARGEST_HEADER:,} are read"
        )
    replace(path, content)


def load(path: Path) -> tuple[Architecture, Array]:
    """Read the architecture and theta of a network that `save` wrote.

    Parameters
    ----------
    path : str or os.PathLike
        The file.

    Returns
    -------
    architecture : Architecture
        The network's architecture.
    theta : ndarray, (n_params,)
        A new vector of its parameters.

    Raises
    ------
    FormatError
        The file is damaged, or `save` did not write it.
    OSError
        The file cannot be read; FileNotFoundError if there is none.
    """
    name = os.fspath(path)
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):
            raise FormatError("it is a folder or a device, not a file")
        _check_length(name)
        with safe_open(os.fsdecode(name), framework="numpy") as file:
            return _read(file)
    except FormatError as error:
        raise FormatError(f"{name!r} can't be loaded: {str(error)[:750]}") from None
    except SafetensorError as error:
        problem = f"it is not in safetensors format: {str(error)[:750]}"
        raise FormatError(f"{name!r} can't be loaded: {problem}") from None
    except RecursionError:
        raise FormatError(f"{name!r} can't be loaded: it is too nested") from None


# ------------------------------------------------------------------ the description


def _text(architecture: Architecture) -> str:
    """Write all fields as JSON: tuples as lists, a dtype as its name."""
    values = {field.name: getattr(architecture, field.name) for field in fields(architecture)}
    return json.dumps(values, default=_name_of_dtype, allow_nan=False)


def _name_of_dtype(value: object) -> str:
    if isinstance(value, np.dtype):
        return value.name
    raise TypeError(f"{value!r} cannot be saved: fields must be numbers, strings, tuples or dtypes")


def _architecture(given: dict[str, Any]) -> Architecture:
    """Make the architecture with these fields, checked as a user's arguments are.

    Fields have the names of the arguments of `Architecture.checked`, except `activations`. An
    argument with a default may be missing: the file is then older than the field.
    """
    names = [field.name for field in fields(Architecture)]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise FormatError(f"its description has {unknown}, which are unknown here; {UPDATE}")
    arguments = inspect.signature(Architecture.checked).parameters
    missing = [
        name
        for name in names
        if name not in given
        and (name not in arguments or arguments[name].default is inspect.Parameter.empty)
    ]
    if missing:
        raise FormatError(f"its description lacks {missing}; save the network again")
    if given["dtype"] not in list(DTYPES):
        raise FormatError(f"its dtype must be float32 or float64, got {given['dtype']!r}")
    options = dict(given)
    try:
        *hidden, last = options.pop("activations")
        architecture = Architecture.checked(activation=hidden, output=last, **options)
    except (ValueError, TypeError, OverflowError) as error:
        names = given["activations"] if isinstance(given["activations"], list) else []
        hints = "; ".join(filter(None, [custom.unknown(names, given["loss"]), UPDATE]))
        raise FormatError(f"its description is wrong: {str(error)[:400]}; {hints}") from None
    written = json.loads(_text(architecture))
    for name, value in given.items():
        if value != written[name]:  # such as "auto", which a user may say, but no architecture has
            raise FormatError(f"its description has {name}={value!r} instead of {written[name]!r}")
    return architecture


# ------------------------------------------------------------------ reading


def _check_length(name: str | bytes) -> None:
    """Refuse a header whose Python objects would take much memory."""
    with open(name, "rb") as file:
        length, size = int.from_bytes(file.read(8), "little"), os.fstat(file.fileno()).st_size
    if size < 8 or length > min(size - 8, LARGEST_HEADER):
        raise FormatError(
            f"it is truncated, or not in safetensors format: of {size:,} bytes the first 8 promise "
            f"a header of {length:,}, which may have at most {LARGEST_HEADER:,}"
        )


def _read(file: Any) -> tuple[Architecture, Array]:
    """Read the network of an open file; everything is checked before theta is allocated."""
    architecture = _described(file.metadata() or {})
    tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    _check_tensors(tensors, architecture)
    theta = memory.empty(architecture.n_params, architecture.dtype)
    for i, (W, b) in enumerate(zip(*architecture.unflatten(theta), strict=True)):
        _fill(W, tensors[f"layers.{i}.weight"])
        _fill(b, tensors[f"layers.{i}.bias"])
    return architecture, theta


def _parsed(text: str) -> dict[str, Any]:
    """Parse the description, a JSON object without repeated names, NaN and infinities."""
    try:
        description = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)
    except ValueError as error:
        raise FormatError(f"its description is no JSON object as it should be: {error}") from None
    if not isinstance(description, dict):
        raise FormatError(f"its description is no JSON object, but {reprlib.repr(description)}")
    return description


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name occurs twice")
    return values


def _refuse(literal: str) -> NoReturn:
    raise ValueError(f"{literal[:50]} has no place in it")


def _described(metadata: dict[str, str]) -> Architecture:
    """Return the architecture that a file's metadata describe."""
    if KEY not in metadata:
        raise FormatError(
            f"its metadata have no {KEY!r}, so Network.save did not write it; for tensors by "
            "themselves there is Network.from_torch(safetensors.numpy.load_file(path), ...)"
        )
    description = _parsed(metadata[KEY])
    version = description.get("format")
    if type(version) is not int or version != FORMAT:
        raise FormatError(f"its format must be {FORMAT}, got {version!r}; {UPDATE}")
    parts = [name for name in description if name not in ("format", "architecture", "circuit")]
    if parts:
        raise FormatError(f"it has the parts {parts}, which are unknown here; {UPDATE}")
    if not isinstance(description.get("architecture"), dict):
        raise FormatError("its description has no architecture; save the network again")
    if "circuit" in description:
        _register(description["circuit"], description["architecture"].get("loss"))
    return _architecture(description["architecture"])


def _register(circuit: object, loss: object) -> None:
    """Register the circuit of a file as a loss, if it is the one that the description names."""
    try:
        graph = graphs.from_data(circuit)
    except ValueError as error:
        raise FormatError(str(error)) from None
    if loss != custom.name_of(graph) or graph.outputs.size != 1:
        raise FormatError("its circuit is not the loss that its description names")
    custom.register_circuit(graph)


def _check_tensors(tensors: dict[str, Any], architecture: Architecture) -> None:
    """Refuse tensors whose number, names, dtypes or shapes do not fit the architecture."""
    layers = len(architecture.sizes) - 1
    if len(tensors) != 2 * layers:
        raise FormatError(f"it has {len(tensors)} tensors, where {layers} layers have two each")
    for i, (n_in, n_out) in enumerate(pairwise(architecture.sizes)):
        for name, shape in ((f"layers.{i}.weight", [n_out, n_in]), (f"layers.{i}.bias", [n_out])):
            expected = DTYPES[architecture.dtype.name], shape
            tensor = tensors.get(name)
            actual = tensor and (tensor.get_dtype(), tensor.get_shape())
            if actual != expected:
                raise FormatError(
                    f"{name} must have dtype {expected[0]} and shape {reprlib.repr(shape)}, "
                    f"got {reprlib.repr(actual)}"
                )


def _fill(part: Array, tensor: Any) -> None:
    """Copy a tensor into a view of theta, some rows at a time, or pieces of rows that are long."""
    steps = (max(1, PIECE // part.shape[-1]), min(PIECE, part.shape[-1]))[-part.ndim :]
    for at in product(*map(range, [0] * part.ndim, part.shape, steps)):
        ends = map(min, map(add, at, steps), part.shape)
        piece = tuple(map(slice, at, ends))
        part[piece] = tensor[piece]
