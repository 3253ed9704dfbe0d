"""Networks in files, in the safetensors format.

Such a file has the length of its header (8 bytes), the header (JSON: dtype, shape and place of
each tensor), and the tensors' bytes. What the network is stands in the header too, as JSON under
``__metadata__``, with the graph of the circuit that its loss may be; the tensors have the names and
shapes that PyTorch gives them.

The safetensors library writes. Here the header is read by stricter rules than the library's, and
the tensors go straight into theta, so that no file, however wrong, takes more memory than its own
size and some MiB. Nothing in a file is ever executed.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import reprlib
import stat
from collections.abc import Callable
from dataclasses import fields
from io import BufferedReader
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from deltajit.circuits import graphs
from deltajit.io.files import FormatError, Path, replace
from deltajit.model import custom, memory
from deltajit.model.architecture import Architecture

Array = NDArray[Any]
FORMAT = 1
DTYPES = {"float32": "F32", "float64": "F64"}
KEY = "deltajit"  # of the description, in __metadata__

# Python's objects take up to 45 times the memory of the JSON that they come from: 12 MiB of this
# many bytes, which are enough for 1,400 layers.
LARGEST_HEADER = 2**18

PIECE = 2**18  # elements that are read at once
UPDATE = "if a newer deltajit wrote it, update this one: pip install --upgrade deltajit"


def save(path: Path, architecture: Architecture, theta: Array) -> None:
    """Write a network to a file; a file that is there already is replaced as a whole or not at all.

    The description holds every field of `Architecture`, whatever these are.
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
    """What `save` wrote: the architecture, and a theta of its own.

    Raises
    ------
    FormatError
        Whatever is wrong with the file.
    OSError
        It cannot be read; FileNotFoundError where there is none.
    """
    name = os.fspath(path)
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):
            raise FormatError("it is a folder or a device, not a file")
        with open(name, "rb") as file:
            return _read(file, os.fstat(file.fileno()).st_size)
    except FormatError as error:
        raise FormatError(f"{name!r} can't be loaded: {str(error)[:750]}") from None
    except RecursionError:
        raise FormatError(f"{name!r} can't be loaded: it is too nested") from None


# ------------------------------------------------------------------ the description


def _text(architecture: Architecture) -> str:
    """All fields as JSON: tuples become lists, a dtype its name."""
    found = {field.name: getattr(architecture, field.name) for field in fields(architecture)}
    return json.dumps(found, default=_name_of_dtype, allow_nan=False)


def _name_of_dtype(value: object) -> str:
    if isinstance(value, np.dtype):
        return value.name
    raise TypeError(f"{value!r} cannot be saved: fields must be numbers, strings, tuples or dtypes")


def _architecture(given: dict[str, Any]) -> Architecture:
    """The architecture with these fields, checked as a user's arguments are.

    The fields have the names of the arguments of `Architecture.checked`, but for `activations`. An
    argument with a default may be absent: the file is then older than the field.
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
        made = Architecture.checked(activation=hidden, output=last, **options)
    except (ValueError, TypeError, OverflowError) as error:
        names = given["activations"] if isinstance(given["activations"], list) else []
        hints = "; ".join(filter(None, [custom.unknown(names, given["loss"]), UPDATE]))
        raise FormatError(f"its description is wrong: {str(error)[:400]}; {hints}") from None
    written = json.loads(_text(made))
    for name, value in given.items():
        if value != written[name]:  # "auto", for example: a user's argument, but what none is
            raise FormatError(f"its description has {name}={value!r} instead of {written[name]!r}")
    return made


# ------------------------------------------------------------------ reading


def _read(file: BufferedReader, size: int) -> tuple[Architecture, Array]:
    """The network in a file of `size` bytes: everything is checked before theta is allocated."""
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, LARGEST_HEADER):
        raise FormatError(
            f"it is truncated, or not in safetensors format: of {size:,} bytes the first 8 promise "
            f"a header of {length:,}, which may have at most {LARGEST_HEADER:,}"
        )
    header = _parsed(file.read(length), "its header", parse_float=_refuse)
    made = _described(header.pop("__metadata__", None))
    begins = _begins(header, made, size - 8 - length)
    theta = memory.empty(made.n_params, made.dtype)
    for i, (W, b) in enumerate(zip(*made.unflatten(theta), strict=True)):
        for name, part in ((f"layers.{i}.weight", W), (f"layers.{i}.bias", b[None])):
            file.seek(8 + length + begins[name])
            _fill(part, file)
    return made, theta


def _parsed(
    text: bytes | str, what: str, parse_float: Callable[[str], Any] | None = None
) -> dict[str, Any]:
    """A JSON object that names nothing twice, without NaN and infinities."""
    try:
        decoded = text if isinstance(text, str) else text.decode()
        if not decoded.startswith("{"):
            raise ValueError("it must begin with {")
        found: dict[str, Any] = json.loads(
            decoded,
            object_pairs_hook=_object,
            parse_constant=_refuse,
            parse_float=parse_float,
        )
    except ValueError as error:
        raise FormatError(f"{what} is no JSON object as it should be: {error}") from None
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _refuse(literal: str) -> Any:
    raise ValueError(f"{literal[:50]} has no place in it")


def _described(metadata: object) -> Architecture:
    """The architecture that the header's metadata describe."""
    if not isinstance(metadata, dict) or not isinstance(metadata.get(KEY), str):
        raise FormatError(
            f"its metadata have no {KEY!r}, so Network.save did not write it; for tensors by "
            "themselves there is Network.from_torch(safetensors.numpy.load_file(path), ...)"
        )
    if not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError("its metadata must be strings")
    found = _parsed(metadata[KEY], "its description")
    if type(found.get("format")) is not int or found["format"] != FORMAT:
        raise FormatError(f"its format must be {FORMAT}, got {found.get('format')!r}; {UPDATE}")
    parts = [name for name in found if name not in ("format", "architecture", "circuit")]
    if parts:
        raise FormatError(f"it has the parts {parts}, which are unknown here; {UPDATE}")
    if not isinstance(found.get("architecture"), dict):
        raise FormatError("its description has no architecture; save the network again")
    if "circuit" in found:
        _register(found["circuit"], found["architecture"].get("loss"))
    return _architecture(found["architecture"])


