"""The playground in a real browser: clicked, typed into, uploaded to, and read."""

import re
import subprocess
import sys
import time

import numpy as np
import pytest
from docs.figures.browser import BROWSER, DRIVER, browsing, cpu_seconds, serving, thread_seconds

pytest.importorskip("bokeh", reason="needs bokeh: pip install 'deltajit[playground]'")
pytest.importorskip("selenium", reason="needs selenium, which drives the browser")
Keys = pytest.importorskip("selenium.webdriver").Keys
pytestmark = [
    pytest.mark.skipif(
        not (BROWSER and DRIVER),
        reason="needs a browser: apt-get install chromium chromium-driver",
    ),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # selenium's pipes to its driver
]

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, which counts CPU seconds")


@pytest.fixture(scope="module")
def server():
    with serving() as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsing(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def page(browser, server):
    """A new session."""
    browser.open(server.url)
    return browser


def correct(text):
    """(right, all) of what is held out."""
    return [int(x) for x in re.search(r"held out: (\d+)/(\d+)", text).groups()]


def choose(page, name):
    """Choose a data set, and wait until the page shows its samples."""
    before = page.column("samples", "x")
    page.set("data", "value", name)
    page.wait(lambda: page.column("samples", "x") != before)


def test_spiral_is_learned(page):
    assert page.epoch() == 0
    first = page.column("regions", "image")
    page.train(1000)
    right, n = correct(page.get("score", "text"))
    assert right / n > 0.95
    losses = page.column("losses", "loss")
    assert losses[-1] < 0.1 * losses[0]
    assert page.column("regions", "image") != first
    assert page.banner() == ""


def test_pause_step_and_reset(page):
    page.set("epochs", "value", 200_000)  # the most
    page.click("train")
    page.wait(lambda: page.epoch() > 5)
    assert page.is_training()
    page.click("pause")
    page.wait(lambda: not page.is_training())
    epoch = page.epoch()
    time.sleep(0.2)
    assert page.epoch() == epoch
    page.click("step")
    page.wait(lambda: page.epoch() == epoch + 1)
    page.click("reset")
    page.wait(lambda: page.epoch() == 0)
    assert page.column("losses", "loss") == []
    page.set("speed", "value", "5")
    began = time.monotonic()
    page.click("animate")
    page.wait(lambda: page.epoch() >= 4)
    assert time.monotonic() - began > 3 / 5


def test_keyboard_does_what_the_mouse_does(page):
    page.set("epochs", "value", 200_000)  # the most
    page.press(Keys.TAB, Keys.SPACE)  # Train
    page.wait(lambda: page.epoch() > 5)
    page.press(Keys.TAB, Keys.TAB, Keys.ENTER)  # Pause
    page.wait(lambda: not page.is_training())
    page.press(Keys.TAB, Keys.TAB, Keys.ENTER)  # Reset
    page.wait(lambda: page.epoch() == 0)
    page.press(Keys.TAB, Keys.ARROW_DOWN)
    page.wait(lambda: page.get("data", "value") == "circle")
    page.focus_tab("settings", 1)
    page.press(Keys.ENTER)
    page.wait(lambda: page.get("settings", "active") == 1)
    page.focus("pass")
    page.press(Keys.SPACE)
    page.wait(lambda: "a[0] = X" in page.get("blackboard", "text"))
    page.focus("unit")
    page.press(Keys.ARROW_DOWN)
    page.wait(lambda: len(page.column("product", "term")) == 2 + 2)


@pytest.mark.parametrize("size", [(1280, 720), (1024, 768), (820, 1180)])
def test_nothing_overlaps(page, size):
    page.resize(*size)
    try:
        boxes = page.wait(lambda: page.boxes("settings", "plane", "score", "views", "train"))
        for i, (left, top, right, bottom) in enumerate(boxes):
            assert left >= 0
            assert right <= size[0]
            for x0, y0, x1, y1 in boxes[:i]:
                assert right <= x0 or x1 <= left or bottom <= y0 or y1 <= top
    finally:
        page.resize(1280, 720)


@LINUX
@pytest.mark.slow
def test_frames_a_second(page, server):
    """Server and browser take at most 0.1 CPU seconds for a frame while 2-32-32-2 trains."""
    for name in ("units1", "units2"):
        page.set(name, "value", 32)
    page.set("epochs", "value", 200_000)  # the most
    count = """
    const source = Bokeh.documents[0].get_model_by_name("regions")
    window.frames_seen = 0
    source.properties.data.change.connect(() => window.frames_seen++)
    """
    page.driver.execute_script(count)
    page.click("train")
    page.wait(lambda: page.epoch() > 5)
    before, began = spent_on_frames(page, server), time.monotonic()
    time.sleep(4)
    seconds = time.monotonic() - began
    frames, cpu = spent_on_frames(page, server) - before
    page.click("pause")
    print(f"{frames / seconds:.1f} frames a second, {cpu / frames:.3f} CPU seconds each")
    assert frames > 0
    assert cpu / frames <= 0.1


def spent_on_frames(page, server):
    """Frames so far, and CPU seconds of the browser and of the thread that draws."""
    frames = page.driver.execute_script("return window.frames_seen")
    return np.array([frames, cpu_seconds(page.pid) + thread_seconds(server.pid)])


@LINUX
@pytest.mark.slow
def test_first_picture_is_there_soon(browser):
    """The server takes at most 3 CPU seconds for it; kernels are compiled already."""
    browser.driver.get("about:blank")
    before, began = cpu_seconds(browser.pid), time.monotonic()
    with serving() as server:
        browser.open(server.url)
        seconds, cpu = time.monotonic() - began, cpu_seconds(server.pid)
    browsers = cpu_seconds(browser.pid) - before
    print(f"first picture after {seconds:.1f} s; CPU: server {cpu:.1f}, browser {browsers:.1f}")
    assert cpu <= 3


@pytest.mark.parametrize(
    ("data", "set_up"),
    [
        ("spirals", {"optimizer": "Adam"}),
        pytest.param("sine", {"optimizer": "LBFGS"}, marks=pytest.mark.slow),
        pytest.param("typed function", {"loss": "huber"}, marks=pytest.mark.slow),
    ],
)
def test_script_does_the_same(page, tmp_path, data, set_up):
    if data != "spirals":
        choose(page, data)
    for name, value in set_up.items():
        page.set(name, "value", value)
    page.train(20)
    page.set("views", "active", 4)
    page.click("copy")
    script = page.wait(lambda: page.get("script", "text"))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    numbers = dict(re.findall(r"^(loss(?: on held-out samples)?) (\S+)$", done.stdout, re.M))
    assert float(numbers["loss on held-out samples"]) == page.column("losses", "held out")[-1]


def test_regression_is_fitted(page):
    choose(page, "typed function")
    page.train(1000)
    x, y = (np.array(page.column("curve", name)) for name in "xy")
    inside = abs(x) < 2.5
    assert abs(y - (np.sin(3 * x) + 0.3 * x))[inside].max() < 0.3


def test_wrong_function_is_a_sentence(page):
    choose(page, "typed function")
    page.train(5)
    for text, says in [
        ("__import__('os').system('ls')", "means nothing here"),
        ("sin(y)", "is no number here"),
        ("sin(", "is no formula"),
    ]:
        page.set("function", "value", text)
        page.wait(lambda says=says: says in page.banner())
        assert "Training is as it was." in page.banner()
    assert page.epoch() == 5
    page.set("function", "value", "cos(x)")
    page.wait(lambda: page.epoch() == 0 and not page.banner())


CSV = "width,height,kind\n" + "".join(
    f"{x},{y},{'tall' if y > x else 'wide'}\n" for x in range(12) for y in range(12)
)


def upload(page, path):
    page.element("upload").send_keys(str(path))


def test_own_csv_is_learned(page, tmp_path):
    (tmp_path / "boxes.csv").write_text(CSV)
    page.set("data", "value", "own CSV")
    page.wait(lambda: "Choose a CSV" in page.banner())
    upload(page, tmp_path / "boxes.csv")
    page.wait(lambda: page.get("inputs", "value") == ["width", "height"])
    page.wait(lambda: "/101," in page.get("score", "text"))
    assert page.get("target", "value") == "kind"
    page.train(200)
    right, n = correct(page.get("score", "text"))
    assert right / n > 0.9
    page.set("views", "active", 4)
    page.click("copy")
    script = page.wait(lambda: page.get("script", "text"))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    held_out = float(done.stdout.split()[-1])
    assert held_out == page.column("losses", "held out")[-1]
    page.set("target", "value", "height")
    page.set("inputs", "value", ["width"])
    page.wait(lambda: "12 classes" in page.banner())


WRONG_FILES = {
    "one class only": b"a,b\n1,x\n2,x\n3,x\n",
    "two columns at least": b"a\n1\n2\n",
    "column 'b' is empty in row 1": b"a,b\n1,\n2,x\n3,y\n",
    "choose 1 to 20 input columns": b"a,b\nx,1\ny,2\n",
    "no text in UTF-8": "a,b\n1,\xe9\n".encode("utf-16"),
    "row 2 has 1 cells, the head 2": b"a,b\n1,2\n1\n",
    "more than 100,000 rows": b"1,2\n" * 100_002,
}


def test_wrong_file_is_a_sentence(page, tmp_path):
    page.train(3)
    page.set("data", "value", "own CSV")
    page.wait(lambda: "Choose a CSV" in page.banner())
    for i, (says, content) in enumerate(WRONG_FILES.items()):
        (tmp_path / f"wrong{i}.csv").write_bytes(content)
        upload(page, tmp_path / f"wrong{i}.csv")
        page.wait(lambda says=says: says in page.banner())
        assert page.epoch() == 3  # nothing is lost


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"1,2\n" * 5_000_000, "more than 100,000 rows"),
        (b"1,2,3,4,5,6,7,8,9,0\n" * 4_000_000, "MB, and 64 are allowed"),
    ],
)
def test_huge_file_is_a_sentence(page, tmp_path, content, says):
    page.set("data", "value", "own CSV")
    (tmp_path / "wrong.csv").write_bytes(content)
    upload(page, tmp_path / "wrong.csv")
    page.wait(lambda: says in page.banner())


