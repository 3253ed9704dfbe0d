"""``python -m bench.start [CHECKOUT]``: CPU seconds until the first results are there.

Each number is that of a fresh process on one core, the median of three.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from bench import limits, machine, store

HERE = Path(__file__).parent
PEERS = {"jax": "JAX", "torch": "PyTorch", "sklearn": "scikit-learn"}
USERS = """import numba
from deltajit import kernels


@numba.njit(cache=True)
def step(model, X, Y, grad, work):
    return {factor} * kernels.value_and_grad(model, X, Y, grad, work)
"""


@contextmanager
def package_of(checkout):
    """A folder with a copy of a checkout's package, to be imported from, and nothing compiled."""
    skip = shutil.ignore_patterns("__pycache__")
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "deltajit")
        shutil.copytree(checkout / "src/deltajit", package, ignore=skip)
        shutil.copytree(checkout / "kernels", package / "kernels", ignore=skip)
        yield Path(folder)


def seconds(what, python=sys.executable, **environment):
    """CPU seconds that a function of `first_calls` prints, in a process of its own."""
    command = [python, "-P", HERE / "first_calls.py", what]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    return float(done.stdout)


def with_empty_cache(what, package):
    """Seconds of a process that has everything to compile."""
    with tempfile.TemporaryDirectory() as cache:
        return seconds(what, PYTHONPATH=str(package), NUMBA_CACHE_DIR=cache)


def with_warm_cache(package):
    """Seconds of an edited function of a user's, and of the first gradient."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.pathsep.join([str(package), folder])
        environment = {"PYTHONPATH": path, "NUMBA_CACHE_DIR": folder}
        for factor in ("1.0", "10.0"):
            Path(folder, "users.py").write_text(USERS.format(factor=factor))
            edited = seconds("jitted", **environment)
        seconds("gradient", **environment)
        return edited, seconds("gradient", **environment)


def start(package):
    """One measurement of each row: {row: CPU seconds}."""
    rows = {
        "empty cache: first gradient": with_empty_cache("gradient", package),
        "empty cache: twelve features": with_empty_cache("features", package),
    }
    edited, first = with_warm_cache(package)
    return rows | {
        "warm cache: a user's function, edited": edited,
        "warm cache: first gradient": first,
    }


def medians(measure, repeats):
    """The median of each row that `measure` gives."""
    measured = [measure() for _ in range(repeats)]
    return {row: statistics.median(each[row] for each in measured) for row in measured[0]}


def peers(python):
    """The first gradient of each library that an interpreter has: {name: CPU seconds}."""
    code = "import importlib.util, sys; print(*filter(importlib.util.find_spec, sys.argv[1:]))"
    command = [python, "-c", code, *PEERS]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {PEERS[name]: seconds(name, python) for name in done.stdout.split()}


def table(columns):
    """Lines of {column: {row: seconds}}, with the ratio where there are two columns."""
    names = list(columns)
    rows = columns[names[0]]
    ratio = ["ratio"] if len(names) == 2 else []
    lines = [f"{'CPU seconds':40}" + "".join(f"{name:>12}" for name in names + ratio)]
    for row in rows:
        found = [column[row] for column in columns.values()]
        ratios = [f"{found[0] / found[1]:11.2f}x"] if ratio else []
        lines.append(f"{row:40}" + "".join([*(f"{x:12.2f}" for x in found), *ratios]))
    return lines


def main():
    """Hold the machine still, then run."""
    parser = argparse.ArgumentParser(prog="python -m bench.start", description=__doc__)
    parser.add_argument("checkout", nargs="?", type=Path, help="other sources, to compare with")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="that has them")
    parser.add_argument("--quick", action="store_true", help="once each, and less certain")
    options = parser.parse_args()
    limits.hold(1)
    repeats = 1 if options.quick else 3
    checkouts = {"this": HERE.parent}
    if options.checkout is not None:
        checkouts[options.checkout.resolve().name] = options.checkout
    columns = {}
    for name, checkout in checkouts.items():
        with package_of(checkout) as package:
            columns[name] = medians(lambda package=package: start(package), repeats)
    print(machine.cpu_name())
    print(*table(columns), sep="\n")
    found = medians(lambda: peers(options.peers), repeats)
    results = {"machine": machine.describe(), "CPU seconds": columns["this"], "of others": found}
    print(store.save("start", results))
    print("first gradient of", ", ".join(f"{name} {x:.2f}" for name, x in found.items()) or "none")


if __name__ == "__main__":
    main()
