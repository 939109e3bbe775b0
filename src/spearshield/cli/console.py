"""Tables and findings, as commands print them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len
from rich.console import Console

from spearshield import spelling
from spearshield.judging import results
from spearshield.judging.checks import Finding
from spearshield.report import words
from spearshield.report.naming import attack_titles

if TYPE_CHECKING:
    from spearshield.dataset import Examples
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


class Line(NamedTuple):
    """A line of a table: the heading of its group, its cells, its style, and a text below it."""

    heading: str
    cells: tuple[str, ...]
    style: str | None = None
    note: str = ""


def classes(images: Examples) -> None:
    """Print the classes of images whose ids are not the names, such as those of class folders."""
    shown = [f"{i} = {name}" for i, name in enumerate(images.names) if str(i) != name]
    if shown:
        rest = f", and {len(shown) - 10} more" if len(shown) > 10 else ""
        out.print(f"classes: {', '.join(shown[:10])}{rest}", markup=False)


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
    lines = []
    for row, attack in zip(rows, attack_titles(rows), strict=True):
        worst = row.attack == results.WORST_CASE
        name = attack if worst else f"{attack}, {row.view}"
        cells = (name, *_numbers(row, unaware))
        lines.append(Line(f"{row.method}, {_budget(row)}", cells, "bold" if worst else None))
    _grouped((*titles, "DSR") if unaware else titles, lines, right=range(1, len(titles) + 1))
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


def _budget(row: results.Row) -> str:
    return f"{row.threat} {spelling.budget(row.eps)}"


def _grouped(titles: tuple[str, ...], lines: Sequence[Line], right: Sequence[int]) -> None:
    """Print a table whose lines are grouped by their headings; ``right`` are columns of numbers."""
    records = [titles, *((f"  {line.cells[0]}", *line.cells[1:]) for line in lines)]
    header, *texts = _aligned(records, right)
    _say(header, folded=False)
    groups: dict[str, list[tuple[Line, str]]] = {}
    for line, text in zip(lines, texts, strict=True):
        groups.setdefault(line.heading, []).append((line, text))
    for heading, group in groups.items():
        _say(heading)
        for line, text in group:
            _say(text, line.style, folded=False)
            if line.note:
                _say(f"    {line.note}", line.style, indent=4)
        _say("")


def _aligned(records: Sequence[tuple[str, ...]], right: Sequence[int]) -> Iterator[str]:
    """Each record as text with aligned columns; a narrow terminal folds the first column."""
    widths = [max(map(cell_len, column)) for column in zip(*records, strict=True)]
    if out.is_terminal:
        others = sum(widths[1:]) + 2 * (len(widths) - 1)
        widths[0] = min(widths[0], max(out.width - others, NARROWEST))
    for name, *rest in records:
        first, *more = textwrap.wrap(name, widths[0], subsequent_indent="    ")
        cells = []
        for i, (cell, width) in enumerate(zip((first, *rest), widths, strict=True)):
            space = " " * (width - cell_len(cell))
            cells.append(space + cell if i in right else cell + space)
        yield "\n".join(("  ".join(cells).rstrip(), *more))


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
        f"{spelling.budget(figures.eps)}: "
        f"{figures.clean:.1%} clean, {figures.robust:.1%} robust "
        f"(95 % interval {low:.1%} to {high:.1%}), {figures.verdict}",
        indent=2,
    )


def selftest(judged: Sequence[Judged]) -> None:
    """Print the result of the audit of each specimen, by kind."""
    lines = []
    for row in judged:
        shares = row.robust_acc, row.specimen.truth
        robust, known = ("" if each is None else f"{100 * each:.0f} %" for each in shares)
        cells = row.specimen.name, robust, known, row.verdict, row.outcome
        note = row.error or ", ".join(row.found)
        lines.append(Line(row.specimen.kind, cells, None if row.passed else "red", note))
    _grouped(("case", "robust", "known", "verdict", "result"), lines, right=(1, 2))
