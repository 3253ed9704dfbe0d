"""``python -m deltajit.kernels.ship FOLDER``: compile every kernel for the level of DELTAJIT_ISA.

What is written there is the file that `shipped` reads. The user's own cache is neither asked nor
filled: it might have code of another compiler.
"""

import sys
from pathlib import Path

from . import backend, compiler, shipped


def run(folder):
    """Write the file for the level of this process into a folder."""
    if backend.LEVEL is None or backend.is_debugging():
        raise SystemExit("ship: DELTAJIT_ISA must be a level, and Numba's flags the default")
    kernels = compiler.all_kernels()
    codes = {f"{kernel.name}.{real}": compiler.compiled(kernel, real) for kernel, real in kernels}
    shipped.write(Path(folder), backend.LEVEL, codes)


if __name__ == "__main__":
    run(*sys.argv[1:])
