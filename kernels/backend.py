"""Numba's private parts: all that deltajit uses of them, each with the reason.

A kernel is compiled by Numba to LLVM's IR and by LLVM to object code, which is loaded by an engine
of our own, the same way whether it was compiled just now or read from the cache.
"""

import contextlib
import ctypes
import functools
import os
from pathlib import Path

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import _dynfunc
from numba.core import compiler, config, types
from numba.core import typed_passes as typed
from numba.core import untyped_passes as untyped
from numba.core.caching import FunctionCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock as lock
from numba.core.compiler_machinery import register_pass
from numba.core.registry import cpu_target
from numba.core.typed_passes import NativeLowering

try:
    from numba.np.ufunc import omppool as openmp
except ImportError:  # Numba was built without it, or its runtime library is missing
    openmp = None

from . import levels, shipped
from .abi import from_words, word_types

# Held by who compiles, Numba for others or we; asked from C (`python`), where a method of Python's
# own would be a place for signals' handlers.
holds_lock = lock._lock._is_owned

if hasattr(os, "register_at_fork"):  # a child has no thread that would give it back
    os.register_at_fork(
        before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
    )


# Whoever sets a target for Numba, by its environment variables, wants kernels for that.
_is_given = not config.ENABLE_AVX or config.CPU_NAME is not None or config.CPU_FEATURES is not None
LEVEL = levels.chosen(() if _is_given else shipped.files())


def target():
    """Return (triple, CPU name, features) that kernels are for: a level's, or Numba's target."""
    triple, *cpu = cpu_target.target_context.codegen().magic_tuple()
    return (triple, LEVEL, "") if LEVEL else (triple, *cpu)


def settings():
    """Return what object code depends on besides its source: the target and Numba's debug flags."""
    return (*target(), config.OPT, config.BOUNDSCHECK, config.LOOP_VECTORIZE, config.SLP_VECTORIZE)


def is_debugging():
    """Return whether Numba's debug flags ask for other code than what is shipped."""
    flags = config.OPT, config.LOOP_VECTORIZE, config.SLP_VECTORIZE
    return bool(config.BOUNDSCHECK) or tuple(map(int, flags)) != (3, 1, 0)


@functools.cache
def _machine():
    """Return LLVM's machine for the target; it also loads code."""
    triple, cpu, features = target()
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=config.OPT, reloc="static", codemodel="jitdefault", jit=True
    )


@contextlib.contextmanager
def for_target():
    """Let Numba's passes optimize for the kernels' target instead of its own."""
    codegen = cpu_target.target_context.codegen()
    before, codegen._tm = codegen._tm, _machine()
    try:
        yield
    finally:
        codegen._tm = before


@contextlib.contextmanager
def jit_is_on():
    """Compile even if NUMBA_DISABLE_JIT tells Numba not to: kernels can't be run by Python."""
    before, config.DISABLE_JIT = config.DISABLE_JIT, 0
    try:
        yield
    finally:
        config.DISABLE_JIT = before


@functools.cache
def cache_folder():
    """Return where Numba would keep code of this package, or None: it obeys NUMBA_CACHE_DIR."""
    try:
        return Path(FunctionCache(cache_folder.__wrapped__)._impl.locator.get_cache_path())
    except RuntimeError:  # neither __pycache__ nor the user's cache folder is writable
        return None


def resolved_type(function):
    """The type that Numba gives to a function of `numba.extending.intrinsic`, made just now."""
    cpu_target.typing_context.refresh()
    return cpu_target.typing_context.resolve_value_type(function)


# ---------------------------------------------------------------- shorter ways through Numba


# Where a function is that raises a TypeError: what Python gets that calls a helper.
NOT_FOR_PYTHON = ctypes.cast(ctypes.pythonapi.PyErr_BadArgument, ctypes.c_void_p).value


class HelperLibrary(JITCodeLibrary):
    """The code of a helper, which is only ever linked: LLVM optimizes it with who calls it."""

    def add_llvm_module(self, module):
        """Take a module as it is."""
        self._final_module.link_in(module)

    def finalize(self):
        """Link what it calls."""
        link(self)
        self._finalized = True


