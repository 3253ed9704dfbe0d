"""The compiled core: everything here is a plain njit function over plain arrays.

Call these from your own ``@njit`` code with ``net.model`` and ``net.workspace(batch)``; see
`deltajit.kernels.sweeps` for the arguments. `deltajit.reference` has the same in NumPy.

Floors, each importing only from those before it: compiler, vectors, views, elementary (checked by
ulp), activations, losses, tile, transpose, product, narrow, matmul, parallel, layers, model, entry
(what arguments must be), sample (one goes by itself), sweeps, tangents (beyond the gradient),
training, ensemble (many networks), handle (a network as one array of addresses).
"""

from .activations import ACTIVATIONS
from .handle import from_handle
from .layers import accumulate_gradient, linear_activation_forward, propagate_delta
from .losses import LOSSES
from .model import Model, points_size, workspace_size
from .sweeps import loss, predict, value_and_grad
from .tangents import (
    gnvp,
    gnvp_at,
    hvp,
    hvp_at,
    input_grad,
    jacobian,
    jvp,
    jvp_at,
    linearize,
    parameter_jacobian,
    per_sample_grads,
    vjp,
    vjp_at,
)
from .training import Rule, adam_step, fit_epoch, sgd_step

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "Model",
    "Rule",
    "accumulate_gradient",
    "adam_step",
    "fit_epoch",
    "from_handle",
    "gnvp",
    "gnvp_at",
    "hvp",
    "hvp_at",
    "input_grad",
    "jacobian",
    "jvp",
    "jvp_at",
    "linear_activation_forward",
    "linearize",
    "loss",
    "parameter_jacobian",
    "per_sample_grads",
    "points_size",
    "predict",
    "propagate_delta",
    "sgd_step",
    "value_and_grad",
    "vjp",
    "vjp_at",
    "workspace_size",
]
