"""What a folder holds and needs, for the command `show`. Imports no torch and builds nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spearshield.storage.reading import read_object, shortened

CARD, RECIPE, WEIGHTS = "card.json", "recipe.json", "weights.safetensors"


def holds_something(folder: Path) -> bool:
    """True for a folder with a card or a recipe."""
    return any((folder / name).is_file() for name in (CARD, RECIPE))


def description(folder: Path) -> Iterator[str]:
    """The lines that describe a saved shield or attack, or a run.

    Raises:
        ValueError: The card or recipe is not a JSON object; names the file.
    """
    name = next(name for name in (CARD, RECIPE) if (folder / name).is_file())
    saved = read_object(folder / name)
    yield f"{folder} holds {'a saved ' + _text(saved, 'kind') if name == CARD else 'a run'}"
    fields = {
        "name": _text(saved, "name"),
        "method": _text(saved, "training", "method", "type").partition(":")[2],
        "threat model": f"{_type(saved, 'threat')} {_text(saved, 'threat', 'eps')}".strip(),
        "images": _text(saved, "shape") or _text(saved, "images", "shape"),
        "classes": ", ".join(map(shortened, _list(saved, "names"))),
        "classifier": _classifier(saved) if name == CARD else _type(saved, "recipe", "classifier"),
        "verdict": _text(saved, "measured", "verdict"),
        "trainings": ", ".join(sorted(path.parent.name for path in folder.glob(f"*/{WEIGHTS}"))),
    }
    for field, text in fields.items():
        if text:
            yield f"  {field:<13} {shortened(text, 200)}"
    if name == CARD and not (folder / WEIGHTS).is_file():
        yield f"  {WEIGHTS} is missing; copy the folder again"


def _classifier(saved: dict[str, Any]) -> str:
    """The classifier of a card, and whether the user must pass it."""
    named = _text(saved, "classifier", "name")
    if _type(saved, "classifier", "architecture") in ("", "User"):
        return f"{named}; pass it with --classifier, except to purify"
    return f"{named}, which this package builds"


def _type(saved: Any, *path: str) -> str:
    return _text(saved, *path, "type").partition(":")[2]


def _list(saved: Any, *path: str) -> list[Any]:
    value = _at(saved, *path)
    return value[:20] if isinstance(value, list) else []


def _text(saved: Any, *path: str) -> str:
    value = _at(saved, *path)
    return "" if value is None or isinstance(value, dict) else shortened(value, 200)


def _at(saved: Any, *path: str) -> Any:
    for part in path:
        saved = saved.get(part) if isinstance(saved, dict) else None
    return saved
