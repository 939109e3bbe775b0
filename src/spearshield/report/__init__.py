"""Rows and pictures laid out as one HTML page and as Markdown. Computes no metric, needs no torch.

``report.html`` is self-contained: styles, charts and pictures are inside it, and it asks no network
for anything. ``report.md`` shows the same tables and links to picture sheets beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spearshield.judging import results
from spearshield.judging.results import Row
from spearshield.report import markdown, page, runs
from spearshield.report.layout import arrange
from spearshield.storage.atomic import write_atomically, write_json


def write_report(sources: Sequence[Path], folder: Path) -> None:
    """Write ``report.html``, ``report.md`` and its picture sheets to ``folder``.

    Of several sources, their rows together are written there as well, as ``results.json``.

    Args:
        sources: Run folders, or files like ``results.json``; the latter have rows but no pictures.

    Raises:
        FileNotFoundError: A source is not there.
        ValueError: A source cannot be read or holds no rows, or its rows would be overwritten.
    """
    found = runs.read(sources)
    several = len(found) > 1
    joint = (folder / runs.RESULTS).resolve()
    if several and ((folder / runs.RECIPE).exists() or joint in {run.path for run in found}):
        raise ValueError(
            f"a joint report would overwrite the rows of the run in {folder}; "
            "give it a folder of its own"
        )
    rows = runs.joined(found)
    defences = arrange(rows)
    for name, content in markdown.sheets(found).items():
        write_atomically(folder / "pictures" / name, content)
    write_atomically(folder / "report.md", markdown.document(found, defences).encode())
    write_atomically(folder / "report.html", page.document(found, defences).encode())
    if several:
        write_json(folder / runs.RESULTS, results.to_json(rows))


def merge(sources: Sequence[Path]) -> list[Row]:
    """All rows of all sources, in their order; a row that is there twice counts once.

    Raises:
        FileNotFoundError: A source is not there.
        ValueError: A source cannot be read or holds no rows.
    """
    return runs.joined(runs.read(sources))
