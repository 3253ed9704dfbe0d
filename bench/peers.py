"""``python -m bench.peers``: every library on every row of the tables; `.benchmarks/peers.json`.

Each library has a process of its own on each row. They take turns on one core, and a row's times
are medians of many rounds.
"""

import argparse
import contextlib
import re
import time

from bench import limits, store

KINDS = ("steps", "products", "fits")


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter, and less certain")
    parser.add_argument("--threads", type=int, default=1, help="cores that all are pinned to")
    parser.add_argument("--isa", choices=limits.ISAS, default="native", help="restrict all to it")
    parser.add_argument("--tensorflow", action="store_true", help="TensorFlow too")
    parser.add_argument("--rows", default="", help="only those that match; the others stay")
    options = parser.parse_args()
    limits.restrict(options.isa)
    name = store.PEERS[options.isa]
    store.run(name, lambda: results(options, store.load(name)), options.threads)
    print("`python -m bench.report` prints the tables, and draws the picture")


def results(options, earlier):
    """Measure the rows that are asked for; those of an earlier run stay if they are not."""
    from bench import cases, libraries, products, sklearn_scores

    every = (
        (cases.CASES, [*libraries.LIBRARIES, *[libraries.TensorFlow] * options.tensorflow]),
        (cases.PRODUCTS, products.LIBRARIES),
        (cases.FITS, [sklearn_scores.Fit, sklearn_scores.TheirFit]),
    )
    kept = {(row["kind"], row["name"]): row for row in (earlier or {"rows": []})["rows"]}
    rows = []
    for kind, (of_kind, compared) in zip(KINDS, every, strict=True):
        found = libraries.available(compared)
        for row in of_kind:
            if re.search(options.rows, row.name):
                rows.append(measure(kind, row, found, options.quick, options.threads))
            elif (kind, row.name) in kept:
                rows.append(kept[kind, row.name])
    return {"settings": {k: getattr(options, k) for k in ("quick", "threads", "isa")}, "rows": rows}


def measure(kind, row, libraries, quick=False, threads=1):
    """Check, then time one row, our library first; returns what the JSON holds of it."""
    from bench import clock, peak
    from bench.worker import Worker

    compared = [library for library in libraries if library.takes(row)]
    elementary = row.elementary if kind == "steps" else {}
    Worker(compared[0], row).close()  # leaves a warm cache behind
    with contextlib.ExitStack() as stack:

        def begin(*arguments):
            return stack.enter_context(contextlib.closing(Worker(*arguments)))

        workers = [begin(library, row) for library in compared]
        for each in workers:
            check(kind, each, row)
        alone = {"peak": begin(peak.Peak, None)}
        alone |= {function: begin(peak.Elementary, function) for function in elementary}
        for name, each in alone.items():
            each.name = name
        pace = (1.0, 0.002) if quick else (8.0, 0.004)
        of = time.process_time if threads == 1 else time.perf_counter
        seconds = clock.medians([*workers, *alone.values()], *pace, clock=of)
    limit = {name: seconds.pop(name) / threads for name in alone}
    found = {"kind": kind, "name": row.name, "seconds": seconds}
    found["start"] = {each.name: each.start for each in workers}
    found |= shares(row, elementary, limit, seconds[compared[0].name])
    print_row(found)
    return found


def shares(row, elementary, limit, ours):
    """Return what is reached of the peak and of the limit of a row, and the targets.

    limit : seconds of one operation of the peak kernel, and of one elementary function each.
    """
    from bench import peak

    column = int(peak.LANES_F32 > 8)  # of the targets: 0 for AVX2, 1 for AVX-512
    found = {"over": row.over[column]}
    if hasattr(row, "flops"):
        ideal = row.flops * limit["peak"]
        found["share of peak"] = ideal / ours
    if hasattr(row, "elementary"):
        ideal += sum(n * limit[function] for function, n in elementary.items())
        found |= {"share of limit": ideal / ours, "n_params": row.n_params}
        found["peak"] = row.peak and row.peak[column]
    return found


def print_row(found):
    """Print what was measured."""
    ours, *others = found["seconds"].items()
    parts = [f"{ours[1] * 1e6:.3g} us"]
    parts += [f"{found[k]:.0%}{k[5:]}" for k in found if k.startswith("share")]
    parts += [f"{name} {seconds / ours[1]:.2f}x" for name, seconds in others]
    print(f"{found['name']}: {', '.join(parts)}", flush=True)


def check(kind, worker, row):
    """Raise AssertionError where a library's numbers are not right; then it takes all samples."""
    from bench import cases, checks, products

    if kind == "steps":
        checks.compare(worker, cases.problem(row).few)
        worker.go_on()
    elif kind == "products":
        products.compare(worker, row)


if __name__ == "__main__":
    main()
