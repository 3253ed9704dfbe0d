"""Define `Architecture`, a network without its parameters."""

from __future__ import annotations

import re
import reprlib
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from deltajit import kernels
from deltajit.circuits import graphs
from deltajit.kernels import ACTIVATIONS, LOSSES
from deltajit.kernels.gemm.parallel import available
from deltajit.kernels.mlp.model import layer_table, network_record
from deltajit.model import checks, custom
from deltajit.model.custom import CIRCUITS, register_circuit, unknown
from deltajit.model.memory import Array, DType

T = TypeVar("T")

# Parameters of a network, at most: their bytes, and those of scratch memory, fit into an int64.
MOST_PARAMS = 2**40


def loss_of_output(output: str) -> str:
    """Return the loss that belongs to an output, with which delta[L] = a[L] - Y (BP1)."""
    return next((x.name for x in LOSSES.values() if x.output == output), "squared_error")


@dataclass(frozen=True)
class Architecture:
    """Describe a network without its parameters: sizes, activations and loss.

    Files hold every field. A new field needs a default here and, by the same name, in `checked`:
    older files, which lack it, are loaded with that.

    Attributes
    ----------
    sizes : tuple of int
        Number of units of each layer: inputs, hidden layers, outputs.
    activations : tuple of str
        Activation of each layer, the output's last.
    loss : str
        Loss of one sample.
    l2, l1 : float
        Penalty ``l2/2 * sum(W**2) + l1 * sum(|W|)``.
    slope : float
        Slope of leaky_relu below 0.
    dtype : numpy.dtype
        Type of theta, float32 or float64.
    threshold : float
        Size of a residual above which the loss "huber" is linear.
    quantile : float
        Quantile that the loss "quantile" estimates.
    class_names : tuple of str, or None
        Names of the classes, for pictures and files.
    gamma : float
        Exponent of the focal losses.
    input_names : tuple of str, or None
        Names of the inputs, likewise.
    """

    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    loss: str
    l2: float
    slope: float
    dtype: DType
    l1: float = 0.0
    threshold: float = 1.0
    quantile: float = 0.5
    class_names: tuple[str, ...] | None = None
    gamma: float = 2.0
    input_names: tuple[str, ...] | None = None

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
        class_names: object = None,
        gamma: object = 2.0,
        input_names: object = None,
    ) -> Architecture:
        """Check a user's arguments; raise ValueError or TypeError that names the wrong one."""
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
            class_names=checks.names(class_names, "class_names", max(2, units[-1])),
            gamma=checks.real(gamma, "gamma", least=0, most=largest),
            input_names=checks.names(input_names, "input_names", units[0]),
        )

    def __getstate__(self) -> dict[str, object]:
        """Return the fields, and the circuit that the loss may be, but no address."""
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
        """Return the graph of the circuit that is the loss, as plain data; None if none is."""
        return graphs.to_data(CIRCUITS[self.loss].graph) if self.loss in CIRCUITS else None

    def model(self, theta: Array, threads: int = 1) -> kernels.Model:
        """Return the network on `theta` as the kernels take it, in this process alone."""
        network = network_record(
            self.layers,
            self.loss,
            self.dtype,
            parameter=self.bend,
            l2=self.l2,
            l1=self.l1,
            n_targets=self.n_targets,
            **custom.options(self.loss, self.dtype),
        )
        return kernels.Model(theta, network, self.layers, available(threads))

    @property
    def bend(self) -> float:
        """Return the parameter of the loss, such as the threshold at which huber's bends."""
        return float(getattr(self, LOSSES[self.loss].parameter or "threshold"))

    @cached_property
    def n_targets(self) -> int:
        """Return the number of columns of Y, unless it is labels; gaussian_nll has n_out / 2."""
        if self.loss in CIRCUITS:
            return CIRCUITS[self.loss].graph.n_inputs - self.sizes[-1]
        return self.sizes[-1] // int(LOSSES[self.loss].outputs_per_target)

    @cached_property
    def layers(self) -> Array:
        """Return the kernels' table of layers: see `deltajit.kernels.Model`."""
        table: Array = layer_table(self.sizes, self.activations, self.slope, self.dtype)
        table.setflags(write=False)
        return table

    @cached_property
    def targets(self) -> checks.TargetForm:
        """Return the form of the targets."""
        return checks.TargetForm(self.n_targets, self.loss, self.dtype)

    @cached_property
    def n_params(self) -> int:
        """Return the number of weights and biases."""
        return sum((n_in + 1) * n_out for n_in, n_out in pairwise(self.sizes))

    def check_size(self) -> None:
        """Check that the kernels can address all parameters; no file holds as many."""
        if self.n_params > MOST_PARAMS:
            raise ValueError(
                f"sizes must make at most {MOST_PARAMS:,} parameters, got "
                f"{reprlib.repr(self.sizes)}"
            )

    def unflatten(self, flat: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return views (W tuple, b tuple) of a vector like theta; W[l] is (n_l, n_{l-1}).

        Of vectors in an array (..., n_params) the views have its other axes in front.
        """
        weights, biases = [], []
        for layer in self.layers:
            n_in, n_out, b_at = (int(layer[name]) for name in ("n_in", "n_out", "b_at"))
            W = flat[..., layer["W_at"] : b_at].reshape(*flat.shape[:-1], n_in, n_out)
            weights.append(W.swapaxes(-1, -2))
            biases.append(flat[..., b_at : b_at + n_out])
        return tuple(weights), tuple(biases)

    def flatten(self, dW: Sequence[ArrayLike], db: Sequence[ArrayLike]) -> Array:
        """Join arrays of each layer into a new vector like theta: the inverse of `unflatten`."""
        flat = np.empty(self.n_params, self.dtype)
        for name, views, given in zip(("dW", "db"), self.unflatten(flat), (dW, db), strict=True):
            for view, value in zip(views, checks.layers(given, name, views), strict=True):
                view[...] = value
        return flat


def hidden_activations() -> list[str]:
    """Return the names of activations that hidden layers may have, custom ones too."""
    return [name for name, f in ACTIVATIONS.items() if not f.of_rows]


def output_activations() -> list[str]:
    """Return the names of activations that outputs may have: BP1 computes f' from a alone."""
    return [name for name, f in ACTIVATIONS.items() if not f.of_z]


def with_names(cls: type[T]) -> type[T]:
    """Replace {hidden}, {outputs} and {losses} in a class's docstring by the names there are."""
    losses = [f'"{x.name}"' for x in LOSSES.values() if x.output is None]
    losses += [f'"{x.name}" with {x.output}' for x in LOSSES.values() if x.output is not None]
    there = {
        "hidden": [f'"{name}"' for name in hidden_activations()],
        "outputs": [f'"{name}"' for name in output_activations()],
        "losses": losses,
    }

    def filled(place: re.Match[str]) -> str:
        indent, names = place[1], there[place[2]]
        return textwrap.fill(", ".join(names), 99, initial_indent=indent, subsequent_indent=indent)

    if cls.__doc__:  # None under python -OO
        cls.__doc__ = re.sub(r"( *)\{(hidden|outputs|losses)\}", filled, cls.__doc__)
    return cls


def _hidden_names(activation: object, n_hidden: int) -> tuple[str, ...]:
    if isinstance(activation, str):
        return (checks.choice(activation, "activation", hidden_activations()),) * n_hidden
    if not isinstance(activation, (list, tuple)):
        hint = "; dj.register_activation names a function" if callable(activation) else ""
        raise TypeError(
            "activation must be a name, or a list of one name per hidden layer; "
            f"got {activation!r}{hint}"
        )
    if len(activation) != n_hidden:
        raise ValueError(
            f"activation must name {n_hidden} hidden layers (sizes has {n_hidden + 2} entries), "
            f"got {len(activation)}: {list(activation)}"
        )
    return tuple(
        checks.choice(name, f"activation[{i}]", hidden_activations())
        for i, name in enumerate(activation)
    )


def _output_and_loss(output: object, loss: object, n_out: int) -> tuple[str, str]:
    """Check both names; replace "auto" by the other's partner."""
    last = checks.choice(output, "output", ["auto", *output_activations()])
    goal = checks.choice(loss, "loss", ["auto", *LOSSES])
    if last == "auto":
        last = (LOSSES[goal].output if goal in LOSSES else None) or "identity"
    if goal == "auto":
        goal = loss_of_output(last)
    if goal in CIRCUITS and CIRCUITS[goal].graph.n_inputs <= n_out:
        raise ValueError(
            "loss must be a circuit of the outputs, then of at least one target: more inputs than "
            f"the {n_out} outputs, got {CIRCUITS[goal].graph.n_inputs}"
        )
    partner = LOSSES[goal].output or last
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
