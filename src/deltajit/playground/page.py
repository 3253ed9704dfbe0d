"""The page of one session: what its widgets do, and how the pictures follow the training."""

from __future__ import annotations

import base64
import html
import re
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.events import DocumentReady, Tap
from bokeh.layouts import column, row
from bokeh.models import (
    Button,
    Checkbox,
    CustomJS,
    Div,
    NumericInput,
    PointDrawTool,
    PreText,
    Select,
    Spinner,
    TabPanel,
    Tabs,
)

from deltajit.playground.controls import DataControls, NetworkControls, TrainingControls
from deltajit.playground.datasets import Samples
from deltajit.playground.lesson import Lesson, Product, boundary
from deltajit.playground.pictures import Graph, Histograms, Losses, Plane, Window, fill, table
from deltajit.playground.run import Run
from deltajit.playground.settings import Settings
from deltajit.playground.sources import Source
from deltajit.playground.trainer import Snapshot

FRAME = 50  # milliseconds
SLOW = 0.5  # seconds between what need not be seen at a frame's pace
VIEWS = "Graph", "Error history", "Weights", "Blackboard", "Python and files"
PATIENCE = 2.0  # seconds that a frame may take in the browser
NO_LESSON = "Press Forward pass step, beside the graph."
KEPT = "The last good weights are kept and shown; Reset begins anew."

BANNER = {
    "background": "#fff3c4",
    "border": "2px solid #d55e00",
    "padding": "6px",
    "color": "black",
}
# Between a tablet's width and a desktop's the pictures come first, side by side.
BELOW = "@media (min-width: 980px) and (max-width: 1250px) { :host { order: 1 } }"
DOWNLOAD = """
for (let i = 0; i < file.data.name.length; i++) {
  const bytes = Uint8Array.from(atob(file.data.content[i]), c => c.charCodeAt(0))
  const link = document.createElement("a")
  link.href = URL.createObjectURL(new Blob([bytes]))
  link.download = file.data.name[i]
  link.click()
}
"""
# The parts of Bokeh that this page uses, and an end where it is left: browsers keep such pages.
TEMPLATE = """
{% block js_resources %}
  {% for line in bokeh_js.splitlines() if "bokeh.min" in line or "bokeh-widgets" in line %}
    {{ line }}
  {% endfor %}
{% endblock %}
{% block postamble %}
  <meta name="viewport" content="width=device-width">
  <script>
    addEventListener("pagehide", () => {
      const left = Bokeh.documents[0].get_model_by_name("left")
      if (left) left.value += 1
    })
    addEventListener("keydown", (event) => {  // Bokeh's tabs know the mouse alone
      const tab = event.composedPath()[0]
      if ([" ", "Enter"].includes(event.key) && tab.classList?.contains("bk-tab")) {
        event.preventDefault()
        tab.click()
      }
    })
    addEventListener("pageshow", (event) => { if (event.persisted) location.reload() })
  </script>
{% endblock %}
"""
SEEN = "requestAnimationFrame(() => setTimeout(() => { seen.value = cb_obj.value }))"
COPY = """
if (navigator.clipboard && cb_obj.text) navigator.clipboard.writeText(cb_obj.text).catch(() => {})
"""


