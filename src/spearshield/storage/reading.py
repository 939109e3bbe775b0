"""The bytes and the JSON values of files that may come from anyone. Imports no torch.

A file is bounded before it is read, and JSON text before it is parsed.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any, NoReturn

LARGEST_JSON = 32 << 20
"""Largest size of a JSON file, in bytes."""

DEEPEST_JSON = 100
"""Largest number of lists and objects inside each other."""

_INTEGERS = range(-(2**63), 2**63)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.|\\\Z)*(?:"|\Z)|([\[{])|([\]}])', re.DOTALL)


def check_file(path: Path, largest: int) -> int:
    """The size of a regular file of at most ``largest`` bytes, in bytes.

    Raises:
        FileNotFoundError: There is no such file; names the folder in which it was looked for.
        ValueError: It is a folder, a pipe or a device, it is too large, or ``path`` is no path.
        OSError: It cannot be opened, for example because of its permissions.
    """
    try:
        found = path.stat()
    except FileNotFoundError as error:
        missing = f"there is no {path}; looked in {path.absolute().parent}"
        raise FileNotFoundError(missing) from error
    except NotADirectoryError as error:
        raise ValueError(f"{path} is below a file, not a folder") from error
    except ValueError as error:
        raise ValueError(f"{shortened(path)!r} is not a path: {error}") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if stat.S_ISDIR(found.st_mode):
        raise ValueError(f"{path} is a folder; name a file")
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is a pipe or a device; name a file")
    if found.st_size > largest:
        raise ValueError(f"{path} has {found.st_size:,} bytes, more than {largest:,}")
    return found.st_size


def file_bytes(path: Path, largest: int) -> bytes:
    """The content of a regular file.

    Raises:
        FileNotFoundError, ValueError, OSError: As in :func:`check_file`.
    """
    size = check_file(path, largest)
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise _unreadable(path, error) from error


def read_json(path: Path) -> Any:
    """The value in a JSON file; see :func:`parse_json`.

    Raises:
        FileNotFoundError, ValueError, OSError: As in :func:`check_file` and :func:`parse_json`;
            names the file.
    """
    content = file_bytes(path, LARGEST_JSON)
    try:
        return parse_json(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not JSON: it is not text in UTF-8") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; see :func:`read_json`.

    Raises:
        FileNotFoundError, ValueError, OSError: As in :func:`read_json`; or the value is no object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a JSON {type(value).__name__}; it must hold an object")
    return value


def parse_json(text: str) -> Any:
    """The value of JSON text.

    Raises:
        ValueError: The text is not JSON, is nested deeper than :data:`DEEPEST_JSON`, repeats a key,
            or holds a number that is not finite, an integer of more than 64 bits or half of a
            surrogate pair; gives the reason.
    """
    _check_depth(text)
    value = json.loads(
        text,
        object_pairs_hook=_object,
        parse_constant=_refuse_constant,
        parse_float=_float,
        parse_int=_int,
    )
    if "\\ud" in text.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("a text holds half of a surrogate pair") from error
    return value


def shortened(value: object, longest: int = 80) -> str:
    """A value as printable text on one line, cut to ``longest`` characters."""
    text = str(value)
    head = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:longest])
    return head + ("..." if len(text) > longest else "")


def _unreadable(path: Path, error: OSError) -> OSError:
    """The error of the operating system as one line that names the file."""
    if error.errno == errno.ELOOP:
        return OSError(f"{path} is a symbolic link that leads back to itself")
    reason = os.strerror(error.errno) if error.errno else str(error)
    return type(error)(f"{shortened(path)} cannot be read: {reason.lower()}")


def _check_depth(text: str) -> None:
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[1]:
            depth += 1
        elif token[2]:
            depth -= 1
        if depth > DEEPEST_JSON:
            raise ValueError(f"its lists and objects are nested deeper than {DEEPEST_JSON}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {shortened(name)!r} occurs twice in one object")
        found[name] = value
    return found


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shortened(text)} is too large for a number")
    return number


def _int(text: str) -> int:
    if len(text) > 20 or int(text) not in _INTEGERS:
        raise ValueError(f"{shortened(text)} has more than 64 bits")
    return int(text)
