"""Dropout: in each step some units of the hidden layers are left out (Srivastava et al. 2014).

It is inverted: units that stay are divided by the share that is kept, so predictions need no
scaling. Whether a unit stays is a hash of the seed, the layer and the unit's index, computed again
in the backward sweep: no mask is stored, and the gradient is exact for the network of the forward
sweep.
"""

from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from ..abi import Array, Doubles, Matrix, Word
from ..compiler import inlined, kernel
from ..simd.views import flat

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MASK = np.uint64(0xFFFFFFFF)


class Dropout(NamedTuple):
    """Say which hidden units are left out of a training step.

    Attributes
    ----------
    keep : array (L - 1,) of float64
        Share of the units of each hidden layer that is kept.
    seed : array (1,) of uint64
        Seed of the next block of samples; each block advances it.
    """

    keep: Doubles
    seed: Annotated[npt.NDArray[np.uint64], Array(types.uint64, 1, is_written=True)]


@inlined
def next_block(dropout):
    """Advance the seed, once a block has gone forward and back."""
    dropout.seed[0] += GOLDEN


@inlined
def _mixed(x):
    """Return the 64-bit hash of x: the finalizer of SplitMix64 (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@inlined
def _is_kept(base, i, most):
    """Return whether unit i of a block is kept: its 32-bit hash is below `most`."""
    x = (base + np.uint64(i)) & MASK
    x = ((x ^ (x >> np.uint64(16))) * np.uint64(0x7FEB352D)) & MASK
    x = ((x ^ (x >> np.uint64(15))) * np.uint64(0x846CA68B)) & MASK
    return (x ^ (x >> np.uint64(16))) < most


@inlined
def _start(dropout, k):
    """Return where the hashes of hidden layer k begin, and the bound below which units are kept."""
    base = _mixed(dropout.seed[0] + GOLDEN * np.uint64(k + 1))
    return base, np.uint64(dropout.keep[k] * 4294967296.0)


@kernel
def drop(dropout: Dropout, k: Word, a: Matrix):
    """Compute ``a = mask * a / keep``, in place; a (B, n) are activations of hidden layer k."""
    x, (base, most) = flat(a), _start(dropout, k)
    scale, zero = a.dtype.type(1.0 / dropout.keep[k]), a.dtype.type(0)
    for i in range(x.size):
        x[i] = x[i] * scale if _is_kept(base, i, most) else zero


@kernel
def undrop(dropout: Dropout, k: Word, a: Matrix, delta: Matrix):
    """Undo `drop` in a, and apply it to delta: ``delta = mask * delta / keep``, in place."""
    x, d, (base, most) = flat(a), flat(delta), _start(dropout, k)
    keep = a.dtype.type(dropout.keep[k])
    scale, zero = a.dtype.type(1.0 / dropout.keep[k]), a.dtype.type(0)
    for i in range(x.size):
        x[i] *= keep
        d[i] = d[i] * scale if _is_kept(base, i, most) else zero
