"""Files: written completely or not at all, and the error for those that cannot be read."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress

from deltajit.model import checks

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class FormatError(ValueError):
    """Report that a file is damaged, or was written by another program or a newer deltajit."""


def target_of(path: Path, name: str = "path") -> str:
    """Find the file that `replace` would write.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        An existing file or a new one.
    name : str
        What the caller calls the path, for errors.

    Returns
    -------
    str
        The real path, with symbolic links resolved.

    Raises
    ------
    TypeError
        The argument is no path.
    OSError
        A file cannot be written there.
    """
    given = checks.path(path, name)
    target = os.path.realpath(given)  # a symbolic link stays, its target is replaced
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{name} must be in a folder that exists, got {given!r}")
    if os.path.exists(target) and not os.path.isfile(target):
        raise OSError(f"{name} must be a file or new, got a folder or device: {given!r}")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{name} must be in a folder that may be written to, got {given!r}")
    return target


def replace(path: Path, content: bytes) -> None:
    """Write a file; after any failure the old one is there unchanged.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        The file, which need not exist.
    content : bytes
        All of its content.

    Raises
    ------
    OSError
        The file cannot be written.
    """
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
    with suppress(OSError):  # flush the new name to the disk too, where folders can be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
