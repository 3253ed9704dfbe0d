"""Entries for callers in Python who have checked their arguments: nothing is compiled for a call.

Each takes what the kernel does between version and results: a `Model` and a workspace among it.
"""

from ..fastcall import Entry, entries
from .derivatives import _jacobian, _jvp, _linearize, _product, _sample_gradients, _vjp
from .inputs import _input_hessian, _input_jvp, _input_vjp
from .jets import _jets, _jets_vjp
from .rollout import _rollout, _rollout_grad
from .rules import _update
from .sampling import _predict_with_dropout
from .shuffle import _shuffle
from .sweeps import _loss, _predict, _value_and_grad
from .training import _fit_epoch

FIT_EPOCH, SHUFFLE = Entry(_fit_epoch, 2), Entry(_shuffle, 0)

calls_for = entries(
    predict=Entry(_predict, 0),
    predict_with_dropout=Entry(_predict_with_dropout, 0),
    loss=Entry(_loss, 1),
    value_and_grad=Entry(_value_and_grad, 1),
    update=Entry(_update, 0),
    linearize=Entry(_linearize, 1),
    product=Entry(_product, 0),  # the last argument: EXACT or GAUSS_NEWTON
    jvp=Entry(_jvp, 0),
    vjp=Entry(_vjp, 0),
    sample_gradients=Entry(_sample_gradients, 0),  # the last argument: BY_THETA or BY_INPUTS
    jacobian=Entry(_jacobian, 0),  # likewise
    input_jvp=Entry(_input_jvp, 0),
    input_vjp=Entry(_input_vjp, 0),
    input_hessian=Entry(_input_hessian, 0),
    jets=Entry(_jets, 0),
    jets_vjp=Entry(_jets_vjp, 0),
    rollout=Entry(_rollout, 1),
    rollout_grad=Entry(_rollout_grad, 1),
)
