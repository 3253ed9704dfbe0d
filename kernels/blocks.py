"""Every block size, and every choice among kernels, with its reason: measure before you change one.

Words are BLIS's where it has them: a micro-kernel (here a tile) computes MR rows times NR columns
of a product; panels of KC rows of b are packed, and stay in the L1 cache while rows of a go by.
"""

import numpy as np

from .compiler import shared
from .simd.vectors import CPU_NAME, LANES_F32, VECTOR_BYTES

# ---------------------------------------------------------------- caches

# KiB of a core's L1 and L2 caches, by LLVM's name of the CPU; of others the least there is.
CACHES = {
    # levels: the least of the CPUs that have them
    **{"x86-64-v3": (32, 256), "x86-64-v4": (32, 1024)},
    **dict.fromkeys(("haswell", "broadwell", "skylake"), (32, 256)),
    **dict.fromkeys(("skylake-avx512", "cascadelake", "cooperlake"), (32, 1024)),
    **dict.fromkeys(("icelake-client", "rocketlake"), (48, 512)),
    **dict.fromkeys(("icelake-server", "tigerlake", "alderlake"), (48, 1280)),
    **dict.fromkeys(("sapphirerapids", "emeraldrapids", "graniterapids"), (48, 2048)),
    **dict.fromkeys(("znver2", "znver3"), (32, 512)),
    **{"znver4": (32, 1024), "znver5": (48, 1024)},
    **dict.fromkeys(("neoverse-n1", "neoverse-v1"), (64, 1024)),
    **dict.fromkeys(("apple-m1", "apple-m2", "apple-m3"), (128, 4096)),
}
L1, L2 = CACHES.get(CPU_NAME, (32, 256))

# ---------------------------------------------------------------- the tile

# Accumulators in a tile, and steps of k per turn of its loop. Two FMA units of latency 4 need 8
# chains if all goes well; 16 leave room. With 24 (of 32 registers) tiles of 6 x 4 vectors are no
# faster, and waste more at the edges of layers whose width is a power of 2.
ACCUMULATORS, UNROLL = {64: (16, 4), 32: (12, 4), 16: (8, 2)}[VECTOR_BYTES]

