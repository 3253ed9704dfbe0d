"""Processes and the cache that they share: stale, broken, missing, or filled by many at once."""

import compileall
import importlib.metadata
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from deltajit.kernels import compiler

import deltajit as dj
from deltajit import kernels
from tests.helpers import processes
from tests.helpers.networks import DTYPES

# What a child does. `copy_vector` is the kernel that is compiled soonest; `activate` has helpers
# from other files, as all others have; a whole network has ten kernels, and Numba's dispatcher.
CHILD = """
import json, os, sys, time, warnings
from pathlib import Path

folder, work, dtype, name, *held = sys.argv[1:]

def wait_for(what):
    deadline = time.monotonic() + 500
    while not Path(folder, what).exists():
        assert time.monotonic() < deadline, what
        time.sleep(0.001)

def hold():
    # Stop before a kernel's file appears, and go on when told to.
    original = os.replace

    def stop_and_go(source, target):
        if work in str(target):
            Path(folder, f"{name} saves").touch()
            wait_for(f"{name} go")
        return original(source, target)

    os.replace = stop_and_go

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import numpy as np
    import deltajit as dj
    from deltajit.kernels import compiler
    from deltajit.kernels.simd import views

    for step in held:
        if step == "start":
            Path(folder, f"{name} ready").touch()
            wait_for("start")
        else:
            hold()
    x = np.linspace(-2, 2, 12, dtype=dtype).reshape(6, 2)
    if work == "copy":
        y = np.zeros_like(x)
        views.copy_vector(x.ravel(), y.ravel())
    elif work == "activate":
        y = np.zeros_like(x)
        dj.kernels.ACTIVATIONS["sigmoid"].activate(x, y, 0.0)
    else:
        net = dj.Network([2, 3, 1], "tanh", dtype=dtype)
        y, there = np.zeros((6, 1), dtype), net.workspace(6)
        if work == "predict":
            dj.kernels.predict(net.model, x, y, there)
        else:
            y = np.zeros(net.n_params, dtype)
            dj.kernels.value_and_grad(net.model, x, x[:, :1].copy(), y, there)
dispatchers = [dj.kernels.predict, dj.kernels.value_and_grad]
compiled = sum(sum(x.stats.cache_misses.values()) for x in dispatchers)
found = {
    "file": dj.__file__,
    "bits": y.tobytes().hex(),
    "loaded": int(compiler.seconds_spent() == 0 and compiled == 0),
    "warnings": [f"{w.category.__name__}: {w.message}" for w in caught],
}
print(json.dumps(found))
"""


def package_in(folder):
    """A copy of the package, with nothing compiled, that children find before the installed one."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(dj.__file__).parent, folder / "deltajit", ignore=skip)
    source = Path(kernels.__file__).parent
    shutil.copytree(source, folder / "deltajit/kernels", ignore=skip, dirs_exist_ok=True)
    return folder


def begin(folder, work="copy", dtype="float32", name="child", *held, **options):
    """A child that uses the copy in `folder`, under way; `held` are steps at which it waits."""
    arguments = "-c", CHILD, folder, work, dtype, name, *held
    return processes.begin(*arguments, PYTHONPATH=folder, **options)


def result(folder, child):
    """What a child has found, once it has; its warnings are the cache's."""
    code, out, errors = processes.end(child)
    assert code == 0, errors
    found = json.loads(out)
    assert Path(found["file"]).parent.parent == folder
    for warning in found["warnings"]:
        assert warning.startswith("RuntimeWarning: deltajit: ")
        assert "kernels are compiled again" in warning
    return found


def run(folder, *arguments, **options):
    """Begin a child and wait for it."""
    return result(folder, begin(folder, *arguments, **options))


X = {dtype: np.linspace(-2, 2, 12, dtype=dtype).reshape(6, 2) for dtype in DTYPES}
COPIED = {dtype: x.tobytes().hex() for dtype, x in X.items()}


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A copy of the package whose cache has `copy`, `activate` and `predict`."""
    folder = package_in(tmp_path_factory.mktemp("warm"))
    copied, activated = run(folder, "copy"), run(folder, "activate")
    assert run(folder, "predict")["loaded"] == 0
    assert copied["loaded"] == activated["loaded"] == 0
    assert copied["warnings"] == activated["warnings"] == []
    assert copied["bits"] == COPIED["float32"]
    y = np.frombuffer(bytes.fromhex(activated["bits"]), np.float32)
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-X["float32"].ravel())), rtol=1e-6)
    return folder


@pytest.fixture
def package(warm, tmp_path):
    """One's own copy of that, cache and all."""
    folder = tmp_path / "package"
    shutil.copytree(warm, folder)
    return folder


