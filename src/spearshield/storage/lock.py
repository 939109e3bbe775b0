"""The lock of a folder, so that two processes do not write to it at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

FILE = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Locks ``folder`` inside the block; creates the folder. One process can lock it repeatedly.

    The operating system releases the lock when the process ends, even after a crash.

    Raises:
        ValueError: Another process holds the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(folder / FILE, timeout=0, is_singleton=True).acquire()
    except Timeout as error:
        raise ValueError(
            f"{folder} is in use by another process; wait until it has ended, or choose another "
            "--out"
        ) from error
    with held:
        yield
