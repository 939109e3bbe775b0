"""Tables and findings, as commands print them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console

from spearshield.judging import results
from spearshield.judging.checks import Finding
from spearshield.report import words
from spearshield.report.naming import attack_titles

if TYPE_CHECKING:
    from spearshield.experiment.card import Card
    from spearshield.selftest import Judged

out = Console(highlight=False, soft_wrap=True)

BROKEN = (
    "broke: images that this attack broke by itself, of the images it attacked; broken: of the "
    "images that the judged model gets right, the share that this and the earlier attacks break"
)
DSR = (
    "DSR: of the images that the attack breaks on the classifier alone, the share that the whole "
    "defence gets right or rejects"
)

NARROWEST = 16
"""The smallest width of a folded column."""


def table(rows: Sequence[results.Row]) -> None:
    """Print the rows of one evaluation, by defence and budget."""
    if not rows:
        _say("no rows")
        return
    images = sorted({row.images for row in rows})
    counts = " or ".join(map(str, images))
    _say(f"percent of {counts} {rows[0].split} images, with 95 % intervals\n")
    unaware = any(row.unaware and row.dsr is not None for row in rows)
    titles = ("attack, view", "broke", "clean", "robust", "interval", "broken")
    records: list[tuple[str, ...]] = [(*titles, "DSR") if unaware else titles]
    for row, attack in zip(rows, attack_titles(rows), strict=True):
        name = attack if _worst(row) else f"{attack}, {row.view}"
        records.append((f"  {name}", *_numbers(row, unaware)))
    header, *lines = _aligned(records, folded=0, right=range(1, len(titles) + 1))
    _say(header, folded=False)
    of_heading: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        of_heading.setdefault(f"{row.method}, {_budget(row)}", []).append(i)
    for heading, numbers in of_heading.items():
        _say(heading)
        for i in numbers:
            _say(lines[i], "bold" if _worst(rows[i]) else None, folded=False)
        _say("")
    _say(BROKEN, "dim")
    if unaware:
        _say(DSR, "dim")


def _numbers(row: results.Row, unaware: bool) -> tuple[str, ...]:
    low, high = row.interval
    interval = f"{100 * low:.1f}-{100 * high:.1f}"
    shares = (row.acc, row.robust_acc, row.broken, row.dsr if row.unaware else None)
    clean, robust, broken, dsr = ("-" if s is None else f"{100 * s:.1f}" for s in shares)
    cells = (words.broke(row), clean, robust, interval, broken)
    return (*cells, dsr) if unaware else cells


def _worst(row: results.Row) -> bool:
    return row.attack == results.WORST_CASE


def _budget(row: results.Row) -> str:
    return f"{row.threat} {words.budget(row.eps)}"


def _aligned(
    records: Sequence[Sequence[str]], folded: int, right: Sequence[int] = ()
) -> Iterator[str]:
    """Each record as text, with aligned columns.

    Args:
        folded: The column that is folded where a terminal is too narrow.
        right: The columns that are aligned on the right.
    """
    widths = [max(map(cell_len, column)) for column in zip(*records, strict=True)]
    others = sum(widths) - widths[folded] + 2 * (len(widths) - 1)
    if out.is_terminal:
        widths[folded] = min(widths[folded], max(out.width - others, NARROWEST))
    for record in records:
        indent = "  " + " " * (len(record[folded]) - len(record[folded].lstrip()))
        parts = textwrap.wrap(record[folded], widths[folded], subsequent_indent=indent) or [""]
        empty = [""] * len(record)
        lines = [[*record], *(empty[:] for _ in parts[1:])]
        for line, part in zip(lines, parts, strict=True):
            line[folded] = part
            for i, width in enumerate(widths):
                space = " " * (width - cell_len(line[i]))
                line[i] = space + line[i] if i in right else line[i] + space
        yield "\n".join("  ".join(line).rstrip() for line in lines)


def _say(text: str, style: str | None = None, *, folded: bool = True, indent: int = 0) -> None:
    """Print a text between words folded to the width of a terminal, and to no width elsewhere."""
    lines = "".join(c if c.isprintable() or c == "\n" else "?" for c in text).split("\n")
    for line in lines:
        shown = line
        if folded and out.is_terminal:
            shown = textwrap.fill(line, out.width, subsequent_indent=" " * indent)
        out.print(shown, style=style, markup=False)


def findings(rows: Sequence[results.Row]) -> None:
    """Print what was found beside the numbers it puts in doubt."""
    for row in rows:
        if row.verdict is None:
            continue
        low, high = (100 * bound for bound in row.interval)
        robust = f"{100 * row.robust_acc:.1f} % robust (95 % interval {low:.1f} to {high:.1f})"
        _say(f"\n{row.method}, {_budget(row)}: {robust}, {row.verdict}", "bold")
        _say(f"  {words.WHY[row.verdict]}. Next: {words.NEXT[row.verdict]}.", indent=4)
        for line in words.repeated(row):
            _say(f"  {line}", indent=4)
        if row.proved is not None:
            _say(f"  proved robust {row.proved:.1%}, by a certificate")
        if row.rejected:
            clean, attacked = row.rejected
            _say(f"  rejected    {clean:.1%} clean, {attacked:.1%} attacked")
        for found in row.findings:
            _say(f"  {Finding(**found)}", indent=4)


def measured(card: Card) -> None:
    """Print the closing audit of a shield."""
    figures = card.measured
    if figures is None:
        _say(f"{card.name}: not examined")
        return
    low, high = figures.interval
    _say(
        f"{card.name}, {figures.images} held-out images, {figures.threat} "
        f"{words.budget(figures.eps)}: "
        f"{figures.clean:.1%} clean, {figures.robust:.1%} robust "
        f"(95 % interval {low:.1%} to {high:.1%}), {figures.verdict}",
        indent=2,
    )


def selftest(judged: Sequence[Judged]) -> None:
    """Print the result of the audit of each specimen."""
    records = [("case", "kind", "robust", "known", "verdict", "result", "high findings or error")]
    for row in judged:
        shares = row.robust_acc, row.specimen.truth
        robust, known = ("" if each is None else f"{100 * each:.0f} %" for each in shares)
        found = row.error or ", ".join(row.found)
        cells = row.specimen.name, row.specimen.kind, robust, known, row.verdict
        records.append((*cells, row.outcome, found))
    header, *lines = _aligned(records, folded=6, right=(2, 3))
    _say(header, folded=False)
    for row, line in zip(judged, lines, strict=True):
        _say(line, None if row.passed else "red", folded=False)
