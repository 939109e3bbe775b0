"""How long jobs report their progress; `experiment.progress_bars` draws it as bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

ProgressBar: TypeAlias = Callable[[int, Mapping[str, float]], None]
"""Called with the amount of work done so far, and the latest values, such as losses."""

Progress: TypeAlias = Callable[[str, int], ProgressBar]
"""Called with the title and the total amount of a job; returns the job's bar."""


def no_bar(done: int, values: Mapping[str, float]) -> None:
    """A bar that shows nothing."""


def no_progress(title: str, total: int) -> ProgressBar:  # noqa: ARG001
    """A progress that shows nothing."""
    return no_bar
