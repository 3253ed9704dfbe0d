"""Backpropagation as the equations read, in NumPy: the twin of every kernel, without Numba.

Nothing here is optimized, so that it can be checked by eye. Everything accepts float32, float64 and
complex arrays: with a complex theta, ``loss(theta + 1e-30j * v).imag / 1e-30`` is the derivative
along v to machine precision (complex step: Squire & Trapp 1998), which is how the gradient itself
is checked.

Modules, each importing only those before it: arrays, activations, losses, sweeps, passes,
tangents, inputs, rollout, optimizers, training, curvature.
"""

from deltajit.reference.activations import (
    ACTIVATIONS,
    Activation,
    activate,
    derivative,
    of_units,
    second_derivative,
    times_derivative,
)
from deltajit.reference.arrays import of_numbers, one_hot
from deltajit.reference.curvature import (
    gauss_newton_matrix,
    gauss_newton_step,
    joined,
    kfac_step,
    kronecker_factors,
    kronecker_solve,
    parted,
)
from deltajit.reference.inputs import input_hessian, input_jvp, input_vjp, jets, jets_vjp
from deltajit.reference.losses import LOSSES, Loss, of_outputs, sample_losses
from deltajit.reference.optimizers import (
    OPTIMIZERS,
    adagrad_update,
    adam_update,
    clip,
    lion_update,
    radam_update,
    rmsprop_update,
    rprop_update,
    sgd_update,
)
from deltajit.reference.passes import Trace, trace
from deltajit.reference.rollout import rollout, rollout_grad
from deltajit.reference.sweeps import (
    Model,
    Sweep,
    accumulate_gradient,
    backward,
    dropout_masks,
    forward,
    linear_activation_forward,
    loss,
    output_delta,
    predict,
    propagate_delta,
    value_and_grad,
)
from deltajit.reference.tangents import (
    gnvp,
    hvp,
    input_grad,
    jacobian,
    jvp,
    parameter_jacobian,
    per_sample_grads,
    vjp,
)
from deltajit.reference.training import fit_epoch, sgd_step

__all__ = [
    "ACTIVATIONS", "LOSSES", "OPTIMIZERS", "Activation", "Loss", "Model", "Sweep", "Trace",
    "accumulate_gradient", "activate", "adagrad_update", "adam_update", "backward", "clip",
    "derivative", "dropout_masks", "fit_epoch", "forward", "gauss_newton_matrix",
    "gauss_newton_step", "gnvp", "hvp", "input_grad", "input_hessian", "input_jvp", "input_vjp",
    "jacobian", "jets", "jets_vjp", "joined", "jvp", "kfac_step", "kronecker_factors",
    "kronecker_solve", "linear_activation_forward", "lion_update", "loss", "of_numbers",
    "of_outputs", "of_units", "one_hot", "output_delta", "parameter_jacobian", "parted",
    "per_sample_grads", "predict", "propagate_delta", "radam_update", "rmsprop_update", "rollout",
    "rollout_grad", "rprop_update", "sample_losses", "second_derivative", "sgd_step", "sgd_update",
    "times_derivative", "trace", "value_and_grad", "vjp",
]  # fmt: skip
