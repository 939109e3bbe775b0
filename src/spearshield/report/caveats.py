"""What a reader must know before believing or comparing the numbers, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from spearshield.judging.results import WORST_CASE, Row
from spearshield.report import words
from spearshield.report.layout import Defence

UNAWARE = ("oblivious", "transferred")
"""Views of an attacker who does not know the defence."""


def alarms(defences: Iterable[Defence]) -> list[str]:
    """A sentence for each setting in which defences help only while they are not known."""
    gaps: dict[str, list[str]] = {}
    for defence in defences:
        if defence.alarm and defence.worst and defence.oblivious:
            unknown, known = (
                words.percent(picked.robust.mean) for picked in (defence.oblivious, defence.worst)
            )
            shares = f"{unknown} % (worst case {known} %)"
            gaps.setdefault(defence.setting, []).append(f"{defence.label} {shares}")
    return [
        f"{setting}: robust only while the attacker does not know of the defence: "
        f"{', '.join(found)}."
        for setting, found in gaps.items()
    ]


def doubts(defences: Iterable[Defence]) -> list[tuple[str, str]]:
    """Verdicts on the headlines, and what was found behind them, each with a severity.

    What is true of several defences in one setting is said once.
    """
    said: dict[tuple[str, str, str], list[str]] = {}
    for defence in defences:
        for cell in defence.worst.cells if defence.worst else ():
            where = f"({defence.setting}, seed {cell.row.seed})"
            for kind, sentence in _doubts(cell.row):
                said.setdefault((kind, where, sentence), []).append(defence.label)
    return [
        (kind, f"{', '.join(labels)} {where}: {sentence}")
        for (kind, where, sentence), labels in said.items()
    ]


def _doubts(row: Row) -> Iterator[tuple[str, str]]:
    if row.verdict:
        yield row.verdict, words.VERDICTS[row.verdict]
    for found in row.findings:
        numbers = ", ".join(f"{what} {words.number(n)}" for what, n in found["saw"].items())
        sentence = f"{found['check']}: {numbers}. {found['means']} Next: {found['next']}"
        yield found["severity"], sentence
    for name, (clean, attacked) in (row.repeated or {}).items():
        shares = f"{words.percent(clean)} % clean, {words.percent(attacked)} % attacked"
        yield "note", f"random: {name.replace('_', ' ')} {shares}."
    if row.rejected:
        before, after = (words.percent(share) for share in row.rejected)
        yield "note", f"rejects {before} % of the clean images, {after} % of the attacked ones."


def notes(defences: Sequence[Defence]) -> list[str]:
    """What a reader must know before comparing the numbers."""
    found = [words.SEEDS] if any(len(defence.seeds) > 1 for defence in defences) else []
    shown = [defence.shown.cells[0].row for defence in defences]
    counts = sorted({(row.images, words.images(row)) for row in shown})
    if len(counts) > 1:
        said = " and ".join(text for _, text in counts)
        found.append(f"Not all rows are over the same images, but over {said}.")
    for defence in defences:
        where = f"{defence.label} ({defence.setting})"
        worst = [cell.row.seed for cell in defence.cells if cell.row.attack == WORST_CASE]
        absent = [seed for seed in defence.seeds if seed not in worst]
        twice = sorted({seed for seed in worst if worst.count(seed) > 1})
        if absent:
            found.append(f"{where} has no worst-case row for {_seeds(absent)}.")
        if twice:
            found.append(
                f"{where} was measured more than once with {_seeds(twice)}; the lowest counts."
            )
        trials = list(defence.trials.values())
        if trials and all(view in UNAWARE for met in trials for _, view in met):
            found.append(
                f"{where} met no attacker who knows it, so its worst case is only an upper bound."
            )
        if any(met != trials[0] for met in trials):
            found.append(f"Not every seed of {where} met the same attacks and views.")
    return found


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
