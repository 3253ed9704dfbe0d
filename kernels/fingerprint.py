"""Which sources these kernels are of, by a hash of their text: code of others is never taken."""

import hashlib
import importlib.resources


def _sources(folder, place=""):
    """Return (path from here, content) of each source file in a folder and its subfolders.

    A folder may be one in a zip: what `importlib.resources` gives reads both.
    """
    for entry in folder.iterdir():
        name = f"{place}{entry.name}"
        if entry.is_dir():
            yield from _sources(entry, f"{name}/")
        elif name.endswith(".py"):
            yield name, entry.read_bytes()


def _fingerprint():
    """Return the hash of every source file of this package.

    None where they can't be read, as in a package of compiled modules alone.
    """
    digest = hashlib.sha256(__package__.encode())
    try:
        sources = sorted(_sources(importlib.resources.files(__package__)))
    except (OSError, TypeError):  # a loader that reads no folders raises either
        return None
    for name, content in sources:
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest() if sources else None


SOURCES = _fingerprint()
