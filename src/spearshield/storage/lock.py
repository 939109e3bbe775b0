"""A lock of a folder, so that two processes do not write to it at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

FILE = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds ``folder`` for this process, which may enter several times; creates the folder.

    The system releases the lock if the process ends in any way.

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
