"""Tables and picture of the documentation, from the results of `bench.peers`."""

from bench import machine
from deltajit.plot import PALETTE
from deltajit.plot.axes import MARKERS

OURS, SPECIALIZED = "deltajit", "specialized"
PEERS = ("JAX", "JAX 0.4.31", "TensorFlow", "LIBXSMM", "FANN", "PyTorch", "NumPy", "scikit-learn")
COLORS = [PALETTE[-1], *PALETTE[:-1], "#777777", "#882255"]
UNITS = {"steps": "us a step", "products": "us a product", "fits": "ms a fit"}


def table(report, kind):
    """Return Markdown: where it was measured, and a line for each row of a kind."""
    rows, threads = rows_of(report, kind), report["settings"]["threads"]
    others = [n for n in (SPECIALIZED, *PEERS) if any(n in row["seconds"] for row in rows)]
    shares = [key for key in ("share of peak", "share of limit") if key in rows[0]]
    first = ["first step, s", "its peer's"] if kind == "steps" else []
    header = [kind, f"{OURS}, {UNITS[kind]}", *others, *shares, *first, "target"]
    lines = [f"{threads} core{'s' * (threads > 1)} of {machine.line(report['machine'])}.", ""]
    lines += [_line(header), _line(["---", *["---:"] * (len(header) - 2), "---"])]
    scale = 1e3 if kind == "fits" else 1e6
    for row in rows:
        times, (fastest, _) = ratios(row), best(row)
        shown = [_ratio(times.get(name), name == fastest) for name in others]
        starts = [f"{row['start'][name]:.2f}" for name in (OURS, fastest)] if first else []
        cells = [f"{row['seconds'][OURS] * scale:.3g}", *shown]
        cells += [*(f"{row[share]:.0%}" for share in shares), *starts, verdict(row)]
        lines.append(_line([row["name"], *cells]))
    return "\n".join(lines)


def rows_of(report, kind):
    """Return the rows of a kind."""
    return [row for row in report["rows"] if row["kind"] == kind]


def ratios(row):
    """Return {peer, or our specialized kernels: how many times as long it takes}."""
    return {n: x / row["seconds"][OURS] for n, x in row["seconds"].items() if n != OURS}


def best(row):
    """Return the fastest peer, and its ratio; without peers, ourselves."""
    peers = {name: times for name, times in ratios(row).items() if name != SPECIALIZED}
    return min(peers.items(), key=lambda pair: pair[1], default=(OURS, 1.0))


def verdict(row):
    """Return ``met``, or the targets that were missed."""
    targets = [(row["over"], best(row)[1], f"{row['over']:.3g}x")]
    if row.get("peak"):
        targets.append((row["peak"], row["share of peak"], f"{row['peak']:.0%} of peak"))
    return ", ".join(text for target, reached, text in targets if reached < target) or "met"


def _line(cells):
    return "| " + " | ".join(cells) + " |"


def _ratio(times, is_best):
    if times is None:
        return ""
    text = f"{times:.0f}x" if times >= 10 else f"{times:.2f}x"
    return f"**{text}**" if is_best else text


def batch_of(row):
    """Return the samples of a step, with which its name ends."""
    return int(row["name"].rsplit(" batch ", 1)[1].replace(",", ""))


def style(i):
    """Return the colour and the marker of a library, deltajit's first; no two are alike."""
    return COLORS[i], MARKERS[i]


def picture(report, path):
    """Draw time of a step against its work, and the ratio to each peer on each row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 8), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows, threads = rows_of(report, "steps"), report["settings"]["threads"]
    where = f"{machine.place(report['machine'])}, {threads} core{'s' * (threads > 1)}"
    figure.suptitle(f"One training step, float32: {where}, {report['machine']['date'][:10]}")
    for i, name in enumerate((OURS, *PEERS)):
        points = sorted(
            (r["n_params"] * batch_of(r), r["seconds"][name] * 1e6)
            for r in rows
            if name in r["seconds"]
        )
        if points:
            color, marker = style(i)
            left.loglog(
                *zip(*points, strict=True), marker + "-", color=color, label=name, lw=0.8, ms=5
            )
    for k, row in enumerate(rows):
        for i, name in enumerate(PEERS, 1):
            if name in row["seconds"]:
                color, marker = style(i)
                right.plot(ratios(row)[name], -k, marker, color=color)
        right.plot(row["over"], -k, "|", color="black", ms=18)
    right.plot([], [], "|", color="black", ms=12, label="target for the fastest peer")
    right.axvline(1, color="black", linewidth=1)
    left.set(xlabel="parameters x samples of a step", ylabel="time of a step / us")
    right.set(xscale="log", xlabel="time of a step over deltajit's")
    right.set_yticks([-k for k in range(len(rows))], [row["name"] for row in rows])
    for axes in (left, right):
        axes.grid(alpha=0.3, which="both", linewidth=0.5)
        axes.legend(loc="lower right")
    figure.savefig(path, dpi=100)
    return path
