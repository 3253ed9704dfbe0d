"""How this package's functions are compiled, in three ways, and the only spellings of them.

`kernel`   compiled once for each dtype, kept on disk, called by address: all that computes.
`inlined`  the text of a short function goes into the kernel that calls it.
`njit`     for callers in Python: Numba's dispatcher around a call or two of kernels.

``error_model="numpy"``: a division check would stop LLVM from vectorizing. ``nogil=True``: every
kernel may run in any number of Python threads. ``_nrt=False``: no reference is counted, an atomic
operation each, and what would allocate does not compile. No fast-math flag: NaN and inf pass
through, and a sum has the order it is written in.

A kernel is called through its slot, a word in memory: the address of its code, or 0 as long as it
has none. Who meets a 0, in jitted code of whatever thread, calls Python, which compiles the kernel
or loads it from disk, and fills the slot. So nothing is compiled that nobody calls.
"""

import collections
import contextlib
import ctypes
import functools
import glob
import hashlib
import importlib
import inspect
import logging
import os
import pkgutil
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, overload

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.extending import intrinsic, register_jitable, typeof_impl

from . import abi, backend, cache, python, shipped
from .fingerprint import SOURCES

OPTIONS = {"error_model": "numpy", "nogil": True, "_nrt": False}
HELPER = {
    "error_model": "numpy",
    "nogil": True,
    "_nrt": True,
    "forceinline": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": backend.HelperCompiler,
}


if SOURCES is None:  # what is compiled is good for this process alone
    cache.switch_off("the kernels' sources can't be read, so that a cache might be of others")
    SOURCES = secrets.token_hex(32)
_compilers = f"{numba.__version__} {llvmlite.__version__}"
FINGERPRINT = hashlib.sha256(f"{_compilers} {SOURCES}".encode()).hexdigest()  # of what is compiled
SHORT = FINGERPRINT[:16]  # in names of files

logger = logging.getLogger("deltajit")

P = ParamSpec("P")  # of a kernel, its parameters
R = TypeVar("R")  # and its result
F = TypeVar("F", bound=Callable[..., Any])

# ---------------------------------------------------------------- kernels

WORD = ir.IntType(64)
REALS = {types.float32: "float32", types.float64: "float64"}
RESOLVER = "deltajit.resolve"
SAY_AFTER = 1.0  # seconds that a thread has waited

_of_slot, _by_name = {}, {}  # (kernel, real) by the address of its slot, and that by its name
_spent = 0.0  # seconds of this process that went into compiling
_has_said = False
_waits = collections.Counter()  # seconds that threads have waited for code


def name_of(slot):
    """Return the name and dtype of the kernel whose slot is at an address, for pickles; None for 0.

    Slots are addresses of this process; a TypeError says so of a kernel that others don't know.
    """
    if slot == 0:
        return None
    kernel, real = _of_slot[slot]
    if not kernel.is_kept:
        raise TypeError(
            "this holds addresses of functions of one's own, in this process, so it can't be "
            "pickled or copied: pickle the Network, or the optimizer, and make it of that again"
        )
    return f"{kernel.name}.{REALS[real]}"


def slot_named(name):
    """Return the slot of the kernel of that name, in this process."""
    return 0 if name is None else _by_name[name]


def kernel_at(slot):
    """Return the kernel whose slot is at an address; None for 0."""
    return _of_slot[slot][0] if slot else None


def in_use() -> set[str]:
    """Return the names of the kernels that this process has code of."""
    return {
        f"{kernel.name}.{REALS[real]}"
        for address, (kernel, real) in list(_of_slot.items())  # others may make some
        if ctypes.c_int64.from_address(address).value
    }


def seconds_spent() -> float:
    """Return the seconds that this process has spent on compiling kernels."""
    return _spent


def seconds_waited() -> float:
    """Return the seconds that this thread has waited for code to be compiled or loaded."""
    return _waits[threading.get_ident()]


@contextlib.contextmanager
def _waiting(thread=None):
    """Count the seconds of what is inside; also where it waits inside, each once."""
    thread = thread or threading.get_ident()
    start, before = time.perf_counter(), _waits[thread]
    try:
        yield
    finally:
        _waits[thread] = before + time.perf_counter() - start


