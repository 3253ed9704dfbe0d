"""``python -m bench.table``: the README's table, in Markdown, of the last run of `bench.peers`."""

import argparse

from bench import machine, store

TARGETS = {"JAX scan": "over_jax", "PyTorch": "over_torch"}


def table(report, fastest=False):
    """Markdown: a line a row of the report, and one above that says where it was measured.

    Of medians, or of each library's fastest decile: steadier where others use the machine too.
    """
    suffix, quantile = ("_p10", "p10") if fastest else ("", "median")
    threads = report["settings"]["threads"]
    lines = [
        f"{threads} core{'s' * (threads > 1)} of {machine.line(report['machine'])}.",
        "",
        "| network | batch | deltajit, us a step | JAX in lax.scan | PyTorch eager | NumPy "
        "| share of FMA peak | targets |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in report["rows"]:
        ratios, share = row[f"ratios{suffix}"]["step"], row[f"share_of_peak{suffix}"]
        cells = [
            row["name"],
            f"{row['batch']:,}",
            f"{row['step']['deltajit'][quantile] * 1e6:.3g}",
            *(_shown(ratios.get(name)) for name in ("JAX scan", "PyTorch", "NumPy")),
            f"{share:.0%}",
            verdict(row, ratios, share),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdict(row, ratios, share):
    """``met``, what was missed and its target, or nothing where there is no target."""
    held = [
        (name, ratios.get(name), row[key], f"{row[key]:g}x")
        for name, key in TARGETS.items()
        if row[key] is not None
    ]
    if row["peak"] is not None:
        held.append(("peak", share, row["peak"], f"{row['peak']:.0%}"))
    if not held:
        return ""
    missed = [f"{name} < {shown}" for name, got, target, shown in held if got and got < target]
    absent = [f"no {name}" for name, got, _, _ in held if got is None]
    return ", ".join([*missed, *absent]) or "met"


def _shown(ratio):
    return "" if ratio is None else f"{ratio:.0f}x" if ratio >= 10 else f"{ratio:.2f}x"


def main():
    """Print the table of a report."""
    parser = argparse.ArgumentParser(prog="python -m bench.table", description=__doc__)
    parser.add_argument("--fastest", action="store_true", help="fastest deciles, not medians")
    options = parser.parse_args()
    report = store.load("peers")
    print(table(report, options.fastest) if report else "run `python -m bench.peers` first")


if __name__ == "__main__":
    main()
