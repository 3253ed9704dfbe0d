"""Training in a thread of its own, which is paused, stepped and ended from the page's."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field

from deltajit.kernels.gemm.parallel import usable_cores
from deltajit.model.memory import Array
from deltajit.playground.datasets import Samples
from deltajit.playground.settings import Settings
from deltajit.training.callbacks import Callback
from deltajit.training.history import TrainingState

# A copy of the weights is made so often, in seconds, and so many points of a curve are kept.
FRAME, MOST_POINTS = 0.04, 1000


@dataclass(frozen=True)
class Snapshot:
    """What the page shows of a training under way; arrays are its own.

    error : what ended training, if anything but its end did. seconds : of training alone.
    """

    theta: Array
    epoch: int = 0
    seconds: float = 0.0
    is_running: bool = False
    is_over: bool = False
    error: str = ""


@dataclass
class Curve:
    """Losses at some epochs; of too many every other one is forgotten."""

    epochs: list[int] = field(default_factory=list)
    losses: list[tuple[float, float]] = field(default_factory=list)
    every: int = 1

    def note(self, epoch: int, loss: float, val_loss: float) -> None:
        """Take an epoch down if it is due."""
        if epoch % self.every:
            return
        self.epochs.append(epoch)
        self.losses.append((loss, val_loss))
        if len(self.epochs) > MOST_POINTS:
            self.every *= 2
            kept = [i for i, at in enumerate(self.epochs) if at % self.every == 0]
            self.epochs = [self.epochs[i] for i in kept]
            self.losses = [self.losses[i] for i in kept]


class Turns:
    """Lets trainings that share the machine take turns, none twice before another that waits."""

    def __init__(self, at_once: int) -> None:
        self._condition, self._free, self._queue = threading.Condition(), at_once, list[object]()

    def take(self) -> None:
        """Wait for a turn."""
        me = object()
        with self._condition:
            self._queue.append(me)
            self._condition.wait_for(lambda: self._free > 0 and self._queue[0] is me)
            self._queue.pop(0)
            self._free -= 1
            self._condition.notify_all()

    def give(self) -> None:
        """Let the next one have it."""
        with self._condition:
            self._free += 1
            self._condition.notify_all()


# Trainings that run at once, and for how many seconds one does while others wait.
TURNS, TURN = Turns(usable_cores()), 0.05


class Trainer(Callback):
    """Trains one network by one call of fit, in a thread that waits where it is told to.

    A page calls `train`, `pause`, `frame`, `close` and `join`; all else is the training's.
    """

    def __init__(self, settings: Settings, samples: Samples) -> None:
        self.net, self.curve = settings.network(samples), Curve()
        self.settings, self.samples = settings, samples
        self._options = settings.fit_options()
        self.epochs_a_second = math.inf
        self._until, self._closed, self._wants_frame = 0, False, True
        self._wake, self._thread = threading.Condition(), threading.Thread(target=self._run)
        self._epoch, self._seconds, self._began, self._turn_began = 0, 0.0, 0.0, 0.0
        self._framed, self._shown = 0.0, Snapshot(self.net.theta.copy())

    # ---------------------------------------------------------------- called by the page

    def train(self, epochs: int) -> None:
        """Go on for so many epochs from where training is."""
        with self._wake:
            self._until = min(self._epoch + epochs, self.settings.total)
            self._wake.notify_all()
            if not self._thread.ident:
                self._thread.daemon = True
                self._thread.start()

    def pause(self) -> None:
        """Wait after the epoch that is under way."""
        with self._wake:
            self._until = 0

    def close(self) -> None:
        """Have the thread end after the epoch that is under way; nobody waits for it."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread.ident:
            self._thread.join()

    def frame(self) -> Snapshot:
        """The last copy of what is trained; asks for another."""
        self._wants_frame = True
        return self._shown

    # ---------------------------------------------------------------- in the thread

    def _run(self) -> None:
        error, options = "", dict(self._options)
        X, Y = self.samples.train
        if self.samples.held_out is not None:
            X_out, Y_out = self.samples.held_out
            options["validation_data"] = X_out, self.settings.targets(Y_out, self.samples)
        targets = self.settings.targets(Y, self.samples)
        TURNS.take()
        self._turn_began = self._began = time.perf_counter()
        try:
            self.net.fit(X, targets, self.settings.total, callbacks=[self], **options)
        except (ArithmeticError, ImportError, TypeError, ValueError) as wrong:
            error = str(wrong)
        finally:
            TURNS.give()
        self._show(is_over=True, error=error)

    def on_epoch_end(self, state: TrainingState) -> None:
        """Take the epoch down, show it if it is time, and wait if it was the last for now."""
        now = time.perf_counter()
        took = now - self._began
        self._seconds += took
        self._epoch, history = state.epoch, state.history
        val_loss = history.val_loss[-1] if history.val_loss else math.nan
        self.curve.note(state.epoch, float(history.loss[-1]), float(val_loss))
        if self._wants_frame and now - self._framed > FRAME:
            self._show(is_running=True)
        rest = 1 / self.epochs_a_second - took
        if self._epoch >= self._until or self._closed or rest > 0 or now > self._turn_began + TURN:
            TURNS.give()
            self._wait(rest)
            TURNS.take()
            self._turn_began = time.perf_counter()
        if self._closed:
            state.stop()
        self._began = time.perf_counter()

    def _wait(self, rest: float) -> None:
        """Wait for a moment, and where training is paused until it goes on or is closed."""
        with self._wake:
            if rest > 0:
                self._wake.wait_for(lambda: self._closed or self._epoch >= self._until, rest)
            if self._epoch >= self._until and self._epoch < self.settings.total:
                self._show()
                self._wake.wait_for(lambda: self._closed or self._epoch < self._until)

    def _show(self, *, is_running: bool = False, is_over: bool = False, error: str = "") -> None:
        """Copy what the page is to show."""
        self._framed, self._wants_frame = time.perf_counter(), False
        self._shown = Snapshot(
            self.net.theta.copy(), self._epoch, self._seconds, is_running, is_over, error
        )