NR = 2  # vectors of columns of a tile for many rows
MR = np.intp(ACCUMULATORS // NR)  # and its rows
MR_NARROW = np.intp(ACCUMULATORS)  # rows of a tile of one vector
NR_ONE = 4  # vectors of a tile of one row, which has as many chains
MR_FEW = 5 if VECTOR_BYTES == 64 else 4  # rows of the tile that reads b where it lies
MR_TALL = 10 if VECTOR_BYTES == 64 else 5  # and where there are more, so that b is read once
SHORT = 64  # rows, columns and depth of a product at most, whose MR x NR tiles pack no b

# Rows of b that a shallow product keeps in registers, NR vectors each, at most, and rows of c that
# go by together: of 32 registers 26 are taken. Of 16 more than 10 are no faster than tiles.
SHALLOW, ROWS_SHALLOW = (10, 2) if VECTOR_BYTES == 64 else (4, 1)

# Rows of a panel, which takes two thirds of L1 at most: of 48 KB, with AVX-512, it is 32 KB. More
# than 256 were no faster on any CPU that we tried (``python -m bench.blocks``), nor where they fit.
KC = min(256, 2 * L1 * 1024 // 3 // (NR * VECTOR_BYTES) // 32 * 32)
# Rows of a whose KC columns, of float32, take half of L2 at most: they stay while panels go by.
MC = min(256, L2 * 1024 // 2 // (4 * KC) // 32 * 32)
MC_TRANSPOSED = 256  # the same for b.T, whose panels cost more to pack than rows of a beyond L2
AHEAD = 24  # rows of b that are prefetched ahead: no hardware prefetcher follows long strides

# ---------------------------------------------------------------- products

FEW, WIDE, NARROW = range(3)
TILES = {FEW: (MR_FEW, NR), WIDE: (int(MR), NR), NARROW: (int(MR_NARROW), 1)}  # rows x vectors


@shared
def tile_of(m, n, width):
    """Choose the tiles of a product of m rows for n columns, of `width` lanes a vector.

    FEW reads b where it lies, since packing would not pay; WIDE (MR x NR vectors) and NARROW
    (MR_NARROW x 1) go through packed panels.
    """
    if m < MR or (MR < m < MR_NARROW and n <= 2 * NR * width):
        tile = FEW
    elif n > width or m < MR_NARROW:
        tile = WIDE
    else:
        tile = NARROW
    return tile


@shared
def is_shallow(n, k, width):
    """Return whether a product of n columns, k deep, goes by strips that keep b in registers.

    They are of whole vectors, but the second of two may overlap the first.
    """
    return 0 < k <= SHALLOW and (n % width == 0 or width < n < NR * width)


@shared
def group_of(n, width):
    """Return how many rows of b share a vector, of `width` lanes, where c has only n columns."""
    return 4 if 4 * n <= width else 2 if 2 * n <= width else 1


@shared
def is_narrow(shape, k, width):
    """Return whether ``c = a.T @ b``, k deep, is faster as c.T, with lanes along the rows of c.

    It is where the last vector of its columns, the only or the second one, would be mostly empty.
    """
    m, n = shape
    few, little_over = 8 * n <= 5 * width, width < n and 2 * n <= 3 * width
    return (few or little_over) and m >= width and k >= 2 * width


# Ways of a layer's products: by inner products, by tiles whose vectors hold several rows of b, by
# tiles of the transposed result, by tiles. (A layer's one sample goes by the kernels of `sample`.)
INNER, GROUPED, TRANSPOSED, TILED = range(4)


@shared
def way_forward(n, width):
    """Choose how ``a @ W`` of n units is computed: a tile of few columns leaves lanes empty."""
    way = TILED
    if n == 1:
        way = INNER
    elif group_of(n, width) > 1:
        way = GROUPED
    return way


@shared
def way_delta(m):
    """Choose how ``delta @ W.T`` of m samples is computed: packing W.T pays for whole tiles."""
    return INNER if m < MR else TILED


@shared
def way_gradient(shape, k, width):
    """Choose how ``a.T @ delta`` of k samples is computed; shape (n_in, n_out)."""
    way = TILED
    if shape[1] == 1:
        way = INNER
    elif is_narrow(shape, k, width):
        way = TRANSPOSED
    return way


# A large transposed a would leave L2 between two panels, and each of its columns is on a page of
# its own: from BIG vectors (512 KB) on, MC_PACKED vectors of its rows are packed,
# PIECE columns at a time, whose lines stay in L1 until all tiles have taken their parts.
BIG, MC_PACKED, PIECE = 2**19 // VECTOR_BYTES, 16, 8

# ---------------------------------------------------------------- threads

# Multiply-adds from which on a region, some microseconds until all threads are at work, pays.
WORTH = 1_000_000

# Threads at most, whatever is asked for: OpenMP keeps those of a region on the caller's stack.
MOST_THREADS = 1024

# What threads get are whole tiles: rows in multiples of all their heights, columns of whole panels.
CHUNK_OF_ROWS, CHUNK_OF_COLUMNS = ACCUMULATORS, NR * LANES_F32

# ---------------------------------------------------------------- networks and circuits

# Samples that go through all layers together, forward and backward, at most: their activations stay
# in L2 for layers up to a thousand units wide, and the time to read W is spread over so many.
LARGEST_BLOCK = 256

# Samples of a batch that there may be at all: sums of such numbers are int64.
MOST_SAMPLES = 2**62

LINE, L3 = 64, 2**23  # bytes of a cache line, and of L3 for each core, at least

# Bytes that a loop over units prefetches ahead: what it reads left L2 layers ago, and a hardware
# prefetcher begins anew on each page. Nine layers of 256 units: 2 % of a product with the Hessian.
LOOK_AHEAD = 20 * LINE

# Steps in a segment of a circuit: values or adjoints of 16 samples in float64 are 256 KB then, and
# stay in L2. With 1,024, gradients of 1e6 operations take 6 to 8 % longer, since runs are shorter;
# with 8,192 those of 1e5 take 11 to 15 %.
SEGMENT = 2048


def samples_in_row(rows, taped, itemsize):
    """Choose how many samples a row of a circuit holds, by its rows of values and of the tape.

    Wider ones share what a step costs by itself, and run out of the caches sooner. All is read
    again soon where it is small; the tape of a large one is in L3 or beyond, where the less there
    is the better: a cache line a row.
    """
    if (2 * rows + taped) * 32 * itemsize <= L2 * 1024 // 4:
        width = 32
    elif taped * 16 * itemsize <= L3:
        width = 16
    else:
        width = LINE // itemsize
    return width
