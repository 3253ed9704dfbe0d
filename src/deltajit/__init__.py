"""Compute the gradient of a multilayer perceptron on a CPU, as fast as it goes, from Python.

``Network`` is where to start. ``kernels`` holds the compiled functions that it calls, for use in
``@njit`` code; ``reference`` holds the same functions in NumPy.
"""

import importlib
from typing import TYPE_CHECKING

from deltajit.version import VERSION

__version__ = VERSION

# Modules that need not wait for all the others, so that these can import them from here.
_MODULES = ("circuit", "constructions", "kernels", "plot", "reference")

if TYPE_CHECKING:
    from deltajit.kernels.mlp.optimizers import *
    from deltajit.public import *
else:

    def __getattr__(name):
        """Import what a public name is in when it is first asked for (SPEC 1).

        Numba takes most of the time: ``import deltajit`` alone does without it.
        """
        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        if name == "__all__" or not name.startswith("_"):
            public = importlib.import_module(f"{__name__}.public")
            if name in globals():  # a module that has just been imported
                return globals()[name]
            if name in ("__all__", *public.__all__):
                value = globals()[name] = getattr(public, name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        """Return the public names."""
        return sorted({*globals(), *__getattr__("__all__")})
