"""What notebooks show: tables and pictures that say what the object is, and never raise."""

import base64
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import deltajit as dj

PICTURE = re.compile(r'<img alt="" style="[^"]*" src="data:image/svg\+xml;base64,([^"]*)"/>')


def cells(page):
    """The table's rows; the page must be well-formed."""
    tree = ET.fromstring(page)
    return [[cell.text or "" for cell in row] for row in tree.iter("tr")]


def picture(page):
    """The picture's SVG, parsed; None where there is none."""
    found = PICTURE.search(page)
    return found and ET.fromstring(base64.b64decode(found[1]))


def trained(epochs=3):
    X, Y = np.eye(2), np.eye(2)
    return dj.Network([2, 2]).fit(X, Y, epochs, validation_data=(X, Y), progress=False)


def test_network():
    page = dj.Network([2, 16, 1], "relu", "sigmoid")._repr_html_()
    assert cells(page) == [
        ["layer", "units", "activation", "parameters"],
        ["0", "2", "inputs", ""],
        ["1", "16", "relu", "48"],
        ["2", "1", "sigmoid", "17"],
    ]
    assert "Network(2-16-1, relu -&gt; sigmoid" in page
    assert picture(page) is not None


def test_network_with_nan_has_no_picture():
    net = dj.Network([2, 3, 1])
    net.theta[0] = np.nan
    page = net._repr_html_()
    assert len(cells(page)) == 4
    assert picture(page) is None


def test_ensemble():
    page = dj.Ensemble([2, 3, 1], 5)._repr_html_()
    assert "Ensemble(5 x 2-3-1" in page
    assert len(cells(page)) == 4
    assert picture(page) is not None


def test_history():
    history = trained()
    page = history._repr_html_()
    assert "History of 3 epochs" in page
    rows = {name: values for name, *values in cells(page)}
    assert rows["loss"] == [f"{history.loss[0]:.4g}", f"{history.loss[-1]:.4g}"]
    assert rows["val_loss"] == [f"{history.val_loss[0]:.4g}", f"{history.val_loss[-1]:.4g}"]
    assert picture(page) is not None


@pytest.mark.parametrize("history", [dj.History(), dj.History(loss=[np.nan], time=[0.1])])
def test_history_of_nothing_has_no_picture(history):
    page = history._repr_html_()
    assert cells(page)[0] == ["", "first epoch", "last epoch"]
    assert picture(page) is None


def test_history_of_an_ensemble_with_a_stopped_member():
    loss = [np.array([4.0, 2.0, 9.0]), np.array([3.0, 1.0, np.nan])]
    page = dj.History(loss=loss, time=[0.1, 0.1])._repr_html_()
    assert cells(page)[1] == ["loss", "4", "2"]
    assert picture(page) is not None


def test_circuit():
    page = dj.Circuit(lambda x, y: np.log(x) * y + x, 2)._repr_html_()
    assert dict(cells(page)) == {
        "": "", "arguments": "x, y", "operations": "3", "outputs": "one scalar", "dtype": "float64",
    }  # fmt: skip
    assert picture(page) is not None
    assert picture(dj.Circuit(lambda *x: sum(a * a for a in x), 40)._repr_html_()) is None


def test_without_matplotlib_there_is_the_table():
    code = """
import sys
sys.modules["matplotlib"] = None
import deltajit as dj
for it in (dj.Network([2, 1]), dj.Ensemble([2, 1], 2), dj.History([1.0], time=[0.1]),
           dj.Circuit(lambda x: x * x, 1)):
    page = it._repr_html_()
    assert "<table>" in page and "<img" not in page
"""
    subprocess.run([sys.executable, "-c", code], check=True)
