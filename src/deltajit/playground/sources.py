"""Where samples come from: how they are made, and the line of Python that makes them again."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import ClassVar, Protocol

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
    """One of the sets of `datasets`, by its name."""

    what: str
    n: int
    noise: float
    share: float
    seed: int
    maker: ClassVar = "make"

    def samples(self) -> Samples:
        """Make them."""
        made: Samples = getattr(datasets, self.maker)(*astuple(self))
        return made

    def code(self) -> str:
        """Write the expression that makes them."""
        return (
            f"datasets.{self.maker}({self.what!r}, {self.n}, noise={self.noise!r}, "
            f"share={self.share!r}, seed={self.seed})"
        )


class Typed(Made):
    """A function that was typed."""

    maker = "function"


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
            self.table, self.inputs, self.target,
            classes=self.classes, share=self.share, seed=self.seed,
        )  # fmt: skip

    def code(self) -> str:
        """Write the expression that makes them, from a file of that name."""
        return (
            f"tables.samples(\n    tables.parse(Path({self.path!r}).read_bytes()),\n"
            f"    {list(self.inputs)!r}, {self.target!r}, classes={self.classes}, "
            f"share={self.share!r}, seed={self.seed},\n)"
        )
