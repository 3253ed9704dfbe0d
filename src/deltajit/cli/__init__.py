"""The command line: ``deltajit demo``, ``compare``, ``info``, ``playground``, ``warmup``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Optional packages that commands need, and the extra that each comes with.
EXTRAS = {"sklearn": "demo", "matplotlib": "demo", "threadpoolctl": "demo", "bokeh": "playground"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command and its options; by default those of this process.

    Returns
    -------
    int
        Exit status: 0, 1 if an optional package is missing, 2 if `info` was asked for a wrong plan
        or the playground can't be served.

    Raises
    ------
    SystemExit
        There is no such command or option, or help was asked for.
    """
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (TypeError, ValueError) as error:
        if options.command != "info":
            raise
        print(error, file=sys.stderr)
        return 2
    except ModuleNotFoundError as missing:
        extra = EXTRAS.get((missing.name or "").split(".")[0])
        if extra is None:
            raise
        print(
            f"deltajit {options.command} needs {missing.name}: pip install 'deltajit[{extra}]'",
            file=sys.stderr,
        )
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deltajit", description="Fast gradients of MLPs.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="train on handwritten digits, check, time, plot")
    demo.add_argument("--figure", type=Path, default=Path("deltajit-demo.png"), metavar="PATH")
    compare = commands.add_parser("compare", help="every kernel against the NumPy reference")
    compare.add_argument("--json", action="store_true", help="for machines")
    info = commands.add_parser("info", help="CPU, lanes, threads, cache, versions; or a plan")
    info.add_argument(
        "--plan", metavar="SIZES", help="such as 784,128,10: the tiles of its products"
    )
    info.add_argument("--kernels", action="store_true", help="where the code of each comes from")
    info.add_argument("--batch", type=int, default=64, help="samples a step, for --plan")
    info.add_argument("--dtype", default="float32", help="for --plan")
    playground = commands.add_parser("playground", help="watch a network learn, in the browser")
    playground.add_argument("--port", type=_port, default=5100, help="0 is any that is free")
    playground.add_argument("--no-browser", action="store_true", help="only print the address")
    playground.add_argument("--address", default="127.0.0.1", help="0.0.0.0 lets others in")
    playground.add_argument("--token", metavar="WORD", help="what others must know to get in")
    warmup = commands.add_parser("warmup", help="compile all kernels now, for images and CI")
    warmup.add_argument("--dtype", choices=("float32", "float64", "all"), default="all")
    return parser


def _port(text: str) -> int:
    """Read a port's number."""
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"a port is 0 to 65535, not {port}")
    return port


def _run(options: argparse.Namespace) -> int:
    # Imported here, since a command must not need packages that only another one uses.
    if options.command == "demo":
        from deltajit.cli import demo

        demo.run(options.figure)
    elif options.command == "compare":
        from deltajit.cli import compare

        compare.run(options.json)
    elif options.command == "playground":
        from deltajit.playground import server

        return server.run(options.port, options.address, options.token, not options.no_browser)
    elif options.command == "warmup":
        from deltajit.cli import warmup

        warmup.run(options.dtype)
    elif options.plan:
        from deltajit.cli import plan

        plan.run(options.plan, options.batch, options.dtype)
    else:
        from deltajit.cli import info

        info.run(options.kernels)
    return 0