def all_kernels() -> list[tuple[Any, Any]]:
    """Return (kernel, Numba's type of its floats) of all that are kept, ordered by name.

    Of one type only if no argument depends on it: calls ask for float64 then. All modules of this
    package are imported for it.
    """
    for module in pkgutil.walk_packages(sys.modules[__package__].__path__, f"{__package__}."):
        importlib.import_module(module.name)
    every = sorted(_of_slot.values(), key=lambda pair: (pair[0].name, REALS[pair[1]]))
    return [(kernel, real) for kernel, real in every if kernel.is_kept and kernel.is_for(real)]


class Prototype:
    """The signature of kernels that are called by a slot which is data: ``f(slot, ...)``."""

    def __init__(self, function):
        functools.update_wrapper(self, function)

    @functools.cached_property
    def signature(self):
        """Return the signature of the function."""
        return inspect.signature(self.__wrapped__)

    @functools.cached_property
    def names(self):
        """Return the names of the parameters."""
        return list(self.signature.parameters)

    @functools.cached_property
    def annotations(self):
        """Return the annotations of the parameters."""
        return [p.annotation for p in self.signature.parameters.values()]

    @functools.cached_property
    def result(self):
        """Return the annotation of the result; None if there is none."""
        result = self.signature.return_annotation
        return None if result is inspect.Signature.empty else result

    def types_for(self, real):
        """Return (Numba types of the arguments, of the result) for floats of type `real`."""
        arguments = tuple(abi.type_for(a, real) for a in self.annotations)
        return arguments, types.none if self.result is None else abi.type_for(self.result, real)

    def is_for(self, real):
        """Return whether floats of type `real` have code: not where it makes no difference."""
        return real == types.float64 or self.types_for(real) != self.types_for(types.float64)

    def real_of(self, given):
        """Return the dtype that arguments of these Numba types ask for."""
        reals = filter(None, map(abi.real_of, self.annotations, given))
        return next(reals, types.float64)

    def check(self, name, real, given):
        """Refuse arguments of other Numba types than a kernel's for floats of type `real`.

        A TypeError, since Numba would put pages of its own around a TypingError.
        """
        where = f"deltajit's {name.lstrip('_')}: "
        if len(given) != len(self.names):
            raise TypeError(f"{where}it takes {', '.join(self.names)}; got {len(given)} arguments")
        if real not in REALS:
            raise TypeError(f"{where}kernels take float32 or float64, got {real}")
        for parameter in zip(self.names, self.annotations, given, strict=True):
            problem = abi.problem(*parameter, real)
            if problem:
                raise TypeError(where + problem)

    def typed_call(self, name, real, given):
        """Return Numba's (signature, lowering of a call) for these argument types.

        The lowering takes what to call: an address as a word of LLVM, or the name of a symbol.
        """
        self.check(name, real, given)
        arguments, result = self.types_for(real)

        def call(context, builder, callee, values):
            words = [
                word
                for part in zip(arguments, given, values, strict=True)
                for word in abi.to_words(context, builder, *part)
            ]
            is_void = result == types.none
            c_result = ir.VoidType() if is_void else context.get_value_type(result)
            kind = ir.FunctionType(c_result, [word.type for word in words])
            if isinstance(callee, str):
                function = cgutils.get_or_insert_function(builder.module, kind, callee)
            else:
                function = builder.inttoptr(callee, kind.as_pointer())
            value = builder.call(function, words)
            return context.get_dummy_value() if is_void else value

        return result, call


