"""Timing of things that are to be compared: interleaved, so that the machine's drift hits all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def medians(*functions: Callable[[], object], seconds: float = 0.5) -> list[float]:
    """Median seconds of a call of each, taken in turns for about `seconds`, at least 5 rounds."""
    for function in functions:
        function()  # compiles, and warms the caches
    times: list[list[float]] = [[] for _ in functions]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for function, found in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold NumPy's BLAS to one thread: then both sides of a comparison have one core."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def readable(seconds: float) -> str:
    """Seconds with a unit that leaves three digits: ``12.3 us``."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
