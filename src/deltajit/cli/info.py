"""``deltajit info``: the CPU that kernels are compiled for, threads, cache and versions."""

from __future__ import annotations

import os
import platform
from collections import Counter
from importlib import import_module

import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core.registry import cpu_target

from deltajit.kernels import backend, cache, compiler
from deltajit.kernels.simd.vectors import LANES_F32, LANES_F64
from deltajit.version import VERSION


def rows() -> list[tuple[str, str]]:
    """Return (name, value) of each line."""
    return [
        ("deltajit", VERSION),
        ("python", platform.python_version()),
        ("numpy", np.__version__),
        ("numba", f"{numba.__version__} (LLVM {'.'.join(map(str, llvm.llvm_version_info))})"),
        ("CPU", cpu_target.target_context.codegen().magic_tuple()[1]),
        ("lanes", f"{LANES_F32} float32, {LANES_F64} float64"),
        ("threading layers", ", ".join(_threading_layers()) or "none"),
        ("cores", str(os.cpu_count())),
        ("compilation cache", str(cache.folder() or "none")),
        ("kernels are for", backend.LEVEL or "this CPU"),
        (
            "kernels",
            ", ".join(f"{n} {origin}" for origin, n in Counter(origins().values()).items()),
        ),
    ]


ORIGINS = {"cache": "in the cache", "shipped": "shipped", "": "not compiled yet"}


def origins() -> dict[str, str]:
    """Return {name: where its code comes from} of all kernels."""
    return {
        f"{kernel.name}.{real}": ORIGINS[compiler.origin_of(kernel, real)]
        for kernel, real in compiler.all_kernels()
    }


def _threading_layers() -> list[str]:
    """Return the names of Numba's threading layers that can be imported."""
    layers = []
    for name in ("omp", "tbb", "workqueue"):
        module = "numba.np.ufunc." + {"omp": "omppool", "tbb": "tbbpool"}.get(name, name)
        try:
            import_module(module)
        except ImportError:
            continue
        layers.append(name)
    return layers


def run(kernels: bool = False) -> dict[str, str]:
    """Print the table, and where each of the kernels comes from if that is asked for; return it."""
    table = dict(rows())
    if kernels:
        table |= origins()
    width = max(18, *map(len, table))
    for what, value in table.items():
        print(f"{what:<{width}} {value}")
    return table
