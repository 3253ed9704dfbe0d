"""Shuffle an order of samples as NumPy's RandomState does, with the same draws."""

from ..abi import OutWords, Word
from ..compiler import kernel, prototype
from ..status import OK, STALE, VERSION

MOST = 2**32  # elements that draws of 32 bits can shuffle
NEXT_UINT32 = 16  # offset in NumPy's struct bitgen_t, whose first field is the state


@prototype
def next_uint32(state: Word) -> Word:
    """Draw 32 bits; those above are anything."""


@kernel
def _shuffle(version: Word, state: Word, draw: Word, order: OutWords) -> Word:
    """Compute ``RandomState.shuffle(order)`` of at most MOST elements (Fisher & Yates).

    `state` is that of a bit generator, `draw` where the address of its `next_uint32` is. A draw
    below the least power of 2 may be too large, and is drawn again: element i is then swapped
    with itself, since a branch that is taken at random costs more than all the rest.
    """
    if version != VERSION:
        return STALE
    i, mask = order.size - 1, 1
    while mask < i:
        mask = 2 * mask + 1
    while i > 0:
        while mask >> 1 >= i:
            mask >>= 1
        k = next_uint32(draw, state) & mask
        is_drawn = k <= i
        k = k if is_drawn else i
        order[i], order[k] = order[k], order[i]
        i -= is_drawn
    return OK
