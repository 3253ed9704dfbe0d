"""deltajit: the fastest gradient of a multilayer perceptron on a CPU, in Python.

``Network`` is the face; ``kernels`` are the compiled functions under it, for your own ``@njit``
code; ``reference`` is the same in NumPy.
"""

from deltajit import (
    callbacks,
    circuit,
    constructions,
    kernels,
    plot,
    reference,
    schedules,
)
from deltajit.callbacks import EarlyStopping, ReduceLROnPlateau
from deltajit.circuit import Circuit
from deltajit.ensemble import Ensemble
from deltajit.files import FormatError
from deltajit.full_batch import LBFGS, LevenbergMarquardt
from deltajit.history import History
from deltajit.kernels.mlp.optimizers import *
from deltajit.network import Network
from deltajit.own import register_activation, register_loss
from deltajit.training import DivergedError
from deltajit.version import VERSION

__version__ = VERSION

load = Network.load

__all__ = [
    "LBFGS",
    "Circuit",
    "DivergedError",
    "EarlyStopping",
    "Ensemble",
    "FormatError",
    "History",
    "LevenbergMarquardt",
    "Network",
    "ReduceLROnPlateau",
    "callbacks",
    "circuit",
    "constructions",
    "kernels",
    "load",
    "plot",
    "reference",
    "register_activation",
    "register_loss",
    "schedules",
    "Optimizer",
    *kernels.OPTIMIZERS,
]
