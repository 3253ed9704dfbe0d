"""``python -m bench.peers``: every library on every row of the table; `.benchmarks/peers.json`."""

import argparse
import time

from bench import limits, store


def main():
    """Read the command line, hold the machine still, then run."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter, and less certain")
    parser.add_argument("--threads", type=int, default=1, help="cores that all are pinned to")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only rows whose name has this")
    options = parser.parse_args()
    cores = limits.hold(options.threads)
    # Libraries read their limits when they are imported, so they are imported only now.
    from bench import cases, libraries, machine

    rows = [
        case
        for case in cases.CASES
        if not options.rows or any(part in case.name for part in options.rows)
    ]
    if not rows:
        raise SystemExit(f"no row's name has {options.rows}: {[c.name for c in cases.CASES]}")
    found = libraries.available()
    started = time.perf_counter()
    report = {
        "machine": machine.describe(cores),
        "settings": {"threads": options.threads, "quick": options.quick},
        "rows": [measure(case, found, options) for case in rows],
    }
    report["seconds"] = time.perf_counter() - started
    print(f"{store.save('peers', report)}, after {report['seconds']:.0f} s")
    print("`python -m bench.report` prints the table, and draws the picture")


def measure(case, libraries, options):
    """Check, then time one row; returns what the JSON holds of it."""
    from bench import cases, checks, peak
    from bench.clock import Contestant, medians

    problem = cases.problem(case)
    takers = [library for library in libraries if library.takes(case)]
    for library in takers:
        checks.check(library, problem)
    contestants = [library(problem) for library in takers]
    pace = {"seconds": 1.0, "chunk_seconds": 0.002} if options.quick else {
        "seconds": 6.0, "chunk_seconds": 0.004
    }  # fmt: skip
    pace["clock"] = time.process_time if options.threads == 1 else time.perf_counter

    steps = [Contestant(c.name, c.train, c.most) for c in contestants]
    row = {
        "name": case.name,
        "n_params": case.n_params,
        "flops": case.flops,
        **case._asdict(),
        "step": medians([*steps, peak.contestant(case.dtype)], **pace),
    }
    ours = row["step"]["deltajit"]
    row["ratios"] = {name: seconds / ours for name, seconds in row["step"].items()}
    row["share of FMA peak"] = case.flops * row["ratios"].pop("peak") / options.threads
    print(_line(row), flush=True)
    return row


def _line(row):
    ratios = ", ".join(f"{name} {ratio:.2f}x" for name, ratio in row["ratios"].items())
    step = f"{row['step']['deltajit'] * 1e6:.3g} us a step, {row['share of FMA peak']:.0%} of peak"
    return f"{row['name']}, batch {row['batch']}: {step}; {ratios}"


if __name__ == "__main__":
    main()
