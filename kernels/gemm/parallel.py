"""A result's rows or columns over threads: one OpenMP region where it pays, else a plain call.

Each element of a result is computed by one thread, in the order it would be computed alone, so the
bits are the same for every number of threads. Numba's OpenMP pool is called directly: which
threading layer the user's own parallel functions have, and how many threads, is theirs to choose.

A region gives Python's lock up, if the caller holds it: a kernel that is first needed inside is
compiled there, by a thread that has to take it.
"""

import ctypes
import os

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..abi import from_words, to_words
from ..backend import openmp
from ..blocks import CHUNK_OF_COLUMNS, CHUNK_OF_ROWS, MOST_THREADS, WORTH
from ..compiler import bound, inlined
from ..python import without_lock
from .matmul import Part
from .product import ZERO

WORD, POINTER = ir.IntType(64), ir.IntType(8).as_pointer()

# Whether this process may open a region. Jitted code reads it by its symbol's name.
NOT_STARTED, READY, LOST = 0, 1, 2
_state = ctypes.c_int64(NOT_STARTED)
llvm.add_symbol("deltajit_openmp_state", ctypes.addressof(_state))
# Without OpenMP no region is ever opened, but kernels, which may have been compiled elsewhere,
# refer to it all the same: any address will do.
_openmp_for_at = ctypes.addressof(_state) if openmp is None else openmp.parallel_for
llvm.add_symbol("deltajit_openmp_for", _openmp_for_at)


def start():
    """Let kernels of this process use threads; returns whether they can."""
    if openmp is not None and _state.value == NOT_STARTED:
        ctypes.CFUNCTYPE(None, ctypes.c_int)(openmp.launch_threads)(os.cpu_count() or 1)
        _state.value = READY
    return openmp is not None and _state.value == READY


def available(threads):
    """Return how many of so many threads kernels can use: all, or 1."""
    return threads if threads > 1 and start() else 1


