"""Atomic writes: a file is whole or absent. Imports no torch."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers, and a crash, find the old or the new content, never a part.

    The content is written to a temporary file in the same folder, flushed to disk and renamed; the
    entry of the folder is flushed as well.

    Raises:
        OSError: Such as a full disk; an earlier file at ``path`` is kept whole.
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


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically.

    Raises:
        ValueError: It holds NaN or an infinity, which JSON does not have.
    """
    write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())
