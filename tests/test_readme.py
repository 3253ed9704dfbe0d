"""Every Python block of the README runs as it stands, in a process of its own."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_kernels_of_the_table_exist():
    found = re.findall(r"`(\w+)` in `kernels/([\w/]+)\.py`", README.read_text())
    assert len(found) == 5
    for name, path in found:
        module = importlib.import_module(f"deltajit.kernels.{path.replace('/', '.')}")
        assert hasattr(module, name), (name, path)
