"""``deltajit info``: the CPU that kernels are compiled for, threads, cache and versions."""

from __future__ import annotations

import os
import platform
from importlib import import_module

import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core.registry import cpu_target

from deltajit.kernels import cache, compiler
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
        ("compiled kernels", f"{cache.count(compiler.SHORT)} of {len(compiler.all_kernels())}"),
    ]


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


def run() -> dict[str, str]:
    """Print the table, and return it."""
    table = dict(rows())
    for what, value in table.items():
        print(f"{what:<18} {value}")
    return table