def test_divergence_is_told_and_weights_are_kept(page):
    choose(page, "sine")
    page.set("optimizer", "value", "SGD")
    page.set("lr", "value", 1e6)
    page.click("train")
    page.wait(lambda: "the loss is not finite" in page.banner())
    assert "A smaller learning rate" in page.banner()
    assert "last good weights are kept" in page.banner()
    assert np.isfinite(page.column("curve", "y")).all()
    page.set("lr", "value", 0.01)
    page.wait(lambda: page.banner() == "")
    page.train(10)


def test_points_by_hand(page):
    page.set("data", "value", "points by hand")
    page.wait(lambda: "There are no points yet" in page.banner())
    for active, x in ((0, -1), (1, 1)):
        page.set("add", "active", active)
        for y in (-1, 0, 1):
            page.tap("plane", x, y)
    page.wait(lambda: len(page.column("samples", "x")) == 6)
    assert page.get("points", "value").count("\n") == 5
    page.train(300)
    assert "Correct: 6/6, iteration 300" in page.get("score", "text")
    page.drag("plane", (1, 1), (2, -2))
    page.wait(lambda: page.get("points", "value").splitlines()[-1] == "2.009, -2.006, 1")
    page.set("add", "active", 3)
    page.tap("plane", 2, -2)
    page.wait(lambda: len(page.column("samples", "x")) == 5)
    page.set("points", "value", "0, 0, 0\n1; 1; 1\n2 2 2")
    page.wait(lambda: page.column("samples", "x") == [0, 1, 2])
    page.set("points", "value", "0, 0, 0\n1, blue")
    page.wait(lambda: "Line 2 of the table is no point" in page.banner())
    assert page.column("samples", "x") == [0, 1, 2]


