"""``python -m bench.blocks``: other block sizes than `kernels.blocks` has, and what they are worth.

Each runs in a process of its own, compiled anew, and prints its share of the peak.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec, module_from_spec, spec_from_file_location

SWEEP = {"KC": (128, 192, 256, 384), "MC": (128, 256, 512), "AHEAD": (12, 24, 48)}
SHAPES = [(64, 64, 64), (256, 256, 256), (256, 1024, 1024), (1024, 1024, 1024)]  # m, n, k
PACKAGES = ("deltajit", "deltajit.kernels")
SECONDS, CHUNK_SECONDS, LEAST_ROUNDS = 0.5, 1e-3, 11


def main():
    """Change one block size at a time, and print the table; the best of each size last."""
    default = shares({})
    print("share of peak of", ", ".join("x".join(map(str, shape)) for shape in SHAPES))
    print(f"{'as it is':12}", row(default))
    for name, values in SWEEP.items():
        measured = {value: shares({name: value}) for value in values}
        for value, each in measured.items():
            print(f"{name:6}{value:6}", row(each))
        best = max(measured, key=lambda value: sum(measured[value]))
        print(f"best {name}: {best}, {sum(measured[best]) / sum(default):.3f} of what it is now")


def row(each):
    """Return a line of the table."""
    return "  ".join(f"{share:.3f}" for share in each)


def shares(sizes):
    """Return the share of the peak of each shape, with these block sizes, by a process."""
    places = [find_spec(name).origin for name in PACKAGES]
    command = [sys.executable, "-m", "bench.blocks", json.dumps(sizes), json.dumps(places)]
    with tempfile.TemporaryDirectory() as cache:  # its code is of no use to anyone else
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return json.loads(done.stdout)


def measure(sizes, places):
    """Change block sizes before any kernel reads them; return the share of the peak of each shape.

    places : files of `PACKAGES`, which are not run, since they import everything.
    """
    for name, place in zip(PACKAGES, places, strict=True):
        folder = os.path.dirname(place)
        spec = spec_from_file_location(name, place, submodule_search_locations=[folder])
        sys.modules[name] = module_from_spec(spec)
    blocks = importlib.import_module("deltajit.kernels.blocks")
    for name, value in sizes.items():
        setattr(blocks, name, value)
    return [share(*shape) for shape in SHAPES]


def share(m, n, k):
    """Return the share of the peak that ``c = a @ b`` runs at, float32."""
    import numba
    import numpy as np
    from deltajit.kernels.gemm.matmul import matmul

    from bench import peak
    from bench.clock import Contestant, race

    @numba.njit(error_model="numpy")
    def products(times, a, b, c):
        for _ in range(times):
            matmul(a, b, c)

    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(size=shape).astype("float32") for shape in ((m, k), (k, n), (m, n)))
    ours = Contestant("ours", lambda times: products(times, a, b, c), 1 << 40)
    times = race([ours, peak.contestant("float32")], SECONDS, CHUNK_SECONDS, LEAST_ROUNDS)
    return float(np.median(2 * m * n * k * times["peak"] / times["ours"]))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(*map(json.loads, sys.argv[1:]))))
    else:
        main()
