"""Python processes of a test's own: nothing is loaded there yet, and what is done to them ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT = 600  # seconds, of any child: one that hangs fails


def begin(*arguments, wrapper=(), **environment):
    """Start Python with these arguments, in the repository, its environment with these variables.

    A `wrapper` is a command that runs the command which follows it.
    """
    return subprocess.Popen(
        [*wrapper, sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(child, limit=LIMIT):
    """Wait for a child: (exit code, what it has printed, errors)."""
    try:
        out, errors = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        child.kill()
        raise AssertionError(f"it hangs: {child.communicate()}") from None
    return child.returncode, out, errors


def run(*arguments, **options):
    """Run Python with these arguments, as `begin` does, to a good end: what it has printed."""
    code, out, errors = end(begin(*arguments, **options))
    assert code == 0, errors
    return out


# ---------------------------------------------------------------- sources with a network and data

PRELUDE = """
import ctypes, hashlib, json, logging, os, signal, sys, threading, time
import numba
import numpy as np
import deltajit as dj
from deltajit import kernels
from deltajit.kernels import backend, cache, compiler

def data(net, batch, seed=0):
    rng = np.random.default_rng(seed)
    n_in, n_out = net.sizes[0], net.sizes[-1]
    return [rng.normal(size=(batch, n)).astype(net.dtype) for n in (n_in, n_out)]

def bits(*arrays):
    return hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in arrays)).hexdigest()

def forget(*names):  # as if kernels whose names begin so were on no disk: they are compiled
    load = cache.load
    cache.load = lambda name, *rest: None if name.startswith(names) else load(name, *rest)
"""


def answer(source, *arguments, folder=None, **environment):
    """What a source behind PRELUDE prints last, as JSON; its cache is in `folder`, if given."""
    if folder is not None:
        environment["NUMBA_CACHE_DIR"] = folder
    return json.loads(run("-c", PRELUDE + source, *arguments, **environment).splitlines()[-1])
