"""Where results are kept: those of runs, untracked, and the figures that texts cite, tracked."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".benchmarks"  # also pytest-benchmark's, and ignored by git
CITED = ROOT / "bench/results.json"
PEERS = {"native": "peers", "avx2": "peers_avx2"}  # names of results, by instruction set


def save(name, results, folder=FOLDER):
    """Write results as JSON; returns the file's path."""
    path = folder / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    return path


def run(name, measure, threads=1):
    """Hold the machine still, measure, and save the results with what they were taken on."""
    from bench import limits

    cores = limits.hold(threads)
    # Libraries read their limits when they are imported, so they are imported only now.
    from bench import machine

    results = measure()
    print(save(name, {"machine": machine.describe(cores), **results}))


def load(name):
    """Return the results of the last run, or None."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def cited():
    """Return the figures that texts cite."""
    return json.loads(CITED.read_text())
