"""The progress bar, and a clock for epochs: both stand still while kernels are compiled."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

from deltajit.kernels import compiler


def clock() -> float:
    """Seconds since some moment, without those that this thread waited for kernels."""
    return time.perf_counter() - float(compiler.seconds_waited())


@contextlib.contextmanager
def progress_bar(
    total: int, progress: bool = True, done: int = 0, unit: str = "epoch"
) -> Iterator[Any]:
    """A progress bar; disable=None: tqdm shows it only where there is a terminal.

    A line that deltajit logs takes its place, and the bar is drawn below.
    """
    from tqdm import tqdm  # 10 ms, which a first gradient need not wait for

    disable = None if progress else True
    with tqdm(total=total, initial=done, unit=unit, disable=disable) as bar:

        def clear(record: logging.LogRecord) -> bool:
            bar.clear()
            return True

        bar.waited = compiler.seconds_waited()
        compiler.logger.addFilter(clear)
        try:
            yield bar
        finally:
            compiler.logger.removeFilter(clear)


def advance(bar: Any, numbers: Mapping[str, str]) -> None:
    """Draw a bar that is shown with one more epoch done, and these numbers behind it."""
    waited = compiler.seconds_waited()
    bar.start_t += waited - bar.waited
    bar.last_print_t += waited - bar.waited
    bar.waited = waited
    bar.set_postfix(numbers, refresh=False)
    bar.update()
