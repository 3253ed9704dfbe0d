"""``python -m bench.report``: pictures of what was measured last, in `.benchmarks/`.

``--docs`` makes what the documentation shows: its pictures, in docs/pictures/, the figures that it
cites, in bench/results.json, and on the terminal the sentences that cite them.
"""

import argparse
import json

import numpy as np

from bench import store
from bench.derivatives import GRADIENT, HVP, KEPT, LOSS

PICTURES = store.ROOT / "docs/pictures"
PROGRAMS = ("peers", "single", "ensemble", "start", "sklearn_scores")
RATIOS = [(GRADIENT, LOSS, "C1"), (HVP, GRADIENT, "C2"), (KEPT, GRADIENT, "C3")]
MARKS = {"": "o-", "JAX: ": "s--", "PyTorch: ": "^:", "reference: ": "x:"}


def keep(claims, groups, folder):
    """Write what a run of pytest measured; return the lines that say on what, and where it is."""
    from bench import machine

    about, (median, low, high) = machine.describe(), peak_gflops(groups)
    results = {
        "machine": about,
        "peak GFLOP/s": [median, low, high],
        "claims": claims.rows(),
        "groups": [
            {**group.about, "title": group.title, "n": group.n, "CPU seconds": group.seconds()}
            for group in groups
        ],
    }
    return [
        machine.line(about),
        f"peak kernel {median:.1f} GFLOP/s, {low:.1f} to {high:.1f} in nine of ten rounds: noise "
        f"{(high - low) / median:.1%}; load {about['load'][0]:.1f}",
        f"results in {store.save('claims', results, folder)}; `python -m bench.report` draws them",
    ]


def peak_gflops(groups):
    """Median of the peak kernel over the rounds of all groups, and its 5th and 95th percentile."""
    from bench.groups import PEAK

    rates = 1e-9 / np.concatenate([times[PEAK] for g in groups for times in g.measured.values()])
    return [float(np.quantile(rates, q)) for q in (0.5, 0.05, 0.95)]


# ------------------------------------------------------------------ pictures


def cheap_gradient(results, path):
    """Draw times against parameters, and ratios; return the path."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = [row for row in results["groups"] if row["kind"] == "network" and row["batch"] == 256]
    n = np.array([row["n"] for row in rows])
    for member in (LOSS, GRADIENT, HVP, KEPT):
        left.loglog(n, [row["CPU seconds"][member] * 1e6 for row in rows], "o-", label=member, ms=4)
    middle = rows[len(rows) // 2]
    left.loglog(n, middle["CPU seconds"][GRADIENT] * 1e6 / middle["n"] * n, "k:", label="slope 1")
    left.set(xlabel="parameters N", ylabel="CPU time / us", title="deltajit, batch 256, one core")
    for library, mark in MARKS.items():
        for member, base, color in RATIOS:
            points = [
                (
                    row["n"],
                    row["CPU seconds"][library + member] / row["CPU seconds"][library + base],
                )
                for row in rows
                if {library + member, library + base} <= {*row["CPU seconds"]}
            ]
            if points:
                label = f"{library}{member} / {base}"
                right.semilogx(*zip(*points, strict=True), mark, color=color, label=label, ms=4)
    right.set(xlabel="parameters N", ylabel="ratio of medians", title="what a derivative costs")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    right.set_ylim(bottom=0)
    figure.savefig(path, dpi=110)
    return path


def draw(folder):
    """Draw what there are results of; yield the paths."""
    from bench import figure

    folder.mkdir(parents=True, exist_ok=True)
    for name, picture, results in (
        ("claims", cheap_gradient, "cheap_gradient.png"),
        ("peers", figure.save, "peers.png"),
    ):
        if (measured := store.load(name)) is not None:
            yield picture(measured, folder / results)


# ------------------------------------------------------------------ what texts cite


def cited():
    """Return the figures that texts cite, with what has been measured since they were written."""
    known = json.loads(store.CITED.read_text()) if store.CITED.exists() else {}
    if (claims := store.load("claims")) is not None:
        known["claims"] = {key: claims[key] for key in ("machine", "peak GFLOP/s")}
        known["claims"]["figures"] = ranges(claims["claims"])
    for name in PROGRAMS:
        if (results := store.load(name)) is not None:
            known[name] = results
    return known


def ranges(claims):
    """{text: [least, most]} of claims' values."""
    texts = dict.fromkeys(claim["text"] for claim in claims)
    values = {text: [c["value"] for c in claims if c["text"] == text] for text in texts}
    return {text: [min(each), max(each)] for text, each in values.items()}


def main():
    """Read the command line, then draw."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("--docs", action="store_true", help="make what the documentation shows")
    options = parser.parse_args()
    for path in draw(PICTURES if options.docs else store.FOLDER):
        print(path)
    if options.docs:
        from bench import gallery

        gallery.save(PICTURES / "gallery.png")
        gallery.save_circuit(PICTURES / "circuit.png")
        store.CITED.write_text(json.dumps(cited(), indent=1) + "\n")
        print(store.CITED)


if __name__ == "__main__":
    main()
