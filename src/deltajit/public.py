"""All public names of the package, which `deltajit` hands out."""

from deltajit import circuit, constructions, kernels, plot, reference
from deltajit.circuit import Circuit
from deltajit.differential import DifferentialLoss
from deltajit.dynamics import Dynamics
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
from deltajit.training.rate_finder import learning_rate_finder
from deltajit.uncertainty.laplace import Laplace

load = Network.load

__all__ = [
    "KFAC", "LBFGS", "Circuit", "DifferentialLoss", "DivergedError", "Dynamics", "EarlyStopping",
    "Ensemble", "FormatError", "GaussNewtonCG", "History", "Laplace", "LevenbergMarquardt",
    "Network", "ReduceLROnPlateau", "Standardizer", "WeightAveraging", "callbacks", "circuit",
    "constructions", "kernels", "learning_rate_finder", "load", "plot", "reference",
    "register_activation", "register_loss", "schedules", "Optimizer", *kernels.OPTIMIZERS,
]  # fmt: skip
