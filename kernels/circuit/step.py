"""A circuit as a step of a simulation: of a state and a control, to the next state and the cost.

Its kernels are those of any step (`mlp.simulation`); which circuit it is they find at an address.
"""

from ..abi import Matrix, Vector, Word
from ..compiler import kernel
from .interpreter import evaluate_all, vjp_all
from .loss import program_at


@kernel(name="advance.circuit")
def advance_circuit(X: Matrix, out: Matrix, context: Word, spare: Vector):
    """Compute `mlp.simulation.advance` of a circuit."""
    evaluate_all(program_at(context, X), X, out, spare)


@kernel(name="pull.circuit")
def pull_circuit(X: Matrix, u: Matrix, out: Matrix, context: Word, spare: Vector):
    """Compute `mlp.simulation.pull` of a circuit."""
    vjp_all(program_at(context, X), X, u, out, spare)
