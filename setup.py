"""Builds the platform wheel, with object code for levels of CPUs, where DELTAJIT_WHEEL is set.

Without it, for editable installs, and elsewhere than on Linux for x86-64, everything is as
pyproject.toml says.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

LEVELS = ("x86-64-v3", "x86-64-v4")
IS_HERE = sys.platform == "linux" and platform.machine() == "x86_64"
HAS_CODE = "DELTAJIT_WHEEL" in os.environ and IS_HERE
# What compiles the kernels, and what the package imports besides.
COMPILERS = ["numba>=0.62", "numpy>=2.0", "safetensors>=0.4", "tqdm>=4.60"]


class BuildWithCode(build_py):
    """Compile the kernels that were copied, by the package itself."""

    def run(self):
        """Copy the sources; then compile, each level in a process of its own."""
        super().run()
        if HAS_CODE and not self.editable_mode:
            kernels = Path(self.build_lib).resolve() / "deltajit/kernels"
            for old in kernels.glob("*.zip"):  # of other sources, where a build was before
                old.unlink()
            processes = [self._begin(level, kernels) for level in LEVELS]
            codes = [process.wait() for process in processes]
            if any(codes):
                raise SystemExit("deltajit: the kernels could not be compiled")

    def _begin(self, level, kernels):
        """Start to compile for a level; sets have the same order each time, for the same bytes."""
        settings = {
            "DELTAJIT_ISA": level,
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(kernels.parents[1]), os.environ.get("PYTHONPATH")])
            ),
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, "-P", "-m", "deltajit.kernels.ship", str(kernels)]
        return subprocess.Popen(command, env={**os.environ, **settings})


class WithCode(Distribution):
    """A package that is not the same on every platform."""

    def has_ext_modules(self):
        """Return whether it has code."""
        return HAS_CODE


class PlatformWheel(bdist_wheel):
    """A wheel for any Python 3, on one platform."""

    def get_tag(self):
        """Return (Python, ABI, platform): nothing depends on the C library but memcpy and libm."""
        python, abi, platform = super().get_tag()
        if HAS_CODE:
            return "py3", "none", platform.replace("linux_x86_64", "manylinux2014_x86_64")
        return python, abi, platform


setup(
    distclass=WithCode,
    cmdclass={"build_py": BuildWithCode, "bdist_wheel": PlatformWheel},
    setup_requires=COMPILERS if HAS_CODE else [],
)
