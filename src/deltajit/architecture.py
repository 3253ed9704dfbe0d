"""A network's description: what it is made of, without its parameters."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltajit import checks, graphs, kernels
from deltajit.kernels import ACTIVATIONS, LOSSES
from deltajit.kernels.activations import GELU
from deltajit.kernels.model import N_COLUMNS, VERSION
from deltajit.kernels.parallel import available
from deltajit.own import CIRCUITS, register_circuit, unknown

# Parameters at most: the numbers of bytes that follow from so many are int64.
MOST_PARAMS = 2**40


def is_of_z(name: str) -> bool:
    """Whether an activation's derivative needs z, which is kept of hidden layers, beside a."""
    return bool(ACTIVATIONS[name] >= GELU)


# Outputs and losses that belong together: delta[L] = a[L] - Y.
LOSS_OF_OUTPUT = {
    "softmax": "cross_entropy",
    "sigmoid": "binary_cross_entropy",
    "exp": "poisson",
    "gaussian": "gaussian_nll",
}
OUTPUT_OF_LOSS = {loss: output for output, loss in LOSS_OF_OUTPUT.items()}


@dataclass(frozen=True)
class Architecture:
    """Sizes, activations and loss of a network, checked when it is made.

    Files hold every field. One that is added is also an argument of `checked`, by the same name,
    and has a default there: it is what older files, which lack the field, are loaded with.

    Attributes
    ----------
    sizes : tuple of int
        Inputs, hidden layers, outputs.
    activations : tuple of str
        One name a layer, the output's last.
    loss : str
    l2, l1 : float
        Penalty ``l2/2 * sum(W**2) + l1 * sum(|W|)``.
    slope : float
        Slope of leaky_relu below 0.
    threshold : float
        Size of a residual from which on huber's loss is linear.
    quantile : float
        That the loss of this name asks for.
    dtype : numpy.dtype
        float32 or float64.
    """

    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    loss: str
    l2: float
    slope: float
    dtype: np.dtype[Any]
    l1: float = 0.0
    threshold: float = 1.0
    quantile: float = 0.5

    @classmethod
    def checked(
        cls,
        sizes: object,
        activation: object,
        output: object,
        loss: object,
        l2: object,
        slope: object,
        dtype: object,
        l1: object = 0.0,
        threshold: object = 1.0,
        quantile: object = 0.5,
    ) -> Architecture:
        """From a user's arguments; raises ValueError or TypeError naming the wrong one."""
        units = checks.sizes(sizes)
        kind = checks.dtype(dtype)
        largest = float(np.finfo(kind).max)
        names = _hidden_names(activation, len(units) - 2)
        last, goal = _output_and_loss(output, loss, units[-1])
        checks.above_zero(threshold, "threshold")
        checks.above_zero(quantile, "quantile")
        checks.fraction(quantile, "quantile")
        return cls(
            sizes=units,
            activations=(*names, last),
            loss=goal,
            l2=checks.real(l2, "l2", least=0, most=largest),
            slope=checks.real(slope, "slope", least=0, most=largest),
            dtype=kind,
            l1=checks.real(l1, "l1", least=0, most=largest),
            threshold=checks.real(threshold, "threshold", most=largest),
            quantile=checks.real(quantile, "quantile"),
        )

    def __getstate__(self) -> dict[str, Any]:
        """The fields, and the circuit that the loss may be; the layer table is of this process."""
        named = {part.name: getattr(self, part.name) for part in fields(self)}
        return {**named, "circuit": self.circuit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        named = dict(state)
        circuit = named.pop("circuit", None)
        if circuit is not None:
            register_circuit(graphs.from_data(circuit))
        problem = unknown(named["activations"], named["loss"])
        if problem:
            raise ValueError(problem)
        vars(self).update(named, dtype=np.dtype(named["dtype"].type))  # always the same object

    @property
    def circuit(self) -> dict[str, Any] | None:
        """The graph of the circuit that is the loss, as plain data; None if it is another one."""
        return graphs.to_data(CIRCUITS[self.loss].graph) if self.loss in CIRCUITS else None

    def model(self, theta: NDArray[Any], threads: int = 1) -> kernels.Model:
        """The network on `theta` as the kernels take it, in this process alone.

        Codes of activations and losses of the user's own are addresses.
        """
        layers, loss = np.array(self.layers), LOSSES[self.loss]
        return kernels.Model(theta, layers, self.coef, loss, available(threads))

    @property
    def coef(self) -> NDArray[Any]:
        """The kernels' coefficients: see `deltajit.kernels.Model`."""
        return np.array([self.slope, self.l2, self.l1, self.bend], self.dtype)

    @property
    def bend(self) -> float:
        """Where the loss bends."""
        return self.quantile if self.loss == "quantile" else self.threshold

    @property
    def n_targets(self) -> int:
        """Columns of Y, unless it is labels: gaussian_nll has two outputs for each target."""
        if self.loss in CIRCUITS:
            return CIRCUITS[self.loss].graph.n_inputs - self.sizes[-1]
        return self.sizes[-1] // (2 if self.loss == "gaussian_nll" else 1)

    @cached_property
    def layers(self) -> NDArray[np.int64]:
        """The kernels' layer table: see `deltajit.kernels.Model`."""
        table = np.empty((len(self.sizes) - 1, N_COLUMNS), np.int64)
        kept = [
            n * (2 if is_of_z(f) else 1)
            for n, f in zip(self.sizes[1:], self.activations, strict=True)
        ]
        spare = CIRCUITS[self.loss].spare if self.loss in CIRCUITS else 0
        totals = sum(kept), max(self.sizes[1:]), self.n_targets, spare
        at = units = 0
        pairs = zip(self.sizes[:-1], self.sizes[1:], self.activations, strict=True)
        for row, own, (n_in, n_out, name) in zip(table, kept, pairs, strict=True):
            ends = at, at + n_in * n_out
            row[:] = VERSION, n_in, n_out, ACTIVATIONS[name], *ends, units, *totals
            at += (n_in + 1) * n_out
            units += own
        table.setflags(write=False)
        return table

    @property
    def n_params(self) -> int:
        """Number of weights and biases."""
        return sum((n_in + 1) * n_out for n_in, n_out in pairwise(self.sizes))

    def check_size(self) -> None:
        """Parameters are not too many for kernels; a file of so many is none."""
        if self.n_params > MOST_PARAMS:
            raise ValueError(
                f"sizes must make at most {MOST_PARAMS:,} parameters, got "
                f"{reprlib.repr(self.sizes)}"
            )

    def unflatten(
        self, flat: NDArray[Any]
    ) -> tuple[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...]]:
        """Views (W tuple, b tuple) of a vector like theta; W[l] is (n_l, n_{l-1})."""
        weights, biases = [], []
        for _, n_in, n_out, _, w_at, b_at, *_ in self.layers.tolist():
            weights.append(flat[w_at:b_at].reshape(n_in, n_out).T)
            biases.append(flat[b_at : b_at + n_out])
        return tuple(weights), tuple(biases)


