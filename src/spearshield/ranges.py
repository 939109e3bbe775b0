"""Range checks of hyper-parameters: one call for each range, one wording for every message."""

from __future__ import annotations


def require(
    value: object,
    *names: str,
    at_least: int | float | None = None,
    above: int | float | None = None,
    at_most: int | float | None = None,
    below: int | float | None = None,
) -> None:
    """Raise if a numeric field of ``value`` is out of range, or is NaN. Fields of ``None`` pass.

    Args:
        names: The fields to check, all against the same bounds.
        at_least, above: Lower bound, inclusive or exclusive.
        at_most, below: Upper bound, inclusive or exclusive.

    Raises:
        ValueError: Names the field, the bound and the value, as in "width must be at least 1,
            got 0".
    """
    for name in names:
        number = getattr(value, name)
        if number is None:
            continue
        bounds = (
            (at_least, "at least", at_least is None or number >= at_least),
            (above, "above", above is None or number > above),
            (at_most, "at most", at_most is None or number <= at_most),
            (below, "below", below is None or number < below),
        )
        for bound, words, holds in bounds:
            if not holds:
                raise ValueError(f"{name} must be {words} {bound:g}, got {number}")
