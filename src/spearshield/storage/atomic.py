"""Atomic writes: a file or folder is whole or absent. Imports no torch."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file such that it has either its old or its new content, even after a crash.

    The content is written to a temporary file in the same folder, flushed to disk and renamed; the
    entry of the folder is flushed as well.

    Raises:
        OSError: For example, the disk is full; an earlier file at ``path`` is kept whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # some file systems refuse to flush a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def refuse_existing(target: Path) -> None:
    """Raise if there is a file or a folder with content at a path.

    Raises:
        ValueError: Names the path.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ValueError(f"{target} exists already; name a new one")


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder that becomes ``target`` after the block; nothing remains if the block fails.

    Raises:
        ValueError: See :func:`refuse_existing`.
    """
    refuse_existing(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as beside:
        made = Path(beside) / "whole"
        made.mkdir()
        yield made
        if target.is_dir():
            target.rmdir()
        made.rename(target)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically.

    Raises:
        ValueError: ``value`` contains NaN or an infinity, which JSON does not have; names it.
    """
    for name, number in _numbers(value):
        if not math.isfinite(number):
            raise ValueError(f"{name} is {number}, which {path.name} cannot hold; give a number")
    write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """The floats in a JSON value, each with its dotted name."""
    if isinstance(value, float):
        yield name or "the value", value
    parts = value.items() if isinstance(value, dict) else ()
    for key, part in enumerate(value) if isinstance(value, (list, tuple)) else parts:
        yield from _numbers(part, f"{name}.{key}".strip("."))
