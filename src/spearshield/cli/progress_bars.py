"""Progress bars of long jobs, on stderr."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from spearshield.progress import Bar, Track


@contextmanager
def bars() -> Iterator[Track]:
    """Shows a bar for each job that is tracked inside the block, with its first loss."""
    columns = (
        TextColumn("{task.description:<36}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[values]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def track(title: str, total: int) -> Bar:
            job = progress.add_task(title, total=total, values="")

            def bar(done: int, values: Mapping[str, float]) -> None:
                text = "  ".join(f"{n} {v:.3g}" for n, v in [*values.items()][:1])
                shown: dict[str, Any] = {"values": text} if text else {}
                progress.update(job, completed=done, **shown)

            return bar

        yield track
