"""Compute the gradient of a multilayer perceptron on a CPU, as fast as it goes, from Python.

``Network`` is where to start. ``kernels`` holds the compiled functions that it calls, for use in
``@njit`` code; ``reference`` holds the same functions in NumPy.
"""

from deltajit import circuit, constructions, kernels, plot, reference
from deltajit.circuit import Circuit
from deltajit.differential import DifferentialLoss
from deltajit.ensemble import Ensemble
from deltajit.io.files import FormatError
from deltajit.kernels.mlp.optimizers import *
from deltajit.model.custom import register_activation, register_loss
from deltajit.model.standardizer import Standardizer
from deltajit.network import Network
from deltajit.training import callbacks, schedules
from deltajit.training.callbacks import EarlyStopping, ReduceLROnPlateau, WeightAveraging
from deltajit.training.full_batch import LBFGS, LevenbergMarquardt
from deltajit.training.gauss_newton import GaussNewtonCG
from deltajit.training.history import History
from deltajit.training.kfac import KFAC
from deltajit.training.loop import DivergedError
from deltajit.uncertainty.laplace import Laplace
from deltajit.version import VERSION

__version__ = VERSION

load = Network.load

__all__ = [
    "KFAC", "LBFGS", "Circuit", "DifferentialLoss", "DivergedError", "EarlyStopping", "Ensemble",
    "FormatError", "GaussNewtonCG", "History", "Laplace", "LevenbergMarquardt", "Network",
    "ReduceLROnPlateau", "Standardizer", "WeightAveraging", "callbacks", "circuit",
    "constructions", "kernels", "load", "plot", "reference", "register_activation",
    "register_loss", "schedules", "Optimizer",
    *kernels.OPTIMIZERS,
]  # fmt: skip