def test_the_cache_is_used(package):
    """Wherever the package stands."""
    for work in ("copy", "activate", "predict"):
        found = run(package, work)
        assert (found["loaded"], found["warnings"]) == (1, [])
    assert run(package)["bits"] == COPIED["float32"]
    assert run(package, "copy", "float64")["loaded"] == 0  # another kernel


# ---------------------------------------------------------------- other sources

CHANGES = {
    "activate": (
        "simd/elementary.py",
        "return select(x < k.zero, small, k.one - small)",
        "return select(x < k.zero, small, small)",
    ),
    "predict": ("simd/elementary.py", "    return copysign(", "    return -copysign("),
    "value_and_grad": (
        "mlp/activations.py",
        "return fma(-a, a, broadcast(1, a))",
        "return broadcast(1, a)",
    ),
}


def change(folder, name, old, new):
    """Edit a line of a kernel's source."""
    path = folder / "deltajit/kernels" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def check_change(folder, work):
    """What a changed helper does is what the next process gets, and the one that loads it."""
    before = run(folder, work)
    change(folder, *CHANGES[work])
    changed = run(folder, work)
    assert changed["loaded"] == 0
    assert changed["bits"] != before["bits"]
    assert run(folder, work) == {**changed, "loaded": 1}


def test_a_changed_helper_is_compiled_in(package):
    """From another file than the kernel's; Numba alone would look at that one only."""
    check_change(package, "activate")


@pytest.mark.slow
@pytest.mark.parametrize("work", ["predict", "value_and_grad"])
def test_a_changed_helper_reaches_whole_networks(work, package):
    check_change(package, work)


def zipped(folder):
    """The copy in a folder as a zip for sys.path, as PySpark's --py-files has it."""
    return Path(shutil.make_archive(str(folder.with_name("archive")), "zip", folder))


def test_a_zip_is_read_like_a_folder(tmp_path):
    """Its cache is in the user's folder; other sources under the same name are other kernels."""
    folder = package_in(tmp_path / "package")
    place = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    before = run(zipped(folder), "activate", **place)
    assert (before["loaded"], before["warnings"]) == (0, [])
    assert run(zipped(folder), "activate", **place) == {**before, "loaded": 1}
    change(folder, *CHANGES["activate"])
    changed = run(zipped(folder), "activate", **place)
    assert changed["loaded"] == 0
    assert changed["bits"] != before["bits"]
    y = np.frombuffer(bytes.fromhex(before["bits"]), np.float32)
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-X["float32"].ravel())), rtol=1e-6)


def fingerprint(place):
    """Of the kernels there, and whether they may have a cache; nothing is compiled."""
    code = "from deltajit.kernels import compiler as c; print(c.FINGERPRINT, c.cache.is_on())"
    return processes.run("-c", code, PYTHONPATH=place, PYTHONWARNINGS="ignore").split()


def test_every_source_counts(tmp_path):
    """Of subfolders too, in folders and in zips."""
    folder = package_in(tmp_path / "package")
    found = [fingerprint(folder)]
    deep = folder / "deltajit/kernels/gemm/tiles"
    deep.mkdir(parents=True)
    for text in ("x = 1", "x = 2"):
        (deep / "tile.py").write_text(text)
        found.append(fingerprint(folder))
        assert fingerprint(zipped(folder)) == found[-1]
    assert len({digest for digest, _ in found}) == 3
    assert fingerprint(Path(dj.__file__).parents[1])[0] == compiler.FINGERPRINT
    assert {is_cached for _, is_cached in found} == {"True"}


