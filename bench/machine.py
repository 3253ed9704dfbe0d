"""What the numbers were taken on."""

import datetime
import os
import platform
from importlib.metadata import distributions
from pathlib import Path

from numba.core.registry import cpu_target

from bench import limits

PACKAGES = (
    "deltajit", "numba", "numpy", "torch", "jax", "scikit-learn", "onnxruntime", "casadi",
    "autograd",
)  # fmt: skip


def describe(cores=None):
    """Return CPU, cores, load, versions and date, for JSON."""
    return {
        "cpu": cpu_name(),
        "restricted_to": limits.restriction(),
        "compiled_for": cpu_target.target_context.codegen().magic_tuple()[1],
        "pinned_to": cores,
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {d.name: d.version for p in PACKAGES for d in distributions(name=p)},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def line(machine):
    """Return one line: CPU, what it compiles for, date and versions."""
    versions = ", ".join(f"{name} {v}" for name, v in sorted(machine["versions"].items()))
    return f"{place(machine)}, {machine['date'][:10]}; {versions}"


def place(machine):
    """Return the CPU, and what it compiles for or was restricted to."""
    isa = machine["restricted_to"]
    return f"{machine['cpu']} ({f'restricted to {isa}' if isa else machine['compiled_for']})"


def cpu_name():
    """As the system calls it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
