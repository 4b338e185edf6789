"""The one command: `ssl-mi COMMAND ...`, as is `python -m ssl_mi COMMAND ...`.

A command is a module with

    configure(parser)   adds its arguments, `description` and `epilog` to an argparse parser
    run(arguments)      does it, and returns the exit status

that imports nothing heavy where it stands, so that every --help answers at once. `train` alone brings a parser of its
own, Hydra's: its module has `main(argv)`.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

PROGRAM = "ssl-mi"


class Command(NamedTuple):
    """A subcommand: the module that does it, one line of help, whether it parses its own arguments."""

    module: str
    help: str
    own_parser: bool = False


COMMANDS = {
    "train": Command("ssl_mi.app.train", "train an encoder without labels, and evaluate it", own_parser=True),
    "estimate": Command("ssl_mi.information.apps.estimate", "estimate the mutual information of two files"),
    "estimators": Command("ssl_mi.information.apps.estimators", "what estimators there are, and which one when"),
    "benchmark": Command("ssl_mi.information.apps.benchmark", "estimators where the truth is known"),
    "staircase": Command("ssl_mi.information.apps.staircase", "variational bounds as the true information grows"),
    "canaries": Command("ssl_mi.app.canaries", "short runs that show whether objectives still learn"),
    "embed": Command("ssl_mi.app.embed", "encode a folder of images by a trained encoder"),
    "evaluate": Command("ssl_mi.app.evaluate", "judge any encoders, or features: probes, geometry, information"),
    "export": Command("ssl_mi.app.export", "write a trained encoder for use without ssl_mi"),
    "runs": Command("ssl_mi.app.runs", "list runs: state, headline figures, size on the disk"),
    "compare": Command("ssl_mi.app.compare", "compare runs: seeds pooled, differences, tables and a figure"),
    "report": Command("ssl_mi.app.report", "write the report of a run again: report.html, report.md"),
    "sweep": Command("ssl_mi.app.sweep", "one table and one picture of many runs"),
}

ABOUT = """\
Train encoders without labels, and measure in nats what two learned views share."""

EXAMPLES = """\
examples
  ssl-mi train                       an embedded data set, no download, about a minute
  ssl-mi estimate x.npy y.npy        row i of x and row i of y are one pair
  ssl-mi COMMAND --help              what a command takes, with examples"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The command and what follows it. Default: those of this process.

    Returns:
        The exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted; commands may have others.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    if not words:
        parser.print_help()
        return 0
    if words[0].startswith("-"):
        parser.parse_args(words)  # --help, --version, or a usage error
        parser.error(f"{words[0]} belongs after a command: {', '.join(COMMANDS)}")
    name, *rest = words
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f": did you mean '{near[0]}'?" if near else ""
        parser.error(f"there is no command '{name}'{hint}; there are: {', '.join(COMMANDS)}")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # parts of one's own are named by import path; they may lie here
    try:
        return _run(name, rest)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(name: str, words: Sequence[str]) -> int:
    command = COMMANDS[name]
    module = importlib.import_module(command.module)
    if command.own_parser:
        return module.main(words)
    parser = argparse.ArgumentParser(f"{PROGRAM} {name}", formatter_class=argparse.RawDescriptionHelpFormatter)
    module.configure(parser)
    others = ", ".join(other for other in COMMANDS if other != name)
    parser.epilog = "\n\n".join(filter(None, [parser.epilog, f"other commands of {PROGRAM}: {others}"]))
    return module.run(parser.parse_args(words))


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        PROGRAM,
        usage=f"{PROGRAM} COMMAND ...",
        description="\n".join([ABOUT, "", "commands", *lines]),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    return parser


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{PROGRAM} {version('ssl_mi')}"
    except PackageNotFoundError:
        return f"{PROGRAM}, not installed"


if __name__ == "__main__":
    sys.exit(main())