def link(library):
    """Put all that a library calls into its module."""
    for other in dict.fromkeys(library._linking_libraries):
        library._final_module.link_in(other._get_module_for_linking(), preserve=True)


@register_pass(mutates_CFG=True, analysis_only=False)
class HelperLowering(NativeLowering):
    """As Numba's, but compiles nothing: the function object, for Python, only names the code."""

    _name = "deltajit_helper_lowering"

    def run_pass(self, state):
        """Lower to LLVM's IR, without counting references: arrays of helpers own nothing.

        Only Numba's types need to believe in counts, since a helper may return an array.
        """
        state.library = HelperLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags = state.flags.copy()
        state.flags.no_compile = True
        context, state.targetctx = state.targetctx, state.targetctx.subtarget(enable_nrt=False)
        try:
            super().run_pass(state)
        finally:
            state.targetctx = context
        found, library = state["cr"], state.library
        name = found.fndesc.qualname.rpartition(".")[2]
        key = _dynfunc.make_function(
            found.fndesc.lookup_module(), name, name, NOT_FOR_PYTHON, found.env, (library,)
        )
        state.targetctx.insert_user_function(key, found.fndesc, [library])
        state["cr"] = found._replace(cfunc=key)
        return True


class KernelCompiler(compiler.CompilerBase):
    """Numba's passes without those for what kernels don't have: half the time of compiling.

    Left out are `with` blocks, closures, inlining of IR, literals, parallel loops, array
    expressions, annotations.
    """

    lowering = NativeLowering

    def define_pipelines(self):
        """Return the one pipeline there is: kernels have no object mode."""
        passes = compiler.PassManager("deltajit")
        for step in (
            untyped.TranslateByteCode,
            untyped.FixupArgs,
            untyped.IRProcessing,
            untyped.RewriteSemanticConstants,
            untyped.DeadBranchPrune,
            untyped.GenericRewrites,
            untyped.ReconstructSSA,
            typed.NopythonTypeInference,
            typed.PreLowerStripPhis,
            typed.IRLegalization,
            self.lowering,
            typed.NoPythonBackend,
        ):
            passes.add_pass(step, step.__name__)
        passes.finalize()
        return [passes]


class HelperCompiler(KernelCompiler):
    """Compile helpers, which are only linked into kernels."""

    lowering = HelperLowering


def _flags():
    """Return what this package's options come to; neither wrappers nor object code.

    no_compile leaves the library open, so that our C function goes into the same module.
    """
    flags = compiler.Flags()
    flags.error_model = "numpy"
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    return flags


@lock
@for_target()
def compile_to_object(function, arguments, result, symbol, text_of=None):
    """Return the object code of a C function `symbol` that does what a Python function does.

    arguments : Numba types, passed as `abi` says. result : a Numba type. text_of : None, or a
    function that returns what `compile_to_text` made of the kernel of a symbol, if it is one's.
    """
    library = _library_of(function, arguments, result, symbol)
    module = library._final_module
    if text_of is not None:
        _link_texts(module, text_of)
    _hide_all_but(module, symbol)
    library._optimize_final_module()
    _check_calls(module)
    _number_all_but(module, symbol)
    return _machine().emit_object(module)


@lock
@for_target()
def compile_to_text(function, arguments, result, symbol):
    """Return a C function as LLVM's bitcode, for kernels that it is inlined into.

    Small, but neither unrolled nor vectorized: sizes may be constants there.
    """
    library = _library_of(function, arguments, result, symbol)
    module = library._final_module
    _hide_all_but(module, symbol)
    options = llvm.PipelineTuningOptions(speed_level=1)
    options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = False
    builder = llvm.create_pass_builder(_machine(), options)
    builder.getModulePassManager().run(module, builder)
    return module.as_bitcode()


