"""How long jobs tell how far they are; :mod:`spearshield.cli.progress_bars` shows it as bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

Bar: TypeAlias = Callable[[int, Mapping[str, float]], None]
"""Called with the amount done so far and the latest values."""

Track: TypeAlias = Callable[[str, int], Bar]
"""Called with the title and the length of a job."""


def untracked(title: str, total: int) -> Bar:  # noqa: ARG001
    """Shows no progress."""
    return lambda done, values: None
