"""Wrong first arguments of whatever is public are refused by an error that names them."""

import inspect

import numpy as np
import pytest

import deltajit as dj

X, Y = np.zeros((4, 2), "float32"), np.zeros((4, 1), "float32")
NET = dj.Network([2, 3, 1], rng=0)
V = np.zeros(NET.n_params)
PRODUCT = dj.Circuit(lambda x, y: x * y, 2)

# What has public functions and methods, beside the classes of `dj.__all__`.
OWNERS = {
    "dj": dj,
    "plot": dj.plot,
    "constructions": dj.constructions,
    "circuit": dj.circuit,
    "Network": NET,
    "Ensemble": dj.Ensemble([2, 3, 1], 2),
    "Circuit": PRODUCT,
    "Adam": dj.Adam(),
    "LBFGS": dj.LBFGS(),
    "LevenbergMarquardt": dj.LevenbergMarquardt(),
    "Linearization": NET.linearize(X, Y),
    "Objective": NET.objective(X, Y),
    "NetworkTrace": NET.trace(X, Y),
}

# Right arguments, for those that come after the first.
RIGHT = dict(
    X=X, Y=Y, v=V, u=Y, p=V, rng=np.random.default_rng(0), db=NET.biases, y=[0.0], n_inputs=2,
    n_members=2, dtype="float32", threshold=0.5, x=1.0, begin=0.0, end=1.0, n=3, block=9, theta=V,
    epochs=2, report=print, f=abs, derivative=abs, value=abs, slope=abs, q=0.5, n_state=2,
    n_control=1,
)  # fmt: skip
HELD = {"dj.DivergedError", "dj.FormatError", "dj.History", "dj.Optimizer"}  # hold what they get
HELD |= {"Adam.update"}  # a kernel: those have a test of theirs
HELD |= {"NetworkTrace.count", "NetworkTrace.index"}  # a tuple's
HELD |= {"Linearization.at"}  # which Network.linearize calls


def public():
    """Yield (name, function, parameters) of all public functions that must be given something."""
    for owner, thing in OWNERS.items():
        names = getattr(thing, "__all__", None) or [x for x in dir(thing) if x[0] != "_"]
        for name in names:
            if isinstance(getattr(type(thing), name, None), property):
                continue
            function = getattr(thing, name)
            if not callable(function) or f"{owner}.{name}" in HELD:
                continue
            if thing is dj.constructions and getattr(function, "__module__", "") != thing.__name__:
                continue  # it is imported there
            parameters = list(inspect.signature(function).parameters.values())
            if parameters and parameters[0].kind is not inspect.Parameter.VAR_KEYWORD:
                yield f"{owner}.{name}", function, parameters


PUBLIC = list(public())


def test_what_is_public_is_found():
    names = {name for name, *_ in PUBLIC}
    assert {"dj.load", "plot.circuit", "Network.to_c", "constructions.pulse"} <= names
    assert len(names) > 60


class Odd:
    """Nothing that any function takes."""


@pytest.mark.parametrize(("name", "function", "parameters"), PUBLIC, ids=[x[0] for x in PUBLIC])
def test_a_wrong_first_argument_is_named(name, function, parameters, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, *others = parameters
    needed = [x for x in others if x.default is x.empty and x.kind is not x.VAR_KEYWORD]
    for wrong in (Odd(), Odd, {}):
        arguments = [wrong, *(RIGHT[x.name] for x in needed)]
        with pytest.raises((TypeError, ValueError), match=rf"\b{first.name}\b"):
            function(*arguments)


PATHS = {
    "save": lambda path: NET.save(path),
    "load": lambda path: dj.load(path),
    "to_c": lambda path: NET.to_c(path, "net"),
    "to_onnx": lambda path: NET.to_onnx(path),
    "checkpoint": lambda path: NET.fit(X, Y, 1, checkpoint=path, progress=False),
}


@pytest.mark.parametrize("method", PATHS)
def test_a_path_may_be_bytes(method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    NET.save("load")
    PATHS[method](method.encode())
    assert (tmp_path / method).stat().st_size > 0


@pytest.mark.parametrize("method", PATHS)
@pytest.mark.parametrize("path", [3, 1.5, ["net"], "a\0b"])
def test_what_is_no_path_is_named(method, path):
    name = "checkpoint" if method == "checkpoint" else "path"
    with pytest.raises((TypeError, ValueError), match=f"^{name} must be a path"):
        PATHS[method](path)


@pytest.mark.parametrize("dtype", ["int32", "float16", "complex64", "abc", 3])
@pytest.mark.parametrize("optimizer", [dj.SGD(), dj.Adam()], ids=str)
def test_a_rule_is_of_floats(optimizer, dtype):
    with pytest.raises(TypeError, match=r"^dtype must be float32 or float64, got"):
        optimizer.rule(3, dtype)


def test_a_wrong_name_in_c(tmp_path):
    with pytest.raises(ValueError, match=r"^name must be a name in C"):
        NET.to_c(tmp_path / "net.h", 3)
