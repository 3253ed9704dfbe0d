"""What the numbers were taken on."""

import datetime
import os
import platform
from pathlib import Path

import numba
from deltajit.kernels.simd.vectors import LANES_F32, LANES_F64
from numba.core.registry import cpu_target


def describe(libraries, cores):
    """For the JSON: CPU, lanes, cores, load, versions and date."""
    return {
        "cpu": cpu_name(),
        "compiled_for": cpu_target.target_context.codegen().magic_tuple()[1],
        "lanes": {"float32": LANES_F32, "float64": LANES_F64},
        "cores": os.cpu_count(),
        "pinned_to": cores,
        "load_at_start": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {
            "numba": numba.__version__,
            **{library.package: library.version() for library in libraries},
        },
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def cpu_name():
    """As the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
