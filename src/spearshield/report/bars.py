"""Shares as drawings: inline SVG, coloured by the page's style sheet."""

from __future__ import annotations

WIDTH, LEFT, RIGHT, MIDDLE = 200, 7, 193, 11


def interval_bar(robust: float, interval: tuple[float, float], clean: float) -> str:
    """A robust accuracy as a bar with its interval, and a thin mark at the clean accuracy.

    It is 100 wide and stretches to the width of its column.
    """
    low, high = (100 * bound for bound in interval)
    return (
        '<svg class="bar" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="trough" width="100" y="2" height="8"/>'
        f'<rect class="band" width="{100 * robust:.2f}" y="2" height="8"/>'
        f'<path class="clean" d="M{100 * clean:.2f} 0v12"/>'
        f'<path class="whisker" d="M{low:.2f} 6H{high:.2f}M{low:.2f} 3v6M{high:.2f} 3v6"/></svg>'
    )


def headline_bar(
    clean: float, worst: float | None, interval: tuple[float, float], oblivious: float | None
) -> str:
    """Worst case, ignorant attacker and clean accuracy on one line; ``None``: not measured."""
    quarters = "".join(f"M{_x(share / 4)} {MIDDLE - 3}v6" for share in range(5))
    marks = [f'<path class="track" d="M{LEFT} {MIDDLE}H{RIGHT}{quarters}"/>']
    if worst is not None and oblivious is not None:
        marks.append(f'<path class="gap" d="M{_x(worst)} {MIDDLE}H{_x(oblivious)}"/>')
    marks.append(f'<circle class="clean" cx="{_x(clean)}" cy="{MIDDLE}" r="4.5"/>')
    if oblivious is not None:
        marks.append(
            f'<path class="paper" d="M{_x(oblivious)} {MIDDLE - 5.5}l5.5 5.5l-5.5 5.5l-5.5-5.5z"/>'
        )
    if worst is not None:
        low, high = (float(_x(bound)) for bound in interval)
        box = f'x="{low:.1f}" width="{max(high - low, 1):.1f}" y="{MIDDLE - 4}" height="8" rx="2"'
        marks.append(f'<rect class="band" {box}/>')
        marks.append(f'<circle class="worst" cx="{_x(worst)}" cy="{MIDDLE}" r="4"/>')
    size = f'viewBox="0 0 {WIDTH} {2 * MIDDLE}" width="{WIDTH}" height="{2 * MIDDLE}"'
    return f'<svg {size} aria-hidden="true">{"".join(marks)}</svg>'


LEGEND = (
    '<svg class="key" viewBox="0 0 12 12" aria-hidden="true">'
    '<rect class="band" x="0" y="2.5" width="12" height="7" rx="2"/>'
    '<circle class="worst" cx="6" cy="6" r="3.5"/></svg> worst case and its interval',
    '<svg class="key" viewBox="0 0 12 12" aria-hidden="true">'
    '<path class="paper" d="M6 1l5 5l-5 5l-5-5z"/></svg> ignorant attacker',
    '<svg class="key" viewBox="0 0 12 12" aria-hidden="true">'
    '<circle class="clean" cx="6" cy="6" r="4"/></svg> clean',
)


def _x(share: float) -> str:
    return f"{LEFT + (RIGHT - LEFT) * share:.1f}"
