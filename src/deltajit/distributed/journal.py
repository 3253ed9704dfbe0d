"""Keep a full-batch fit in a file: what the workers have answered, so that it can be gone over.

LBFGS and LevenbergMarquardt have their state where nobody reaches it, but they are functions of
theta at the start and of the sums that they ask for. A fit that goes on gets the same answers from
the file, without any work, up to where the file ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from deltajit.io.files import FormatError, replace, target_of
from deltajit.model import checks
from deltajit.model.memory import Array
from deltajit.training.callbacks import Callback
from deltajit.training.history import TrainingState
from deltajit.training.leaves import Leaf, Part

VERSION = "deltajit journal 1"


class Journal(Callback):
    """Note the sums of a fit, and write them after its epochs, as a callback.

    Parameters
    ----------
    path : path
        The file.
    every : int
        Epochs between two writes; the last epoch is always written.
    fit : dict of str
        What must be the same for a fit to go on.
    """

    def __init__(self, path: Any, every: int, fit: dict[str, str]) -> None:
        self._path, self._every = (
            Path(checks.path(path, "checkpoint")),
            checks.whole(every, "every"),
        )
        target_of(self._path, "checkpoint")
        self._fit = fit
        self._start: Array | None = None
        self._parts: list[Part] = []
        self._answers: list[Part] = []

    def resume(self, theta: Array) -> None:
        """Read the file, if it exists: the fit will begin where that one has."""
        if not self._path.exists():
            return
        try:
            content = self._path.read_bytes()
            length = int.from_bytes(content[:8], "little")
            arrays, text = load(content), json.loads(content[8 : 8 + length])["__metadata__"]
            kept = json.loads(text["fit"])
            sums = arrays["sums"]
            answers = [
                Part(loss, weight, arrays[f"vector.{i}"])
                for i, (loss, weight) in enumerate(sums.tolist())
            ]
            start = arrays["theta"]
            if text["version"] != VERSION or start.shape != theta.shape:
                raise ValueError("it is of another version or network")
        except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise FormatError(f"{self._path} is not a checkpoint of LBFGS: {error}") from None
        differing = [name for name in self._fit if kept.get(name) != self._fit[name]]
        if differing:
            name = differing[0]
            raise ValueError(
                f"checkpoint={str(self._path)!r} is of another fit: it has {name}="
                f"{kept.get(name)}, where this one has {self._fit[name]}"
            )
        self._answers, self._start = answers, start

    def around(self, reduce: Callable[[Leaf, Array], Part]) -> Callable[[Leaf, Array], Part]:
        """Return `reduce` with the first answers from the file, and all of them noted."""

        def answer(leaf: Leaf, theta: Array) -> Part:
            known = len(self._parts) < len(self._answers)
            part = self._answers[len(self._parts)] if known else reduce(leaf, theta)
            self._parts.append(part)
            return part

        return answer

    def on_fit_begin(self, state: TrainingState) -> None:
        """Go to where the fit that is in the file has started, or note where this one does."""
        if self._start is None:
            self._start = state.theta.copy()
        state.theta[:] = self._start

    def on_epoch_end(self, state: TrainingState) -> None:
        """Write the file, if it is time and there is anything new."""
        is_due = state.epoch % self._every == 0 or state.is_over
        if is_due and len(self._parts) > len(self._answers):
            arrays = {f"vector.{i}": part.vector for i, part in enumerate(self._parts)}
            arrays["sums"] = np.array([part[:2] for part in self._parts])
            assert self._start is not None
            arrays["theta"] = self._start
            text = {"version": VERSION, "fit": json.dumps(self._fit)}
            replace(self._path, save(arrays, metadata=text))
