"""README and the documentation: their examples run, and they name what exists, and all of it."""

import doctest
import importlib
import math
import operator
import re
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import numpy as np
import pytest
from deltajit.kernels import ACTIVATIONS, LOSSES
from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser

import deltajit as dj
from deltajit import reference
from tests.helpers.networks import ANY_OUTPUT, HIDDEN, OF_Z

ROOT = Path(__file__).parents[2]
README, START, CHANGELOG = (
    (ROOT / name).read_text() for name in ("README.md", "docs/start.md", "CHANGELOG.md")
)
DOCUMENTED = {
    name
    for page in (ROOT / "docs/api").glob("*.rst")
    for name in re.findall(r"^\.\. auto(?:class|function|data):: (\S+)", page.read_text(), re.M)
}
PAGES = sorted(
    str(page.relative_to(ROOT)) for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
)


@pytest.fixture
def registered():
    """What a page registers is gone after it."""
    records = [ACTIVATIONS, LOSSES, reference.ACTIVATIONS, reference.LOSSES]
    before = [dict(each) for each in records]
    yield
    for each, old in zip(records, before, strict=True):
        each.clear()
        each.update(old)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_run(page, tmp_path, monkeypatch):
    """One after the other, as a reader would run them."""
    document = Sybil([PythonCodeBlockParser()], path=str(ROOT)).parse(ROOT / page)
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    for example in document.examples():
        example.evaluate()
    plt.close("all")


FOLDERS = {"deltajit": ROOT / "src/deltajit", "deltajit.kernels": ROOT / "kernels"}
WITH_EXAMPLES = sorted(
    ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")
    for package, folder in FOLDERS.items()
    for path in folder.rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings_run(module):
    """Each docstring's by themselves: all that they may take for granted is three names."""
    names = {"dj": dj, "np": np, "math": math}
    failed, attempted = doctest.testmod(importlib.import_module(module), globs=names)
    assert failed == 0
    assert attempted > 0


def test_there_are_code_blocks():
    assert sum("```python\n" in (ROOT / page).read_text() for page in PAGES) >= 8


def test_readme_is_short():
    assert len(README.splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = ROOT / page
    for link in re.findall(r"\]\((?!https?:|gallery/)([^)#]+)\)", path.read_text()):
        assert (path.parent / link).exists(), link


def test_table_names_what_exists():
    """All that it names is there; what is new may be in CHANGELOG.md alone for a while."""
    rows = dict(re.findall(r"^\| (\w+) \| (.*) \|$", START, flags=re.MULTILINE))
    new = {*re.findall(r"\w+", CHANGELOG)}
    hidden = {*rows["activations"].split(", your own")[0].split(", ")}
    assert hidden <= {*HIDDEN}
    assert {*HIDDEN} - hidden <= new
    without = rows["outputs"].split("; ")[0].removeprefix("these but ").split(", ")
    assert {*without} == {*OF_Z} & hidden
    assert {*rows["outputs"].split("; ")[1:]} == {"softmax", "gaussian (means and variances)"}
    losses = set()
    for output, names in re.findall(r"([\w ]+): ([\w, ]+)", rows["losses"]):
        losses |= {
            (output.strip(), name) for name in names.strip().split(", ") if "your" not in name
        }
    there = {(loss.output or "any output", name) for name, loss in LOSSES.items()}
    assert losses <= there
    assert {name for _, name in there - losses if not name.startswith("circuit ")} <= new


def test_help_names_what_exists():
    text = dj.Network.__doc__
    assert not re.search(r"{\w+}", text)
    assert max(map(len, text.splitlines())) <= 100
    for name in [*HIDDEN, "softmax", "gaussian", *ANY_OUTPUT]:
        assert f'"{name}"' in text


def test_kernels_of_the_table_exist():
    found = re.findall(r"`(\w+)` in `kernels/([\w/]+)\.py`", README)
    assert len(found) == 7
    for name, path in found:
        module = importlib.import_module(f"deltajit.kernels.{path.replace('/', '.')}")
        assert hasattr(module, name), (name, path)


@pytest.mark.parametrize("text", ["README.md", "CONTRIBUTING.md"])
def test_paths_in_texts_exist(text):
    paths = re.findall(
        r"`((?:kernels|src|tests|bench|docs|examples)/[\w/.]*)`", (ROOT / text).read_text()
    )
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    "module",
    ["", ".kernels", ".kernels.circuit", ".circuit", ".reference", ".sklearn", ".distributed"],
)
def test_public_names_are_in_the_reference(module):
    package = importlib.import_module(f"deltajit{module}")
    public = {name for name in package.__all__ if not is_module(package, name)}
    names = {f"deltajit{module}.{name}" for name in public}
    if module == ".circuit":
        names = names - {"deltajit.circuit.Circuit"} | {"deltajit.Circuit"}
    assert names <= DOCUMENTED


def is_module(package, name):
    """Whether a name of a package is a module, whose own names are tested."""
    return isinstance(getattr(package, name), ModuleType)


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_reference_names_what_exists(name):
    importlib.import_module("deltajit.sklearn")  # the one that `import deltajit` leaves out
    assert operator.attrgetter(name.removeprefix("deltajit."))(dj) is not None
