"""The compiled core: everything here is a plain njit function over plain arrays.

Call these from your own ``@njit`` code with ``net.model`` and ``net.workspace(batch)``; see
`deltajit.kernels.sweeps` for the arguments. `deltajit.reference` has the same in NumPy.

Floors, each importing only from those before it: compiler, vectors, views, elementary (checked by
ulp), activations, losses, tile, transpose, product, parallel, layers, model, sample (one goes by
itself), sweeps, training, handle (for callers in Python).
"""

from .activations import ACTIVATIONS
from .layers import accumulate_gradient, linear_activation_forward, propagate_delta
from .losses import LOSSES
from .model import Model, workspace_size
from .sweeps import loss, predict, value_and_grad
from .training import Rule, fit_epoch, sgd_step

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "Model",
    "Rule",
    "accumulate_gradient",
    "fit_epoch",
    "linear_activation_forward",
    "loss",
    "predict",
    "propagate_delta",
    "sgd_step",
    "value_and_grad",
    "workspace_size",
]
