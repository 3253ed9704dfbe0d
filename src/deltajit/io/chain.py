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
    is_layer : bool
        Whether weights are those of a layer, rather than chosen inputs.
    """

    layers: tuple[Layer, ...]
    scale: Array
    shift: Array
    is_layer: bool = False

    @classmethod
    def of_inputs(cls, n: int) -> Chain:
        """Return the chain that changes nothing."""
        return cls((), np.ones(n), np.zeros(n))

    def affine(self, factor: Array | float, term: Array | float) -> Chain:
        """Multiply each feature by a factor, and add a term."""
        factors, terms = (np.broadcast_to(x, self.shift.shape) for x in (factor, term))
        scale = factors[:, None] * self.scale if self.scale.ndim == 2 else factors * self.scale
        return self._replace(scale=scale, shift=factors * self.shift + terms)

    def linear(self, W: Array) -> Chain:
        """Multiply by weights (n_out, n)."""
        self.check_inner()
        if self.is_layer:
            return self.activated("identity").linear(W)
        scale = W @ self.scale if self.scale.ndim == 2 else W * self.scale
        return Chain(self.layers, scale, W @ self.shift, True)

    def activated(self, name: str) -> Chain:
        """Apply an activation."""
        self.check_inner()
        layer = Layer(self.matrix, self.shift, name)
        n = len(self.shift)
        return Chain((*self.layers, layer), np.ones(n), np.zeros(n))

    def check_inner(self) -> None:
        """Raise FormatError if the last layer must be the last."""
        if self.layers and not _is_of_units(self.layers[-1]):
            raise FormatError(f"{self.layers[-1].activation} can only come last")

    def chosen(self, index: Array) -> Chain:
        """Keep the features of an index."""
        if self.scale.ndim == 1 and self.layers and _is_of_units(self.layers[-1]):
            *others, (W, b, name) = self.layers
            last = Layer(W[index], b[index], name)
            return Chain((*others, last), self.scale[index], self.shift[index])
        if self.scale.ndim == 2:
            return self._replace(scale=self.scale[index], shift=self.shift[index])
        scale = np.zeros((len(index), len(self.scale)))
        scale[np.arange(len(index)), index] = self.scale[index]
        return Chain(self.layers, scale, self.shift[index])

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
        if self.layers and _is_plain(self) and self.layers[-1].activation in output_activations():
            return self.layers
        return self.activated("identity").layers


def joined(chains: Sequence[Chain]) -> Chain:
    """Put features of several chains side by side, which differ behind their last layer alone.

    Two forms are outputs by themselves: means beside exp of logarithms of variances, and the
    probabilities 1 - p and p of two classes, which are softmax of the logits 0 and z.
    """
    first, last = chains[0], chains[-1]
    if len(chains) == 2 and last.layers and _is_plain(last) and last.layers[-1].activation == "exp":
        logarithms = Chain(last.layers[:-1], *last.layers[-1][:2], True)
        if _alike(first.layers, logarithms.layers) and len(first.shift) == len(last.shift):
            return joined([first, logarithms]).activated("gaussian")
    if not all(_alike(first.layers, other.layers) for other in chains):
        raise FormatError("what it puts together does not come from the same layer")
    scale, shift = np.vstack([x.matrix for x in chains]), np.hstack([x.shift for x in chains])
    if first.layers and first.layers[-1].activation == "sigmoid":
        W, b, _ = first.layers[-1]
        if scale.tolist() == [[-1], [1]] and shift.tolist() == [1, 0]:
            logits = Chain(first.layers[:-1], np.vstack([0 * W, W]), np.hstack([0, b]), True)
            return logits.activated("softmax")
    return Chain(first.layers, scale, shift, True)


def _is_of_units(layer: Layer) -> bool:
    """Return whether each output of a layer depends on its own z alone."""
    return layer.activation in hidden_activations()


def _is_plain(chain: Chain) -> bool:
    """Return whether nothing follows a chain's last activation."""
    return chain.scale.ndim == 1 and bool(np.all(chain.scale == 1)) and not chain.shift.any()


def _alike(these: tuple[Layer, ...], those: tuple[Layer, ...]) -> bool:
    """Return whether layers are the same."""
    return len(these) == len(those) and all(
        x.activation == y.activation and np.array_equal(x.W, y.W) and np.array_equal(x.b, y.b)
        for x, y in zip(these, those, strict=True)
    )
