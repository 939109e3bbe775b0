"""The sources of a report: the rows, pictures and recipe of each run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spearshield.judging import results
from spearshield.judging.results import Row
from spearshield.report import losses, pictures
from spearshield.report.losses import Losses
from spearshield.report.pictures import Picture
from spearshield.storage.reading import read_json

RESULTS = "results.json"
RECIPE = "recipe.json"


@dataclass(frozen=True)
class Run:
    """One source of a report.

    Args:
        name: The name of the folder; unique in a report.
        path: The file that holds the rows.
        recipe: Indented JSON; ``None`` if the source has no recipe.
        losses: The losses of its trainings.
    """

    name: str
    path: Path
    rows: tuple[Row, ...]
    pictures: tuple[Picture, ...]
    recipe: str | None
    losses: tuple[Losses, ...] = ()


def read(sources: Sequence[Path]) -> list[Run]:
    """The runs that ``sources`` hold, in order.

    Raises:
        FileNotFoundError: A source does not exist, or is a folder without ``results.json``.
        ValueError: There is no source, or a file cannot be read or has no rows; names the file.
    """
    if not sources:
        raise ValueError("a report needs at least one run folder or results.json, got none")
    found: dict[str, Run] = {}
    for source in {source.resolve(): source for source in sources}.values():
        run = _read(source)
        name, count = run.name, 1
        while name in found:
            count += 1
            name = f"{run.name}~{count}"
        found[name] = replace(run, name=name)
    return list(found.values())


def joined(found: Sequence[Run]) -> list[Row]:
    """The rows of all runs; a row that occurs twice counts once."""
    rows = {identity(row): row for run in found for row in run.rows}
    return list(rows.values())


def identity(row: Row) -> str:
    """A key that is equal for rows of one measurement."""
    return json.dumps(vars(row) | {"reused": False}, sort_keys=True)


def _read(source: Path) -> Run:
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; give a run folder or a {RESULTS}")
    folder = source if source.is_dir() else None
    file = folder / RESULTS if folder else source
    path = file.resolve()
    rows = tuple(results.read(file))
    if not rows:
        raise ValueError(f"{file} has no rows; `spearshield audit` writes some")
    name = path.parent.name if path.name == RESULTS else path.stem
    if folder is None:
        return Run(name, path, rows, (), None)
    methods = list(dict.fromkeys(row.method for row in rows))
    paths = sorted((folder / "pictures").glob("*.safetensors"))
    drawn = [pictures.read(picture) for picture in paths]
    drawn.sort(key=lambda p: methods.index(p.method) if p.method in methods else len(methods))
    logged = losses.ordered(losses.read(folder), methods)
    return Run(name, path, rows, tuple(drawn), _recipe(folder / RECIPE), logged)


def _recipe(path: Path) -> str | None:
    if not path.exists():
        return None
    try:
        return json.dumps(read_json(path), indent=2)
    except ValueError as error:
        raise ValueError(f"{error}; restore it, or delete it to do without") from error
