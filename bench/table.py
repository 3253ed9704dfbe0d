"""Table and picture of the documentation, from the results of `bench.peers`."""

from bench import machine

TARGETS = {"JAX scan": "over_jax", "PyTorch": "over_torch", "peak": "peak"}


COLORS = {"deltajit": "#d62728", "JAX scan": "#1f77b4", "PyTorch": "#ff7f0e", "NumPy": "#2ca02c"}


def table(report):
    """Return Markdown: where it was measured, and a line for each row of the report."""
    threads = report["settings"]["threads"]
    lines = [
        f"{threads} core{'s' * (threads > 1)} of {machine.line(report['machine'])}.",
        "",
        "| network | batch | deltajit, us a step | JAX in lax.scan | PyTorch eager | NumPy "
        "| share of FMA peak | targets |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in report["rows"]:
        ratios = [row["ratios"].get(name) for name in ("JAX scan", "PyTorch", "NumPy")]
        shown = ["" if r is None else f"{r:.0f}x" if r >= 10 else f"{r:.2f}x" for r in ratios]
        step, share = f"{row['step']['deltajit'] * 1e6:.3g}", f"{row['share of FMA peak']:.0%}"
        cells = [row["name"], f"{row['batch']:,}", step, *shown, share, verdict(row)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdict(row):
    """``met``, what was missed and its target, or nothing where there is no target."""
    found = row["ratios"] | {"peak": row["share of FMA peak"]}
    held = {name: row[key] for name, key in TARGETS.items() if row[key] is not None}
    shown = {name: f"{x:.0%}" if name == "peak" else f"{x:g}x" for name, x in held.items()}
    missed = [f"{n} < {shown[n]}" for n, target in held.items() if found.get(n, target) < target]
    absent = [f"no {name}" for name in held if name not in found]
    return ", ".join([*missed, *absent]) or "met" * bool(held)


def picture(report, path):
    """Draw time of a step against parameters, and the ratio to each peer on each row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 7), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = [row for row in report["rows"] if row["dtype"] == "float32"] or report["rows"]
    machine, threads = report["machine"], report["settings"]["threads"]
    figure.suptitle(
        f"One training step, {rows[0]['dtype']}: {machine['cpu']}, "
        f"{threads} core{'s' * (threads > 1)}, {machine['date'][:10]}"
    )
    for i, (name, color) in enumerate(COLORS.items()):
        points = sorted((r["n_params"], r["step"][name] * 1e6) for r in rows if name in r["step"])
        if points:
            x, y = zip(*points, strict=True)
            left.loglog(x, y, "o", color=color, label=name, alpha=0.85)
        if name != "deltajit":
            places = [-k - 0.27 * (i - 2) for k in range(len(rows))]
            ratios = [row["ratios"].get(name, 0) for row in rows]
            right.barh(places, ratios, 0.27, color=color, label=name)
            for row, place in zip(rows, places, strict=True):
                if target := row[TARGETS[name]] if name in TARGETS else None:
                    right.plot(target, place, "D", color="white", mec="black", ms=6)
    right.plot([], [], "D", color="white", mec="black", label="target")
    right.axvline(1, color="black", linewidth=1)
    left.set(xlabel="parameters", ylabel="time of a step / us")
    right.set(xscale="log", xlabel="time of a step over deltajit's")
    names = [f"{row['name']}\nbatch {row['batch']:,}" for row in rows]
    right.set_yticks([-k for k in range(len(rows))], names)
    for axes in (left, right):
        axes.grid(alpha=0.3, which="both", linewidth=0.5)
        axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)
    return path