def _register(circuit: object, loss: object) -> None:
    """Make the circuit in a file the loss of that name, if it is that one."""
    try:
        graph = graphs.from_data(circuit)
    except ValueError as error:
        raise FormatError(str(error)) from None
    if loss != custom.name_of(graph) or graph.outputs.size != 1:
        raise FormatError("its circuit is not the loss that its description names")
    custom.register_circuit(graph)


def _begins(header: dict[str, Any], made: Architecture, size: int) -> dict[str, int]:
    """Where each tensor begins among the `size` bytes behind the header, which they must fill."""
    itemsize = made.dtype.itemsize
    if max(made.sizes) > size:  # by itself: products of such numbers may be too long to print
        raise FormatError(f"its sizes, {reprlib.repr(made.sizes)}, are larger than the file")
    if made.n_params * itemsize != size:
        raise FormatError(
            f"{made.n_params:,} parameters of {itemsize} bytes should follow its header, "
            f"but {size:,} bytes do"
        )
    if len(header) != 2 * (len(made.sizes) - 1):
        raise FormatError(
            f"it has {len(header)} tensors, where {len(made.sizes) - 1} layers have two each"
        )
    places = {}
    for i, (n_in, n_out) in enumerate(zip(made.sizes[:-1], made.sizes[1:], strict=True)):
        for name, shape in ((f"layers.{i}.weight", [n_out, n_in]), (f"layers.{i}.bias", [n_out])):
            nbytes = math.prod(shape) * itemsize
            places[name] = _begin(header.get(name), name, shape, nbytes, DTYPES[made.dtype.name])
    at = 0
    for name, (begin, nbytes) in sorted(places.items(), key=lambda item: item[1]):
        if begin != at:
            raise FormatError(f"{name} begins at {begin}, but should at {at}: a gap or an overlap")
        at += nbytes
    return {name: begin for name, (begin, _) in places.items()}


def _begin(tensor: object, name: str, shape: list[int], nbytes: int, kind: str) -> tuple[int, int]:
    """Where a tensor of the header begins, if it is as it must be, and how many bytes it has."""
    match tensor:
        case {"dtype": str(), "shape": [*sides], "data_offsets": [begin, end]}:
            whole = all(type(n) is int for n in (*sides, begin, end))  # true is no 1 here
            if whole and tensor == {
                "dtype": kind,
                "shape": shape,
                "data_offsets": [begin, begin + nbytes],
            }:
                return begin, nbytes
    raise FormatError(
        f"{name} must have dtype {kind}, shape {shape} and {nbytes:,} bytes, "
        f"got {reprlib.repr(tensor)}"
    )


def _fill(W: Array, file: BufferedReader) -> None:
    """Read the rows of `W`, a view of theta: some at a time, or parts of rows that are long."""
    rows, columns = max(1, PIECE // W.shape[1]), min(PIECE, W.shape[1])
    for i in range(0, W.shape[0], rows):
        for j in range(0, W.shape[1], columns):
            part = W[i : i + rows, j : j + columns]
            piece = np.empty(part.shape, W.dtype.newbyteorder("<"))
            if file.readinto(piece.data) != piece.nbytes:
                raise FormatError("it became shorter while it was read")
            part[...] = piece
