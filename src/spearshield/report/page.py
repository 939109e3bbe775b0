"""The HTML page: one file that needs no network and no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources

from spearshield.report import curves, tables, words
from spearshield.report.caveats import alarms, doubts, notes
from spearshield.report.gallery import gallery
from spearshield.report.layout import Defence
from spearshield.report.provenance import details, origins
from spearshield.report.rounds import Section, sections
from spearshield.report.runs import Run

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<header>
<h1>{heading}</h1>
<p class="sub">{subject}</p>
<p>{how_to_read}</p>
<nav aria-label="contents"><a href="#headline-part">Headline</a>{charts_link}
<a href="#rows-part">Every row</a>
<a href="#pictures-part">Pictures</a> <a href="#provenance-part">Provenance</a></nav>
</header>
<main>
<section id="headline-part"><h2>Headline</h2>
{headline}
</section>
{charts}<section id="rows-part"><h2>Every row</h2>
{rows}
</section>
<section id="pictures-part"><h2>Pictures</h2>
{pictures}
</section>
<section id="provenance-part"><h2>Provenance</h2>
{provenance}
</section>
</main>
</body>
</html>
"""


def document(runs: Sequence[Run], defences: Sequence[Defence]) -> str:
    """The whole page."""
    subject = words.subject([row for run in runs for row in run.rows])
    drawn = sections(defences)
    return PAGE.format(
        title=escape(f"{words.TITLE}: {subject}"),
        style=resources.files("spearshield.report").joinpath("style.css").read_text("utf-8"),
        heading=words.TITLE,
        subject=escape(subject),
        how_to_read=escape(words.HOW_TO_READ),
        headline=_headline(defences),
        charts_link="".join(
            f' <a href="#{section.name}-part">{escape(section.title)}</a>' for section in drawn
        ),
        charts="".join(map(_section, drawn)),
        rows=_rows(defences),
        pictures=gallery(runs),
        provenance=_provenance(runs, defences),
    )


def _headline(defences: Sequence[Defence]) -> str:
    warned = "".join(
        f'<p class="warning" role="note"><b>Gap.</b> {escape(text)}</p>'
        for text in alarms(defences)
    )
    noted = "".join(f'<p class="note">{escape(text)}</p>' for text in notes(defences))
    return tables.headline(defences) + warned + _doubts(defences) + noted


def _doubts(defences: Sequence[Defence]) -> str:
    said = [
        f'<li><b class="{kind.replace(" ", "-")}">{escape(kind)}</b> {escape(text)}</li>'
        for kind, text in doubts(defences)
    ]
    if not said:
        return ""
    return f'<h3>Can the numbers be trusted?</h3><ul class="doubts">{"".join(said)}</ul>'


def _section(section: Section) -> str:
    drawn = "".join(
        f"<h3>{escape(chart.setting)}</h3>"
        '<div class="scroll" role="region" tabindex="0" aria-label="chart">'
        f"{curves.svg(chart, f'{section.name}-{i}')}</div>"
        f"{tables.curve(chart, f'{section.name}-{i}')}"
        for i, chart in enumerate(section.charts)
    )
    head = f'<h2>{escape(section.title)}</h2>\n<p class="note">{escape(section.note)}</p>'
    return f'<section id="{section.name}-part">{head}\n{drawn}\n</section>\n'


def _rows(defences: Sequence[Defence]) -> str:
    views = {row.view.partition("(")[0] for defence in defences for _, row in defence.cells}
    known = {words.view(name): text for name, text in words.VIEWS.items() if name in views}
    legend = f"<h3>Views</h3>{_list(known)}<h3>Columns</h3>{_list(words.COLUMNS)}"
    return "".join(tables.rows(d, i) for i, d in enumerate(defences)) + legend


def _provenance(runs: Sequence[Run], defences: Sequence[Defence]) -> str:
    folded = "".join(
        f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
        for title, text in details(runs, defences).items()
    )
    return tables.origins(origins(runs)) + folded


def _list(terms: Mapping[str, str]) -> str:
    items = "".join(f"<dt>{escape(t)}</dt><dd>{escape(text)}</dd>" for t, text in terms.items())
    return f"<dl>{items}</dl>"
