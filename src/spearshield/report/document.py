"""The content of a report as one frozen value, which the templates render."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import NamedTuple

from spearshield.report import tables, words
from spearshield.report.charts import Chart, curves, rounds
from spearshield.report.defences import Defence
from spearshield.report.findings import Finding, findings
from spearshield.report.headline import headline
from spearshield.report.pictures import Picture
from spearshield.report.provenance import Sources, details, measured
from spearshield.report.runs import Run
from spearshield.report.strengths import strengths
from spearshield.report.tables import Table

OPEN = 4
"""A page with more pictures shows only the first picture of every defence and folds the others."""

MOST_PIXELS = 2_000_000
"""Pixels of all images on a page, about; further pictures are links to their sheets."""


class Part(NamedTuple):
    """The charts of one kind, each with the table of its numbers."""

    name: str
    figures: tuple[tuple[Chart, Table], ...]


class Plate(NamedTuple):
    """A picture with its title and the file name of its sheet.

    The page contains it if ``inside``, and folds it if not ``shown``.
    """

    title: str
    sheet: str
    shown: bool
    inside: bool
    picture: Picture


@dataclass(frozen=True)
class Report:
    """The content of a report, in the order of its sections."""

    subject: str
    measured: str
    headline: Table
    findings: tuple[Finding, ...]
    parts: tuple[Part, ...]
    training: Table | None
    rows: tuple[Table, ...]
    views: frozenset[str]
    plates: Mapping[str, tuple[Plate, ...]]
    provenance: Table
    details: Mapping[str, str]


def document(runs: Sequence[Run], defences: Sequence[Defence]) -> Report:
    """The report on ``runs``, with their rows grouped as ``defences``."""
    sources = Sources(runs)
    rows = [row for run in runs for row in run.rows]
    return Report(
        subject=words.subject(rows),
        measured=measured(rows),
        headline=headline(defences),
        findings=tuple(findings(defences)),
        parts=tuple(_parts(defences)),
        training=_training(runs),
        rows=tuple(tables.rows(defence, i, sources) for i, defence in enumerate(defences)),
        views=frozenset(words.view(row.view.partition("(")[0]) for row in rows),
        plates=_plates(runs),
        provenance=tables.provenance(sources),
        details=details(runs, defences),
    )


def _parts(defences: Sequence[Defence]) -> Iterator[Part]:
    """The parts that have charts to show."""
    for name, charts in (
        ("curves", curves(defences)),
        ("strengths", strengths(defences)),
        ("rounds", rounds(defences)),
    ):
        drawn = ((chart, tables.chart(chart, f"{name}-{i}")) for i, chart in enumerate(charts))
        if charts:
            yield Part(name, tuple(drawn))


def _training(runs: Sequence[Run]) -> Table | None:
    """The losses of all runs; ``None`` if no run has a log."""
    losses = [
        replace(loss, training=f"{loss.training}, run {run.name}") if len(runs) > 1 else loss
        for run in runs
        for loss in run.losses
    ]
    return tables.training(losses) if losses else None


def _plates(runs: Sequence[Run]) -> dict[str, tuple[Plate, ...]]:
    """The pictures of all runs by defence."""
    several = len(runs) > 1
    found: dict[str, list[tuple[str, Picture]]] = {}
    for run in runs:
        for picture in run.pictures:
            found.setdefault(picture.method, []).append((run.name, picture))
    inside = _inside([[picture for _, picture in same] for same in found.values()])
    total = sum(map(len, found.values()))
    return {
        method: tuple(
            Plate(
                f"{picture.title}, run {run}" if several else picture.title,
                f"{run}.{picture.stem}.png" if several else f"{picture.stem}.png",
                total <= OPEN or place == 0,
                id(picture) in inside,
                picture,
            )
            for place, (run, picture) in enumerate(same)
        )
        for method, same in found.items()
    }


def _inside(defences: Sequence[Sequence[Picture]]) -> set[int]:
    """The identities of the pictures that a page has room for: the first of each, and so on."""
    inside, pixels = set[int](), 0
    for picture in chain.from_iterable(zip_longest(*defences)):
        if picture and (not inside or pixels + picture.pixels <= MOST_PIXELS):
            inside.add(id(picture))
            pixels += picture.pixels
    return inside
