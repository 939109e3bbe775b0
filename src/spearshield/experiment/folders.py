"""Folders and what they hold, so that nothing is written over or beside another result."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spearshield.report.transfer import TRANSFER
from spearshield.storage.atomic import write_json
from spearshield.storage.reading import read_json
from spearshield.storage.serialization import dump, load
from spearshield.training.loop import CHECKPOINT

RECIPE, TRAINING, CARD = "recipe.json", "training.json", "card.json"
AUDIT, RESULTS = "audit.json", "results.json"

CONTENT = {
    RECIPE: "a run",
    CHECKPOINT: "a training",
    TRAINING: "a training",
    CARD: "a saved shield or attack",
    AUDIT: "an audit",
    RESULTS: "results",
    TRANSFER: "a transfer matrix",
}
"""The files that show what a folder holds."""

PRODUCTS = {RECIPE: RESULTS, AUDIT: RESULTS, TRAINING: CHECKPOINT}
"""The file that is written after another one, and belongs to it."""

REMEDY = "choose another folder (--out)"


def check_writable(folder: Path) -> None:
    """Raise if a folder can be neither written nor created.

    Raises:
        ValueError: Names the file that is in the way, or the folder that is closed.
    """
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path())
    if not there.is_dir():
        raise ValueError(f"{there} is a file, not a folder; {REMEDY}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"{there} cannot be written; {REMEDY}")


def refuse_inside(folder: Path, data: Path) -> None:
    """Raise if results would be written among the files of the data.

    Raises:
        ValueError: ``folder`` is the folder of the data, or inside it.
    """
    if data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
        raise ValueError(f"{folder} is inside the data in {data}; {REMEDY}")


def refuse_others(folder: Path, *own: str) -> None:
    """Raise if a folder cannot be written, or holds anything else than ``own``.

    Args:
        own: Files of :data:`CONTENT`.

    Raises:
        ValueError: Names what the folder holds; or see :func:`check_writable`.
    """
    check_writable(folder)
    products = [PRODUCTS[name] for name in own if name in PRODUCTS and (folder / name).exists()]
    for name, content in CONTENT.items():
        if name not in (*own, *products) and (folder / name).exists():
            raise ValueError(f"{folder} holds {content}; {REMEDY}")


def refuse_training_of_run(folder: Path) -> None:
    """Raise if a folder is one training of a run, whose files only the run writes.

    Raises:
        ValueError: Names the folder.
    """
    if (folder.parent / RECIPE).exists() and (folder / CHECKPOINT).exists():
        raise ValueError(f"{folder} holds a training of a run; {REMEDY}")


def claim(path: Path, own: Mapping[str, Any], content: str) -> None:
    """Write a record of what a folder holds, or verify that it is the record in the folder.

    Args:
        path: The file of the record.
        own: The record, as JSON values.
        content: What the folder holds, for messages.

    Raises:
        ValueError: The folder has another record, or one that cannot be read; names the fields that
            differ.
    """
    if not path.exists():
        write_json(path, own)
        return
    try:
        saved = _with_new_fields(read_json(path))
    except ValueError as error:
        raise ValueError(f"{error}; {REMEDY}, or delete that one") from error
    if saved != own:
        raise ValueError(
            f"{path.parent} holds {content} (other {differences(saved, own)}); {REMEDY}, or "
            "delete that one"
        )


def _with_new_fields(record: Any) -> Any:
    """A record with default values for the fields that its training has by now."""
    try:
        return {**record, "training": dump(load(record["training"]))}
    except (KeyError, TypeError, ValueError, RecursionError):
        return record


def differences(saved: Any, own: Any, path: str = "") -> str:
    """The dotted names of the fields in which two JSON values differ."""
    if isinstance(saved, dict) and isinstance(own, dict) and saved.keys() == own.keys():
        names = [name for name in own if saved[name] != own[name]]
        return ", ".join(differences(saved[n], own[n], f"{path}.{n}") for n in names)
    if isinstance(saved, list) and isinstance(own, list) and len(saved) == len(own):
        pairs = [(i, a, b) for i, (a, b) in enumerate(zip(saved, own, strict=True)) if a != b]
        return ", ".join(differences(a, b, f"{path}.{i}") for i, a, b in pairs)
    return path.removeprefix(".recipe").removeprefix(".") or "recipe"
