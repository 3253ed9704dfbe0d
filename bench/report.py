"""``python -m bench.report``: pictures of what was measured last, in `.benchmarks/`.

``--docs`` makes what the documentation shows: pictures in docs/pictures/, the figures that it cites
in bench/results.json, and the sentences that cite them in README and docs/.
"""

import argparse
import json
import re
import textwrap

import numpy as np

from bench import second_order, store, table
from bench.derivatives import GRADIENT, HVP, KEPT, LOSS
from deltajit.plot import PALETTE

PICTURES = store.ROOT / "docs/pictures"
TEXTS = [store.ROOT / "README.md", *sorted(store.ROOT.glob("docs/*.md"))]
RATIOS = [(GRADIENT, LOSS), (HVP, GRADIENT), (KEPT, GRADIENT)]
STYLES = {LOSS: (PALETTE[0], "o"), GRADIENT: (PALETTE[1], "s"), HVP: (PALETTE[2], "^")}
STYLES[KEPT] = PALETTE[3], "D"


def keep(claims, groups, folder):
    """Write what a run of pytest measured; return the lines that say on what, and where it is."""
    from bench import machine

    about, (median, low, high) = machine.describe(), peak_gflops(groups)
    results = {"machine": about, "peak GFLOP/s": [median, low, high], "claims": claims.rows()}
    results["groups"] = [
        {**g.about, "title": g.title, "n": g.n, "CPU seconds": g.seconds()} for g in groups
    ]
    return [
        machine.line(about),
        f"peak kernel {median:.1f} GFLOP/s, {low:.1f} to {high:.1f} in nine of ten rounds: noise "
        f"{(high - low) / median:.1%}; load {about['load'][0]:.1f}",
        f"results in {store.save('claims', results, folder)}; `python -m bench.report` draws them",
    ]


def peak_gflops(groups):
    """Median of the peak kernel over the rounds of all groups, and its 5th and 95th percentile."""
    rates = 1e-9 / np.concatenate([t["peak"] for g in groups for t in g.measured.values()])
    return [float(np.quantile(rates, q)) for q in (0.5, 0.05, 0.95)]


# ------------------------------------------------------------------ pictures


