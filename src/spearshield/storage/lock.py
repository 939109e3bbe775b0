"""The lock of a folder, so that two processes do not write to it at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

FILE = ".lock"
WAIT = 2.0
"""Seconds to wait for another process."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Locks ``folder`` inside the block; creates the folder. One process can lock it repeatedly.

    The operating system releases the lock when the process ends, even after a crash. The empty file
    of the lock stays.

    Raises:
        ValueError: Another process still holds the folder after :data:`WAIT` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(folder / FILE, timeout=WAIT, is_singleton=True).acquire()
    except Timeout as error:
        raise ValueError(
            f"{folder} is in use by another process; wait until it has ended, or choose another "
            "folder (--out)"
        ) from error
    with held:
        yield
