"""Arguments of public functions that are neither images nor models, checked and converted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from spearshield.spelling import got

LONGEST_NAME = 255
"""Largest length of the name of a file or folder, in bytes, on common file systems."""


def check_instance(value: object, kinds: type | tuple[type, ...], wanted: str) -> None:
    """Raise unless a value is an instance of one of ``kinds``.

    Args:
        wanted: An example of such a value, as the second half of "give ...".

    Raises:
        ValueError: "give ``wanted``, got ..."; the value may be a class in place of an instance.
    """
    if not isinstance(value, kinds):
        raise ValueError(f"give {wanted}, got {got(value)}")


def several(given: Any, alone: type | tuple[type, ...]) -> list[Any]:
    """A list of the given values: none for ``None``, and one for a value that is given alone.

    Args:
        alone: The types of one value, which may be iterable itself.
    """
    if given is None:
        return []
    try:
        return [given] if isinstance(given, alone) else [*given]
    except TypeError:  # not iterable, or an array of no dimensions
        return [given]


def switch(name: str, value: Any) -> bool:
    """``value`` as a ``bool``.

    Raises:
        ValueError: It is neither ``True`` nor ``False``.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, got {got(value)}")
    return bool(value)


def path(name: str, value: Any) -> Path:
    """``value`` as a path.

    Raises:
        ValueError: It is no path: of another type, empty, with control characters such as a line
            break, or with a name of more than :data:`LONGEST_NAME` bytes.
    """
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text or any(letter < " " for letter in text):
        raise ValueError(f"{name} must be a path, as {name}='results', got {got(value)}")
    for part in Path(text).parts:
        if (size := len(os.fsencode(part))) > LONGEST_NAME:
            raise ValueError(
                f"{name} must be a path, and {got(part)} has {size} bytes; names of files have at "
                f"most {LONGEST_NAME}"
            )
    return Path(text)


def optional_path(name: str, value: Any) -> Path | None:
    """``value`` as a path; ``None`` for ``None``. See :func:`path`."""
    return None if value is None else path(name, value)
