"""Import rules: a module imports only modules that stand below it (see CONTRIBUTING.md)."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers import processes

ROOT = Path(__file__).parents[2]
FOLDERS = {"kernels": ROOT / "kernels", "": ROOT / "src/deltajit"}

# From the ground up: a module may import those that stand before it. A folder's name is that of its
# __init__.
FLOORS = """
    kernels.fingerprint kernels.levels kernels.object_code kernels.shipped
    kernels.abi kernels.backend kernels.cache kernels.python kernels.compiler kernels.status
    kernels.fastcall
    kernels.ranges kernels.hints
    kernels.simd kernels.simd.write kernels.simd.vectors kernels.blocks kernels.simd.views
    kernels.simd.elementary kernels.simd.ulp
    kernels.gemm kernels.gemm.tile kernels.gemm.transpose kernels.gemm.shallow kernels.gemm.product
    kernels.gemm.narrow kernels.gemm.matmul kernels.gemm.parallel
    kernels.mlp kernels.mlp.by_columns kernels.mlp.activations kernels.mlp.losses kernels.mlp.own
    kernels.mlp.model kernels.mlp.sample kernels.mlp.layers kernels.mlp.special kernels.mlp.dropout
    kernels.mlp.entry kernels.mlp.sweeps
    kernels.mlp.tangents kernels.mlp.derivatives kernels.mlp.inputs kernels.mlp.jets
    kernels.mlp.simulation kernels.mlp.rollout
    kernels.mlp.rules kernels.mlp.optimizers
    kernels.mlp.training kernels.mlp.sampling kernels.mlp.shuffle kernels.mlp.calls
    kernels.mlp.stacked
    kernels.mlp.handle
    kernels.circuit.runs kernels.circuit.operations kernels.circuit.schedule
    kernels.circuit.interpreter kernels.circuit.entries kernels.circuit.loss kernels.circuit.step
    kernels.circuit kernels kernels.ship

    version
    reference.arrays reference.activations reference.losses reference.sweeps reference.passes
    reference.tangents reference.inputs reference.rollout
    reference.optimizers reference.training reference.curvature reference

    model model.memory model.described
    circuits circuits.primitives circuits.graphs circuits.lowering circuits.tracing circuits.trace
    model.checks model.custom model.architecture
    model.initializers model.collapse model.data model.scores model.standardizer circuits.networks
    plot.axes plot.notebook plot.epochs plot.rates plot.nodes plot.walk plot.units
    derivatives derivatives.linearization derivatives.kronecker derivatives.objective
    derivatives.blackboard derivatives.numbers derivatives.by_inputs
    io io.files
    training training.schedules training.history training.callbacks training.checkpoint
    training.progress training.loop training.watchers training.minibatches training.members
    training.rate_finder training.second_order training.gauss_newton training.kfac
    training.leaves training.feeds training.full_batch training.fitting training.incremental
    io.forms io.saving io.recognition io.torch_modules io.pytorch io.scikit_learn
    io.chain io.onnx_file io.onnx_elements io.onnx_graph io.onnx io.c_header

    circuit network differential dynamics ensemble constructions
    uncertainty uncertainty.bases uncertainty.evidence uncertainty.laplace
    plot.parameters plot.curves plot
    sklearn.samples sklearn.descent sklearn.monotone sklearn.intervals sklearn.columns
    sklearn.bounds sklearn.tasks sklearn.base sklearn.classifier sklearn.regressor sklearn
    public (package)
    distributed.cluster distributed.rows distributed.reduction distributed.journal
    distributed.steps distributed.learning distributed.lots distributed
    playground playground.formulas playground.datasets playground.tables playground.sources
    playground.settings playground.trainer playground.run playground.pictures
    playground.controls playground.lesson playground.page playground.server
    cli.timing cli.demo cli.compare cli.info cli.plan cli.warmup cli __main__
"""
FLOORS = ["" if x == "(package)" else x for x in FLOORS.split()]

# What may import optional packages, and it alone: inside of functions, but for those of WHOLE,
# which are imported inside of functions themselves, or by a user.
FACES = ("plot", "io", "cli", "sklearn", "playground", "distributed", "training.full_batch")
WHOLE = (
    "sklearn",
    "distributed",
    "io.torch_modules",
    "io.onnx_elements",
    "io.onnx_file",
    "io.onnx_graph",
    "playground.pictures",
    "playground.controls",
    "playground.lesson",
    "playground.page",
    "playground.server",
)
OPTIONAL = {"sklearn", "scipy", "matplotlib", "torch", "jax", "onnx", "threadpoolctl", "pandas"}
OPTIONAL |= {"bokeh", "dask", "distributed", "shtab"}

# The NumPy twin of a module of the kernels has its name.
TWINS = "kernels.mlp", "reference"


def modules():
    """(name, path) of each module: names are dotted, without the package's own."""
    for prefix, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            named = [part for part in (prefix, *parts) if part not in ("", "__init__")]
            yield ".".join(named), path


MODULES = dict(modules())
IMPORTING = sorted(MODULES)


def is_in(name, places):
    """Whether a module is one of these, or in one of these folders."""
    return any(name == place or name.startswith(f"{place}.") for place in places)


