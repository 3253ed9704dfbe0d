"""Take samples from arrays, files and Dask's collections, cut into blocks of rows."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np

from deltajit.model import checks
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array
from deltajit.training.leaves import Blocks, shapes

BYTES = 2**25  # of a block, at most, if its size isn't given
FEWEST = 64  # blocks, at least, if there are as many samples


class _Stored(NamedTuple):
    """Say where an array is in a file; it is mapped for as long as rows are copied."""

    path: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    order: Any

    def rows(self, first: int, last: int) -> Array:
        """Read some rows."""
        path, *where = self
        return np.array(np.memmap(path, where[0], "r", where[2], where[1], where[3])[first:last])


class Files:
    """Read rows of arrays in files, one after the other, as if they were one array.

    It travels to workers as paths: they read the rows, each from the file as it sees it.
    """

    def __init__(self, parts: Sequence[_Stored], name: str) -> None:
        kinds = {(part.shape[1:], part.dtype) for part in parts}
        if len(kinds) > 1:
            raise ValueError(f"{name} has files of different columns or dtypes: {sorted(kinds)}")
        self._parts = parts
        self._ends = np.cumsum([part.shape[0] for part in parts])
        ((columns, self.dtype),) = kinds
        self.shape = (int(self._ends[-1]), *columns)
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, where: Any) -> Array:
        rows, *others = where if isinstance(where, tuple) else (where,)
        first, last, _ = rows.indices(len(self))
        found = []
        for part, end in zip(self._parts, self._ends.tolist(), strict=True):
            start = end - part.shape[0]
            if first < end and last > start:
                found.append(part.rows(max(first - start, 0), min(last, end) - start))
        all_rows = found[0] if len(found) == 1 else np.concatenate(found)
        return all_rows[(slice(None), *others)]


def column(value: Any, name: str) -> Any:
    """Return rows that Dask computes, as a dask array, or such as can be sliced."""
    if hasattr(value, "to_dask_array"):  # a dask data frame, or a column of one
        value = value.to_dask_array(lengths=True)
    if isinstance(value, da.Array):
        return _lazy(value, name)
    files = _files(value, name)
    return checks.asarray(value, name) if files is None else files


def _lazy(array: da.Array, name: str) -> da.Array:
    """Check the chunks of a dask array."""
    rows, *others = array.chunks
    if any(np.isnan(n) for n in rows):
        raise ValueError(
            f"{name} has chunks of unknown sizes; {name}.compute_chunk_sizes() finds them"
        )
    if any(len(sizes) > 1 for sizes in others):
        raise ValueError(
            f"{name} is cut along its features, in chunks of {others[0]}; each chunk must hold "
            f"whole samples: {name}.rechunk({{1: -1}})"
        )
    empty = [i for i, n in enumerate(rows) if n == 0]
    if empty:
        raise ValueError(
            f"{name} has partitions without samples, number {empty[0]} the first; leave them out"
        )
    return array


def _files(value: Any, name: str) -> Files | None:
    """Return what files hold: a memory map, a path of an .npy file, or a list of such."""
    several = isinstance(value, list | tuple) and len(value) > 0
    parts = [
        _stored(part, f"{name}[{i}]" if several else name)
        for i, part in enumerate(value if several else [value])
    ]
    if any(part is None for part in parts):
        return None
    return Files([part for part in parts if part is not None], name)


def _stored(value: Any, name: str) -> _Stored | None:
    """Return where an array in a file is, or None for anything else."""
    if isinstance(value, str | os.PathLike):
        value = np.load(value, mmap_mode="r")
    if not isinstance(value, np.memmap) or value.filename is None or value.mode == "c":
        return None
    flags, root = value.flags, value
    if value.ndim == 0 or not (flags.c_contiguous or flags.f_contiguous):
        return None
    if value.shape[0] == 0:
        raise ValueError(f"{name} has no samples; leave it out")
    while isinstance(root.base, np.memmap):
        root = root.base
    offset = root.offset + value.ctypes.data - root.ctypes.data
    order = "C" if flags.c_contiguous else "F"
    return _Stored(os.path.abspath(value.filename), value.dtype, value.shape, offset, order)


# ---------------------------------------------------------------- cut


def cut(
    architecture: Architecture, columns: Sequence[Any], size: int, client: Any
) -> Blocks | list[Any]:
    """Cut X, Y and weights (or None), in blocks of `size` samples.

    Returns
    -------
    Blocks, or list of dask arrays and None
        Blocks that a task reads by itself; or arrays of one chunk a block, that other tasks make.
    """
    travels = all(column is None or isinstance(column, Files) for column in columns)
    lazy = any(isinstance(column, da.Array) for column in columns)
    if travels or (client is None and not lazy):
        return Blocks(architecture, columns, size)
    chunks = {column.chunks[0] for column in columns if isinstance(column, da.Array)}
    if len(chunks) > 1:
        warnings.warn(
            "X, Y and sample_weight are chunked differently; they are cut anew, into blocks of "
            f"{size} samples",
            stacklevel=4,
        )
    return [None if column is None else _chunked(column, size, client) for column in columns]


def _chunked(column: Any, size: int, client: Any) -> da.Array:
    """Return a dask array of one chunk a block; what is in this process is sent to workers once."""
    chunks = (size, *column.shape[1:])
    if isinstance(column, da.Array):
        return column.rechunk(chunks)
    array = da.from_array(column, chunks=chunks)
    if client is None or isinstance(column, Files):
        return array
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": 2**62}):
        return client.persist(array)


def checked(architecture: Architecture, X: Any, Y: Any, weights: Any) -> list[Any]:
    """Return the three columns, of shapes that fit."""
    columns = [column(X, "X"), column(Y, "Y")]
    shapes(architecture, *(x.shape for x in columns))
    n = len(columns[0])
    if n == 0:
        checks.not_empty(columns[0], "X")
    w = None if weights is None else column(weights, "sample_weight")
    if w is not None and w.shape != (n,):
        raise ValueError(f"sample_weight must have shape ({n},), got {w.shape}")
    if isinstance(w, np.ndarray):  # others are checked block by block
        w = checks.sample_weight(w, "sample_weight", n, architecture.dtype)
    return [*columns, w]


def default_size(architecture: Architecture, samples: int) -> int:
    """Return how many samples a block has, whoever computes it."""
    largest = BYTES // (architecture.sizes[0] * architecture.dtype.itemsize)
    return max(1, min(largest, -(-samples // FEWEST)))
