"""Exit statuses that every command of ours shares."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable

DONE, FAILED, WRONG_USAGE, WARNED, INTERRUPTED = 0, 1, 2, 3, 130


def exit_status(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """`run`, with the status of a shell where the user interrupts it or closes the pipe that it writes to."""

    @functools.wraps(run)
    def guarded(arguments: argparse.Namespace) -> int:
        try:
            return run(arguments)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:
            # What is still buffered has nowhere to go; without this Python would raise again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED

    return guarded


def failed(why: str) -> int:
    """Print `why` on stderr and return the status of a failure."""
    print(f"ssl-mi: {why}", file=sys.stderr)
    return FAILED
