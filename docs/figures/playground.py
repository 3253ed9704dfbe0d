"""Screenshots of the playground for its page: ``python docs/figures/playground.py``."""

import tempfile
import time
from pathlib import Path

from browser import browsing, serving

PICTURES = Path(__file__).parents[1] / "pictures"


def shoot(page, name):
    """Save what the page shows now."""
    time.sleep(1)
    page.driver.save_screenshot(str(PICTURES / f"playground_{name}.png"))


def classes(page):
    page.train(1000)


def numbers(page):
    page.set("data", "value", "typed function")
    time.sleep(1)
    page.train(1000)
    page.set("views", "active", 1)


def csv(page):
    from sklearn.datasets import load_iris

    flowers = load_iris(as_frame=True)
    table = flowers.frame.drop(columns="target")
    table["kind"] = flowers.target_names[flowers.target]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "iris.csv"
        table.to_csv(path, index=False)
        page.set("data", "value", "own CSV")
        page.wait(lambda: "Choose a CSV" in page.banner())
        page.element("upload").send_keys(str(path))
        page.wait(lambda: page.get("target", "value") == "kind")
        time.sleep(1)
        page.train(200)
    page.set("views", "active", 2)


def diverged(page):
    page.set("data", "value", "sine")
    time.sleep(1)
    page.set("optimizer", "value", "SGD")
    page.set("lr", "value", 3.0)
    page.click("train")
    page.wait(lambda: "not finite" in page.banner())


def trace(page):
    page.set("data", "value", "moons")
    page.set("units1", "value", 3)
    page.set("units2", "value", 2)
    time.sleep(1)
    page.train(100)
    for _ in range(13):
        page.click("pass")
        time.sleep(0.2)
    page.tap("graph", 1, 1)


if __name__ == "__main__":
    folder = tempfile.TemporaryDirectory()
    with serving() as server, folder as profile, browsing(profile) as browser:
        for scene in (classes, numbers, csv, diverged, trace):
            browser.open(server.url)
            scene(browser)
            shoot(browser, scene.__name__)
