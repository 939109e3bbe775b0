"""The report as GitHub Markdown, and the picture sheets that it links to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from spearshield.judging.results import WORST_CASE
from spearshield.report import gallery, words
from spearshield.report.caveats import alarms, doubts, notes
from spearshield.report.layout import Defence, Picked, Spread
from spearshield.report.pictures import Picture
from spearshield.report.provenance import details, origins
from spearshield.report.rounds import sections
from spearshield.report.runs import Run

HEADLINE = (
    "data",
    "classifier",
    "threat",
    "defence",
    "clean",
    "robust, worst case over all attacks and views",
    "attacks and views",
    "images",
    "seeds",
    words.IGNORANT,
)

ROWS = (
    "attack",
    "view",
    "seed",
    "images",
    "robust",
    "clean",
    "ASR",
    "DSR",
    "SSIM",
    "L2",
    "L\u221e",
    "s / image",
    "passes / image",
)


def document(runs: Sequence[Run], defences: Sequence[Defence]) -> str:
    """The whole text."""
    subject = words.subject([row for run in runs for row in run.rows])
    parts = [f"# {words.TITLE}", text(subject), words.HOW_TO_READ, "## Headline"]
    parts.append(table(HEADLINE, (_headline(defence) for defence in defences), left=4))
    parts += [f"> **Gap.** {text(sentence)}" for sentence in alarms(defences)]
    parts += [text(sentence) for sentence in notes(defences)]
    if said := doubts(defences):
        parts.append("### Can the numbers be trusted?")
        parts.append("\n".join(f"- **{text(kind)}** {text(sentence)}" for kind, sentence in said))
    parts += _curves(defences)
    parts.append("## Every row")
    for defence in defences:
        parts.append(f"### {text(defence.label)}: {text(defence.setting)}")
        parts.append(table(ROWS, _rows(defence), left=2))
    views = {row.view.partition("(")[0] for defence in defences for _, row in defence.cells}
    parts.append(_list({words.view(k): v for k, v in words.VIEWS.items() if k in views}))
    parts.append(_list(words.COLUMNS))
    parts += ["## Pictures", *_pictures(runs), "## Provenance"]
    lines = origins(runs)
    parts.append(table(tuple(lines[0]), (map(text, line.values()) for line in lines), left=99))
    parts += [
        f"<details><summary>{_html(title)}</summary>\n\n```json\n{content}\n```\n\n</details>"
        for title, content in details(runs, defences).items()
    ]
    return "\n\n".join(parts) + "\n"


def sheets(runs: Sequence[Run]) -> dict[str, bytes]:
    """File names and PNGs of all pictures."""
    return {
        sheet_name(run, picture, runs): picture.sheet() for run in runs for picture in run.pictures
    }


def sheet_name(run: Run, picture: Picture, runs: Sequence[Run]) -> str:
    """Unique in a report: of several runs it starts with the run's name."""
    return f"{run.name}.{picture.stem}.png" if len(runs) > 1 else f"{picture.stem}.png"


def text(value: str) -> str:
    """``value`` so that Markdown shows it as it is."""
    marked = re.sub(r"[\\`*\[\]|~#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", value)
    return _html(" ".join(marked.split()))


def table(columns: Sequence[str], lines: Iterable[Iterable[str]], left: int) -> str:
    """A table of texts that are Markdown already; columns from ``left`` on are flush right."""
    rules = ["---" if i < left else "---:" for i in range(len(columns))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, rules, *lines))


def _headline(defence: Defence) -> list[str]:
    row, worst, oblivious = defence.first, defence.worst, defence.oblivious
    shown = defence.shown
    ignorant = f"{_robust(oblivious)} ({text(oblivious.against)})" if oblivious else "none"
    return [
        text(row.data),
        text(row.classifier),
        defence.threat,
        text(defence.label),
        _spread(shown.clean),
        f"**{_robust(worst)}**"
        if worst
        else f"not measured; lowest row {_robust(shown)} ({text(shown.against)})",
        str(len(set().union(*defence.trials.values()))),
        words.images(shown.cells[0].row),
        ", ".join(map(str, shown.seeds)),
        ignorant,
    ]


def _spread(spread: Spread) -> str:
    mean, low, high = (words.percent(share) for share in spread)
    return mean if low == high else f"{mean} ({low} to {high})"


def _robust(picked: Picked) -> str:
    return f"{_spread(picked.robust)} {words.interval(picked.interval)}"


def _curves(defences: Sequence[Defence]) -> Iterable[str]:
    for section in sections(defences):
        yield f"## {section.title}"
        yield section.note
        for chart in section.charts:
            yield f"### {text(chart.setting)}"
            at = (f"{chart.axes.point} {words.size(chart.distances[k])}" for k in chart.shown)
            lines = (
                [text(line.label), *(words.percent(line.points[k][1]) for k in chart.shown)]
                for line in chart.lines
            )
            yield table((chart.axes.table, *at), lines, left=1)


def _rows(defence: Defence) -> Iterable[list[str]]:
    for title, row in defence.cells:
        worst = row.attack == WORST_CASE
        yield [
            f"**{title}**" if worst else text(title),
            "all" if worst else text(words.view(row.view)),
            str(row.seed),
            f"{row.images:,}",
            f"**{words.percent(row.robust_acc)}** {words.interval(row.interval)}",
            words.percent(row.acc),
            words.percent(row.asr),
            words.percent(row.dsr),
            f"{row.ssim:.3f}",
            words.size(row.l2),
            words.size(row.linf),
            words.size(row.seconds_per_image),
            words.size(row.forwards_per_image),
        ]


def _pictures(runs: Sequence[Run]) -> Iterable[str]:
    if not any(run.pictures for run in runs):
        yield "These runs have no pictures."
    for run in runs:
        for picture in run.pictures:
            name = text(gallery.title(picture, run.name if len(runs) > 1 else ""))
            order = ", ".join(strip.name for strip in picture.strips)
            yield f"### {text(picture.method)} under {name}"
            yield f"![{name}](pictures/{quote(sheet_name(run, picture, runs))})"
            yield f"From top to bottom: {order}."
            lines = (
                (f"{who}, {strip.name}", *_verdicts(names, picture.truth))
                for strip in picture.strips
                for who, names in strip.verdicts
            )
            yield table(("truth", *map(text, picture.truth)), lines, left=99)


def _verdicts(said: Sequence[str], truth: Sequence[str]) -> Iterable[str]:
    for name, right in zip(said, truth, strict=True):
        yield f"{chr(0x2713) if name == right else chr(0x2717)} {text(name)}"


def _list(terms: Mapping[str, str]) -> str:
    return "\n".join(f"- **{text(term)}**: {text(meaning)}" for term, meaning in terms.items())


def _html(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
