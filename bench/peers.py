"""``python -m bench.peers``: every library on every row of the table; `.benchmarks/peers.json`."""

import argparse
import time

from bench import store


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter, and less certain")
    parser.add_argument("--threads", type=int, default=1, help="cores that all are pinned to")
    options = parser.parse_args()

    def rows():
        from bench import cases, libraries

        found = libraries.available()
        measured = [measure(case, found, **vars(options)) for case in cases.CASES]
        return {"settings": vars(options), "rows": measured}

    store.run("peers", rows, options.threads)
    print("`python -m bench.report` prints the table, and draws the picture")


def measure(case, libraries, quick=False, threads=1):
    """Check, then time one row; returns what the JSON holds of it."""
    from bench import cases, checks, peak
    from bench.clock import Contestant, medians

    problem = cases.problem(case)
    for library in libraries:
        checks.check(library, problem)
    contestants = [library(problem) for library in libraries]
    steps = [Contestant(c.name, c.train, c.most) for c in contestants]
    pace = (1.0, 0.002) if quick else (6.0, 0.004)
    clock = time.process_time if threads == 1 else time.perf_counter
    row = {
        "name": case.name,
        "n_params": case.n_params,
        "flops": case.flops,
        **case._asdict(),
        "step": medians([*steps, peak.contestant(case.dtype)], *pace, clock=clock),
    }
    ours = row["step"]["deltajit"]
    row["ratios"] = {name: seconds / ours for name, seconds in row["step"].items()}
    row["share of FMA peak"] = case.flops * row["ratios"].pop("peak") / threads
    ratios = ", ".join(f"{name} {ratio:.2f}x" for name, ratio in row["ratios"].items())
    step = f"{ours * 1e6:.3g} us a step, {row['share of FMA peak']:.0%} of peak"
    print(f"{case.name}, batch {case.batch}: {step}; {ratios}", flush=True)
    return row


if __name__ == "__main__":
    main()
