"""Saving is atomic: whatever happens, the old file is there, or the new one."""

import os
import resource
import signal
import stat

import numpy as np
import pytest

import deltajit as dj
from deltajit.io import files
from tests.helpers import processes
from tests.helpers.files import some_net


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
    with processes.begin("-c", KILLED, path) as run:
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
    with pytest.raises(TypeError, match=r"^path must be a path, .*, got 3"):
        net.save(3)
    with pytest.raises(ValueError, match="of 2,000 layers cannot be saved: its header"):
        dj.Network([1] * 2001).save(path)
    assert os.listdir(path.parent) == []
    dj.Network([1] * 1401).save(path)
    assert len(dj.load(path).sizes) == 1401


def test_replace_is_for_any_file(tmp_path):
    files.replace(tmp_path / "a", b"1")
    files.replace(str(tmp_path / "a"), b"2")
    assert (tmp_path / "a").read_bytes() == b"2"
