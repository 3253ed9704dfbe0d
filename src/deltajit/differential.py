"""Losses of a network's derivatives with respect to its inputs: for differential equations."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from deltajit.circuit import Circuit
from deltajit.derivatives import by_inputs
from deltajit.kernels import Model
from deltajit.kernels.circuit.entries import calls_for
from deltajit.model import checks
from deltajit.model.memory import Array
from deltajit.network import Network


class DifferentialLoss:
    """Compute the mean over points of a function of u, du/dx and d2u/dx2, and its theta-gradient.

    u is what a network predicts at x. The function is a circuit: of the outputs u, of their first
    derivatives along each of D directions, of second ones, and of the inputs x. The number of its
    arguments says which second derivatives it takes: ``n_out * (1 + 2 D) + n_in`` arguments are
    those along each direction, ``n_out * (2 + D) + n_in`` their sum (along the axes the Laplacian),
    ``n_out * (1 + D) + n_in`` none. Penalties of the network are not part of it.

    Parameters
    ----------
    circuit : Circuit
        Function with one output, such as ``(u_t - u_xx)**2``, of the network's dtype.
    directions : array_like, (D, n_in), optional
        Directions of the derivatives; by default the axes. Mixed derivatives are differences of
        those along sums of axes: ``u_xy = (u_(x+y)(x+y) - u_xx - u_yy) / 2``.

    Raises
    ------
    TypeError
        circuit is none.
    ValueError
        circuit has more than one output.

    Examples
    --------
    >>> import deltajit as dj
    >>> heat = dj.Circuit(lambda u, u_x, u_t, u_xx, u_tt, x, t: (u_t - u_xx) ** 2, 7)
    >>> net = dj.Network([2, 8, 1], dtype="float64")
    >>> value, grad = dj.DifferentialLoss(heat).value_and_grad(net, [[0.1, 0.2], [0.3, 0.4]])
    >>> grad.shape == net.theta.shape
    True
    """

    __slots__ = ("circuit", "directions")

    def __init__(self, circuit: Circuit, directions: ArrayLike | None = None) -> None:
        if not isinstance(circuit, Circuit):
            raise TypeError(f"circuit must be a deltajit.Circuit, got {circuit!r}")
        if circuit.n_outputs != 1:
            raise ValueError(f"circuit must have one output, got {circuit!r}")
        self.circuit, self.directions = circuit, directions

    def value(self, net: Network, X: ArrayLike, *, theta: ArrayLike | None = None) -> float:
        """Compute the mean of the function.

        Parameters
        ----------
        net : Network
            The network.
        X : array_like, (B, n_in)
            Points.
        theta : array_like, (n_params,), optional
            Parameters in place of the network's, which stay as they are.

        Returns
        -------
        float
            The mean.

        Raises
        ------
        ValueError, TypeError
            net does not fit the circuit, X does not hold points of its inputs, or theta is of
            another shape.
        """
        _, points, _, jets = self._at(net, X, theta)
        return float(np.mean(self.circuit(self._arguments(points, jets))))

    def value_and_grad(
        self, net: Network, X: ArrayLike, *, theta: ArrayLike | None = None
    ) -> tuple[float, Array]:
        """Compute the mean of the function, and its gradient with respect to theta.

        Parameters
        ----------
        net : Network
            The network, of activations that have a third derivative: all but softmax, gaussian and
            those of one's own.
        X : array_like, (B, n_in)
            Points.
        theta : array_like, (n_params,), optional
            Parameters in place of the network's, which stay as they are.

        Returns
        -------
        value : float
            The mean.
        grad : ndarray, (n_params,)
            Its gradient, laid out like theta.

        Raises
        ------
        ValueError, TypeError
            net does not fit the circuit, X does not hold points of its inputs, or theta is of
            another shape.
        """
        model, points, directions, jets = self._at(net, X, theta)
        values, slopes = self._value_and_slopes(self._arguments(points, jets))
        u = np.ascontiguousarray(slopes[:, : jets[0].size] / len(points)).reshape(jets.shape)
        return float(np.mean(values)), by_inputs.jets_vjp(model, points, directions, u)

    def _value_and_slopes(self, arguments: Array) -> tuple[Array, Array]:
        circuit = self.circuit
        values = np.empty((len(arguments), 1), circuit.dtype)
        slopes = np.empty((len(arguments), 1, circuit.n_inputs), circuit.dtype)
        work = circuit.workspace(len(arguments))
        calls_for(circuit.dtype).value_and_grad(circuit.program, arguments, values, slopes, work)
        return values, slopes[:, 0]

    def _at(
        self, net: Network, X: ArrayLike, theta: ArrayLike | None
    ) -> tuple[Model, Array, Array, Array]:
        """Return the model, checked points, directions, and the network's jets there."""
        if not isinstance(net, Network):
            raise TypeError(f"net must be a Network, got {net!r}")
        if net.dtype != self.circuit.dtype:
            raise ValueError(
                f"net must be of the circuit's dtype {self.circuit.dtype}, got {net.dtype}"
            )
        model = checks.model_at(net.model, theta)
        directions = by_inputs.axes_or(self.directions, model)
        points, _ = checks.matrix(X, "X", net.sizes[0], net.dtype)
        checks.not_empty(points, "X")
        rows = self._rows(net, len(directions))
        return model, points, directions, by_inputs.jets(model, points, directions, rows)

    def _rows(self, net: Network, D: int) -> int:
        """Return how many derivatives of each output the circuit takes, with the output itself."""
        n_in, n_out = net.sizes[0], net.sizes[-1]
        counts = {n_out * rows + n_in: rows for rows in (1 + D, 2 + D, 1 + 2 * D)}
        if self.circuit.n_inputs not in counts:
            raise ValueError(
                f"circuit must take {' or '.join(map(str, counts))} arguments of {net!r} with {D} "
                f"directions, got {self.circuit!r}"
            )
        return counts[self.circuit.n_inputs]

    @staticmethod
    def _arguments(points: Array, jets: Array) -> Array:
        return np.concatenate([jets.reshape(len(points), -1), points], axis=1)
