"""The Python blocks of README.md and of docs/ are tests: a document's run one after the other."""

import matplotlib
import pytest
from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser

from deltajit import kernels, reference


@pytest.fixture
def as_found(tmp_path, monkeypatch):
    """A folder for what a block writes, no windows, and no activations or losses left behind."""
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    lists = [module.__dict__[name] for module in (kernels, reference) for name in RECORDS]
    before = [dict(records) for records in lists]
    yield
    for records, old in zip(lists, before, strict=True):
        records.clear()
        records.update(old)


RECORDS = ["ACTIVATIONS", "LOSSES"]

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()],
    patterns=["README.md", "docs/*.md"],
    fixtures=["as_found"],
).pytest()
