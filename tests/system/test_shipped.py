"""Object code that comes with the package: what it is good for, and what is done where it isn't."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from deltajit.kernels import levels

from tests.helpers import processes
from tests.system.test_cache import CHANGES, COPIED, begin, change, package_in

pytestmark = pytest.mark.skipif(not levels.is_here("x86-64-v3"), reason="a level of x86-64")

LEVEL = {levels.VARIABLE: "x86-64-v3"}
SHIP = """
import json, sys
from pathlib import Path
from deltajit.kernels import backend, compiler, shipped

folder, *wanted = sys.argv[1:]
every = {f"{kernel.name}.{real}": (kernel, real) for kernel, real in compiler.all_kernels()}
shipped.write(Path(folder), backend.LEVEL, {x: compiler.compiled(*every[x]) for x in wanted})
print(shipped.file_name(backend.LEVEL))
"""
COPY = "views.copy_vector.float32", "views.copy_vector.float64"


def ship(package, place, *names):
    """Write the file of some kernels into a folder, by the sources of a package: its path."""
    place.mkdir(exist_ok=True)
    printed = processes.run("-c", SHIP, place, *names, PYTHONPATH=package, **LEVEL)
    return place / printed.strip()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A package that is shipped with the kernel that copies vectors, and nothing else."""
    folder = package_in(tmp_path_factory.mktemp("shipped"))
    ship(folder, folder / "deltajit/kernels", *COPY)
    return folder


@pytest.fixture
def package(made, tmp_path):
    """One's own copy of that, without a cache."""
    folder = tmp_path / "package"
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def run(package, work="copy", **options):
    """What a child of `test_cache` finds that does some work with the package."""
    code, out, errors = processes.end(begin(package, work, **options))
    assert code == 0, errors
    return json.loads(out)


def archive(package):
    """The file that is shipped."""
    (path,) = (package / "deltajit/kernels").glob("*.zip")
    return path


ABOUT = """
import json, warnings
warnings.simplefilter("ignore")
from deltajit.cli import info
from deltajit.kernels import backend
from deltajit.kernels.simd.vectors import VECTOR_BYTES
print(json.dumps([backend.LEVEL, VECTOR_BYTES, info.origins()["views.copy_vector.float32"]]))
"""


def about(package, **environment):
    """[level, bytes of a vector, where a kernel comes from] of processes with this package."""
    return json.loads(processes.run("-c", ABOUT, PYTHONPATH=package, **environment))


def test_nothing_is_compiled(package):
    """Nor written: a file of the cache would be code of this process's own."""
    assert about(package) == ["x86-64-v3", 32, "shipped"]
    found = run(package)
    assert (found["loaded"], found["bits"], found["warnings"]) == (1, COPIED["float32"], [])
    assert not list(package.rglob("*.o"))


def test_what_is_not_shipped_is_compiled_for_the_level(package):
    found = run(package, "activate")
    assert (found["loaded"], found["warnings"]) == (0, [])
    assert run(package, "activate", **LEVEL) == {**found, "loaded": 1}


def test_users_own_cache_comes_first(package):
    path = archive(package)
    moved = path.rename(package / path.name)
    assert run(package, **LEVEL)["loaded"] == 0
    moved.rename(path)
    assert about(package) == ["x86-64-v3", 32, "in the cache"]


# ---------------------------------------------------------------- no help


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbage(path):
    path.write_bytes(b"\0\xff garbage" * 99)


def changed(path):
    """A byte in the middle of what is compressed."""
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 0xFF
    path.write_bytes(data)


def other_content(path):
    """A whole zip, of something else."""
    with zipfile.ZipFile(path, "w") as file:
        for name in COPY:
            file.writestr(name, b"something else")


def foreign(path):
    """Code of other sources."""
    path.rename(path.with_name("x86-64-v3-0123456789abcdef.zip"))


@pytest.mark.parametrize("harm", [cut, garbage, changed, other_content, foreign])
def test_damaged_or_foreign_file(harm, package):
    """One warning, and it is compiled instead."""
    path = archive(package)
    harm(path)
    found = run(package)
    assert (found["loaded"], found["bits"]) == (0, COPIED["float32"])
    (warning,) = found["warnings"]
    assert archive(package).name in warning
    assert "compiled instead" in warning


def test_changed_sources(package):
    change(package, *CHANGES["activate"])
    assert about(package)[0] is None


def test_flags_for_debugging(package):
    """What is shipped lacks them."""
    found = run(package, NUMBA_BOUNDSCHECK=1)
    assert (found["loaded"], found["bits"], found["warnings"]) == (0, COPIED["float32"], [])


