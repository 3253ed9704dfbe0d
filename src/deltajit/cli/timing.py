"""Timing of functions to compare, interleaved, so that drift of the machine affects all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def medians(*functions: Callable[[], object], seconds: float = 0.5) -> list[float]:
    """Return the median seconds of a call of each function.

    The functions take turns, for about `seconds` in all and for at least 5 rounds.
    """
    for function in functions:
        function()  # compiles, and fills the caches
    times: list[list[float]] = [[] for _ in functions]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for function, measured in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            measured.append(time.perf_counter() - start)
    return [statistics.median(measured) for measured in times]


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit NumPy's BLAS to one thread, so that both sides of a comparison use one core."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def readable(seconds: float) -> str:
    """Format seconds with three digits and a unit, such as ``12.3 us``."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
