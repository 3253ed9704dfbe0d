"""Activations that other languages can express, and those that they cannot."""

import pytest

import deltajit as dj
from deltajit.io.forms import FORMS
from tests.helpers.forms import NAMES
from tests.helpers.networks import HIDDEN


def test_every_row_is_of_an_activation():
    assert set(NAMES) == set(FORMS)


def test_what_has_no_form_is_refused(tmp_path):
    """An activation of the user's, and those of ours that have no row."""
    dj.register_activation("cubed", lambda z: z**3, lambda z: 3 * z * z)
    for name in ["cubed", *(name for name in HIDDEN if name not in NAMES)]:
        net = dj.Network([3, 4, 4, 2], ["tanh", name])
        for method, arguments in [
            (net.to_torch, ()),
            (net.to_onnx, (tmp_path / "net",)),
            (net.to_c, (tmp_path / "net",)),
        ]:
            message = f"{method.__name__} cannot express activation={name!r}"
            with pytest.raises(ValueError, match=message):
                method(*arguments)
    assert not (tmp_path / "net").exists()
