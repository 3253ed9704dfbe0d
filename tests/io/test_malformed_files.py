"""What is wrong in a file is named; nothing of it is executed."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import deltajit as dj
from deltajit.io import saving
from tests.helpers.files import joined, parts, some_net


def test_missing_file(path):
    with pytest.raises(FileNotFoundError, match=r"net\.safetensors"):
        dj.load(path)


def test_not_a_file(path):
    os.mkfifo(path)
    for other in (path, path.parent, os.devnull, "/dev/zero"):
        with pytest.raises(dj.FormatError, match="it is a folder or a device, not a file"):
            dj.load(other)
    with pytest.raises(TypeError, match=r"^path must be a path"):
        dj.load(0)


def test_no_permission(path, content, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)  # root may read whatever its mode is
    with pytest.raises(PermissionError, match=r"net\.safetensors"):
        dj.load(path)


CUT_WHILE_READ = """
import os, sys
import deltajit as dj
from deltajit.io import saving

path, begins = sys.argv[1], saving._begins

def cut(*args):
    os.truncate(path, 5000)
    return begins(*args)

saving._begins = cut
try:
    dj.load(path)
except dj.FormatError as error:
    print(error)
"""


def test_a_file_that_is_cut_while_it_is_read(path):
    """No signal ends the process, as it would where a map of the file is read beyond its end."""
    dj.Network([1000, 1000, 2]).save(path)
    done = subprocess.run(
        [sys.executable, "-c", CUT_WHILE_READ, str(path)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "it became shorter while it was read" in done.stdout


def test_a_file_that_is_replaced_while_it_is_read(path, monkeypatch):
    """What was opened is read to its end, whatever bears its name meanwhile."""
    first, begins = some_net(1), saving._begins
    first.save(path)

    def replace(*args):
        some_net(2).save(path)
        return begins(*args)

    monkeypatch.setattr(saving, "_begins", replace)
    np.testing.assert_array_equal(dj.load(path).theta, first.theta)


def test_pickles_are_not_opened(path):
    path.write_bytes(pickle.dumps(some_net()))
    with pytest.raises(dj.FormatError, match="truncated, or not in safetensors format"):
        dj.load(path)


def test_tensors_without_a_description(path):
    safetensors.numpy.save_file({"0.weight": np.ones((2, 3), np.float32)}, path)
    with pytest.raises(dj.FormatError, match=r"Network\.save did not write it; .*from_torch"):
        dj.load(path)


def test_ends_anywhere(path, content):
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(dj.FormatError):
            dj.load(path)


DEEP = "[" * 100_000 + "]" * 100_000
DESCRIPTIONS = [
    (dict(format=2), r"its format must be 1, got 2; .*update this one"),
    (dict(format=True), "its format must be 1, got True"),
    (dict(scaler={}), r"it has the parts \['scaler'\], which are unknown here; .*update this one"),
    (dict(architecture=[]), "no architecture"),
    ("[1]", "its description is no JSON object"),
    ('{"format": 1, "format": 1}', "a name occurs twice"),
    ('{"format": ' + DEEP + "}", "it is too nested"),
    ('{"format": ' + "9" * 5000 + "}", "no JSON object"),
    ('{"format": NaN}', "NaN has no place in it"),
]
FIELDS = [
    (dict(sizes=[3, 4]), r"its description is wrong: activation must name 0 hidden layers"),
    (dict(sizes=[3, 0, 2]), r"sizes\[1\] must be >= 1, got 0"),
    (dict(sizes=[3, 4.0, 2]), r"sizes\[1\] must be a whole number"),
    (dict(sizes=[3, True, 2]), r"sizes\[1\] must be a whole number"),
    (dict(sizes=[3, 10**15, 2]), "units in float32 are not what the 104 bytes behind its header"),
    (dict(sizes=[10**4000, 10**4000, 2]), "units in float32 are not what the 104 bytes behind"),
    (dict(sizes=[3, 5, 2]), r"layers of \(3, 5, 2\) units in float32 are not what the 104 bytes"),
    (dict(sizes="342"), "sizes must be a list"),
    (dict(activations=["tahn", "identity"]), r"'tahn' is unknown; .*update this one"),
    (dict(activations=["tanh"]), "activation must name 1 hidden layers"),
    (dict(activations=[]), "its description is wrong"),
    (dict(activations=5), "its description is wrong"),
    (dict(activations=["tanh", "auto"]), "its description has activations="),
    (dict(loss="cross_entropy"), "loss='cross_entropy' needs output='softmax'"),
    (dict(loss="auto"), "has loss='auto' instead of 'squared_error'"),
    (dict(loss="x" * 100_000), "its description is wrong: loss='xxx"),
    (dict(loss=["a"]), "loss must be a string"),
    (dict(l2=-1), "l2 must be a finite number"),
    (dict(l2=10**400), "its description is wrong"),
    (dict(l2=1e300), "l2 must be a finite number from 0 to 3.4"),
    (dict(slope="0.1"), "slope must be a number"),
    (dict(dtype="float16"), "its dtype must be float32 or float64, got 'float16'"),
    (dict(dtype="f4"), "its dtype must be float32 or float64, got 'f4'"),
    (dict(dtype=["float32"]), "its dtype must be float32 or float64"),
    (dict(dtype="float64"), "units in float64 are not what the 104 bytes"),
    (dict(l3=0.1), r"its description has \['l3'\], which are unknown here"),
    (dict(slope=None), "slope must be a number"),
]
TENSORS = [
    (dict(dtype="F64"), "layers.0.bias must have dtype F32"),
    (dict(dtype="f32"), "layers.0.bias must have dtype F32"),
    (dict(shape=[2, 2]), r"must have dtype F32 and shape \[4\], 16 bytes, got"),
    (dict(shape=[4.0]), "layers.0.bias must have"),
    (dict(shape=[True]), "layers.0.bias must have"),
    (dict(shape=4), "layers.0.bias must have"),
    (dict(data_offsets=[0, 12]), "layers.0.bias must have"),
    (dict(data_offsets=[16, 0]), "layers.0.bias must have"),
    (dict(data_offsets=[-16, 0]), "its tensors have gaps between them, or overlap"),
    (dict(data_offsets=[False, 16]), "layers.0.bias must have"),
    (dict(data_offsets=[0]), "layers.0.bias must have"),
    (dict(data_offsets=["0", 16]), "layers.0.bias must have"),
    (dict(data_offsets=[8, 24]), "gaps between them, or overlap"),
    (dict(data_offsets=[16, 32]), "gaps between them, or overlap"),
    (dict(data_offsets=[10**30, 10**30 + 16]), "gaps between them, or overlap"),
    (dict(more=1), "layers.0.bias must have"),
]


@pytest.mark.parametrize(("change", "message"), DESCRIPTIONS, ids=range(len(DESCRIPTIONS)))
def test_bad_description(change, message, path, content):
    header, description, data = parts(content)
    changed = change if isinstance(change, str) else {**description, **change}
    path.write_bytes(joined(header, data, changed))
    with pytest.raises(dj.FormatError, match=message):
        dj.load(path)


@pytest.mark.parametrize(("change", "message"), FIELDS, ids=range(len(FIELDS)))
def test_bad_field(change, message, path, content):
    header, description, data = parts(content)
    description["architecture"] |= change
    path.write_bytes(joined(header, data, description))
    with pytest.raises(dj.FormatError, match=message) as caught:
        dj.load(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["sizes", "activations", "loss", "l2", "slope", "dtype"])
def test_missing_field(name, path, content):
    header, description, data = parts(content)
    del description["architecture"][name]
    path.write_bytes(joined(header, data, description))
    with pytest.raises(dj.FormatError, match=rf"lacks \['{name}'\]; save the network again"):
        dj.load(path)


def test_fields_that_older_files_lack(path, content):
    header, description, data = parts(content)
    for name in ("l1", "threshold", "quantile", "gamma"):
        del description["architecture"][name]
    path.write_bytes(joined(header, data, description))
    assert dj.load(path).architecture == some_net(activation="leaky_relu").architecture


@pytest.mark.parametrize(("change", "message"), TENSORS, ids=range(len(TENSORS)))
def test_bad_tensor(change, message, path, content):
    header, _, data = parts(content)
    header["layers.0.bias"] |= change
    path.write_bytes(joined(header, data))
    with pytest.raises(dj.FormatError, match=message):
        dj.load(path)


def test_bad_headers(path, content):
    header, description, data = parts(content)
    text = json.dumps(header)
    fewer = {name: tensor for name, tensor in header.items() if name != "layers.1.bias"}
    twice = text.replace('"layers.1.bias"', '"layers.0.bias"')
    other = text.replace('"layers.1.bias"', '"layers.2.bias"')
    numbers = {**header, "__metadata__": {**header["__metadata__"], "n": 1}}
    for bad, message in [
        (joined(fewer, data), "it has 3 tensors, where 2 layers have two each"),
        (joined({**header, "more": {}}, data), "it has 5 tensors"),
        (joined(twice, data), "a name occurs twice"),
        (joined(other, data), r"layers\.1\.bias must have .* got None"),
        (joined(" " + text, data), "it must begin with {"),
        (joined("[" + text + "]", data), "it must begin with {"),
        (joined(text + text, data), "Extra data"),
        (joined(text[:-1] + "," + '"x":' + DEEP + "}", data), "it is too nested"),
        (joined(numbers, data), "its metadata must be strings"),
        (joined({**header, "__metadata__": None}, data), "did not write it"),
        (joined(text + " " * saving.LARGEST_HEADER, data), "which may have at most 262,144"),
        (joined(header, data + b"\0"), "not what the 105 bytes"),
        (joined(header, data[:-1]), "not what the 103 bytes"),
        (content[:8] + b"\xff" + content[9:], "no JSON object"),
        (b"\xff" * 8 + content[8:], "promise a header of 18,446,744,073,709,551,615"),
        (b"", "of 0 bytes"),
    ]:
        path.write_bytes(bad)
        with pytest.raises(dj.FormatError, match=message):
            dj.load(path)
    path.write_bytes(joined(header, data, description))
    assert dj.load(path).sizes == (3, 4, 2)
