"""Networks in files, in the safetensors format.

The tensors have the names and shapes that PyTorch gives them. What the network is stands in the
file's metadata, as JSON, with the graph of the circuit that its loss may be. Nothing in a file is
ever executed, and no file, however wrong, takes more memory than its own size and some MiB.

The safetensors library writes. It reads from a map of the file in memory, and a file that somebody
else cuts short meanwhile would end the process; so here a file is opened once, its header is
checked, and the tensors are read straight into theta.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import reprlib
import stat
from dataclasses import fields
from io import BufferedReader
from itertools import pairwise
from typing import Any

import numpy as np
import safetensors.numpy

from deltajit.circuits import graphs
from deltajit.io.files import FormatError, Path, replace
from deltajit.model import checks, custom, memory
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array

FORMAT = 1
DTYPES = {"float32": "F32", "float64": "F64"}
KEY = "deltajit"  # the description's, in __metadata__
PARTS = ("format", "architecture", "circuit", "members")  # of the description

# Python objects take up to 45 times the memory of their JSON: 12 MiB for a header of this size,
# which is enough for 1,400 layers.
LARGEST_HEADER = 2**18

PIECE = 2**18  # elements read at a time
UPDATE = "if a newer deltajit wrote it, update this one: pip install --upgrade deltajit"


def save(path: Path, architecture: Architecture, theta: Array) -> None:
    """Write every field of `Architecture`, and theta: see `Network.save` and `Ensemble.save`.

    theta : (n_params,), or (n_members, n_params), so that tensors have that axis too.
    """
    tensors = {}
    for i, (W, b) in enumerate(zip(*architecture.unflatten(theta), strict=True)):
        tensors[f"layers.{i}.weight"] = np.ascontiguousarray(W)
        tensors[f"layers.{i}.bias"] = np.ascontiguousarray(b)
    description: dict[str, Any]
    description = {"format": FORMAT, "architecture": json.loads(_text(architecture))}
    if theta.ndim == 2:
        description["members"] = len(theta)
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
    """Read the architecture and theta of a network that `save` wrote: see `Network.load`."""
    architecture, theta, members = _opened(path)
    if members is not None:
        raise _unloadable(path, f"it holds an ensemble of {members}: Ensemble.load reads it")
    return architecture, theta[0]


def load_members(path: Path) -> tuple[Architecture, Array]:
    """Read the architecture and theta (n_members, n_params) of an ensemble: see `Ensemble.load`."""
    architecture, theta, members = _opened(path)
    if members is None:
        raise _unloadable(path, "it holds one network, no ensemble: deltajit.load reads it")
    return architecture, theta


def _opened(path: Path) -> tuple[Architecture, Array, int | None]:
    name = checks.path(path)
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):
            raise FormatError("it is a folder or a device, not a file")
        with open(name, "rb") as file:
            return _read(file, os.fstat(file.fileno()).st_size)
    except FormatError as error:
        raise _unloadable(path, str(error)[:750]) from None
    except RecursionError:
        raise _unloadable(path, "it is too nested") from None


def _unloadable(path: Path, reason: str) -> FormatError:
    return FormatError(f"{checks.path(path)!r} can't be loaded: {reason}")


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


def _read(file: BufferedReader, size: int) -> tuple[Architecture, Array, int | None]:
    """Read the architecture, theta (M, n_params), and the number of members if there is one.

    The file has `size` bytes; all is checked before theta is allocated.
    """
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, LARGEST_HEADER):
        raise FormatError(
            f"it is truncated, or not in safetensors format: of {size:,} bytes the first 8 promise "
            f"a header of {length:,}, which may have at most {LARGEST_HEADER:,}"
        )
    header = _parsed(file.read(length), "its header")
    architecture, members = _described(header.pop("__metadata__", None))
    begins = _begins(header, architecture, members, size - 8 - length)
    count, n_params = members or 1, architecture.n_params
    theta = memory.empty(count * n_params, architecture.dtype).reshape(count, n_params)
    for i, (W, b) in enumerate(zip(*architecture.unflatten(theta), strict=True)):
        for name, parts in ((f"layers.{i}.weight", W), (f"layers.{i}.bias", b[:, None])):
            file.seek(8 + length + begins[name])
            for part in parts:
                _fill(part, file)
    return architecture, theta, members


def _parsed(text: bytes | str, what: str) -> dict[str, Any]:
    """Return a JSON object that names nothing twice, and has neither NaN nor infinities."""
    try:
        text = text if isinstance(text, str) else text.decode()
        if not text.startswith("{"):
            raise ValueError("it must begin with {")
        parsed: dict[str, Any]
        parsed = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)
    except ValueError as error:
        raise FormatError(f"{what} is no JSON object as it should be: {error}") from None
    return parsed


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a name occurs twice")
    return content


def _refuse(literal: str) -> Any:
    raise ValueError(f"{literal[:50]} has no place in it")


def _described(metadata: object) -> tuple[Architecture, int | None]:
    """Return the architecture that the file's metadata describe, and the number of members."""
    if not isinstance(metadata, dict) or KEY not in metadata:
        raise FormatError(
            f"its metadata have no {KEY!r}, so Network.save did not write it; for tensors by "
            "themselves there is Network.from_torch(safetensors.numpy.load_file(path), ...)"
        )
    if not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError("its metadata must be strings")
    description = _parsed(metadata[KEY], "its description")
    version = description.get("format")
    if type(version) is not int or version != FORMAT:
        raise FormatError(f"its format must be {FORMAT}, got {version!r}; {UPDATE}")
    parts = [name for name in description if name not in PARTS]
    if parts:
        raise FormatError(f"it has the parts {parts}, which are unknown here; {UPDATE}")
    if not isinstance(description.get("architecture"), dict):
        raise FormatError("its description has no architecture; save the network again")
    if "circuit" in description:
        _register(description["circuit"], description["architecture"].get("loss"))
    members = description.get("members")
    if "members" in description and (type(members) is not int or members < 1):
        raise FormatError(f"its number of members must be 1 or more, got {members!r}")
    return _architecture(description["architecture"]), members


