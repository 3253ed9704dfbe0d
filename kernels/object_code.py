"""Object code as it lies on disk: a line that says what it is, a digest, and the code."""

import functools
import hashlib
import logging
import warnings

HEADER = b"deltajit object code 1\n"
START = len(HEADER) + hashlib.sha256().digest_size
AGAIN = "kernels are compiled again in every process that needs them"

logger = logging.getLogger("deltajit")


def packed(code):
    """Return what is written of object code."""
    return HEADER + hashlib.sha256(code).digest() + code


def unpacked(data):
    """Return the object code in what was read; None if it is damaged, or something else."""
    code = data[START:]
    return code if data[:START] == HEADER + hashlib.sha256(code).digest() else None


@functools.cache
def warn_once(problem, consequence=AGAIN):
    """Say why code on disk is no help; never an error, since jitted code may be waiting for it."""
    message = f"deltajit: {problem}; {consequence}"
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    except RuntimeWarning:
        logger.warning(message)