def imports(name, source):
    """(dotted module, at top level) of each import; a module of the package begins with a dot."""
    folder = name if MODULES.get(name, Path()).stem == "__init__" else name.rpartition(".")[0]
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = folder.split(".")[: len(folder.split(".")) - node.level + 1]
                base = ".".join(["deltajit", *above, *filter(None, [base])])
            deeper = [f"{base}.{alias.name}" for alias in node.names]
            found = [x if x.removeprefix("deltajit.") in FLOORS else base for x in deeper]
        else:
            continue
        for module in found:
            if module.split(".")[0] == "deltajit":
                module = "." + module.removeprefix("deltajit").lstrip(".")
            yield module, node in tree.body


def upward(name, source):
    """Modules of the package that a module imports, although they do not stand below it."""
    below = FLOORS[: FLOORS.index(name)]
    return [x[1:] for x, _ in imports(name, source) if x[0] == "." and x[1:] not in below]


def out_of_place(name, source):
    """Optional packages that a module imports, although it must not, or not at its top."""
    face, whole, found = is_in(name, FACES), is_in(name, WHOLE), []
    for module, top in imports(name, source):
        optional = module.split(".")[0] in OPTIONAL or is_in(module[1:], WHOLE)
        if optional and not whole and (top or not face):
            found.append(module)
    return found


def test_every_module_has_a_place():
    assert sorted(FLOORS) == IMPORTING


@pytest.mark.parametrize("name", IMPORTING)
def test_imports_look_down(name):
    assert upward(name, MODULES[name].read_text()) == []


@pytest.mark.parametrize("name", IMPORTING)
def test_optional_packages_are_for_faces(name):
    assert out_of_place(name, MODULES[name].read_text()) == []


@pytest.mark.parametrize("name", [x for x in IMPORTING if is_in(x, ["reference"])])
def test_reference_is_numpy_only(name):
    known = {x for x, _ in imports(name, MODULES[name].read_text())}
    assert all(is_in(x[1:], ["reference"]) for x in known if x[0] == ".")
    outside = {x.split(".")[0] for x in known if x[0] != "."}
    assert outside <= {"__future__", "collections", "math", "typing", "numpy"}


@pytest.mark.parametrize("name", [x for x in IMPORTING if is_in(x, ["kernels"])])
def test_kernels_stand_alone(name):
    source = MODULES[name].read_text()
    assert all(is_in(x[1:], ["kernels"]) for x, _ in imports(name, source) if x[0] == ".")
    if name != "kernels.compiler":  # the one spelling of njit
        assert "numba.njit" not in source
        assert "@njit(" not in source


def test_a_basename_stands_once():
    files = [x for x in IMPORTING if MODULES[x].stem != "__init__"]
    names = Counter(x.rpartition(".")[2] for x in files)
    twice = {x for x in names if names[x] > 1}
    twins = {x for x in twice if names[x] == 2 and all(f"{place}.{x}" in files for place in TWINS)}
    assert twice == twins


@pytest.mark.parametrize(
    ("name", "source", "wrong"),
    [
        ("kernels.gemm.tile", "from ..mlp.layers import delta", ["kernels.mlp.layers"]),
        ("kernels.gemm.tile", "from . import narrow", ["kernels.gemm.narrow"]),
        ("kernels.mlp.entry", "from . import sweeps", ["kernels.mlp.sweeps"]),
        ("kernels.simd.views", "from ..compiler import njit", []),
        ("kernels.compiler", "from . import cache", []),
        ("model.checks", "from deltajit.network import Network", ["network"]),
        ("model.checks", "import deltajit", [""]),
        ("model.checks", "from deltajit import Network", [""]),
        ("network", "from deltajit.model import checks, data", []),
        ("network", "def f():\n    from deltajit.sklearn.base import x", ["sklearn.base"]),
        ("sklearn.samples", "from deltajit.sklearn import descent", ["sklearn.descent"]),
        ("plot.nodes", "if TYPE_CHECKING:\n    from deltajit import network", ["network"]),
    ],
)
def test_rule_can_fail(name, source, wrong):
    assert upward(name, source) == wrong


@pytest.mark.parametrize(
    ("name", "source", "wrong"),
    [
        ("network", "def f():\n    import sklearn.datasets", ["sklearn.datasets"]),
        ("io.pytorch", "from deltajit.io import torch_modules", [".io.torch_modules"]),
        ("io.pytorch", "def f():\n    from deltajit.io import torch_modules", []),
        ("cli.demo", "import matplotlib", ["matplotlib"]),
        ("cli.demo", "def f():\n    import matplotlib", []),
        ("io.torch_modules", "import torch", []),
        ("sklearn.base", "from scipy.sparse import issparse", []),
    ],
)
def test_rule_of_optional_packages_can_fail(name, source, wrong):
    assert out_of_place(name, source) == wrong


IMPORTED = """
import sys
import deltajit

print([name in sys.modules for name in ("numpy", "numba", "deltajit.public")])
assert deltajit.network.Network is deltajit.Network
from deltajit import *

print(Network is deltajit.Network, Adam is deltajit.Adam, "Network" in dir(deltajit))
print("numba" in sys.modules, hasattr(deltajit, "Nothing"), hasattr(deltajit, "_nothing"))
"""


def test_what_is_public_is_imported_when_it_is_asked_for():
    expected = ["[False, False, False]", "True True True", "True False False"]
    assert processes.run("-c", IMPORTED).splitlines() == expected
