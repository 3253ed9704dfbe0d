"""Runs: steps of one operation that follow each other, and the five kernels that go through them.

Samples run along the lanes; a value is a row of `width` samples, so that what it costs to call a
kernel is shared by a run's steps and their samples. `steps` (n, 3) holds the rows of v, x and y of
each step; of one operand, x is there twice. With values goes a tape: what dv/dx and dv/dy are is
written to it, step after step, and read on the way back, which needs no values.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ..abi import Triples, Vector, Word
from ..compiler import Kernel, inlined, kernel, prototype
from ..simd.vectors import broadcast, fma, lanes, load, select, store


class Operation(NamedTuple):
    """What there is to know of an operation: how many operands, and its kernels as below.

    A step fills `taped` rows of the tape.
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
    """Compute `forward`, and write the tape."""


@prototype
def backward(steps: Triples, facts: Facts, width: Word, tape: Vector, adjoints: Vector):
    """Add ``adjoint[v] dv/dx`` to adjoint[x], y likewise; adjoint[v] becomes 0, ready for reuse."""


@prototype
def ahead(steps: Triples, facts: Facts, width: Word, at: Tables, R: Tables):
    """Compute `record`, and the tangent ``Rv = dv/dx Rx + dv/dy Ry``.

    R.tape gets ``R(dv/dx) = d2v/dx2 Rx + d2v/dxdy Ry``, and of y, unless they never move.
    """


@prototype
def turn(steps: Triples, facts: Facts, width: Word, at: Tables, R: Tables):
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


# ---------------------------------------------------------------- what is on the tape

X, Y, BOTH, NEITHER = 1, -1, 0, 2  # which operand was chosen


class Taped(NamedTuple):
    """How many rows of the tape a step fills, and how they are written and read.

    write : ``write(tape, place, width, v, x, y)``, with one vector of each. read : ``read(tape,
    place, width, ties, g)`` returns dv/dx and dv/dy; g is any vector.
    """

    rows: int
    write: Callable[..., Any]
    read: Callable[..., Any]


def numbers(partials):
    """Put nothing on the tape: the derivatives are numbers."""

    @inlined
    def write(tape, place, width, v, x, y):
        """Write no row."""

    @inlined
    def read(tape, place, width, ties, g):
        return partials(g)

    return Taped(0, write, read)


def choices(choice):
    """Put one row on the tape: which operand was chosen, as X, Y, BOTH or NEITHER, or NaN."""

    @inlined
    def write(tape, place, width, v, x, y):
        store(tape, place, choice(x, y))

    @inlined
    def read(tape, place, width, ties, g):
        chosen = load(tape, place)
        return share(chosen, X, ties[0]), share(chosen, Y, ties[1])

    return Taped(1, write, read)


def derivatives(partials):
    """Put two rows on the tape: dv/dx and dv/dy."""

    @inlined
    def write(tape, place, width, v, x, y):
        by_x, by_y = partials(v, x, y)
        store(tape, place, by_x)
        store(tape, place + width, by_y)

    @inlined
    def read(tape, place, width, ties, g):
        return load(tape, place), load(tape, place + width)

    return Taped(2, write, read)


@inlined
def share(chosen, operand, tie):
    """Return the derivative by an operand, X or Y, where `chosen` says which was."""
    one, zero = broadcast(1, chosen), broadcast(0, chosen)
    other = select(chosen == zero, broadcast(tie, chosen), select(chosen == chosen, zero, chosen))
    return select(chosen == broadcast(operand, chosen), one, other)


# ---------------------------------------------------------------- of two operands


