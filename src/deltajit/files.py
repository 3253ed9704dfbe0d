"""Files: written as a whole or not at all, and an error for those that are not ours."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress

Path = str | os.PathLike[str]


class FormatError(ValueError):
    """A file is not what it should be: damaged, made by something else, or by a newer deltajit."""


def replace(path: Path, content: bytes) -> None:
    """Make `content` the file at `path`: after any failure the old file is there as it was."""
    target = os.path.realpath(os.fspath(path))  # a link stays one, its target is replaced
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"path must be in a folder that exists, got {os.fspath(path)!r}")
    if os.path.exists(target) and not os.path.isfile(target):
        raise OSError(f"path must be a file or new, got a folder or device: {os.fspath(path)!r}")
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
