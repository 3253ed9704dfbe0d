"""Entries for callers in Python who have checked their arguments, and to whom a call counts.

Each takes what the kernel does between version and results: a `Model` and a workspace among it.
"""

from functools import cache

from ..fastcall import Entry
from .sweeps import _loss, _predict, _value_and_grad
from .training import _fit_epoch

ENTRIES = {
    "predict": Entry(_predict, 0),  # (model, X, out, work)
    "loss": Entry(_loss, 1),  # (model, X, Y, weights, work)
    "value_and_grad": Entry(_value_and_grad, 1),  # (model, X, Y, weights, grad, work)
    # (model, (X, Y, weights), order, batch_size, rule, grad, work, dropout)
    "fit_epoch": Entry(_fit_epoch, 2),
}


class Calls:
    """The functions of `ENTRIES` for one dtype, each made when it is first asked for."""

    def __init__(self, dtype):
        self._dtype = dtype

    def __getattr__(self, name):
        if name not in ENTRIES:
            raise AttributeError(name)
        function = self.__dict__[name] = ENTRIES[name].unchecked(self._dtype)
        return function


@cache
def calls_for(dtype):
    """Return the `Calls` for a NumPy dtype."""
    return Calls(dtype)
