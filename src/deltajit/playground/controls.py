"""The widgets on the left of the page: data, network, training."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from bokeh.layouts import column, row
from bokeh.models import (
    Checkbox,
    CustomJS,
    Div,
    FileInput,
    MultiChoice,
    NumericInput,
    RadioButtonGroup,
    Select,
    Slider,
    Spinner,
    TextAreaInput,
    TextInput,
)

from deltajit.kernels.mlp.optimizers import OPTIMIZERS
from deltajit.model.architecture import hidden_activations, output_activations
from deltajit.model.initializers import INITIALIZERS
from deltajit.playground import datasets, settings, tables
from deltajit.playground.settings import Settings
from deltajit.playground.sources import Drawn, Made, Source, Typed, Uploaded

WIDTH, MOST_POINTS = 250, 2000
TYPED, FILE, HAND, HAND_NUMBERS = "typed function", "own CSV", "points by hand", "points on a line"
BY_HAND = ["Add red", "Add green", "Add blue", "Remove"]
NARROW = ".bk-btn { padding: 6px 5px; }"

# A file that is too large is refused in the browser: a message of that size would end the session.
REFUSE = """
const View = upload.default_view.prototype
if (!View.refuses) {
  View.refuses = true
  const load = View.load_files
  View.load_files = async function(files) {
    if (files.length && files[0].size > limit)
      this.model.mime_type = `too large: ${files[0].size}`
    else
      await load.call(this, files)
  }
}
"""


class DataControls:
    """Which samples: a set, a typed function, a file, or points by hand."""

    def __init__(self, upload_limit: int, changed: Callable[[], None], tell: Any) -> None:
        self.table: tables.Table | None = None
        self.rows: tuple[tuple[float, ...], ...] = ()
        self._limit, self._changed, self._tell, self._is_quiet = upload_limit, changed, tell, False
        names = [*datasets.CLASSES, *datasets.NUMBERS, TYPED, FILE, HAND, HAND_NUMBERS]
        self.name = Select(title="Data", value="spirals", options=names, width=WIDTH, name="data")
        self.text = TextInput(
            title="f(x)", value="sin(3*x) + 0.3*x", width=WIDTH, name="function", visible=False
        )
        self.n = Spinner(title="Samples", value=300, low=10, high=5000, step=50, width=115)
        self.seed = Spinner(title="Data's seed", value=0, low=0, high=10**6, width=115)
        self.noise = Slider(title="Noise", value=0.05, start=0, end=1, step=0.01, width=WIDTH)
        self.share = Slider(title="Held out", value=0.3, start=0, end=0.8, step=0.05, width=WIDTH)
        self.upload = FileInput(accept=".csv,.txt", width=WIDTH, name="upload", title="CSV file")
        self.inputs = MultiChoice(title="Inputs", width=WIDTH, name="inputs")
        self.target = Select(title="Target", width=WIDTH, name="target")
        self.classes = Checkbox(label="The target is a class", active=True, name="classes")
        self.horizontal = Select(title="Shown to the right", width=115)
        self.vertical = Select(title="Shown upwards", width=115)
        self.add = RadioButtonGroup(
            labels=BY_HAND, active=0, width=WIDTH, name="add", stylesheets=[NARROW]
        )
        self.pasted = TextAreaInput(
            title="Table of points: x1, x2, class", rows=12, width=WIDTH, name="points"
        )
        self._file = column(self.upload, self.inputs, self.target, self.classes,
                            row(self.horizontal, self.vertical))  # fmt: skip
        self._hand = column(
            Div(text="Click into the picture, or drag a point.", width=WIDTH), self.add, self.pasted
        )
        self._made = column(row(self.n, self.seed), self.noise)
        self.layout = column(self.name, self.text, self._made, self._file, self._hand, self.share)
        self._listen()
        self._arrange()

    def _listen(self) -> None:
        for widget in (self.text, self.n, self.seed, self.target, self.inputs):
            widget.on_change("value", self._on_change)
        for slider in (self.noise, self.share):
            slider.on_change("value_throttled", self._on_change)
        self.classes.on_change("active", self._on_change)
        self.name.on_change("value", self._on_name)
        self.upload.on_change("value", lambda attr, old, new: self.read_soon())
        self.upload.on_change("mime_type", self._on_type)
        self.pasted.on_change("value", self._on_paste)
        self.read_soon: Callable[[], None] = self.read

    def refusal(self) -> CustomJS:
        """Code for the browser that refuses files that are too large."""
        return CustomJS(args={"upload": self.upload, "limit": self._limit}, code=REFUSE)

    @property
    def is_by_hand(self) -> bool:
        """Whether points are set by hand."""
        return self.name.value in (HAND, HAND_NUMBERS)

    def source(self) -> Source | None:
        """What is chosen; None as long as there is nothing to train on."""
        common = dict(share=self.share.value, seed=self.seed.value)
        if self.name.value == TYPED:
            return Typed(self.text.value, self.n.value, self.noise.value, **common)
        if self.is_by_hand:
            return Drawn(self.rows, self.name.value == HAND_NUMBERS)
        if self.name.value != FILE:
            return Made(self.name.value, self.n.value, self.noise.value, **common)
        if self.table is None:
            return None
        return Uploaded(
            self.table,
            self.upload.filename,
            tuple(self.inputs.value),
            self.target.value,
            self.classes.active,
            **common,
        )

    # ---------------------------------------------------------------- a file

    def read(self) -> None:
        """Read the file that was uploaded; what there was before stays if it can't be."""
        try:
            table = tables.parse(base64.b64decode(self.upload.value, validate=True))
        except (ValueError, binascii.Error) as wrong:
            self._tell(f"{self.upload.filename}: {wrong}", "The data are as they were.")
            return
        self.table, self._is_quiet = table, True
        numbers = [name for name in table.names if table.is_numbers(name)]
        target = table.names[-1]
        inputs = [name for name in numbers if name != target][: tables.MOST_INPUTS]
        self.target.update(options=list(table.names), value=target)
        self.inputs.update(options=list(table.names), value=inputs)
        few = len(set(table.column(target))) <= tables.MOST_CLASSES
        self.classes.active = few or target not in numbers
        self._is_quiet = False
        self._changed()

    def _on_type(self, attr: str, old: str, new: str) -> None:
        if new.startswith("too large"):
            size = int(new.split()[-1]) / 2**20
            self._tell(
                f"The file has {size:,.0f} MB, and {self._limit / 2**20:,.0f} are allowed.",
                "The data are as they were.",
            )

    def axes(self, n_in: int, names: tuple[str, ...]) -> tuple[int, ...]:
        """Which inputs are shown: two chosen ones, or the only one."""
        options, self._is_quiet = list(names[:n_in]), True
        for i, widget in enumerate((self.horizontal, self.vertical)):
            if widget.options != options:
                widget.update(options=options, value=options[min(i, n_in - 1)])
        self._is_quiet = False
        chosen = [options.index(widget.value) for widget in (self.horizontal, self.vertical)]
        if n_in > 1 and chosen[0] == chosen[1]:
            chosen[1] = (chosen[0] + 1) % n_in
        return tuple(chosen[: min(n_in, 2)])

    # ---------------------------------------------------------------- points by hand

    def tap(self, x: float, y: float, reach: tuple[float, float]) -> None:
        """Add a point of the chosen class there, or remove the nearest."""
        rows = [*self.rows]
        if self.add.labels[self.add.active] == "Remove":
            far = [((r[0] - x) / reach[0]) ** 2 + ((r[1] - y) / reach[1]) ** 2 for r in rows]
            if far and min(far) < 1:
                del rows[far.index(min(far))]
        elif self.name.value == HAND_NUMBERS:
            rows.append((round(x, 3), round(y, 3)))
        else:
            rows.append((round(x, 3), round(y, 3), self.add.active))
        self.take(tuple(rows))

    def take(self, rows: tuple[tuple[float, ...], ...]) -> None:
        """Have these points."""
        if rows == self.rows:
            return
        if len(rows) > MOST_POINTS:
            self._tell(f"There may be {MOST_POINTS:,} points by hand.", "A CSV may have more.")
            return
        self.rows, self._is_quiet = rows, True
        self.pasted.value = "\n".join(", ".join(f"{x:g}" for x in each) for each in rows)
        self._is_quiet = False
        self._changed()

    def _on_paste(self, attr: str, old: str, new: str) -> None:
        if self._is_quiet:
            return
        width = 2 if self.name.value == HAND_NUMBERS else 3
        rows = []
        for i, line in enumerate(filter(str.strip, new.splitlines()), 1):
            try:
                numbers = [float(x) for x in line.replace(",", " ").replace(";", " ").split()]
                if len(numbers) != width or (width == 3 and numbers[2] not in (0, 1, 2)):
                    raise ValueError
            except ValueError:
                what = "x, y" if width == 2 else "x1, x2 and a class 0, 1 or 2"
                self._tell(f"Line {i} of the table is no point: {line}", f"Write {what}.")
                return
            rows.append(tuple(numbers[:2]) + tuple(map(int, numbers[2:])))
        self.take(tuple(rows))

    # ---------------------------------------------------------------- helpers

    def _on_change(self, attr: str, old: Any, new: Any) -> None:
        if not self._is_quiet:
            self._changed()

    def _on_name(self, attr: str, old: str, new: str) -> None:
        if self.is_by_hand:
            self.rows, self._is_quiet = (), True
            self.pasted.value = ""
            is_line = new == HAND_NUMBERS
            self.pasted.title = "Table of points: " + ("x, y" if is_line else "x1, x2, class")
            self.add.update(labels=["Add", "Remove"] if is_line else BY_HAND, active=0)
            self._is_quiet = False
        self._arrange()
        self._changed()

    def _arrange(self) -> None:
        """Show the widgets that mean something here."""
        name = self.name.value
        self.text.visible, self._file.visible = name == TYPED, name == FILE
        self._hand.visible = self.is_by_hand
        self.share.visible = not self.is_by_hand
        self._made.visible = not self.is_by_hand and name != FILE


