"""Interleaved timing: each round times every contestant once, so that drift hits all of them."""

import statistics
import time
from typing import NamedTuple

import numpy as np


class Contestant(NamedTuple):
    """What is timed: `run(units)` does `units` units of work (steps, calls), at most `most`."""

    name: str
    run: object
    most: int


def best_time(run, units, repeats=3):
    """Shortest seconds of ``run(units)``, after one call to warm up."""
    run(units)
    return min(_time(run, units, 1) for _ in range(repeats))


def chunk(contestant, seconds):
    """(units, calls): ``run(units)`` called so often that it all takes at least `seconds`."""
    units = 1
    while True:
        taken = best_time(contestant.run, units)
        if taken >= seconds or units == contestant.most:
            return units, max(1, round(seconds / taken))
        units = min(contestant.most, max(2 * units, int(1.2 * units * seconds / taken)))


def race(contestants, seconds, chunk_seconds, least_rounds=7):
    """Times of one unit: {name: {median, p10, best, units, rounds}}, in seconds.

    Goes on for `seconds`, at least `least_rounds` rounds, each in a new order. A turn is run twice
    and timed the second time: in training the caches hold the network, not what ran before it.
    """
    rng = np.random.default_rng(0)
    chunks = [chunk(contestant, chunk_seconds) for contestant in contestants]
    times = [[] for _ in contestants]
    end = time.perf_counter() + seconds
    while len(times[0]) < least_rounds or time.perf_counter() < end:
        for i in rng.permutation(len(contestants)):
            units, calls = chunks[i]
            _time(contestants[i].run, units, calls)
            times[i].append(_time(contestants[i].run, units, calls) / (units * calls))
    return {
        contestant.name: {
            "median": statistics.median(found),
            "p10": float(np.quantile(found, 0.1)),
            "best": min(found),
            "units": units * calls,
            "rounds": len(found),
        }
        for contestant, (units, calls), found in zip(contestants, chunks, times, strict=True)
    }


def repeat(call):
    """`call`, as often as it is told."""

    def run(times):
        for _ in range(times):
            call()

    return run


def _time(run, units, calls):
    start = time.perf_counter()
    for _ in range(calls):
        run(units)
    return time.perf_counter() - start
