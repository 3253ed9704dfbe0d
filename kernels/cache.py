"""Object code on disk: a file for each kernel, dtype and CPU, good for one set of sources.

A file appears as a whole or not at all; one that can't be read or is damaged is as good as none.
Two processes that need one kernel at the same time wait for each other, so that it is compiled
once; a killed one leaves no lock behind.
"""

import contextlib
import functools
import hashlib
import os
import secrets
import time
import zlib

try:
    import fcntl
except ImportError:  # Windows: then two processes may compile one kernel twice
    fcntl = None

from . import backend
from .object_code import packed, unpacked, warn_once

SUFFIX = ".o"
PATIENCE = 30.0  # seconds to wait for another process, some times what the largest kernel takes


_off = ""  # why nothing is kept


def switch_off(why):
    """Keep nothing in this process."""
    global _off
    _off = why


def is_on():
    """Return whether there is a place for the files."""
    return folder() is not None


@functools.cache
def folder():
    """Return the folder of the files: beside the sources, or in the user's cache, or None."""
    path = None if _off else backend.cache_folder()
    if path is None:
        warn_once(_off or "there is no folder for the cache that can be written")
    return path


def _path(name, fingerprint):
    """Return the file of a kernel for this CPU."""
    target = hashlib.sha256(repr(backend.settings()).encode()).hexdigest()[:8]
    return folder() / f"{name}-{fingerprint}-{target}{SUFFIX}"


def has(name, fingerprint):
    """Return whether there is a file of a kernel for this CPU."""
    return is_on() and _path(name, fingerprint).exists()


def load(name, fingerprint):
    """Return the object code of a kernel, or None."""
    if not is_on():
        return None
    path = _path(name, fingerprint)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        warn_once(f"the cache in {folder()} can't be read ({error!r})")
        return None
    code = unpacked(data)
    if code is not None:
        return code
    warn_once(f"the cache in {folder()} can't be read ({path.name} is damaged)")
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    return None


def save(name, fingerprint, code):
    """Write a kernel's file, and remove those of this kernel that other sources left."""
    if not is_on():
        return
    path = _path(name, fingerprint)
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(packed(code))
        os.replace(temporary, path)
        for other in path.parent.glob(f"{name}-*{SUFFIX}"):
            if fingerprint not in other.name:
                other.unlink(missing_ok=True)
    except OSError as error:  # no space, no permission
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        warn_once(f"the cache in {folder()} can't be written ({error!r})")


@contextlib.contextmanager
def lock(name, fingerprint):
    """Let one process at a time be here with this kernel.

    A byte of one file, so that a process that is killed gives it back. One that is stopped does
    not, so patience ends.
    """
    file = _lock_file() if is_on() and fcntl is not None else None
    place = zlib.crc32(f"{name}-{fingerprint}".encode())
    is_ours = file is not None and _locked(file, place)
    try:
        yield
    finally:
        if is_ours:
            fcntl.lockf(file, fcntl.LOCK_UN, 1, place)


def _locked(file, place):
    """Wait for a byte to be ours; returns whether it is."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            return True
        except (BlockingIOError, PermissionError):  # another's
            time.sleep(0.005)
        except OSError:  # a file system without locks
            return False
    return False


@functools.cache
def _lock_file():
    """Open as long as the process lives: to close it would give up all its locks."""
    try:
        return os.open(folder() / "deltajit.lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return None
