"""Errors of the elementary functions in ULP: `python -m deltajit.kernels.ulp [--sample N] [names]`.

float32 is checked over all 2**32 inputs against NumPy's float64 functions, whose own error is below
2**-26 float32 ULP; float64 at sampled inputs against mpmath. Exits with 1 if a bound is exceeded.
"""

import argparse
import math
import sys
import time

import numpy as np

from ..compiler import njit
from . import elementary
from .vectors import HAS_FMA, VECTOR_BYTES, lanes, load_masked, store_masked

BOUNDS = {
    "exp": 1, "exp2": 1, "expm1": 2, "log": 2, "log1p": 1, "tanh": 2, "sigmoid": 1, "erf": 2,
    "sin": 1, "cos": 1,
}  # fmt: skip
if VECTOR_BYTES == 64:
    BOUNDS["tanh"] = 1  # by a table
if not HAS_FMA:  # each a * b + c is then rounded twice
    BOUNDS = dict.fromkeys(BOUNDS, 2)
BOUND_F64 = 2
CHUNK = 1 << 20


def evaluator(name):
    """Jitted (x, y): y[:] = f(x), vector by vector."""
    f = getattr(elementary, name)

    @njit
    def evaluate(x, y):
        for i in range(0, x.size, lanes(x)):
            count = min(lanes(x), x.size - i)
            store_masked(y, i, f(load_masked(x, i, count)), count)

    return evaluate


@njit
def _fill_erf(x, y):
    for i in range(x.size):
        y[i] = math.erf(x[i])


def _erf(x):
    y = np.empty_like(x)
    _fill_erf(x, y)
    return y


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def reference_f64(name):
    """Return the function in float64, for arrays: NumPy's, or made of the C library's."""
    return {"erf": _erf, "sigmoid": _sigmoid}.get(name) or getattr(np, name)


@njit
def worst_f32(y, reference):
    """Return (largest error, its index); a wrong NaN or sign of zero is an infinite error.

    Infinity and all beyond count as 2**128, so that rounding to it is judged like any other.
    """
    largest, where = -1.0, 0
    for i in range(y.size):
        got, want = np.float64(y[i]), reference[i]
        if math.isnan(want) or math.isnan(got):
            error = 0.0 if math.isnan(want) and math.isnan(got) else math.inf
        elif math.isinf(want) or want == 0.0:
            same = got == want and math.copysign(1.0, got) == math.copysign(1.0, want)
            error = 0.0 if same else math.inf
        else:
            if math.isinf(got):
                got = math.copysign(2.0**128, got)
            want = min(max(want, -(2.0**128)), 2.0**128)
            exponent = min(max(math.frexp(want)[1], -125), 128)
            error = math.ldexp(abs(got - want), 24 - exponent)
        if error > largest:
            largest, where = error, i
    return largest, where


def check_f32(name, step=1):
    """(largest error, its input) over every `step`-th float32 bit pattern and special values."""
    evaluate, reference = evaluator(name), reference_f64(name)
    largest, where = -1.0, np.float32(0)
    starts = range(0, 1 << 32, CHUNK * step)
    for start in (None, *starts):
        if start is None:
            x = special_values(np.float32)
        else:
            stop = min(start + CHUNK * step, 1 << 32)
            x = np.arange(start, stop, step, dtype=np.uint32).view(np.float32)
        y = np.empty_like(x)
        evaluate(x, y)
        with np.errstate(all="ignore"):
            error, i = worst_f32(y, reference(x.astype(np.float64)))
        if error > largest:
            largest, where = error, x[i]
    return largest, where


def special_values(dtype):
    """Zeros, infinities, NaN, ends of subnormals and normals, and where functions saturate."""
    info = np.finfo(dtype)
    points = [0, 1, info.tiny, info.smallest_subnormal, info.max, 0.5, 2, np.inf, np.nan]
    points += [np.log(info.max), -np.log(info.tiny), -np.log(info.smallest_subnormal)]
    points += [0.625, 0.7, 0.8, 4, 6, 9, 10, 17, 18, 20, 40, 3216, 2.6e7]
    x = np.array(points, dtype)
    with np.errstate(over="ignore"):
        x = np.concatenate([x, np.nextafter(x, dtype(0)), np.nextafter(x, dtype(np.inf))])
    return np.concatenate([x, -x])


def check_f64(name, count):
    """Return (largest error, its input) at `count` inputs or so, against mpmath."""
    import mpmath

    half = count // 2
    patterns = np.linspace(0, 2**64 - 2048, half).astype(np.uint64).view(np.float64)
    x = np.concatenate([special_values(np.float64), patterns, np.linspace(-40, 40, half)])
    x = np.concatenate([x, np.geomspace(1e-6, 40, half), -np.geomspace(1e-6, 40, half)])
    y = np.empty_like(x)
    evaluator(name)(x, y)
    with np.errstate(all="ignore"):
        rough = reference_f64(name)(x)
    one = mpmath.mpf(1)
    exact = {
        "sigmoid": lambda t: one / (one + mpmath.exp(-t)),
        "exp2": lambda t: mpmath.mpf(2) ** t,
    }.get(name) or getattr(mpmath, name)
    largest, where = -1.0, 0.0
    for xi, yi, ri in zip(x.tolist(), y.tolist(), rough.tolist(), strict=True):
        if math.isfinite(ri) and ri != 0 and math.isfinite(yi):
            with mpmath.workprec(120 + max(0, -2 * math.frexp(xi)[1])):
                want = exact(mpmath.mpf(xi))
                ulp = mpmath.ldexp(1, max(mpmath.frexp(want)[1], -1021) - 53)
                error = float(abs(mpmath.mpf(yi) - want) / ulp)
        else:
            same = yi == ri and math.copysign(1, yi) == math.copysign(1, ri)
            error = 0.0 if same or (math.isnan(yi) and math.isnan(ri)) else math.inf
        if error > largest:
            largest, where = error, xi
    return largest, where


def main(arguments=None):
    """Check the functions that the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    # "all", since Python 3.11 wants the default among the choices too.
    choices = [*BOUNDS, "all"]
    parser.add_argument("names", nargs="*", default="all", metavar="names", choices=choices)
    parser.add_argument("--sample", type=int, help="float32: about so many inputs instead of all")
    options = parser.parse_args(arguments)
    step = 1 if options.sample is None else max(1, (1 << 32) // options.sample)
    failed = False
    for name in BOUNDS if "all" in options.names else options.names:
        for kind, bound, check in (
            ("float32", BOUNDS[name], lambda name=name: check_f32(name, step)),
            ("float64", BOUND_F64, lambda name=name: check_f64(name, 2000)),
        ):
            start = time.perf_counter()
            error, x = check()
            seconds = time.perf_counter() - start
            verdict = "ok" if error <= bound else "TOO LARGE"
            failed |= error > bound
            print(
                f"{name:8} {kind}  {error:6.3f} ULP at {x!r:32} bound {bound}  {verdict}"
                f"  {seconds:.0f} s",
                flush=True,
            )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
