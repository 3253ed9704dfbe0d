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
    parser.add_argument("--tensorflow", action="store_true", help="TensorFlow too, with jit_compile")
    parser.add_argument("--rows", default="", help="only rows that match; the others stay")
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
    known = {(r["kind"], r["name"]): r for r in (earlier["rows"] if earlier and options.rows else ())}
    rows = []
    for kind, (of_kind, compared) in zip(KINDS, every, strict=True):
        compared = libraries.available(compared)
        for row in of_kind:
            if re.search(options.rows, row.name):
                known[kind, row.name] = measure(kind, row, compared, options.quick, options.threads)
            rows += filter(None, [known.get((kind, row.name))])
    return {"settings": {k: getattr(options, k) for k in ("quick", "threads", "isa")}, "rows": rows}


def measure(kind, row, libraries, quick=False, threads=1):
    """Check, then time one row; returns what the JSON holds of it."""
    from bench import cases, clock, peak

    compared = [library for library in libraries if library.takes(row)]
    elementary = row.elementary if kind == "steps" else {}
    with contextlib.ExitStack() as stack:

        def begin(library, row):
            return stack.enter_context(contextlib.closing(worker.Worker(library, row)))

        from bench import worker

        begin(compared[0], row).close()  # leaves a warm cache behind
        workers = [begin(library, row) for library in compared]
        for each in workers:
            check(kind, each, row)
        alone = [begin(peak.Peak, None)]
        for function in elementary:
            alone.append(begin(peak.Elementary, function))
            alone[-1].name = function
        pace = (1.0, 0.002) if quick else (8.0, 0.004)
        of = time.process_time if threads == 1 else time.perf_counter
        seconds = clock.medians([*workers, *alone], *pace, clock=of)
        starts = {each.name: each.start for each in workers}
    found = {"kind": kind, "name": row.name, "seconds": seconds, "start": starts}
    limit = {each.name: seconds.pop(each.name) for each in alone}
    index = peak.LANES_F32 * 4 // 64  # of the targets: 1 with AVX-512
    found["over"] = row.over[index]
    if kind != "fits":
        ideal = row.flops * limit["peak"] / threads
        found["share of peak"] = ideal / seconds["deltajit"]
    if kind == "steps":
        ideal += sum(n * limit[function] for function, n in elementary.items()) / threads
        found |= {"share of limit": ideal / seconds["deltajit"], "n_params": row.n_params}
        found["peak"] = row.peak and row.peak[index]
    ours = seconds["deltajit"]
    ratios = ", ".join(f"{n} {x / ours:.2f}x" for n, x in seconds.items() if n != "deltajit")
    shares = ", ".join(f"{found[k]:.0%} of {k[9:]}" for k in found if k.startswith("share"))
    print(f"{row.name}: {ours * 1e6:.3g} us, {shares}; {ratios}", flush=True)
    return found


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
