"""Dropout: in each step some units of the hidden layers are left out (Srivastava et al. 2014).

Inverted: what is left is divided by the share that is kept, so predictions need no scaling. Who is
left out is a hash of the seed, the layer and the place, computed again on the way back: no mask is
stored, and the gradient is exact for the very network that the sweep forward went through.
"""

from typing import NamedTuple

import numpy as np
from numba import types

from ..abi import Array, Doubles, Matrix, Word, written
from ..compiler import inlined, kernel
from ..simd.views import flat

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MASK = np.uint64(0xFFFFFFFF)


class Dropout(NamedTuple):
    """Which units are left out; None, or empty arrays, where none are.

    keep : (L - 1,) float64, share of each hidden layer's units that is kept.

    seed : (1,) uint64, of the next block of samples; each block moves it on.
    """

    keep: Doubles
    seed: written(Array(types.uint64, 1))


@inlined
def next_block(dropout):
    """Another seed, once a block has gone forward and back."""
    dropout.seed[0] += GOLDEN


@inlined
def _mixed(x):
    """A hash of 64 bits: the finalizer of SplitMix64 (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@inlined
def _is_kept(base, i, most):
    """Whether unit i of a block is: its hash of 32 bits is below `most`."""
    x = (base + np.uint64(i)) & MASK
    x = ((x ^ (x >> np.uint64(16))) * np.uint64(0x7FEB352D)) & MASK
    x = ((x ^ (x >> np.uint64(15))) * np.uint64(0x846CA68B)) & MASK
    return (x ^ (x >> np.uint64(16))) < most


@inlined
def _start(dropout, k):
    """(where the hashes of hidden layer k begin, the bound of those that are kept)."""
    base = _mixed(dropout.seed[0] + GOLDEN * np.uint64(k + 1))
    return base, np.uint64(dropout.keep[k] * 4294967296.0)


@kernel
def drop(dropout: Dropout, k: Word, a: Matrix):
    """``a = mask * a / keep``, in place; a (B, n), the activations of hidden layer k."""
    x, (base, most) = flat(a), _start(dropout, k)
    scale, zero = a.dtype.type(1.0 / dropout.keep[k]), a.dtype.type(0)
    for i in range(x.size):
        x[i] = x[i] * scale if _is_kept(base, i, most) else zero


@kernel
def undrop(dropout: Dropout, k: Word, a: Matrix, delta: Matrix):
    """``delta = mask * delta / keep``, and a, of those that were kept, as before `drop`."""
    x, d, (base, most) = flat(a), flat(delta), _start(dropout, k)
    keep = a.dtype.type(dropout.keep[k])
    scale, zero = a.dtype.type(1.0 / dropout.keep[k]), a.dtype.type(0)
    for i in range(x.size):
        x[i] *= keep
        d[i] = d[i] * scale if _is_kept(base, i, most) else zero
