"""Files: what comes back, what survives a failure, and what becomes of anything malformed."""

import json
import os
import pickle
import resource
import signal
import stat
import subprocess
import sys
import tracemalloc
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import deltajit as dj
from deltajit.io import files, saving
from deltajit.model.architecture import Architecture
from tests.helpers.networks import DTYPES, ENDS, HIDDEN

MIB = 2**20


def some_net(seed=0, sizes=(3, 4, 2), activation="tanh", **options):
    """A network whose every parameter is random."""
    net = dj.Network(list(sizes), activation, rng=seed, **options)
    net.theta = np.random.default_rng(seed).normal(size=net.n_params)
    return net


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


@pytest.fixture
def content(path):
    """Bytes of a good file, as `parts` takes them apart."""
    some_net(activation="leaky_relu").save(path)
    return path.read_bytes()


def parts(content):
    """(header, description, tensors' bytes) of a file's content."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["deltajit"]), content[8 + length :]


def joined(header, data, description=None):
    """A file's content; header and description may be JSON text already."""
    if description is not None:
        text = description if isinstance(description, str) else json.dumps(description)
        header = {**header, "__metadata__": {"deltajit": text}}
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return len(text).to_bytes(8, "little") + text + data


# ------------------------------------------------------------------ there and back


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("output", "loss"), ENDS)
def test_there_and_back(output, loss, dtype, path):
    sizes = [3, *range(2, 2 + len(HIDDEN)), 2]
    options = dict(l2=0.1, l1=0.2, slope=0.3, threshold=0.7, quantile=0.9)
    net = some_net(1, sizes, HIDDEN, output=output, loss=loss, dtype=dtype, **options)
    net.save(path)
    found = dj.load(path)
    assert found.architecture == net.architecture
    np.testing.assert_array_equal(found.theta, net.theta)
    X = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_array_equal(found.predict(X), net.predict(X))
    assert found.theta.ctypes.data % 64 == 0
    path.unlink()
    found.theta += 1  # its own memory, not the file's


def test_other_tools_find_the_tensors(path):
    net = some_net()
    net.save(str(path))
    tensors = safetensors.numpy.load_file(path)
    assert set(tensors) == {f"layers.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")}
    for i in (0, 1):
        np.testing.assert_array_equal(tensors[f"layers.{i}.weight"], net.weights[i])
        np.testing.assert_array_equal(tensors[f"layers.{i}.bias"], net.biases[i])


def test_same_network_same_bytes(path, content):
    some_net(activation="leaky_relu").save(path)
    assert path.read_bytes() == content


def test_other_tools_may_write_them(path, content):
    """Tensors in another order, spaces, and more metadata are no harm."""
    header, description, data = parts(content)
    net = some_net(activation="leaky_relu")
    tensors, at, moved = {}, 0, b""
    for name in reversed(header.keys() - {"__metadata__"} and sorted(header)):
        if name != "__metadata__":
            begin, end = header[name]["data_offsets"]
            offsets = [at, at + end - begin]
            tensors[name] = {**header[name], "data_offsets": offsets}
            moved, at = moved + data[begin:end], offsets[1]
    assert moved != data
    metadata = {"deltajit": json.dumps(description), "format": "pt"}
    path.write_bytes(joined(json.dumps({"__metadata__": metadata, **tensors}, indent=3), moved))
    np.testing.assert_array_equal(dj.load(path).theta, net.theta)


def test_weights_that_are_not_finite(path):
    net = some_net()
    net.theta[:3] = np.nan, np.inf, -np.inf
    net.save(path)
    np.testing.assert_array_equal(dj.load(path).theta, net.theta)


def test_large_layers_are_read_in_pieces(path, monkeypatch):
    monkeypatch.setattr(saving, "PIECE", 7)
    for sizes in ([3, 5, 4], [20, 2], [2, 20], [7, 7]):
        net = some_net(0, sizes)
        net.save(path)
        np.testing.assert_array_equal(dj.load(path).theta, net.theta)


