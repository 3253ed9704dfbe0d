"""The table of the documentation, in Markdown, from the results of `bench.peers`."""

from bench import machine

TARGETS = {"JAX scan": "over_jax", "PyTorch": "over_torch"}


def table(report):
    """Return a line a row of the report, and one above that says where it was measured."""
    threads = report["settings"]["threads"]
    lines = [
        f"{threads} core{'s' * (threads > 1)} of {machine.line(report['machine'])}.",
        "",
        "| network | batch | deltajit, us a step | JAX in lax.scan | PyTorch eager | NumPy "
        "| share of FMA peak | targets |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in report["rows"]:
        ratios, share = row["ratios"], row["share of FMA peak"]
        cells = [
            row["name"],
            f"{row['batch']:,}",
            f"{row['step']['deltajit'] * 1e6:.3g}",
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
