"""Arrays of any kind of number, complex ones too, and how the reference computes with them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Infinity and NaN are values here, as in the kernels, whatever np.seterr was told.
quiet = np.errstate(all="ignore")


def one_hot(labels: Array, n: int, dtype: Any) -> Array:
    """Rows of the identity matrix, (B, n), for class labels (B,)."""
    return np.asarray(np.eye(n, dtype=dtype)[labels])


def of_numbers(
    f: Callable[..., float], derivative: Callable[..., Array] | None = None
) -> Callable[..., Array]:
    """Make a function of arrays of a function of numbers.

    With `derivative`, of arrays, by the first argument, that one may have an imaginary part for
    complex-step differentiation.
    """
    each = np.vectorize(f, otypes=[float])

    @quiet
    def of_arrays(x: Array, *others: Array) -> Array:
        values = each(x.real, *others)
        if derivative is not None and np.iscomplexobj(x):
            values = values + 1j * x.imag * derivative(x.real, *others)
        return np.asarray(values, x.dtype)

    return of_arrays