def _hidden() -> list[str]:
    """Activations that hidden layers may have, the user's own among them."""
    return [name for name in ACTIVATIONS if name not in ("softmax", "gaussian")]


def _hidden_names(activation: object, n_hidden: int) -> tuple[str, ...]:
    if isinstance(activation, str):
        return (checks.choice(activation, "activation", _hidden()),) * n_hidden
    if not isinstance(activation, (list, tuple)):
        raise TypeError(
            f"activation must be a name, or a list of one name per hidden layer; got {activation!r}"
        )
    if len(activation) != n_hidden:
        raise ValueError(
            f"activation must name {n_hidden} hidden layers (sizes has {n_hidden + 2} entries), "
            f"got {len(activation)}: {list(activation)}"
        )
    return tuple(
        checks.choice(name, f"activation[{i}]", _hidden()) for i, name in enumerate(activation)
    )


def _output_and_loss(output: object, loss: object, n_out: int) -> tuple[str, str]:
    """Both names, with "auto" replaced by the other's partner."""
    last = checks.choice(
        output, "output", ["auto", *(name for name in ACTIVATIONS if not is_of_z(name))]
    )
    goal = checks.choice(loss, "loss", ["auto", *LOSSES])
    if last == "auto":
        last = OUTPUT_OF_LOSS.get(goal, "identity")
    if goal == "auto":
        goal = LOSS_OF_OUTPUT.get(last, "squared_error")
    if goal in CIRCUITS and CIRCUITS[goal].graph.n_inputs <= n_out:
        raise ValueError(
            "loss must be a circuit of the outputs, then of at least one target: more inputs than "
            f"the {n_out} outputs, got {CIRCUITS[goal].graph.n_inputs}"
        )
    partner = OUTPUT_OF_LOSS.get(goal, last)
    if last != partner:
        raise ValueError(f"loss={goal!r} needs output={partner!r}, got output={last!r}")
    if last == "gaussian" and (goal != "gaussian_nll" or n_out % 2):
        raise ValueError(
            "output='gaussian' needs loss='gaussian_nll', and two outputs for each target, first "
            f"all means, then all variances; got loss={goal!r}, {n_out} outputs"
        )
    if last == "softmax" and n_out < 2:
        raise ValueError(
            "output='softmax' needs at least 2 outputs, got 1, which would always be 1.0; "
            "for two classes in one output use output='sigmoid', loss='binary_cross_entropy'"
        )
    return last, goal
