"""The picture: time of a step against parameters, and the ratio to each peer on each row."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bench.table import TARGETS

COLORS = {
    "deltajit": "#d62728",
    "JAX scan": "#1f77b4",
    "JAX scan unroll=4": "#6baed6",
    "JAX calls": "#9467bd",
    "PyTorch": "#ff7f0e",
    "NumPy": "#2ca02c",
    "scikit-learn": "#8c564b",
}


def save(report, path):
    """Draw `report`, as `bench.peers` writes it, into a file; returns the path."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(15, 7), layout="constrained")
    rows = [row for row in report["rows"] if row["dtype"] == "float32"] or report["rows"]
    names = [name for name in COLORS if any(name in row["step"] for row in rows)]
    _times(left, rows, names)
    _ratios(right, rows, [name for name in names if name != "deltajit"])
    machine, threads = report["machine"], report["settings"]["threads"]
    figure.suptitle(
        f"One training step, {rows[0]['dtype']}: {machine['cpu']}, "
        f"{threads} core{'s' * (threads > 1)}, {machine['date'][:10]}"
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _times(axes, rows, names):
    for name in names:
        points = sorted(
            (row["n_params"], row["step"][name] * 1e6) for row in rows if name in row["step"]
        )
        axes.loglog(*zip(*points, strict=True), "o", color=COLORS[name], label=name, alpha=0.85)
    axes.set(xlabel="parameters", ylabel="time of a step / us")
    axes.grid(alpha=0.3, which="both", linewidth=0.5)
    axes.legend(loc="lower right")


def _ratios(axes, rows, names):
    height = 0.8 / len(names)
    for i, name in enumerate(names):
        at = [-k - (i - (len(names) - 1) / 2) * height for k in range(len(rows))]
        ratios = [row["ratios"].get(name, 0) for row in rows]
        axes.barh(at, ratios, height, color=COLORS[name], label=name)
        marks = [
            (row[TARGETS[name]], y)
            for row, y in zip(rows, at, strict=True)
            if name in TARGETS and row[TARGETS[name]]
        ]
        for target, y in marks:
            axes.plot(target, y, "D", color="white", markeredgecolor="black", markersize=6)
    axes.plot([], [], "D", color="white", markeredgecolor="black", label="target")
    axes.axvline(1, color="black", linewidth=1)
    axes.set(xscale="log", xlabel="time of a step over deltajit's")
    axes.set_yticks(
        [-k for k in range(len(rows))], [f"{row['name']}\nbatch {row['batch']:,}" for row in rows]
    )
    axes.grid(alpha=0.3, axis="x", linewidth=0.5)
    axes.legend(loc="lower right")
