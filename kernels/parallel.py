"""A result's rows or columns over threads: one OpenMP region where it pays, else a plain call.

Each element of a result is computed by one thread, in the order it would be computed alone, so the
bits are the same for every number of threads. Numba's OpenMP pool is called directly: which
threading layer the user's own parallel functions have, and how many threads, is theirs to choose.
"""

import ctypes
import os

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiler import inlined, njit, openmp
from .matmul import Part
from .product import ZERO
from .tile import ACCUMULATORS, VECS
from .vectors import LANES_F32

# Multiply-adds from which on a region, some microseconds until all threads are at work, pays.
WORTH = 1_000_000

# Threads at most, whatever is asked for: OpenMP keeps those of a region on the caller's stack.
MOST_THREADS = 1024

# Chunks are whole tiles: a multiple of both their heights.
WHOLE = ACCUMULATORS

# Columns of a panel of the product.
PANEL = VECS * LANES_F32

WORD, POINTER = ir.IntType(64), ir.IntType(8).as_pointer()

# Whether this process may open a region. Jitted code reads it by its symbol's name.
NOT_STARTED, READY, LOST = 0, 1, 2
_state = ctypes.c_int64(NOT_STARTED)
llvm.add_symbol("deltajit_openmp_state", ctypes.addressof(_state))
if openmp is not None:
    llvm.add_symbol("deltajit_openmp_for", openmp.parallel_for)


def start():
    """Let kernels of this process use threads; returns whether they can."""
    if openmp is not None and _state.value == NOT_STARTED:
        ctypes.CFUNCTYPE(None, ctypes.c_int)(openmp.launch_threads)(os.cpu_count() or 1)
        _state.value = READY
    return openmp is not None and _state.value == READY


def available(threads):
    """How many of so many threads kernels can use: all, or 1."""
    return threads if threads > 1 and start() else 1


def _after_fork():
    """In a child: the parent's threads are not here, and GNU OpenMP would wait for them forever."""
    if _state.value == READY:
        _state.value = LOST


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def usable_cores():
    """Cores that this process may run on, as far as they may all have threads."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MOST_THREADS)
    return min(os.cpu_count() or 1, MOST_THREADS)


@intrinsic
def _is_ready(typingctx):
    """Whether this process may open a region."""

    def codegen(context, builder, signature, args):
        name = "deltajit_openmp_state"
        flag = builder.module.globals.get(name) or ir.GlobalVariable(builder.module, WORD, name)
        return builder.icmp_signed("==", builder.load(flag), WORD(READY))

    return types.boolean(), codegen


def _region_of(task):
    """Make ``region(state, rows, chunk, threads)``: `task` for each chunk of the rows."""

    @intrinsic
    def region(typingctx, state, rows, chunk, threads):
        arguments = (state, types.intp, types.intp)
        call = typingctx.resolve_function_type(types.Dispatcher(task), arguments, {})
        compiled = task.get_compile_result(call)

        def codegen(context, builder, signature, args):
            state_value, rows, chunk, threads = args
            types_of = types.Tuple((state, types.intp, types.intp))
            data = context.make_tuple(builder, types_of, (state_value, rows, chunk))
            data = cgutils.alloca_once_value(builder, data)
            loop = _loop(context, builder, data.type, compiled, call)
            last = builder.sub(builder.add(rows, chunk), WORD(1))
            _openmp_for(builder, loop, builder.sdiv(last, chunk), data, threads)
            return context.get_dummy_value()

        return types.void(state, types.intp, types.intp, types.intp), codegen

    return region


def _loop(context, builder, data_type, compiled, call):
    """``void loop(char **args, intp *dimensions, intp *steps, void *data)``, as of a ufunc.

    args[0], which moves by 1 from chunk to chunk, is the number of the chunk.
    """
    parameters = [POINTER.as_pointer(), WORD.as_pointer(), WORD.as_pointer(), POINTER]
    name = builder.module.get_unique_name("deltajit_region")
    loop = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), parameters), name)
    loop.linkage = "internal"
    inner = ir.IRBuilder(loop.append_basic_block("entry"))
    data = inner.load(inner.bitcast(loop.args[3], data_type))
    state, rows, chunk = cgutils.unpack_tuple(inner, data)
    first = inner.mul(inner.ptrtoint(inner.load(loop.args[0]), WORD), chunk)
    left = inner.sub(rows, first)
    count = inner.select(inner.icmp_signed("<", left, chunk), left, chunk)
    context.active_code_library.add_linking_library(compiled.library)
    function = context.declare_function(builder.module, compiled.fndesc)
    # Called without Numba's check of the status: a kernel raises nothing.
    context.call_conv.call_function(inner, function, types.none, call.args, (state, first, count))
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


def over_rows(task):
    """Make ``run(state, rows, work, threads, step)`` of ``task(state, first, count)``.

    `task` computes `count` rows of a result from `first` on; `work` is the number of multiply-adds
    of all rows together. Threads get multiples of `step` rows.
    """
    task = njit(task)
    if openmp is None:

        @inlined
        def run(state, rows, work, threads, step=WHOLE):
            task(state, ZERO, rows)

        return run

    region = _region_of(task)

    @inlined
    def run(state, rows, work, threads, step=WHOLE):
        if threads > 1 and work >= WORTH and _is_ready():
            most = min(threads, MOST_THREADS)
            chunk = (rows + most - 1) // most
            chunk += -chunk % step
            region(state, rows, chunk, min(most, (rows + chunk - 1) // chunk))
        else:
            task(state, ZERO, rows)

    return run


def over_parts(task):
    """Make ``run(state, shape, by_columns, work, threads)`` of ``task(state, part)``.

    The result, of that shape, is cut into its rows or its columns; see `over_rows`.
    """
    task = inlined(task)

    def of_part(state, first, count):
        inner, shape, by_columns = state
        part = Part(first, count, ZERO, shape[1])
        if by_columns:
            part = Part(ZERO, shape[0], first, count)
        task(inner, part)

    of_parts = over_rows(of_part)

    @inlined
    def run(state, shape, by_columns, work, threads):
        if by_columns:
            of_parts((state, shape, by_columns), shape[1], work, threads, PANEL)
        else:
            of_parts((state, shape, by_columns), shape[0], work, threads)

    return run
