"""Titles of attacks, and the settings that distinguish entries of the same name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spearshield.judging.results import Row
from spearshield.report import words


def attack_titles(rows: Sequence[Row]) -> list[str]:
    """The title of the attack of each row, with settings that distinguish equal titles."""
    kinds: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(_title(row), {})[_key(row)] = words.hyper(row)
    apart = {
        (title, key): difference
        for title, same in kinds.items()
        for key, difference in zip(same, differences(list(same.values())), strict=True)
    }
    return [words.apart(_title(row)[0], apart[_title(row), _key(row)]) for row in rows]


def _title(row: Row) -> tuple[str, ...]:
    return words.attack(row.attack, words.hyper(row)), row.threat, str(row.eps)


def _key(row: Row) -> str:
    return json.dumps(words.hyper(row), sort_keys=True)


def differences(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each of several settings, the values that are not the same in all, as ``width=32``.

    A nested name is shortened as long as it stays unique.
    """
    flat = [dict(_flat(setting, ())) for setting in settings]
    paths = dict.fromkeys(path for setting in flat for path in setting)
    missing = object()
    free = [p for p in paths if any(s.get(p, missing) != flat[0].get(p, missing) for s in flat)]
    named = {path: _shortest(path, free) for path in free}
    return [", ".join(f"{named[p]}={_plain(s[p])}" for p in free if p in s) for s in flat]


def settings(setting: Mapping[str, Any]) -> str:
    """All values of a setting with their full names, as ``steps=40, restarts=5``."""
    flat = _flat(setting, ())
    return ", ".join(f"{'.'.join(path)}={_plain(value)}" for path, value in flat)


def _flat(
    value: Mapping[str, Any], above: tuple[str, ...]
) -> Iterable[tuple[tuple[str, ...], Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, (*above, key))
        else:
            yield (*above, key), inner


def _shortest(path: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> str:
    for length in range(1, len(path)):
        if sum(other[-length:] == path[-length:] for other in others) == 1:
            return ".".join(path[-length:])
    return ".".join(path)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