class NetworkControls:
    """Layers, activations, output, loss, initial weights and penalties."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed, self._is_quiet = changed, False
        first = Settings()
        self.depth = Spinner(
            title="Hidden layers", value=len(first.hidden), low=0, high=settings.MOST_LAYERS,
            width=115, name="depth",
        )  # fmt: skip
        self.seed = Spinner(title="Seed of weights", value=0, low=0, high=10**6, width=115)
        names = hidden_activations()
        self.units = [
            Spinner(value=8, low=1, high=settings.MOST_UNITS, width=80, name=f"units{i + 1}")
            for i in range(settings.MOST_LAYERS)
        ]
        self.activations = [
            Select(value="tanh", options=names, width=150, name=f"activation{i + 1}")
            for i in range(settings.MOST_LAYERS)
        ]
        self._rows = [row(*pair) for pair in zip(self.units, self.activations, strict=True)]
        outputs = ["auto", *output_activations()]
        self.output = Select(
            title="Output", value="auto", options=outputs, width=115, name="output"
        )
        self.init = Select(title="Init", value="auto", options=["auto", *INITIALIZERS], width=115)
        self.loss = Select(
            title="Loss", value=first.loss, options=settings.CLASS_LOSSES, width=WIDTH, name="loss"
        )
        numbers = dict(mode="float", low=0, width=75)
        self.l2 = NumericInput(title="l2", value=0, name="l2", **numbers)
        self.l1 = NumericInput(title="l1", value=0, **numbers)
        self.dropout = NumericInput(title="Dropout", value=0, high=0.95, **numbers)
        self.layout = column(
            row(self.depth, self.seed), *self._rows, row(self.output, self.init), self.loss,
            row(self.l2, self.l1, self.dropout),
        )  # fmt: skip
        for widget in (self.depth, self.seed, *self.units, *self.activations, self.output,
                       self.init, self.loss, self.l2, self.l1, self.dropout):  # fmt: skip
            widget.on_change("value", self._on_change)
        self._arrange()

    def suit(self, *, classes: bool) -> None:
        """Offer the losses that there are for classes, or for numbers."""
        options = settings.CLASS_LOSSES if classes else settings.NUMBER_LOSSES
        if self.loss.options != options:
            self._is_quiet = True
            self.loss.update(options=options, value=options[0])
            self.output.value = "auto"
            self._is_quiet = False

    def values(self) -> dict[str, Any]:
        """Fields of `Settings`."""
        n = self.depth.value
        return dict(
            hidden=tuple(widget.value for widget in self.units[:n]),
            activations=tuple(widget.value for widget in self.activations[:n]),
            output=self.output.value,
            loss=self.loss.value,
            init=self.init.value,
            seed=self.seed.value,
            **{name: float(getattr(self, name).value or 0) for name in ("l2", "l1", "dropout")},
        )

    def _on_change(self, attr: str, old: Any, new: Any) -> None:
        if not self._is_quiet:
            self._arrange()
            self._changed()

    def _arrange(self) -> None:
        for i, each in enumerate(self._rows):
            each.visible = i < self.depth.value


class TrainingControls:
    """Optimizer, learning rate, schedule, batches, and how long and how fast."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        first = Settings()
        self.optimizer = Select(
            title="Optimizer", value=first.optimizer, options=settings.OPTIMIZER_NAMES, width=WIDTH,
            name="optimizer",
        )  # fmt: skip
        self.lr = NumericInput(
            title="Learning rate", value=first.lr, mode="float", low=0, width=115, name="lr"
        )
        self.batch_size = Spinner(
            title="Batch size", value=first.batch_size, low=1, high=100_000, width=115
        )
        self.schedule = Select(
            title="Schedule", value="constant", options=settings.SCHEDULES, width=WIDTH
        )
        self.epochs = Spinner(
            title="Pause after (epochs)", value=first.epochs, low=1, high=settings.ENDLESS,
            step=100, width=WIDTH, name="epochs",
        )  # fmt: skip
        speeds = [(n, f"{n} epochs a second") for n in ("50", "20", "5", "2")]
        self.speed = Select(
            title="Speed of Animate", value="20", options=speeds, width=WIDTH, name="speed"
        )
        self.layout = column(
            self.optimizer, row(self.lr, self.batch_size), self.schedule, self.epochs, self.speed
        )
        for widget in (self.lr, self.batch_size, self.schedule, self.epochs):
            widget.on_change("value", self._on_change)
        self.optimizer.on_change("value", self._on_optimizer)

    def values(self) -> dict[str, Any]:
        """Fields of `Settings`."""
        return dict(
            optimizer=self.optimizer.value,
            lr=float(self.lr.value or 0),
            schedule=self.schedule.value,
            batch_size=self.batch_size.value,
            epochs=self.epochs.value,
        )

    def _on_change(self, attr: str, old: Any, new: Any) -> None:
        self._changed()

    def _on_optimizer(self, attr: str, old: Any, new: str) -> None:
        """Methods on all samples know no rate, batch and schedule."""
        for widget in (self.lr, self.batch_size, self.schedule):
            widget.disabled = new not in OPTIMIZERS
        self._changed()