def test_no_cache_without_sources(tmp_path):
    """It might be of others: there is nothing to tell these kernels by."""
    folder = package_in(tmp_path / "package")
    compileall.compile_dir(folder / "deltajit", quiet=1, legacy=True)
    for source in (folder / "deltajit").rglob("*.py"):
        source.unlink()
    assert fingerprint(folder)[1] == "False"
    assert fingerprint(folder) != fingerprint(folder)
    for _ in range(2):
        found = run(folder, "copy")
        assert (found["loaded"], found["bits"]) == (0, COPIED["float32"])
        assert len(found["warnings"]) == 1
        assert "sources can't be read" in found["warnings"][0]
    assert not [*folder.rglob("*.nbi"), *folder.rglob("*.o")]


WITHOUT_METADATA = """
import importlib.metadata as metadata
distribution = metadata.Distribution.from_name

def from_name(name):
    if name == "deltajit":
        raise metadata.PackageNotFoundError(name)
    return distribution(name)

metadata.Distribution.from_name = from_name
import deltajit as dj
from deltajit.cli import info
print(dj.__version__, dict(info.rows())["deltajit"])
"""


def test_a_copy_without_metadata_knows_its_version(tmp_path):
    folder = package_in(tmp_path / "package")
    for place in (folder, zipped(folder)):
        environment = {"PYTHONPATH": place, "PYTHONWARNINGS": "ignore"}
        printed = processes.run("-c", WITHOUT_METADATA, **environment)
        assert printed.split() == [dj.__version__] * 2
    assert importlib.metadata.version("deltajit") == dj.__version__


# ---------------------------------------------------------------- broken files