class Kernel(Prototype, Generic[P, R]):
    """A function that is compiled once for each dtype, and called by its address."""

    def __init__(self, function, name, is_kept):
        super().__init__(function)
        self.name = name if is_kept else f"{name} {len(_of_slot)}"  # users define things twice
        self.is_kept = is_kept
        self._slots = {real: ctypes.c_int64(0) for real in REALS}
        self._known = {}  # dtypes by the kinds of Python values that were checked
        for real, slot in self._slots.items():
            _of_slot[ctypes.addressof(slot)] = self, real
            _by_name[f"{self.name}.{REALS[real]}"] = ctypes.addressof(slot)
            llvm.add_symbol(self._slot_symbol(real), ctypes.addressof(slot))

    @functools.cached_property
    def intrinsic(self):
        """Return what jitted code calls."""
        return _as_intrinsic(self._type, self.__wrapped__, ())

    @functools.cached_property
    def type(self):
        """Return its Numba type."""
        return backend.resolved_type(self.intrinsic)

    @functools.cached_property
    def inlined(self):
        """Return the same text, to go into a kernel that calls it."""
        return inlined(self.__wrapped__)

    @functools.cached_property
    def linked(self):
        """Return what a kernel that is not kept calls, to have this one's code in its own."""
        return _as_intrinsic(self._linked_type, self.__wrapped__, ())

    def symbol(self, real):
        """Return the name of its C function for floats of type `real`."""
        return f"deltajit.{self.name}.{REALS[real]}"

    def _slot_symbol(self, real):
        return f"deltajit.slot.{self.name}.{REALS[real]}"

    def slot(self, dtype: npt.DTypeLike) -> int:
        """Return where the address is, for floats of a NumPy dtype: for tables of networks."""
        return ctypes.addressof(self._slots[numba.from_dtype(np.dtype(dtype))])

    def address(self, real, thread=None):
        """Return where the code for floats of type `real` is; it is loaded or compiled if need be.

        The wait is that of a thread, by its identifier; by default the calling one's.
        """
        slot = self._slots[real]
        if slot.value == 0:
            with _waiting(thread), backend.lock:
                if slot.value == 0:
                    slot.value = _code_of(self, real)
        return slot.value

    def _type(self, *given):
        """Type and lowering of a call in jitted code."""
        real = self.real_of(given)
        result, call = self.typed_call(self.__name__, real, given)

        def lower(context, builder, signature, values):
            return call(
                context, builder, bound(builder, self.slot_in(builder.module, real)), values
            )

        return result(*given), lower

    def _linked_type(self, *given):
        """Type and lowering of a call that LLVM replaces by this kernel's code."""
        real = self.real_of(given)
        result, call = self.typed_call(self.__name__, real, given)

        def lower(context, builder, signature, values):
            return call(context, builder, self.symbol(real), values)

        return result(*given), lower

    def slot_in(self, module, real):
        """Return the slot for floats of type `real`, as LLVM code of a module names it."""
        name = self._slot_symbol(real)
        return module.globals.get(name) or ir.GlobalVariable(module, WORD, name)

    def __call__(self, *values: P.args, **by_name: P.kwargs) -> R:
        """Call from Python, by ctypes: for tests, and where microseconds do not matter."""
        if by_name:
            raise TypeError(f"deltajit's {self.__name__} takes its arguments by position")
        kinds = tuple(map(abi.python_kind, values))
        real = self._known.get(kinds)
        if real is None:
            given = tuple(map(numba.typeof, values))
            real = self.real_of(given)
            self.check(self.__name__, real, given)
            self._known[kinds] = real
        arguments, function = self._for_python[real]
        words = [w for pair in zip(arguments, values, strict=True) for w in abi.python_words(*pair)]
        return function(self.address(real))(*words)

    @functools.cached_property
    def _for_python(self):
        """Return (Numba types of the arguments, ctypes of the function) for floats of each type."""
        found = {}
        for real in REALS:
            arguments, result = self.types_for(real)
            c_types = [c for kind in arguments for c in abi.ctypes_of(kind)]
            c_result = None if result == types.none else abi.ctypes_of(result)[0]
            found[real] = arguments, ctypes.CFUNCTYPE(c_result, *c_types)
        return found


@overload
def kernel(function: Callable[P, R]) -> Kernel[P, R]: ...
@overload
def kernel(
    *, name: str | None = None, is_kept: bool = True
) -> Callable[[Callable[P, R]], Kernel[P, R]]: ...
def kernel(function=None, *, name=None, is_kept=True):
    """Make a kernel: a function compiled once for each dtype, and called by its address.

    Parameters
    ----------
    function : callable
        A function whose parameters are annotated with the words of `deltajit.kernels.abi`.
    name : str, optional
        The name it is known by, unique in its module; by default the function's.
    is_kept : bool
        Whether its code is written to disk; never that of modules outside of this package.

    Returns
    -------
    Kernel
        To be called from jitted code, and from Python by position.
    """
    if function is None:
        return functools.partial(kernel, name=name, is_kept=is_kept)
    module = function.__module__.rpartition(".")[2]
    ours = function.__module__.startswith(__package__ + ".")
    return Kernel(function, f"{module}.{name or function.__name__}", is_kept and ours)


