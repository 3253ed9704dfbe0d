"""The most multiply-adds that this core can do: what a training step's flops are held against.

Twelve independent chains ``acc = acc * x + y``, each a vector register: more than latency times
ports of any current core (4 x 2 or 5 x 2), and few enough for 16 registers.
"""

import numpy as np
from deltajit.kernels.mlp.activations import ACTIVATIONS
from deltajit.kernels.simd.vectors import LANES_F32, LANES_F64, broadcast, fma, reduce_add
from numba import njit

from bench.clock import Contestant
from bench.worker import Kind

CHAINS = 12


@njit(error_model="numpy")
def multiply_adds(x, y, rounds):
    """Do `rounds` times CHAINS vector multiply-adds in the dtype of x; returns what they give."""
    v, w = broadcast(x, x), broadcast(y, x)
    a, b, c = v - v, v, v + v  # chains that start alike would be merged into one
    d, e, f = c + b, c + c, c + c + v
    g, h, p = d + d, d + e, e + e
    q, r, s = e + f, f + f, f + g
    for _ in range(rounds):
        a, b, c, d = fma(a, v, w), fma(b, v, w), fma(c, v, w), fma(d, v, w)
        e, f, g, h = fma(e, v, w), fma(f, v, w), fma(g, v, w), fma(h, v, w)
        p, q, r, s = fma(p, v, w), fma(q, v, w), fma(r, v, w), fma(s, v, w)
    return reduce_add(a + b + c + d + e + f + g + h + p + q + r + s)


def flops(dtype, rounds):
    """Floating-point operations of ``multiply_adds(x, y, rounds)``."""
    return 2 * CHAINS * {"float32": LANES_F32, "float64": LANES_F64}[dtype] * rounds


def contestant(dtype):
    """Return this kernel as a contestant, whose unit is one floating-point operation."""
    number = np.dtype(dtype).type

    def run(operations):
        multiply_adds(number(0.75), number(0.3), operations // flops(dtype, 1))

    return Contestant("peak", run, 1 << 62)


class Peak(Kind):
    """The kernel as a subject of `bench.worker`: its unit is one floating-point operation."""

    name = "peak"

    def __init__(self, row):
        _, self.train, _ = contestant("float32")


class Elementary(Kind):
    """A function of `bench.cases` alone, on numbers in the L1 cache; its unit is one number."""

    name = "elementary"
    SHAPE = 16, 64

    def __init__(self, function):
        activate = ACTIVATIONS[function].activate
        self.z = np.random.default_rng(0).normal(size=self.SHAPE).astype("f4")
        self.a = np.empty_like(self.z)

        @njit
        def repeat(z, a, times):
            for _ in range(times):
                activate(z, a, 0.0)

        self.repeat = repeat

    def train(self, numbers):
        self.repeat(self.z, self.a, numbers // self.z.size)
