"""What a reader must know before believing or comparing the numbers, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from spearshield.report import words
from spearshield.report.layout import Defence, Picked
from spearshield.results import WORST_CASE


def alarms(defences: Iterable[Defence]) -> list[str]:
    """A sentence for each defence that helps only while it is not known."""
    found = []
    for defence in defences:
        if defence.alarm and defence.worst and defence.oblivious:
            known, unknown = defence.worst, defence.oblivious
            found.append(
                f"{defence.label} helps only against an attacker who does not know it: "
                f"{_said(unknown)} ({unknown.against}), {_said(known)} in the worst case over "
                f"all attacks and views ({defence.setting})."
            )
    return found


def doubts(defences: Iterable[Defence]) -> list[tuple[str, str]]:
    """Verdicts on the headlines, and what was found behind them, each with a severity."""
    said = []
    for defence in defences:
        for cell in defence.worst.cells if defence.worst else ():
            row = cell.row
            where = f"{defence.label} ({defence.setting}, seed {row.seed})"
            if row.verdict:
                said.append((row.verdict, f"{where}: {words.VERDICTS[row.verdict]}"))
            for found in row.findings:
                numbers = ", ".join(f"{what} {words.number(n)}" for what, n in found["saw"].items())
                sentence = f"{where}, {found['check']}: {numbers}. {found['means']}"
                said.append((found["severity"], f"{sentence} Next: {found['next']}"))
            for name, (clean, attacked) in (row.repeated or {}).items():
                shares = f"{words.percent(clean)} % clean, {words.percent(attacked)} % attacked"
                said.append(("note", f"{where}, random: {name.replace('_', ' ')} {shares}."))
            if row.rejected:
                before, after = (words.percent(share) for share in row.rejected)
                shares = f"{before} % of the clean images, {after} % of the attacked ones"
                said.append(("note", f"{where} rejects {shares}."))
    return said


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
        if trials and all(view == "oblivious" for met in trials for _, view in met):
            found.append(
                f"{where} met no attacker who knows it, so its worst case is only an upper bound."
            )
        if any(met != trials[0] for met in trials):
            found.append(f"Not every seed of {where} met the same attacks and views.")
    return found


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _said(picked: Picked) -> str:
    return f"{words.percent(picked.robust.mean)} % {words.interval(picked.interval)}"