def test_what_is_not_in_the_file(path):
    some_net().save(path)
    X, Y = np.ones((8, 3)), np.arange(16.0).reshape(8, 2)
    trained = [dj.load(path, rng=rng) for rng in (5, 5, 6)]
    for net in trained:
        net.fit(X * Y[:, :1], Y, epochs=2, batch_size=2, progress=False)
    np.testing.assert_array_equal(trained[0].theta, trained[1].theta)
    assert (trained[0].theta != trained[2].theta).any()
    assert dj.load(path, threads=1).threads == 1
    with pytest.raises(TypeError, match="rng must be None, a seed"):
        dj.load(path, rng="a")
    with pytest.raises(ValueError, match="threads must be >= 1, got 0"):
        dj.load(path, threads=0)


# ------------------------------------------------------------------ fields to come


@dataclass(frozen=True)
class Wider(Architecture):
    """An Architecture of some later version, with one field more."""

    offsets: tuple[float, ...] = ()

    @classmethod
    def checked(cls, *args, offsets=(0.5,), **options):
        made = Architecture.checked(*args, **options)
        return cls(**vars(made), offsets=tuple(offsets))


def test_a_new_field_travels_along(path, monkeypatch):
    net = some_net()
    net.save(path)
    monkeypatch.setattr(saving, "Architecture", Wider)
    older, theta = saving.load(path)
    assert older.offsets == (0.5,)  # the default of `checked`
    np.testing.assert_array_equal(theta, net.theta)
    saving.save(
        path, Wider.checked([3, 4, 2], "tanh", "auto", "auto", 0, 0, "f4", offsets=[1, 2]), theta
    )
    assert saving.load(path)[0].offsets == (1, 2)
    monkeypatch.undo()
    with pytest.raises(dj.FormatError, match=r"\['offsets'\], which are unknown.*pip install --up"):
        dj.load(path)


def test_fields_that_json_has_not_are_refused(path):
    made = Wider.checked([3, 4, 2], "tanh", "auto", "auto", 0, 0, "f4", offsets=[object()])
    with pytest.raises(TypeError, match="cannot be saved"):
        saving.save(path, made, some_net().theta)
    assert not path.exists()


# ------------------------------------------------------------------ saving is atomic


class FullError(OSError):
    pass


@pytest.mark.parametrize(
    "target", ["os.fsync", "os.replace", "shutil.copymode", "safetensors.numpy.save"]
)
@pytest.mark.parametrize("error", [FullError, KeyboardInterrupt])
def test_old_file_survives(target, error, path, content, monkeypatch):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr(target, fail)
    with pytest.raises(error):
        some_net(7).save(path)
    monkeypatch.undo()
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]
    some_net(7).save(path)
    assert path.read_bytes() != content
    assert os.listdir(path.parent) == [path.name]


