"""Python's C interface in jitted code: its lock, and a call of Python on a thread of its own.

What Python compiles for jitted code it compiles there, whatever the state of the calling thread:
that may be a main thread, in which Ctrl-C (or any other signal's handler) would raise where nothing
can be raised, be at the end of the recursion limit or of a small stack, or raise on warnings and
floating-point flags.
"""

import contextlib
import ctypes

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils

from . import backend

WORD, POINTER, INT, VOID = ir.IntType(64), ir.IntType(8).as_pointer(), ir.IntType(32), ir.VoidType()
DOUBLE = ir.DoubleType()

# (result, arguments) of each function of Python's that is called.
FUNCTIONS = {
    "PyErr_Occurred": (POINTER, []),
    "PyEval_RestoreThread": (VOID, [POINTER]),
    "PyEval_SaveThread": (POINTER, []),
    "PyFloat_AsDouble": (DOUBLE, [POINTER]),
    "PyGILState_Check": (INT, []),
    "PyGILState_Ensure": (INT, []),
    "PyGILState_Release": (VOID, [INT]),
    "PyLong_AsLongLong": (WORD, [POINTER]),
    "PyObject_CallObject": (POINTER, [POINTER, POINTER]),
    "PyObject_IsTrue": (INT, [POINTER]),
    "PyThread_acquire_lock": (INT, [POINTER, INT]),
    "PyThread_allocate_lock": (POINTER, []),
    "PyThread_free_lock": (VOID, [POINTER]),
    "PyThread_get_thread_ident": (WORD, []),
    "PyThread_release_lock": (VOID, [POINTER]),
    "PyThread_start_new_thread": (INT, [POINTER, POINTER]),
    "PyTuple_GetItem": (POINTER, [POINTER, WORD]),
    "Py_DecRef": (VOID, [POINTER]),
}
for _name in (*FUNCTIONS, "Py_BuildValue"):  # that takes any number of values
    _function = ctypes.cast(getattr(ctypes.pythonapi, _name), ctypes.c_void_p)
    llvm.add_symbol(f"deltajit_{_name}", _function.value)


def call(builder, name, *arguments):
    """Return the IR of a call of one of them."""
    kind = ir.FunctionType(*FUNCTIONS[name])
    function = cgutils.get_or_insert_function(builder.module, kind, f"deltajit_{name}")
    return builder.call(function, arguments)


@contextlib.contextmanager
def without_lock(builder):
    """Give Python's lock up meanwhile, if the calling thread holds it."""
    holds = builder.icmp_signed("!=", call(builder, "PyGILState_Check"), INT(0))
    thread = cgutils.alloca_once(builder, POINTER)
    with builder.if_then(holds):
        builder.store(call(builder, "PyEval_SaveThread"), thread)
    yield
    with builder.if_then(holds):
        call(builder, "PyEval_RestoreThread", builder.load(thread))


def on_own_thread(callback, name):
    """Return the address of a C function of a word that calls a Python function on its own thread.

    That is called with the word and the calling thread's identifier (`threading.get_ident`).
    The calling thread waits, and does not hold Python's lock meanwhile. It makes the call itself if
    it holds the compiler's lock, since it is compiling and has called us from there, or if there
    are no more threads to be had.
    """
    module = ir.Module(name)
    module.triple = backend.target()[0]
    task_type = ir.LiteralStructType([WORD, WORD, WORD, POINTER])  # argument, thread, result, lock
    run = _run(module, ctypes.cast(callback, ctypes.c_void_p).value, task_type)
    function = ir.Function(module, ir.FunctionType(WORD, [WORD]), name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    lock = call(builder, "PyThread_allocate_lock")
    cells = [function.args[0], call(builder, "PyThread_get_thread_ident"), WORD(0), lock]
    place = cgutils.alloca_once_value(builder, cgutils.make_anonymous_struct(builder, cells))
    task = builder.bitcast(place, POINTER)
    call(builder, "PyThread_acquire_lock", lock, INT(1))
    compiles = _is_compiling(builder)
    with without_lock(builder), builder.if_else(compiles) as (here, elsewhere):
        with here:
            builder.call(run, [task])
        with elsewhere:
            start = builder.bitcast(run, POINTER)
            number = call(builder, "PyThread_start_new_thread", start, task)
            with builder.if_then(builder.icmp_signed("==", number, INT(-1))):
                builder.call(run, [task])
            call(builder, "PyThread_acquire_lock", lock, INT(1))
            call(builder, "PyThread_release_lock", lock)
    call(builder, "PyThread_free_lock", lock)
    builder.ret(builder.extract_value(builder.load(place), 2))
    return backend.load_module(module, name)


def _run(module, address, task_type):
    """``void run(void *task)``: the call, and then the calling thread may go on."""
    run = ir.Function(module, ir.FunctionType(VOID, [POINTER]), "run")
    run.linkage = "internal"
    builder = ir.IRBuilder(run.append_basic_block("entry"))
    task = builder.bitcast(run.args[0], task_type.as_pointer())
    argument, thread, _, lock = cgutils.unpack_tuple(builder, builder.load(task))
    python = builder.inttoptr(WORD(address), ir.FunctionType(WORD, [WORD, WORD]).as_pointer())
    result = builder.call(python, [argument, thread])
    builder.store(result, cgutils.gep_inbounds(builder, task, 0, 2))
    call(builder, "PyThread_release_lock", lock)
    builder.ret_void()
    return run


def _is_compiling(builder):
    """Return whether this thread holds the compiler's lock, without running Python code."""
    state = call(builder, "PyGILState_Ensure")
    question = builder.inttoptr(WORD(id(backend.holds_lock)), POINTER)
    answer = call(builder, "PyObject_CallObject", question, ir.Constant(POINTER, None))
    is_true = builder.icmp_signed("==", call(builder, "PyObject_IsTrue", answer), INT(1))
    call(builder, "Py_DecRef", answer)
    call(builder, "PyGILState_Release", state)
    return is_true
