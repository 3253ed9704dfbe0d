"""Keep the state of a fit in a file, from which it goes on to the very same weights.

The file has the safetensors format: arrays, and text as JSON; nothing in it is executed. It is
replaced as a whole, so that a process killed at any moment leaves the old file or the new one.
"""

from __future__ import annotations

import copy
import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, SupportsFloat

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from deltajit.io.files import FormatError, replace
from deltajit.model.memory import Array
from deltajit.training.callbacks import Callback
from deltajit.training.history import TrainingState

VERSION = "deltajit checkpoint 1"
COLUMNS = ("loss", "val_loss", "metrics", "lr", "time")  # lists of History
PARTS = {"fit", "history", "rng", "callbacks", "stopped"}  # keys of the text, beside the version


class Saved(NamedTuple):
    """Hold the content of a file: the text, decoded from JSON, and arrays by name."""

    text: dict[str, Any]
    arrays: dict[str, Array]
    path: Path


@dataclass(frozen=True)
class Checkpoint:
    """Write and read the state of a fit.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    every : int
        Epochs between two writes; the last epoch is always written.
    fit : dict
        Values that must be the same for a fit to go on, by name, such as JSON holds: numbers of
        different types are equal if their values are, and no object is known by its repr.
    """

    path: Path
    every: int
    fit: dict[str, Any]

    def epoch_done(
        self, state: TrainingState, rng: np.random.Generator, callbacks: Sequence[object]
    ) -> None:
        """Write the state, if it is time."""
        if state.epoch % self.every == 0 or state.epoch == state.epochs or state.stopped:
            replace(self.path, self.encoded(state, rng, callbacks))

    def encoded(
        self, state: TrainingState, rng: np.random.Generator, callbacks: Sequence[object]
    ) -> bytes:
        """Return the file's content; raise TypeError for a callback's state that it can't hold."""
        arrays, states = _arrays(state), []
        for i, callback in enumerate(remembering(callbacks)):
            its_arrays, its_text = _state_of(callback)
            arrays |= {f"callbacks.{i}.{name}": x for name, x in its_arrays.items()}
            states.append((type(callback).__name__, its_text))
        text = {
            "version": VERSION,
            "fit": self.fit,
            "history": {name: getattr(state.history, name) for name in COLUMNS},
            "rng": rng.bit_generator.state,
            "callbacks": states,
            "stopped": state.stopped,
        }
        content: bytes = save(arrays, metadata={"deltajit": json.dumps(text, default=plain)})
        return content

    def read(
        self, state: TrainingState, rng: np.random.Generator, callbacks: Sequence[object]
    ) -> Saved | None:
        """Return the checked content of the file, or None if there is no file.

        Raise FormatError for a file that is no checkpoint, and ValueError for that of another fit.
        """
        if not self.path.exists():
            return None
        try:
            saved = _decoded(self.path)
        except (SafetensorError, KeyError, ValueError, OSError, RecursionError) as error:
            raise FormatError(f"{self.path} is not a checkpoint: {error}") from None
        if not _is_whole(saved):
            raise FormatError(f"{self.path} is not a checkpoint of this version of deltajit")
        self._check_fit(saved, rng, callbacks)
        expected = {name: (x.shape, x.dtype) for name, x in _arrays(state).items()}
        kept = {name: (x.shape, x.dtype) for name, x in saved.arrays.items() if name in expected}
        if kept != expected:
            raise FormatError(
                f"{self.path} is not a checkpoint: it has {kept}, expected {expected}"
            )
        return saved

    def _check_fit(
        self, saved: Saved, rng: np.random.Generator, callbacks: Sequence[object]
    ) -> None:
        """Raise ValueError if the file is of another fit, and say what differs."""
        name = f"checkpoint={str(self.path)!r}"
        kept, this = saved.text["fit"], json.loads(json.dumps(self.fit, default=plain))
        differing = [x for x in {**this, **kept} if x not in kept or this.get(x) != kept[x]]
        if differing:
            pairs = [
                ", ".join(f"{x}={reprlib.repr(fit.get(x))}" for x in differing)
                for fit in (kept, this)
            ]
            raise ValueError(
                f"{name} is of another fit: it has {pairs[0]}, where this one has {pairs[1]}"
            )
        kept_names = [callback for callback, _ in saved.text["callbacks"]]
        names = [type(callback).__name__ for callback in remembering(callbacks)]
        if kept_names != names:
            raise ValueError(
                f"{name} is of a fit with other callbacks: {kept_names}, where this one has {names}"
            )
        try:
            copy.deepcopy(rng.bit_generator).state = saved.text["rng"]
        except (KeyError, OverflowError, TypeError, ValueError):
            raise ValueError(
                f"{name} is of a fit whose rng was a {saved.text['rng'].get('bit_generator')}, "
                f"where this one has a {type(rng.bit_generator).__name__}"
            ) from None


