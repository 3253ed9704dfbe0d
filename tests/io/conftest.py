"""Fixtures of files."""

import pytest

from tests.helpers.files import some_net


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


@pytest.fixture
def content(path):
    """Bytes of a good file, as `parts` takes them apart."""
    some_net(activation="leaky_relu").save(path)
    return path.read_bytes()
