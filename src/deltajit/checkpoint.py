"""A fit's whole state in a file, from which it goes on to the very same weights.

The file is in safetensors' format: arrays, and text as JSON; nothing in it is executed. It is
replaced as a whole, so that a process killed at any moment leaves the old one or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from deltajit.files import FormatError, replace
from deltajit.history import TrainingState

Array = NDArray[Any]
VERSION = "deltajit checkpoint 1"
COLUMNS = ("loss", "val_loss", "metrics", "lr", "time")  # of History


@dataclass(frozen=True)
class Checkpoint:
    """Where a fit's state is kept, and what fit it is.

    path : of the file. every : epochs between two writes; the last one is always written.
    fit : what must be the same for a fit to go on: the network, the optimizer, the batches.
    """

    path: Path
    every: int
    fit: str

    def epoch_done(
        self, state: TrainingState, rng: np.random.Generator, callbacks: Sequence[Any]
    ) -> None:
        """Write the state, if it is time to."""
        if state.epoch % self.every == 0 or state.epoch == state.epochs or state.stopped:
            replace(self.path, _encoded(self.fit, state, rng, callbacks))

    def resume(
        self, state: TrainingState, rng: np.random.Generator, callbacks: Sequence[Any]
    ) -> None:
        """Bring all of these to where the file says that they were; without a file do nothing.

        Raises FormatError for what is no such file, and ValueError for that of another fit.
        """
        if not self.path.exists():
            return
        try:
            with safe_open(self.path, framework="numpy") as file:
                text = (file.metadata() or {}).get("deltajit", "{}")
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            kept = json.loads(text)
        except (SafetensorError, ValueError, OSError) as error:
            raise FormatError(f"{self.path} is not a checkpoint: {error}") from None
        if not isinstance(kept, dict) or kept.get("version") != VERSION:
            raise FormatError(f"{self.path} is not a checkpoint of this version of deltajit")
        if kept["fit"] != self.fit:
            raise ValueError(
                f"checkpoint={str(self.path)!r} is of another fit: it has\n  {kept['fit']}\n"
                f"where this one has\n  {self.fit}"
            )
        own = [type(callback).__name__ for callback in _with_state(callbacks)]
        if [name for name, _ in kept["callbacks"]] != own:
            raise ValueError(
                f"checkpoint={str(self.path)!r} is of a fit with other callbacks: "
                f"{[name for name, _ in kept['callbacks']]}, where this one has {own}"
            )
        _restore(kept, arrays, state, rng, callbacks)


def _with_state(callbacks: Sequence[Any]) -> list[Any]:
    """Those callbacks that have something to remember."""
    return [c for c in callbacks if hasattr(c, "state_dict") and c.state_dict()]


def _encoded(
    fit: str, state: TrainingState, rng: np.random.Generator, callbacks: Sequence[Any]
) -> bytes:
    rule, history = state.rule, state.history
    assert rule is not None
    arrays = {"theta": state.theta, "rule.state": rule.state, "rule.rates": rule.rates}
    arrays |= {"rule.count": rule.count}
    if state.dropout is not None:
        arrays["dropout.seed"] = state.dropout.seed
    own: list[tuple[str, dict[str, Any]]] = []
    for i, callback in enumerate(_with_state(callbacks)):
        kept = callback.state_dict()
        found = {name: x for name, x in kept.items() if isinstance(x, np.ndarray)}
        arrays |= {f"callbacks.{i}.{name}": x for name, x in found.items()}
        texts = {name: x for name, x in kept.items() if name not in found}
        own.append((type(callback).__name__, texts))
    columns = {name: getattr(history, name) for name in COLUMNS}
    text = {
        "version": VERSION,
        "fit": fit,
        "history": columns,
        "rng": rng.bit_generator.state,
        "callbacks": own,
        "stopped": state.stopped,
    }
    contiguous = {name: np.ascontiguousarray(x) for name, x in arrays.items()}
    encoded: bytes = save(contiguous, metadata={"deltajit": json.dumps(text, default=_plain)})
    return encoded


def _plain(x: Any) -> Any:
    """NumPy's numbers and arrays, of which a generator's state may have some, for JSON."""
    return x.tolist()


def _restore(
    kept: dict[str, Any],
    arrays: dict[str, Array],
    state: TrainingState,
    rng: np.random.Generator,
    callbacks: Sequence[Any],
) -> None:
    rule, history = state.rule, state.history
    assert rule is not None
    state.theta[:] = arrays["theta"]
    for name in ("state", "rates", "count"):
        getattr(rule, name)[...] = arrays[f"rule.{name}"]
    if state.dropout is not None:
        state.dropout.seed[:] = arrays["dropout.seed"]
    for name in COLUMNS:
        setattr(history, name, kept["history"][name])
    rng.bit_generator.state = kept["rng"]
    state.stopped = kept["stopped"]
    for i, callback in enumerate(_with_state(callbacks)):
        prefix = f"callbacks.{i}."
        own = {n.removeprefix(prefix): x for n, x in arrays.items() if n.startswith(prefix)}
        callback.load_state_dict({**kept["callbacks"][i][1], **own})