def remembering(callbacks: Sequence[object]) -> list[Any]:
    """Return the callbacks that define `state_dict`."""
    methods = [getattr(callback, "state_dict", None) for callback in callbacks]
    return [
        callback
        for callback, method in zip(callbacks, methods, strict=True)
        if method is not None and getattr(method, "__func__", None) is not Callback.state_dict
    ]


def plain(x: object) -> object:
    """Convert an array, or a number of any type, to what JSON holds."""
    if isinstance(x, np.ndarray | np.generic):
        return x.tolist()
    if isinstance(x, SupportsFloat):
        return float(x)
    raise TypeError(f"{x!r} is neither a number, a string, None, an array, nor a list of these")


def restore(
    saved: Saved, state: TrainingState, rng: np.random.Generator, callbacks: Sequence[object]
) -> None:
    """Restore a fit, its generator and its callbacks from a file that `read` has checked."""
    text, arrays, _ = saved
    for i, callback in enumerate(remembering(callbacks)):
        prefix = f"callbacks.{i}."
        its_arrays = {n.removeprefix(prefix): x for n, x in arrays.items() if n.startswith(prefix)}
        try:
            callback.load_state_dict({**text["callbacks"][i][1], **its_arrays})
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise FormatError(
                f"{saved.path} has a state that {type(callback).__name__}.load_state_dict can't "
                f"take: {error!r}"
            ) from error
    for name, array in _arrays(state).items():
        array[...] = arrays[name]
    for name in COLUMNS:
        setattr(state.history, name, text["history"][name])
    state.resumed, state.stopped = state.epoch, text["stopped"]
    rng.bit_generator.state = text["rng"]


def _arrays(state: TrainingState) -> dict[str, Array]:
    """Return the arrays of a fit by name, without those of callbacks."""
    rule = state.rule
    assert rule is not None
    arrays = {"theta": state.theta, "rule.state": rule.state, "rule.rates": rule.rates}
    arrays["rule.count"] = rule.count
    if state.dropout is not None:
        arrays["dropout.seed"] = state.dropout.seed
    return arrays


def _state_of(callback: Any) -> tuple[dict[str, Array], dict[str, Any]]:
    """Split a callback's state into arrays and the rest, as they can be written."""
    name, kept = f"{type(callback).__name__}.state_dict", callback.state_dict()
    if not hasattr(callback, "load_state_dict"):
        raise TypeError(f"{name} needs load_state_dict, which gives back what it returns")
    if not isinstance(kept, Mapping) or not all(isinstance(key, str) for key in kept):
        raise TypeError(f"{name} must return a dict with strings as keys, got {kept!r}")
    arrays = {}
    for key, x in kept.items():
        try:
            if isinstance(x, np.ndarray):
                arrays[key] = x.astype(x.dtype.newbyteorder("="), order="C")
                save({key: arrays[key]})
            else:
                json.dumps(x, default=plain)
        except (KeyError, TypeError, ValueError, SafetensorError) as error:
            raise TypeError(f"{name} has {key!r}, which a checkpoint can't hold: {error}") from None
    return arrays, {key: x for key, x in kept.items() if key not in arrays}


def _decoded(path: Path) -> Saved:
    """Return what is in a file."""
    content = path.read_bytes()
    arrays = load(content)  # which checks the header
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    return Saved(json.loads(metadata.get("deltajit", "{}")), arrays, path)


def _is_whole(saved: Saved) -> bool:
    """Return whether the text has all parts, of the right types."""
    text = saved.text
    return (
        isinstance(text, dict)
        and text.get("version") == VERSION
        and text.keys() >= PARTS
        and all(isinstance(text[name], dict) for name in ("fit", "history", "rng"))
        and _is_history(text["history"])
        and isinstance(text["callbacks"], list)
        and all(isinstance(x, list) and [*map(type, x)] == [str, dict] for x in text["callbacks"])
    )


def _is_history(columns: dict[str, Any]) -> bool:
    """Return whether these are History's columns: lists of numbers, of one length or empty."""
    if not (columns.keys() >= set(COLUMNS) and isinstance(columns["metrics"], dict)):
        return False
    lists = [columns[name] for name in COLUMNS if name != "metrics"] + [
        *columns["metrics"].values()
    ]
    if not all(isinstance(x, list) and {*map(type, x)} <= {int, float} for x in lists):
        return False
    epochs = len(columns["loss"])
    return len(columns["time"]) == epochs and all(len(x) in (0, epochs) for x in lists)
