"""Run one command. Help, `list` and `show` answer without importing torch."""

from __future__ import annotations

import errno
import os
import re
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper

from spearshield.cli.parser import parser
from spearshield.cli.values import one_line
from spearshield.progress import Interrupted

USAGE, FAILED, STOPPED = 2, 1, 130
WITHOUT_TORCH = ("list", "show")
MISTAKES = (
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)
"""Errors of the operating system that follow from what the user named."""

FAULT = "an error that was not expected; please report it, with the lines above"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. A user's mistake is one line, no traceback."""
    words = sys.argv[1:] if arguments is None else [*arguments]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # where a terminal knows few characters
    options = parser().parse_args(words)
    try:
        home = "catalogue" if options.command in WITHOUT_TORCH else "commands"
        commands = import_module(f"spearshield.cli.{home}")
        command = getattr(commands, f"do_{options.command.replace('-', '_')}")
        if threads := getattr(options, "threads", None):
            import_module("torch").set_num_threads(threads)
        with recorded(words):
            status = int(command(options) or 0)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (Exception, KeyboardInterrupt) as error:
        if options.debug:
            raise
        status, message = outcome(error)
        if message == FAULT:
            traceback.print_exc()
        print(f"spearshield {options.command}: {one_line(message)}", file=sys.stderr)  # noqa: T201
        return status


def outcome(error: BaseException) -> tuple[int, str]:
    """The exit status and the message of a command that ended with an error."""
    if isinstance(error, KeyboardInterrupt):
        return STOPPED, "interrupted; saved files are complete, run it again to resume"
    if isinstance(error, Interrupted):
        return STOPPED, str(error)
    if isinstance(error, OSError):
        named = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        full = f"the disk is full ({error}); files already saved are whole"
        message = full if error.errno == errno.ENOSPC else named
        mistake = isinstance(error, MISTAKES) or error.errno == errno.ENAMETOOLONG
        return USAGE if mistake else FAILED, message
    if isinstance(error, ValueError):
        return USAGE, str(error)
    if isinstance(error, MemoryError) or re.search("(out of|allocate) memory", str(error)):
        remedy = "use fewer or smaller images, a smaller --batch-size, or a narrower network"
        return FAILED, f"there is not enough memory; {remedy} ({error})"
    return FAILED, FAULT


@contextmanager
def recorded(words: Sequence[str]) -> Iterator[None]:
    """Rows that are measured inside the block record the command line."""
    from spearshield.judging.provenance import command  # noqa: PLC0415 - only where a command runs

    token = command.set(shlex.join(["spearshield", *words]))
    try:
        yield
    finally:
        command.reset(token)
