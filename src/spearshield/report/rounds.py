"""Attack and defence in turn: what each round's attack broke, and its purifier recovered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spearshield.report import words
from spearshield.report.curves import Axes, Chart, Line, charts
from spearshield.report.layout import Cell, Defence

AXES = Axes("share", "rounds", "round", "share by round")


@dataclass(frozen=True)
class Section:
    """Charts of one kind, and what a reader must know of them."""

    name: str
    title: str
    note: str
    charts: tuple[Chart, ...]


def sections(defences: Sequence[Defence]) -> list[Section]:
    """The sections of a report that have charts to show."""
    both = (
        Section("curves", "Accuracy over distance", words.CURVES, tuple(charts(defences))),
        Section("rounds", "Attack and recovery by round", words.ROUNDS, tuple(rounds(defences))),
    )
    return [section for section in both if section.charts]


def rounds(defences: Iterable[Defence]) -> list[Chart]:
    """A chart for each chain of defences that were trained one against the other."""
    found: dict[tuple[str, str, str], Defence] = {}
    for defence in defences:
        row = defence.first
        found.setdefault((row.recipe, defence.setting, row.method), defence)
    former = {key: (*key[:2], _against(defence)) for key, defence in found.items()}
    drawn = []
    for last in found:
        if last in former.values():
            continue
        chain = [last]
        while former[chain[0]] in found:
            chain.insert(0, former[chain[0]])
        links = [found[key] for key in chain]
        if len(chain) > 1 and all(own(link) for link in links):
            drawn.append(_chart(links))
    return drawn


def own(defence: Defence) -> list[Cell]:
    """The cells of the attack that was learnt in the defence's own training.

    An attack is called as its training, and so is the defence.
    """
    return [cell for cell in defence.cells if cell.row.attack == cell.row.method]


def _against(defence: Defence) -> str:
    training = defence.first.parameters.get("training")
    return str(training.get("trained_on", "")) if isinstance(training, dict) else ""


def _chart(links: Sequence[Defence]) -> Chart:
    """The shares that every round has."""
    attacked = [[cell.row for cell in own(link)] for link in links]
    judged = [[cell.row for cell in link.shown.cells] for link in links]
    shares = {
        "attack success": [_mean(row.asr for row in rows) for rows in attacked],
        "recovery": [_mean(row.dsr for row in rows) for rows in attacked],
        "clean accuracy": [_mean(row.acc for row in rows) for rows in judged],
        "robust accuracy": [_mean(row.robust_acc for row in rows) for rows in judged],
    }
    lines = tuple(
        Line(label, "", "", tuple((float(i), share) for i, share in enumerate(known, 1)))
        for label, each in shares.items()
        for known in [[share for share in each if share is not None]]
        if len(known) == len(each)
    )
    names = ", ".join(link.label for link in links)
    return Chart(f"{links[0].setting}: {names}", AXES, lines)


def _mean(shares: Iterable[float | None]) -> float | None:
    """Over the seeds that have one; where none has, as recovery where nothing broke, none."""
    known = [share for share in shares if share is not None]
    return sum(known) / len(known) if known else None
