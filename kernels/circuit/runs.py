"""Runs: steps of one operation that follow each other, and the four kernels that go through them.

Samples run along the lanes; a value is a row of `width` samples, so that what it costs to call a
kernel is shared by a run's steps and their samples. `steps` (n, 3) holds the rows of v, x and y of
each step; of one operand, x is there twice. `reused` (n, 3) holds those of their adjoints.
"""

from typing import Any, NamedTuple

from ..abi import Triples, Vector, Word
from ..compiler import Kernel, inlined, kernel, prototype
from ..simd.vectors import broadcast, fma, lanes, load, select, store


class Operation(NamedTuple):
    """What there is to know of an operation: how many operands, and its kernels as below.

    `reads` says whether the way back reads values or tangents of v, x and y.
    """

    name: str
    n_operands: int
    reads: bool
    forward: Kernel[..., Any]
    backward: Kernel[..., Any]
    ahead: Kernel[..., Any]
    turn: Kernel[..., Any]


class Facts(NamedTuple):
    """Of a program: derivatives where x = y is a tie, and how many rows are constants."""

    ties: Vector
    constants: Word


@prototype
def forward(steps: Triples, width: Word, values: Vector):
    """Compute ``v = op(x, y)``."""


@prototype
def backward(
    steps: Triples, reused: Triples, facts: Facts, width: Word, values: Vector, adjoints: Vector
):
    """Add ``adjoint[v] dv/dx`` to adjoint[x], y likewise; adjoint[v] becomes 0, ready for reuse."""


@prototype
def ahead(steps: Triples, facts: Facts, width: Word, values: Vector, tangents: Vector):
    """Compute `forward`, and the tangent ``Rv = dv/dx Rx + dv/dy Ry``."""


@prototype
def turn(
    steps: Triples, reused: Triples, facts: Facts, width: Word, values: Vector, adjoints: Vector,
    tangents: Vector, turned: Vector,
):  # fmt: skip
    """Compute `backward` and the tangents of the adjoints: forward over reverse.

    ``Radjoint[x] += Radjoint[v] dv/dx + adjoint[v] (d2v/dx2 Rx + d2v/dxdy Ry)``, and of y. The
    second product is 0 where the bracket is, as of a sum, whose derivatives never move.
    """


# ---------------------------------------------------------------- of one vector of samples


@inlined
def places(steps, k, width):
    """Return where the rows of v, x and y of step k begin."""
    return steps[k, 0] * width, steps[k, 1] * width, steps[k, 2] * width


@inlined
def take(adjoints, place):
    """Return one vector, and set it to 0 in memory."""
    g = load(adjoints, place)
    store(adjoints, place, broadcast(0, g))
    return g


@inlined
def where_not_0(g, p):
    """Return p, and 0 where g is 0: p may be infinite or NaN in lanes that do not count."""
    return select(g == broadcast(0, g), broadcast(0, g), p)


@inlined
def add_number(adjoints, place, g, p):
    """Compute ``adjoints += g p`` of one vector, of a p that needs no guard."""
    store(adjoints, place, load(adjoints, place) + g * p)


@inlined
def add_product(adjoints, place, g, p):
    """Compute ``adjoints += g p`` of one vector, 0 where g is."""
    store(adjoints, place, fma(g, where_not_0(g, p), load(adjoints, place)))


@inlined
def add_chosen(adjoints, place, g, p):
    """Compute ``adjoints += g p``, and nothing where p is 0 since the operand was not chosen.

    Then g may be infinite or NaN. All other zeros are numbers, of which 0 inf is NaN.
    """
    add_product(adjoints, place, where_not_0(p, g), p)


@inlined
def of_variable(facts, width, place, p):
    """Return the derivative p by the operand at a place, and 0 if that is a constant."""
    result = p
    if place < facts.constants * width:
        result = broadcast(0, p)
    return result


