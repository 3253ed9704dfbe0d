"""Drivers in C: built by gcc when they are first needed, in `.benchmarks/`; called with ctypes."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

from bench import limits, store

LIBXSMM = ("xsmm", "xsmmnoblas", "pthread", "dl", "m")  # what its driver is linked with
FAST = ["-O3", "-ffast-math", "-fPIC"]


def missing(header, package):
    """Return what is missing before a driver that includes `header` can be built, or None."""
    if shutil.which("gcc") is None:
        return "gcc"
    here = any(Path(folder, header).exists() for folder in ("/usr/include", "/usr/local/include"))
    return None if here else f"{package} (`apt-get install {package}`)"


def load(name, libraries):
    """Return the library of ``bench/NAME.c``, for the instruction set that this process has."""
    source = Path(__file__).with_name(f"{name}.c")
    target = limits.ISAS[os.environ.get(limits.ISA, "native")]["gcc"]
    built = store.FOLDER / f"{name}-{target[0].partition('=')[2]}.so"
    newest = max(path.stat().st_mtime for path in (source, Path(__file__)))
    if not built.exists() or built.stat().st_mtime < newest:
        built.parent.mkdir(exist_ok=True)
        made, links = built.with_suffix(".o"), [f"-l{library}" for library in libraries]
        subprocess.run(["gcc", *FAST, *target, "-c", source, "-o", made], check=True)
        # Apart: gcc links fast math with code that takes subnormals for 0 in all of the process.
        subprocess.run(["gcc", "-shared", made, "-o", built, *links], check=True)
    return ctypes.CDLL(str(built))


def pointer(function, *arguments):
    """Call a function that returns a pointer; raises RuntimeError where it is NULL."""
    function.restype = ctypes.c_void_p
    found = function(*arguments)
    if found is None:
        raise RuntimeError(f"{function.__name__} returned NULL")
    return ctypes.c_void_p(found)


def address(array):
    """Return an array's address, as an argument."""
    return ctypes.c_void_p(array.ctypes.data)
