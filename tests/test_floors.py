"""Import rules: a floor imports only what lies below it (see DESIGN in CONTRIBUTING.md)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the ground up: a module may import modules of this package that stand before it.
KERNEL_FLOORS = [
    "abi", "backend", "cache", "python", "compiler", "status", "ranges",
    "simd", "simd.write", "simd.vectors", "blocks", "simd.views", "simd.elementary", "simd.ulp",
    "gemm", "gemm.tile", "gemm.transpose", "gemm.product", "gemm.narrow", "gemm.matmul",
    "gemm.parallel",
    "mlp", "mlp.activations", "mlp.losses", "mlp.own", "mlp.model", "mlp.sample", "mlp.layers",
    "mlp.dropout", "mlp.entry", "mlp.sweeps", "mlp.tangents", "mlp.derivatives", "mlp.rules",
    "mlp.optimizers", "mlp.training", "mlp.ensemble", "mlp.handle",
    "circuit.runs", "circuit.operations", "circuit.schedule", "circuit.interpreter",
    "circuit.loss", "circuit", "",
]  # fmt: skip
PACKAGE_FLOORS = [
    "kernels", "version", "described", "memory", "files", "checks", "reference", "operations",
    "graphs", "lowering", "own", "architecture", "initializers", "data", "plot", "tracing", "trace",
    "circuit", "linearization", "objective", "full_batch", "schedules", "history",
    "callbacks", "checkpoint", "progress", "training", "fitting", "saving", "torch_modules",
    "interchange", "network", "ensemble", "constructions", "__init__", "timing", "demo", "compare",
    "info", "plan", "warmup", "cli", "__main__",
]  # fmt: skip
REFERENCE_FLOORS = [
    "arrays", "activations", "losses", "sweeps", "tangents", "optimizers", "training", "__init__",
]  # fmt: skip
SKLEARN_FLOORS = ["samples", "descent", "base", "classifier", "regressor", "__init__"]
FACES = {
    "plot", "full_batch", "interchange", "timing", "demo", "compare", "info", "plan", "warmup",
    "cli",
}  # fmt: skip
OPTIONAL = {"sklearn", "scipy", "matplotlib", "torch", "jax", "onnx", "threadpoolctl", "pandas"}

# Modules that import an optional package at their top: they count as optional themselves.
LAZY = {"torch_modules": "torch"}


def imports(source):
    """(module, names, at top level) of each import statement in a source text."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, [], node in tree.body
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module, [alias.name for alias in node.names], node in tree.body


def siblings(source, floors):
    """Modules of the own package that a source imports."""
    for module, names, _ in imports(source):
        parts = module.replace("deltajit", "", 1).split(".") if "deltajit" in module else None
        if module.startswith("."):
            parts = module.split(".")
        if parts is None:
            continue
        if len(parts) > 1 and parts[1]:
            yield parts[1]
        else:
            yield from (name if name in floors else "__init__" for name in names or [""])


def violations(name, source, floors):
    """Imports of `name` that look upwards, and optional packages below the faces."""
    allowed = floors[: floors.index(name)]
    wrong = [other for other in siblings(source, floors) if other not in allowed]
    for module, names, top in imports(source):
        package = module.split(".")[0]
        optional = {package} & OPTIONAL | {*module.split("."), *names} & LAZY.keys()
        if name not in FACES or top:
            wrong += sorted(optional - {LAZY.get(name)})
    return wrong


def kernel_name(path):
    """What a file of the kernels is called among the floors."""
    parts = path.relative_to(ROOT / "kernels").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def upward_in_kernels(name, source, *, is_package=False):
    """Imports of a module of the kernels that look upwards."""
    folder = name.split(".") if is_package and name else name.split(".")[:-1]
    allowed, found = KERNEL_FLOORS[: KERNEL_FLOORS.index(name)], []
    for module, names, _ in imports(source):
        if not module.startswith("."):
            continue
        level = len(module) - len(module.lstrip("."))
        base = [*folder[: len(folder) - level + 1], *filter(None, module.lstrip(".").split("."))]
        start = ".".join(base)
        deeper = [".".join([*base, name]) for name in names]
        found += [x for x in deeper if x in KERNEL_FLOORS] or [start]
    return [other for other in found if other not in allowed]