def test_old_file_survives_a_full_disk(path, content):
    """Half of the file is written, then the system says no."""
    large = some_net(7, [100, 200, 100])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (large.theta.nbytes // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            large.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


KILLED = """
import sys
import deltajit as dj
nets = [dj.Network([200, 300, 2], rng=seed) for seed in (0, 1)]
for i in range(10**9):
    nets[i % 2].save(sys.argv[1])
    print(i, flush=True)
"""


def test_killed_at_any_moment(path):
    """There is a whole file of either network, whenever it is killed."""
    expected = [dj.Network([200, 300, 2], rng=seed).theta for seed in (0, 1)]
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as run:
        for wait in range(20):
            run.stdout.readline()
            run.send_signal(signal.SIGSTOP)  # what is there now is what a kill would leave
            theta = dj.load(path).theta
            assert any(np.array_equal(theta, other) for other in expected), wait
            run.send_signal(signal.SIGCONT)
        run.kill()
    assert any(np.array_equal(dj.load(path).theta, other) for other in expected)


def test_folder_is_synced_after_the_name_is_there(path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace

    def logged_fsync(handle):
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def logged_replace(*args):
        done.append("replace")
        replace(*args)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "replace", logged_replace)
    some_net().save(path)
    assert done == ["file", "replace", "folder"]


def test_links_and_modes_stay(path, content):
    link = path.parent / "link"
    link.symlink_to(path.name)
    path.chmod(0o640)
    some_net(7).save(link)
    assert link.is_symlink()
    assert path.read_bytes() != content
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    some_net().save(path.parent / "new")
    (path.parent / "plain").touch()
    modes = [stat.S_IMODE((path.parent / name).stat().st_mode) for name in ("new", "plain")]
    assert modes[0] == modes[1]


def test_where_nothing_can_be_saved(path):
    net = some_net()
    with pytest.raises(FileNotFoundError, match="path must be in a folder that exists, got"):
        net.save(path / "nowhere" / "net")
    with pytest.raises(OSError, match="path must be a file or new, got a folder or device"):
        net.save(path.parent)
    with pytest.raises(OSError, match="path must be a file or new, got a folder or device"):
        net.save(os.devnull)
    with pytest.raises(TypeError, match=r"expected str, bytes or os\.PathLike object, not int"):
        net.save(3)
    with pytest.raises(ValueError, match="of 2,000 layers cannot be saved: its header"):
        dj.Network([1] * 2001).save(path)
    assert os.listdir(path.parent) == []
    dj.Network([1] * 1401).save(path)
    assert len(dj.load(path).sizes) == 1401


# ------------------------------------------------------------------ bad input


def test_missing_file(path):
    with pytest.raises(FileNotFoundError, match=r"net\.safetensors"):
        dj.load(path)


def test_not_a_file(path):
    os.mkfifo(path)
    for other in (path, path.parent, os.devnull, "/dev/zero"):
        with pytest.raises(dj.FormatError, match="it is a folder or a device, not a file"):
            dj.load(other)
    with pytest.raises(TypeError, match="expected str, bytes or"):
        dj.load(0)


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
    (dict(sizes=[3, 10**15, 2]), r"layers.0.weight must have dtype F32 and shape \[1000000000"),
    (dict(sizes=[10**4000, 10**4000, 2]), r"layers.0.weight must have dtype F32 and shape"),
    (dict(sizes=[3, 5, 2]), r"layers.0.weight .* shape \[5, 3\], got \('F32', \[4, 3\]\)"),
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
    (dict(dtype="float64"), "layers.0.weight must have dtype F64"),
    (dict(l3=0.1), r"its description has \['l3'\], which are unknown here"),
    (dict(slope=None), "slope must be a number"),
]
NOT_THIS_FORMAT = "it is not in safetensors format"
TENSORS = [
    (dict(dtype="F64"), NOT_THIS_FORMAT),
    (dict(dtype="I32"), r"must have dtype F32 and shape \[4\], got \('I32', \[4\]\)"),
    (dict(dtype="f32"), NOT_THIS_FORMAT),
    (dict(shape=[2, 2]), r"must have dtype F32 and shape \[4\], got \('F32', \[2, 2\]\)"),
    (dict(shape=[4.0]), NOT_THIS_FORMAT),
    (dict(shape=[True]), NOT_THIS_FORMAT),
    (dict(shape=4), NOT_THIS_FORMAT),
    (dict(data_offsets=[0, 12]), NOT_THIS_FORMAT),
    (dict(data_offsets=[16, 0]), NOT_THIS_FORMAT),
    (dict(data_offsets=[-16, 0]), NOT_THIS_FORMAT),
    (dict(data_offsets=[False, 16]), NOT_THIS_FORMAT),
    (dict(data_offsets=[0]), NOT_THIS_FORMAT),
    (dict(data_offsets=["0", 16]), NOT_THIS_FORMAT),
    (dict(data_offsets=[8, 24]), NOT_THIS_FORMAT),
    (dict(data_offsets=[16, 32]), NOT_THIS_FORMAT),
    (dict(data_offsets=[10**30, 10**30 + 16]), NOT_THIS_FORMAT),
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
    for name in ("l1", "threshold", "quantile"):
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
    tensors = safetensors.numpy.load(content)
    del tensors["layers.1.bias"]
    three = safetensors.numpy.save(tensors, header["__metadata__"])
    for bad, message in [
        (three, "it has 3 tensors, where 2 layers have two each"),
        (joined(fewer, data), NOT_THIS_FORMAT),
        (joined({**header, "more": {}}, data), NOT_THIS_FORMAT),
        (joined(twice, data), NOT_THIS_FORMAT),
        (joined(other, data), r"layers\.1\.bias must have .* got None"),
        (joined("[" + text + "]", data), NOT_THIS_FORMAT),
        (joined(text + text, data), NOT_THIS_FORMAT),
        (joined(text[:-1] + "," + '"x":' + DEEP + "}", data), NOT_THIS_FORMAT),
        (joined(numbers, data), NOT_THIS_FORMAT),
        (joined({**header, "__metadata__": None}, data), "did not write it"),
        (joined(text + " " * saving.LARGEST_HEADER, data), "which may have at most 262,144"),
        (joined(header, data + b"\0"), NOT_THIS_FORMAT),
        (joined(header, data[:-1]), NOT_THIS_FORMAT),
        (content[:8] + b"\xff" + content[9:], NOT_THIS_FORMAT),
        (b"\xff" * 8 + content[8:], "promise a header of 18,446,744,073,709,551,615"),
        (b"", "of 0 bytes"),
    ]:
        path.write_bytes(bad)
        with pytest.raises(dj.FormatError, match=message):
            dj.load(path)
    path.write_bytes(joined(header, data, description))
    assert dj.load(path).sizes == (3, 4, 2)


# ------------------------------------------------------------------ memory


def peak_of_loading(path):
    """Most bytes that are allocated at a time while a file is loaded, and what came of it."""
    tracemalloc.start()
    try:
        net = dj.load(path)
    except dj.FormatError:
        net = None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak, net


@pytest.mark.parametrize("sizes", [[1000, 9000, 2], [4_000_000, 2], [2, 3_000_000, 1]])
def test_memory_for_large_networks(sizes, path):
    dj.Network(sizes, init="zeros").save(path)
    peak, net = peak_of_loading(path)
    size = path.stat().st_size
    assert net.theta.nbytes <= peak <= size + 16 * MIB
    assert size > 24 * MIB  # so that loading it whole, beside theta, would have been too much


def hostile():
    """Headers and descriptions that take as much memory as their size allows."""
    room = saving.LARGEST_HEADER

    def filled(unit):
        return ",".join([unit] * ((room - 1000) // (len(unit.encode()) + 1)))

    deep = "[" * 90 + "]" * 90, '{"":' * 90 + "1" + "}" * 90
    for unit in ("1", "[]", "{}", '{"":{}}', "[{}]", '"\u0101"', "1e5", "123456789", *deep):
        yield '{"a":[' + filled(unit) + "]}"
        half = filled(unit)[: room // 3].rpartition(",")[0]
        text = json.dumps('{"a":[' + half + "]}", ensure_ascii=False)
        yield '{"__metadata__":{"deltajit":' + text + "}}"
    yield "{" + ",".join(f'"{i}":{{}}' for i in range(20_000)) + "}"
    yield '{"__metadata__":{"deltajit":"' + "\U0001f600" * (room // 5) + '"}}'
    architecture = dict(activations=["tanh"], loss="auto", l2=0, slope=0, dtype="float32")
    for change in (
        dict(sizes=[1] * 80_000),
        dict(sizes=[1] * 17_000, activations=["relu"] * 16_999),
        dict(sizes=[2, 2], loss="tahn" * 50_000),
        dict(sizes=[2, 2], activations=["x" * 200_000]),
        dict(sizes=[2, 2], dtype="x" * 200_000),
        dict(sizes=[2, 2], **{f"k{i}": 1 for i in range(10_000)}),
    ):
        made = {"format": 1, "architecture": {**architecture, **change}}
        yield joined({}, b"", made)[8:].decode()


def test_memory_for_hostile_headers(path):
    peaks = []
    for header in hostile():
        content = joined(header, b"")
        assert len(content) <= 8 + saving.LARGEST_HEADER
        path.write_bytes(content)
        peak, net = peak_of_loading(path)
        assert net is None
        peaks.append(peak)
        assert peak <= len(content) + 16 * MIB, header[:200]
    print(f"{max(peaks) / MIB:.1f} MiB")
    assert max(peaks) > MIB  # they are hostile indeed


def test_memory_for_absurd_promises(path, content):
    header, description, data = parts(content)
    description["architecture"]["sizes"] = [3, 10**9, 2]
    path.write_bytes(joined(header, data, description))
    assert peak_of_loading(path)[0] < MIB
    with open(path, "wb") as file:  # 16 GiB of nothing, on the disk and to load
        file.write((2**34 - 8).to_bytes(8, "little"))
        file.truncate(2**34)
    peak, net = peak_of_loading(path)
    assert net is None
    assert peak < MIB


# ------------------------------------------------------------------ mutants

ODD = [
    0, 1, -1, 2, 3, 16, 2**31, 2**63, 2**64, 10**30, 10**400, 0.5, 1e308, -0.0, True, False, None,
    "", "F32", "F64", "BF16", "tanh", "softmax", "cross_entropy", "float64", "\ud800", "x" * 300,
    [], [[]], {}, {"a": 1}, [3, 4, 2], [0, 16],
]  # fmt: skip
TOKENS = ["NaN", "Infinity", "1e999", "-1", "01", "9" * 5000, "[" * 3000, '{"a":' * 3000, '"', "\\"]


def spots(tree):
    """(container, key) of everything in a JSON tree."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], (dict, list)):
            yield from spots(tree[key])


def picked(rng, options):
    return options[rng.integers(len(options))]


def edit(rng, tree):
    """Change, remove, add, double or swap something in a JSON tree."""
    container, key = picked(rng, list(spots(tree)))
    match rng.integers(5):
        case 0:
            container[key] = picked(rng, ODD)
        case 1:
            del container[key]
        case 2 if isinstance(container, dict):
            container[str(picked(rng, [*ODD, "layers.2.bias", "offset"]))[:50]] = container[key]
        case 3 if isinstance(container, list):
            container.insert(key, container[key])
        case _:
            other, place = picked(rng, list(spots(tree)))
            container[key], other[place] = other[place], container[key]


def edit_header(rng, content, _):
    header, _, data = parts(content)
    edit(rng, header)
    try:
        return joined(header, data)
    except (ValueError, RecursionError):  # the swap put a container into itself
        return content


def edit_description(rng, content, _):
    header, description, data = parts(content)
    edit(rng, description)
    try:
        return joined(header, data, description)
    except (ValueError, RecursionError):
        return content


def edit_text(rng, content, _):
    """Put something odd into the header's text, or take a piece out or in twice."""
    header, _, data = parts(content)
    text = json.dumps(header)
    i, j = sorted(rng.integers(len(text), size=2))
    j = min(j, i + 30)
    middle = picked(rng, ["", text[i:j] * 2, picked(rng, TOKENS), picked(rng, TOKENS) + text[i:j]])
    return joined(text[:i] + middle + text[j:], data)


def double_key(rng, content, _):
    header, description, data = parts(content)
    text, inner = json.dumps(header), json.dumps(description)
    name = picked(rng, ["layers.0.bias", "layers.0.weight", "__metadata__", "shape", "dtype"])
    at = text.index("{", int(rng.integers(text.rindex("{")))) + 1
    doubled = text[:at] + f'"{name}":' + json.dumps(header.get(name, "F32")) + "," + text[at:]
    field = picked(rng, ["sizes", "l2", "loss"])
    again = inner.replace(
        f'"{field}"', f'"{field}": {json.dumps(picked(rng, ODD[:20]))}, "{field}"'
    )
    return joined(doubled, data) if rng.random() < 0.5 else joined(header, data, again)


def swap_offsets(rng, content, _):
    header, _, data = parts(content)
    names = [name for name in header if name != "__metadata__"]
    first, second = picked(rng, names), picked(rng, names)
    a, b = header[first]["data_offsets"], header[second]["data_offsets"]
    match rng.integers(3):
        case 0:
            header[first]["data_offsets"], header[second]["data_offsets"] = b, a
        case 1:
            a[0], b[0] = b[0], a[0]
        case 2:
            a[rng.integers(2)] += int(picked(rng, [-8, -1, 1, 4, 2**40, -(2**62)]))
    return joined(header, data)


def flip(rng, content, _):
    """Bits anywhere."""
    mutant = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        mutant[rng.integers(len(mutant))] ^= 1 << rng.integers(8)
    return bytes(mutant)


def flip_in_header(rng, content, _):
    length = int.from_bytes(content[:8], "little")
    return flip(rng, content[: 8 + length], None) + content[8 + length :]


def cut(rng, content, other):
    """Truncated, extended, or the front of one file before the end of another."""
    at = rng.integers(len(content))
    match rng.integers(3):
        case 0:
            return content[:at]
        case 1:
            return content + rng.bytes(rng.integers(1, 64))
    return content[:at] + other[rng.integers(len(other)) :]


def change_length(rng, content, _):
    length = int.from_bytes(content[:8], "little")
    odd = [0, 1, 2, length - 1, length + 1, length + 8, len(content) - 8, len(content), 2**18,
           2**31, 2**63, 2**64 - 1, int(rng.integers(2**62)), int(rng.integers(2000))]  # fmt: skip
    return picked(rng, odd).to_bytes(8, "little") + content[8:]


def noise(rng, content, _):
    return rng.bytes(rng.integers(300))


MUTATIONS = [
    edit_header, edit_description, edit_text, double_key, swap_offsets, flip, flip_in_header, cut,
    change_length, noise,
]  # fmt: skip


def test_mutants(path):
    """10,000 of them: each is refused by a FormatError, or is a network that can be used."""
    rng, contents = np.random.default_rng(12), []
    for options in (
        dict(sizes=[3, 4, 2]),
        dict(sizes=[2, 2, 2, 2], activation=["relu", "leaky_relu"], dtype="float64", l2=0.5),
        dict(sizes=[9, 16, 3], output="softmax"),
        dict(sizes=[1, 1], output="sigmoid"),
    ):
        some_net(**options).save(path)
        contents.append(path.read_bytes())
    outcomes = Counter()
    for i in range(10_000):
        mutate = MUTATIONS[i % len(MUTATIONS)]
        mutant = mutate(rng, picked(rng, contents), picked(rng, contents))
        path.write_bytes(mutant)
        peak, net = peak_of_loading(path)
        assert peak <= len(mutant) + 16 * MIB
        outcomes[mutate.__name__, "refused" if net is None else "loaded"] += 1
        if net is not None:  # then the library, the more lenient reader, reads the same
            tensors = safetensors.numpy.load(mutant)
            for k, W in enumerate(net.weights):
                np.testing.assert_array_equal(tensors[f"layers.{k}.weight"], W)
            assert net.predict(np.zeros(net.sizes[0])).shape == (net.sizes[-1],)
    assert outcomes.total() == 10_000
    for mutate in MUTATIONS:
        print(mutate.__name__, outcomes[mutate.__name__, "loaded"], "loaded")
        assert outcomes[mutate.__name__, "refused"] > 100
    assert outcomes["flip", "loaded"] > 100  # of weights' bits


def test_replace_is_for_any_file(tmp_path):
    files.replace(tmp_path / "a", b"1")
    files.replace(str(tmp_path / "a"), b"2")
    assert (tmp_path / "a").read_bytes() == b"2"
