"""What networks can compute, shown by networks whose weights are written down, not learnt.

Logic, polygons and functions of one variable. Every function returns a `Network` of float64, to be
asked by `predict`, with ``X (B, n_in)`` or one sample ``(n_in,)``. Its units are the perceptron's,
``step(z) = 1 if z > 0 else 0``: on where the weighted sum exceeds the threshold, and off where it
equals it. All logic is made of two kinds of layers: `_all` is AND, `_any` is OR.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import SupportsFloat

import numpy as np
from numpy.typing import ArrayLike

from deltajit.model import checks
from deltajit.model.memory import Array
from deltajit.network import Network

Layer = tuple[ArrayLike, ArrayLike]  # W (n_l, n_{l-1}) and b (n_l,)

FLOAT64 = np.dtype(np.float64)


# -------------------------------------------------------------------- logic


def threshold_gate(weights: ArrayLike, threshold: float) -> Network:
    """The perceptron: 1 where ``weights @ x > threshold``, and 0 where it is equal or less.

    McCulloch & Pitts (1943), whose unit is also on where they are equal; Rosenblatt (1958), who
    lets the weights be any numbers. It is exact where the sum is, as it is for small integers.

    Parameters
    ----------
    weights : array_like, (n,)
    threshold : float

    Returns
    -------
    Network
        n-1.

    Raises
    ------
    ValueError, TypeError
        weights is not a vector of finite numbers, or threshold not a finite number.

    Examples
    --------
    >>> majority = dj.constructions.threshold_gate([1, 1, 1], threshold=1.5)
    >>> majority.predict([1, 0, 1])
    array([1.])
    """
    w = checks.array(weights, "weights", FLOAT64)
    if w.ndim != 1 or w.size == 0:
        raise ValueError(f"weights must have shape (n,), one for each input; got {w.shape}")
    checks.finite(w, "weights")
    return _network((w[None], [-checks.real(threshold, "threshold")]))


def and_gate(n: int = 2) -> Network:
    """AND of n inputs, each 0 or 1: a threshold of ``n - 1/2`` (McCulloch & Pitts 1943).

    Parameters
    ----------
    n : int, >= 1

    Returns
    -------
    Network
        n-1.

    Raises
    ------
    ValueError, TypeError
        n is not a whole number >= 1.
    """
    return _network(_all(np.ones((1, checks.whole(n, "n")))))


def or_gate(n: int = 2) -> Network:
    """OR of n inputs, each 0 or 1: a threshold of 1/2 (McCulloch & Pitts 1943).

    Parameters
    ----------
    n : int, >= 1

    Returns
    -------
    Network
        n-1.

    Raises
    ------
    ValueError, TypeError
        n is not a whole number >= 1.
    """
    return _network(_any(checks.whole(n, "n")))


def not_gate() -> Network:
    """NOT of one input, 0 or 1: a weight of -1, and a threshold of -1/2.

    Returns
    -------
    Network
        1-1.
    """
    return _network(_all(np.array([[-1.0]])))


def xor() -> Network:
    """1 where just one of two inputs, each 0 or 1, is 1.

    No single perceptron computes it (Minsky & Papert 1969): its ones cannot be parted from its
    zeros by a line. Here one hidden unit is on for (0, 1), the other for (1, 0): see `boolean`.

    Returns
    -------
    Network
        2-2-1.

    Examples
    --------
    >>> dj.constructions.xor().predict([[0, 0], [0, 1], [1, 0], [1, 1]]).ravel()
    array([0., 1., 1., 0.])
    """
    return boolean([0, 1, 1, 0])


def boolean(table: ArrayLike) -> Network:
    """Any function of n inputs, each 0 or 1, exactly: the OR of its minterms.

    Each hidden unit is on for one true row of the table alone, with a weight of 1 for its ones and
    of -1 for its zeros. So two layers suffice for any logic (McCulloch & Pitts 1943), if the hidden
    one may be large: for the parity of n inputs it has 2**(n-1) units. A table without true rows
    gets one hidden unit that is never on.

    Parameters
    ----------
    table : array_like of 0, 1 or bool, (2**n,), n >= 1
        Row i is the output for the binary digits of i, the first input the most significant one:
        the order of ``itertools.product((0, 1), repeat=n)``.

    Returns
    -------
    Network
        n-m-1, for m true rows.

    Raises
    ------
    ValueError, TypeError
        table has not 2**n entries, n >= 1, or others than 0 and 1.
    """
    outputs = checks.array(table, "table", FLOAT64)
    n = outputs.size.bit_length() - 1
    if outputs.shape != (2**n,) or n < 1:
        raise ValueError(f"table must have shape (2**n,), n >= 1; got {outputs.shape}")
    wrong = outputs[(outputs != 0) & (outputs != 1)]
    if wrong.size:
        raise ValueError(f"table must hold 0 and 1 only, got {wrong[0]}")
    true_rows = np.flatnonzero(outputs)
    if true_rows.size == 0:
        return _network((np.zeros((1, n)), [0.0]), _any(1))  # step(0) is 0
    digits = true_rows[:, None] >> np.arange(n)[::-1] & 1
    return _network(_all(2.0 * digits - 1), _any(true_rows.size))


# -------------------------------------------------------------------- regions of the plane


def convex_polygon(vertices: ArrayLike) -> Network:
    """1 inside a convex polygon, 0 outside of it and on its sides.

    A hidden unit for each side is on at its inner side, and the output is the AND of them: two
    layers give convex regions (Lippmann 1987). Within rounding errors of a side it may be either.

    Parameters
    ----------
    vertices : array_like, (m, 2), m >= 3
        In order around the polygon, either way; the first is not repeated at the end.

    Returns
    -------
    Network
        2-m-1.

    Raises
    ------
    ValueError, TypeError
        vertices is of another shape, is not finite, or its polygon is not convex, crosses itself,
        or has three vertices on one line.

    Examples
    --------
    >>> triangle = dj.constructions.convex_polygon([[0, 0], [4, 0], [0, 4]])
    >>> triangle.predict([[1, 1], [3, 3], [2, 0]]).ravel()
    array([1., 0., 0.])
    """
    sides = _half_planes(vertices, "vertices")
    return _network(sides, _all(np.ones((1, len(sides[1])))))


def union_of_polygons(polygons: Iterable[ArrayLike]) -> Network:
    """1 inside any of some convex polygons, 0 elsewhere: any region that can be cut into such.

    Half-planes, AND for each polygon, OR: three layers give regions that need be neither convex nor
    in one piece (Lippmann 1987). Each polygon is without its sides, so one that two have in common
    is outside: let them overlap where there should be no seam.

    Parameters
    ----------
    polygons : iterable of array_like, each (m, 2), m >= 3
        Vertices of each, as for `convex_polygon`; they may overlap.

    Returns
    -------
    Network
        2-s-p-1, for p polygons of s sides in all.

    Raises
    ------
    ValueError, TypeError
        There are no polygons, or one of them is none for `convex_polygon`.
    """
    checks.has(polygons, "polygons", "a list of polygons", ["__iter__"])
    planes = [_half_planes(vertices, f"polygons[{i}]") for i, vertices in enumerate(polygons)]
    if not planes:
        raise ValueError("polygons has none; at least 1 is needed")
    W, b = (np.concatenate(parts) for parts in zip(*planes, strict=True))
    own_sides = np.repeat(np.eye(len(planes)), [len(own_b) for _, own_b in planes], axis=1)
    return _network((W, b), _all(own_sides), _any(len(planes)))


# -------------------------------------------------------------------- functions of one variable


def pulse(
    begin: float, end: float, *, height: float = 1.0, steepness: float | None = None
) -> Network:
    """A square pulse: `height` for ``begin < x <= end``, and 0 elsewhere.

    One unit steps up at `begin`, the other at `end`, and the output is `height` times their
    difference: the brick of the visual proof in Nielsen (2015), chapter 4.

    Parameters
    ----------
    begin, end : float, begin < end
    height : float
    steepness : float, > 0, optional
        Units are ``sigmoid(steepness * (x - begin))`` and so on, not steps: the edges are smooth,
        and the larger it is the nearer to the square pulse, except at the edges, where it is about
        ``height / 2``.

    Returns
    -------
    Network
        1-2-1, whose output is the identity.

    Raises
    ------
    ValueError, TypeError
        end is not greater than begin, steepness not greater than 0, or any no finite number.
    """
    edges = np.array(_interval(begin, end))
    top = checks.real(height, "height")
    hidden, slope = "step", 1.0
    if steepness is not None:
        checks.above_zero(steepness, "steepness")
        hidden, slope = "sigmoid", float(steepness)
    return _network(
        (np.full((2, 1), slope), -slope * edges),
        ([[top, -top]], [0.0]),
        hidden=hidden,
        output="identity",
    )


def staircase(f: Callable[[float], SupportsFloat], begin: float, end: float, n: int) -> Network:
    """n stairs that approximate a continuous function on [begin, end], both included.

    The stairs are n pulses of one width side by side, each as high as f at its midpoint. Where one
    ends the next begins, so both share a hidden unit, whose output weight is the rise from one to
    the next: n - 1 units in all. The first height is the output's bias, and beyond `begin` and
    `end` the outermost stairs go on.

    If ``|f(x) - f(y)| <= K |x - y|``, no error is larger than ``K (end - begin) / (2 n)``, rounding
    apart: it halves when n doubles. That one hidden layer of sigmoid units comes as close as one
    likes to any continuous function was proved by Cybenko (1989); Nielsen (2015), chapter 4, shows
    it by pictures, of pulses.

    Parameters
    ----------
    f : function of one float
        Its values are finite.
    begin, end : float, begin < end
    n : int, >= 2

    Returns
    -------
    Network
        1-(n-1)-1, whose output is the identity.

    Raises
    ------
    ValueError, TypeError
        f is no function or its value not a finite number, end is not greater than begin, or n is
        not a whole number >= 2.

    Examples
    --------
    >>> net = dj.constructions.staircase(math.sin, 0, math.pi, n=100)
    >>> X = np.linspace(0, math.pi, 1000)[:, None]
    >>> bool(abs(net.predict(X) - np.sin(X)).max() < 0.016)
    True
    """
    checks.has(f, "f", "a function of one number", ["__call__"])
    edges = np.linspace(*_interval(begin, end), checks.whole(n, "n", least=2) + 1)
    midpoints = (edges[:-1] + edges[1:]) / 2
    heights = np.array([checks.real(f(x), f"f({x})") for x in midpoints.tolist()])
    return _network(
        (np.ones((n - 1, 1)), -edges[1:-1]),
        (np.diff(heights)[None], heights[:1]),
        output="identity",
    )


# -------------------------------------------------------------------- parts


def _network(*layers: Layer, hidden: str = "step", output: str = "step") -> Network:
    """A network of these layers, with their weights."""
    weights, biases = zip(*layers, strict=True)
    sizes = [np.shape(weights[0])[1], *map(len, biases)]
    net = Network(sizes, hidden, output, dtype=FLOAT64, init="zeros")
    net.theta = net.flatten(weights, biases)
    return net


def _all(signs: Array) -> tuple[Array, Array]:
    """Units that are on where every input of sign 1 is 1, and every input of sign -1 is 0.

    signs (units, inputs); where it is 0, the input does not matter. The sum is then the number of
    signs 1, and at least 1 less for any other inputs: the threshold is halfway between.
    """
    return signs, 0.5 - (signs > 0).sum(axis=1)


def _any(n: int) -> tuple[Array, Array]:
    """One unit that is on where any of n inputs is 1."""
    return np.ones((1, n)), np.array([-0.5])


def _half_planes(vertices: ArrayLike, name: str) -> tuple[Array, Array]:
    """Units (W (m, 2), b (m,)) that are on at the inner side of each side of a convex polygon."""
    corners = checks.array(vertices, name, FLOAT64)
    m = len(corners) if corners.ndim else 0
    if m < 3 or corners.shape != (m, 2):
        raise ValueError(f"{name} must have shape (m, 2), m >= 3; got {corners.shape}")
    checks.finite(corners, name)
    x, y = (np.roll(corners, -1, axis=0) - corners).T
    inward = np.column_stack([-y, x])  # a quarter turn to the left of each side
    # [i, j] is how far corner j lies to the left of side i, times the length of that side.
    heights = ((corners - corners[:, None]) * inward[:, None]).sum(axis=-1)
    if heights.sum() < 0:  # clockwise
        inward, heights = -inward, -heights
    own = np.eye(m, dtype=bool)
    beyond = np.argwhere((heights <= 0) & ~own & ~np.roll(own, 1, axis=1))
    if beyond.size:
        i, j = beyond[0]
        raise ValueError(
            f"{name} must go around a convex polygon, with no three on one line; but [{j}] is not "
            f"at the inner side of the line through [{i}] and [{(i + 1) % m}]"
        )
    return inward, -(inward * corners).sum(axis=1)


def _interval(begin: object, end: object) -> tuple[float, float]:
    """Two finite numbers, the second of which is greater."""
    ends = checks.real(begin, "begin"), checks.real(end, "end")
    if not ends[0] < ends[1]:
        raise ValueError(f"end must be greater than begin={ends[0]}, got {ends[1]}")
    return ends
