"""Entries for callers in Python: a C function for each kernel, that reads Python's objects itself.

A few lines of LLVM's IR, made in milliseconds, where Numba would compile a dispatcher for a tenth
of a second. A call costs what a call of C costs, and some nanoseconds an array.
"""

import ctypes
import functools

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from . import abi, backend
from .python import DOUBLE, INT, POINTER, WORD, call
from .status import VERSION, complain

# Where a NumPy array has its data, number of axes and shape: behind what every object has.
DATA, NDIM, SHAPE = (object.__basicsize__ + 8 * i for i in range(3))

# What is read in place of None: of an array one of no elements with more axes than there are, whose
# shape is zeros; of a number 0; of a tuple as many None.
_ZEROS = (ctypes.c_int64 * 8)()
_ONE = ctypes.c_int64(1)
_NO_ARRAY = (ctypes.c_int64 * (SHAPE // 8 + 1))()
_NO_ARRAY[NDIM // 8], _NO_ARRAY[SHAPE // 8] = len(_ZEROS), ctypes.addressof(_ZEROS)
_NO_NUMBER, _NO_TUPLE = 0, (None,) * 32

RESULTS = {0: b"", 1: b"d", 2: b"(dd)"}  # Python's formats of values to return
FASTCALL = 0x80  # METH_FASTCALL


class _Method(ctypes.Structure):
    """Python's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_methods = []  # which Python refers to
_new_function = ctypes.pythonapi.PyCFunction_NewEx
_new_function.restype = ctypes.py_object
_new_function.argtypes = [ctypes.POINTER(_Method), ctypes.c_void_p, ctypes.c_void_p]


class Entry:
    """A kernel of ``(version, ..., results: Doubles) -> status`` for callers in Python.

    They pass what stands between, and get the results; a status that is not OK is raised.
    """

    def __init__(self, kernel, results):
        self._kernel, self._results = kernel, results
        self._functions, self._known = {}, set()

    def unchecked(self, dtype):
        """Return a function for floats of a NumPy dtype.

        It looks at no type: its callers have checked that kernels take the arguments.
        """
        found = self._functions.get(dtype)
        if found is None:
            found = self._functions[dtype] = self._made(numba.from_dtype(dtype))
        return found

    def check(self, dtype, *values):
        """Refuse, by a TypeError, values that the function for a dtype does not take."""
        kinds = dtype, *map(abi.python_kind, values)
        if kinds not in self._known:
            results = [np.empty(self._results)] if self._results else []
            given = tuple(map(numba.typeof, (VERSION, *values, *results)))
            self._kernel.check(self._kernel.__name__, numba.from_dtype(dtype), given)
            self._known.add(kinds)

    def _made(self, real):
        """Return the function for floats of type `real`."""
        kernel = self._kernel
        name, address = f"{kernel.symbol(real)}.entry", kernel.address(real)
        # A fork waits for this lock. llvmlite has one too, which a child would find held for ever.
        with backend.lock:
            module = _module(name, kernel.types_for(real)[0], address, self._results)
            function = backend.load_module(module, name)
        method = _Method(kernel.__name__.encode(), function, FASTCALL)
        _methods.append(method)
        return _new_function(method, None, None)


def entries(**entry_named):
    """Return a function of a NumPy dtype that returns the `Calls` of these entries, made once."""
    return functools.cache(functools.partial(Calls, entry_named))


class Calls:
    """The functions of some entries for one dtype, each made when it is first asked for."""

    def __init__(self, entry_named, dtype):
        self._entries, self._dtype = entry_named, dtype

    def __getattr__(self, name):
        if name.startswith("_") or name not in self._entries:
            raise AttributeError(name)
        function = self.__dict__[name] = self._entries[name].unchecked(self._dtype)
        return function


def _module(name, arguments, address, results):
    """Return a module with ``PyObject *name(PyObject *self, PyObject **values, ssize_t count)``."""
    module = ir.Module(name)
    module.triple = backend.target()[0]
    function = ir.Function(
        module, ir.FunctionType(POINTER, [POINTER, POINTER.as_pointer(), WORD]), name
    )
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    words = [WORD(int(VERSION))]
    given = arguments[1:-1] if results else arguments[1:]
    for i, kind in enumerate(given):
        value = builder.load(builder.gep(function.args[1], [WORD(i)]))
        words += _words(builder, kind, value)
    error = call(builder, "PyErr_Occurred")
    with builder.if_then(builder.icmp_unsigned("!=", error, POINTER(None)), likely=False):
        builder.ret(POINTER(None))
    doubles = cgutils.alloca_once(builder, DOUBLE, size=max(results, 1))
    if results:
        words += [doubles, WORD(results)]
    thread = call(builder, "PyEval_SaveThread")
    kind = ir.FunctionType(WORD, [word.type for word in words])
    status = builder.call(builder.inttoptr(WORD(address), kind.as_pointer()), words)
    call(builder, "PyEval_RestoreThread", thread)
    with builder.if_then(builder.icmp_signed("!=", status, WORD(0)), likely=False):
        builder.ret(_call_complain(builder, status))
    values = [builder.load(builder.gep(doubles, [WORD(i)])) for i in range(results)]
    builder.ret(_build(builder, RESULTS[results], values))
    return module


def _build(builder, form, values):
    """Return the IR of the Python object that a format and values mean."""
    kind = ir.FunctionType(POINTER, [POINTER], var_arg=True)
    build = cgutils.get_or_insert_function(builder.module, kind, "deltajit_Py_BuildValue")
    text = cgutils.global_constant(builder, "form", cgutils.make_bytearray(form + b"\0"))
    return builder.call(build, [builder.bitcast(text, POINTER), *values])


def _call_complain(builder, status):
    """Return the IR of a call that raises what a status means; it returns a null pointer."""
    arguments = _build(builder, b"(L)", [status])
    raised = call(builder, "PyObject_CallObject", _object(builder, complain), arguments)
    call(builder, "Py_DecRef", arguments)
    return raised


def _object(builder, thing):
    """Return the IR of a Python object that outlives the code."""
    return builder.inttoptr(WORD(id(thing)), POINTER)


def _or(builder, value, address):
    """Return the IR of an object, or of what is at an address if it is None."""
    is_none = builder.icmp_unsigned("==", value, _object(builder, None))
    return builder.select(is_none, builder.inttoptr(WORD(address), POINTER), value)


def _words(builder, kind, value):
    """Return the IR of the words of a Python object for a parameter of type `kind`."""
    if isinstance(kind, types.Array):
        return _words_of_array(builder, kind, _or(builder, value, ctypes.addressof(_NO_ARRAY)))
    if isinstance(kind, types.BaseTuple):
        parts = _or(builder, value, id(_NO_TUPLE))
        return [
            word
            for i, part in enumerate(kind)
            for word in _words(builder, part, call(builder, "PyTuple_GetItem", parts, WORD(i)))
        ]
    number = _or(builder, value, id(_NO_NUMBER))
    if isinstance(kind, types.Float):
        double = call(builder, "PyFloat_AsDouble", number)
        return [double if kind == types.float64 else builder.fptrunc(double, ir.FloatType())]
    return [call(builder, "PyLong_AsLongLong", number)]


def _words_of_array(builder, kind, array):
    """Return the IR of an array's pointer and extents; of axes that it lacks they are 1."""

    def field(offset, field_type):
        place = builder.gep(array, [WORD(offset)])
        return builder.load(builder.bitcast(place, field_type.as_pointer()))

    missing = builder.sub(WORD(kind.ndim), builder.sext(field(NDIM, INT), WORD))
    shape, one = field(SHAPE, WORD.as_pointer()), WORD(ctypes.addressof(_ONE))
    one = builder.inttoptr(one, WORD.as_pointer())
    words = [field(DATA, POINTER)]
    for axis in range(kind.ndim):
        place = builder.sub(WORD(axis), missing)
        is_there = builder.icmp_signed(">=", place, WORD(0))
        words.append(builder.load(builder.select(is_there, builder.gep(shape, [place]), one)))
    return words