def prototype(function: F) -> F:
    """Make a `Prototype` of an annotated function without a body, jitted as ``f(slot, ...)``."""
    made = Prototype(function)

    def typed(slot_type, *given):
        result, call = made.typed_call(function.__name__, made.real_of(given), given)

        def lower(context, builder, signature, values):
            slot = builder.inttoptr(values[0], WORD.as_pointer())
            return call(context, builder, bound(builder, slot), values[1:])

        return result(types.int64, *given), lower

    return _as_intrinsic(typed, function, ("slot",))


def _as_intrinsic(typed, function, first):
    """Return an intrinsic with the parameters of `function`, after those named in `first`."""

    def call(typingctx, *given):
        return typed(*given)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    plain = [
        p.replace(annotation=inspect.Parameter.empty)
        for p in inspect.signature(function).parameters.values()
    ]
    added = [inspect.Parameter(name, kind) for name in ("typingctx", *first)]
    call.__signature__ = inspect.Signature([*added, *plain])
    call.__name__, call.__doc__ = function.__name__, function.__doc__
    return intrinsic(call)


@typeof_impl.register(Kernel)
def _typeof_kernel(value, context):
    return value.type


def bound(builder, slot):
    """Return the IR of the address in a slot, which is asked for where there is none."""
    before = builder.load(slot)
    start = builder.block
    is_empty = builder.icmp_unsigned("==", before, WORD(0))
    with builder.if_then(is_empty, likely=False):
        kind = ir.FunctionType(WORD, [WORD])
        resolver = cgutils.get_or_insert_function(builder.module, kind, RESOLVER)
        asked = builder.call(resolver, [builder.ptrtoint(slot, WORD)])
        end = builder.block
    address = builder.phi(WORD)
    address.add_incoming(before, start)
    address.add_incoming(asked, end)
    return address


@ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
def _resolve(slot, thread):
    """Fill a slot that jitted code found empty; abort if that fails, since the code can't go on."""
    kernel, real = _of_slot[slot]
    try:
        return kernel.address(real, thread)
    except BaseException:
        traceback.print_exc()
        print(f"deltajit: the kernel {kernel.name} can't be compiled", file=sys.stderr, flush=True)
        os.abort()


llvm.add_symbol(RESOLVER, python.on_own_thread(_resolve, RESOLVER))


def _code_of(kernel, real):
    """Return the address of a kernel's code, from the cache or the compiler."""
    name, symbol = f"{kernel.name}.{REALS[real]}", kernel.symbol(real)
    make = backend.compile_to_object
    if not kernel.is_kept:  # only these may call `linked` kernels
        make = functools.partial(make, text_of=_text_named)
    return backend.load_object(_kept(kernel, real, name, make), symbol)


def _text_named(symbol):
    """Return the code of the kernel with a symbol, as LLVM takes it; None if there is no such."""
    slot = _by_name.get(symbol.removeprefix("deltajit."))
    if slot is None:
        return None
    kernel, real = _of_slot[slot]
    name = f"{kernel.name}.{REALS[real]}.text"
    return _kept(kernel, real, name, backend.compile_to_text)


def _kept(kernel, real, name, make):
    """Return what `make` makes of a kernel, from the cache if it is kept there under a name."""
    if not kernel.is_kept:
        return compiled(kernel, real, make)
    code = cache.load(name, SHORT) or _shipped(name)
    if code is None:
        _say_once()
        with cache.lock(name, SHORT):
            code = cache.load(name, SHORT)  # another process may have been faster
            if code is None:
                code = compiled(kernel, real, make)
                cache.save(name, SHORT, code)
    return code


def _shipped(name):
    """Return the object code of a kernel that came with the package, or None."""
    return None if backend.is_debugging() else shipped.load(backend.LEVEL, name)


def origin_of(kernel: Any, real: Any) -> str:
    """Return where the code of a kernel comes from: "cache", "shipped", or "" if from nowhere."""
    name = f"{kernel.name}.{REALS[real]}"
    if cache.has(name, SHORT):
        return "cache"
    return "shipped" if not backend.is_debugging() and name in shipped.names(backend.LEVEL) else ""


