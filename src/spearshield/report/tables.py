"""The tables of a report as frozen values; the templates render each as HTML and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from spearshield.judging.results import WORST_CASE
from spearshield.report import words
from spearshield.report.charts import Chart, Line
from spearshield.report.defences import Defence, Measured, Selection, Spread, by_setting
from spearshield.report.provenance import Sources


class Column(NamedTuple):
    """A column with its title; Markdown has no columns of drawings."""

    title: str
    kind: Literal["text", "number", "code", "source", "drawing"] = "text"


class Bar(NamedTuple):
    """Shares drawn on a line from 0 to 100 %; ``None`` if not measured."""

    robust: float | None
    interval: tuple[float, float]
    clean: float
    unaware: float | None = None


class Cell(NamedTuple):
    """The content of one cell.

    Args:
        text: Follows ``strong``, and is followed by ``details`` in small print.
        strong: The main number of the cell.
        drawing: A bar, or the key of a line of a chart.
    """

    text: str = ""
    strong: str = ""
    details: tuple[str, ...] = ()
    drawing: Bar | tuple[Chart, Line] | None = None


class Record(NamedTuple):
    """One line of a table; the first cell is its heading.

    Args:
        kind: ``total`` for a worst case, ``again`` for another seed of the previous line, ``gap``
            for a defence with a gap.
    """

    cells: tuple[Cell, ...]
    kind: str = ""


class Group(NamedTuple):
    """Lines under a common title, which may be empty."""

    title: str
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Table:
    """A table with a name that is unique in the report."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]

    @property
    def kind(self) -> str:
        return self.name.partition("-")[0]

    @property
    def plain(self) -> Table:
        """The same table without its drawings."""
        kept = [i for i, column in enumerate(self.columns) if column.kind != "drawing"]
        groups = tuple(
            Group(title, tuple(Record(tuple(r.cells[i] for i in kept), r.kind) for r in records))
            for title, records in self.groups
        )
        return Table(self.name, self.caption, tuple(self.columns[i] for i in kept), groups)


def headline(defences: Sequence[Defence]) -> Table:
    """The worst case of every defence, next to the result of an unaware attacker."""
    columns = (
        Column("defence"),
        Column("clean accuracy", "number"),
        Column("robust accuracy, worst case over attacks", "number"),
        Column("0 to 100 %", "drawing"),
        Column("attacks and views", "number"),
        Column("seeds", "number"),
        Column(words.UNAWARE, "number"),
    )
    groups = (
        Group(setting, tuple(_headline(defence) for defence in same))
        for setting, same in by_setting(defences).items()
    )
    caption = "Robust accuracy in the worst case over attacks, in percent, with its 95 % interval"
    return Table("headline", caption, columns, tuple(groups))


def _headline(defence: Defence) -> Record:
    shown, worst, unaware = defence.shown, defence.worst, defence.unaware
    bar = Bar(
        worst.robust.mean if worst else None,
        shown.interval,
        shown.clean.mean,
        unaware.robust.mean if unaware else None,
    )
    lowest = defence.lowest
    instead = f"{words.percent(lowest.robust.mean)} {words.interval(lowest.interval)}"
    unmeasured = Cell("not measured", details=(f"lowest row: {instead}, {lowest.described}",))
    cells = (
        Cell(defence.label),
        Cell(words.percent(shown.clean.mean), details=_range(shown.clean)),
        _robust(worst) if worst else unmeasured,
        Cell(drawing=bar),
        Cell(str(len(set().union(*defence.trials.values())))),
        Cell(", ".join(map(str, shown.seeds))),
        _robust(unaware, unaware.described) if unaware else Cell("not tested"),
    )
    return Record(cells, "gap" if defence.gap else "")


def _robust(selected: Selection, *details: str) -> Cell:
    robust = selected.robust
    strong = words.percent(robust.mean)
    return Cell(words.interval(selected.interval), strong, (*_range(robust), *details))


def _range(spread: Spread) -> tuple[str, ...]:
    if spread.low == spread.high:
        return ()
    return (f"{words.percent(spread.low)} to {words.percent(spread.high)}",)


_SHARES = ("clean", "broken", "ASR, classifier alone", "DSR")


def rows(defence: Defence, number: int, sources: Sources) -> Table:
    """Every row of one defence."""
    columns = (
        Column("attack"),
        Column("view"),
        Column("seed", "number"),
        Column("images", "number"),
        Column("broke", "number"),
        Column("robust", "number"),
        Column("0 to 100 %", "drawing"),
        *(Column(title, "number") for title in (*_SHARES, "SSIM", "L2", "L\u221e")),
        Column("s / image", "number"),
        Column("passes / image", "number"),
        Column("source", "source"),
    )
    before = (None, *defence.cells)
    records = (
        _row(cell, other, sources) for cell, other in zip(defence.cells, before, strict=False)
    )
    caption = f"{defence.label}: {defence.setting}"
    return Table(f"rows-{number}", caption, columns, (Group("", tuple(records)),))


def _row(cell: Measured, before: Measured | None, sources: Sources) -> Record:
    title, row = cell
    worst = row.attack == WORST_CASE
    alone = (row.asr, row.dsr) if row.unaware else (None, None)
    again = before is not None and (title, row.view) == (before.title, before.row.view)
    cells = (
        Cell(title),
        Cell("all" if worst else words.view(row.view)),
        Cell(str(row.seed)),
        Cell(f"{row.images:,}"),
        Cell(row.alone or ""),
        Cell(words.interval(row.interval), words.percent(row.robust_acc)),
        Cell(drawing=Bar(row.robust_acc, row.interval, row.acc)),
        *(Cell(words.percent(share)) for share in (row.acc, row.broken, *alone)),
        Cell(f"{row.ssim:.3f}"),
        *(Cell(words.size(value)) for value in (row.l2, row.linf)),
        *(Cell(words.size(value)) for value in (row.seconds_per_image, row.forwards_per_image)),
        Cell(f"[{sources.number(row)}]"),
    )
    kinds = [kind for kind, holds in (("total", worst), ("again", again)) if holds]
    return Record(cells, " ".join(kinds))


def chart(given: Chart, name: str) -> Table:
    """The shares at some positions of a chart, with the keys of its lines."""
    at = (f"{given.axes.point} {words.size(given.positions[k])}" for k in given.shown)
    columns = (Column("key", "drawing"), Column("line"), *(Column(place, "number") for place in at))
    records = (
        Record(
            (
                Cell(drawing=(given, line)),
                Cell(line.label),
                *(Cell(words.percent(line.points[k][1])) for k in given.shown),
            )
        )
        for line in given.lines
    )
    return Table(name, given.axes.caption, columns, (Group("", tuple(records)),))


def provenance(sources: Sources) -> Table:
    """The commands, code, data, times, devices and versions of the rows."""
    columns = (
        Column("source", "source"),
        *(Column(title) for title in ("run", "recipe")),
        Column("command", "code"),
        Column("commit"),
        *(Column(title, "number") for title in ("seed", "images", "rows", "reused")),
        *(Column(title) for title in ("data digest", "measured", "device", "versions")),
    )
    records = (
        Record((Cell(f"[{number}]"), *map(Cell, texts)))
        for number, texts in enumerate(sources.lines(), 1)
    )
    caption = "The rows by the command that measured them"
    return Table("provenance", caption, columns, (Group("", tuple(records)),))
