"""Files: written as a whole or not at all, and an error for those that are not ours."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress

Path = str | os.PathLike[str]


class FormatError(ValueError):
    """A file is not what it should be: damaged, made by something else, or by a newer deltajit."""


def target_of(path: Path, name: str = "path") -> str:
    """Find the file that `replace` would make or replace; raise OSError where it can't."""
    target = os.path.realpath(os.fspath(path))  # a link stays one, its target is replaced
    folder, given = os.path.dirname(target), repr(os.fspath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{name} must be in a folder that exists, got {given}")
    if os.path.exists(target) and not os.path.isfile(target):
        raise OSError(f"{name} must be a file or new, got a folder or device: {given}")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{name} must be in a folder that may be written to, got {given}")
    return target


def replace(path: Path, content: bytes) -> None:
    """Make `content` the file at `path`: after any failure the old file is there as it was."""
    target = target_of(path)
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".deltajit-{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    with suppress(OSError):  # where folders can be opened, the new name reaches the disk too
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
