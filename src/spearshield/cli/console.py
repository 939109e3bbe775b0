"""Tables and findings, as commands print them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

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


def classes(images: Examples) -> None:
    """Print the classes of images whose ids are not the names, such as those of class folders."""
    shown = [f"{i} = {name}" for i, name in enumerate(images.names) if str(i) != name]
    if shown:
        rest = f", and {len(shown) - 10} more" if len(shown) > 10 else ""
        out.print(f"classes: {', '.join(shown[:10])}{rest}", markup=False)


def table(rows: Sequence[results.Row]) -> None:
    """Print the rows of one evaluation."""
    images = sorted({row.images for row in rows})
    title = (
        f"percent of {' or '.join(map(str, images))} {rows[0].split} images, with 95 % intervals"
    )
    shown = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        title_justify="left",
    )
    shown.add_column("method", overflow="fold")
    shown.add_column("attack", overflow="fold", min_width=len("worst case"))
    shown.add_column("view", no_wrap=True)
    several = len({(row.threat, row.eps) for row in rows}) > 1
    if several:
        shown.add_column("budget", no_wrap=True)
    unaware = any(row.unaware and row.dsr is not None for row in rows)
    for name in ("broke", "clean", "robust", "interval", "broken", *(["DSR"] if unaware else [])):
        shown.add_column(name, no_wrap=True, justify="right")
    for row, attack in zip(rows, attack_titles(rows), strict=True):
        worst = row.attack == results.WORST_CASE
        budget = f"{row.threat} {words.budget(row.eps)}"
        view = budget if worst else row.view
        cells = (
            row.method,
            attack,
            *(("" if worst else view, budget) if several else (view,)),
            row.alone or "",
            f"{100 * row.acc:.1f}",
            f"{100 * row.robust_acc:.1f}",
            f"{100 * row.interval[0]:.1f}-{100 * row.interval[1]:.1f}",
            _percent(row.broken),
            *([_percent(row.dsr if row.unaware else None)] if unaware else []),
        )
        shown.add_row(*cells, style="bold" if worst else None, end_section=worst)
    out.print(shown)
    out.print(BROKEN, style="dim")
    if unaware:
        out.print(DSR, style="dim")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def findings(rows: Sequence[results.Row]) -> None:
    """Print what was found beside the numbers it puts in doubt."""
    for row in rows:
        if row.verdict is None:
            continue
        budget = f"{row.threat} {words.budget(row.eps)}"
        headline = f"{row.method}, {budget}: {row.robust_acc:.1%}, {row.verdict}"
        out.print(f"\n{headline}", style="bold", markup=False)
        for line in words.repeated(row):
            out.print(f"  {line}", markup=False)
        if row.proved is not None:
            out.print(f"  proved robust {row.proved:.1%}, by a certificate", markup=False)
        if row.rejected:
            clean, attacked = row.rejected
            out.print(f"  rejected    {clean:.1%} clean, {attacked:.1%} attacked", markup=False)
        for found in row.findings:
            out.print(f"  {Finding(**found)}", markup=False)


def measured(card: Card) -> None:
    """Print the closing audit of a shield."""
    figures = card.measured
    if figures is None:
        out.print(f"{card.name}: not examined", markup=False)
        return
    low, high = figures.interval
    out.print(
        f"{card.name}, {figures.images} held-out images, {figures.threat} "
        f"{words.budget(figures.eps)}: "
        f"{figures.clean:.1%} clean, {figures.robust:.1%} robust "
        f"(95 % interval {low:.1%} to {high:.1%}), {figures.verdict}",
        markup=False,
    )


def selftest(judged: Sequence[Judged]) -> None:
    """Print the result of the audit of each specimen."""
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name in ("case", "kind", "robust", "known", "verdict", "findings of high severity", ""):
        shown.add_column(name)
    for row in judged:
        shares = row.robust_acc, row.specimen.truth
        robust, known = ("" if each is None else f"{100 * each:.0f} %" for each in shares)
        found = row.error or ", ".join(row.found)
        style = None if row.passed else "red"
        cells = row.specimen.name, row.specimen.kind, robust, known, row.verdict, found
        shown.add_row(*cells, row.outcome, style=style)
    out.print(shown)
