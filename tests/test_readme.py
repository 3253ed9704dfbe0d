"""Every Python block of the README runs as it stands, in a process of its own."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from deltajit.kernels import LOSSES

import deltajit as dj
from tests.conftest import ANY_OUTPUT, HIDDEN, OF_Z

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_there_are_blocks():
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_block_runs(block, tmp_path):
    # As a file, since Numba caches and reports by file name.
    script = tmp_path / "block.py"
    script.write_text(block)
    command = [sys.executable, "-W", "error", script]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_table_names_what_exists():
    """All that it names is there; what is new may be in CHANGELOG.md alone for a while."""
    rows = dict(re.findall(r"^\| (\w+) \| (.*) \|$", README.read_text(), flags=re.MULTILINE))
    new = {*re.findall(r"\w+", README.with_name("CHANGELOG.md").read_text())}
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
    found = re.findall(r"`(\w+)` in `kernels/([\w/]+)\.py`", README.read_text())
    assert len(found) == 5
    for name, path in found:
        module = importlib.import_module(f"deltajit.kernels.{path.replace('/', '.')}")
        assert hasattr(module, name), (name, path)
