"""Memory of the process."""

from __future__ import annotations

import ctypes


def give_back_memory() -> None:
    """Give freed memory back to the operating system, where the C library is glibc.

    Batches of several sizes leave gaps that glibc keeps, so that the memory of a long evaluation
    would grow, see https://man7.org/linux/man-pages/man3/malloc_trim.3.html. Takes milliseconds.
    """
    if _trim is not None:
        _trim(0)


try:
    _trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
except (OSError, TypeError):  # Windows has no such handle
    _trim = None
