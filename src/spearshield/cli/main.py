"""Run one command. Help, `list` and `show` answer without importing torch."""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper

from spearshield.cli.parser import parser

USAGE, FAILED, STOPPED = 2, 1, 130
WITHOUT_TORCH = ("list", "show")


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
        with recorded(words):
            return int(command(options) or 0)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return _fail(
            options, "interrupted; saved files are complete, run it again to resume", STOPPED
        )
    except (ValueError, FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        return _fail(options, str(error), USAGE)
    except OSError as error:
        full = error.errno == errno.ENOSPC
        message = f"the disk is full ({error}); files already saved are whole" if full else error
        return _fail(options, str(message), FAILED)
    except Exception as error:
        if type(error).__name__ != "Interrupted":
            raise
        return _fail(options, str(error), STOPPED)


@contextmanager
def recorded(words: Sequence[str]) -> Iterator[None]:
    """Rows that are measured inside the block record the command line."""
    from spearshield.judging.provenance import command  # noqa: PLC0415 - only where a command runs

    token = command.set(shlex.join(["spearshield", *words]))
    try:
        yield
    finally:
        command.reset(token)


def _fail(options: argparse.Namespace, message: str, status: int) -> int:
    if options.debug:
        raise  # noqa: PLE0704 - only called while an exception is handled
    line = " ".join(message.split())
    print(f"spearshield {options.command}: {line}", file=sys.stderr)  # noqa: T201
    return status
