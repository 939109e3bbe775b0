"""Tables of measured shares in Markdown, for the scripts that write the tables of docs/results."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean


def spread(shares: Sequence[float | None]) -> str:
    """Mean, lowest and highest in percent; ``n/a`` if no share is known, "" without shares."""
    known = [100 * share for share in shares if share is not None]
    return number(known) if known or not shares else "n/a"


def number(values: Sequence[float]) -> str:
    """Mean, lowest and highest; "" without values."""
    if not values:
        return ""
    ends = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
    return f"{fmean(values):.1f}{ends}"


def table(lines: list[list[str]]) -> list[str]:
    """The lines of a table; the first line is its head."""
    first, *rest = lines
    rule = ["---", *["---:"] * (len(first) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (first, rule, *rest)]