KERNEL_FILES = sorted((ROOT / "kernels").rglob("*.py"))


@pytest.mark.parametrize("path", KERNEL_FILES, ids=kernel_name)
def test_kernels_look_down(path):
    source, is_package = path.read_text(), path.stem == "__init__"
    assert upward_in_kernels(kernel_name(path), source, is_package=is_package) == []
    assert not any(module.split(".")[0] == "deltajit" for module, _, _ in imports(source))


@pytest.mark.parametrize("path", sorted((ROOT / "src/deltajit").glob("*.py")), ids=lambda p: p.stem)
def test_package_looks_down(path):
    assert violations(path.stem, path.read_text(), PACKAGE_FLOORS) == []


def upward_in(package, floors, name, source):
    """Imports among the modules of a package that look upwards."""
    found = []
    for module, names, _ in imports(source):
        if module.startswith(f"deltajit.{package}"):
            found += names if module == f"deltajit.{package}" else [module.split(".")[2]]
    return [other for other in found if other not in floors[: floors.index(name)]]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "src/deltajit/sklearn").glob("*.py")), ids=lambda p: p.stem
)
def test_estimators_look_down(path):
    assert upward_in("sklearn", SKLEARN_FLOORS, path.stem, path.read_text()) == []


def test_rule_for_estimators_can_fail():
    wrong = upward_in("sklearn", SKLEARN_FLOORS, "samples", "from deltajit.sklearn import descent")
    assert wrong == ["descent"]
    wrong = upward_in("sklearn", SKLEARN_FLOORS, "descent", "import deltajit.sklearn.base")
    assert wrong == ["base"]
    assert violations("network", "from deltajit.sklearn.base import x", PACKAGE_FLOORS)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "src/deltajit/reference").glob("*.py")), ids=lambda p: p.stem
)
def test_reference_is_numpy_only(path):
    known = {module for module, _, _ in imports(path.read_text())}
    inside = {module for module in known if module.startswith("deltajit.reference.")}
    outside = {module.split(".")[0] for module in known - inside}
    assert outside <= {"__future__", "collections", "math", "typing", "numpy"}
    assert upward_in("reference", REFERENCE_FLOORS, path.stem, path.read_text()) == []


def test_one_spelling_of_njit():
    for path in KERNEL_FILES:
        if path.stem != "compiler":
            assert "numba.njit" not in path.read_text()
            assert "@njit(" not in path.read_text()


@pytest.mark.parametrize(
    ("name", "source", "wrong"),
    [
        ("gemm.tile", "from ..mlp.layers import propagate_delta", ["mlp.layers"]),
        ("gemm.tile", "from . import narrow", ["gemm.narrow"]),
        ("mlp.entry", "from . import sweeps", ["mlp.sweeps"]),
        ("simd.views", "from ..compiler import njit", []),
        ("compiler", "from . import cache", []),
    ],
)
def test_rule_for_kernels_can_fail(name, source, wrong):
    assert upward_in_kernels(name, source) == wrong


@pytest.mark.parametrize(
    ("name", "source", "wrong"),
    [
        ("checks", "from deltajit.network import Network", ["network"]),
        ("checks", "import deltajit", ["__init__"]),
        ("reference", "from deltajit import demo", ["demo"]),
        ("network", "def f():\n    import sklearn.datasets", ["sklearn"]),
        ("demo", "import matplotlib", ["matplotlib"]),
        ("demo", "def f():\n    import matplotlib", []),
        ("torch_modules", "import torch", []),
        ("torch_modules", "import onnx", ["onnx"]),
        ("interchange", "def f():\n    from deltajit import torch_modules", []),
        ("interchange", "from deltajit import torch_modules", ["torch_modules"]),
        ("interchange", "import deltajit.torch_modules", ["torch_modules"]),
        ("network", "def f():\n    from deltajit.torch_modules import Sin", ["torch_modules"]),
        ("network", "from deltajit import checks, kernels", []),
    ],
)
def test_rule_for_the_package_can_fail(name, source, wrong):
    assert violations(name, source, PACKAGE_FLOORS) == wrong
