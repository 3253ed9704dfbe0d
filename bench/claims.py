"""What the cheap gradient principle promises, held against what was measured."""

import json
import math
import statistics
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.circuits import ANYWHERE, FORMULAS, VALUE
from bench.circuits import BATCH as BATCH_OF_CIRCUITS
from bench.derivatives import FROZEN_HVP, GRADIENT, HVP, LOSS, PER_SAMPLE

FOLDER = Path(__file__).parent / "report"
BATCH = 256  # where the claims about time are made
SLOPE_FROM = 10_000  # parameters: below, the time is not that of the multiply-adds


class Claim(NamedTuple):
    """A sentence, what was measured, and whether it holds (None: for information)."""

    text: str
    measured: str
    holds: bool | None


class Report:
    """Rows of medians: {library, sizes, batch, n_params, times, ...}, and what follows."""

    def __init__(self):
        self.rows, self.memory, self.machine, self.circuits = [], [], {}, []

    def of(self, library="deltajit", batch=None):
        """Rows of a library, at one batch or at all."""
        return [
            row
            for row in self.rows
            if row["library"] == library and batch in (None, row["batch"]) and row["sweep"]
        ]

    def claims(self):
        """Every claim that these rows say something about."""
        found = []
        rows = self.of(batch=BATCH)
        if rows:
            found += [
                self._most(rows, GRADIENT, LOSS, 3.0),
                self._most(rows, HVP, GRADIENT, 2.7),
                self._most(rows, FROZEN_HVP, GRADIENT, 2.0),
            ]
        large = [row for row in rows if row["n_params"] >= SLOPE_FROM]
        if len(large) >= 3:
            slope = _slope(large)
            text = f"gradient's time grows like N**1.00 +- 0.05, batch {BATCH}, N >= {SLOPE_FROM:,}"
            found.append(Claim(text, f"{slope:.3f}", abs(slope - 1) <= 0.05))
            shares = [row["share_of_peak"] for row in large]
            text = f"the loss that this is measured by, share of the FMA peak, N >= {SLOPE_FROM:,}"
            found.append(Claim(text, f"{min(shares):.0%} to {max(shares):.0%}", None))
        for row in self.rows:
            if not row["sweep"]:
                ratio = row["times"][GRADIENT] / row["times"][LOSS]
                text = f"gradient / loss <= 2.2, {_name(row)} on {row['batch']:,} samples"
                found.append(Claim(text, f"{ratio:.2f}", ratio <= 2.2))
        if "max_rss" in self.machine:
            text = "largest resident size of this process, peers included"
            found.append(Claim(text, f"{self.machine['max_rss'] / 2**20:.0f} MiB", None))
        found += self._one_sample() + self._per_sample() + self._peers()
        found += claims_of_circuits(self.circuits)
        for row in self.memory:
            text = f"gradient's workspace <= 3 activations + 2 parameters, {_name(row)}"
            used = f"{row['workspace'] / 2**20:.1f} of {row['limit'] / 2**20:.1f} MiB"
            found.append(Claim(text, used, row["workspace"] <= row["limit"]))
            shares = [row[what] / row["size"] for what in ("loss", "grad", "hvp")]
            text = f"memory of loss, gradient, hvp / (parameters + activations), {_name(row)}"
            found.append(Claim(text, ", ".join(f"{share:.2f}" for share in shares), None))
        return found

    def finish(self):
        """Write JSON and picture; returns the lines of the table."""
        FOLDER.mkdir(exist_ok=True)
        claims = self.claims()
        width = max(len(claim.text) for claim in claims)
        lines = [f"{'claim':<{width}}  {'measured':<34}holds"]
        verdicts = {True: "yes", False: "NO", None: ""}
        lines += [f"{c.text:<{width}}  {c.measured:<34}{verdicts[c.holds]}" for c in claims]
        if self.circuits:
            lines.append(self._write("circuits", claims, circuits=self.circuits))
        if self.rows:
            lines.append(self._write("cheap_gradient", claims, rows=self.rows, memory=self.memory))
            try:
                lines.append(str(draw(self, FOLDER / "cheap_gradient.png")))
            except ImportError as error:
                lines.append(f"no picture: {error}")
        return lines

    def _write(self, name, claims, **parts):
        """A file of these parts, the machine and all claims; returns its path."""
        path = FOLDER / f"{name}.json"
        about = {"machine": self.machine, "claims": [claim._asdict() for claim in claims]}
        path.write_text(json.dumps(about | parts, indent=1) + "\n")
        return str(path)

    def _most(self, rows, what, base, limit):
        """The largest of a ratio over all networks."""
        worst = max(rows, key=lambda row: row["times"][what] / row["times"][base])
        ratios = [row["times"][what] / row["times"][base] for row in rows]
        text = f"{what} / {base} <= {limit:.1f} at every N, batch {BATCH}"
        measured = f"{min(ratios):.2f} to {max(ratios):.2f} ({_name(worst)})"
        return Claim(text, measured, max(ratios) <= limit)

    def _one_sample(self):
        """One sample of a large network: memory is what limits it."""
        rows = [row for row in self.of(batch=1) if row["n_params"] >= 1_000_000]
        if not rows or "bandwidth" not in self.machine:
            return []
        row = max(rows, key=lambda row: row["n_params"])
        # W is read forward and back, the gradient cleared, read and written
        rate = 4 * row["n_params"] * 5 / row["times"][GRADIENT]
        text = f"one sample, {_name(row)}: bytes a second of the gradient, and of a copy"
        return [
            Claim(text, f"{rate / 1e9:.0f} and {self.machine['bandwidth'] / 1e9:.0f} GB/s", None)
        ]

    def _per_sample(self):
        rows = [row for row in self.of(batch=BATCH) if PER_SAMPLE in row["times"]]
        if not rows:
            return []
        ratios = [row["times"][PER_SAMPLE] / row["times"][GRADIENT] for row in rows]
        text = f"gradients of each sample / gradient, batch {BATCH}"
        return [Claim(text, f"{min(ratios):.2f} to {max(ratios):.2f}", None)]

    def _peers(self):
        found = []
        for library in sorted({row["library"] for row in self.rows} - {"deltajit"}):
            for what, base in ((GRADIENT, LOSS), (HVP, GRADIENT), (FROZEN_HVP, GRADIENT)):
                ratios = [
                    row["times"][what] / row["times"][base]
                    for row in self.of(library, BATCH)
                    if what in row["times"]
                ]
                if ratios:
                    text = f"{library}: {what} / {base}, batch {BATCH}"
                    found.append(Claim(text, f"{min(ratios):.2f} to {max(ratios):.2f}", None))
            own = {tuple(row["sizes"]): row["times"] for row in self.of(batch=BATCH)}
            for what in (LOSS, GRADIENT, HVP):
                times = [
                    row["times"][what] / own[tuple(row["sizes"])][what]
                    for row in self.of(library, BATCH)
                    if tuple(row["sizes"]) in own
                ]
                if times:
                    text = f"{library}'s {what} over deltajit's, batch {BATCH}"
                    found.append(Claim(text, f"{min(times):.2f} to {max(times):.2f}", None))
        return found