def _register(circuit: object, loss: object) -> None:
    """Make the circuit in a file the loss of that name, if it is that one."""
    try:
        graph = graphs.from_data(circuit)
    except ValueError as error:
        raise FormatError(str(error)) from None
    if loss != custom.name_of(graph) or graph.outputs.size != 1:
        raise FormatError("its circuit is not the loss that its description names")
    custom.register_circuit(graph)


def _begins(
    header: dict[str, Any], architecture: Architecture, members: int | None, size: int
) -> dict[str, int]:
    """Return where each tensor begins among the `size` bytes behind the header.

    Check that together they fill these bytes.
    """
    sizes = architecture.sizes
    if len(header) != 2 * (len(sizes) - 1):
        raise FormatError(
            f"it has {len(header)} tensors, where {len(sizes) - 1} layers have two each"
        )
    axis = [] if members is None else [members]
    if math.prod(axis) * architecture.n_params * architecture.dtype.itemsize != size:
        of = "" if members is None else f"{members} times "
        raise FormatError(
            f"{of}layers of {reprlib.repr(sizes)} units in {architecture.dtype} are not what the "
            f"{size:,} bytes behind its header hold"
        )
    begins, ends, kind = {}, {}, DTYPES[architecture.dtype.name]
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        for name, shape in (
            (f"layers.{i}.weight", [*axis, n_out, n_in]),
            (f"layers.{i}.bias", [*axis, n_out]),
        ):
            begin = begins[name] = _begin(header.get(name))
            end = ends[begin] = begin + math.prod(shape) * architecture.dtype.itemsize
            expected = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
            if _sorted(header.get(name)) != _sorted(expected):
                raise FormatError(
                    f"{name} must have dtype {kind} and shape {shape}, {end - begin:,} bytes, "
                    f"got {reprlib.repr(header.get(name))}"
                )
    if [0, *sorted(ends.values())] != [*sorted(ends), size]:
        raise FormatError("its tensors have gaps between them, or overlap")
    return begins


def _begin(tensor: object) -> int:
    """Return where a tensor begins, as the header says; 0 if it says nothing."""
    match tensor:
        case {"data_offsets": [int(begin), _]}:
            return int(begin)  # false is no 0 here
    return 0


def _sorted(value: object) -> str:
    """Write a value as JSON in one order, where 1, 1.0 and true are not the same."""
    return json.dumps(value, sort_keys=True)


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