class Page:
    """Widgets, pictures and a trainer, which is replaced whenever something is changed."""

    def __init__(self, document: Document, upload_limit: int) -> None:
        self.run: Run | None = None
        self.lesson: Lesson | None = None
        self.data = DataControls(upload_limit, self.changed, self.tell)
        self.network = NetworkControls(self.changed)
        self.training = TrainingControls(self.changed)
        self.plane, self.losses, self.graph = Plane(), Losses(), Graph()
        self.histograms, self.product = Histograms(), Product()
        self._make_widgets()
        self._shown: Snapshot | None = None
        self._slow_at, self._sent_at, self._is_showing = 0.0, 0.0, False
        document.title, document.template = "deltajit playground", TEMPLATE
        document.add_root(self._layout())
        document.js_on_event(DocumentReady, self.data.refusal())
        self.data.read_soon = lambda: document.add_next_tick_callback(self.data.read)
        self._is_animated = False
        self.changed()
        self.training.speed.on_change("value", lambda attr, old, new: self._keep_pace())
        document.add_periodic_callback(self.frame, FRAME)
        document.on_session_destroyed(lambda context: self.close())

    def close(self) -> None:
        """End the training thread."""
        if self.run is not None:
            self.run.trainer.close()

    # ---------------------------------------------------------------- what there is on the page

    def _make_widgets(self) -> None:
        buttons = dict(width=80, height=34)
        self.go = Button(label="Train", button_type="primary", name="train", **buttons)
        self.animate = Button(label="Animate", name="animate", **buttons)
        self.pause = Button(label="Pause", name="pause", **buttons)
        self.step = Button(label="Step", name="step", **buttons)
        self.reset = Button(label="Reset", name="reset", **buttons)
        self.go.on_click(lambda: self.go_on(is_animated=False))
        self.animate.on_click(lambda: self.go_on(is_animated=True))
        self.pause.on_click(self.rest)
        self.step.on_click(lambda: self.train(1))
        self.reset.on_click(lambda: self.changed(anew=True))
        wide = dict(sizing_mode="stretch_width")
        self.status = Div(name="status", styles={"font-size": "14px"}, **wide)
        self.banner = Div(name="banner", visible=False, styles=BANNER, **wide)
        self.pass_step = Button(label="Forward pass step", name="pass", width=150, height=34)
        self.pass_step.on_click(self.next_equation)
        self.sample = Spinner(value=0, low=0, width=80, name="sample")
        self.sample.on_change("value", lambda attr, old, new: self._forget_lesson())
        self.unit = Select(value="", options=[""], width=150, name="unit")
        self.unit.on_change("value", lambda attr, old, new: self._show_unit())
        self.blackboard = PreText(
            text=NO_LESSON, name="blackboard", width=560, height=480,
            styles={"overflow": "auto"},
        )  # fmt: skip
        self.log = Checkbox(label="logarithmic", active=True)
        self.log.on_change("active", self._on_log)
        self.script = PreText(
            name="script", text="", width=560, height=420, styles={"overflow": "auto"}
        )
        self.script.js_on_change("text", CustomJS(code=COPY))
        self.file = table("name", "content", name="file")
        self.file.js_on_change("data", CustomJS(args={"file": self.file}, code=DOWNLOAD))
        self.sent, self.seen = NumericInput(value=0), NumericInput(value=0)
        self.sent.js_on_change("value", CustomJS(args={"seen": self.seen}, code=SEEN))
        self.left = NumericInput(value=0, name="left")
        self.left.on_change("value", lambda attr, old, new: self.close())
        # Tags, so that the browser has them.
        self.script.tags = [self.file, self.sent, self.seen, self.left]
        self.drag = PointDrawTool(renderers=[self.plane.dots], add=False)
        self.plane.figure.add_tools(self.drag)
        self.plane.figure.toolbar.active_multi = self.drag
        self.plane.points.on_change("data", self._on_drag)
        self.plane.figure.on_event(Tap, self._on_tap)
        self.graph.figure.on_event(Tap, self._on_unit)

    def _layout(self) -> Any:
        wide = dict(sizing_mode="stretch_width")
        panels: dict[str, Any] = {
            "Data": self.data,
            "Network": self.network,
            "Training": self.training,
        }
        left = Tabs(
            tabs=[TabPanel(child=each.layout, title=title) for title, each in panels.items()],
            width=260,
            name="settings",
            stylesheets=[BELOW],
        )
        copy = Button(label="Copy as Python", name="copy", width=130)
        copy.on_click(self.write_script)
        saves = []
        for label, suffix in (("Save", ".safetensors"), ("Save ONNX", ".onnx"), ("Save C", ".h")):
            button = Button(label=label, width=90, name=f"save{suffix}")
            button.on_click(lambda suffix=suffix: self.save(suffix))
            saves.append(button)
        graph = column(
            row(self.pass_step, *labelled("of sample", self.sample), *labelled("unit", self.unit)),
            self.graph.figure,
            self.product.figure,
        )
        views = (
            graph,
            column(self.log, *self.losses.figures),
            column(*(fig for fig, _ in self.histograms.parts)),
            self.blackboard,
            column(row(copy, *saves), self.script),
        )
        tabs = [TabPanel(child=each, title=title) for title, each in zip(VIEWS, views, strict=True)]
        self.tabs = Tabs(tabs=tabs, width=570, name="views")
        self.tabs.on_change("active", lambda attr, old, new: self._refresh())
        self.score = Div(name="score", width=400, styles={"font-size": "16px"})
        pictures = column(self.plane.figure, self.score)
        return column(
            row(self.go, self.animate, self.pause, self.step, self.reset, self.status, **wide),
            self.banner,
            row(left, pictures, self.tabs, styles={"flex-wrap": "wrap"}, **wide),
            **wide,
        )

    # ---------------------------------------------------------------- what widgets do

    def tell(self, what: str, then: str = "") -> None:
        """Show a sentence above everything else, and what to do about it."""
        texts = f"<b>{html.escape(what)}</b>", html.escape(then)
        self.banner.text = f'<div role="alert">{" ".join(texts)}</div>'
        self.banner.visible = True

    def changed(self, *, anew: bool = False) -> None:
        """Begin anew with what the widgets say; if that can't be, all stays as it is."""
        try:
            source = self.data.source()
            if source is None:
                self.tell("Choose a CSV file with a head and a column for each input.")
                return
            samples = source.samples()
            if len(samples.X) == 0:
                self._show_empty(samples)
                return
            self.network.suit(classes=bool(samples.classes))
            wanted = Settings(**self.network.values(), **self.training.values())
            old = None if anew else self.run
            if old is not None and is_the_same(old, wanted, source):
                old.settings, self.banner.visible = wanted, False
                return
            run = Run(source, samples, wanted)
        except (TypeError, ValueError) as wrong:
            self.tell(f"{wrong}.", "Training is as it was.")
            return
        self.close()
        self.run, self.banner.visible = run, False
        self._show_problem(run)

    def _show_problem(self, run: Run) -> None:
        samples = run.samples
        window = Window(samples, self.data.axes(samples.X.shape[1], samples.names))
        if self.data.is_by_hand:
            window.x = (-3.0, 3.0)
            window.y = (-3.0, 3.0)
        self._show_samples(window)
        self.graph.show(run.view, window)
        last = len(samples.X) - 1
        names = [unit_name(i, k) for i, n in enumerate(run.view.sizes) if i for k in range(n)]
        self.unit.update(options=["", *names], value="")
        self.sample.update(high=last, value=min(self.sample.value or 0, last))
        self._shown = None
        self._forget_lesson()
        self.frame()

    def _show_samples(self, window: Window) -> None:
        self._is_showing, self.drag.drag = True, self.data.is_by_hand
        self.plane.show(window)
        self._is_showing = False

    def _show_empty(self, samples: Samples) -> None:
        """Show a plane without points, to click into."""
        self.close()
        self.run = None
        self._show_samples(Window(samples, (0, 1)[: samples.X.shape[1]]))
        self.plane.clear()
        self.tell("There are no points yet.", "Click into the picture to add some.")

    def rest(self) -> None:
        """Pause the training."""
        if self.run is not None:
            self.run.trainer.pause()

    def go_on(self, *, is_animated: bool) -> None:
        """Train as fast as it can be, or at a pace that can be watched."""
        self._is_animated = is_animated
        if self.run is not None:
            self.train(self.run.settings.epochs)

    def train(self, epochs: int) -> None:
        """Train for so many epochs from where training is."""
        if self.run is None:
            return
        if self.run.trainer.frame().is_over:
            self.tell("This training is over.", "Reset begins anew.")
            return
        self._keep_pace()
        self.run.trainer.train(epochs)

    def _keep_pace(self) -> None:
        """Let training be as fast as it is wanted now."""
        if self.run is not None:
            pace = float(self.training.speed.value) if self._is_animated else np.inf
            self.run.trainer.epochs_a_second = pace

    def write_script(self) -> None:
        """Write the program that does what was done here; the browser copies it."""
        if self.run is not None:
            self.script.text = self.run.script()

    def save(self, suffix: str) -> None:
        """Have the browser save the network as it is shown."""
        if self.run is None:
            return
        net = self.run.view
        writers = {".safetensors": net.save, ".onnx": net.to_onnx, ".h": net.to_c}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"network{suffix}"
            try:
                writers[suffix](path)
            except (ImportError, TypeError, ValueError) as wrong:
                self.tell(f"{wrong}.")
                return
            content = base64.b64encode(path.read_bytes()).decode()
        fill(self.file, [(path.name, content)])

    def _on_log(self, attr: str, old: bool, new: bool) -> None:
        linear, logarithmic = self.losses.figures
        linear.visible, logarithmic.visible = not new, new

    def _on_tap(self, event: Any) -> None:
        if self.data.is_by_hand:
            figure = self.plane.figure
            reach = [0.05 * (r.end - r.start) for r in (figure.x_range, figure.y_range)]
            self.data.tap(event.x, event.y, tuple(reach))

    def _on_drag(self, attr: str, old: Any, new: Any) -> None:
        """Take points that were dragged."""
        if self._is_showing or not self.data.is_by_hand or len(new["x"]) != len(self.data.rows):
            return
        places = zip(new["x"], new["y"], self.data.rows, strict=True)
        self.data.take(
            tuple((round(float(x), 3), round(float(y), 3), *r[2:]) for x, y, r in places)
        )

    # ---------------------------------------------------------------- a sample, step by step

    def next_equation(self) -> None:
        """Show the next equation of the chosen sample's pass."""
        if self.run is None:
            return
        if self.lesson is None:
            self.lesson = Lesson(self.graph, self.run.trace(self.sample.value or 0))
        self.lesson.step()
        self.blackboard.text = self.lesson.text

    def _forget_lesson(self) -> None:
        if self.lesson is not None:
            self.lesson, self.blackboard.text = None, NO_LESSON
            self.graph.forget()

    def _on_unit(self, event: Any) -> None:
        """Choose the unit that was clicked."""
        place = None if self.run is None else self.graph.place_of(event.x, event.y)
        if place is not None and place[0] > 0:
            self.unit.value = unit_name(*place)

    def _show_unit(self) -> None:
        """Show the dot product of the chosen unit, and the line that it draws."""
        if self.run is None:
            return
        fill(self.plane.line)
        if not self.unit.value:
            self.product.clear()
            return
        layer, number = re.findall(r"\d+", self.unit.value)
        unit = int(layer), int(number) - 1
        self.product.show(self.run.trace(self.sample.value or 0), *unit)
        self.graph.frame(unit)
        if unit[0] == 1:
            window = self.graph.window
            ends = window.x, window.y
            self.plane.line.data = boundary(self.run.view, unit[1], window.at, ends)

    # ---------------------------------------------------------------- a frame

    def frame(self) -> None:
        """Show what there is to show since the last frame."""
        if self.run is None or self._is_behind():
            return
        shown = self.run.look()
        if shown is self._shown:
            return
        self._shown = shown
        if shown.error:
            self.tell(f"Training stopped: {shown.error}.", KEPT)
        if shown.is_running:
            self._forget_lesson()
        self._refresh()

    def _is_behind(self) -> bool:
        """Whether the browser has yet to draw the last frame but one: more would only queue up."""
        waited = time.monotonic() - self._sent_at
        return bool(self.seen.value < self.sent.value - 1) and waited < PATIENCE

    def _refresh(self) -> None:
        """Draw what can be seen."""
        run, shown = self.run, self._shown
        if run is None or shown is None:
            return
        is_due = not shown.is_running or time.monotonic() - self._slow_at > SLOW
        self.plane.update(run.view)
        if is_due or VIEWS[self.tabs.active] == "Error history":
            self.losses.update(run.trainer.curve)
        if is_due or (VIEWS[self.tabs.active] == "Graph" and self.sent.value % 2):
            self.graph.update(run.view)
        if is_due:
            self._slow_at = time.monotonic()
            grad = run.measure()
            if np.isfinite(grad).all():
                self.histograms.update(run.view, grad)
            self.score.text = run.score(shown)
            self._show_unit()
        self.status.text = run.status(shown)
        self.sent.value, self._sent_at = self.sent.value + 1, time.monotonic()


def labelled(text: str, widget: Any) -> tuple[Div, Any]:
    """Put a word before a widget, at the height of its middle."""
    return Div(text=text, align="center"), widget


def unit_name(layer: int, unit: int) -> str:
    """Name a unit, both counted from 1 as in the equations."""
    return f"layer {layer}, {unit + 1}"


def is_the_same(run: Run, wanted: Settings, source: Source) -> bool:
    """Whether no more has changed than when training pauses."""
    same = replace(wanted, epochs=0) == replace(run.settings, epochs=0)
    return same and source == run.source and wanted.schedule == "constant"
