"""The parser of the command line, and the values of options; a mistake is one line on stderr."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from spearshield import spelling
from spearshield.ranges import SEEDS

LONGEST = 600
"""Characters of a message; the middle of a longer one is left out."""

WIDEST = 4096
"""The most pixels of a side that ``--size`` may ask for."""

MANY = 1_000_000
"""The most classes."""


class Parser(argparse.ArgumentParser):
    """A parser that names the closest names, and refuses empty values."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and one line."""
        self.exit(2, f"{self.prog}: {one_line(message)}\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words: Sequence[str] = () if self._subparsers else args
        for before, word in zip(("", *words), words, strict=False):
            if not word.strip():
                self.error(f"{before if before.startswith('-') else 'an argument'} is empty")
            if re.fullmatch(r"--[a-z-]+=\s*", word):
                self.error(f"{word.partition('=')[0]} is empty; give it a value, or leave it out")
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            options = [name for name in self._option_string_actions if name.startswith("--")]
            named = rest[0].partition("=")[0]
            self.error(
                f"no option {named!r}; {spelling.closest(named, options)}"
                if named.startswith("-")
                else f"no use for {named!r}"
            )
        return found, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            kind = action.dest.replace("_", " ")
            said = f"no {kind} {value!r}; {spelling.closest(str(value), map(str, action.choices))}"
            raise argparse.ArgumentError(action, said)


def one_line(message: object) -> str:
    """A message without line breaks, and without its middle where it is very long."""
    line = " ".join(str(message).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"


def number(text: str) -> float:
    """A number, or a fraction such as 8/255.

    Raises:
        argparse.ArgumentTypeError: It is neither.
    """
    value: float = _checked(spelling.number, text)
    return value


def positive(text: str) -> float:
    """A number above 0, or such a fraction.

    Raises:
        argparse.ArgumentTypeError: It is not.
    """
    value = number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def share(text: str) -> float:
    """A number from 0 to 1.

    Raises:
        argparse.ArgumentTypeError: It is not.
    """
    value = number(text)
    if not 0 <= value <= 1:
        percent = f"; for {text} % write {value / 100:g}" if 1 < value <= 100 else ""
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 1{percent}")
    return value


def numbers(text: str) -> list[float]:
    """Numbers, separated by commas."""
    return [number(part) for part in text.split(",")]


def whole(least: int, most: int) -> Callable[[str], int]:
    """Whole numbers from ``least`` to ``most``."""

    def value(text: str) -> int:
        found: int = _checked(spelling.whole, text)
        if not least <= found <= most:
            raise argparse.ArgumentTypeError(f"must be from {least:,} to {most:,}, got {text}")
        return found

    return value


def size(text: str) -> list[int]:
    """Height and width in pixels, as in 32x32.

    Raises:
        argparse.ArgumentTypeError: It is neither that nor one number for both.
    """
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write 32x32")
    return [whole(1, WIDEST)(part) for part in (parts * 2)[:2]]


def word(text: str) -> str:
    """A choice in the spelling of the package."""
    return text.lower().replace("-", "_")


def device(text: str) -> str:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        argparse.ArgumentTypeError: It is none of them.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", text.lower()):
        raise argparse.ArgumentTypeError(f"no device {text!r}; there are auto, cpu, cuda, cuda:N")
    return text.lower()


def folder(text: str) -> Path:
    """A folder that is there.

    Raises:
        argparse.ArgumentTypeError: There is none.
    """
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return Path(text)


seed = whole(0, SEEDS - 1)
images = whole(0, 10**9)
threads = whole(1, os.cpu_count() or 1)


def _checked(read: Callable[[str], Any], text: str) -> Any:
    """The value that ``read`` finds in a text, with its error in words of :mod:`argparse`."""
    try:
        return read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
