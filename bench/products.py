"""Products of matrices, float32, row-major, as subjects of `bench.worker`: c = a @ b, n x n."""

import numpy as np

from bench import native
from bench.worker import Kind


def operands(n):
    """Return a, b and an empty c."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(n, n)).astype("f4") for _ in range(2))
    return a, b, np.empty_like(a)


class Multiply(Kind):
    """What they share: `train(times)` computes the product so often."""

    def __init__(self, row):
        self.a, self.b, self.c = operands(row.n)

    def result(self):
        return self.c


class Deltajit(Multiply):
    """Our `matmul`, in a jitted loop."""

    name = package = "deltajit"

    def __init__(self, row):
        super().__init__(row)
        import numba
        from deltajit.kernels.gemm.matmul import matmul

        @numba.njit
        def repeat(a, b, c, times):
            for _ in range(times):
                matmul(a, b, c)

        self.repeat = repeat

    def train(self, times):
        self.repeat(self.a, self.b, self.c, times)


class NumPy(Multiply):
    """OpenBLAS, by NumPy."""

    name, package = "NumPy", "numpy"

    def train(self, times):
        for _ in range(times):
            np.matmul(self.a, self.b, out=self.c)


class Libxsmm(Multiply):
    """One kernel of LIBXSMM's where it is best, and its kernels on packed blocks where not."""

    name = "LIBXSMM"

    @classmethod
    def missing(cls):
        return native.missing("libxsmm.h", "libxsmm-dev")

    def train(self, times):
        lib = native.load("libxsmm", native.LIBXSMM)
        lib.multiply(len(self.a), *map(native.address, (self.a, self.b, self.c)), times)


LIBRARIES = [Deltajit, NumPy, Libxsmm]


def compare(subject, row):
    """Raise AssertionError unless the product is right."""
    a, b, _ = operands(row.n)
    subject.train(1)
    right = a.astype(float) @ b
    error = abs(subject.result() - right).max() / abs(right).max()
    if not error < 1e-5:
        raise AssertionError(f"{subject.name}, {row.name}: the product is off by {error:.1e}")