@inlined
def moved(by_x, Rx, by_y, Ry):
    """Return how something moves that has these derivatives, when x and y do."""
    return fma(by_x, where_not_0(by_x, Rx), by_y * where_not_0(by_y, Ry))


@inlined
def move_straight(facts, width, x, y, by_x, Rx, by_y, Ry):
    """Return how v moves when x and y do, of derivatives that need no guard."""
    return Rx * by_x + Ry * by_y


@inlined
def move_chosen(facts, width, x, y, by_x, Rx, by_y, Ry):
    """Return how v moves when the operand does that was chosen."""
    return moved(by_x, Rx, by_y, Ry)


@inlined
def move_variables(facts, width, x, y, by_x, Rx, by_y, Ry):
    """Return how v moves when the operands at places x and y do, unless they are constants."""
    by_x, by_y = of_variable(facts, width, x, by_x), of_variable(facts, width, y, by_y)
    return moved(by_x, Rx, by_y, Ry)


# ---------------------------------------------------------------- of two operands


def of_two(name, n_operands, value, partials, add, move, curvatures=None, reads=True):
    """Make a record of value and derivatives, which go back by `add`, and ahead by `move`.

    Without `curvatures` they do not move: then both kinds of adjoints go back alike.
    """

    @kernel(name=f"forward.{name}")
    def forward_run(steps: Triples, width: Word, values: Vector):
        for k in range(steps.shape[0]):
            v, x, y = places(steps, k, width)
            for j in range(0, width, lanes(values)):
                store(values, v + j, value(load(values, x + j), load(values, y + j)))

    @kernel(name=f"backward.{name}")
    def backward_run(
        steps: Triples, reused: Triples, facts: Facts, width: Word, values: Vector, adjoints: Vector
    ):
        for k in range(steps.shape[0] - 1, -1, -1):
            v, x, y = places(steps, k, width)
            to_v, to_x, to_y = places(reused, k, width)
            for j in range(0, width, lanes(values)):
                at_v, at_x, at_y = load(values, v + j), load(values, x + j), load(values, y + j)
                by_x, by_y = partials(facts.ties, at_v, at_x, at_y)
                g = take(adjoints, to_v + j)
                add(adjoints, to_x + j, g, by_x)
                add(adjoints, to_y + j, g, by_y)

    @kernel(name=f"ahead.{name}")
    def ahead_run(steps: Triples, facts: Facts, width: Word, values: Vector, tangents: Vector):
        for k in range(steps.shape[0]):
            v, x, y = places(steps, k, width)
            for j in range(0, width, lanes(values)):
                at_x, at_y = load(values, x + j), load(values, y + j)
                at_v = value(at_x, at_y)
                by_x, by_y = partials(facts.ties, at_v, at_x, at_y)
                store(values, v + j, at_v)
                Rx, Ry = load(tangents, x + j), load(tangents, y + j)
                store(tangents, v + j, move(facts, width, x, y, by_x, Rx, by_y, Ry))

    def turn_run(
        steps: Triples, reused: Triples, facts: Facts, width: Word, values: Vector,
        adjoints: Vector, tangents: Vector, turned: Vector,
    ):  # fmt: skip
        for k in range(steps.shape[0] - 1, -1, -1):
            v, x, y = places(steps, k, width)
            to_v, to_x, to_y = places(reused, k, width)
            for j in range(0, width, lanes(values)):
                at_v, at_x, at_y = load(values, v + j), load(values, x + j), load(values, y + j)
                g, Rg = take(adjoints, to_v + j), take(turned, to_v + j)
                Rx, Ry = load(tangents, x + j), load(tangents, y + j)
                by_x, by_y = partials(facts.ties, at_v, at_x, at_y)
                xx, xy, yy = curvatures(at_v, at_x, at_y)
                xy = of_variable(facts, width, x, of_variable(facts, width, y, xy))
                add_product(adjoints, to_x + j, g, by_x)
                add_product(adjoints, to_y + j, g, by_y)
                add_product(turned, to_x + j, Rg, by_x)
                add_chosen(turned, to_x + j, g, moved(xx, Rx, xy, Ry))
                add_product(turned, to_y + j, Rg, by_y)
                add_chosen(turned, to_y + j, g, moved(xy, Rx, yy, Ry))

    def turn_straight(
        steps: Triples, reused: Triples, facts: Facts, width: Word, values: Vector,
        adjoints: Vector, tangents: Vector, turned: Vector,
    ):  # fmt: skip
        backward_run(steps, reused, facts, width, values, adjoints)
        backward_run(steps, reused, facts, width, values, turned)

    turns = kernel(turn_run if curvatures else turn_straight, name=f"turn.{name}")
    return Operation(name, n_operands, reads, forward_run, backward_run, ahead_run, turns)