def cheap_gradient(results, path):
    """Draw times against parameters, and ratios; return the path."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = [row for row in results["groups"] if row["kind"] == "network" and row["batch"] == 256]
    rows.sort(key=lambda row: row["n"])
    n = np.array([row["n"] for row in rows])
    for member, (color, marker) in STYLES.items():  # no lines: neighbours differ in depth too
        times = [row["CPU seconds"][member] * 1e6 for row in rows]
        left.loglog(n, times, marker, color=color, label=member, ms=5)
    middle = rows[len(rows) // 2]
    left.loglog(n, middle["CPU seconds"][GRADIENT] * 1e6 / middle["n"] * n, "k:", label="slope 1")
    left.set(xlabel="parameters N", ylabel="CPU time / us", title="deltajit, batch 256, one core")
    for member, base in RATIOS:
        ratios = [row["CPU seconds"][member] / row["CPU seconds"][base] for row in rows]
        color, marker = STYLES[member]
        middle = float(np.median(ratios))
        label = f"{member} / {base}, median {middle:.1f}"
        right.semilogx(n, ratios, marker, color=color, label=label, ms=5)
        right.axhline(middle, color=color, linewidth=1, linestyle="--")
    right.set(xlabel="parameters N", ylabel="ratio of medians", title="what a derivative costs")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    right.set_ylim(bottom=0)
    figure.savefig(path, dpi=90)
    return path


# ------------------------------------------------------------------ what texts cite


def update():
    """Return the figures that texts cite, those of the last runs in place of older ones."""
    runs = {name: store.load(name) for name in PROGRAMS}
    known = store.cited() | {name: results for name, results in runs.items() if results is not None}
    if (claims := runs["claims"]) is not None:  # all figures, but neither intervals nor times
        claims["figures"] = {}
        for claim in claims.pop("claims"):
            claims["figures"].setdefault(claim["text"], {})[claim["subject"]] = claim["value"]
        del claims["groups"]
    known.get("second_order", {}).pop("curves", None)
    return json.loads(json.dumps(known), parse_float=lambda number: float(f"{float(number):.4g}"))


def _of_claims(results):
    figures = results["figures"]

    def spread(text):
        return between(figures[text].values())

    def of(n, library):
        text = f"circuit, batch 64: {library}: gradient / gradient"
        return between([figures[text][f"circuit of {n:,}: sum of formulas, batch 64"]])

    compiling = figures["circuit: tracing and compiling by jax, s"]
    return (
        f"measured at batch 256, {spread('network: gradient / loss, every N')} times the loss. So "
        f"does the Hessian times a vector: {spread('network: hvp / gradient, every N')} gradients, "
        f"or {spread('network: hvp at a kept point / gradient, every N')} from a point where "
        "forward and backward are already done.",
        f"the gradient takes {spread('circuit: gradient / value, every N')} values, the Hessian "
        f"times a vector {spread('circuit: hvp / value, every N')}. The gradient of 100,000 "
        f"operations takes {of(100_000, 'casadi')} times as long in CasADi's virtual machine, "
        f"mapped over the batch; that of 1,000 takes {of(1_000, 'jax')} times as long in JAX, "
        f"after {max(compiling.values()):.0f} seconds of tracing and compiling, and "
        f"{of(1_000, 'autograd')} times as long in autograd.",
    )


def _of_start(results):
    ours = results["CPU seconds"]
    return (
        f"takes {ours['empty cache: first gradient']:.2g} CPU seconds, that of later processes "
        f"{ours['warm cache: first gradient']:.2g}, of which Numba's import and start are most "
        "(`python -m bench.start`",
    )


def _of_single(results):
    ns = results["ns a call"]["4-32-16-4 tanh"]

    def us(*names):
        return between(ns[f"{name} from Python"] / 1000 for name in names)

    return (
        f"of 4-32-16-4 takes {ns['deltajit predict from @njit'] / 1000:.2g} us from `@njit`, and "
        f"`net.predict` {us('deltajit predict')} us from Python, where ONNX Runtime or NumPy takes "
        f"{us('ONNX Runtime predict', 'NumPy predict')} us, JAX or PyTorch "
        f"{us('JAX (jit) predict', 'PyTorch predict')} (`python -m bench.single`)",
    )


def _of_ensemble(results):
    steps = results["us a step"].values()
    jax, torch = (
        between(step[name] / step["deltajit"] for step in steps)
        for name in ("JAX vmap", "torch.func")
    )
    return (
        f"A step of 1,000 such networks takes {jax} times as long in JAX (vmap), and {torch} in "
        "torch.func (`python -m bench.ensemble`",
    )


def _of_peers(results):
    single, double = (row["seconds"]["deltajit"] for row in table.rows_of(results, "fits"))
    return (
        *_tables(results),
        f"float32 samples are trained on in float32, {between([double / single])} times as fast as "
        "float64",
    )


def _of_distributed(results):
    one, two = results["steps"]["1"], results["steps"]["2"]
    works = [x["work"] for x in one]
    times = [x["seconds"] / y["seconds"] for x, y in zip(one, two, strict=True)]
    ratios = [", ".join(f"{x:.2g}" for x in column) for column in (works, times)]
    sentences = [
        f"For steps of {ratios[0]} seconds of work on one core, two workers on two cores are "
        f"{ratios[1]} times as fast as one (`python -m bench.distributed`"
    ]
    for work in ("100", "10000"):
        speed = ", ".join(f"{x:.2g}" if x < 100 else f"{x:.0f}" for x in results["predicted"][work])
        sentences.append(
            f"With {int(work):,} seconds of work a step, the model predicts that 16, 256 and 4,096 "
            f"workers are {speed} times as fast as one"
        )
    return tuple(sentences)


def _tables(results):
    return [table.table(results, kind) for kind in table.UNITS]


def _of_second_order(results):
    return [second_order.table(results)]


PROGRAMS = {
    "claims": _of_claims,
    "start": _of_start,
    "single": _of_single,
    "ensemble": _of_ensemble,
    "distributed": _of_distributed,
    "second_order": _of_second_order,
    store.PEERS["native"]: _of_peers,
    store.PEERS["avx2"]: _tables,
}


def sentences(known):
    """Yield what README and docs/ say of speed, word for word."""
    for name, of_results in PROGRAMS.items():
        yield from of_results(known[name])


def rewrite(text, old, new):
    """Return a text with new sentences in the place of old ones, wherever those break lines."""
    for before, after in zip(old, new, strict=True):
        words = r"\s+".join(map(re.escape, before.split()))
        text = re.sub(words, lambda _, after=after: after, text)
    return "\n\n".join(map(_wrapped, text.split("\n\n")))


def _wrapped(paragraph):
    """Return prose in lines of at most 100 characters; tables, code and comments as they are."""
    is_prose = not paragraph.startswith(("|", "<", "`", "!", "#", "-", ":"))
    if is_prose and max(map(len, paragraph.splitlines()), default=0) > 100:
        return textwrap.fill(paragraph, 100, break_long_words=False, break_on_hyphens=False)
    return paragraph


def between(values):
    """Such as ``1.8 to 2.9``, or one number where both ends are the same."""
    values = sorted(values)
    ends = (f"{x:.2g}" if x < 100 else f"{x:.0f}" for x in (values[0], values[-1]))
    return " to ".join(dict.fromkeys(ends))


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("--docs", action="store_true", help="make what the documentation shows")
    options = parser.parse_args()
    folder = PICTURES if options.docs else store.FOLDER
    if (claims := store.load("claims")) is not None:
        print(cheap_gradient(claims, folder / "cheap_gradient.png"))
    if (peers := store.load("peers")) is not None:
        print(*_tables(peers), table.picture(peers, folder / "peers.png"), sep="\n\n")
    if (curves := store.load("second_order")) is not None:
        print(second_order.picture(curves, folder / "second_order.png"))
    if options.docs:
        figures = update()
        old, new = list(sentences(store.cited())), list(sentences(figures))
        for path in TEXTS:
            path.write_text(rewrite(path.read_text(), old, new))
        store.CITED.write_text(json.dumps(figures, indent=1) + "\n")
        print(store.CITED, *new, sep="\n\n")


if __name__ == "__main__":
    main()
