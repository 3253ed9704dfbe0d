"""What a network computes, put together operation by operation as a file is read.

Affine maps of single features, such as a normalization, are folded into the linear layer before or
behind them, in float64. Where an activation has no linear layer in front of it, it gets a diagonal
one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deltajit.io.files import FormatError
from deltajit.model.architecture import hidden_activations, output_activations
from deltajit.model.memory import Array

LARGEST_DIAGONAL = 1024  # units of a diagonal layer, whose zeros no file holds


class Layer(NamedTuple):
    """One layer: W (n_out, n_in) and b (n_out,) in float64, and the name of its activation."""

    W: Array
    b: Array
    activation: str


class Chain(NamedTuple):
    """Layers, and the affine map behind them that no activation follows yet.

    Attributes
    ----------
    layers : tuple of Layer
        Finished layers.
    scale : ndarray
        Weights (n, n_before) of a linear layer, or factors (n,) of each feature.
    shift : ndarray, (n,)
        What is added.
    """

    layers: tuple[Layer, ...]
    scale: Array
    shift: Array

    @classmethod
    def of_inputs(cls, n: int) -> Chain:
        """Return the chain that changes nothing."""
        return cls((), np.ones(n), np.zeros(n))

    def affine(self, factor: Array | float, term: Array | float) -> Chain:
        """Multiply each feature by a factor, and add a term."""
        factors = np.broadcast_to(factor, self.shift.shape)
        scale = factors[:, None] * self.scale if self.scale.ndim == 2 else factors * self.scale
        return Chain(self.layers, scale, factors * self.shift + term)

    def linear(self, W: Array) -> Chain:
        """Multiply by weights (n_out, n)."""
        if self.scale.ndim == 2:
            return self.activated("identity").linear(W)
        return Chain(self.layers, W * self.scale, W @ self.shift)

    def activated(self, name: str) -> Chain:
        """Apply an activation."""
        if self.layers and self.layers[-1].activation not in hidden_activations():
            raise FormatError(f"{self.layers[-1].activation} can only come last")
        layer = Layer(self.matrix, self.shift, name)
        n = len(self.shift)
        return Chain((*self.layers, layer), np.ones(n), np.zeros(n))

    def chosen(self, index: Array) -> Chain:
        """Keep the features of an index."""
        if self.scale.ndim == 1 and self.layers and _is_of_units(self.layers[-1]):
            *others, (W, b, name) = self.layers
            last = Layer(W[index], b[index], name)
            return Chain((*others, last), self.scale[index], self.shift[index])
        return Chain(self.layers, self.matrix[index], self.shift[index])

    @property
    def matrix(self) -> Array:
        """Return `scale` as weights (n, n_before)."""
        if self.scale.ndim == 1 and len(self.scale) > LARGEST_DIAGONAL:
            raise FormatError(
                f"a diagonal layer may have {LARGEST_DIAGONAL:,} units, not {len(self.scale):,}"
            )
        return self.scale if self.scale.ndim == 2 else np.diag(self.scale)

    def finished(self) -> tuple[Layer, ...]:
        """Return all layers; the last has an activation that outputs may have."""
        is_unchanged = self.scale.ndim == 1 and np.all(self.scale == 1) and not self.shift.any()
        if is_unchanged and self.layers and self.layers[-1].activation in output_activations():
            return self.layers
        return self.activated("identity").layers


def joined(chains: Sequence[Chain]) -> Chain:
    """Put features of several chains side by side, which differ behind their last layer alone.

    Two forms are outputs by themselves: means beside exp of logarithms of variances, and the
    probabilities 1 - p and p of two classes, which are softmax of the logits 0 and z.
    """
    first, *others = chains
    if all(_alike(first.layers, other.layers) for other in others):
        scale, shift = np.vstack([x.matrix for x in chains]), np.hstack([x.shift for x in chains])
        last = first.layers[-1] if first.layers else None
        if last and last.activation == "sigmoid" and scale.tolist() == [[-1], [1]]:
            logits = Layer(np.vstack([0 * last.W, last.W]), np.hstack([0, last.b]), "softmax")
            if shift.tolist() == [1, 0]:
                return Chain((*first.layers[:-1], logits), np.ones(2), np.zeros(2))
        return Chain(first.layers, scale, shift)
    means, variances = first, others[-1]
    if len(chains) == 2 and len(means.shift) == len(variances.shift) and variances.layers:
        *trunk, (W, b, name) = variances.layers
        if name == "exp" and np.all(variances.scale == 1) and not variances.shift.any():
            if _alike(means.layers, tuple(trunk)) and means.scale.ndim == 2:
                logarithms = Chain(tuple(trunk), W, b)
                return joined([means, logarithms]).activated("gaussian")
    raise FormatError("what it puts together does not come from the same layer")


def _is_of_units(layer: Layer) -> bool:
    """Return whether each output of a layer depends on its own z alone."""
    return layer.activation in hidden_activations()


def _alike(these: tuple[Layer, ...], those: tuple[Layer, ...]) -> bool:
    """Return whether layers are the same."""
    return len(these) == len(those) and all(
        x is y or (x.activation == y.activation and np.array_equal(x.W, y.W))
        and np.array_equal(x.b, y.b)
        for x, y in zip(these, those, strict=True)
    )  # fmt: skip
