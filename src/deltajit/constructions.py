"""Networks that compute logic, polygons and functions of one variable by weights written down.

Nothing is learnt: each function returns a `Network` of float64 whose ``predict(X)``, of X (B, n_in)
or one sample (n_in,), is the answer. Hidden units are perceptrons, ``step(z) = 1 if z > 0 else 0``:
1 where the weighted sum exceeds the threshold, 0 where it equals it. All logic consists of two
kinds of layers, AND (`_all`) and OR (`_any`).
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
    """Make a perceptron: 1 where ``weights @ x > threshold``, else 0.

    McCulloch & Pitts (1943), whose unit is 1 also where they are equal; Rosenblatt (1958), whose
    weights may be any numbers. The answer is exact where the sum is, as it is for small integers.

    Parameters
    ----------
    weights : array_like of float, (n,)
        One weight per input.
    threshold : float
        What the weighted sum must exceed.

    Returns
    -------
    Network
        Sizes n-1: n inputs, 1 output.

    Raises
    ------
    ValueError, TypeError
        weights is not a vector of finite numbers, or threshold is not a finite number.

    Examples
    --------
    >>> import deltajit as dj
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
    """Make the AND of n inputs, each 0 or 1: a threshold of ``n - 1/2`` (McCulloch & Pitts 1943).

    Parameters
    ----------
    n : int, >= 1
        Number of inputs.

    Returns
    -------
    Network
        Sizes n-1.

    Raises
    ------
    ValueError, TypeError
        n is not a whole number >= 1.
    """
    return _network(_all(np.ones((1, checks.whole(n, "n")))))


def or_gate(n: int = 2) -> Network:
    """Make the OR of n inputs, each 0 or 1: a threshold of 1/2 (McCulloch & Pitts 1943).

    Parameters
    ----------
    n : int, >= 1
        Number of inputs.

    Returns
    -------
    Network
        Sizes n-1.

    Raises
    ------
    ValueError, TypeError
        n is not a whole number >= 1.
    """
    return _network(_any(checks.whole(n, "n")))


def not_gate() -> Network:
    """Make the NOT of one input, 0 or 1: weight -1, threshold -1/2 (McCulloch & Pitts 1943).

    Returns
    -------
    Network
        Sizes 1-1.
    """
    return _network(_all(np.array([[-1.0]])))


def xor() -> Network:
    """Make the XOR of two inputs, each 0 or 1: 1 where exactly one of them is 1.

    No single perceptron computes it (Minsky & Papert 1969), since no line separates its ones from
    its zeros. Here one hidden unit is 1 for (0, 1), the other for (1, 0): see `boolean`.

    Returns
    -------
    Network
        Sizes 2-2-1.

    Examples
    --------
    >>> import deltajit as dj
    >>> dj.constructions.xor().predict([[0, 0], [0, 1], [1, 0], [1, 1]]).ravel()
    array([0., 1., 1., 0.])
    """
    return boolean([0, 1, 1, 0])


