"""Arrays of any numbers, complex ones included, and how the reference computes with them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]

# Infinity and NaN are ordinary values here, as in the kernels, whatever np.seterr says.
quiet = np.errstate(all="ignore")


def one_hot(labels: Array, n: int, dtype: DTypeLike) -> Array:
    """Convert class labels to rows of 0 and 1.

    Parameters
    ----------
    labels : ndarray of int, (B,)
        Classes, from 0 to n - 1.
    n : int
        Number of classes.
    dtype : dtype_like
        Dtype of the result.

    Returns
    -------
    ndarray, (B, n)
        Row i is 1 in column labels[i], else 0.
    """
    return np.asarray(np.eye(n, dtype=dtype)[labels])


def of_numbers(
    f: Callable[..., float], derivative: Callable[..., Array] | None = None
) -> Callable[..., Array]:
    """Make a function of arrays from a function of numbers, such as those of `math`.

    Parameters
    ----------
    f : callable
        A real function of one or more floats.
    derivative : callable, optional
        Derivative of f with respect to its first argument, a function of arrays. It lets the first
        argument be complex, for complex-step differentiation.

    Returns
    -------
    callable
        Takes arrays, element by element, and returns one in the dtype of the first.

    Examples
    --------
    >>> import math
    >>> import numpy as np
    >>> from deltajit import reference
    >>> gamma = reference.of_numbers(math.gamma)
    >>> gamma(np.array([4.0, 5.0]))
    array([ 6., 24.])
    """
    each = np.vectorize(f, otypes=[float])

    @quiet
    def of_arrays(x: Array, *others: Array) -> Array:
        values = each(x.real, *others)
        if derivative is not None and np.iscomplexobj(x):
            values = values + 1j * x.imag * derivative(x.real, *others)
        return np.asarray(values, x.dtype)

    return of_arrays
