"""Know the workers of a client: whether they give the same bits, and have their kernels."""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Any

import numpy as np

from deltajit.kernels import compiler
from deltajit.kernels.backend import target
from deltajit.kernels.simd.vectors import LANES_F32, LANES_F64
from deltajit.model.architecture import Architecture
from deltajit.model.data import Data
from deltajit.training.leaves import Gradient
from deltajit.version import VERSION

WAIT = 60  # seconds for a first worker


@functools.cache
def identity() -> dict[str, str]:
    """Return what the bits of a result depend on in this process, by name."""
    _, cpu, features = target()
    return {
        "version": VERSION,
        "kernels": compiler.SHORT,
        "CPU": cpu,
        "instruction set": features,
        "lanes": f"{LANES_F32} float32, {LANES_F64} float64",
    }


class MixedClusterError(RuntimeError):
    """Report workers that would give other bits than the others."""


def check_client(client: Any) -> None:
    """Raise TypeError for what is no client, ValueError for one that is closed."""
    if not all(hasattr(client, name) for name in ("compute", "persist", "run", "status")):
        raise TypeError(f"client must be a distributed.Client or None, got {client!r}")
    if client.asynchronous:
        raise TypeError("client must not be asynchronous")
    if client.status != "running":
        raise ValueError(f"client is {client.status}; it must be connected to a scheduler")


def prepare(client: Any, architecture: Architecture, reproducible: bool) -> dict[str, str] | None:
    """Check the workers, and let them compile the kernels.

    Return what their identity must be, None if any may do.
    """
    check_client(client)
    try:
        client.wait_for_workers(1, timeout=WAIT)
    except TimeoutError:
        raise ValueError(f"client has no worker, after {WAIT} s") from None

    def describe() -> object:  # it travels by value: where deltajit isn't, it can say so
        try:
            return import_module("deltajit.distributed.cluster").identity()
        except ImportError as error:
            return str(error)

    answers = client.run(describe)
    for worker, answer in answers.items():
        if isinstance(answer, str):
            raise ImportError(f"the worker {worker} can't import deltajit.distributed: {answer}")
    if reproducible:
        _check_alike(answers)
    hosts = {worker.rpartition(":")[0]: worker for worker in answers}
    client.run(warm, architecture, workers=[*hosts.values()])  # compiles, once a host
    client.run(warm, architecture)  # finds them compiled
    return next(iter(answers.values())) if reproducible else None


def check_identity(expected: dict[str, str] | None) -> None:
    """Raise MixedClusterError if this process, a worker that came later, is another kind."""
    if expected is not None and expected != identity():
        raise MixedClusterError(_difference("a worker that came later", identity(), expected))


def _check_alike(answers: dict[str, dict[str, str]]) -> None:
    """Raise MixedClusterError if not all workers are of one kind, and this version."""
    (first, expected), *others = answers.items()
    for worker, answer in others:
        if answer != expected:
            raise MixedClusterError(
                _difference(f"the worker {worker}", answer, expected, f"that of {first}")
            )
    here = identity()
    if expected["kernels"] != here["kernels"]:
        names = "version", "kernels"
        raise MixedClusterError(
            _difference(
                "each worker",
                {name: expected[name] for name in names},
                {name: here[name] for name in names},
                "that of this process",
            )
        )


def _difference(
    who: str, answer: dict[str, str], expected: dict[str, str], whose: str = "the others'"
) -> str:
    parts = []
    for name in expected:
        have, want = answer[name].split(","), expected[name].split(",")
        if have != want:  # of many features, those that differ
            its = ",".join(x for x in have if x not in want)
            theirs = ",".join(x for x in want if x not in have)
            parts.append(f"its {name} is {its!r}, {whose} {theirs!r}")
    return (
        f"{who} would give other bits: {'; '.join(parts)}. Take workers of one kind, or allow it "
        "by reproducible=False"
    )


def warm(architecture: Architecture) -> None:
    """Compile or load the kernels of a gradient."""
    theta = np.zeros(architecture.n_params, architecture.dtype)
    X = np.zeros((1, architecture.sizes[0]), theta.dtype)
    Y = np.zeros((1, architecture.n_targets), theta.dtype)
    Gradient()(architecture, theta, Data(X, Y, None), 0)
