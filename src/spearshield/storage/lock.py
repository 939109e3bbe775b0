"""The lock of a folder, so that two processes do not write to it at the same time."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from spearshield.storage.reading import shortened

FILE = ".lock"
WAIT = 2.0
"""Seconds to wait for another process."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Locks ``folder`` inside the block; creates the folder. One process can lock it repeatedly.

    The operating system releases the lock when the process ends, even after a crash. The file of
    the lock stays, with the number of the process that had it last.

    Raises:
        ValueError: Another process still holds the folder after :data:`WAIT` seconds; names the
            process. Or the file of the lock is not a regular file.
        OSError: The folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ValueError(f"{path} is not a regular file; delete it")
    try:
        held = FileLock(path, timeout=WAIT, is_singleton=True).acquire()
    except Timeout as error:
        raise ValueError(
            f"{folder} is in use by another process{_holder(path)}; wait until it has ended, or "
            "choose another folder (--out)"
        ) from error
    except PermissionError as error:
        raise PermissionError(
            f"{folder} cannot be written to: permission denied; choose another folder (--out)"
        ) from error
    with held:
        with contextlib.suppress(OSError):  # Windows locks the content as well
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield


def _holder(path: Path) -> str:
    """The process that holds a lock, in brackets; empty if it is unknown."""
    try:
        text = path.read_bytes()[:200].decode()
    except (OSError, UnicodeDecodeError):
        return ""
    return f" ({shortened(text)})" if text else ""
