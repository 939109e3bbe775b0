"""Charts of accuracy over the strength of an attack that was run with several budgets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from spearshield.judging.results import WORST_CASE, Row
from spearshield.report import words
from spearshield.report.charts import Axes, Chart, Line, parts_of
from spearshield.report.defences import Defence

LEAST = 3
"""Smallest number of budgets of a line."""

Rows: TypeAlias = dict[float, list[Row]]
"""Rows by budget, one for each seed."""


class Series(NamedTuple):
    """The rows of one line: one defence under one attack through one view."""

    defence: str
    trial: str
    rows: Rows


def strengths(defences: Iterable[Defence]) -> list[Chart]:
    """Charts over the budget and over the mean normalised L2 norm, for each setting."""
    found: dict[str, dict[tuple[str, str], Rows]] = {}
    for defence in defences:
        for title, row in (cell for cell in defence.cells if cell.row.attack != WORST_CASE):
            setting = f"{row.data}, {row.classifier}, {words.images(row)}, {words.norm(row.threat)}"
            trial = f"{title}, {words.view(row.view)}"
            rows = found.setdefault(setting, {}).setdefault((defence.label, trial), {})
            rows.setdefault(row.eps, []).append(row)
    return [
        chart
        for setting, lines in found.items()
        for chart in _charts(
            setting, [Series(*key, rows) for key, rows in lines.items() if len(rows) >= LEAST]
        )
    ]


def _charts(setting: str, series: Sequence[Series]) -> Iterator[Chart]:
    """The charts of one setting."""
    norm = setting.rpartition(", ")[2]
    for size, caption, of in (
        (f"budget in {norm}", f"budget in {norm}", _budget),
        ("mean normalised L2 of the perturbation", "mean normalised L2", _normalised_l2),
    ):
        axes = Axes("robust accuracy", size, "at", f"Robust accuracy in percent by {caption}")
        lines = [line for one in series if (line := _line(one, of))]
        if lines:
            for part in parts_of(lines):
                yield Chart(setting, axes, part)


def _line(series: Series, position: Callable[[Sequence[Row]], float | None]) -> Line | None:
    """Clean accuracy at zero, and robust accuracy at the position of every budget.

    ``None`` if the position of a budget was not measured.
    """
    every = [row for same in series.rows.values() for row in same]
    points = [(0.0, _mean([row.acc for row in every]))]
    for same in series.rows.values():
        at = position(same)
        if at is None:
            return None
        points.append((at, _mean([row.robust_acc for row in same])))
    return Line(series.defence, series.trial, "", tuple(sorted(points)))


def _budget(rows: Sequence[Row]) -> float:
    return rows[0].eps


def _normalised_l2(rows: Sequence[Row]) -> float | None:
    sizes = [row.normalised_l2 for row in rows if row.normalised_l2 is not None]
    return _mean(sizes) if len(sizes) == len(rows) else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
