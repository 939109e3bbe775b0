"""The headline of a report: the worst case, the verdict and the next step of every defence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from spearshield.report import words
from spearshield.report.defences import Defence, Selection, Spread, by_setting
from spearshield.report.tables import Bar, Cell, Column, Group, Record, Table


class Judgement(NamedTuple):
    """A verdict, its meaning, and the next thing to run or to change.

    Args:
        verdict: Of the worst case; the verdicts of several seeds, the gravest first.
    """

    verdict: str
    meaning: str
    next: str

    @property
    def kind(self) -> str:
        """The gravest verdict as the name of a style."""
        return self.verdict.partition(",")[0].replace(" ", "-")


def judgement(defence: Defence) -> Judgement:
    """The judgement of the worst case of a defence over its seeds."""
    rows = [cell.row for cell in defence.worst.cells] if defence.worst else []
    given = {row.verdict for row in rows}
    verdicts = [verdict for verdict in words.NEXT if verdict in given]
    if not verdicts:
        missing = "its rows record no verdict" if rows else "no row of the worst case"
        return Judgement("no verdict", missing, words.NEXT["not examined"])
    gravest = verdicts[0]
    asked = [found["next"] for row in rows for found in row.findings if found["severity"] == "high"]
    following = asked[0] if asked and gravest == "not trustworthy" else words.NEXT[gravest]
    return Judgement(", ".join(verdicts), words.WHY[gravest], following)


def headline(defences: Sequence[Defence]) -> Table:
    """The worst case of every defence, its verdict, and the result of an unaware attacker."""
    columns = (
        Column("defence"),
        Column("clean accuracy", "number"),
        Column("robust accuracy, worst case", "number"),
        Column("0 to 100 %", "drawing"),
        Column("verdict and next step", "verdict"),
        Column(words.UNAWARE, "number", optional=True),
    )
    groups = (
        Group(setting, tuple(_headline(defence) for defence in same))
        for setting, same in by_setting(defences).items()
    )
    caption = "Robust accuracy in the worst case over attacks, in percent, with its 95 % interval"
    return Table("headline", caption, columns, tuple(groups)).filled


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
    attacks = words.counted(len(set().union(*defence.trials.values())), "attack")
    seeds = f"seed{'' if len(shown.seeds) == 1 else 's'} {', '.join(map(str, shown.seeds))}"
    judged = judgement(defence)
    cells = (
        Cell(defence.label, details=(attacks, seeds)),
        Cell(f"{words.percent(shown.clean.mean)} %", details=_range(shown.clean)),
        _robust(worst) if worst else unmeasured,
        Cell(drawing=bar),
        Cell(strong=judged.verdict, details=(judged.meaning, f"Next: {judged.next}")),
        _robust(unaware, unaware.described) if unaware else Cell(),
    )
    return Record(cells, f"{judged.kind} gap" if defence.gap else judged.kind)


def _robust(selected: Selection, *details: str) -> Cell:
    robust = selected.robust
    strong = f"{words.percent(robust.mean)} %"
    return Cell(words.interval(selected.interval), strong, (*_range(robust), *details))


def _range(spread: Spread) -> tuple[str, ...]:
    if spread.low == spread.high:
        return ()
    return (f"{words.percent(spread.low)} to {words.percent(spread.high)}",)
