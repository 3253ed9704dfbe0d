"""Where samples come from: how they are made, and the line of Python that makes them again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from deltajit.playground import datasets, tables
from deltajit.playground.datasets import Samples


class Source(Protocol):
    """Makes samples, and says how."""

    def samples(self) -> Samples:
        """Make them."""

    def code(self) -> str:
        """Write the expression that makes them, of modules of `deltajit.playground`."""


@dataclass(frozen=True)
class Made:
    """One of the sets of `datasets`."""

    name: str
    n: int
    noise: float
    share: float
    seed: int

    def samples(self) -> Samples:
        """Make them."""
        return datasets.make(self.name, self.n, self.noise, self.share, self.seed)

    def code(self) -> str:
        """Write the expression that makes them."""
        return (
            f"datasets.make({self.name!r}, {self.n}, noise={self.noise!r}, share={self.share!r}, "
            f"seed={self.seed})"
        )


@dataclass(frozen=True)
class Typed:
    """A function that was typed."""

    text: str
    n: int
    noise: float
    share: float
    seed: int

    def samples(self) -> Samples:
        """Make them."""
        return datasets.function(self.text, self.n, self.noise, self.share, self.seed)

    def code(self) -> str:
        """Write the expression that makes them."""
        return (
            f"datasets.function({self.text!r}, {self.n}, noise={self.noise!r}, "
            f"share={self.share!r}, seed={self.seed})"
        )


@dataclass(frozen=True)
class Drawn:
    """Points by hand: rows of x1, x2, class, or of x, y to fit numbers."""

    rows: tuple[tuple[float, ...], ...]
    is_regression: bool = False

    def samples(self) -> Samples:
        """Make them."""
        return datasets.points(self.rows, self.is_regression)

    def code(self) -> str:
        """Write the expression that makes them."""
        rows = "".join(f"    {list(row)},\n" for row in self.rows)
        return f"datasets.points([\n{rows}], is_regression={self.is_regression})"


@dataclass(frozen=True)
class Uploaded:
    """Columns of a user's own file."""

    table: tables.Table
    path: str
    inputs: tuple[str, ...]
    target: str
    classes: bool
    share: float
    seed: int

    def samples(self) -> Samples:
        """Make them."""
        return tables.samples(
            self.table,
            self.inputs,
            self.target,
            classes=self.classes,
            share=self.share,
            seed=self.seed,
        )

    def code(self) -> str:
        """Write the expression that makes them, from a file of that name."""
        return (
            f"tables.samples(\n    tables.parse(Path({self.path!r}).read_bytes()),\n"
            f"    {list(self.inputs)!r}, {self.target!r}, classes={self.classes}, "
            f"share={self.share!r}, seed={self.seed},\n)"
        )
