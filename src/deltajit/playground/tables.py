"""A user's own table: a CSV file, whose columns become inputs and a target."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deltajit.model.memory import Array
from deltajit.playground.datasets import Samples, shuffled

MOST_ROWS, MOST_CELLS, MOST_CLASSES, MOST_INPUTS = 100_000, 2_000_000, 10, 20


class Table(NamedTuple):
    """Columns of text by name, in the file's order."""

    names: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]

    def column(self, name: str) -> tuple[str, ...]:
        """One column."""
        return self.columns[self.names.index(name)]

    def is_numbers(self, name: str) -> bool:
        """Whether every cell of a column is a finite number."""
        try:
            self.numbers(name)
        except ValueError:
            return False
        return True

    def numbers(self, name: str) -> Array:
        """One column as numbers; ValueError names the first cell that is none."""
        found = np.empty(len(self.column(name)))
        for i, cell in enumerate(self.column(name)):
            try:
                found[i] = float(cell)
            except ValueError:
                what = repr(cell) if cell else "empty"
                raise ValueError(f"column {name!r} has no number in row {i + 1}: {what}") from None
            if not np.isfinite(found[i]):
                raise ValueError(f"column {name!r} is not finite in row {i + 1}: {cell}")
        return found


def parse(data: bytes) -> Table:
    """Read a CSV file with a head; ValueError says in a sentence what is wrong with it."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("the file is no text in UTF-8; save it as CSV in UTF-8") from None
    if "\0" in text:
        raise ValueError("the file is no text; save it as CSV in UTF-8")
    comma = max(",;\t", key=text.split("\n", 1)[0].count)
    head: list[str] = []
    rows: list[list[str]] = []
    cells = 0
    for row in csv.reader(io.StringIO(text), delimiter=comma):
        if not any(cell.strip() for cell in row):
            continue
        if not head:
            head = [cell.strip() for cell in row]
            continue
        if len(row) != len(head):
            raise ValueError(f"row {len(rows) + 1} has {len(row)} cells, the head {len(head)}")
        rows.append([cell.strip() for cell in row])
        cells += len(row)
        if len(rows) > MOST_ROWS or cells > MOST_CELLS:
            raise ValueError(f"the file has more than {MOST_ROWS:,} rows or {MOST_CELLS:,} cells")
    if len(head) < 2:
        raise ValueError("the file needs two columns at least, an input and a target")
    if len(set(head)) < len(head) or "" in head:
        raise ValueError("each column needs a name of its own in the first row")
    if any(mark in name for name in head for mark in "<>&"):  # browsers would take it for HTML
        raise ValueError("a column's name may not have one of < > & in it")
    if len(rows) < 2:
        raise ValueError("the file needs two rows at least below its head")
    return Table(tuple(head), tuple(zip(*rows, strict=True)))


def samples(
    table: Table,
    inputs: Sequence[str],
    target: str,
    *,
    classes: bool,
    share: float = 0.3,
    seed: int = 0,
) -> Samples:
    """Take columns as inputs, standardized, and one as the target: classes, or numbers likewise."""
    if not 1 <= len(inputs) <= MOST_INPUTS or target in inputs:
        raise ValueError(f"choose 1 to {MOST_INPUTS} input columns, the target not among them")
    X = np.stack([standardized(table.numbers(name)) for name in inputs], axis=1)
    if not classes:
        Y = standardized(table.numbers(target))[:, None]
        return shuffled(X, Y, share, seed, (*inputs, target))
    if "" in table.column(target):
        raise ValueError(f"column {target!r} is empty in row {table.column(target).index('') + 1}")
    names, labels = np.unique(np.array(table.column(target)), return_inverse=True)
    if not 2 <= len(names) <= MOST_CLASSES:
        one = "one class only" if len(names) == 1 else f"{len(names):,} classes"
        raise ValueError(f"column {target!r} has {one}; 2 to {MOST_CLASSES} can be told apart")
    return shuffled(X, labels.ravel(), share, seed, inputs, names.tolist())


def standardized(x: Array) -> Array:
    """Shift and scale to mean 0 and standard deviation 1; a constant becomes 0."""
    with np.errstate(all="ignore"):
        spread = x.std()
        moved = (x - x.mean()) / (spread if spread > 0 else 1.0)
    if not (np.isfinite(spread) and np.isfinite(moved).all()):
        raise ValueError("a column has numbers too large to be standardized")
    return np.asarray(moved)
