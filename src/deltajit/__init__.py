"""deltajit: the fastest gradient of a multilayer perceptron on a CPU, in Python.

``Network`` is the face; ``kernels`` are the compiled functions under it, for your own ``@njit``
code; ``reference`` is the same in NumPy.
"""

from importlib.metadata import version

from deltajit import kernels, reference
from deltajit.ensemble import Ensemble
from deltajit.full_batch import LBFGS, LevenbergMarquardt
from deltajit.network import Network
from deltajit.optimizers import SGD, Adam
from deltajit.training import DivergedError, History

__version__ = version("deltajit")

__all__ = [
    "LBFGS",
    "SGD",
    "Adam",
    "DivergedError",
    "Ensemble",
    "History",
    "LevenbergMarquardt",
    "Network",
    "kernels",
    "reference",
]
