"""Elementary functions in the type of their argument (temporary: the C library's)."""

import math

from .compiler import njit


@njit
def exp(x):
    return math.exp(x)


@njit
def log(x):
    return math.log(x)


@njit
def log1p(x):
    return math.log1p(x)


@njit
def tanh(x):
    return math.tanh(x)


@njit
def sigmoid(x):
    one = type(x)(1)
    return one / (one + math.exp(-x))
