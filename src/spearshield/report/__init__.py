"""Reports: the rows and pictures of runs as one HTML page and as Markdown. Imports no torch.

``report.html`` is self-contained: it contains all styles, charts and pictures, and loads nothing
from the network. ``report.md`` shows the same content and links to picture sheets in the same
folder. Both are rendered from one value, :class:`spearshield.report.document.Report`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spearshield.judging import results
from spearshield.report import render, runs
from spearshield.report.defences import group
from spearshield.report.document import document
from spearshield.report.transfer import TRANSFER, write_transfer
from spearshield.storage.atomic import write_atomically, write_json


def write_report(sources: Sequence[Path], folder: Path) -> Path:
    """Write ``report.html``, ``report.md`` and the picture sheets to ``folder``; returns the page.

    With several sources, ``results.json`` with all their rows is written as well. A single source
    that is a ``transfer.json``, or its folder, gives the page of that matrix.

    Args:
        sources: Run folders, or files such as ``results.json``, which have rows but no pictures.

    Raises:
        FileNotFoundError: A source does not exist.
        ValueError: A source cannot be read or has no rows, its rows would be overwritten, one of
            several is a transfer matrix, or ``folder`` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; a report needs a folder")
    for source in sources:
        matrix = source / TRANSFER if source.is_dir() else source
        if matrix.name == TRANSFER and matrix.exists():
            if len(sources) > 1:
                raise ValueError(f"{source} holds a transfer matrix; report it alone")
            return write_transfer(matrix, folder)
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
            if features := plate.picture.features:
                write_atomically(folder / "pictures" / f"features.{plate.sheet}", features.png())
    pages = {"report.md": render.markdown(report), "report.html": render.html(report)}
    for name, page in pages.items():
        write_atomically(folder / name, page.encode(errors="backslashreplace"))
    if several:
        write_json(folder / runs.RESULTS, results.to_json(rows))
    return folder / "report.html"
