"""Rows put side by side: those that belong to one defence, its seeds, and what to warn of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from spearshield.judging.results import WORST_CASE, Row
from spearshield.report import words
from spearshield.report.naming import attack_titles, differences

ALARM = 0.20
"""Oblivious above worst case by more than this: the defence works by not being known."""

ABOUT_A_CELL = ("attack", "view", "cells", "survivors")
"""Parameters of a row that belong to its attack, not to its defence."""


class Cell(NamedTuple):
    """A row, and what its attack is called."""

    title: str
    row: Row


class Spread(NamedTuple):
    """A share over seeds."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Picked:
    """One cell for each of one or several seeds."""

    cells: tuple[Cell, ...]

    @property
    def seeds(self) -> list[int]:
        return [cell.row.seed for cell in self.cells]

    @property
    def against(self) -> str:
        """The attack, view and images of its cells."""
        met = (f"{title}, {words.view(row.view)}, {words.images(row)}" for title, row in self.cells)
        return " or ".join(dict.fromkeys(met))

    @property
    def clean(self) -> Spread:
        return _spread([cell.row.acc for cell in self.cells])

    @property
    def robust(self) -> Spread:
        return _spread([cell.row.robust_acc for cell in self.cells])

    @property
    def curve(self) -> tuple[tuple[float, float], ...]:
        """Distances, each with the mean robust accuracy at it; of cells with the same distances."""
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
    """One defence in one setting: all rows that differ in nothing but attack, view and seed.

    Args:
        label: The method, and what tells it from others of the same name.
        cells: By attack, view and seed; the worst cases last.
    """

    label: str
    cells: tuple[Cell, ...]

    @property
    def first(self) -> Row:
        """Any of the rows, for what they have in common."""
        return self.cells[0].row

    @property
    def threat(self) -> str:
        return words.threat(self.first.threat, self.first.eps)

    @property
    def setting(self) -> str:
        """What must be equal where numbers are compared."""
        row = self.shown.cells[0].row
        return f"{row.data}, {row.classifier}, {self.threat}, {words.images(row)}"

    @property
    def seeds(self) -> list[int]:
        return sorted({cell.row.seed for cell in self.cells})

    @property
    def trials(self) -> dict[int, set[tuple[str, str]]]:
        """The attacks and views that each seed met."""
        met: dict[int, set[tuple[str, str]]] = {}
        for title, row in self.cells:
            if row.attack != WORST_CASE:
                met.setdefault(row.seed, set()).add((title, row.view))
        return met

    @property
    def worst(self) -> Picked | None:
        """Over all attacks and views; ``None`` where no run has such a row."""
        return _lowest(cell for cell in self.cells if cell.row.attack == WORST_CASE)

    @property
    def oblivious(self) -> Picked | None:
        """The lowest that an attacker reached who does not know the defence."""
        return _lowest(cell for cell in self.cells if cell.row.view == "oblivious")

    @property
    def lowest(self) -> Picked:
        """The lowest row of each seed, whatever its attack and view."""
        return _lowest(self.cells) or Picked(self.cells)

    @property
    def shown(self) -> Picked:
        """The worst case, or the lowest row where there is none."""
        return self.worst or self.lowest

    @property
    def curved(self) -> list[Picked]:
        """The cells with a curve, by attack, view and distances; of each seed the lowest."""
        alike: dict[tuple[object, ...], list[Cell]] = {}
        for cell in self.cells:
            if cell.row.curve:
                distances = tuple(distance for distance, _ in cell.row.curve)
                alike.setdefault((cell.title, cell.row.view, distances), []).append(cell)
        return [picked for cells in alike.values() if (picked := _lowest(cells))]

    @property
    def alarm(self) -> bool:
        """Whether the defence helps only against an attacker who does not know it."""
        if self.worst is None or self.oblivious is None:
            return False
        return round(self.oblivious.robust.mean - self.worst.robust.mean, 9) > ALARM


def arrange(rows: Sequence[Row]) -> list[Defence]:
    """The defences in ``rows``, those of one setting together, as each first appears."""
    titles = attack_titles(rows)
    grouped: dict[str, list[Cell]] = {}
    for row, title, images in zip(rows, titles, _judged_on(rows), strict=True):
        grouped.setdefault(f"{_identity(row)} {images}", []).append(Cell(title, row))
    namesakes: dict[tuple[str, str], list[list[Cell]]] = {}
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
    """Those whose numbers can be compared, together."""
    together: dict[str, list[Defence]] = {}
    for defence in defences:
        together.setdefault(defence.setting, []).append(defence)
    return together


def _spread(shares: Sequence[float]) -> Spread:
    return Spread(sum(shares) / len(shares), min(shares), max(shares))


def _lowest(cells: Iterable[Cell]) -> Picked | None:
    """The cell of lowest robust accuracy of each seed."""
    lowest: dict[int, Cell] = {}
    for cell in sorted(cells, key=lambda cell: cell.row.robust_acc, reverse=True):
        lowest[cell.row.seed] = cell
    return Picked(tuple(lowest[seed] for seed in sorted(lowest))) if lowest else None


def configuration(row: Row) -> dict[str, Any]:
    """What a defence was made with."""
    rest = {k: v for k, v in row.parameters.items() if k not in ABOUT_A_CELL}
    return {"recipe": row.recipe, **rest}


def _identity(row: Row) -> str:
    shared = (row.data, row.split, row.classifier, row.method, row.threat, row.eps)
    return json.dumps([shared, configuration(row)], sort_keys=True)


def _judged_on(rows: Sequence[Row]) -> list[int]:
    """For each row, the number of images of the worst case that follows it; its own if none does.

    Some attacks of a run may be made on more images than others; the worst case is over those that
    all were made on.
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


def _ordered(cells: list[Cell]) -> list[Cell]:
    """By attack and view, as they first appear, then by seed; the worst cases last."""
    first: dict[tuple[str, str], int] = {}
    for title, row in cells:
        first.setdefault((title, row.view), len(first))

    def place(cell: Cell) -> tuple[bool, int, int]:
        row = cell.row
        return row.attack == WORST_CASE, first[cell.title, row.view], row.seed

    return sorted(cells, key=place)
