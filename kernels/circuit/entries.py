"""Entries of circuits for callers in Python who have checked their arguments."""

from ..fastcall import Entry, entries
from .interpreter import _evaluate, _hvp, _value_and_grad

# Each takes (program, X, what is written, work).
calls_for = entries(
    evaluate=Entry(_evaluate, 0),
    value_and_grad=Entry(_value_and_grad, 0),
    hvp=Entry(_hvp, 0),
)
