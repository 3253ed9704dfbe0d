"""Which CPUs kernels are compiled for: those of a level of x86-64, or the one that is here.

Code for a level runs on every CPU that has it, and computes the same bits there, with the lanes and
block sizes of the level. The environment variable DELTAJIT_ISA names the level, or ``native``. By
default it is the highest one that this CPU has and object code is shipped for, if there is any.
"""

import os

import llvmlite.binding as llvm

V3 = ["avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"]
V4 = [*V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]
LEVELS = {"x86-64-v4": V4, "x86-64-v3": V3}  # LLVM's names of features, the highest level first

VARIABLE = "DELTAJIT_ISA"
NATIVE = "native"
BUILDING = "DELTAJIT_WHEEL"  # set while code is compiled for wheels, of which nothing is run


def is_here(level):
    """Return whether this CPU has a level."""
    try:
        features = llvm.get_host_cpu_features()
    except RuntimeError:  # LLVM can't tell
        return False
    return all(features.get(name, False) for name in LEVELS[level])


def chosen(shipped):
    """Return the level that kernels are for, or None: for this CPU, as Numba sees it.

    shipped : the levels among which there is a choice if DELTAJIT_ISA leaves it.
    """
    asked = os.environ.get(VARIABLE, "")
    if asked == NATIVE:
        return None
    if not asked:
        return next((level for level in LEVELS if level in shipped and is_here(level)), None)
    if asked not in LEVELS:
        names = ", ".join([NATIVE, *LEVELS])
        raise ValueError(f"{VARIABLE} must be one of {names}, got {asked!r}")
    if not is_here(asked) and BUILDING not in os.environ:
        raise ValueError(f"{VARIABLE} must be a level that this CPU has, got {asked!r}")
    return asked
