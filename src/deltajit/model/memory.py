"""Allocate arrays that begin on a cache line, so that vectors as wide as a line never cross one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
DType = np.dtype[Any]  # float32 or float64, known only at run time

LINE = 64
LEAST = 10_000  # numbers of a result from which on it begins on a cache line


def empty(size: int, dtype: DTypeLike) -> Array:
    """Return ``np.empty(size, dtype)`` at an address that is a multiple of 64, a cache line."""
    kind = np.dtype(dtype)
    spare = np.empty(size * kind.itemsize + LINE, np.uint8)
    first = -spare.ctypes.data % LINE
    return spare[first : first + size * kind.itemsize].view(kind)


def result(size: int, dtype: DTypeLike) -> Array:
    """Return memory for what a call returns: like `empty` if it is large enough to be worth it.

    NumPy says where memory is in a microsecond, in which a kernel writes some thousand numbers.
    """
    return np.empty(size, dtype) if size < LEAST else empty(size, dtype)


def rows(count: int, size: int, dtype: DTypeLike) -> Array:
    """Return `count` rows of at least `size` elements, each of which begins on a cache line."""
    kind = np.dtype(dtype)
    width = -(-size * kind.itemsize // LINE) * LINE // kind.itemsize
    if count * width * kind.itemsize >= 2**62:
        raise MemoryError(f"{count:,} rows of {width:,} numbers are more than there can be")
    return empty(count * width, kind).reshape(count, width)


def copy(array: Array) -> Array:
    """Return a copy of a vector that begins on a cache line."""
    new = empty(array.size, array.dtype)
    new[:] = array
    return new


class _Lender:
    """Tell NumPy that an array may be written, and keep it as long as a view of it lives."""

    def __init__(self, array: Array) -> None:
        self._array = array
        place = array.ctypes.data, False  # not read-only
        self.__array_interface__ = {**array.__array_interface__, "data": place}


def lent(array: Array) -> Array:
    """Return a view of a contiguous array for kernels, which are typed for arrays to be written.

    Samples they only read, so that those in a read-only memory map need no copy.
    """
    return array if array.flags.writeable else np.asarray(_Lender(array))


def ready(array: Array) -> Array:
    """Return the array itself if it is writable and contiguous, as kernels need it, else a copy."""
    return np.require(array, None, ["C", "A", "W", "E"])
