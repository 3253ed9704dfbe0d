"""Compiler options: the only spelling of ``njit`` in this package, and the cache behind it.

``error_model="numpy"``: a division check would stop LLVM from vectorizing.
``nogil=True``: every kernel may run in any number of Python threads.
``_nrt=False``: no reference is counted, an atomic operation each, and a kernel that would allocate
does not compile.
No fast-math flag: NaN and inf pass through, and a sum has the order it is written in.
"""

import collections
import contextlib
import functools
import glob
import hashlib
import importlib.resources
import secrets
import warnings
from pathlib import Path

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

try:
    from numba.np.ufunc import omppool as openmp
except ImportError:  # Numba was built without it, or its runtime library is missing
    openmp = None

OPTIONS = {"error_model": "numpy", "nogil": True, "_nrt": False}


def _sources(folder, place=""):
    """(path from here, content) of each source file in a folder and its subfolders.

    A folder may be one in a zip: what `importlib.resources` gives reads both.
    """
    for entry in folder.iterdir():
        name = f"{place}{entry.name}"
        if entry.is_dir():
            yield from _sources(entry, f"{name}/")
        elif name.endswith(".py"):
            yield name, entry.read_bytes()


def _fingerprint():
    """Hash of every source file of this package (Numba adds its own version and the CPU).

    None where they can't be read, as in a package of compiled modules alone.
    """
    digest = hashlib.sha256(f"{__name__} {openmp is not None}".encode())
    try:
        sources = sorted(_sources(importlib.resources.files(__package__)))
    except (OSError, TypeError):  # a loader that reads no folders raises either
        return None
    for name, content in sources:
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest() if sources else None


_of_sources = _fingerprint()
IS_CACHED = _of_sources is not None  # else what is compiled is good for this process alone
FINGERPRINT = _of_sources or secrets.token_hex(32)
SHORT = FINGERPRINT[:16]  # in names of files


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


class _KernelCache(FunctionCache):
    """Numba's on-disk cache, valid only as long as no kernel source has changed.

    Numba looks at the one file that a function stands in; a kernel has its callees from other
    files compiled into it, so its entry must go stale with any of them: the files' names say of
    which sources they are. A cache that can't be read counts as empty, and is emptied.
    """

    def __init__(self, py_func):
        super().__init__(py_func)
        self._cache_file = _Files(
            cache_path=self._cache_path,
            filename_base=f"{self._impl.filename_base}-{SHORT}",
            source_stamp=FINGERPRINT,
        )

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # a truncated file raises whatever pickle meets
            _warn_once(f"the cache in {self.cache_path} can't be read ({error!r})")
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
            self._remove_old()
        except Exception as error:  # no space, no permission, or an index that can't be read
            _warn_once(f"the cache in {self.cache_path} can't be written ({error!r})")

    def _remove_old(self):
        """Files of this kernel from other sources: nobody will ask for them again."""
        name, _ = self._impl.filename_base.rsplit("-", 1)  # what follows is the number of its line
        for path in Path(self.cache_path).glob(f"{glob.escape(name)}-*.nb?"):
            if SHORT not in path.name:
                path.unlink(missing_ok=True)


@functools.cache
def _warn_once(problem):
    message = f"deltajit: {problem}; kernels are compiled again in every process that needs them"
    warnings.warn(message, RuntimeWarning, stacklevel=3)


_made = collections.Counter()  # kernels by their names


def njit(function):
    """Compile `function` as a kernel, cached on disk where a place for the cache can be found.

    Kernels of one name, closures that is, are numbered in the order in which they are made. Numba's
    own numbers are those of a process: cached code of two processes may have two such kernels under
    one symbol, and who links both gets one of them twice.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    if _made[name]:
        function.__qualname__ += f"_{_made[name]}"
    _made[name] += 1
    return _cached(numba.njit(**OPTIONS)(function))


def inlined(function):
    """Like njit, but a jitted caller gets the function's text: nothing is compiled for it.

    For all that is short or has one caller. LLVM optimizes what a function calls once more with
    each of its callers, so every floor between a tile and an entry point would double the time.
    """
    return _cached(numba.njit(inline="always", **OPTIONS)(function))


def _cached(dispatcher):
    if not IS_CACHED:
        _warn_once("the kernels' sources can't be read, so that a cache might be of others")
        return dispatcher
    try:
        dispatcher._cache = _KernelCache(dispatcher.py_func)
    except RuntimeError:  # neither __pycache__ nor the user's cache folder is writable
        _warn_once("there is no folder for the cache that can be written")
    return dispatcher
