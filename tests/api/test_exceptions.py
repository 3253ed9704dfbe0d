"""Exceptions of the package go wherever exceptions go: copied, pickled, out of another process."""

import copy
import importlib
import multiprocessing
import pickle
import pkgutil

import pytest

import deltajit as dj
from tests.helpers import processes


def exceptions():
    """All exception classes that modules of the package define."""
    names = [x.name for x in pkgutil.walk_packages(dj.__path__, "deltajit.")]
    names += [x.name for x in pkgutil.walk_packages(dj.kernels.__path__, "deltajit.kernels.")]
    modules = [
        importlib.import_module(name)
        for name in names
        if not name.endswith(("__main__", "torch_modules"))
    ]
    things = [thing for module in modules for thing in vars(module).values()]
    classes = {x for x in things if isinstance(x, type) and issubclass(x, BaseException)}
    return sorted((x for x in classes if x.__module__.startswith("deltajit")), key=repr)


def diverged():
    history = dj.History(loss=[2.0, 1.0], lr=[0.1, 0.1], time=[0.5, 0.5])
    return dj.DivergedError(3, 2, history)


def content(error):
    return type(error), str(error), error.args, vars(error)


def test_those_that_are_known_are_found():
    assert {dj.DivergedError, dj.FormatError} <= set(exceptions())


@pytest.mark.parametrize("kind", exceptions(), ids=lambda kind: kind.__name__)
def test_copies_are_equal(kind):
    error = diverged() if kind is dj.DivergedError else kind("message")
    error.add_note("a note of the user's")
    for again in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert content(again) == content(error)


def fail(_):
    raise diverged()


def test_a_pool_hands_it_over():
    with (
        multiprocessing.get_context("spawn").Pool(1) as pool,
        pytest.raises(dj.DivergedError, match="epoch 3, step 2") as caught,
    ):
        pool.map_async(fail, [0]).get(timeout=processes.LIMIT)
    assert caught.value.history == diverged().history