def _say_once():
    """Tell a user who has waited for a while, for this process or another to compile, what for.

    By logging, at a level that is shown where nobody has set up anything.
    """
    global _has_said
    if max(list(_waits.values()), default=0) > SAY_AFTER and not _has_said:
        _has_said = True
        place = f", once; they are kept in {cache.folder()}" if cache.is_on() else ""
        logger.warning("deltajit: compiling kernels for this CPU%s", place)


def compiled(kernel, real, make=backend.compile_to_object):
    """Return what `make` makes of a kernel."""
    global _spent
    start = time.perf_counter()
    code = make(kernel.__wrapped__, *kernel.types_for(real), kernel.symbol(real))
    _spent += time.perf_counter() - start
    return code


# ---------------------------------------------------------------- for callers in Python


class _Files(IndexDataCacheFile):
    """An index, and code in files that are named after the signatures they are for.

    Numba numbers them, and writes the index first: two processes may then give one number to two
    signatures, and who dies in between leaves an index that speaks of code that is not there.
    """

    def save(self, key, data):
        types, *others = key
        text = repr([*map(str, types), *others])  # their repr is not their name
        signature = hashlib.sha256(text.encode()).hexdigest()[:16]
        name = f"{self._index_name.removesuffix('.nbi')}.{signature}.nbc"
        self._save_data(name, data)
        self._save_index({**self._load_index(), key: name})


class _DispatcherCache(FunctionCache):
    """Numba's on-disk cache, valid only as long as no source of this package has changed.

    Numba looks at the one file that a function stands in; what is inlined comes from others: the
    files' names say of which sources they are. A cache that can't be read counts as empty.
    """

    def __init__(self, py_func):
        super().__init__(py_func)
        self._cache_file = _Files(
            cache_path=self._cache_path,
            filename_base=f"{self._impl.filename_base}-{SHORT}",
            source_stamp=FINGERPRINT,
        )

    def _index_key(self, sig, codegen):
        """Return the key of a signature: block sizes, which may be inlined, are of the target."""
        return (*super()._index_key(sig, codegen), backend.settings())

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # a truncated file raises whatever pickle meets
            cache.warn_once(f"the cache in {self.cache_path} can't be read ({error!r})")
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
            self._remove_old()
        except Exception as error:  # no space, no permission, or an index that can't be read
            cache.warn_once(f"the cache in {self.cache_path} can't be written ({error!r})")

    def _remove_old(self):
        """Remove files of this kernel from other sources, which nobody will ask for again."""
        name, _ = self._impl.filename_base.rsplit("-", 1)  # what follows is the number of its line
        for path in Path(self.cache_path).glob(f"{glob.escape(name)}-*.nb?"):
            if SHORT not in path.name:
                path.unlink(missing_ok=True)


def _jitted(function, options):
    with backend.jit_is_on():
        return numba.njit(**options)(function)


_made = collections.Counter()  # functions by their names


def njit(function: F) -> F:
    """Compile `function` for callers in Python, cached on disk where a place can be found.

    Functions of one name, closures that is, are numbered in the order in which they are made.
    Numba's own numbers are those of a process: cached code of two processes may have two of them
    under one symbol, and who links both gets one of them twice.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    if _made[name]:
        function.__qualname__ += f"_{_made[name]}"
    _made[name] += 1
    dispatcher = _jitted(function, OPTIONS)
    dispatcher.compile = _waiting()(dispatcher.compile)
    if cache.is_on():
        dispatcher._cache = _DispatcherCache(dispatcher.py_func)
    return dispatcher


def shared(function: F) -> F:
    """Let `function` serve Python as it is, and kernels as an inlined one."""
    return register_jitable(**HELPER)(function)


class Helper:
    """A function whose text goes into jitted callers; Numba hears of it when one is compiled."""

    def __init__(self, function):
        functools.update_wrapper(self, function)

    def __call__(self, *arguments):
        """Refuse: it is made of vector registers and addresses."""
        raise TypeError(f"{self.__name__} is for jitted code, and can't be called from Python")

    @functools.cached_property
    def dispatcher(self):
        """Return what Numba makes of it."""
        return _jitted(self.__wrapped__, HELPER)


@typeof_impl.register(Helper)
def _typeof_helper(value, context):
    return numba.typeof(value.dispatcher)


def inlined(function: F) -> F:
    """Let the text of `function` go into each jitted caller: nothing is compiled for it."""
    return Helper(function)