def claims_of_circuits(rows):
    """What is said of circuits: ratios, slopes, and each library at each size."""
    found = []
    for kind in (FORMULAS, ANYWHERE):
        own = [row for row in rows if row["library"] == "deltajit" and row["kind"] == kind]
        for what, limit in ((GRADIENT, 4.0), (HVP, 10.0)):
            if own:
                ratios = [row["times"][what] / row["times"][VALUE] for row in own]
                text = f"circuit, {kind}: {what} / value <= {limit:.0f} at every N, batch 64"
                measured = f"{min(ratios):.2f} to {max(ratios):.2f}"
                found.append(Claim(text, measured, max(ratios) <= limit))
        for least in (100, 1_000):
            points = [(row["n"], row["times"][GRADIENT]) for row in own if row["n"] >= 0.9 * least]
            if len(points) >= 3:
                slope = float(np.polyfit(*np.log(points).T, 1)[0])
                text = f"circuit, {kind}: gradient grows like N**1.00 +- 0.05, N >= {least:,}"
                holds = abs(slope - 1) <= 0.05 if kind == FORMULAS and least > 100 else None
                found.append(Claim(text, f"{slope:.3f}", holds))
    for row in rows:
        if row["library"] != "deltajit":
            ratio = row["times"][GRADIENT] / row["own"][GRADIENT]
            text = (
                f"circuit of {row['n']:,}: {row['library']}'s gradient over deltajit's; seconds to "
                "trace and compile"
            )
            measured = f"{ratio:.1f}; {row['traced']:.2g} + {row['compiled']:.2g}"
            wanted = row["library"] == "casadi" and row["n"] > 90_000
            found.append(Claim(text, measured, ratio >= 3 if wanted else None))
        else:
            text = f"circuit of {row['n']:,}, {row['kind']}: ns an operation and sample; s to trace"
            each = 1e9 / (row["n"] * BATCH_OF_CIRCUITS)
            times = [f"{row['times'][what] * each:.2f}" for what in (VALUE, GRADIENT, HVP)]
            found.append(Claim(text, f"{', '.join(times)}; {row['traced']:.2g}", None))
    return found


def medians(times):
    """{what: median seconds} of {what: list of seconds}."""
    return {what: statistics.median(found) for what, found in times.items()}


def draw(report, path):
    """Times against parameters, and the ratios; returns the path."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = report.of(batch=BATCH)
    n = [row["n_params"] for row in rows]
    for what in (LOSS, GRADIENT, HVP, FROZEN_HVP):
        left.loglog(n, [row["times"][what] * 1e6 for row in rows], "o-", label=what, ms=4)
    middle = rows[len(rows) // 2]
    scale = middle["times"][GRADIENT] * 1e6 / middle["n_params"]
    left.loglog(n, [scale * x for x in n], "k:", label="slope 1")
    left.set(
        xlabel="parameters N", ylabel="microseconds", title=f"deltajit, batch {BATCH}, one core"
    )
    ratios = ((GRADIENT, LOSS, "C1"), (HVP, GRADIENT, "C2"), (FROZEN_HVP, GRADIENT, "C3"))
    marks = {"deltajit": "o-", "JAX": "s--", "PyTorch": "^:"}
    for library, mark in marks.items():
        for what, base, color in ratios:
            points = [
                (row["n_params"], row["times"][what] / row["times"][base])
                for row in report.of(library, BATCH)
                if what in row["times"]
            ]
            if points:
                label = f"{library}: {what} / {base}"
                right.semilogx(*zip(*points, strict=True), mark, color=color, label=label, ms=4)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    right.set(xlabel="parameters N", ylabel="ratio of medians", title="what a derivative costs")
    right.set_ylim(bottom=0)
    figure.savefig(path, dpi=110)
    return path


def _name(row):
    return "-".join(map(str, row["sizes"]))


def _slope(rows):
    """Of a line through log time against log parameters, by least squares."""
    x = [math.log(row["n_params"]) for row in rows]
    y = [math.log(row["times"][GRADIENT]) for row in rows]
    return float(np.polyfit(x, y, 1)[0])
