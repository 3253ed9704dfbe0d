"""What is trained, and how: the network and the arguments of fit, and the script of the same."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from deltajit.kernels import LOSSES, OPTIMIZERS
from deltajit.model import checks
from deltajit.model.memory import Array
from deltajit.network import Network
from deltajit.playground.datasets import Samples
from deltajit.playground.sources import Source
from deltajit.training import full_batch, schedules

MOST_LAYERS, MOST_UNITS = 6, 64

ANY_OUTPUT = [name for name, loss in LOSSES.items() if loss.output is None]
CLASS_LOSSES = ["cross_entropy", "binary_cross_entropy", *ANY_OUTPUT]
NUMBER_LOSSES = [*ANY_OUTPUT, "gaussian_nll"]
METHODS = {name: getattr(full_batch, name) for name in ("LBFGS", "LevenbergMarquardt")}
OPTIMIZER_NAMES = ["Adam", *(name for name in OPTIMIZERS if name != "Adam"), *METHODS]
SCHEDULES = ["constant", "StepDecay", "ExponentialDecay", "CosineDecay", "OneCycle"]
# Without a schedule training goes on until it is paused, or for so many epochs.
ENDLESS = 200_000


@dataclass(frozen=True)
class Settings:
    """Network and training, as the page's widgets have them.

    hidden : units of each hidden layer, with as many names in `activations`. epochs : after so
    many training pauses; with a schedule it ends.
    """

    hidden: tuple[int, ...] = (8, 8)
    activations: tuple[str, ...] = ("tanh", "tanh")
    output: str = "auto"
    loss: str = "cross_entropy"
    init: str = "auto"
    seed: int = 0
    l2: float = 0.0
    l1: float = 0.0
    dropout: float = 0.0
    optimizer: str = "Adam"
    lr: float = 0.01
    schedule: str = "constant"
    batch_size: int = 32
    epochs: int = 1000

    def sizes(self, samples: Samples) -> list[int]:
        """Units of each layer."""
        n_out = 1
        if samples.classes and self.loss != "binary_cross_entropy":
            n_out = len(samples.classes)
        n_out *= int(LOSSES[self.loss].outputs_per_target)
        return [samples.X.shape[1], *self.hidden, n_out]

    def network(self, samples: Samples) -> Network:
        """Make the network; raises ValueError or TypeError naming what is wrong.

        The page's widgets have limits too, but a browser may send what it likes.
        """
        checks.whole(len(self.hidden), "the number of hidden layers", least=0, most=MOST_LAYERS)
        for i, units in enumerate(self.hidden, 1):
            checks.whole(units, f"the units of hidden layer {i}", most=MOST_UNITS)
        checks.choice(self.loss, "loss", CLASS_LOSSES if samples.classes else NUMBER_LOSSES)
        if self.loss == "binary_cross_entropy" and len(samples.classes) != 2:
            raise ValueError(
                f"loss 'binary_cross_entropy' tells 2 classes apart, not {len(samples.classes)}; "
                "use 'cross_entropy'"
            )
        options: dict[str, Any] = dict(l2=self.l2, init=self.init, rng=self.seed, l1=self.l1)
        return Network(
            self.sizes(samples),
            list(self.activations),
            self.output,
            self.loss,
            threads=1,
            **options,
        )

    def targets(self, Y: Array, samples: Samples) -> Array:
        """Targets as the loss takes them."""
        if samples.classes and self.loss == "binary_cross_entropy":
            return Y[:, None].astype(float)
        if samples.classes and self.loss != "cross_entropy":
            return np.eye(len(samples.classes))[Y]
        return Y

    def fit_options(self) -> dict[str, Any]:
        """Make the arguments of fit but for the data, callbacks and the number of epochs."""
        methods: dict[str, Any] = {**OPTIMIZERS, **METHODS}
        method = methods[checks.choice(self.optimizer, "optimizer", methods)]
        checks.choice(self.schedule, "schedule", SCHEDULES)
        checks.whole(self.epochs, "epochs", most=ENDLESS)
        checks.whole(self.batch_size, "batch size")
        if self.optimizer in METHODS:
            return dict(optimizer=method(), progress=False)
        return dict(
            batch_size=self.batch_size,
            optimizer=method(lr=self.lr),
            schedule=self._schedule(),
            dropout=self.dropout,
            progress=False,
        )

    def _schedule(self) -> schedules.Schedule | None:
        """Make the schedule of the rate, if it has one."""
        if self.schedule == "constant":
            return None
        made: schedules.Schedule = getattr(schedules, self.schedule)(*self.schedule_arguments)
        return made

    @property
    def schedule_arguments(self) -> tuple[float, ...]:
        """What the schedule is made of: a step after each third of the epochs, a slow decay."""
        arguments = {"StepDecay": (max(1, self.epochs // 3),), "ExponentialDecay": (0.995,)}
        return arguments.get(self.schedule, ())

    @property
    def total(self) -> int:
        """Epochs that fit is told of."""
        is_endless = self.schedule == "constant" or self.optimizer in METHODS
        return ENDLESS if is_endless else self.epochs


def script(settings: Settings, source: Source, epochs: int) -> str:
    """Write the program that trains for so many epochs what the page has trained, bit for bit."""
    samples = source.samples()
    is_rows = samples.classes and settings.loss not in ("cross_entropy", "binary_cross_entropy")
    targets = {
        "cross_entropy": "Y",
        "binary_cross_entropy": "Y[:, None].astype(float)",
    }.get(settings.loss, f"np.eye({len(samples.classes)})[Y]" if is_rows else "Y")
    is_method = settings.optimizer in METHODS
    optimizer = f"dj.{settings.optimizer}({'' if is_method else f'lr={settings.lr!r}'})"
    lines = [f"    epochs={epochs},", f"    optimizer={optimizer},"]
    stopped = ""
    if not is_method:
        lines += [f"    batch_size={settings.batch_size},", f"    dropout={settings.dropout!r},"]
        if settings.schedule != "constant":
            lines[0] = f"    epochs={settings.epochs},"
            arguments = ", ".join(map(repr, settings.schedule_arguments))
            lines += [f"    schedule=dj.schedules.{settings.schedule}({arguments}),"]
            lines += ["    callbacks=[Pause()],"]
            stopped = PAUSE.format(epochs=epochs)
    held_out = "" if samples.held_out is None else HELD_OUT
    return SCRIPT.format(
        source=source.code(),
        sizes=settings.sizes(samples),
        activations=list(settings.activations),
        targets=targets,
        fit="\n".join(lines),
        pause=stopped,
        held_out=held_out,
        **{
            part.name: repr(getattr(settings, part.name))
            for part in fields(settings)
            if part.name in ("output", "loss", "init", "l2", "l1", "seed")
        },
    )


PAUSE = """
class Pause(dj.callbacks.Callback):
    def on_epoch_end(self, state):
        if state.epoch == {epochs}:
            state.stop()

"""

HELD_OUT = """
print("loss on held-out samples", net.loss(samples.X[n:], targets(samples.Y[n:])))"""

SCRIPT = """from pathlib import Path

import numpy as np

import deltajit as dj
from deltajit.playground import datasets, tables

{pause}
def targets(Y):
    return {targets}


samples = {source}
n = samples.n_train
X, Y = samples.X[:n], targets(samples.Y[:n])

net = dj.Network(
    {sizes}, {activations}, output={output}, loss={loss},
    l2={l2}, l1={l1}, init={init}, rng={seed}, threads=1,
)
history = net.fit(
    X, Y,
{fit}
    progress=False,
)
print("loss", net.loss(X, Y)){held_out}
"""