@pytest.mark.parametrize("variables", [{"DELTAJIT_ISA": "native"}, {"NUMBA_CPU_NAME": "generic"}])
def test_another_target_is_asked_for(variables, package):
    level, _, origin = about(package, **variables)
    assert (level, origin) == (None, "not compiled yet")


@pytest.mark.parametrize("level", ["avx2", "x86-64-v4"])
def test_wrong_level(level, monkeypatch):
    """Of no CPU, or not of this one."""
    monkeypatch.setattr(levels.llvm, "get_host_cpu_features", lambda: dict.fromkeys(levels.V3, 1))
    monkeypatch.setenv(levels.VARIABLE, level)
    with pytest.raises(ValueError, match=f"{levels.VARIABLE} must be .*'{level}'"):
        levels.chosen(())


def test_the_highest_level_that_is_here(monkeypatch):
    monkeypatch.delenv(levels.VARIABLE, raising=False)
    features = dict.fromkeys(levels.V4, True)
    monkeypatch.setattr(levels.llvm, "get_host_cpu_features", lambda: features)
    assert levels.chosen(levels.LEVELS) == "x86-64-v4"
    assert levels.chosen(["x86-64-v3"]) == "x86-64-v3"
    assert levels.chosen(()) is None
    features["avx512vl"] = False
    assert levels.chosen(levels.LEVELS) == "x86-64-v3"
    features["fma"] = False
    assert levels.chosen(levels.LEVELS) is None


# ---------------------------------------------------------------- the same bytes, the same bits


def test_two_builds_give_the_same_bytes(made, tmp_path):
    """In whatever order, from whatever folder."""
    other = package_in(tmp_path / "elsewhere")
    names = [*COPY, "activations.activate.tanh.float32"]
    first = ship(made, tmp_path / "first", *names).read_bytes()
    second = ship(other, tmp_path / "second", *reversed(names)).read_bytes()
    assert first == second
    assert str(tmp_path).encode() not in first


FIT = """
import json
import numpy as np
import deltajit as dj
from deltajit.kernels import compiler

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(100, 5)).astype("f4"), rng.normal(size=(100, 2)).astype("f4")
net = dj.Network([5, 19, 2], "tanh", rng=0)
net.fit(X, Y, epochs=20, batch_size=16, rng=0, progress=False)
print(json.dumps([net.theta.tobytes().hex(), compiler.seconds_spent(), sorted(compiler.in_use())]))
"""


@pytest.mark.slow
def test_training_with_shipped_code(tmp_path):
    """The same bits as with code compiled here for the level, and no kernel is compiled."""
    package = package_in(tmp_path / "package")
    place = {"PYTHONPATH": package, "NUMBA_CACHE_DIR": tmp_path / "first", **LEVEL}
    theta, seconds, names = json.loads(processes.run("-c", FIT, **place))
    assert seconds > 0
    ship(package, package / "deltajit/kernels", *names)
    place = {"PYTHONPATH": package, "NUMBA_CACHE_DIR": tmp_path / "second"}
    assert json.loads(processes.run("-c", FIT, **place)) == [theta, 0, names]
    assert np.isfinite(np.frombuffer(bytes.fromhex(theta), np.float32)).all()


FEATURES = """
import runpy, sys
from numba.core import compiler

def forbidden(*_, **__):
    raise AssertionError("something is compiled")

compiler.compile_extra = forbidden
runpy.run_path(sys.argv[1])["features"]()
"""


@pytest.mark.slow
def test_twelve_features_from_a_wheel(tmp_path):
    """Those of `bench.start`, where no compiler may run, and nothing is written."""
    source, package, cache = (tmp_path / name for name in ("source", "package", "cache"))
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(processes.ROOT / name, source)
    for name in ("src", "kernels"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(processes.ROOT / name, source / name, ignore=skip)
    command = "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, source
    code, _, errors = processes.end(processes.begin(*command, **{levels.BUILDING: 1}), limit=3600)
    assert code == 0, errors
    (wheel,) = tmp_path.glob("deltajit-*-py3-none-manylinux*_x86_64.whl")
    assert wheel.stat().st_size < 12e6
    zipfile.ZipFile(wheel).extractall(package)
    place = {"PYTHONPATH": package, "NUMBA_CACHE_DIR": cache}
    assert float(processes.run("-c", FEATURES, "bench/first_calls.py", **place)) > 0
    assert not [path for path in cache.rglob("*") if path.suffix in (".o", ".nbi", ".nbc")]
