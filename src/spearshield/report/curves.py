"""Shares over distance or over rounds: which rows make one picture, and it as inline SVG.

A mark stands for a defence, dashes for an attack and view. Colours go with the marks and say no
more than those; the page's style sheet gives them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from spearshield.report import words
from spearshield.report.layout import Defence, Picked

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 52, 628, 12, 292
MARKS = (
    "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "m-3.6-3.6h7.2v7.2h-7.2z",
    "m0-5l4.8 8.4h-9.6z",
    "m0-5.2l5.2 5.2l-5.2 5.2l-5.2-5.2z",
    "m0 5l-4.8-8.4h9.6z",
    "m-1.5-4.8h3v3.3h3.3v3h-3.3v3.3h-3v-3.3h-3.3v-3h3.3z",
)
DASHES = ("none", "8 3", "3 3", "9 3 2 3")
EVERY = 4
"""Points from one mark to the next; lines that coincide have theirs at different places."""


@dataclass(frozen=True)
class Line:
    """One defence under one attack through one view; a mean over seeds.

    Args:
        trial: Attack and view.
        note: What else a reader must know.
        points: Distances, each with the robust accuracy at it.
    """

    defence: str
    trial: str
    note: str
    points: tuple[tuple[float, float], ...]

    @property
    def label(self) -> str:
        return ", ".join(part for part in (self.defence, self.trial, self.note) if part)


@dataclass(frozen=True)
class Axes:
    """What a chart shows over what.

    Args:
        shown: The vertical axis, shares.
        over: The horizontal one.
        point: What stands before the number of a place on it.
        table: What a table of the same shares is headed.
    """

    shown: str
    over: str
    point: str
    table: str


@dataclass(frozen=True)
class Chart:
    """Lines that can be compared, no more than there are marks and dashes for."""

    setting: str
    axes: Axes
    lines: tuple[Line, ...]

    @property
    def distances(self) -> list[float]:
        """Of all points, the same on every line."""
        return [distance for distance, _ in self.lines[0].points]

    def style(self, line: Line) -> tuple[int, int]:
        """The numbers of its mark and of its dashes."""
        defences, trials = _numbers(self.lines)
        return defences[line.defence], trials[line.trial]

    @property
    def shown(self) -> list[int]:
        """The points that a table shows: five, as evenly as there are enough."""
        last = len(self.distances) - 1
        return sorted({round(quarter * last / 4) for quarter in range(5)})


def charts(defences: Iterable[Defence]) -> list[Chart]:
    """A chart for each setting in which some attack looked for the smallest perturbations."""
    together: dict[tuple[str, Axes, tuple[float, ...]], list[Line]] = {}
    for defence in defences:
        for picked in defence.curved:
            line = _line(defence, picked)
            distances = tuple(distance for distance, _ in line.points)
            norm = words.norm(defence.first.threat)
            axes = Axes(
                "robust accuracy",
                f"distance in {norm}, pixels in [0, 1]",
                "at",
                f"robust accuracy within a distance in {norm}",
            )
            key = defence.setting, axes, distances
            together.setdefault(key, []).append(line)
    return [
        Chart(setting if len(parts) == 1 else f"{setting}, part {i} of {len(parts)}", axes, part)
        for (setting, axes, _), lines in together.items()
        for parts in [_parts(lines)]
        for i, part in enumerate(parts, 1)
    ]


def _line(defence: Defence, picked: Picked) -> Line:
    title, row = picked.cells[0]
    notes = []
    if words.images(row) != words.images(defence.shown.cells[0].row):
        notes.append(words.images(row))
    if len(picked.seeds) > 1:
        notes.append(f"mean of {len(picked.seeds)} seeds")
    trial = f"{title}, {words.view(row.view)}"
    return Line(defence.label, trial, ", ".join(notes), picked.curve)


def _parts(lines: Sequence[Line]) -> list[tuple[Line, ...]]:
    """The lines of each picture."""
    defences, trials = _numbers(lines)
    parts: dict[tuple[int, int], list[Line]] = {}
    for line in lines:
        part = defences[line.defence] // len(MARKS), trials[line.trial] // len(DASHES)
        parts.setdefault(part, []).append(line)
    return [tuple(part) for part in parts.values()]


def _numbers(lines: Iterable[Line]) -> tuple[dict[str, int], dict[str, int]]:
    """Defences and trials, each numbered as they first appear."""
    pairs = [(line.defence, line.trial) for line in lines]
    defences, trials = (dict.fromkeys(names) for names in zip(*pairs, strict=True))
    return {name: i for i, name in enumerate(defences)}, {name: i for i, name in enumerate(trials)}


def svg(chart: Chart, number: str) -> str:
    """The picture. Its description says in words what the table beside it holds."""
    far = chart.distances[-1]
    lines = "".join(_drawn(chart, line, i, far) for i, line in enumerate(chart.lines))
    name = f"{chart.axes.shown} over {chart.axes.over}: {chart.setting}"
    said = " ".join(f"{line.label}: {_said(chart, line)}." for line in chart.lines)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-labelledby="chart-{number}-name" aria-describedby="chart-{number}-text">'
        f'<title id="chart-{number}-name">{escape(name)}</title>'
        f'<desc id="chart-{number}-text">{escape(said)}</desc>{_axes(chart, far)}{lines}</svg>'
    )


def key(chart: Chart, line: Line) -> str:
    """Its dashes and mark, for the legend."""
    mark, _ = chart.style(line)
    strokes = _strokes(*chart.style(line), "M1 6H41", f"M21 6{MARKS[mark]}")
    return f'<svg class="line-key" viewBox="0 0 42 12" aria-hidden="true">{strokes}</svg>'


def _axes(chart: Chart, far: float) -> str:
    quarters = [k / 4 for k in range(5)]
    grid = "".join(f"M{LEFT} {_y(share)}H{RIGHT}" for share in quarters)
    ticks = "".join(f"M{_x(chart.distances[k], far)} {BOTTOM}v5" for k in chart.shown)
    texts = [_text(LEFT - 8, _y(share), f"{100 * share:.0f}", "up") for share in quarters]
    texts += [
        _text(_x(chart.distances[k], far), BOTTOM + 20, words.size(chart.distances[k]), "along")
        for k in chart.shown
    ]
    middle = (LEFT + RIGHT) / 2
    texts.append(_text(middle, HEIGHT - 8, chart.axes.over, "along"))
    turned = f'transform="translate(13 {(TOP + BOTTOM) / 2}) rotate(-90)"'
    texts.append(f'<text class="along" {turned}>{escape(chart.axes.shown)} in percent</text>')
    return f'<path class="grid" d="{grid}"/><path class="ticks" d="{ticks}"/>{"".join(texts)}'


def _drawn(chart: Chart, line: Line, index: int, far: float) -> str:
    places = [(_x(distance, far), _y(share)) for distance, share in line.points]
    mark, dashes = chart.style(line)
    marked = places[index % min(EVERY, len(places)) :: EVERY]
    marks = "".join(f"M{x} {y}{MARKS[mark]}" for x, y in marked)
    return _strokes(mark, dashes, "M" + "L".join(f"{x} {y}" for x, y in places), marks)


def _strokes(mark: int, dashes: int, path: str, marks: str) -> str:
    return (
        f'<g class="line-{mark}"><path class="curve" stroke-dasharray="{DASHES[dashes]}" '
        f'd="{path}"/><path class="marks" d="{marks}"/></g>'
    )


def _said(chart: Chart, line: Line) -> str:
    points = (line.points[k] for k in chart.shown)
    at = chart.axes.point
    return ", ".join(f"{words.percent(share)} % {at} {words.size(d)}" for d, share in points)


def _text(x: object, y: object, said: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(said)}</text>'


def _x(distance: float, far: float) -> str:
    return f"{LEFT + (RIGHT - LEFT) * distance / far:.1f}"


def _y(share: float) -> str:
    return f"{BOTTOM - (BOTTOM - TOP) * share:.1f}"
