"""``python -m bench.peers``: every library on every row of the table; `.benchmarks/peers.json`."""

import argparse
import time

from bench import limits, store

QUANTILES = (("", "median"), ("_p10", "p10"))  # of times; each with the suffix of its results


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
    share_of_peak(report["rows"], options.threads)
    report["seconds"] = time.perf_counter() - started
    print(f"{store.save('peers', report)}, after {report['seconds']:.0f} s")
    print("`python -m bench.table` prints the table, `python -m bench.report` draws the picture")


def measure(case, libraries, options):
    """Check, then time one row; returns what the JSON holds of it."""
    from bench import cases, checks, peak
    from bench.clock import Contestant, repeat, summaries
    from bench.libraries import Jax, JaxCalls, JaxUnrolled, ScikitLearn

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
        "step": summaries([*steps, peak.contestant(case.dtype)], **pace),
    }
    once = [c for c in contestants if not isinstance(c, (JaxCalls, JaxUnrolled))]
    for what, left_out in (("value_and_grad", ScikitLearn), ("predict", ())):
        subjects = [
            Contestant("JAX" if isinstance(c, Jax) else c.name, repeat(getattr(c, what)), 1 << 20)
            for c in once
            if not isinstance(c, left_out)
        ]
        row[what] = summaries(subjects, **pace | {"seconds": pace["seconds"] / 3})
    for suffix, quantile in QUANTILES:
        row[f"gflops{suffix}"] = case.flops / row["step"]["deltajit"][quantile] / 1e9
        row[f"ratios{suffix}"] = _ratios(row, quantile)
    print(_line(row), flush=True)
    return row


def share_of_peak(rows, threads):
    """Put into each row what its steps reach of the peak, and the peak itself.

    The peak is what can be reached: its fastest chunk of the whole run, times the cores.
    """
    for row in rows:
        chunks = [r["step"]["peak"]["best"] for r in rows if r["dtype"] == row["dtype"]]
        row["peak_gflops"] = threads / min(chunks) / 1e9
        for suffix, _ in QUANTILES:
            row[f"share_of_peak{suffix}"] = row[f"gflops{suffix}"] / row["peak_gflops"]


def _ratios(row, quantile):
    """Time of each peer over deltajit's, for steps and for the calls from Python."""
    return {
        what: {
            name: times[quantile] / row[what]["deltajit"][quantile]
            for name, times in row[what].items()
            if name not in ("deltajit", "peak")
        }
        for what in ("step", "value_and_grad", "predict")
    }


def _line(row):
    ratios = ", ".join(f"{name} {ratio:.2f}x" for name, ratio in row["ratios"]["step"].items())
    own = row["step"]["deltajit"]["median"] * 1e6
    return (
        f"{row['name']}, batch {row['batch']}: {own:.3g} us a step, "
        f"{row['gflops']:.3g} GFLOP/s; {ratios}"
    )


if __name__ == "__main__":
    main()
