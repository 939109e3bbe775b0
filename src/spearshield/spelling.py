"""Names and numbers as a user writes them; imports no torch."""

from __future__ import annotations

import difflib
import math
import reprlib
import unicodedata
from collections.abc import Iterable
from numbers import Real
from typing import TypeVar

Name = TypeVar("Name", bound=str)

SHOWN = 12
"""The most names in a message; of more than that, the closest ones are shown."""


def known(name: object, names: Iterable[Name], kind: str) -> Name:
    """The one of ``names`` that ``name`` means, in another case or with ``-`` for ``_``.

    Args:
        kind: What has these names, in the singular, for the message.

    Raises:
        ValueError: It is no text, or none of them; lists the closest names first.
    """
    exact = [*dict.fromkeys(names)]
    if not isinstance(name, str):
        raise ValueError(f"name the {kind}, got {got(name)}; {closest('', exact)}")
    if name in exact:
        return name
    same = [one for one in exact if plain(one) == plain(name)]
    if plain(name) and len(same) == 1:
        return same[0]
    raise ValueError(f"no {kind} {name!r}; {closest(name, exact)}")


def closest(name: str, names: Iterable[str]) -> str:
    """The names, the closest to ``name`` first, as the second half of a sentence."""

    def likeness(one: str) -> float:
        return difflib.SequenceMatcher(None, plain(name[:100]), plain(one)).ratio()

    ordered = sorted(dict.fromkeys(names), key=likeness, reverse=True)
    if not ordered:
        return "there are none"
    if len(ordered) <= SHOWN:
        return f"there are {', '.join(ordered)}"
    return f"the closest of {len(ordered):,} are {', '.join(ordered[:SHOWN])}"


def got(value: object) -> str:
    """A value of any type in a message, at the end of "got ..."."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    simple = value is None or isinstance(value, (str, bytes, Real, list, tuple, dict))
    shown = reprlib.repr(value) if simple else ""
    return type(value).__name__ if not shown or " at 0x" in shown else shown


def plain(name: str) -> str:
    """The letters and digits of a name in lower case: ``linf`` of ``L-inf`` and of ``l∞``."""
    text = unicodedata.normalize("NFKC", name).casefold().replace("∞", "inf")
    return "".join(filter(str.isalnum, text))


def number(text: str) -> float:
    """The number in ``text``, which may be a fraction such as 8/255.

    Raises:
        ValueError: It is neither, or not finite.
    """
    try:
        top, _, bottom = text.partition("/")
        value = float(top) / float(bottom) if bottom else float(text)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a number; write 0.03 or 8/255")
    return value


def whole(text: str) -> int:
    """The whole number in ``text``.

    Raises:
        ValueError: It is not a whole number.
    """
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def budget(eps: float) -> str:
    """A budget; one that is whole steps of 8-bit pixels is written as 8/255."""
    levels = eps * 255
    whole = eps < 1000 and abs(levels - round(levels)) < 1e-6 and len(f"{eps:g}") > 5
    return f"{round(levels)}/255" if whole else f"{eps:g}"
