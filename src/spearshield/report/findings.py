"""Findings: sentences about the reliability and comparability of the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from spearshield.judging.results import WORST_CASE, Row
from spearshield.report import words
from spearshield.report.defences import Defence

UNAWARE = ("oblivious", "transferred")
"""Views of an attacker that is unaware of the defence."""

SEEDS = (
    "With several seeds, a share is the mean over seeds, followed by the lowest and the highest "
    "seed. The interval reaches from the lowest to the highest bound of any seed."
)


class Finding(NamedTuple):
    """A sentence with its kind: a gap, the severity of a failed check, or a note."""

    kind: str
    text: str

    @property
    def alarming(self) -> bool:
        return self.kind in ("gap", "high")


def findings(defences: Sequence[Defence]) -> list[Finding]:
    """Gaps first, then the results of the checks, then notes on comparing the numbers."""
    return [*_gaps(defences), *_checks(defences), *_notes(defences)]


def _gaps(defences: Iterable[Defence]) -> Iterator[Finding]:
    """One sentence for each setting with defences that only resist unaware attackers."""
    gaps: dict[str, list[str]] = {}
    for defence in defences:
        if defence.gap and defence.worst and defence.unaware:
            unaware, worst = (
                words.percent(selected.robust.mean) for selected in (defence.unaware, defence.worst)
            )
            text = f"{defence.label} {unaware} % (worst case {worst} %)"
            gaps.setdefault(defence.setting, []).append(text)
    for setting, found in gaps.items():
        sentence = "robust only against an attacker unaware of the defence"
        yield Finding("gap", f"{setting}: {sentence}: {', '.join(found)}.")


def _checks(defences: Iterable[Defence]) -> Iterator[Finding]:
    """Failed checks of the worst cases; equal sentences of one setting are joined."""
    found: dict[tuple[str, str, str], dict[str, None]] = {}
    seeds: dict[tuple[str, str, str], set[int]] = {}
    for defence in defences:
        for cell in defence.worst.cells if defence.worst else ():
            for kind, sentence in _checks_of(cell.row):
                key = kind, defence.setting, sentence
                found.setdefault(key, {})[defence.label] = None
                seeds.setdefault(key, set()).add(cell.row.seed)
    for key, labels in found.items():
        kind, setting, sentence = key
        where = f"{setting}, {_seeds(sorted(seeds[key]))}"
        yield Finding(kind, f"{', '.join(labels)} ({where}): {sentence}")


def _checks_of(row: Row) -> Iterator[tuple[str, str]]:
    for found in row.findings:
        numbers = ", ".join(f"{name} {words.number(n)}" for name, n in found["saw"].items())
        sentence = f"{found['check']}: {numbers}. {found['means']} Next: {found['next']}"
        yield found["severity"], sentence
    if row.proved is not None:
        yield "note", f"a certificate proves {words.percent(row.proved)} % of the images robust."
    for name, (clean, attacked) in (row.repeated or {}).items():
        shares = f"{words.percent(clean)} % clean, {words.percent(attacked)} % under attack"
        yield "note", f"random defence, {words.REPEATED[name]}: {shares}."
    if row.rejected:
        shares = "{} % of the clean and {} % of the attacked".format(
            *map(words.percent, row.rejected)
        )
        yield "note", f"rejects {shares} images."


def _notes(defences: Sequence[Defence]) -> Iterator[Finding]:
    """Limits of a comparison of the numbers."""
    shown = [defence.shown.cells[0].row for defence in defences]
    counts = sorted({(row.images, words.images(row)) for row in shown})
    if len(counts) > 1:
        numbers = " and ".join(text for _, text in counts)
        yield Finding("note", f"The settings differ in their number of images: {numbers}.")
    if any(len(defence.seeds) > 1 for defence in defences):
        yield Finding("note", SEEDS)
    same: dict[tuple[str, str], list[str]] = {}
    for defence in defences:
        for sentence in _notes_of(defence):
            same.setdefault((defence.setting, sentence), []).append(defence.label)
    for (setting, sentence), labels in same.items():
        yield Finding("note", f"{', '.join(labels)} ({setting}): {sentence}")


def _notes_of(defence: Defence) -> Iterator[str]:
    worst = [cell.row.seed for cell in defence.cells if cell.row.attack == WORST_CASE]
    absent = [seed for seed in defence.seeds if seed not in worst]
    twice = sorted({seed for seed in worst if worst.count(seed) > 1})
    trials = list(defence.trials.values())
    if absent:
        yield f"no worst-case row for {_seeds(absent)}."
    if twice:
        yield f"measured more than once with {_seeds(twice)}; the lowest number is shown."
    if trials and all(view in UNAWARE for of_seed in trials for _, view in of_seed):
        yield "not tested with an adaptive attacker, so the worst case is only an upper bound."
    if any(of_seed != trials[0] for of_seed in trials):
        yield "the seeds were not all tested with the same attacks and views."


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