def of_two(name, value, taped, add, move, curvatures=None):
    """Make a record of value and derivatives, which go back by `add`, and ahead by `move`.

    Without `curvatures` they do not move: then both kinds of adjoints go back alike.
    """
    n, write, read = taped

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
            for j in range(0, width, lanes(values)):
                at_x, at_y = load(values, x + j), load(values, y + j)
                at_v = value(at_x, at_y)
                store(values, v + j, at_v)
                write(tape, n * k * width + j, width, at_v, at_x, at_y)

    @kernel(name=f"backward.{name}")
    def backward_run(steps: Triples, facts: Facts, width: Word, tape: Vector, adjoints: Vector):
        for k in range(steps.shape[0] - 1, -1, -1):
            v, x, y = places(steps, k, width)
            for j in range(0, width, lanes(adjoints)):
                g = take(adjoints, v + j)
                by_x, by_y = read(tape, n * k * width + j, width, facts.ties, g)
                add(adjoints, x + j, g, by_x)
                add(adjoints, y + j, g, by_y)

    @kernel(name=f"ahead.{name}")
    def ahead_run(steps: Triples, facts: Facts, width: Word, at: Tables, R: Tables):
        for k in range(steps.shape[0]):
            v, x, y = places(steps, k, width)
            for j in range(0, width, lanes(at.values)):
                p = n * k * width + j
                at_x, at_y = load(at.values, x + j), load(at.values, y + j)
                Rx, Ry = load(R.values, x + j), load(R.values, y + j)
                at_v = value(at_x, at_y)
                write(at.tape, p, width, at_v, at_x, at_y)
                by_x, by_y = read(at.tape, p, width, facts.ties, at_v)
                store(at.values, v + j, at_v)
                store(R.values, v + j, move(facts, width, x, y, by_x, Rx, by_y, Ry))
                if curved:
                    xx, xy, yy = curvatures(at_v, at_x, at_y)
                    xy = of_variable(facts, width, x, of_variable(facts, width, y, xy))
                    store(R.tape, p, moved(xx, Rx, xy, Ry))
                    store(R.tape, p + width, moved(xy, Rx, yy, Ry))

    def turn_run(steps: Triples, facts: Facts, width: Word, at: Tables, R: Tables):
        for k in range(steps.shape[0] - 1, -1, -1):
            v, x, y = places(steps, k, width)
            for j in range(0, width, lanes(at.tape)):
                p = n * k * width + j
                g, Rg = take(at.adjoints, v + j), take(R.adjoints, v + j)
                by_x, by_y = read(at.tape, p, width, facts.ties, g)
                add(at.adjoints, x + j, g, by_x)
                add(at.adjoints, y + j, g, by_y)
                add(R.adjoints, x + j, Rg, by_x)
                add_chosen(R.adjoints, x + j, g, load(R.tape, p))
                add(R.adjoints, y + j, Rg, by_y)
                add_chosen(R.adjoints, y + j, g, load(R.tape, p + width))

    curved = curvatures is not None
    turns = kernel(turn_run, name=f"turn.{name}") if curved else turn_straight(name, backward_run)
    return Operation(name, 2, n, forward_run, record_run, backward_run, ahead_run, turns)


def turn_straight(name, backward_run):
    """Make the kernel `turn` of an operation whose derivatives never move."""

    @kernel(name=f"turn.{name}")
    def turn_run(steps: Triples, facts: Facts, width: Word, at: Tables, R: Tables):
        backward_run(steps, facts, width, at.tape, at.adjoints)
        backward_run(steps, facts, width, at.tape, R.adjoints)

    return turn_run


def linear(name, value, partials):
    """Make the record of x + y or x - y."""
    return of_two(name, value, numbers(partials), add_number, move_straight)


def selecting(name, value, choice):
    """Make the record of an operation that takes one of its operands, or neither."""
    return of_two(name, value, choices(choice), add_chosen, move_chosen)


def binary(name, value, partials, curvatures):
    """Make the record of any other operation of two operands."""
    return of_two(name, value, derivatives(partials), add_product, move_variables, curvatures)


# ---------------------------------------------------------------- of one operand


def unary(name, value, partial, curvature=None, taped=1):
    """Make the record of an operation of one operand; without a curvature it takes it, or not.

    Without a row on the tape, its derivative is a number.
    """
    curved = curvature is not None
    add = add_product if curved else add_chosen

    @inlined
    def write(tape, place, p):
        if taped:
            store(tape, place, p)

    @inlined
    def read(tape, place, g):
        return load(tape, place) if taped else partial(g, g)

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
                write(tape, taped * k * width + j, partial(at_v, at_x))

    @kernel(name=f"backward.{name}")
    def backward_run(steps: Triples, facts: Facts, width: Word, tape: Vector, adjoints: Vector):
        for k in range(steps.shape[0] - 1, -1, -1):
            v, x, _ = places(steps, k, width)
            for j in range(0, width, lanes(adjoints)):
                g = take(adjoints, v + j)
                add(adjoints, x + j, g, read(tape, taped * k * width + j, g))

    @kernel(name=f"ahead.{name}")
    def ahead_run(steps: Triples, facts: Facts, width: Word, at: Tables, R: Tables):
        for k in range(steps.shape[0]):
            v, x, _ = places(steps, k, width)
            for j in range(0, width, lanes(at.values)):
                at_x, Rx = load(at.values, x + j), load(R.values, x + j)
                at_v = value(at_x)
                by_x = partial(at_v, at_x)
                store(at.values, v + j, at_v)
                write(at.tape, taped * k * width + j, by_x)
                store(R.values, v + j, by_x * where_not_0(by_x, Rx))
                if curved:
                    xx = curvature(at_v, by_x, at_x)
                    store(R.tape, taped * k * width + j, xx * where_not_0(xx, Rx))

    def turn_run(steps: Triples, facts: Facts, width: Word, at: Tables, R: Tables):
        for k in range(steps.shape[0] - 1, -1, -1):
            v, x, _ = places(steps, k, width)
            for j in range(0, width, lanes(at.tape)):
                g, Rg = take(at.adjoints, v + j), take(R.adjoints, v + j)
                by_x = load(at.tape, k * width + j)
                add(at.adjoints, x + j, g, by_x)
                add(R.adjoints, x + j, Rg, by_x)
                add_chosen(R.adjoints, x + j, g, load(R.tape, k * width + j))

    turns = kernel(turn_run, name=f"turn.{name}") if curved else turn_straight(name, backward_run)
    return Operation(name, 1, taped, forward_run, record_run, backward_run, ahead_run, turns)
