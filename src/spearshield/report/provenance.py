"""The origin of the numbers: commands, code, data, weights, devices, times, and parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from spearshield.judging.results import WORST_CASE, Row
from spearshield.report import words
from spearshield.report.defences import Defence, configuration
from spearshield.report.naming import settings
from spearshield.report.runs import Run, identity

UNKNOWN = "not recorded"

DIGITS = 12
"""Number of digits of a digest or commit that a page shows."""


class Source(NamedTuple):
    """The common fields of the rows that one command measured."""

    run: str
    recipe: str
    command: str
    commit: str
    seed: int
    data: str
    device: str
    versions: str


class Sources:
    """The sources of all rows of some runs, numbered from 1 in order of appearance."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._of_row: dict[str, Source] = {}
        self._rows: dict[Source, list[Row]] = {}
        for run in runs:
            for row in run.rows:
                if identity(row) not in self._of_row:
                    source = self._of_row[identity(row)] = _source(run, row)
                    self._rows.setdefault(source, []).append(row)
        self._numbers = {source: i for i, source in enumerate(self._rows, 1)}

    def number(self, row: Row) -> int:
        return self._numbers[self._of_row[identity(row)]]

    def lines(self) -> list[tuple[str, ...]]:
        """For each source, the cells of its line in the table ``provenance``, after the number."""
        return [
            (
                source.run,
                source.recipe,
                source.command,
                source.commit,
                str(source.seed),
                ", ".join(f"{n:,}" for n in sorted({row.images for row in rows})),
                f"{len(rows):,}",
                str(sum(row.reused for row in rows)),
                source.data,
                _time(rows),
                source.device,
                source.versions,
            )
            for source, rows in self._rows.items()
        ]


def _source(run: Run, row: Row) -> Source:
    return Source(
        run.name,
        row.recipe,
        row.command or UNKNOWN,
        (row.commit or UNKNOWN)[:DIGITS],
        row.seed,
        (row.data_digest or UNKNOWN)[:DIGITS],
        row.device,
        _versions(row),
    )


def _time(rows: Sequence[Row]) -> str:
    """The time of the first measurement and, if it is another, of the last."""
    times = sorted({row.created for row in rows if row.created})
    return " to ".join(dict.fromkeys((times[0], times[-1]))) if times else UNKNOWN


def about(row: Row) -> tuple[tuple[str, str], ...]:
    """The settings, the cost and the origin of one row by title, without the unknown."""
    title = words.view(row.view)
    named = row.view not in (title, WORST_CASE)
    lines = {
        "attack settings": settings(words.hyper(row)),
        "view": f"{title} ({row.view})" if named else "",
        "images": _images(row),
        "time": f"{words.size(row.seconds_per_image * row.images)} s in total",
        "measured": row.created or UNKNOWN,
        "reused": "from an earlier run" if row.reused else "",
        "device": row.device,
        "versions": _versions(row),
        "repeat with": row.command or f"{UNKNOWN}; the row was measured from Python",
    }
    return tuple((title, text) for title, text in lines.items() if text)


def _images(row: Row) -> str:
    """The images of a row, and the images that its attack was tried on."""
    tried = "" if row.attacked is None else f"; the attack was tried on {row.attacked:,} of them"
    return f"{words.images(row)} of {row.data}, seed {row.seed}{tried}"


def measured(rows: Sequence[Row]) -> str:
    """The time, versions and devices of all rows, as one sentence without its full stop."""
    days = sorted({row.created[:10] for row in rows if row.created})
    when = (
        " to ".join(dict.fromkeys((days[0], days[-1]))) if days else f"on a day that is {UNKNOWN}"
    )
    versions: dict[str, dict[str, None]] = {}
    for row in rows:
        for name, version in row.versions.items():
            versions.setdefault(name, {})[version] = None
    packages = ", ".join(f"{name} {' and '.join(each)}" for name, each in versions.items())
    devices = " and ".join(dict.fromkeys(row.device for row in rows))
    return f"Measured {when} with {packages}, on {devices}"


def _versions(row: Row) -> str:
    return ", ".join(f"{name} {version}" for name, version in row.versions.items())


def details(runs: Sequence[Run], defences: Sequence[Defence]) -> dict[str, str]:
    """JSON by title: the recipe of each run and the parameters of each defence."""
    recipes = {f"Recipe of {run.name}": run.recipe for run in runs if run.recipe}
    return recipes | {
        f"Parameters of {defence.label}: {defence.setting}": _parameters(defence)
        for defence in defences
    }


def _parameters(defence: Defence) -> str:
    attacks: dict[str, Any] = {
        cell.title: words.hyper(cell.row) for cell in defence.cells if cell.row.attack != WORST_CASE
    }
    weights = {"weights_digest": defence.first.weights_digest}
    return json.dumps({**configuration(defence.first), **weights, "attacks": attacks}, indent=2)