def linear(name, value, partials):
    """Make the record of x + y or x - y."""
    return of_two(name, 2, value, partials, add_number, move_straight, reads=False)


def selecting(name, value, partials, n_operands=2):
    """Make the record of an operation that takes one of its operands, or neither."""
    return of_two(name, n_operands, value, partials, add_chosen, move_chosen)


def binary(name, value, partials, curvatures):
    """Make the record of any other operation of two operands."""
    return of_two(name, 2, value, partials, add_product, move_variables, curvatures)


# ---------------------------------------------------------------- of one operand


def unary(name, value, partial, curvature):
    """Make the record of an operation of one operand."""

    @kernel(name=f"forward.{name}")
    def forward_run(steps: Triples, width: Word, values: Vector):
        for k in range(steps.shape[0]):
            v, x, _ = places(steps, k, width)
            for j in range(0, width, lanes(values)):
                store(values, v + j, value(load(values, x + j)))

    @kernel(name=f"backward.{name}")
    def backward_run(
        steps: Triples, reused: Triples, facts: Facts, width: Word, values: Vector, adjoints: Vector
    ):
        for k in range(steps.shape[0] - 1, -1, -1):
            v, x, _ = places(steps, k, width)
            to_v, to_x, _ = places(reused, k, width)
            for j in range(0, width, lanes(values)):
                g = take(adjoints, to_v + j)
                add_product(
                    adjoints, to_x + j, g, partial(load(values, v + j), load(values, x + j))
                )

    @kernel(name=f"ahead.{name}")
    def ahead_run(steps: Triples, facts: Facts, width: Word, values: Vector, tangents: Vector):
        for k in range(steps.shape[0]):
            v, x, _ = places(steps, k, width)
            for j in range(0, width, lanes(values)):
                at_x = load(values, x + j)
                at_v = value(at_x)
                by_x = partial(at_v, at_x)
                store(values, v + j, at_v)
                store(tangents, v + j, by_x * where_not_0(by_x, load(tangents, x + j)))

    @kernel(name=f"turn.{name}")
    def turn_run(
        steps: Triples, reused: Triples, facts: Facts, width: Word, values: Vector,
        adjoints: Vector, tangents: Vector, turned: Vector,
    ):  # fmt: skip
        for k in range(steps.shape[0] - 1, -1, -1):
            v, x, _ = places(steps, k, width)
            to_v, to_x, _ = places(reused, k, width)
            for j in range(0, width, lanes(values)):
                at_v, at_x = load(values, v + j), load(values, x + j)
                g, Rg, Rx = take(adjoints, to_v + j), take(turned, to_v + j), load(tangents, x + j)
                by_x = partial(at_v, at_x)
                xx = curvature(at_v, by_x, at_x)
                add_product(adjoints, to_x + j, g, by_x)
                add_product(turned, to_x + j, Rg, by_x)
                add_chosen(turned, to_x + j, g, xx * where_not_0(xx, Rx))

    return Operation(name, 1, True, forward_run, backward_run, ahead_run, turn_run)
