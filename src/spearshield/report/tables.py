"""The two tables of the HTML page. Every text is escaped here, where it enters the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from spearshield.judging.results import WORST_CASE
from spearshield.report import bars, curves, words
from spearshield.report.layout import Cell, Defence, Picked, Spread, by_setting

HEADLINE = (
    ("defence", ""),
    ("clean accuracy", "num"),
    ("robust accuracy, worst case over all attacks and views", "num"),
    ("from 0 to 100", ""),
    ("attacks and views", "num"),
    ("seeds", "num"),
    (words.IGNORANT, "num quiet"),
)

ROWS = (
    ("attack", ""),
    ("view", ""),
    ("seed", "num"),
    ("images", "num"),
    ("robust", "num"),
    ("from 0 to 100", "wide"),
    ("clean", "num"),
    ("ASR", "num"),
    ("DSR", "num"),
    ("SSIM", "num"),
    ("L2", "num"),
    ("L\u221e", "num"),
    ("s / image", "num"),
    ("passes / image", "num"),
)


def headline(defences: Sequence[Defence]) -> str:
    """The worst case of every defence, and beside it what an ignorant attacker reaches."""
    caption = (
        "Robust accuracy in percent, with 95 % interval, in the worst case over all attacks and "
        "views. Grouped by data, classifier, threat model and images."
    )
    body = []
    for setting, same in by_setting(defences).items():
        heading = f'<th colspan="{len(HEADLINE)}" scope="rowgroup">{escape(setting)}</th>'
        lines = "".join(_headline_row(defence) for defence in same)
        body.append(f'<tbody><tr class="setting">{heading}</tr>{lines}</tbody>')
    legend = "".join(f"<span>{item}</span>" for item in bars.LEGEND)
    table = _table("headline", caption, HEADLINE, "".join(body))
    return f'{table}<p class="legend">{legend}</p>'


def _headline_row(defence: Defence) -> str:
    worst, oblivious = defence.worst, defence.oblivious
    shown = defence.shown
    bar = bars.headline_bar(
        shown.clean.mean,
        worst.robust.mean if worst else None,
        shown.interval,
        oblivious.robust.mean if oblivious else None,
    )
    listed = ", ".join(map(str, shown.seeds))
    seeds = f"<small{_class('nowrap', len(shown.seeds) <= 5)}>({listed})</small>"
    cells = [
        f'<th scope="row">{breakable(defence.label)}</th>',
        _td(_spread(shown.clean), "num"),
        _td(_robust(worst) if worst else _unmeasured(defence), "num main"),
        _td(bar),
        _td(str(len(set().union(*defence.trials.values()))), "num"),
        _td(f"{len(shown.seeds)}{seeds}", "num"),
        _td(_ignorant(oblivious), "num quiet"),
    ]
    return f"<tr{_class('alarm', defence.alarm)}>{''.join(cells)}</tr>"


def _spread(spread: Spread) -> str:
    mean = words.percent(spread.mean)
    if spread.low == spread.high:
        return mean
    return f"{mean}<small>{words.percent(spread.low)} to {words.percent(spread.high)}</small>"


def _robust(picked: Picked) -> str:
    _, low, high = (words.percent(share) for share in picked.robust)
    spread = f"<small>{low} to {high}</small>" if len(picked.cells) > 1 else ""
    return f"{_share(picked.robust.mean, picked.interval)}{spread}"


def _share(robust: float, interval: tuple[float, float]) -> str:
    bounds = f'<span class="interval">{words.interval(interval)}</span>'
    return f"<b>{words.percent(robust)}</b> {bounds}"


def _unmeasured(defence: Defence) -> str:
    lowest = defence.lowest
    share = f"{words.percent(lowest.robust.mean)} {words.interval(lowest.interval)}"
    return f"not measured<small>lowest row: {share}, {escape(lowest.against)}</small>"


def _ignorant(picked: Picked | None) -> str:
    if picked is None:
        return "<small>no oblivious row</small>"
    return f"{_robust(picked)}<small>{escape(picked.against)}</small>"


def rows(defence: Defence, number: int) -> str:
    """Every row of one defence."""
    caption = f"{defence.label}: {defence.setting}"
    body = "".join(
        _row(cell, again=before is not None and _same(cell, before))
        for before, cell in zip((None, *defence.cells), defence.cells, strict=False)
    )
    return _table(f"rows-{number}", caption, ROWS, f"<tbody>{body}</tbody>")


def _same(cell: Cell, other: Cell) -> bool:
    """Whether two rows differ in the seed only."""
    return (cell.title, cell.row.view) == (other.title, other.row.view)


def _row(cell: Cell, again: bool) -> str:
    title, row = cell
    worst = row.attack == WORST_CASE
    cells = [
        f'<th scope="row">{escape(title)}</th>',
        _td("all" if worst else escape(words.view(row.view))),
        _td(str(row.seed), "num"),
        _td(f"{row.images:,}", "num"),
        _td(_share(row.robust_acc, row.interval), "num nowrap"),
        _td(bars.interval_bar(row.robust_acc, row.interval, row.acc), "wide"),
        _td(words.percent(row.acc), "num"),
        _td(words.percent(row.asr), "num"),
        _td(words.percent(row.dsr), "num"),
        _td(f"{row.ssim:.3f}", "num"),
        _td(words.size(row.l2), "num"),
        _td(words.size(row.linf), "num"),
        _td(words.size(row.seconds_per_image), "num"),
        _td(words.size(row.forwards_per_image), "num"),
    ]
    kind = " ".join(name for name, holds in (("total", worst), ("again", again)) if holds)
    return f"<tr{_class(kind)}>{''.join(cells)}</tr>"


def curve(chart: curves.Chart, number: str) -> str:
    """The legend of a chart, with the shares at some of its places."""
    at = [f"{chart.axes.point} {words.size(chart.distances[k])}" for k in chart.shown]
    columns = [("line", ""), *((place, "num") for place in at)]
    body = ""
    for line in chart.lines:
        shares = "".join(_td(words.percent(line.points[k][1]), "num") for k in chart.shown)
        name = f"{curves.key(chart, line)} {breakable(line.label)}"
        body += f'<tr><th scope="row">{name}</th>{shares}</tr>'
    caption = f"In percent: {chart.axes.table}"
    return _table(f"curve-{number}", caption, columns, f"<tbody>{body}</tbody>")


def origins(lines: Sequence[Mapping[str, str]]) -> str:
    """Recipes, devices and versions."""
    columns = [(name, "") for name in lines[0]]
    body = "".join(
        "<tr>" + "".join(_td(escape(text)) for text in line.values()) + "</tr>" for line in lines
    )
    return _table("origins", "What the rows were measured with", columns, f"<tbody>{body}</tbody>")


def _table(name: str, caption: str, columns: Iterable[tuple[str, str]], body: str) -> str:
    """A table that scrolls on a narrow page."""
    heads = "".join(
        f'<th scope="col"{_class(kind)}>{escape(title)}</th>' for title, kind in columns
    )
    return (
        f'<div class="scroll" role="region" aria-labelledby="{name}" tabindex="0">'
        f'<table class="{name.partition("-")[0]}">'
        f'<caption id="{name}"><span>{breakable(caption)}</span></caption>'
        f"<thead><tr>{heads}</tr></thead>{body}</table></div>"
    )


def breakable(name: str) -> str:
    """``name`` for the page, with places where a narrow column may break it."""
    return escape(name).replace("_", "_<wbr>")


def _td(content: str, kind: str = "") -> str:
    return f"<td{_class(kind)}>{content}</td>"


def _class(name: str, when: bool = True) -> str:
    return f' class="{name}"' if name and when else ""
