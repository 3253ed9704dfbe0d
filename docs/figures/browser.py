"""A playground in a real browser: its server, and what a user sees and does there."""

import contextlib
import html
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1280,860",
]  # fmt: skip

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

# A named model, its view, and the first control that it has on the page.
MODEL = "Bokeh.documents[0].get_model_by_name(arguments[0])"
VIEW = f"Bokeh.index.find_one({MODEL})"
ELEMENT = f"""
const view = {VIEW}
return view.shadow_el.querySelector("button, input, select, textarea") ?? view.el
"""


class Served(NamedTuple):
    """A server that runs."""

    url: str
    seconds: float
    pid: int

    def threads(self):
        """How many threads it has."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))


def cpu_seconds(pid):
    """What a process and its descendants have computed: others on this machine don't count."""
    parents, seconds = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            parent, spent = _stat(stat)
            parents[int(stat.parent.name)], seconds[int(stat.parent.name)] = parent, spent
    tree = {pid}
    while more := {child for child, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return sum(seconds[each] for each in tree)


def thread_seconds(pid):
    """What the first thread of a process has computed."""
    return _stat(Path(f"/proc/{pid}/task/{pid}/stat"))[1]


def _stat(path):
    """(parent, CPU seconds) of a process or a thread."""
    fields = path.read_text().rpartition(")")[2].split()
    return int(fields[1]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Browser:
    """What a user does: looks at models by their names, and clicks and types."""

    def __init__(self, driver):
        self.driver = driver

    @property
    def pid(self):
        """The process of the driver, whose children are the browser's."""
        return self.driver.service.process.pid

    def open(self, url):
        """Load the page, and wait until its first picture is there."""
        self.driver.get(url)
        ready = "return !!window.Bokeh && !!Bokeh.documents[0]?.is_idle && "
        ready += "Bokeh.documents[0].get_model_by_name('regions')?.get_length() > 0"
        self.wait(lambda: self.driver.execute_script(ready))

    def wait(self, condition, seconds=60.0):
        """Return what `condition` gives as soon as it is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = condition()
            if found:
                return found
            time.sleep(0.02)
        if not self.driver.execute_script("return !!window.Bokeh"):
            raise TimeoutError(f"after {seconds} s: there is no page")
        raise TimeoutError(f"after {seconds} s: status {self.get('status', 'text')!r}, "
                           f"banner {self.get('banner', 'text')!r}")  # fmt: skip

    def element(self, name):
        return self.driver.execute_script(ELEMENT, name)

    def click(self, name):
        """Click as the mouse does."""
        self.element(name).click()

    def get(self, name, attribute):
        """An attribute of a model."""
        return self.driver.execute_script(f"return {MODEL}[arguments[1]]", name, attribute)

    def set(self, name, attribute, value):
        """Set an attribute of a widget, as the browser does when a user has."""
        script = f"{MODEL}.setv({{[arguments[1]]: arguments[2]}})"
        self.driver.execute_script(script, name, attribute, value)

    def column(self, name, column):
        """A column of a source, as a list."""
        script = f"return Array.from({MODEL}.get_array(arguments[1]))"
        return self.driver.execute_script(script, name, column)

    def epoch(self):
        """The epoch that the page shows."""
        return int(re.search(r"epoch ([\d,]+)", self.get("status", "text"))[1].replace(",", ""))

    def loss(self):
        """The loss of the last epoch that the page's curve has."""
        return self.column("losses", "loss")[-1]

    def banner(self):
        """What the banner says; nothing while it isn't shown."""
        return html.unescape(self.get("banner", "text")) if self.get("banner", "visible") else ""

    def train(self, epochs, seconds=120.0):
        """Click Train, and wait until that many more epochs are done."""
        until = self.epoch() + epochs
        self.set("epochs", "value", epochs)
        self.click("train")
        self.wait(lambda: self.epoch() == until and not self.is_training(), seconds)

    def is_training(self):
        """Whether the page says that training is under way."""
        return "training" in self.get("status", "text")

    def tap(self, name, x, y):
        """Click at a point of a figure, in its own coordinates."""
        self.drag(name, (x, y), (x, y))

    def drag(self, name, start, end):
        """Drag by the mouse from one point of a figure to another."""
        from selenium.webdriver import ActionChains
        from selenium.webdriver.common.actions.action_builder import ActionBuilder

        action = ActionBuilder(self.driver)
        pointer = action.pointer_action
        pointer.move_to_location(*self._place(name, *start)).pointer_down()
        for share in (0.25, 0.5, 0.75, 1.0) if end != start else ():  # a jump is no drag
            place = (x0 + share * (x1 - x0) for x0, x1 in zip(start, end, strict=True))
            pointer.move_to_location(*self._place(name, *place))
        pointer.pointer_up()
        action.perform()
        ActionChains(self.driver).pause(0.3).perform()  # else the next click is a double one

    def press(self, *keys):
        """Press keys, one after the other."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def focus(self, name):
        """Move the keyboard to a model's control."""
        self.driver.execute_script("arguments[0].focus()", self.element(name))

    def focus_tab(self, name, i):
        """Move the keyboard to one of the heads of tabs."""
        self.driver.execute_script(f"{VIEW}.header_els[arguments[1]].focus()", name, i)

    def resize(self, width, height):
        """Have a window of that size."""
        options = dict(width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", options)

    def boxes(self, *names):
        """Return (left, top, right, bottom) of each of these models on the page."""
        script = f"const {{left, top, right, bottom}} = {VIEW}.el.getBoundingClientRect()\n"
        script += "return [left, top, right, bottom]"
        return [self.driver.execute_script(script, name) for name in names]

    def _place(self, name, x, y):
        """Return where a point of a figure is in the window, in whole pixels."""
        script = f"const view = {VIEW}"
        script += """
        const {left, top} = view.canvas_view.el.getBoundingClientRect()
        const [scale_x, scale_y] = [view.frame.x_scale, view.frame.y_scale]
        return [left + scale_x.compute(arguments[1]), top + scale_y.compute(arguments[2])]
        """
        return [round(at) for at in self.driver.execute_script(script, name, x, y)]


@contextlib.contextmanager
def serving(*options):
    """Yield a playground's server: its address, seconds that it took to start, process."""
    command = [sys.executable, "-m", "deltajit", "playground", "--no-browser", "--port", "0"]
    began = time.monotonic()
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        assert "the playground is at" in line, process.stderr.read()
        url = re.search(r"http[^;]+", line)[0]
        yield Served(url, time.monotonic() - began, process.pid)
    finally:
        process.terminate()
        process.communicate(timeout=30)


@contextlib.contextmanager
def browsing(folder):
    """Yield a `Browser` whose profile is a new folder."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in [*FLAGS, f"--user-data-dir={folder}"]:
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