def test_pass_is_shown_step_by_step(page):
    page.set("depth", "value", 1)
    page.set("units1", "value", 3)
    page.wait(lambda: "epoch 0" in page.get("status", "text"))
    time.sleep(0.5)
    page.click("pass")
    page.wait(lambda: page.get("blackboard", "text").rstrip().endswith("]]"))
    assert "a[0] = X" in page.get("blackboard", "text")
    for known in ("z[1]", "a[1]", "z[2]", "a[2]", "Y", "Loss", "delta[2]", "dW[2]"):
        page.click("pass")
        page.wait(lambda known=known: f"\n{known} = " in page.get("blackboard", "text"))
    texts = page.column("texts", "text")
    assert sum(text.startswith("z ") for text in texts) == 3 + 2
    assert sum(text.startswith("δ ") for text in texts) == 2
    page.tap("graph", 1, 0)
    terms = page.wait(lambda: page.column("product", "term"))
    values = page.column("product", "value")
    assert len(terms) == 2 + 2
    assert sum(values[:-1]) == pytest.approx(values[-1], abs=1e-6)


def test_file_is_saved(page):
    page.train(2)
    page.set("views", "active", 4)
    page.click("save.safetensors")
    page.wait(lambda: page.column("file", "name") == ["network.safetensors"])


@pytest.mark.slow
@LINUX
def test_left_page_ends_its_thread(browser):
    """At once where a link leads away, though browsers keep such pages; soon where a tab closes."""
    first = browser.driver.current_window_handle
    with serving() as server:
        browser.driver.switch_to.new_window("tab")
        for leave in (lambda: browser.driver.get("about:blank"), browser.driver.close):
            browser.open(server.url)
            browser.set("epochs", "value", 200_000)
            browser.click("train")
            browser.wait(lambda: browser.epoch() > 2)
            training = server.threads()
            leave()
            browser.wait(lambda training=training: server.threads() < training, seconds=20)
        browser.driver.switch_to.window(first)


@pytest.mark.slow
def test_others_need_the_token(browser):
    with serving("--address", "0.0.0.0", "--token", "word") as server:
        port = re.search(r":(\d+)/", server.url)[1]
        browser.driver.get(f"http://127.0.0.1:{port}/?token=wrong")
        browser.wait(lambda: "token" in browser.driver.execute_script(
            "return window.Bokeh?.documents[0]?.roots()[0]?.text ?? ''"))  # fmt: skip
        browser.open(f"http://127.0.0.1:{port}/?token=word")
        browser.train(3)