def _after_fork():
    """Forbid regions in a child, which lacks the threads that GNU OpenMP would wait for."""
    if _state.value == READY:
        _state.value = LOST


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def usable_cores():
    """Return how many cores this process may run on, at most `MOST_THREADS`."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MOST_THREADS)
    return min(os.cpu_count() or 1, MOST_THREADS)


@intrinsic
def _is_ready(typingctx):
    """Return whether this process may open a region."""

    def codegen(context, builder, signature, args):
        name = "deltajit_openmp_state"
        flag = builder.module.globals.get(name) or ir.GlobalVariable(builder.module, WORD, name)
        return builder.icmp_signed("==", builder.load(flag), WORD(READY))

    return types.boolean(), codegen


def over_parts(task):
    """Make ``run(state, shape, by_columns, work, threads)`` of a kernel ``task(*state, part)``.

    The result, of that shape, is cut into its rows or its columns. `work` is the number of
    multiply-adds of all of it. Threads get multiples of `step` rows.
    """
    whole, region = _call_of(task), _region_of(task)

    @inlined
    def run(state, shape, by_columns, work, threads, step=CHUNK_OF_ROWS):
        if threads > 1 and work >= WORTH and _is_ready():
            extent = shape[1] if by_columns else shape[0]
            unit = CHUNK_OF_COLUMNS if by_columns else step
            most = min(threads, MOST_THREADS)
            chunk = (extent + most - 1) // most
            chunk += -chunk % unit
            chunks = (extent + chunk - 1) // chunk
            region(state, shape[0], shape[1], by_columns, chunk, chunks, min(most, chunks))
        else:
            whole(state, Part(ZERO, shape[0], ZERO, shape[1]))

    return run


PART = types.NamedUniTuple(types.int64, len(Part._fields), Part)


def _typed(task, state):
    """(dtype, lowering of a call by a slot) of a task for a state of this type and a part."""
    given = (*state, PART)
    real = task.real_of(given)
    return real, task.typed_call(task.name, real, given)[1]


def _call_of(task):
    """Make ``call(state, part)``: the task, all at once."""

    @intrinsic
    def call(typingctx, state, part):
        real, lower = _typed(task, state)

        def codegen(context, builder, signature, args):
            part_words = to_words(context, builder, PART, part, args[1])
            value = from_words(context, builder, PART, iter(part_words))
            slot = task.slot_in(builder.module, real)
            return lower(context, builder, bound(builder, slot), (*_parts(builder, args[0]), value))

        return types.void(state, part), codegen

    return call


def _parts(builder, state):
    return cgutils.unpack_tuple(builder, state)


def _region_of(task):
    """Make ``region(state, rows, columns, by_columns, chunk, chunks, threads)``."""

    @intrinsic
    def region(typingctx, state, rows, columns, by_columns, chunk, chunks, threads):
        real, lower = _typed(task, state)

        def codegen(context, builder, signature, args):
            state_value, rows, columns, by_columns, chunk, chunks, threads = args
            address = bound(builder, task.slot_in(builder.module, real))
            cells = [state_value, rows, columns, by_columns, chunk, address]
            data = cgutils.pack_struct(builder, cells)
            data = cgutils.alloca_once_value(builder, data)
            loop = _loop(context, builder, data.type, lower)
            with without_lock(builder):
                _openmp_for(builder, loop, chunks, data, threads)
            return context.get_dummy_value()

        word, flag = types.int64, types.boolean
        return types.void(state, word, word, flag, word, word, word), codegen

    return region


def _loop(context, builder, data_type, lower):
    """``void loop(char **args, intp *dimensions, intp *steps, void *data)``, as of a ufunc.

    args[0], which moves by 1 from chunk to chunk, is the number of the chunk.
    """
    parameters = [POINTER.as_pointer(), WORD.as_pointer(), WORD.as_pointer(), POINTER]
    name = builder.module.get_unique_name("deltajit_region")
    loop = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), parameters), name)
    loop.linkage = "internal"
    inner = ir.IRBuilder(loop.append_basic_block("entry"))
    data = inner.load(inner.bitcast(loop.args[3], data_type))
    state, rows, columns, by_columns, chunk, address = cgutils.unpack_tuple(inner, data)
    first = inner.mul(inner.ptrtoint(inner.load(loop.args[0]), WORD), chunk)
    left = inner.sub(inner.select(by_columns, columns, rows), first)
    count = inner.select(inner.icmp_signed("<", left, chunk), left, chunk)
    whole = [WORD(0), rows, WORD(0), columns]
    of_rows, of_columns = [first, count, *whole[2:]], [*whole[:2], first, count]
    words = [inner.select(by_columns, *pair) for pair in zip(of_columns, of_rows, strict=True)]
    part = from_words(context, inner, PART, iter(words))
    lower(context, inner, address, (*_parts(inner, state), part))
    inner.ret_void()
    return loop


def _openmp_for(builder, loop, chunks, data, threads):
    """Call ``parallel_for(loop, args, dimensions, steps, data, inner_ndim, arrays, threads)``."""
    first = cgutils.alloca_once_value(builder, ir.Constant(POINTER, None))
    dimensions = cgutils.alloca_once_value(builder, ir.Constant(ir.ArrayType(WORD, 2), [1, 1]))
    dimensions = builder.bitcast(dimensions, WORD.as_pointer())
    builder.store(chunks, dimensions)
    steps = cgutils.alloca_once_value(builder, WORD(1))
    arguments = [builder.bitcast(loop, POINTER), first, dimensions, steps]
    arguments += [builder.bitcast(data, POINTER), WORD(1), WORD(1)]
    arguments += [builder.trunc(threads, ir.IntType(32))]
    kind = ir.FunctionType(ir.VoidType(), [x.type for x in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, "deltajit_openmp_for")
    builder.call(function, arguments)
