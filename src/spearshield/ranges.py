"""Range checks of hyper-parameters and other numbers, with the same wording in every message."""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

from spearshield.spelling import got

SEEDS = 2**63
"""Seeds are whole numbers from 0 to below this one."""


def require(
    value: object,
    *names: str,
    at_least: int | float | None = None,
    above: int | float | None = None,
    at_most: int | float | None = None,
    below: int | float | None = None,
    one_of: Collection[str] | None = None,
) -> None:
    """Raise if a field of ``value`` is out of range, NaN or infinite.

    A field that is ``None`` passes if its annotation allows ``None``. A field that is annotated as
    ``int`` must be a whole number.

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
        annotation = _annotation(value, name)
        if field is None and "None" in str(annotation):
            continue
        if one_of is not None:
            if not isinstance(field, str) or field not in one_of:
                raise ValueError(f"{name} must be one of {', '.join(one_of)}, got {got(field)}")
            continue
        whole = annotation in ("int", "int | None", int)
        check(name, field, at_least, above, at_most, below, whole=whole)


def check(
    name: str,
    number: Any,
    at_least: int | float | None = None,
    above: int | float | None = None,
    at_most: int | float | None = None,
    below: int | float | None = None,
    *,
    whole: bool = False,
) -> None:
    """Raise if a number is out of range, or is NaN or infinite.

    Raises:
        ValueError: Names the number, the bound and the value.
    """
    kinds: Any = Integral if whole else Real
    if isinstance(number, bool) or not isinstance(number, kinds):
        kind = "whole number" if whole else "number"
        raise ValueError(f"{name} must be a {kind}, got {got(number)}")
    bounds = (
        (at_least, "at least", at_least is None or number >= at_least),
        (above, "above", above is None or number > above),
        (at_most, "at most", at_most is None or number <= at_most),
        (below, "below", below is None or number < below),
    )
    for bound, words, holds in bounds:
        if not holds:
            raise ValueError(f"{name} must be {words} {bound:g}, got {number}")
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")


def whole_number(name: str, number: Any, at_least: int | None = 0, below: int | None = None) -> int:
    """``number`` as an ``int``; see :func:`check`."""
    check(name, number, at_least, below=below, whole=True)
    return int(number)


def optional_whole(name: str, number: Any) -> int | None:
    """``number`` as an ``int`` of at least 0; ``None`` for ``None``. See :func:`check`."""
    return None if number is None else whole_number(name, number)


def checked_seed(seed: Any) -> int:
    """``seed`` as an ``int``.

    Raises:
        ValueError: It is not a whole number from 0 to 2^63 - 1.
    """
    return whole_number("seed", seed, below=SEEDS)


def _annotation(value: object, name: str) -> Any:
    """The annotation of a field of a dataclass, as it is written in the source."""
    fields = getattr(value, "__dataclass_fields__", {})
    return fields[name].type if name in fields else None
