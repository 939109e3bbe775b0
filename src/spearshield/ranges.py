"""Range checks of hyper-parameters, with the same wording in every message."""

from __future__ import annotations

from collections.abc import Collection


def require(
    value: object,
    *names: str,
    at_least: int | float | None = None,
    above: int | float | None = None,
    at_most: int | float | None = None,
    below: int | float | None = None,
    one_of: Collection[str] | None = None,
) -> None:
    """Raise if a field of ``value`` is out of range, or is NaN. Fields that are ``None`` pass.

    Args:
        names: The fields to check, all against the same bounds.
        at_least, above: Lower bound, inclusive or exclusive.
        at_most, below: Upper bound, inclusive or exclusive.
        one_of: The allowed values of a field that is a string.

    Raises:
        ValueError: Names the field, the bound and the value, as in "width must be at least 1,
            got 0" or "loss must be one of dlr, margin, got 'hinge'".
    """
    for name in names:
        field = getattr(value, name)
        if field is None:
            continue
        if one_of is not None and field not in one_of:
            raise ValueError(f"{name} must be one of {', '.join(one_of)}, got {field!r}")
        bounds = (
            (at_least, "at least", at_least is None or field >= at_least),
            (above, "above", above is None or field > above),
            (at_most, "at most", at_most is None or field <= at_most),
            (below, "below", below is None or field < below),
        )
        for bound, words, holds in bounds:
            if not holds:
                raise ValueError(f"{name} must be {words} {bound:g}, got {field}")
