"""Fixtures that several folders use."""

import pytest


@pytest.fixture
def digits():
    """The demo's data."""
    from deltajit.cli import demo

    return demo.load()
