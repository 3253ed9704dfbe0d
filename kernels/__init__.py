"""The compiled core: functions over plain arrays, for jitted code and for Python.

Call these from your own ``@njit`` code (with any of cache, nogil, parallel), ``@cfunc`` and
``@vectorize``, with ``net.model`` and ``net.workspace(batch)``, or by ``net.handle()``; each thread
needs a workspace of its own. B samples X (B, n_in), or one x (n_in,); what is written comes last,
before `work`, and is the caller's. ``order`` is that of the workspace.

========================================================  =====  ==============================
``predict(model, X, out, work)``                          1      outputs, (B, n_out)
``loss(model, X, Y, work)``                               1      returns the loss
``value_and_grad(model, X, Y, grad, work)``               1      returns the loss
``sgd_step(model, X, Y, lr, grad, work)``                 1      updates theta, returns the loss
``adam_step(model, X, Y, rule, grad, work)``              1      the same, by a `Rule`
``update(rule, theta, grad)``                                    any step along a gradient
``fit_epoch(model, X, Y, order, size, rule, grad, work)`` 1      minibatches; (losses, weights)
``specialize(model)``                                            kernels of its sizes; from Python
``vjp(model, X, u, out, work)``                           1      transposed tangent, (n_params,)
``input_grad(model, X, Y, out, work)``                    2      of each sample's loss, like X
``jacobian(model, X, out, work)``                         2      (B, n_out, n_in)
``input_jvp(model, X, v, out, work)``                      2      (B, n_out); input_vjp (B, n_in)
``input_hessian(model, X, out, work)``                    2      (B, n_out, n_in, n_in)
``jets(model, X, directions, out, work)``                        first and second, (B, R, n_out)
``jets_vjp(model, X, directions, u, grad, work)``                their transpose, (n_params,)
``hvp(model, X, Y, v, out, work)``                        2      Hessian times v; gnvp, jvp too
``rollout(model, step, states, controls, work)``                 a network in a loop; its cost
``rollout_grad(model, step, start, steps, every, ...)``          back-propagation through time
``linearize(model, X, Y, grad, points, work)``            2      a point for ``hvp_at``, ...
========================================================  =====  ==============================

`circuit` has ``evaluate``, ``value_and_grad``, ``vjp`` and ``hvp`` of what `deltajit.Circuit` has
traced.

`mlp.sweeps`, `mlp.derivatives` and `mlp.training` say more, `mlp.entry` what is checked.
`deltajit.reference` has the same in NumPy.

Floors, each importing only from those before it:

==================  ================================================================================
``compiler``        a kernel is compiled once for each dtype, kept on disk (`cache`), and called by
                    its address; `abi` says how arguments are passed, `backend` has Numba's
                    private parts, `status` what a kernel says of wrong arguments,
                    `python` calls of Python from jitted code; `levels` says for which CPUs,
                    `shipped` reads what comes with a wheel, which `ship` makes
``simd``            vector registers, views of buffers, elementary functions and their check
``blocks``          every block size and choice among kernels, with its reason
``gemm``            the register tile, products by panels, shallow and narrow ones, threads
``mlp``             records (activations, losses, optimizers), the three layer kernels, sweeps,
                    tangents, training, ensembles
``circuit``         records of operations, runs of them, the interpreter
==================  ================================================================================

From ``value_and_grad(model, ...)`` to the multiply-adds: the jitted face calls one kernel that
checks (`mlp.sweeps`), which goes by blocks through `forward` and `backward`; these take each layer
(`mlp.layers`), a layer its product (`gemm.product`), and that its tile (`gemm.tile`).
"""

from . import circuit
from .compiler import kernel
from .mlp.activations import ACTIVATIONS
from .mlp.derivatives import (
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
from .mlp.dropout import Dropout
from .mlp.handle import from_handle
from .mlp.inputs import input_hessian, input_jvp, input_vjp
from .mlp.jets import jets, jets_size, jets_vjp
from .mlp.layers import (
    accumulate_gradient,
    function_of,
    linear_activation_forward,
    propagate_delta,
)
from .mlp.losses import LOSSES
from .mlp.model import Model, points_size, workspace_size
from .mlp.optimizers import OPTIMIZERS
from .mlp.rollout import rollout, rollout_grad, rollout_size
from .mlp.rules import Rule, update
from .mlp.sampling import predict_with_dropout
from .mlp.simulation import Step
from .mlp.special import specialize
from .mlp.sweeps import loss, predict, value_and_grad
from .mlp.training import adam_step, fit_epoch, sgd_step

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "OPTIMIZERS",
    "Dropout",
    "Model",
    "Rule",
    "Step",
    "accumulate_gradient",
    "adam_step",
    "circuit",
    "fit_epoch",
    "from_handle",
    "function_of",
    "gnvp",
    "gnvp_at",
    "hvp",
    "hvp_at",
    "input_grad",
    "input_hessian",
    "input_jvp",
    "input_vjp",
    "jacobian",
    "jets",
    "jets_size",
    "jets_vjp",
    "jvp",
    "jvp_at",
    "kernel",
    "linear_activation_forward",
    "linearize",
    "loss",
    "parameter_jacobian",
    "per_sample_grads",
    "points_size",
    "predict",
    "predict_with_dropout",
    "propagate_delta",
    "rollout",
    "rollout_grad",
    "rollout_size",
    "sgd_step",
    "specialize",
    "update",
    "value_and_grad",
    "vjp",
    "vjp_at",
    "workspace_size",
]
