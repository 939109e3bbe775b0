"""Rows grouped by defence, and the numbers that summarise a defence over its seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from spearshield.judging.results import WORST_CASE, Row
from spearshield.report import words
from spearshield.report.naming import attack_titles, differences

GAP = 0.20
"""Robust accuracy under an unaware attacker minus the worst case: a gap if larger than this."""

OF_ATTACK = ("attack", "view", "cells", "survivors")
"""Parameters of a row that belong to its attack, not to its defence."""


class Measured(NamedTuple):
    """A row and the title of its attack."""

    title: str
    row: Row


class Spread(NamedTuple):
    """A share over seeds."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Selection:
    """One measured row for each of one or several seeds."""

    cells: tuple[Measured, ...]

    @property
    def seeds(self) -> list[int]:
        return [cell.row.seed for cell in self.cells]

    @property
    def described(self) -> str:
        """The attacks, views and images of the rows."""
        each = (
            f"{title}, {words.view(row.view)}, {words.images(row)}" for title, row in self.cells
        )
        return " or ".join(dict.fromkeys(each))

    @property
    def clean(self) -> Spread:
        return _spread([cell.row.acc for cell in self.cells])

    @property
    def robust(self) -> Spread:
        return _spread([cell.row.robust_acc for cell in self.cells])

    @property
    def curve(self) -> tuple[tuple[float, float], ...]:
        """Distances, each with the mean robust accuracy; all rows have the same distances."""
        points = zip(*(cell.row.curve or () for cell in self.cells), strict=True)
        shares = ((same[0][0], [share for _, share in same]) for same in points)
        return tuple((distance, _spread(of).mean) for distance, of in shares)

    @property
    def interval(self) -> tuple[float, float]:
        """From the lowest to the highest bound of any seed."""
        lows, highs = zip(*(cell.row.interval for cell in self.cells), strict=True)
        return min(lows), max(highs)


@dataclass(frozen=True)
class Defence:
    """One defence in one setting: all rows that differ only in attack, view and seed.

    Args:
        label: The method, with the settings that distinguish it from others of the same name.
        cells: Ordered by attack, view and seed, with the worst cases last.
    """

    label: str
    cells: tuple[Measured, ...]

    @property
    def first(self) -> Row:
        """The first row, for the fields that all rows share."""
        return self.cells[0].row

    @property
    def setting(self) -> str:
        """Data, classifier, threat model and images: equal where numbers can be compared."""
        row = self.shown.cells[0].row
        threat = words.threat(row.threat, row.eps)
        return f"{row.data}, {row.classifier}, {threat}, {words.images(row)}"

    @property
    def seeds(self) -> list[int]:
        return sorted({cell.row.seed for cell in self.cells})

    @property
    def trials(self) -> dict[int, set[tuple[str, str]]]:
        """The attacks and views that each seed was tested with."""
        trials: dict[int, set[tuple[str, str]]] = {}
        for title, row in self.cells:
            if row.attack != WORST_CASE:
                trials.setdefault(row.seed, set()).add((title, row.view))
        return trials

    @property
    def worst(self) -> Selection | None:
        """The worst case over all attacks and views; ``None`` if no run has such a row."""
        return _lowest(cell for cell in self.cells if cell.row.attack == WORST_CASE)

    @property
    def unaware(self) -> Selection | None:
        """The strongest attack of each seed that is unaware of the defence; ``None`` if none is.

        Only of attacks on all images: after attacks on survivors, earlier attacks count as well.
        """
        unaware = (cell for cell in self.cells if cell.row.view == "oblivious")
        return _lowest(cell for cell in unaware if cell.row.attacked in (None, cell.row.images))

    @property
    def lowest(self) -> Selection:
        """The row with the lowest robust accuracy of each seed, for any attack and view."""
        return _lowest(self.cells) or Selection(self.cells)

    @property
    def shown(self) -> Selection:
        """The worst case, or the lowest row if there is no worst case."""
        return self.worst or self.lowest

    @property
    def curved(self) -> list[Selection]:
        """The rows with a curve, by attack, view and distances; the lowest of each seed."""
        alike: dict[tuple[object, ...], list[Measured]] = {}
        for cell in self.cells:
            if cell.row.curve:
                distances = tuple(distance for distance, _ in cell.row.curve)
                alike.setdefault((cell.title, cell.row.view, distances), []).append(cell)
        return [selected for cells in alike.values() if (selected := _lowest(cells))]

    @property
    def gap(self) -> bool:
        """True if the defence is only robust against an attacker unaware of it."""
        if self.worst is None or self.unaware is None:
            return False
        return round(self.unaware.robust.mean - self.worst.robust.mean, 9) > GAP


