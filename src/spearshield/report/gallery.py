"""The pictures of the HTML page, inside it as data."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from spearshield.report import words
from spearshield.report.pictures import Picture, Strip, pngs
from spearshield.report.runs import Run
from spearshield.report.tables import breakable

OPEN = 4
"""Up to so many pictures are all shown at once; of more, the first of every defence."""

LEGEND = (
    "Bare is the classifier without its purifier, defended the classifier with it. "
    '<span class="right"><span aria-hidden="true">\u2713</span> right</span> and '
    '<span class="wrong"><span aria-hidden="true">\u2717</span> wrong</span> mark what was '
    "predicted."
)


def gallery(runs: Sequence[Run]) -> str:
    """All pictures, by defence."""
    total = sum(len(run.pictures) for run in runs)
    if not total:
        return "<p>These runs have no pictures.</p>"
    parts = [f"<p>{LEGEND}</p>"]
    for method in dict.fromkeys(picture.method for run in runs for picture in run.pictures):
        parts.append(f"<h3>{escape(method)}</h3>")
        shown = total <= OPEN
        first = True
        for run in runs:
            for picture in run.pictures:
                if picture.method == method:
                    where = run.name if len(runs) > 1 else ""
                    parts.append(_figure(picture, where, shown or first))
                    first = False
    return "".join(parts)


def title(picture: Picture, run: str) -> str:
    """What is seen: attack, view, threat model, and the run where there are several."""
    against = words.threat(picture.threat, picture.eps)
    what = (
        f"{words.attack(picture.attack, picture.parameters)}, {words.view(picture.view)}, {against}"
    )
    return f"{what}, run {run}" if run else what


def _figure(picture: Picture, run: str, shown: bool) -> str:
    heads = "".join(f'<th scope="col">{breakable(name)}</th>' for name in picture.truth)
    lines = "".join(_strip(strip, picture.truth) for strip in picture.strips)
    name = escape(title(picture, run))
    return (
        f"<details{' open' if shown else ''}><summary>{name}</summary>"
        '<div class="scroll" role="region" tabindex="0" aria-label="pictures">'
        f'<table class="pictures"><caption>{escape(picture.method)} under {name}</caption>'
        f'<thead><tr><th scope="row">truth</th>{heads}</tr></thead><tbody>{lines}</tbody></table>'
        "</div></details>"
    )


def _strip(strip: Strip, truth: Sequence[str]) -> str:
    cells = []
    for i, png in enumerate(pngs(strip)):
        data = base64.b64encode(png).decode()
        alt = escape(f"{strip.name}, truth {truth[i]}")
        said = "".join(_verdict(who, names[i], truth[i]) for who, names in strip.verdicts)
        cells.append(f'<td><img alt="{alt}" src="data:image/png;base64,{data}">{said}</td>')
    return f'<tr><th scope="row">{escape(strip.name)}</th>{"".join(cells)}</tr>'


def _verdict(who: str, said: str, truth: str) -> str:
    kind, sign = ("right", "\u2713") if said == truth else ("wrong", "\u2717")
    return (
        f'<span class="verdict"><span class="who">{who}</span> <span class="{kind}">'
        f'<span aria-hidden="true">{sign}</span><span class="unseen">{kind}:</span> '
        f"{breakable(said)}</span></span>"
    )
