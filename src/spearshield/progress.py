"""The progress of long jobs; :mod:`spearshield.experiment.progress_bars` draws it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

Latest: TypeAlias = Mapping[str, float | None]
"""The latest values of a job, such as losses; ``None`` for the name of the part in progress."""

ProgressBar: TypeAlias = Callable[[int, Latest], None]
"""Called with the amount of work done so far and with the latest values."""

Progress: TypeAlias = Callable[[str, int], ProgressBar]
"""Called with the title and the total amount of work of a job; returns the job's bar."""


class Interrupted(Exception):  # noqa: N818 - an event, not a fault
    """A signal stopped a long job. Its state has been saved."""


def no_bar(done: int, values: Latest) -> None:
    """A bar that shows nothing."""


def no_progress(title: str, total: int) -> ProgressBar:  # noqa: ARG001
    """The bar of a job whose progress is not shown."""
    return no_bar