def group(rows: Sequence[Row]) -> list[Defence]:
    """The defences in ``rows``, grouped by setting, in order of first appearance."""
    grouped: dict[str, list[Measured]] = {}
    for row, title, images in zip(rows, attack_titles(rows), _worst_case_images(rows), strict=True):
        grouped.setdefault(f"{_identity(row)} {images}", []).append(Measured(title, row))
    namesakes: dict[tuple[str, str], list[list[Measured]]] = {}
    for cells in grouped.values():
        setting = Defence("", tuple(cells)).setting
        namesakes.setdefault((setting, cells[0].row.method), []).append(cells)
    defences = []
    for (_, method), same in namesakes.items():
        apart = differences([configuration(cells[0].row) for cells in same])
        for cells, difference in zip(same, apart, strict=True):
            defences.append(Defence(words.apart(method, difference), tuple(_ordered(cells))))
    return [defence for same in by_setting(defences).values() for defence in same]


def by_setting(defences: Iterable[Defence]) -> dict[str, list[Defence]]:
    """Groups of defences with comparable numbers, by their setting."""
    together: dict[str, list[Defence]] = {}
    for defence in defences:
        together.setdefault(defence.setting, []).append(defence)
    return together


def configuration(row: Row) -> dict[str, Any]:
    """The recipe and the parameters of the defence of a row, without parameters of its attack."""
    rest = {k: v for k, v in row.parameters.items() if k not in OF_ATTACK}
    return {"recipe": row.recipe, **rest}


def _spread(shares: Sequence[float]) -> Spread:
    return Spread(sum(shares) / len(shares), min(shares), max(shares))


def _lowest(cells: Iterable[Measured]) -> Selection | None:
    """The cell with the lowest robust accuracy of each seed; ``None`` if there are no cells."""
    lowest: dict[int, Measured] = {}
    for cell in sorted(cells, key=lambda cell: cell.row.robust_acc, reverse=True):
        lowest[cell.row.seed] = cell
    return Selection(tuple(lowest[seed] for seed in sorted(lowest))) if lowest else None


def _identity(row: Row) -> str:
    shared = (row.data, row.split, row.classifier, row.method, row.threat, row.eps)
    return json.dumps([shared, configuration(row)], sort_keys=True)


def _worst_case_images(rows: Sequence[Row]) -> list[int]:
    """For each row, the number of images of the worst case that follows it, or its own number.

    Some attacks of a run may use more images than others; the worst case covers the images that
    all attacks used.
    """
    counts = [row.images for row in rows]
    closing: dict[tuple[str, int], int] = {}
    for i, row in reversed([*enumerate(rows)]):
        run = _identity(row), row.seed
        if row.attack == WORST_CASE:
            closing[run] = row.images
        if counts[i] > closing.get(run, counts[i]):
            counts[i] = closing[run]
    return counts


def _ordered(cells: list[Measured]) -> list[Measured]:
    """Ordered by first appearance of attack and view, then by seed, with the worst cases last."""
    first: dict[tuple[str, str], int] = {}
    for title, row in cells:
        first.setdefault((title, row.view), len(first))

    def place(cell: Measured) -> tuple[bool, int, int]:
        row = cell.row
        return row.attack == WORST_CASE, first[cell.title, row.view], row.seed

    return sorted(cells, key=place)
