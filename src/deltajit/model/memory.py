"""Buffers that begin on a cache line: vectors of a layer as wide as a line then never cross one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LINE = 64


def empty(size: int, dtype: Any) -> Array:
    """``np.empty(size, dtype)`` at an address that is a multiple of a cache line's 64 bytes."""
    kind = np.dtype(dtype)
    spare = np.empty(size * kind.itemsize + LINE, np.uint8)
    first = -spare.ctypes.data % LINE
    return spare[first : first + size * kind.itemsize].view(kind)


def rows(count: int, size: int, dtype: Any) -> Array:
    """`count` rows of at least `size` elements, each of which begins on a cache line."""
    kind = np.dtype(dtype)
    width = -(-size * kind.itemsize // LINE) * LINE // kind.itemsize
    if count * width * kind.itemsize >= 2**62:
        raise MemoryError(f"{count:,} rows of {width:,} numbers are more than there can be")
    return empty(count * width, kind).reshape(count, width)


def copy(array: Array) -> Array:
    """A copy of a vector, at such an address."""
    own = empty(array.size, array.dtype)
    own[:] = array
    return own


def ready(array: Array) -> Array:
    """The array itself if kernels are compiled for such, else a copy: writable and contiguous."""
    return np.require(array, None, ["C", "A", "W", "E"])
