"""Show every number of one forward and one backward pass, as a lecture writes them."""

from __future__ import annotations

import html
from typing import Any, NamedTuple

import numpy as np

from deltajit import reference
from deltajit.plot import walk
from deltajit.reference import LOSSES

# Largest array that is printed whole; of larger ones only the ends are.
MOST_NUMBERS = 200


class Line(NamedTuple):
    """Hold one equation of the blackboard.

    Attributes
    ----------
    name : str
        Left side, such as ``z[1]``.
    equation : str
        Right side.
    numbers : float or ndarray
        Value of both sides.
    remark : str
        Which of the four equations it is, say; may be empty.
    """

    name: str
    equation: str
    numbers: Any
    remark: str = ""


class NetworkTrace(reference.Trace):
    """Hold and show the numbers of one forward and one backward pass.

    ``print`` shows them equation by equation, a notebook as a table, and `plot` in the network's
    graph. Layers are counted from 1 to L, as in the equations: ``a[0]`` is X, and element 0 of
    every other tuple is None. ``NetworkTrace(*reference.trace(...))`` shows the numbers of NumPy.

    Attributes
    ----------
    model : Model
        A copy of the network.
    Y : ndarray, (B, n_out)
        Targets; class labels as rows of 0 and 1.
    w : ndarray, (B,)
        Share of each sample in the loss; they sum to 1.
    W, b : tuple of ndarray, (n_l, n_{l-1}) and (n_l,)
        Weights and biases.
    z, a : tuple of ndarray, (B, n_l)
        ``z[l] = a[l-1] @ W[l].T + b[l]`` and ``a[l] = f(z[l])``.
    value : float
        The loss.
    slopes : tuple of ndarray, (B, n_l)
        ``f'(z[l])``; of softmax the Jacobian of each sample, (B, n_l, n_l).
    delta : tuple of ndarray, (B, n_l)
        ``dLoss/dz[l]``.
    dW, db : tuple of ndarray, (n_l, n_{l-1}) and (n_l,)
        ``dLoss/dW[l]``, with the penalty, and ``dLoss/db[l]``.
    """

    __slots__ = ()

    @property
    def equations(self) -> list[Line]:
        """Return all equations in the order of computation: forward, the loss, backward."""
        return [*self._forward(), *self._backward()]

    @property
    def bp1(self) -> str:
        """Return the right side of BP1, the equation of the output layer's delta."""
        L, loss = len(self.z) - 1, LOSSES[self.model.loss]
        factor = loss.text.replace("a", f"a[{L}]") if "Y" in loss.text else f"{loss.text}[{L}]"
        if self.cancels:
            return self._weighted(factor)
        return self._weighted(f"({factor})" if "Y" in factor else factor) + f" * f'(z[{L}])"

    def _forward(self) -> list[Line]:
        lines = [Line("a[0]", "X", self.a[0])]
        for i, name in enumerate(self.model.activations, 1):
            lines += [
                Line(f"W[{i}]", "weights", self.W[i]),
                Line(f"b[{i}]", "biases", self.b[i]),
                Line(f"z[{i}]", f"a[{i - 1}] @ W[{i}].T + b[{i}]", self.z[i]),
                Line(f"a[{i}]", f"{name}(z[{i}])", self.a[i]),
            ]
        mean = "sum of w * " if self._is_weighted else "mean " if len(self.w) > 1 else ""
        goal = f"{mean}{self.model.loss}(a[{len(self.z) - 1}], Y)"
        penalties = [f" + {self.model.l2:g}/2 * sum(W**2)"] * bool(self.model.l2)
        penalties += [f" + {self.model.l1:g} * sum(|W|)"] * bool(self.model.l1)
        share = [Line("w", "sample_weight / sum", self.w)] * self._is_weighted
        return [
            *lines,
            Line("Y", "targets", self.Y),
            *share,
            Line("Loss", goal + "".join(penalties), self.value),
        ]

    def _backward(self) -> list[Line]:
        L, lines = len(self.z) - 1, []
        if not self.cancels:
            lines += [self._slope_line(L)]
        pair = f"{self.model.activations[-1]} with {self.model.loss}"
        remark = f"f' cancels: {pair}" if self.cancels else ""
        lines += [Line(f"delta[{L}]", self.bp1, self.delta[L], f"BP1{remark and ', ' + remark}")]
        for i in range(L, 0, -1):
            if i < L:
                product = f"(delta[{i + 1}] @ W[{i + 1}]) * f'(z[{i}])"
                lines += [self._slope_line(i), Line(f"delta[{i}]", product, self.delta[i], "BP2")]
            penalty = f" + {self.model.l2:g} * W[{i}]" if self.model.l2 else ""
            penalty += f" + {self.model.l1:g} * sign(W[{i}])" if self.model.l1 else ""
            outer = f"delta[{i}].T @ a[{i - 1}]{penalty}"
            lines += [
                Line(f"dW[{i}]", outer, self.dW[i], "BP3"),
                Line(f"db[{i}]", f"delta[{i}].sum(axis=0)", self.db[i], "BP4"),
            ]
        return lines

    def _slope_line(self, i: int) -> Line:
        name = self.model.activations[i - 1]
        matrix = "a Jacobian each" if self.slopes[i].ndim == 3 else ""
        return Line(f"f'(z[{i}])", f"{name}'(z[{i}])", self.slopes[i], matrix)

    @property
    def _is_weighted(self) -> bool:
        return bool((self.w != self.w[0]).any())

    def _weighted(self, text: str) -> str:
        """Multiply a formula of one sample by its share in the loss."""
        if len(self.w) == 1:
            return text
        bracketed = f"({text})" if " " in text and text[0] != "(" else text
        return f"{bracketed} * w" if self._is_weighted else f"{bracketed} / {len(self.w)}"

    def __str__(self) -> str:
        sizes = "-".join(str(a.shape[1]) for a in self.a)
        many = f"{len(self.w)} sample{'s' * (len(self.w) > 1)}"
        lines = [f"{sizes}, {' -> '.join(self.model.activations)}, {self.model.loss}, {many}"]
        for title, part in (("forward", self._forward()), ("backward", self._backward())):
            lines += ["", title, "-" * len(title)]
            for name, equation, numbers, remark in part:
                lines.append(f"{name} = {equation}" + (f"    ({remark})" if remark else ""))
                lines.append("   = " + _written(numbers).replace("\n", "\n     "))
        return "\n".join(lines)

    __repr__ = __str__

    def to_html(self) -> str:
        """Return a table of the equations and their numbers.

        Returns
        -------
        str
            HTML.
        """
        rows = []
        for title, part in (("forward", self._forward()), ("backward", self._backward())):
            rows.append(f'<tr><th colspan="3" style="text-align:left">{title}</th></tr>')
            for line in part:
                texts = f"{line.name} = {line.equation}", _written(line.numbers), line.remark
                name, numbers, remark = map(html.escape, texts)
                rows.append(
                    f'<tr><td style="text-align:left;vertical-align:top"><code>{name}</code></td>'
                    f'<td style="text-align:left"><pre style="margin:0">{numbers}</pre></td>'
                    f'<td style="text-align:left;vertical-align:top">{remark}</td></tr>'
                )
        return f"<table>{''.join(rows)}</table>"

    _repr_html_ = to_html

    def plot(self, sample: int = 0, *, ax: Any = None) -> Any:
        """Draw the numbers of one sample in the network's graph, as `deltajit.plot.steps` does.

        Parameters
        ----------
        sample : int
            Index of the sample.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default on a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            The Axes with the graph.

        Raises
        ------
        ValueError, TypeError
            There are too many units or weights for a picture, there is no such sample, or ax is no
            Axes.
        """
        return walk.steps(self, sample, ax=ax)


def _written(numbers: Any) -> str:
    """Write numbers to 4 digits after the point, in rows."""
    if np.ndim(numbers) == 0:
        return f"{numbers:.6g}"
    return np.array2string(
        np.asarray(numbers), precision=4, suppress_small=True, threshold=MOST_NUMBERS
    )
