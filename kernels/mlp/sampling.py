"""Predictions with hidden units left out at random: samples of what a network might say."""

from ..abi import Matrix, OutMatrix, OutVector, Word
from ..compiler import kernel, njit
from ..status import OK, VERSION, refuse
from .dropout import Dropout, next_block
from .entry import check_inputs, check_matrix, check_work
from .model import Model, block_size, carve
from .sweeps import blocks, forward, logits, rows_of
from .training import check_dropout


@njit
def predict_with_dropout(
    model: Model, X: Matrix, out: OutMatrix, work: OutVector, dropout: Dropout
) -> None:
    """Compute the outputs of a network whose hidden units are left out as in training.

    Each call leaves out others, and each sample has its own: the outputs of many calls are Monte
    Carlo dropout. Units that stay are scaled up.

    Parameters
    ----------
    model : Model
        Parameters and layers, as `net.model`.
    X : array (B, n_in)
        Samples, of theta's dtype; one may be a vector (n_in,).
    out : array (B, n_out)
        Outputs, overwritten; of one sample a vector, if X is one.
    work : array
        Scratch memory: at least ``workspace_size(model, B)`` floats.
    dropout : Dropout
        Which hidden units to leave out; its seed advances with each block of samples.

    Raises
    ------
    ValueError
        If a shape does not fit, or `work` is too small.

    References
    ----------
    Gal & Ghahramani (2016), Dropout as a Bayesian approximation, ICML 33.
    """
    refuse(_predict_with_dropout(VERSION, model, X, out, work, dropout))


@kernel
def _predict_with_dropout(
    version: Word, model: Model, X: Matrix, out: OutMatrix, work: OutVector, dropout: Dropout
) -> Word:
    batch = X.shape[0]
    status = (
        check_inputs(version, model, X)
        or check_matrix(out, batch, model.network[0].n_out)
        or check_work(model, work, batch, 1)
        or check_dropout(model, dropout)
    )
    if status == OK:
        for here in blocks(batch, block_size(batch)):
            parts = carve(model.network[0], work, here.m)
            y = rows_of(out, here)
            z = logits(model, parts, y, model.layers.size > 1)
            forward(model, rows_of(X, here), parts.a, z, y, dropout)
            if dropout.keep.size > 0:
                next_block(dropout)
    return status