def _library_of(function, arguments, result, symbol):
    """Return Numba's library of a C function, with all that it calls in its module.

    compile_extra is what `njit` and `cfunc` come down to. Its library is not finalized, since that
    would hand the code to Numba's engine: what it links is linked here, all but our function is to
    be internal, so that it is inlined or dropped, and LLVM's passes run once.
    """
    context = cpu_target.target_context
    with jit_is_on():
        compiled = compiler.compile_extra(
            cpu_target.typing_context, context, function, arguments, result, _flags(), {},
            pipeline_class=KernelCompiler,
        )  # fmt: skip
    library = compiled.library
    library.add_ir_module(_c_function(context, compiled.fndesc, symbol))
    link(library)
    return library


def _c_function(context, description, symbol):
    """Return a module with a C function that calls a compiled one, and ignores its status.

    A kernel raises nothing: `_check_calls` would find what raising needs.
    """
    module = context.create_module(symbol)
    convention = context.call_conv
    kind = convention.get_function_type(description.restype, description.argtypes)
    callee = ir.Function(module, kind, description.llvm_func_name)
    words = [word for t in description.argtypes for word in word_types(context, t)]
    is_void = description.restype == types.none
    result = ir.VoidType() if is_void else context.get_value_type(description.restype)
    function = ir.Function(module, ir.FunctionType(result, words), symbol)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    remaining = iter(function.args)
    values = [from_words(context, builder, t, remaining) for t in description.argtypes]
    _, value = convention.call_function(
        builder, callee, description.restype, description.argtypes, values
    )
    if is_void:
        builder.ret_void()
    else:
        builder.ret(value)
    return module


def _link_texts(module, text_of):
    """Put the kernels that a module declares into it."""
    for name in [f.name for f in module.functions if f.is_declaration]:
        text = text_of(name)
        if text is not None:
            module.link_in(llvm.parse_bitcode(text))
            module.get_function(name).add_function_attribute("alwaysinline")


def _hide_all_but(module, symbol):
    """Let all else be inlined or dropped: it is this kernel's alone."""
    for part in [*module.functions, *module.global_variables]:
        if not part.is_declaration and part.name != symbol:
            part.linkage = llvm.Linkage.internal


def _number_all_but(module, symbol):
    """Name what is internal by numbers of its own: Numba's count what a process has compiled."""
    module.name = symbol
    hidden = (p for p in [*module.functions, *module.global_variables] if not p.is_declaration)
    for i, part in enumerate(hidden):
        if part.name != symbol:
            part.name = f"part.{i}"


def _check_calls(module):
    """Refuse calls to Python and to Numba's runtime: a kernel allocates and raises nothing."""
    for function in module.functions:
        if function.is_declaration and function.name.startswith(("NRT_", "numba_", "Py")):
            raise RuntimeError(f"{module.name} calls {function.name}, which no kernel may")


@functools.cache
def _engine():
    """Return an execution engine of our own, that only loads object code."""
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())


_kept = []  # object code, which the engine refers to as long as it lives


@lock
def load_object(code, symbol):
    """Return the address of a function in object code."""
    _kept.append(code)
    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine.get_function_address(symbol)


def load_module(module, symbol):
    """Return the address of a function in a module of `llvmlite.ir`, for this process alone."""
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    return load_object(_machine().emit_object(parsed), symbol)


def _check_parts():
    """Raise an ImportError that names versions that work, where a private part is missing."""
    library = cpu_target.target_context.codegen()._library_class
    needed = [
        (compiler, "compile_extra"),
        (compiler.Flags, "no_cfunc_wrapper"),
        (library, "_optimize_final_module"),
        (library, "_get_module_for_linking"),
        (cpu_target.target_context.codegen(), "_tm"),
        (cpu_target.target_context.codegen(), "magic_tuple"),
        (FunctionCache, "load_overload"),
        (lock._lock, "_is_owned"),
    ]
    missing = [f"{owner!r}.{name}" for owner, name in needed if not hasattr(owner, name)]
    if missing:
        raise ImportError(
            f"deltajit works with Numba 0.62 to 0.68, not with {numba.__version__}, which lacks "
            f"{', '.join(missing)}: pip install 'numba<0.69'"
        )


_check_parts()
