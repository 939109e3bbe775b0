"""Charts: robust accuracy over distance, and attack and recovery over rounds.

A chart holds numbers only; ``templates/drawings.html.j2`` draws it, and ``tables.py`` makes its
table. A mark distinguishes defences and a dash pattern distinguishes attacks, so that colour
carries no information of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from spearshield.report import words
from spearshield.report.defences import Defence, Measured, Selection

MARKS, DASHES = 6, 4
"""The numbers of marks and of dash patterns that can be distinguished in one chart."""


@dataclass(frozen=True)
class Line:
    """One defence under one attack through one view; a mean over seeds.

    Args:
        defence: Label of the defence.
        trial: Attack and view.
        note: Number of images and of seeds, where needed.
        points: Positions on the horizontal axis, each with a share.
    """

    defence: str
    trial: str
    note: str
    points: tuple[tuple[float, float], ...]

    @property
    def label(self) -> str:
        return ", ".join(part for part in (self.defence, self.trial, self.note) if part)

    def at(self, position: float) -> float | None:
        """The share at a position, on a straight line between two points; ``None`` beyond them."""
        for (left, a), (right, b) in pairwise(self.points):
            if left <= position <= right:
                return a if right == left else a + (b - a) * (position - left) / (right - left)
        return None


@dataclass(frozen=True)
class Axes:
    """The axes of a chart.

    Args:
        vertical: Title of the vertical axis, which shows shares.
        horizontal: Title of the horizontal axis.
        point: The word before the number of a position.
        caption: The caption of the table with the same numbers.
    """

    vertical: str
    horizontal: str
    point: str
    caption: str


@dataclass(frozen=True)
class Chart:
    """Comparable lines, with enough marks and dash patterns to distinguish them."""

    setting: str
    axes: Axes
    lines: tuple[Line, ...]

    @property
    def positions(self) -> list[float]:
        """The positions of the points of all lines, in order."""
        return sorted({position for line in self.lines for position, _ in line.points})

    @property
    def end(self) -> float:
        """The right end of the horizontal axis."""
        return max(self.positions) or 1.0

    def style(self, line: Line) -> tuple[int, int]:
        """The numbers of the mark and of the dash pattern of a line."""
        defences, trials = _numbers(self.lines)
        return defences[line.defence], trials[line.trial]

    @property
    def shown(self) -> list[int]:
        """The indices of at most five evenly spaced points, for the table."""
        last = len(self.positions) - 1
        return sorted({round(quarter * last / 4) for quarter in range(5)})

    def described(self, line: Line) -> str:
        """The line in words, for screen readers."""
        at = [self.positions[k] for k in self.shown]
        shares = (
            f"{words.percent(y)} % {self.axes.point} {words.size(position)}"
            for position in at
            if (y := line.at(position)) is not None
        )
        return f"{line.label}: {', '.join(shares)}."


def curves(defences: Iterable[Defence]) -> list[Chart]:
    """A chart for each setting in which an attack searched for the smallest perturbations."""
    together: dict[tuple[str, Axes, tuple[float, ...]], list[Line]] = {}
    for defence in defences:
        for selected in defence.curved:
            line = _curve(defence, selected)
            distances = tuple(distance for distance, _ in line.points)
            norm = words.norm(defence.first.threat)
            horizontal = f"distance in {norm}, pixels in [0, 1]"
            caption = f"Robust accuracy in percent within a distance in {norm}"
            axes = Axes("robust accuracy", horizontal, "at", caption)
            together.setdefault((defence.setting, axes, distances), []).append(line)
    return [
        Chart(setting if len(parts) == 1 else f"{setting}, part {i} of {len(parts)}", axes, part)
        for (setting, axes, _), lines in together.items()
        for parts in [parts_of(lines)]
        for i, part in enumerate(parts, 1)
    ]


def _curve(defence: Defence, selected: Selection) -> Line:
    """The line of the selected rows of a defence."""
    title, row = selected.cells[0]
    notes = []
    if words.images(row) != words.images(defence.shown.cells[0].row):
        notes.append(words.images(row))
    if len(selected.seeds) > 1:
        notes.append(f"mean of {len(selected.seeds)} seeds")
    trial = f"{title}, {words.view(row.view)}"
    return Line(defence.label, trial, ", ".join(notes), selected.curve)


def parts_of(lines: Sequence[Line]) -> list[tuple[Line, ...]]:
    """The lines of each chart, divided such that marks and dash patterns suffice."""
    defences, trials = _numbers(lines)
    parts: dict[tuple[int, int], list[Line]] = {}
    for line in lines:
        part = defences[line.defence] // MARKS, trials[line.trial] // DASHES
        parts.setdefault(part, []).append(line)
    return [tuple(part) for part in parts.values()]


def _numbers(lines: Iterable[Line]) -> tuple[dict[str, int], dict[str, int]]:
    """Defences and trials, each numbered in order of first appearance."""
    pairs = [(line.defence, line.trial) for line in lines]
    defences, trials = (dict.fromkeys(names) for names in zip(*pairs, strict=True))
    return {name: i for i, name in enumerate(defences)}, {name: i for i, name in enumerate(trials)}


def rounds(defences: Iterable[Defence]) -> list[Chart]:
    """A chart for each sequence of trainings that are each trained on the previous result."""
    found: dict[tuple[str, str, str], Defence] = {}
    for defence in defences:
        row = defence.first
        found.setdefault((row.recipe, defence.setting, row.method), defence)
    previous = {key: (*key[:2], _trained_on(defence)) for key, defence in found.items()}
    charts = []
    for last in found:
        if last in previous.values():
            continue
        chain = [last]
        while previous[chain[0]] in found:
            chain.insert(0, previous[chain[0]])
        links = [found[key] for key in chain]
        if len(chain) > 1 and all(_own(link) for link in links):
            charts.append(_round_chart(links))
    return charts


def _own(defence: Defence) -> list[Measured]:
    """The rows of the attack that the training of the defence itself yields.

    A learned attack has the same name as its training, and so has the defence.
    """
    return [cell for cell in defence.cells if cell.row.attack == cell.row.method]


def _trained_on(defence: Defence) -> str:
    """The name of the earlier training that the defence was trained on; "" for the classifier."""
    training = defence.first.parameters.get("training")
    return str(training.get("trained_on", "")) if isinstance(training, dict) else ""


def _round_chart(links: Sequence[Defence]) -> Chart:
    """The chart of the shares that every round has."""
    attacked = [[cell.row for cell in _own(link)] for link in links]
    judged = [[cell.row for cell in link.shown.cells] for link in links]
    shares = {
        "attack success": [_mean(row.asr for row in rows) for rows in attacked],
        "recovery": [_mean(row.dsr for row in rows) for rows in attacked],
        "clean accuracy": [_mean(row.acc for row in rows) for rows in judged],
        "robust accuracy": [_mean(row.robust_acc for row in rows) for rows in judged],
    }
    lines = tuple(
        Line(label, "", "", tuple((float(i), share) for i, share in enumerate(measured, 1)))
        for label, each in shares.items()
        for measured in [[share for share in each if share is not None]]
        if len(measured) == len(each)
    )
    names = ", ".join(link.label for link in links)
    axes = Axes("share", "rounds", "round", "Share in percent by round")
    return Chart(f"{links[0].setting}: {names}", axes, lines)


def _mean(shares: Iterable[float | None]) -> float | None:
    """The mean over the seeds that have a share; ``None`` if no seed has one."""
    measured = [share for share in shares if share is not None]
    return sum(measured) / len(measured) if measured else None
