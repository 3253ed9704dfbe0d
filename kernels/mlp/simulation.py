"""One step of a simulation, as `rollout` takes it: a function of rows, and its adjoint.

A point x is a state s and the control u that the network gives there, side by side; a step makes of
it the next state and what it costs, side by side too:

    (s', cost) = f(s, u)

Its kernels are those of any function: of a user's own that Numba has compiled, which are here, or
of a circuit (`circuit.step`).
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from ..abi import Matrix, Vector, Word
from ..compiler import kernel, prototype
from ..simd.views import row, vector_at

N_FUNCTIONS = 2  # in the table of a user's step: the step itself, and its adjoint
AHEAD, BACK = range(N_FUNCTIONS)


class Step(NamedTuple):
    """Hold a step of a simulation as the kernels take it; `dynamics.step` is one.

    It consists of addresses in this process, so it can't be pickled, nor be a constant of cached
    code; and it is valid as long as the `Dynamics` lives.

    Attributes
    ----------
    advance, pull : int
        Slots of its kernels.
    context : int
        Address of what they work with.
    n_state, n_control : int
        Numbers of a state, and of the network's outputs.
    spare : int
        How many floats of scratch memory they need.
    itemsize : int
        Bytes of a float.
    """

    advance: Word
    pull: Word
    context: Word
    n_state: Word
    n_control: Word
    spare: Word
    itemsize: Word

    def __reduce__(self):
        """Refuse: there is nothing at these addresses in another process."""
        raise TypeError("a step holds addresses of this process, so it can't be pickled or copied")


@prototype
def advance(X: Matrix, out: Matrix, context: Word, spare: Vector):
    """Compute a step of each row: X (B, n_state + n_control), out (B, n_state + 1)."""


@prototype
def pull(X: Matrix, u: Matrix, out: Matrix, context: Word, spare: Vector):
    """Compute the gradient of ``sum(u * step(X))`` with respect to X, into `out`.

    u (B, n_state + 1), whose last column, of the cost, is 1.
    """


def lower_call(context, builder, signature, args):
    """Return the IR of a call of the C function at an address, with pointers to arrays."""
    pointers = [
        make_array(kind)(context, builder, value).data
        for kind, value in zip(signature.args[1:], args[1:], strict=True)
    ]
    kind = ir.FunctionType(ir.VoidType(), [pointer.type for pointer in pointers])
    builder.call(builder.inttoptr(args[0], kind.as_pointer()), pointers)
    return context.get_dummy_value()


@intrinsic
def call_ahead(typingctx, address, x, out):
    """Call the C function at an address with pointers to a row, and to the one it makes of it."""
    return types.none(types.int64, x, out), lower_call


@intrinsic
def call_back(typingctx, address, x, u, out):
    """Call the C function at an address with pointers to a row, its cotangent, and the gradient."""
    return types.none(types.int64, x, u, out), lower_call


@kernel(name="advance.own")
def advance_own(X: Matrix, out: Matrix, context: Word, spare: Vector):
    """Compute `advance` by the first function of the table at `context`, row by row."""
    functions = vector_at(context, N_FUNCTIONS, np.int64(0))
    for b in range(X.shape[0]):
        call_ahead(functions[AHEAD], row(X, b), row(out, b))


@kernel(name="pull.own")
def pull_own(X: Matrix, u: Matrix, out: Matrix, context: Word, spare: Vector):
    """Compute `pull` by the second function of the table at `context`, row by row."""
    functions = vector_at(context, N_FUNCTIONS, np.int64(0))
    for b in range(X.shape[0]):
        call_back(functions[BACK], row(X, b), row(u, b), row(out, b))
