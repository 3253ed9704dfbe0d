"""``python -m bench.start [CHECKOUT | --wheel WHEEL]``: CPU seconds to first results (medians)."""

import argparse
import compileall
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

from bench import store

HERE = Path(__file__).parent
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


def start(package):
    """One measurement of each row: {row: CPU seconds}."""
    rows = {}
    for row, what in (("first gradient", "gradient"), ("twelve features", "features")):
        with tempfile.TemporaryDirectory() as cache:
            environment = {"PYTHONPATH": str(package), "NUMBA_CACHE_DIR": cache}
            rows[f"empty cache: {row}"] = seconds(what, **environment)
    with tempfile.TemporaryDirectory() as cache:
        path = os.pathsep.join([str(package), cache])
        environment = {"PYTHONPATH": path, "NUMBA_CACHE_DIR": cache}
        for factor in ("1.0", "10.0"):
            Path(cache, "users.py").write_text(USERS.format(factor=factor))
            rows["warm cache: a user's function, edited"] = seconds("jitted", **environment)
        for _ in range(2):
            rows["warm cache: first gradient"] = seconds("gradient", **environment)
    return rows


def with_code(wheel, peers):
    """One measurement beside others, without any cache: {row: CPU seconds}.

    A wheel with compiled kernels is unpacked, and its modules compiled as pip does.
    """
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        package, cache = Path(folder, "package"), Path(folder, "cache")
        zipfile.ZipFile(wheel).extractall(package)
        compileall.compile_dir(package, quiet=1)
        environment = {"PYTHONPATH": str(package), "NUMBA_CACHE_DIR": str(cache)}
        for row, what in (
            ("import", "imported"), ("first gradient", "gradient"), ("twelve features", "features"),
        ):  # fmt: skip
            rows[f"deltajit, {row}"] = seconds(what, **environment)
    for row, what in (
        ("scikit-learn, first fit", "sklearn"), ("JAX, first gradient", "jax"),
        ("PyTorch, first gradient", "torch"),
    ):  # fmt: skip
        rows[row] = seconds(what, peers)
    return rows


def medians(measure, repeats=3):
    """The median of each row that `measure` gives."""
    measured = [measure() for _ in range(repeats)]
    return {row: statistics.median(each[row] for each in measured) for row in measured[0]}


def table(columns):
    """Lines of {column: {row: seconds}}, with the ratio where there are two columns."""
    lines = [f"{'CPU seconds':40}" + "".join(f"{name:>12}" for name in columns)]
    for row in next(iter(columns.values())):
        found = [column[row] for column in columns.values()]
        ratio = f"{found[0] / found[1]:11.2f}x" if len(found) == 2 else ""
        lines.append(f"{row:40}" + "".join(f"{x:12.2f}" for x in found) + ratio)
    return lines


def beside_peers(options):
    """Measure a wheel beside other libraries."""
    rows = medians(lambda: with_code(options.wheel, options.peers))
    print(*table({"wheel": rows}), sep="\n")
    return {"CPU seconds": rows}


def run(options):
    """Measure these sources, and others beside them."""
    others = [options.checkout] if options.checkout else []
    checkouts = {"this": HERE.parent} | {other.resolve().name: other for other in others}
    columns = {}
    for name, checkout in checkouts.items():
        with package_of(checkout) as package:
            columns[name] = medians(lambda package=package: start(package))
    print(*table(columns), sep="\n")
    return {"CPU seconds": columns["this"]}


def main():
    """Run one of both, and keep its results under a name of its own."""
    parser = argparse.ArgumentParser(prog="python -m bench.start", description=__doc__)
    parser.add_argument("checkout", nargs="?", type=Path, help="other sources, to compare with")
    parser.add_argument("--wheel", type=Path, help="one with compiled kernels (`make wheels`)")
    parser.add_argument("--peers", default=sys.executable, help="a Python with other libraries")
    options = parser.parse_args()
    name, measure = ("wheel", beside_peers) if options.wheel else ("start", run)
    store.run(name, lambda: measure(options))


if __name__ == "__main__":
    main()
