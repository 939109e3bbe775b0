"""The page of a transfer matrix: heat maps of attack success rates. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spearshield import spelling
from spearshield.report import render, words
from spearshield.storage.atomic import write_atomically
from spearshield.storage.reading import read_json

TRANSFER = "transfer.json"
SHADES = 10
"""Number of shades of a heat map."""


@dataclass(frozen=True)
class Cell:
    """A share in percent, and its shade from 0 to ``SHADES``; "" and 0 if it is not a number."""

    text: str
    shade: int


@dataclass(frozen=True)
class HeatMap:
    """Shares by source and target.

    Args:
        title: Attack and quantity.
        names: The classifiers.
        cells: One row for each source.
    """

    title: str
    names: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class TransferPage:
    """The content of the page.

    Args:
        subject: Data and number of images.
        statements: Sentences on the classifiers.
        clean: Name and clean accuracy of every classifier.
        maps: Two for each attack: attack success rate and accuracy.
        provenance: Names and values.
    """

    subject: str
    statements: tuple[str, ...]
    clean: tuple[tuple[str, str], ...]
    maps: tuple[HeatMap, ...]
    provenance: tuple[tuple[str, str], ...]


def write_transfer(source: Path, folder: Path) -> Path:
    """Write ``transfer.html`` and ``transfer.md`` for a ``transfer.json``; returns the page.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a transfer matrix.
    """
    value = read_json(source)
    try:
        page = _page(value)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{source} is not a transfer matrix ({error})") from error
    pages = {
        "transfer.md": render.page("transfer.md.j2", page, escaped=False),
        "transfer.html": render.page("transfer.html.j2", page, escaped=True),
    }
    for name, text in pages.items():
        write_atomically(folder / name, text.encode(errors="backslashreplace"))
    return folder / "transfer.html"


def _page(value: dict[str, Any]) -> TransferPage:
    names = tuple(map(str, value["classifiers"]))
    origin = value["provenance"]
    versions = ", ".join(f"{name} {version}" for name, version in origin["versions"].items())
    told = {
        "command": origin["command"] or "a call from Python",
        "commit": origin["commit"] or "installed package",
        "device": origin["device"],
        "versions": versions,
        "seed": value["seed"],
        "measured": origin["created"],
        "data digest": origin["data_digest"],
    }
    return TransferPage(
        subject=f"{words.counted(int(value['images']), 'image')} of {value['data']}, "
        f"{len(names)} classifiers",
        statements=tuple(map(str, value["statements"])),
        clean=tuple(
            (name, words.percent(share))
            for name, share in zip(names, value["clean_accuracy"], strict=True)
        ),
        maps=tuple(_maps(value, names)),
        provenance=tuple((name, str(text)) for name, text in told.items()),
    )


def _maps(value: dict[str, Any], names: tuple[str, ...]) -> Iterator[HeatMap]:
    for i, attack in enumerate(value["attack_settings"]):
        title = f"{attack['name']}, {attack['threat']} {spelling.budget(attack['eps'])}"
        for quantity, key in (("attack success rate", "asr"), ("accuracy", "accuracy")):
            cells = tuple(tuple(map(_cell, row)) for row in value[key][i])
            if len(cells) != len(names) or any(len(row) != len(names) for row in cells):
                raise ValueError(f"{key} of {attack['name']} has another shape")
            yield HeatMap(f"{title}: {quantity}, in percent", names, cells)


def _cell(share: Any) -> Cell:
    if share is None or math.isnan(share):
        return Cell("", 0)
    return Cell(words.percent(float(share)), round(SHADES * min(max(float(share), 0.0), 1.0)))
