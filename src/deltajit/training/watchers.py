"""Watch a fit: validation data, metrics and callbacks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deltajit import kernels
from deltajit.kernels.mlp.calls import calls_for
from deltajit.model import checks, memory
from deltajit.model.data import Data
from deltajit.model.memory import Array
from deltajit.training.history import TrainingState
from deltajit.training.progress import clock

Metric = Callable[[Array, Array], float]


@dataclass(frozen=True)
class Watchers:
    """Hold the validation data, metrics and callbacks of a fit, and whether it shows a bar."""

    validation: Data | None = None
    targets: Array | None = None  # of validation, as the user gave them
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    callbacks: Sequence[object] = ()
    progress: bool = False

    def columns(self) -> tuple[str, ...]:
        """Return the names of the lists that History gets."""
        losses = ["loss"] if self.validation is None else ["loss", "val_loss", *self.metrics]
        return (*losses, "time")

    def tell(self, event: str, state: TrainingState) -> None:
        """Call the method `event` of each callback that has it."""
        for callback in self.callbacks:
            method = getattr(callback, event, None)
            if method is not None:
                method(state)

    def tell_end(self, state: TrainingState) -> None:
        """Tell every callback that the fit ends, also those after one that raises.

        Ctrl-C meanwhile ends that callback's method, and not the fit, which has a result to return.
        """

        def tell(method: Callable[[TrainingState], None]) -> None:
            try:
                method(state)
            except KeyboardInterrupt:
                state.history.interrupted = True

        with contextlib.ExitStack() as stack:  # which calls the last one first
            for callback in reversed(self.callbacks):
                method = getattr(callback, "on_fit_end", None)
                if method is not None:
                    stack.callback(tell, method)

    def end_epoch(self, state: TrainingState, loss: float, start: float) -> None:
        """Record an epoch that began at `start`, and tell the callbacks."""
        numbers = {"loss": loss, **self._validated(state.net)}
        if state.rule is not None:
            numbers["lr"] = state.lr
        state.history.note({**numbers, "time": clock() - start})
        self.tell("on_epoch_end", state)

    def _validated(self, net: Any) -> dict[str, float]:
        """Evaluate loss and metrics on the validation data, if there is any."""
        if self.validation is None:
            return {}
        X, Y, weights = self.validation
        model = net.model
        work = memory.empty(kernels.workspace_size(model, len(X)), model.theta.dtype)
        numbers = {"val_loss": calls_for(X.dtype).loss(model, X, Y, weights, work)}
        if self.metrics:
            assert self.targets is not None
            outputs = net.predict(X)
            if self.targets.ndim == 1 and outputs.shape[1] == 1:
                outputs = outputs[:, 0]  # else Y - outputs would be (B, B)
            for name, metric in self.metrics.items():
                numbers[name] = checks.number(metric(self.targets, outputs), f"metrics[{name!r}]")
        return numbers


@contextlib.contextmanager
def watched(
    state: TrainingState,
    rngs: Sequence[np.random.Generator],
    watchers: Watchers,
    keeps_steps: bool = False,
) -> Iterator[None]:
    """Tell callbacks that the block's fit begins, and that it ends, for whatever reason.

    If it fails before its first epoch is done, theta and rngs are restored, unless `keeps_steps`.
    """
    theta, drawn = state.theta.copy(), [rng.bit_generator.state for rng in rngs]
    try:
        watchers.tell("on_fit_begin", state)
        try:
            yield
        finally:
            watchers.tell_end(state)
    except BaseException:
        if state.epoch == state.resumed and not keeps_steps:
            state.theta[:] = theta
            for rng, before in zip(rngs, drawn, strict=True):
                rng.bit_generator.state = before
        raise
