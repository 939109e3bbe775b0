"""The tables of a report as frozen values; the templates render each as HTML and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from spearshield.judging.results import WORST_CASE
from spearshield.report import words
from spearshield.report.charts import Chart, Line
from spearshield.report.defences import Defence, Measured
from spearshield.report.losses import POINTS, Losses
from spearshield.report.provenance import Sources, about


class Column(NamedTuple):
    """A column with its title; Markdown has no columns of drawings.

    Args:
        optional: The column is left out where all its cells are empty.
    """

    title: str
    kind: Literal["text", "number", "code", "source", "drawing", "verdict"] = "text"
    optional: bool = False


class Bar(NamedTuple):
    """Shares drawn on a line from 0 to 100 %; ``None`` if not measured."""

    robust: float | None
    interval: tuple[float, float]
    clean: float
    unaware: float | None = None


class Curve(NamedTuple):
    """Values drawn at even distances, from their lowest to their highest."""

    values: tuple[float, ...]

    @property
    def heights(self) -> tuple[float, ...]:
        """The values from 0 for the lowest to 1 for the highest; halved, so none overflows."""
        low, high = min(self.values) / 2, max(self.values) / 2
        return tuple((value / 2 - low) / ((high - low) or 1.0) for value in self.values)


class Cell(NamedTuple):
    """The content of one cell.

    Args:
        text: Follows ``strong``, and is followed by ``details`` in small print.
        strong: The main number of the cell.
        drawing: A bar, a curve, or the key of a line of a chart.
    """

    text: str = ""
    strong: str = ""
    details: tuple[str, ...] = ()
    drawing: Bar | Curve | tuple[Chart, Line] | None = None


class Record(NamedTuple):
    """One line of a table; the first cell is its heading.

    Args:
        kind: Names of styles: ``total`` for a worst case, ``again`` for another seed of the
            previous line, ``gap`` for a defence with a gap, and the verdict.
        about: More on the line by title, which the page shows on demand.
    """

    cells: tuple[Cell, ...]
    kind: str = ""
    about: tuple[tuple[str, str], ...] = ()


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
        return self._only(i for i, column in enumerate(self.columns) if column.kind != "drawing")

    @property
    def filled(self) -> Table:
        """The same table without the optional columns that have no content."""
        records = [record for group in self.groups for record in group.records]
        return self._only(
            i
            for i, column in enumerate(self.columns)
            if not column.optional or any(record.cells[i] != Cell() for record in records)
        )

    def _only(self, columns: Iterable[int]) -> Table:
        kept = [*columns]
        groups = tuple(
            Group(title, tuple(r._replace(cells=tuple(r.cells[i] for i in kept)) for r in records))
            for title, records in self.groups
        )
        return Table(self.name, self.caption, tuple(self.columns[i] for i in kept), groups)


def rows(defence: Defence, number: int, sources: Sources) -> Table:
    """Every row of one defence."""
    columns = (
        Column("attack"),
        Column("view"),
        Column("seed", "number"),
        Column("images", "number"),
        Column("broke", "number", optional=True),
        Column("robust", "number"),
        Column("0 to 100 %", "drawing"),
        *(Column(title, "number") for title in ("clean", "broken")),
        *(Column(title, "number", optional=True) for title in ("ASR, classifier alone", "DSR")),
        *(Column(title, "number") for title in ("SSIM", "L2", "L\u221e")),
        Column("s / image", "number"),
        Column("passes / image", "number"),
        Column("source", "source"),
    )
    before = (None, *defence.cells)
    records = (
        _row(cell, other, sources) for cell, other in zip(defence.cells, before, strict=False)
    )
    caption = f"{defence.label}: {defence.setting}"
    return Table(f"rows-{number}", caption, columns, (Group("", tuple(records)),)).filled


def _row(cell: Measured, before: Measured | None, sources: Sources) -> Record:
    title, row = cell
    worst = row.attack == WORST_CASE
    alone = [Cell(words.percent(share)) for share in (row.asr, row.dsr)]
    again = before is not None and (title, row.view) == (before.title, before.row.view)
    cells = (
        Cell(title),
        Cell("all" if worst else words.view(row.view)),
        Cell(str(row.seed)),
        Cell(f"{row.images:,}"),
        Cell(words.broke(row)),
        Cell(words.interval(row.interval), words.percent(row.robust_acc)),
        Cell(drawing=Bar(row.robust_acc, row.interval, row.acc)),
        *(Cell(words.percent(share)) for share in (row.acc, row.broken)),
        *(alone if row.unaware else (Cell(), Cell())),
        Cell(f"{row.ssim:.3f}"),
        *(Cell(words.size(value)) for value in (row.l2, row.linf)),
        *(Cell(words.size(value)) for value in (row.seconds_per_image, row.forwards_per_image)),
        Cell(f"[{sources.number(row)}]"),
    )
    kinds = [kind for kind, holds in (("total", worst), ("again", again)) if holds]
    return Record(cells, " ".join(kinds), about(row))


def chart(given: Chart, name: str) -> Table:
    """The shares at some positions of a chart, with the keys of its lines."""
    at = (f"{given.axes.point} {words.size(given.positions[k])}" for k in given.shown)
    columns = (Column("key", "drawing"), Column("line"), *(Column(place, "number") for place in at))
    records = (
        Record(
            (
                Cell(drawing=(given, line)),
                Cell(line.label),
                *(Cell(words.percent(line.at(given.positions[k]))) for k in given.shown),
            )
        )
        for line in given.lines
    )
    return Table(name, given.axes.caption, columns, (Group("", tuple(records)),))


def training(losses: Sequence[Losses]) -> Table:
    """Every loss of every training, with its curve over the steps."""
    columns = (
        Column("training"),
        Column("loss"),
        Column("over the steps", "drawing"),
        *(Column(title, "number") for title in ("steps", "first", "last", "lowest", "highest")),
    )
    records = (
        Record(
            (
                Cell(loss.training),
                Cell(loss.name),
                Cell(drawing=Curve(loss.curve)),
                Cell(f"{len(loss.values):,}"),
                *(Cell(words.number(value)) for value in (loss.values[0], loss.values[-1])),
                *(Cell(words.number(end)) for end in (min(loss.values), max(loss.values))),
            )
        )
        for loss in losses
    )
    caption = (
        f"Losses of the trainings; a curve has at most {POINTS} points, each a mean over steps"
    )
    return Table("training", caption, columns, (Group("", tuple(records)),))


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
