"""Files: written as a whole or not at all, and an error for those that are not ours."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


class FormatError(ValueError):
    """A file is not what it should be: damaged, or made by something else."""


def replace(path: Path, content: bytes) -> None:
    """Write a file; whatever happens, what is under `path` is all of the old one or of the new."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
