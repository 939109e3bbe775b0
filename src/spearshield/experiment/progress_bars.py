"""Progress bars of long jobs, on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich import progress as bars_of_rich
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeRemainingColumn,
)

from spearshield.arguments import switch
from spearshield.progress import Latest, Progress, ProgressBar, no_progress


@contextmanager
def progress_bars(shown: bool = True) -> Iterator[Progress]:
    """Opens a bar on stderr for each job inside the block; none with ``shown=False``.

    Raises:
        ValueError: ``shown`` is neither ``True`` nor ``False``.
    """
    if not switch("progress", shown):
        yield no_progress
        return
    columns = (
        TextColumn("{task.description:<36}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[values]}"),
    )
    display = bars_of_rich.Progress(*columns, console=Console(stderr=True))

    def progress(title: str, total: int) -> ProgressBar:
        display.start()
        job = display.add_task(title, total=total, values="")

        def bar(done: int, values: Latest) -> None:
            first = [*values.items()][:1]
            text = "".join(name if v is None else f"{name} {v:.3g}" for name, v in first)
            latest: dict[str, Any] = {"values": text} if text else {}
            display.update(job, completed=done, **latest)

        return bar

    try:
        yield progress
    finally:
        if display.tasks:  # stopped before it started, it would print an empty line
            display.stop()
