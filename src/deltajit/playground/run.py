"""One training as the page shows it: what is trained, how far it is, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from deltajit.derivatives.blackboard import NetworkTrace
from deltajit.model.memory import Array
from deltajit.playground import settings
from deltajit.playground.datasets import Samples
from deltajit.playground.settings import Settings
from deltajit.playground.sources import Source
from deltajit.playground.trainer import Snapshot, Trainer

T = TypeVar("T")

# Samples of which gradients and losses are shown, and how often they are timed.
MOST_MEASURED, REPEATS = 2000, 5


def shares(outputs: Array) -> Array:
    """How much a classifier's outputs (n, n_out) speak for each class: rows that sum to 1."""
    if outputs.shape[1] == 1:
        outputs = np.hstack([1 - outputs, outputs])
    positive = np.clip(np.nan_to_num(outputs), 1e-9, 1)
    return np.asarray(positive / positive.sum(axis=1, keepdims=True))


class Run:
    """A trainer, what it was made of, and `view`, a network of its own to look at.

    Raises ValueError or TypeError where the settings don't fit the samples.
    """

    def __init__(self, source: Source, samples: Samples, wanted: Settings) -> None:
        self.source, self.samples, self.settings = source, samples, wanted
        self.trainer, self.view = Trainer(wanted, samples), wanted.network(samples)
        self._ratio = self._loss = np.nan

    def look(self) -> Snapshot:
        """Bring `view` up to date."""
        shown = self.trainer.frame()
        self.view.theta[:] = shown.theta
        return shown

    def measure(self) -> Array:
        """Return the gradient of some samples, and keep what it and the loss cost."""
        X, Y = (part[:MOST_MEASURED] for part in self.samples.train)
        targets = self.settings.targets(Y, self.samples)
        grad, gradient_time = self._timed(lambda: self.view.grad(X, targets))
        self._loss, loss_time = self._timed(lambda: self.view.loss(X, targets))
        self._ratio = gradient_time / loss_time
        return grad

    @staticmethod
    def _timed(call: Callable[[], T]) -> tuple[T, float]:
        """Return what a call returns, and the seconds of the fastest of a few: others work too."""
        seconds = []
        for _ in range(REPEATS):
            begin = time.perf_counter()
            result = call()
            seconds.append(time.perf_counter() - begin)
        return result, min(seconds)

    def score(self, shown: Snapshot) -> str:
        """Say how many samples are classified right."""
        if not self.samples.classes:
            return ""
        text = f"Correct: {self._correct(*self.samples.train)}, iteration {shown.epoch:,}"
        if self.samples.held_out is not None:
            text += f"; held out: {self._correct(*self.samples.held_out)}"
        return text

    def _correct(self, X: Array, Y: Array) -> str:
        right = int((shares(self.view.predict(X)).argmax(axis=1) == Y).sum())
        return f"{right:,}/{len(Y):,}"

    def status(self, shown: Snapshot) -> str:
        """Say how far training is, and how fast."""
        losses = self.trainer.curve.losses
        loss, held_out = losses[-1] if losses else (self._loss, np.nan)
        parts = [f"<b>epoch {shown.epoch:,}</b>", f"loss {loss:.4g}"]
        if shown.is_running:
            parts.insert(1, "training")
        if np.isfinite(held_out):
            parts.append(f"held out {held_out:.4g}")
        if shown.seconds:
            speed = shown.epoch * self.samples.n_train / shown.seconds
            parts.append(f"{speed:,.0f} samples/s")
        return " · ".join([*parts, f"gradient / loss time {self._ratio:.1f}"])

    def trace(self, i: int) -> NetworkTrace:
        """Trace sample i through the network as it is shown."""
        Y = self.settings.targets(self.samples.Y, self.samples)
        return self.view.trace(self.samples.X[i : i + 1], Y[i : i + 1])

    def script(self) -> str:
        """Write the program that has trained the network as it is shown."""
        return settings.script(self.settings, self.source, self.trainer.frame().epoch)
