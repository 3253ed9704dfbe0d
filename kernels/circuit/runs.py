"""Runs: steps of one operation that follow each other, and the five kernels that go through them.

Samples run along the lanes; a value is a row of `width` samples, so that what it costs to call a
kernel is shared by a run's steps and their samples. `steps` (n, 3) holds the rows of v, x and y of
each step; of one operand, x is there twice. Where values are computed dv/dx and dv/dy are too, and
put on a tape, step after step, from which the way back reads them.
"""

from typing import Any, NamedTuple

from ..abi import Triples, Vector, Word
from ..compiler import Kernel, inlined, kernel, prototype
from ..simd.vectors import broadcast, fma, lanes, load, select, store


class Operation(NamedTuple):
    """What there is to know of an operation: how many operands, and its kernels as below.

    `taped` is how many rows of the tape a step fills: one for each derivative, none for numbers.
    """

    name: str
    n_operands: int
    taped: int
    forward: Kernel[..., Any]
    record: Kernel[..., Any]
    backward: Kernel[..., Any]
    ahead: Kernel[..., Any]
    turn: Kernel[..., Any]


class Facts(NamedTuple):
    """Of a program: derivatives where x = y is a tie, and how many rows are constants."""

    ties: Vector
    constants: Word


class Tables(NamedTuple):
    """Rows of values and adjoints, and the tape; or of what moves them, their tangents."""

    values: Vector
    adjoints: Vector
    tape: Vector


@prototype
def forward(steps: Triples, width: Word, values: Vector):
    """Compute ``v = op(x, y)``."""


@prototype
def record(steps: Triples, facts: Facts, width: Word, values: Vector, tape: Vector):
    """Compute `forward`, and dv/dx and dv/dy on the tape."""


@prototype
def backward(steps: Triples, width: Word, tape: Vector, adjoints: Vector):
    """Add ``adjoint[v] dv/dx`` to adjoint[x], y likewise; adjoint[v] becomes 0, ready for reuse."""


@prototype
def ahead(steps: Triples, facts: Facts, width: Word, at: Tables, R: Tables):
    """Compute `record`, and tangents: ``Rv = dv/dx Rx + dv/dy Ry``, and those of dv/dx and dv/dy.

    ``R(dv/dx) = d2v/dx2 Rx + d2v/dxdy Ry``; none of derivatives that never move, as of a sum.
    """


