"""No full vector is masked: without AVX-512 a masked store takes ten times as long as another."""

import os
import re

import pytest

from tests.helpers.processes import answer

TARGET = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+avx,+avx2,+fma",
}
ASSEMBLY = """
from deltajit.kernels.gemm import narrow, product, transpose
from deltajit.kernels.mlp import activations, layers

machine = backend._machine()
machine.emit_object = machine.emit_assembly
print(json.dumps({
    kernel.name: backend.compile_to_object(kernel.__wrapped__, *kernel.types_for(real), "f")
    for kernel, real in compiler.all_kernels()
    if str(real) == "float32" and kernel.name.startswith(tuple(sys.argv[1:]))
}))
"""
# Not product_by_2 and product_by_4, whose columns never fill a vector.
HOT = ("product.", "transpose.", "narrow.matvec", "narrow.narrow_outer_add", "views.copy_vector")
HOT += ("sample.forward_row",)
HOT += tuple(f"activations.{step}.tanh" for step in ("activate", "tangent", "curve"))
MASKED = "vmaskmov"


class Loop:
    """A loop of assembly: a jump back, and all blocks on the way from its target to it."""

    def __init__(self, blocks, successors, header, latch):
        predecessors = {b: [a for a in blocks if b in successors[a]] for b in blocks}
        self.header, self.latch, self.body, todo = header, latch, {header}, [latch]
        while todo:
            block = todo.pop()
            if block not in self.body:
                self.body.add(block)
                todo += predecessors[block]
        self.blocks, self.successors = blocks, successors

    def count(self, instruction):
        return sum(self.blocks[b].count(instruction) for b in self.body)

    def work(self):
        """What tells loops apart: how often they multiply, prefetch and shuffle."""
        return tuple(map(self.count, ("vfmadd", "prefetch", "vunpck", "vshuf")))

    def is_always_masked(self):
        """Return whether there is no turn of it without a masked instruction."""
        if self.count(MASKED) == 0:
            return False
        free = {b for b in self.body if MASKED not in self.blocks[b]}
        reached, todo = set(), [self.header]
        while todo:
            block = todo.pop()
            if block in free and block not in reached:
                reached.add(block)
                todo += self.successors[block]
        return self.latch not in reached


def innermost_loops(assembly):
    parts = re.split(r"^(\.LBB\w+|f):.*$", assembly, flags=re.MULTILINE)
    names, texts = parts[1::2], parts[2::2]
    blocks, order = dict(zip(names, texts, strict=True)), {name: i for i, name in enumerate(names)}
    successors = {}
    for name, text in blocks.items():
        targets = re.findall(r"^\s*j\w+\s+(\.LBB\w+)", text, flags=re.MULTILINE)
        ends = re.search(r"\s(jmp|ret)\w*\b[^\n]*\s*(\.[a-z][^\n]*\s*)*$", text)
        following = names[order[name] + 1 : order[name] + 2]
        successors[name] = targets if ends else [*targets, *following]
    loops = [
        Loop(blocks, successors, target, name)
        for name in blocks
        for target in successors[name]
        if order[target] <= order[name]
    ]
    return [x for x in loops if not any(y.body < x.body for y in loops)]


@pytest.mark.skipif("NUMBA_CPU_NAME" in os.environ, reason="it is for a target of its own")
def test_full_vectors_are_not_masked():
    """A loop whose every turn is masked has a twin that is not: it is for a ragged end."""
    for name, assembly in answer(ASSEMBLY, *HOT, **TARGET).items():
        loops = innermost_loops(assembly)
        assert loops, name
        twins = {loop.work() for loop in loops if not loop.is_always_masked()}
        for loop in loops:
            assert loop.work() in twins, (name, loop.header)
