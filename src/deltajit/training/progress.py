"""Show a progress bar, and time epochs; both clocks stop while kernels are compiled."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

from deltajit.kernels import compiler


def clock() -> float:
    """Return the seconds since some moment, without those that this thread waited for kernels."""
    return time.perf_counter() - float(compiler.seconds_waited())


@contextlib.contextmanager
def progress_bar(
    total: int, progress: bool = True, done: int = 0, unit: str = "epoch"
) -> Iterator[Any]:
    """Show a progress bar; a line that deltajit logs takes its place, and the bar moves below."""
    from tqdm import tqdm  # 10 ms, which a first gradient need not wait for

    disable = None if progress else True  # None: tqdm shows it if there is a terminal
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
    """Draw a bar with one more epoch done, followed by these numbers."""
    waited = compiler.seconds_waited()
    bar.start_t += waited - bar.waited
    bar.last_print_t += waited - bar.waited
    bar.waited = waited
    bar.set_postfix(numbers, refresh=False)
    bar.update()