@prototype
def turn(steps: Triples, width: Word, at: Tables, R: Tables):
    """Compute `backward` and the tangents of the adjoints: forward over reverse.

    ``Radjoint[x] += Radjoint[v] dv/dx + adjoint[v] R(dv/dx)``, and of y.
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
def of_any(facts, width, place, p):
    """Return the derivative p by the operand at a place, which may be a constant."""
    return p


@inlined
def moved(by_x, Rx, by_y, Ry):
    """Return how something moves that has these derivatives, when x and y do."""
    return fma(by_x, where_not_0(by_x, Rx), by_y * where_not_0(by_y, Ry))


# ---------------------------------------------------------------- of two operands


def linear(name, value, partials):
    """Make the record of x + y or x - y, whose derivatives are numbers: none is on the tape."""

    @kernel(name=f"forward.{name}")
    def forward_run(steps: Triples, width: Word, values: Vector):
        for k in range(steps.shape[0]):
            v, x, y = places(steps, k, width)
            for j in range(0, width, lanes(values)):
                store(values, v + j, value(load(values, x + j), load(values, y + j)))

    @kernel(name=f"record.{name}")
    def record_run(steps: Triples, facts: Facts, width: Word, values: Vector, tape: Vector):
        forward_run(steps, width, values)

    @kernel(name=f"backward.{name}")
    def backward_run(steps: Triples, width: Word, tape: Vector, adjoints: Vector):
        for k in range(steps.shape[0] - 1, -1, -1):
            v, x, y = places(steps, k, width)
            for j in range(0, width, lanes(adjoints)):
                g = take(adjoints, v + j)
                by_x, by_y = partials(g)
                store(adjoints, x + j, load(adjoints, x + j) + g * by_x)
                store(adjoints, y + j, load(adjoints, y + j) + g * by_y)

    @kernel(name=f"ahead.{name}")
    def ahead_run(steps: Triples, facts: Facts, width: Word, at: Tables, R: Tables):
        forward_run(steps, width, at.values)
        forward_run(steps, width, R.values)

    @kernel(name=f"turn.{name}")
    def turn_run(steps: Triples, width: Word, at: Tables, R: Tables):
        backward_run(steps, width, at.tape, at.adjoints)
        backward_run(steps, width, at.tape, R.adjoints)

    return Operation(name, 2, 0, forward_run, record_run, backward_run, ahead_run, turn_run)


def of_two(name, value, partials, add, of_operand, curvatures=None):
    """Make a record of value and derivatives, which go back by `add`.

    Without `curvatures` they do not move: then both kinds of adjoints go back alike.
    """

    @kernel(name=f"forward.{name}")
    def forward_run(steps: Triples, width: Word, values: Vector):
        for k in range(steps.shape[0]):
            v, x, y = places(steps, k, width)
            for j in range(0, width, lanes(values)):
                store(values, v + j, value(load(values, x + j), load(values, y + j)))

    @kernel(name=f"record.{name}")
    def record_run(steps: Triples, facts: Facts, width: Word, values: Vector, tape: Vector):
        for k in range(steps.shape[0]):
            v, x, y = places(steps, k, width)
            p = 2 * k * width
            for j in range(0, width, lanes(values)):
                at_x, at_y = load(values, x + j), load(values, y + j)
                at_v = value(at_x, at_y)
                by_x, by_y = partials(facts.ties, at_v, at_x, at_y)
                store(values, v + j, at_v)
                store(tape, p + j, by_x)
                store(tape, p + width + j, by_y)

    @kernel(name=f"backward.{name}")
    def backward_run(steps: Triples, width: Word, tape: Vector, adjoints: Vector):
        for k in range(steps.shape[0] - 1, -1, -1):
            v, x, y = places(steps, k, width)
            p = 2 * k * width
            for j in range(0, width, lanes(adjoints)):
                g = take(adjoints, v + j)
                add(adjoints, x + j, g, load(tape, p + j))
                add(adjoints, y + j, g, load(tape, p + width + j))

    @kernel(name=f"ahead.{name}")
    def ahead_run(steps: Triples, facts: Facts, width: Word, at: Tables, R: Tables):
        for k in range(steps.shape[0]):
            v, x, y = places(steps, k, width)
            p = 2 * k * width
            for j in range(0, width, lanes(at.values)):
                at_x, at_y = load(at.values, x + j), load(at.values, y + j)
                Rx, Ry = load(R.values, x + j), load(R.values, y + j)
                at_v = value(at_x, at_y)
                by_x, by_y = partials(facts.ties, at_v, at_x, at_y)
                store(at.values, v + j, at_v)
                store(at.tape, p + j, by_x)
                store(at.tape, p + width + j, by_y)
                by_x, by_y = of_operand(facts, width, x, by_x), of_operand(facts, width, y, by_y)
                store(R.values, v + j, moved(by_x, Rx, by_y, Ry))
                if curvatures is not None:
                    xx, xy, yy = curvatures(at_v, at_x, at_y)
                    xy = of_operand(facts, width, x, of_operand(facts, width, y, xy))
                    store(R.tape, p + j, moved(xx, Rx, xy, Ry))
                    store(R.tape, p + width + j, moved(xy, Rx, yy, Ry))

    def turn_run(steps: Triples, width: Word, at: Tables, R: Tables):
        for k in range(steps.shape[0] - 1, -1, -1):
            v, x, y = places(steps, k, width)
            p = 2 * k * width
            for j in range(0, width, lanes(at.tape)):
                g, Rg = take(at.adjoints, v + j), take(R.adjoints, v + j)
                by_x, by_y = load(at.tape, p + j), load(at.tape, p + width + j)
                add_product(at.adjoints, x + j, g, by_x)
                add_product(at.adjoints, y + j, g, by_y)
                add_product(R.adjoints, x + j, Rg, by_x)
                add_chosen(R.adjoints, x + j, g, load(R.tape, p + j))
                add_product(R.adjoints, y + j, Rg, by_y)
                add_chosen(R.adjoints, y + j, g, load(R.tape, p + width + j))

    def turn_straight(steps: Triples, width: Word, at: Tables, R: Tables):
        backward_run(steps, width, at.tape, at.adjoints)
        backward_run(steps, width, at.tape, R.adjoints)

    turns = kernel(turn_run if curvatures else turn_straight, name=f"turn.{name}")
    return Operation(name, 2, 2, forward_run, record_run, backward_run, ahead_run, turns)


def selecting(name, value, partials):
    """Make the record of an operation that takes one of its operands, or neither."""
    return of_two(name, value, partials, add_chosen, of_any)


def binary(name, value, partials, curvatures):
    """Make the record of any other operation of two operands."""
    return of_two(name, value, partials, add_product, of_variable, curvatures)


# ---------------------------------------------------------------- of one operand


def unary(name, value, partial, curvature=None):
    """Make the record of an operation of one operand; without a curvature it takes it, or not."""
    add = add_product if curvature else add_chosen

    @kernel(name=f"forward.{name}")
    def forward_run(steps: Triples, width: Word, values: Vector):
        for k in range(steps.shape[0]):
            v, x, _ = places(steps, k, width)
            for j in range(0, width, lanes(values)):
                store(values, v + j, value(load(values, x + j)))

    @kernel(name=f"record.{name}")
    def record_run(steps: Triples, facts: Facts, width: Word, values: Vector, tape: Vector):
        for k in range(steps.shape[0]):
            v, x, _ = places(steps, k, width)
            for j in range(0, width, lanes(values)):
                at_x = load(values, x + j)
                at_v = value(at_x)
                store(values, v + j, at_v)
                store(tape, k * width + j, partial(at_v, at_x))

    @kernel(name=f"backward.{name}")
    def backward_run(steps: Triples, width: Word, tape: Vector, adjoints: Vector):
        for k in range(steps.shape[0] - 1, -1, -1):
            v, x, _ = places(steps, k, width)
            for j in range(0, width, lanes(adjoints)):
                add(adjoints, x + j, take(adjoints, v + j), load(tape, k * width + j))

    @kernel(name=f"ahead.{name}")
    def ahead_run(steps: Triples, facts: Facts, width: Word, at: Tables, R: Tables):
        for k in range(steps.shape[0]):
            v, x, _ = places(steps, k, width)
            for j in range(0, width, lanes(at.values)):
                at_x, Rx = load(at.values, x + j), load(R.values, x + j)
                at_v = value(at_x)
                by_x = partial(at_v, at_x)
                store(at.values, v + j, at_v)
                store(at.tape, k * width + j, by_x)
                store(R.values, v + j, by_x * where_not_0(by_x, Rx))
                if curvature is not None:
                    xx = curvature(at_v, by_x, at_x)
                    store(R.tape, k * width + j, xx * where_not_0(xx, Rx))

    def turn_run(steps: Triples, width: Word, at: Tables, R: Tables):
        for k in range(steps.shape[0] - 1, -1, -1):
            v, x, _ = places(steps, k, width)
            for j in range(0, width, lanes(at.tape)):
                g, Rg = take(at.adjoints, v + j), take(R.adjoints, v + j)
                by_x = load(at.tape, k * width + j)
                add_product(at.adjoints, x + j, g, by_x)
                add_product(R.adjoints, x + j, Rg, by_x)
                add_chosen(R.adjoints, x + j, g, load(R.tape, k * width + j))

    def turn_straight(steps: Triples, width: Word, at: Tables, R: Tables):
        backward_run(steps, width, at.tape, at.adjoints)
        backward_run(steps, width, at.tape, R.adjoints)

    turns = kernel(turn_run if curvature else turn_straight, name=f"turn.{name}")
    return Operation(name, 1, 1, forward_run, record_run, backward_run, ahead_run, turns)
