"""Let Dask compute sums over blocks: leaves and branches of one tree, wherever they run."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import dask
import dask.array as da
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.task_spec import DataNode, List, Task, TaskRef

from deltajit.distributed.cluster import check_client, check_identity
from deltajit.kernels.gemm.parallel import usable_cores
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array
from deltajit.training.leaves import Blocks, Leaf, Part, block, tree

ANY_SIZE = {"distributed.admin.large-graph-warning-threshold": 2**62}
SMALL = 2**17  # bytes of a theta that goes with each task, instead of to workers as a task's result
FAN = 8  # parts that a task adds: a power of 2
TASKS = 4  # for each thread, if there are as many blocks, so that none waits long at the end


class _Point(NamedTuple):
    """Hold what all tasks of a sum have in common."""

    leaf: Leaf
    architecture: Architecture
    theta: Array
    identity: dict[str, str] | None
    size: int


class Reduction:
    """Sum leaves over blocks, by the workers of a client or this process's threads.

    `samples` is what `rows.cut` returns.
    """

    def __init__(
        self,
        architecture: Architecture,
        samples: Blocks | Sequence[da.Array | None],
        size: int,
        client: Any,
        identity: dict[str, str] | None,
    ) -> None:
        self._architecture, self._samples, self._size = architecture, samples, size
        self._client, self._identity = client, identity

    def __call__(self, leaf: Leaf, theta: Array, numbers: Sequence[int]) -> Part:
        """Return the sum over the blocks of these numbers, in this order."""
        token, counter = uuid.uuid4().hex, itertools.count()
        point = _Point(leaf, self._architecture, theta, self._identity, self._size)
        graph: dict[Any, Any] = {}

        def add(name: str, function: Any, *arguments: Any) -> TaskRef:
            key = (f"deltajit-{name}-{token}", next(counter))
            graph[key] = Task(key, function, *arguments)
            return TaskRef(key)

        def constant(name: str, value: object) -> Any:
            if theta.nbytes <= SMALL:
                return value
            key = f"deltajit-{name}-{token}"
            graph[key] = DataNode(key, value)
            return TaskRef(key)

        start, samples = constant("theta", point), self._samples
        if isinstance(samples, Blocks):
            blocks = constant("blocks", samples)
            grain = self._grain(len(numbers))
            parts = [
                add("branch", _branch, start, blocks, numbers[first : first + grain])
                for first in range(0, len(numbers), grain)
            ]
        else:
            parts = [
                add("leaf", _leaf, start, number, *(_chunk(x, number) for x in samples))
                for number in numbers
            ]
        while len(parts) > 1:
            groups = [parts[first : first + FAN] for first in range(0, len(parts), FAN)]
            parts = [add("sum", tree, List(*group)) for group in groups]
        return self._computed(parts[0].key, graph)

    def _grain(self, leaves: int) -> int:
        """Return how many leaves a task computes: a power of 2, so that the tree is the same."""
        client = self._client
        threads: int = usable_cores() if client is None else sum(client.nthreads().values())
        return 1 << max(0, (leaves // (TASKS * max(1, threads))).bit_length() - 1)

    def _computed(self, key: Any, graph: dict[Any, Any]) -> Part:
        samples = () if isinstance(self._samples, Blocks) else self._samples
        lazy = [x for x in samples if x is not None]
        whole = HighLevelGraph.from_collections(key[0], graph, dependencies=lazy)
        root = Delayed(key, whole, layer=key[0])
        part: Part
        if self._client is None:
            part = root.compute(scheduler="threads", num_workers=usable_cores())
        else:
            check_client(self._client)
            with dask.config.set(ANY_SIZE):  # a large theta is no mistake
                part = self._client.compute(root).result()
        return part


def _chunk(array: da.Array | None, number: int) -> Any:
    """Return a block of a column as an argument of a task."""
    if array is None:
        return None
    return TaskRef((array.name, number, *(0,) * (array.ndim - 1)))


def _branch(point: _Point, blocks: Blocks, numbers: Sequence[int]) -> Part:
    """Read some blocks, one at a time, and return the sum of their leaves."""
    check_identity(point.identity)
    return tree(blocks.parts(point.leaf, point.theta, numbers))


def _leaf(point: _Point, number: int, X: Any, Y: Any, weights: Any) -> Part:
    """Return the leaf of a block that other tasks have read."""
    check_identity(point.identity)
    data = block(point.architecture, (X, Y, weights), number, point.size)
    return point.leaf(point.architecture, point.theta, data, number)
