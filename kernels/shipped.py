"""Object code that comes with the package: one zip for each level, good for one set of sources.

Its name says which, so that code of other sources is not even opened. Entries are what files of the
user's own cache are; one that is damaged is as good as none.
"""

import functools
import importlib.resources
import io
import zipfile
import zlib

from .fingerprint import SOURCES
from .levels import LEVELS
from .object_code import packed, unpacked, warn_once

SUFFIX = ".zip"
INSTEAD = "kernels are compiled instead"
OLDEST = (1980, 1, 1, 0, 0, 0)  # the date of all entries, so that two builds give the same bytes


def file_name(level):
    """Return the name of the file for a level and these sources."""
    return f"{level}-{SOURCES[:16]}{SUFFIX}"


@functools.cache
def files():
    """Return {level: file} of what is there for these sources; warn of what is for others."""
    if SOURCES is None:
        return {}
    names = {file_name(level): level for level in LEVELS}
    there = {}
    for entry in importlib.resources.files(__package__).iterdir():
        if entry.name in names:
            there[names[entry.name]] = entry
        elif entry.name.endswith(SUFFIX):
            warn_once(f"{entry.name} is not of these sources", INSTEAD)
    return there


@functools.cache
def _opened(level):
    """Open a level's file in memory: forked processes can't share a position in one on disk."""
    try:
        return zipfile.ZipFile(io.BytesIO(files()[level].read_bytes()))
    except (OSError, zipfile.BadZipFile) as error:
        _warn(level, error)
        return None


def _warn(level, problem):
    warn_once(f"{file_name(level)} can't be read ({problem})", INSTEAD)


@functools.cache
def names(level):
    """Return the names of the kernels that are shipped for a level."""
    archive = _opened(level) if level in files() else None
    return frozenset() if archive is None else frozenset(archive.namelist())


def load(level, name):
    """Return the object code of a kernel for a level, or None."""
    if name not in names(level):
        return None
    try:
        code = unpacked(_opened(level).read(name))
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        code = None
    if code is None:
        _warn(level, "it is damaged")
    return code


def write(folder, level, codes):
    """Write the file for a level: ``{name: object code}``, the same bytes for the same code."""
    with zipfile.ZipFile(
        folder / file_name(level), "w", zipfile.ZIP_DEFLATED, compresslevel=9
    ) as z:
        for name in sorted(codes):
            z.writestr(zipfile.ZipInfo(name, OLDEST), packed(codes[name]))