def boolean(table: ArrayLike) -> Network:
    """Make any function of n inputs, each 0 or 1, from its truth table, as the OR of its minterms.

    Each hidden unit is 1 for exactly one true row of the table, with a weight of 1 for the row's
    ones and of -1 for its zeros. So two layers suffice for any logic (McCulloch & Pitts 1943), but
    the hidden one may be large: 2**(n-1) units for the parity of n inputs. For a table without true
    rows it has one unit that is always 0.

    Parameters
    ----------
    table : array_like of 0, 1 or bool, (2**n,), n >= 1
        Output for the inputs that are the binary digits of the row's index, the first input the
        most significant digit: the order of ``itertools.product((0, 1), repeat=n)``.

    Returns
    -------
    Network
        Sizes n-m-1, for m true rows.

    Raises
    ------
    ValueError, TypeError
        The number of entries is not 2**n with n >= 1, or one is neither 0 nor 1.

    Examples
    --------
    >>> import deltajit as dj
    >>> implies = dj.constructions.boolean([1, 1, 0, 1])
    >>> implies.predict([1, 0])
    array([0.])
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
    """Make a network that is 1 inside a convex polygon, and 0 outside it and on its sides.

    One hidden unit per side is 1 on the inner side of it, and the output is the AND of them: two
    layers give convex regions (Lippmann 1987). Within rounding errors of a side the answer may be
    either.

    Parameters
    ----------
    vertices : array_like of float, (m, 2), m >= 3
        Vertices in order around the polygon, in either direction, without repeating the first.

    Returns
    -------
    Network
        Sizes 2-m-1.

    Raises
    ------
    ValueError, TypeError
        vertices has another shape or is not finite; or the polygon is not convex, crosses itself,
        or has three vertices on one line.

    Examples
    --------
    >>> import deltajit as dj
    >>> triangle = dj.constructions.convex_polygon([[0, 0], [4, 0], [0, 4]])
    >>> triangle.predict([[1, 1], [3, 3], [2, 0]]).ravel()
    array([1., 0., 0.])
    """
    sides = _half_planes(vertices, "vertices")
    return _network(sides, _all(np.ones((1, len(sides[1])))))


def union_of_polygons(polygons: Iterable[ArrayLike]) -> Network:
    """Make a network that is 1 inside any of several convex polygons, and 0 elsewhere.

    Half-planes, then an AND per polygon, then an OR: three layers give any region that can be cut
    into convex polygons, connected or not (Lippmann 1987). A polygon does not contain its sides, so
    a side that two have in common is outside both: let them overlap where there should be no seam.

    Parameters
    ----------
    polygons : iterable of array_like of float, each (m, 2), m >= 3
        Vertices of each polygon, as for `convex_polygon`; polygons may overlap.

    Returns
    -------
    Network
        Sizes 2-s-p-1, for p polygons with s sides in all.

    Raises
    ------
    ValueError, TypeError
        polygons is empty, or `convex_polygon` would refuse one of them.
    """
    checks.has(polygons, "polygons", "a list of polygons", ["__iter__"])
    planes = [_half_planes(vertices, f"polygons[{i}]") for i, vertices in enumerate(polygons)]
    if not planes:
        raise ValueError("polygons has none; at least 1 is needed")
    W, b = (np.concatenate(parts) for parts in zip(*planes, strict=True))
    signs = np.repeat(np.eye(len(planes)), [len(sides) for _, sides in planes], axis=1)
    return _network((W, b), _all(signs), _any(len(planes)))


# -------------------------------------------------------------------- functions of one variable


def pulse(
    begin: float, end: float, *, height: float = 1.0, steepness: float | None = None
) -> Network:
    """Make a square pulse: `height` for ``begin < x <= end``, and 0 elsewhere.

    One unit steps up at `begin`, the other at `end`, and the output is `height` times their
    difference: the building block of the visual proof in Nielsen (2015), chapter 4.

    Parameters
    ----------
    begin, end : float, begin < end
        Where the pulse begins and ends.
    height : float
        Value between them.
    steepness : float, > 0, optional
        Use the units ``sigmoid(steepness * (x - begin))`` and ``sigmoid(steepness * (x - end))``
        instead of steps. The edges are then smooth, about ``height / 2`` at `begin` and `end`, and
        the steeper, the closer to the square pulse elsewhere.

    Returns
    -------
    Network
        Sizes 1-2-1, with an identity output.

    Raises
    ------
    ValueError, TypeError
        end is not greater than begin, steepness is not greater than 0, or an argument is not a
        finite number.
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
    """Make a staircase of n steps that approximates a continuous function on [begin, end].

    The stairs are n adjacent pulses of equal width, each as high as f at its midpoint. Where one
    ends the next begins, so they share a hidden unit, whose output weight is the rise from one to
    the next: n - 1 units in all. The first height is the output's bias. Beyond `begin` and `end`
    the outermost stairs continue.

    If ``|f(x) - f(y)| <= K |x - y|``, no error exceeds ``K (end - begin) / (2 n)``, apart from
    rounding: doubling n halves it. Cybenko (1989) proved that one hidden layer of sigmoid units
    comes arbitrarily close to any continuous function; Nielsen (2015), chapter 4, shows it in
    pictures, with pulses.

    Parameters
    ----------
    f : callable
        Function of one float with finite values.
    begin, end : float, begin < end
        Interval of the approximation, both ends included.
    n : int, >= 2
        Number of stairs.

    Returns
    -------
    Network
        Sizes 1-(n-1)-1, with an identity output.

    Raises
    ------
    ValueError, TypeError
        f is not callable or one of its values is not a finite number, end is not greater than
        begin, or n is not a whole number >= 2.

    Examples
    --------
    >>> import math
    >>> import numpy as np
    >>> import deltajit as dj
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
    """Make a network with these layers' weights and biases."""
    weights, biases = zip(*layers, strict=True)
    sizes = [np.shape(weights[0])[1], *map(len, biases)]
    net = Network(sizes, hidden, output, dtype=FLOAT64, init="zeros")
    net.theta = net.flatten(weights, biases)
    return net


def _all(signs: Array) -> tuple[Array, Array]:
    """Make units that are 1 where every input of sign 1 is 1 and every input of sign -1 is 0.

    signs (units, inputs); an input of sign 0 does not matter. The weighted sum is then the number
    of signs that are 1, and for any other inputs at least 1 less: the threshold is halfway between.
    """
    return signs, 0.5 - (signs > 0).sum(axis=1)


def _any(n: int) -> tuple[Array, Array]:
    """Make one unit that is 1 where any of n inputs is 1."""
    return np.ones((1, n)), np.array([-0.5])


def _half_planes(vertices: ArrayLike, name: str) -> tuple[Array, Array]:
    """Make one unit per side of a convex polygon, 1 on its inner side: W (m, 2) and b (m,)."""
    corners = checks.array(vertices, name, FLOAT64)
    m = len(corners) if corners.ndim else 0
    if m < 3 or corners.shape != (m, 2):
        raise ValueError(f"{name} must have shape (m, 2), m >= 3; got {corners.shape}")
    checks.finite(corners, name)
    x, y = (np.roll(corners, -1, axis=0) - corners).T
    inward = np.column_stack([-y, x])  # a quarter turn to the left of each side
    # [i, j]: distance of corner j to the left of side i, times that side's length.
    heights = ((corners - corners[:, None]) * inward[:, None]).sum(axis=-1)
    if heights.sum() < 0:  # clockwise
        inward, heights = -inward, -heights
    starts = np.eye(m, dtype=bool)  # [i, j]: corner j is where side i starts
    beyond = np.argwhere((heights <= 0) & ~starts & ~np.roll(starts, 1, axis=1))
    if beyond.size:
        i, j = beyond[0]
        raise ValueError(
            f"{name} must go around a convex polygon, with no three on one line; but [{j}] is not "
            f"at the inner side of the line through [{i}] and [{(i + 1) % m}]"
        )
    return inward, -(inward * corners).sum(axis=1)


def _interval(begin: object, end: object) -> tuple[float, float]:
    """Check that begin and end are finite numbers with begin < end, and return them."""
    ends = checks.real(begin, "begin"), checks.real(end, "end")
    if not ends[0] < ends[1]:
        raise ValueError(f"end must be greater than begin={ends[0]}, got {ends[1]}")
    return ends
