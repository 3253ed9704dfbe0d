"""Interleaved timing: each round times every contestant once, so that drift hits all of them."""

import time
from typing import NamedTuple

import numpy as np


class Contestant(NamedTuple):
    """What is timed: `run(units)` does `units` units of work (steps, calls), at most `most`."""

    name: str
    run: object
    most: int

    def seconds(self, units, calls, clock):
        """Return the seconds that so many calls of `run` take together."""
        start = clock()
        for _ in range(calls):
            self.run(units)
        return clock() - start


def race(contestants, seconds, chunk_seconds, least_rounds=7, clock=time.process_time):
    """Return the seconds of one unit in each round: {name: (rounds,)}.

    contestants : Contestants, or what has their name, `most` and `seconds`, in other processes.
    clock : counts CPU seconds of this process, all its threads, so that a neighbour on the same
    core costs rounds, not truth; where threads share the work, only ``time.perf_counter`` will do.
    Goes on for `seconds`, at least `least_rounds` rounds, each in a new order. A turn of about
    `chunk_seconds` is run twice and timed the second time, since in training the caches hold the
    network, not what ran before it. A turn of more than a hundred chunks is run once: beside it,
    filling the caches is nothing. (Of ten it was 5 %, for those just beyond.)
    """
    rng = np.random.default_rng(0)
    chunks = [_chunk(contestant, chunk_seconds, clock) for contestant in contestants]
    times = [[] for _ in contestants]
    end = time.perf_counter() + seconds
    while len(times[0]) < least_rounds or time.perf_counter() < end:
        for i in rng.permutation(len(contestants)):
            turn, (units, calls, taken) = contestants[i].seconds, chunks[i]
            if taken * calls < 100 * chunk_seconds:
                turn(units, calls, clock)
            times[i].append(turn(units, calls, clock) / (units * calls))
    return {c.name: np.array(each) for c, each in zip(contestants, times, strict=True)}


def medians(*arguments, **options):
    """Race; return {name: median seconds of one unit}."""
    return {name: float(np.median(x)) for name, x in race(*arguments, **options).items()}


def repeat(call):
    """Return a function that makes a call as often as it is told."""

    def run(times):
        for _ in range(times):
            call()

    return run


def _chunk(contestant, seconds, clock):
    """Return (units, calls, seconds of a call): all calls together take about `seconds`."""
    units = 1
    contestant.seconds(units, 1, clock)  # compiles, and warms the caches
    while True:
        turns = (contestant.seconds(units, 1, clock) for _ in range(2 if units > 1 else 1))
        taken = min(turns)
        if taken >= seconds or units == contestant.most:
            return units, max(1, round(seconds / max(taken, 1e-9))), taken
        units = min(contestant.most, max(2 * units, int(1.2 * units * seconds / max(taken, 1e-9))))