def damage(folder, kind, how):
    """Break all files of a kind: of kernels (o), or Numba's, data (nbc) or indices (nbi)."""
    files = list(folder.rglob(f"*.{kind}"))
    assert files
    for path in files:
        whole = path.read_bytes()
        left = {"empty": b"", "cut": whole[: len(whole) // 2], "garbage": b"\0\xff garbage" * 99}
        path.write_bytes(left[how])


KINDS = {"o": "copy", "nbc": "predict", "nbi": "predict"}  # and what needs such files


SLOW_WAYS = [pytest.param(how, marks=pytest.mark.slow) for how in ("empty", "garbage")]


@pytest.mark.parametrize("how", ["cut", *SLOW_WAYS])
@pytest.mark.parametrize("kind", KINDS)
def test_broken_cache_files(kind, how, package):
    """Compiled again, with a warning."""
    before = run(package, KINDS[kind])
    damage(package, kind, how)
    found = run(package, KINDS[kind])
    assert (found["loaded"], found["bits"]) == (0, before["bits"])
    assert 1 <= len(found["warnings"]) <= 2  # what can't be read may be impossible to replace too


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_cache_heals(kind, package):
    """Once is enough: who comes next finds what was compiled again."""
    before = run(package, KINDS[kind])
    damage(package, kind, "garbage")
    run(package, KINDS[kind])
    assert run(package, KINDS[kind]) == before


# ---------------------------------------------------------------- nowhere to write

NOWHERE = {"HOME": "/dev/null/home", "XDG_CACHE_HOME": "/dev/null/cache", "NUMBA_CACHE_DIR": ""}


def test_nowhere_to_write(tmp_path):
    """Neither the package's folder nor the user's: one warning, and it works.

    Files in place of both __pycache__ keep even root from making them.
    """
    folder = package_in(tmp_path)
    for place in (folder / "deltajit", folder / "deltajit/kernels"):
        (place / "__pycache__").write_text("in the way")
    found = run(folder, **NOWHERE)
    assert (found["loaded"], found["bits"], len(found["warnings"])) == (0, COPIED["float32"], 1)


# Root may write wherever it likes, unless that is taken from it.
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
LIKE_OTHERS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if IS_ROOT else ()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="other permissions here")
@pytest.mark.skipif(IS_ROOT and not shutil.which("setpriv"), reason="root may write there")
def test_read_only_install(tmp_path):
    """Folders that may not be written, and no home: one warning, and it works."""
    folder = package_in(tmp_path)
    places = [folder / "deltajit", folder / "deltajit/kernels"]
    for place in places:
        place.chmod(0o555)
    try:
        found = run(folder, wrapper=LIKE_OTHERS, **NOWHERE)
    finally:
        for place in places:
            place.chmod(0o755)
    assert not [*folder.rglob("*.nbi"), *folder.rglob("*.o")]
    assert (found["loaded"], found["bits"], len(found["warnings"])) == (0, COPIED["float32"], 1)


def test_a_place_that_is_lost_later(tmp_path):
    """Writable when the package is imported, but no more when there is something to save."""
    folder = package_in(tmp_path)
    child = begin(folder, "copy", "float32", "child", "start")
    wait_for(folder, child, "child ready")
    place = folder / "deltajit/kernels/__pycache__"
    shutil.rmtree(place)
    place.write_text("in the way")
    (folder / "start").touch()
    found = result(folder, child)
    assert (found["loaded"], found["bits"]) == (0, COPIED["float32"])
    assert 1 <= len(found["warnings"]) <= 2  # it can be neither read nor written


# ---------------------------------------------------------------- many at once


def wait_for(folder, child, what):
    """Until a child has said so; it may not die before."""
    deadline = time.monotonic() + processes.LIMIT
    while not (folder / what).exists():
        assert child.poll() is None, child.communicate()[1]
        assert time.monotonic() < deadline, what
        time.sleep(0.001)


def check_a_crowd(folder, count, work):
    """Of processes that start together, with an empty cache, one compiles, the others wait."""
    names = [f"child {i}" for i in range(count)]
    children = [begin(folder, work, "float32", name, "start") for name in names]
    for name, child in zip(names, children, strict=True):
        wait_for(folder, child, f"{name} ready")
    (folder / "start").touch()
    found = [result(folder, child) for child in children]
    assert [x["warnings"] for x in found] == [[]] * count
    if work == "copy":  # of a network each may compile some kernels
        assert sum(x["loaded"] for x in found) == count - 1
    after = run(folder, work)
    assert (after["loaded"], after["warnings"]) == (1, [])
    assert {x["bits"] for x in found} == {after["bits"]}


def test_six_processes_at_once(tmp_path):
    check_a_crowd(package_in(tmp_path), 6, "copy")


@pytest.mark.slow
def test_sixteen_networks_at_once(tmp_path):
    check_a_crowd(package_in(tmp_path), 16, "predict")


def test_a_process_that_is_killed_while_it_saves(package):
    """What it leaves behind is no kernel, and no lock."""
    before = run(package, "activate")["bits"]
    change(package, *CHANGES["activate"])
    child = begin(package, "activate", "float32", "first", "hold")
    wait_for(package, child, "first saves")
    child.kill()
    child.communicate()
    assert run(package, "activate")["bits"] != before


def test_two_dtypes_saved_at_once(tmp_path):
    """Neither process may save its kernel where the other's is looked for."""
    folder = package_in(tmp_path)
    late = begin(folder, "copy", "float64", "late", "hold")
    wait_for(folder, late, "late saves")  # it has seen that there is nothing yet
    early = begin(folder, "copy", "float32", "early", "hold")
    wait_for(folder, early, "early saves")
    for name, child in [("late", late), ("early", early)]:
        (folder / f"{name} go").touch()
        result(folder, child)
    for dtype in DTYPES:
        assert run(folder, "copy", dtype)["bits"] == COPIED[dtype]


def test_closures_of_two_processes_have_symbols_of_their_own(tmp_path):
    """Each process numbers what it compiles; kernels of one name may not rely on that."""
    body = "\n".join(
        f"            x = math.sin(c * x + {i}) + math.cos(x * {i + 1})"
        for i in range(60)  # so large that LLVM doesn't put it into its caller
    )
    script = tmp_path / "kin.py"
    script.write_text(f"""
import math, sys
from deltajit.kernels.compiler import njit

def make(c):
    @njit
    def scaled(x, n):
        for _ in range(n):
{body}
        return x

    return scaled

two, three = make(2.0), make(3.0)

@njit
def first(x):
    return two(x, 1)

@njit
def second(x):
    return three(x, 1)

print(*(globals()[name](1.0) for name in sys.argv[1:]))
""")

    def run(*names):
        return processes.run(script, *names).split()

    apart = run("first") + run("second")
    assert apart[0] != apart[1]
    assert run("first", "second") == apart
