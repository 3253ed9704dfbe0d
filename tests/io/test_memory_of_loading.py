"""Loading a file takes little more memory than the network, whatever the file promises."""

import json

import pytest

import deltajit as dj
from deltajit.io import saving
from tests.helpers.files import MIB, joined, parts, peak_of_loading


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
