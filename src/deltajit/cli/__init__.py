"""The command line: ``deltajit demo``, ``compare``, ``info``, ``playground``, ``warmup``.

A command prints text for people, and returns what it found out; ``--json`` prints that instead.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from deltajit.io import files
from deltajit.model import checks
from deltajit.version import VERSION

T = TypeVar("T")

# Optional packages that commands need, and the extra that each comes with.
EXTRAS = {"sklearn": "demo", "matplotlib": "demo", "threadpoolctl": "demo", "bokeh": "playground"}
EXTRAS["shtab"] = "completion"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command and its options; by default those of this process.

    Returns
    -------
    int
        Exit status: 0, 1 if an optional package is missing or `compare` found an error that is too
        large, 2 if the playground can't be served.

    Raises
    ------
    SystemExit
        An argument is wrong (status 2), or help, the version or a completion was asked for.
    """
    parser = _parser()
    try:
        options = parser.parse_args(arguments)
        if options.command == "info" and not options.plan and (options.batch or options.dtype):
            parser.error("info: --batch and --dtype mean something with --plan SIZES only")
        return _run(options)
    except ModuleNotFoundError as missing:
        extra = EXTRAS.get((missing.name or "").split(".")[0])
        if extra is None:
            raise
        print(
            f"deltajit needs {missing.name} for this: pip install 'deltajit[{extra}]'",
            file=sys.stderr,
        )
        return 1


class _Completion(argparse.Action):
    """Print a shell's completion script, which shtab writes, and exit."""

    def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> None:
        import shtab

        print(shtab.complete(parser, shell=given[1]))
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deltajit", description="Fast gradients of MLPs.")
    parser.add_argument("--version", action="version", version=f"deltajit {VERSION}")
    parser.add_argument(
        "--print-completion", action=_Completion, choices=("bash", "zsh", "tcsh"),
        help="print a script that completes commands and options",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True)
    reports = argparse.ArgumentParser(add_help=False)
    reports.add_argument("--json", action="store_true", help="print JSON, for machines")

    demo = commands.add_parser(
        "demo", parents=[reports], help="train on handwritten digits, check, time, plot"
    )
    demo.add_argument(
        "--figure", type=_checked(_figure), default="deltajit-demo.png", metavar="PATH",
        help="file for the picture (default: %(default)s)",
    )  # fmt: skip
    commands.add_parser(
        "compare",
        parents=[reports],
        help="every kernel against the NumPy reference; exit status 1 if one is off",
    )
    info = commands.add_parser(
        "info", parents=[reports], help="CPU, lanes, threads, cache, versions; or a plan"
    )
    info.add_argument(
        "--plan", type=_checked(_sizes), metavar="SIZES",
        help="such as 784,128,10: the tiles of its products",
    )  # fmt: skip
    info.add_argument(
        "--batch", type=_checked(_batch), help="samples a step, for --plan (default: 64)"
    )
    info.add_argument(
        "--dtype", choices=("float32", "float64"), help="for --plan (default: float32)"
    )
    info.add_argument("--kernels", action="store_true", help="where the code of each comes from")
    playground = commands.add_parser("playground", help="watch a network learn, in the browser")
    playground.add_argument("--port", type=_checked(_port), default=5100, help="0: any free one")
    playground.add_argument("--no-browser", action="store_true", help="only print the address")
    playground.add_argument("--address", default="127.0.0.1", help="0.0.0.0 lets others in")
    playground.add_argument("--token", metavar="WORD", help="what others must know to get in")
    warmup = commands.add_parser(
        "warmup", parents=[reports], help="compile all kernels now, for images and CI"
    )
    warmup.add_argument("--dtype", choices=("float32", "float64", "all"), default="all")
    return parser


def _checked(convert: Callable[[str], T]) -> Callable[[str], T]:
    """Make a conversion's errors those of the command line."""

    def converted(text: str) -> T:
        try:
            return convert(text)
        except (TypeError, ValueError, OSError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return converted


def _figure(text: str) -> Path:
    """Check that matplotlib can write this file, before the work."""
    from matplotlib.backend_bases import FigureCanvasBase

    files.target_of(text, "the figure")
    kinds = FigureCanvasBase.get_supported_filetypes()
    if Path(text).suffix.lower().lstrip(".") not in kinds:
        raise ValueError(f"the figure must end in one of .{', .'.join(sorted(kinds))}; got {text}")
    return Path(text)


def _sizes(text: str) -> tuple[int, ...]:
    return checks.sizes([int(n) if n.isdigit() else n for n in text.split(",")])


def _batch(text: str) -> int:
    return checks.whole(int(text), "batch")


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError(f"a port is 0 to 65535, not {port}")
    return port


def _run(options: argparse.Namespace) -> int:
    """Run a command; return the exit status."""
    if options.command == "playground":
        from deltajit.playground import server

        return server.run(options.port, options.address, options.token, not options.no_browser)
    with contextlib.redirect_stdout(io.StringIO()) if options.json else contextlib.nullcontext():
        report = _report(options)
    if options.json:
        print(json.dumps(report, indent=1))
    return int(options.command == "compare" and not all(row["ok"] for row in report))


def _report(options: argparse.Namespace) -> Any:
    """Run a command that prints text; return what it found out, as JSON may hold it."""
    # Imported here, since a command must not need packages that only another one uses.
    if options.command == "demo":
        from deltajit.cli import demo

        return demo.run(options.figure)
    if options.command == "compare":
        from deltajit.cli import compare

        return compare.run()
    if options.command == "warmup":
        from deltajit.cli import warmup

        return warmup.run(options.dtype)
    if options.plan:
        from deltajit.cli import plan

        return plan.run(options.plan, options.batch or 64, options.dtype or "float32")
    from deltajit.cli import info

    return info.run(options.kernels)
