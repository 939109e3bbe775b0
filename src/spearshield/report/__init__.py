"""Reports: the rows and pictures of runs as one HTML page and as Markdown. Imports no torch.

``report.html`` is self-contained: it holds its styles, charts and pictures, and loads nothing from
the network. ``report.md`` shows the same content and links to picture sheets beside it. Both are
rendered from one value, :class:`spearshield.report.document.Report`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spearshield.judging import results
from spearshield.judging.results import Row
from spearshield.report import render, runs
from spearshield.report.defences import group
from spearshield.report.document import document
from spearshield.storage.atomic import write_atomically, write_json


def write_report(sources: Sequence[Path], folder: Path) -> None:
    """Write ``report.html``, ``report.md`` and the picture sheets to ``folder``.

    With several sources, ``results.json`` with all their rows is written as well.

    Args:
        sources: Run folders, or files such as ``results.json``, which have rows but no pictures.

    Raises:
        FileNotFoundError: A source does not exist.
        ValueError: A source cannot be read or has no rows, or its rows would be overwritten.
    """
    found = runs.read(sources)
    several = len(found) > 1
    joint = (folder / runs.RESULTS).resolve()
    if several and ((folder / runs.RECIPE).exists() or joint in {run.path for run in found}):
        raise ValueError(
            f"a report on several runs would overwrite the rows of the run in {folder}; "
            "give another folder"
        )
    rows = runs.joined(found)
    report = document(found, group(rows))
    for plates in report.plates.values():
        for plate in plates:
            write_atomically(folder / "pictures" / plate.sheet, plate.picture.sheet())
    write_atomically(folder / "report.md", render.markdown(report).encode())
    write_atomically(folder / "report.html", render.html(report).encode())
    if several:
        write_json(folder / runs.RESULTS, results.to_json(rows))


def merge(sources: Sequence[Path]) -> list[Row]:
    """All rows of all sources in order; a row that occurs twice counts once.

    Raises:
        FileNotFoundError: A source does not exist.
        ValueError: A source cannot be read or has no rows.
    """
    return runs.joined(runs.read(sources))
